// Package stopsignal lets a program stop in order when it gets a signal, because it would lose something if it were
// killed.
package stopsignal

import (
	"os"
	"os/signal"
	"syscall"
)

// Notify calls stop at the first SIGINT, SIGTERM or SIGHUP. The second SIGINT or SIGTERM ends the process at once,
// with status 128 plus the signal's number. A program may call Notify once.
//
// SIGHUP does not count, because nobody sends it to end a stop that takes long. A terminal that closes sends it
// from the system and from the shell, and a session may send SIGTERM as well. SIGHUP stays ignored if it is
// ignored at the start, which is what nohup does. SIGINT does not, because shells ignore it for all commands in
// the background of a script.
func Notify(stop func()) {
	hangups := make(chan os.Signal, 1)
	if !signal.Ignored(syscall.SIGHUP) {
		signal.Notify(hangups, syscall.SIGHUP)
	}
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go func() {
		select {
		case <-hangups:
			stop()
			<-signals
		case <-signals:
			stop()
		}
		second := <-signals
		os.Exit(128 + int(second.(syscall.Signal)))
	}()
}
