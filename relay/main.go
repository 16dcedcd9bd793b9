// Command relay connects a chat with others through NATS: what is said in a room of one is said in the same
// room of all. README.md says how to use it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"regexp"
	"syscall"
	"time"
)

// Pauses between sessions, of which one follows the other until the relay is stopped.
const (
	firstPause   = 100 * time.Millisecond
	longestPause = 5 * time.Second
)

func main() {
	cfg, err := parseFlags(os.Args[1:], os.Stdout)
	if errors.Is(err, flag.ErrHelp) {
		return
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "relay:", err)
		os.Exit(2)
	}
	slog.SetDefault(slog.New(slog.NewTextHandler(os.Stderr, nil)))
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second signal ends the program at once
	if err := run(ctx, cfg); err != nil {
		fmt.Fprintln(os.Stderr, "relay:", err)
		os.Exit(1)
	}
	slog.Info("stopped")
}

// run relays until ctx is done. An error is one that no waiting mends.
func run(ctx context.Context, cfg config) error {
	options, err := natsOptions(len(cfg.nats) == 0)
	if err != nil {
		return err
	}
	session := func(ctx context.Context, up func()) error { return runSession(ctx, cfg, options, up) }
	if len(cfg.nats) == 0 {
		embedded := ownServer{cfg: cfg}
		defer embedded.stop()
		session = func(ctx context.Context, up func()) error { return embedded.runSession(ctx, options, up) }
	}
	return retry(ctx, session)
}

// localAddr is in errors of the network the part that is another one each time.
var localAddr = regexp.MustCompile(`\S+->`)

// permanentError is an error of a session that no waiting mends.
type permanentError struct{ error }

// retry runs one session after the other until ctx is done, with growing pauses while they fail. A session calls
// up when it works; before the first one has, a permanentError ends retry.
func retry(ctx context.Context, session func(ctx context.Context, up func()) error) error {
	worked, logged, pause := false, "", firstPause
	for {
		began := time.Now()
		err := session(ctx, func() { worked = true })
		if ctx.Err() != nil {
			return nil
		}
		if _, permanent := err.(permanentError); permanent && !worked {
			return err
		}
		if time.Since(began) > longestPause {
			pause, logged = firstPause, ""
		}
		if key := localAddr.ReplaceAllString(err.Error(), ""); key != logged {
			slog.Warn("trying again", "err", err)
			logged = key
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return nil
		}
		pause = min(2*pause, longestPause)
	}
}
