package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"example.com/chat/internal/relay"
)

const (
	// Of so many messages that are the chat's own, it is told the position of one.
	positionEvery = 100

	// Messages that NATS sends ahead.
	ahead = 64

	// NATS is heard at least that often; else the session ends.
	heartbeat = 5 * time.Second

	// A consumer that nobody reads is removed by NATS after that time.
	consumerWait = time.Minute
)

// relayIn sends the chat what is said at others, and how many people they have.
func (s *session) relayIn(ctx context.Context) error {
	sub, err := s.conn.Subscribe(s.lines.peopleSubject("*"), s.relayPeople)
	if err != nil {
		return err
	}
	defer sub.Unsubscribe()
	r, err := s.newReader(ctx)
	if err != nil {
		return err
	}
	defer r.messages.Stop()
	defer context.AfterFunc(ctx, r.messages.Stop)() // Next may not look at ctx while it tries to reach NATS
	for {
		msg, err := r.messages.Next(jetstream.NextContext(ctx))
		if err != nil {
			return fmt.Errorf("reading the stream: %w", err)
		}
		if err := r.relay(msg); err != nil {
			return err
		}
	}
}

// relayPeople sends the chat how many people another one has.
func (s *session) relayPeople(msg *nats.Msg) {
	m, err := relay.Decode(msg.Data)
	if origin := originOf(msg.Subject); err == nil && m.People != nil && origin != s.origin() {
		s.out.send(relay.Message{Origin: origin, People: m.People})
	}
}

// reader reads the stream for a chat.
type reader struct {
	session  *session
	messages jetstream.MessagesContext
	skipped  int    // messages since the chat was told a position
	received uint64 // messages from NATS, in all

	// Messages up to the sequence backlog were in the stream before a chat that has just started. It is 0 behind them.
	backlog uint64
}

// newReader returns a reader that begins behind the chat's position.
func (s *session) newReader(ctx context.Context) (*reader, error) {
	r := &reader{session: s}
	config, err := r.start(ctx)
	if err != nil {
		return nil, err
	}
	requested, cancel := context.WithTimeout(ctx, requestWait)
	defer cancel()
	consumer, err := s.lines.stream.CreateConsumer(requested, config)
	if err == nil {
		r.messages, err = consumer.Messages(jetstream.PullMaxMessages(ahead), jetstream.PullHeartbeat(heartbeat), jetstream.WithMessagesErrOnMissingHeartbeat(true))
	}
	if err != nil {
		return nil, fmt.Errorf("reading the stream: %w", err)
	}
	return r, nil
}

// start returns where to begin: behind the message at the chat's position. If the stream does not hold that, because
// it has lost its end, or discarded it, reading begins with what there is: the chat drops what it knows.
func (r *reader) start(ctx context.Context) (config jetstream.ConsumerConfig, err error) {
	s := r.session
	config = jetstream.ConsumerConfig{FilterSubject: s.lines.subject("*"), AckPolicy: jetstream.AckNonePolicy, MemoryStorage: true, Replicas: 1, InactiveThreshold: consumerWait}
	position := s.in.hello.Cursor
	known, err := s.lines.holds(ctx, position)
	if err != nil {
		return config, err
	}
	if s.in.hello.Backlog {
		if err := r.startBacklog(ctx, known); err != nil {
			return config, err
		}
	}
	if known {
		config.DeliverPolicy, config.OptStartSeq = jetstream.DeliverByStartSequencePolicy, position.Seq+1
	} else {
		if position.Seq > 0 {
			slog.Warn("the stream does not hold the chat's position: reading it from its beginning")
		}
		oldest := time.Now().Add(-maxAge)
		config.DeliverPolicy, config.OptStartTime = jetstream.DeliverByStartTimePolicy, &oldest
	}
	return config, nil
}

// startBacklog notes what is in the stream before the chat is told of it, or tells the chat that it is nothing new.
func (r *reader) startBacklog(ctx context.Context, known bool) error {
	requested, cancel := context.WithTimeout(ctx, requestWait)
	defer cancel()
	info, err := r.session.lines.stream.Info(requested)
	if err != nil {
		return fmt.Errorf("what is in the stream: %w", err)
	}
	position := r.session.in.hello.Cursor
	if info.State.Msgs == 0 || known && position.Seq == info.State.LastSeq {
		return r.session.in.send(relay.Message{Cursor: &position})
	}
	r.backlog = info.State.LastSeq
	return nil
}

// relay sends the chat msg. Its own lines it need not hear: of them it is told the position now and then.
func (r *reader) relay(msg jetstream.Msg) error {
	meta, err := msg.Metadata()
	if err != nil {
		return err
	}
	if r.received++; meta.Sequence.Consumer != r.received {
		return errors.New("reading the stream: messages are missing") // the next session asks for them
	}
	position := relay.Cursor{Seq: meta.Sequence.Stream, Time: meta.Timestamp.UnixNano()}
	ends := r.backlog > 0 && (position.Seq >= r.backlog || meta.NumPending == 0)
	if ends {
		r.backlog = 0
	}
	m := relay.Message{Cursor: &position, Backlog: r.backlog > 0}
	if m.Origin = originOf(msg.Subject()); m.Origin != r.session.origin() {
		m.Body = msg.Data()
	} else if r.skipped++; r.skipped < positionEvery && !ends {
		return nil
	}
	r.skipped = 0
	return r.session.in.send(m)
}
