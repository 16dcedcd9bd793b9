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
	// cursorEvery is the number of the chat's own messages after which the relay sends it the cursor. The
	// chat needs no other part of them, and after a restart the relay reads up to this number of them again.
	cursorEvery = 100

	// readAhead is the number of messages that NATS sends before the relay has passed them on. It hides the
	// round trip to NATS. More would take memory, because a message has up to 256 KiB of lines.
	readAhead = 64

	// heartbeat is how often NATS sends something when it has no messages. The session ends if NATS is silent
	// for twice as long.
	heartbeat = 5 * time.Second

	// consumerWait is how long NATS keeps the consumer of a relay that no longer reads.
	consumerWait = time.Minute
)

// relayIn sends the chat the lines and people counts of other chats, until ctx is done or something fails.
func (s *session) relayIn(ctx context.Context) error {
	sub, err := s.nats.Subscribe(s.jetStream.peopleSubject("*"), s.relayPeople)
	if err != nil {
		return err
	}
	defer sub.Unsubscribe()
	r, err := s.newReader(ctx)
	if err != nil {
		return err
	}
	defer r.messages.Stop()
	defer context.AfterFunc(ctx, r.messages.Stop)() // Next ignores ctx while it waits for NATS
	for {
		msg, err := r.messages.Next(jetstream.NextContext(ctx))
		if err != nil {
			return fmt.Errorf("reading the JetStream stream: %w", err)
		}
		if err := r.relay(msg); err != nil {
			return err
		}
	}
}

// relayPeople sends the chat the people counts of another chat. NATS calls it on a goroutine of its own, so
// it sends on s.out. On s.in it would block while the chat waits for a slow room.
func (s *session) relayPeople(msg *nats.Msg) {
	m, err := relay.Decode(msg.Data)
	if origin := originOf(msg.Subject); err == nil && m.People != nil && origin != s.origin() {
		s.out.send(relay.Message{Origin: origin, People: m.People, Repeated: m.Repeated})
	}
}

// reader reads the JetStream stream for the chat.
type reader struct {
	// Set by newReader.
	session  *session
	messages jetstream.MessagesContext

	// Owned by relayIn.
	received uint64 // messages from NATS
	skipped  int    // messages since the last cursor that the chat got
	backlog  uint64 // sequence of the last message of the backlog; 0 after the backlog
}

// newReader returns a reader that starts after the chat's cursor. The caller must stop r.messages.
func (s *session) newReader(ctx context.Context) (*reader, error) {
	r := &reader{session: s}
	config, err := r.start(ctx)
	if err != nil {
		return nil, err
	}
	requested, cancel := context.WithTimeout(ctx, requestWait)
	defer cancel()
	consumer, err := s.jetStream.handle.CreateConsumer(requested, config)
	if err == nil {
		r.messages, err = consumer.Messages(jetstream.PullMaxMessages(readAhead), jetstream.PullHeartbeat(heartbeat), jetstream.WithMessagesErrOnMissingHeartbeat(true))
	}
	if err != nil {
		return nil, fmt.Errorf("creating a consumer of the JetStream stream: %w", err)
	}
	return r, nil
}

// start returns the configuration of a consumer that starts after the chat's cursor. The JetStream stream may
// not hold the message at the cursor, because it lost its end or deleted the message. The consumer then
// starts with the oldest message up to maxAge old, and the chat drops the lines that it has delivered before.
func (r *reader) start(ctx context.Context) (config jetstream.ConsumerConfig, err error) {
	js, hello := r.session.jetStream, r.session.in.hello
	config = jetstream.ConsumerConfig{FilterSubject: js.subject("*"), AckPolicy: jetstream.AckNonePolicy, MemoryStorage: true, Replicas: 1, InactiveThreshold: consumerWait}
	held, err := js.holds(ctx, hello.Cursor)
	if err != nil {
		return config, err
	}
	if hello.Backlog {
		if err := r.startBacklog(ctx, held); err != nil {
			return config, err
		}
	}
	if held {
		config.DeliverPolicy, config.OptStartSeq = jetstream.DeliverByStartSequencePolicy, hello.Cursor.Seq+1
	} else {
		if hello.Cursor.Seq > 0 {
			slog.Warn("the JetStream stream does not hold the chat's cursor, reading it from its beginning", "seq", hello.Cursor.Seq)
		}
		oldest := time.Now().Add(-maxAge)
		config.DeliverPolicy, config.OptStartTime = jetstream.DeliverByStartTimePolicy, &oldest
	}
	return config, nil
}

// startBacklog sets r.backlog, for a chat that wants a backlog. If the backlog is empty it tells the chat so.
// cursorHeld says whether the JetStream stream holds the message at the chat's cursor.
func (r *reader) startBacklog(ctx context.Context, cursorHeld bool) error {
	requested, cancel := context.WithTimeout(ctx, requestWait)
	defer cancel()
	info, err := r.session.jetStream.handle.Info(requested)
	if err != nil {
		return fmt.Errorf("reading the state of the JetStream stream: %w", err)
	}
	cursor := r.session.in.hello.Cursor
	if info.State.Msgs == 0 || cursorHeld && cursor.Seq == info.State.LastSeq {
		return r.session.in.send(relay.Message{Cursor: &cursor})
	}
	r.backlog = info.State.LastSeq
	return nil
}

// relay sends the chat msg and its cursor. For the chat's own messages it sends the cursor alone, after every
// cursorEvery of them and at the end of the backlog. It sends a whole message under the chat's origin if this
// session has not had its lines from the chat. The chat then finds out if somebody else has published them.
func (r *reader) relay(msg jetstream.Msg) error {
	meta, err := msg.Metadata()
	if err != nil {
		return err
	}
	if r.received++; meta.Sequence.Consumer != r.received {
		return errors.New("reading the JetStream stream: messages are missing") // the next session reads them again
	}
	cursor := relay.Cursor{Seq: meta.Sequence.Stream, Time: meta.Timestamp.UnixNano()}
	backlogEnds := r.backlog > 0 && (cursor.Seq >= r.backlog || meta.NumPending == 0)
	if backlogEnds {
		r.backlog = 0
	}
	m := relay.Message{Cursor: &cursor, Backlog: r.backlog > 0}
	if m.Origin = originOf(msg.Subject()); m.Origin != r.session.origin() || r.session.isUnknown(msg.Data()) {
		m.Body = msg.Data()
	} else if r.skipped++; r.skipped < cursorEvery && !backlogEnds {
		return nil
	}
	r.skipped = 0
	return r.session.in.send(m)
}
