// Command relay connects a chat with other chats through NATS JetStream. A line that is said in a room of one
// chat then reaches the same room of all of them. README.md explains its use, and docs/relay.md the protocol
// between a chat and its relay.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"regexp"
	"time"

	"example.com/chat/internal/logqueue"
	"example.com/chat/internal/stopsignal"
)

const (
	// firstPause is the pause after the first failed session. It is short because most failures are restarts
	// of the chat or of NATS.
	firstPause = 100 * time.Millisecond

	// longestPause limits the pause between failed sessions, which doubles each time. It is the longest time
	// for which lines wait although the chat and NATS are back.
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
	log := logqueue.Start()
	ctx, stop := context.WithCancel(context.Background())
	stopsignal.Notify(stop)
	if err = run(ctx, cfg); err != nil {
		fmt.Fprintln(log, "relay:", err)
	} else {
		slog.Info("stopped")
	}
	log.Close()
	if err != nil {
		os.Exit(1)
	}
}

// run relays until ctx is done, and then returns nil. It returns an error only if waiting can't mend it.
func run(ctx context.Context, cfg config) error {
	options, err := natsOptions(len(cfg.nats) == 0)
	if err != nil {
		return err
	}
	session := func(ctx context.Context, up func()) error { return runSession(ctx, cfg, options, up) }
	if len(cfg.nats) == 0 {
		embedded := embeddedServer{cfg: cfg}
		defer embedded.stop()
		session = func(ctx context.Context, up func()) error { return embedded.runSession(ctx, options, up) }
	}
	return retry(ctx, session)
}

// permanentError is an error of a session that waiting can't mend, such as a wrong password.
type permanentError struct{ err error }

func (e permanentError) Error() string { return e.err.Error() }
func (e permanentError) Unwrap() error { return e.err }

// localAddr matches the local address in an error of package net. Its port differs each time.
var localAddr = regexp.MustCompile(`\S+->`)

// retry runs sessions, one after the other, until ctx is done. It pauses between them, and doubles the pause
// while sessions fail within longestPause.
//
// A session must call up once it relays lines. Until the first session has done so, retry returns a
// permanentError. After that even such an error may pass, for example while somebody configures NATS.
func retry(ctx context.Context, session func(ctx context.Context, up func()) error) error {
	worked, logged, pause := false, "", firstPause
	for {
		began := time.Now()
		err := session(ctx, func() { worked = true })
		if ctx.Err() != nil {
			return nil
		}
		if _, permanent := errors.AsType[permanentError](err); permanent && !worked {
			return err
		}
		if time.Since(began) > longestPause {
			pause, logged = firstPause, ""
		}
		if reason := localAddr.ReplaceAllString(err.Error(), ""); reason != logged {
			slog.Warn("trying again", "err", err)
			logged = reason
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return nil
		}
		pause = min(2*pause, longestPause)
	}
}
