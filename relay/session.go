package main

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
)

// session is the time in which a relay has its connections to chat and NATS. It ends with the first error, and the
// next one finds in the chat and in the stream where to go on.
type session struct {
	lines *lines
	conn  *nats.Conn

	// Two connections to the chat: while a room does not take what comes in, what goes out does not wait.
	out, in *chatConn
}

// runSession relays until ctx is done or something fails. It calls up when lines can be relayed.
func runSession(ctx context.Context, cfg config, options []nats.Option, up func()) error {
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	s, err := openSession(ctx, cfg, options, fail)
	defer s.close()
	if err != nil {
		return cmp.Or(context.Cause(ctx), err)
	}
	up()
	slog.Info("relaying", "chat", cfg.chat, "nats", redacted([]string{s.conn.ConnectedUrl()}), "stream", cfg.name, "origin", s.out.hello.Origin)
	context.AfterFunc(ctx, s.close) // ends what waits for the chat
	var running sync.WaitGroup
	for _, part := range []func(context.Context) error{s.relayOut, s.relayIn, s.discard} {
		running.Go(func() { fail(part(ctx)) })
	}
	running.Wait()
	return context.Cause(ctx)
}

// openSession opens the connections of a session. What it returns is to be closed, with an error, too.
func openSession(ctx context.Context, cfg config, options []nats.Option, failed func(error)) (s *session, err error) {
	s = new(session)
	if s.out, err = dialChat(ctx, cfg.chat); err != nil {
		return s, err
	}
	if s.in, err = dialChat(ctx, cfg.chat); err != nil {
		return s, err
	}
	if s.in.hello.Origin != s.out.hello.Origin {
		return s, errors.New("the chat was started again meanwhile")
	}
	if s.conn, err = connect(cfg, options, failed); err != nil {
		return s, err
	}
	s.lines, err = openLines(ctx, s.conn, cfg.name)
	return s, err
}

// discard reads what the chat sends on the connection for what comes in: nothing that is needed there.
func (s *session) discard(context.Context) error {
	for {
		s.in.SetReadDeadline(time.Now().Add(chatSilence))
		if _, err := s.in.receive(); err != nil {
			return err
		}
	}
}

// close closes the connections. It may be called again, by any goroutine.
func (s *session) close() {
	for _, c := range []*chatConn{s.out, s.in} {
		if c != nil {
			c.SetDeadline(time.Now()) // Close waits for a send, which waits for the chat
			c.Close()
		}
	}
	if s.conn != nil {
		s.conn.Close()
	}
}

// origin returns the origin of this relay's chat.
func (s *session) origin() string { return s.out.hello.Origin }

// redacted returns URLs without passwords.
func redacted(urls []string) string {
	var shown []string
	for _, s := range urls {
		if u, err := url.Parse(s); err == nil {
			s = u.Redacted()
		}
		shown = append(shown, s)
	}
	return strings.Join(shown, ",")
}
