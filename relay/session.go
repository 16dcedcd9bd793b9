package main

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/nats-io/nats.go"

	"example.com/chat/internal/relay"
)

// session holds the relay's connections to the chat and to NATS. Any error ends the session with all of them.
// The next session needs nothing from this one, because the chat and the JetStream stream know where to
// continue.
type session struct {
	nats      *nats.Conn
	jetStream *jetStream

	// out carries the chat's lines to the relay, and in the lines of other chats to the chat. They are two
	// connections because the chat stops reading in while one of its rooms is slow, and lines must go out
	// then, too.
	out, in *chatConn

	// next is the highest number of a line after lines that the chat has sent on out. relayOut sets it before
	// it publishes them.
	next atomic.Uint64
}

// runSession relays until ctx is done or something fails, and returns the reason. It calls up once it relays.
func runSession(ctx context.Context, cfg config, options []nats.Option, up func()) error {
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	s, err := openSession(ctx, cfg, options, fail)
	defer s.close()
	if err != nil {
		return cmp.Or(context.Cause(ctx), err)
	}
	up()
	slog.Info("relaying", "chat", cfg.chat, "nats", redacted([]string{s.nats.ConnectedUrl()}), "name", cfg.name, "origin", s.origin())
	context.AfterFunc(ctx, s.close) // unblocks receive and send
	var running sync.WaitGroup
	for _, part := range []func(context.Context) error{s.relayOut, s.relayIn, s.discard} {
		running.Go(func() { fail(part(ctx)) })
	}
	running.Wait()
	return context.Cause(ctx)
}

// openSession opens the connections of a session. It calls failed if the connection to NATS ends later. The
// caller must close the session even if openSession returns an error.
func openSession(ctx context.Context, cfg config, options []nats.Option, failed func(error)) (s *session, err error) {
	s = new(session)
	if s.out, err = dialChat(ctx, cfg.chat); err != nil {
		return s, err
	}
	if s.in, err = dialChat(ctx, cfg.chat); err != nil {
		return s, err
	}
	if s.in.hello.Origin != s.out.hello.Origin {
		return s, errors.New("the chat restarted while the relay connected to it")
	}
	if s.nats, err = connect(cfg, options, failed); err != nil {
		return s, err
	}
	s.jetStream, err = openJetStream(ctx, s.nats, cfg.name)
	return s, err
}

// discard discards the messages that the chat sends on s.in, because the same ones come on s.out.
func (s *session) discard(context.Context) error {
	for {
		if _, err := s.in.receiveInTime(); err != nil {
			return err
		}
	}
}

// close closes the connections. Any goroutine may call it, any number of times.
func (s *session) close() {
	for _, c := range []*chatConn{s.out, s.in} {
		if c != nil {
			c.close()
		}
	}
	if s.nats != nil {
		s.nats.Close()
	}
}

// isUnknown reports whether a message has lines with numbers that the chat has not sent in this session.
// These may be lines that another session has published, or lines of somebody else.
func (s *session) isUnknown(message []byte) bool {
	m, err := relay.DecodeLines(message)
	return err == nil && m.Next() > max(s.next.Load(), s.out.hello.Asked)
}

// origin returns the origin of this relay's chat.
func (s *session) origin() string { return s.out.hello.Origin }

// redacted returns the URLs for a log, without passwords.
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
