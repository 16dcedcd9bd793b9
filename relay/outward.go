package main

import (
	"context"
	"log/slog"

	"example.com/chat/internal/relay"
)

const (
	// batchSize limits the lines in a message, in bytes. A longer line is a message of its own. A full
	// message has 4,000 lines of 64 bytes, so a message's own cost hardly counts for each of them
	// (docs/scale.md).
	batchSize = 256 << 10

	// headerSize is the number of bytes that a message leaves free for its JSON header. It is more than
	// enough, because the chat counts the segments, the larger part of that header, towards the limit
	// of an ask.
	headerSize = 4 << 10

	// natsHeader is the number of bytes that NATS's own header has at most. NATS counts it as part of a
	// message.
	natsHeader = 512
)

// relayOut publishes the chat's lines and people counts, until ctx is done or something fails. It asks the
// chat for lines only after NATS has stored all lines before them, because an ask acknowledges these.
func (s *session) relayOut(ctx context.Context) error {
	seq, next, err := s.jetStream.last(ctx, s.origin(), s.out.hello.Asked)
	if err != nil {
		return err
	}
	for {
		if err := s.out.send(relay.Message{Ask: &relay.Ask{From: next, Limit: s.limit()}}); err != nil {
			return err
		}
		m, err := s.receiveLines()
		if err != nil {
			return err
		}
		if seq, next, err = s.store(ctx, m, seq); err != nil {
			return err
		}
	}
}

// limit returns the number of bytes of lines to ask for. It is at least 1, for which the chat sends one line.
func (s *session) limit() int { return max(1, min(batchSize, s.maxMessage()-headerSize)) }

// maxMessage returns the number of bytes that NATS and the JetStream stream accept in a message.
func (s *session) maxMessage() int {
	limit := int(s.nats.MaxPayload())
	if configured := int(s.jetStream.handle.CachedInfo().Config.MaxMsgSize); configured > 0 {
		limit = min(limit, configured)
	}
	return limit - natsHeader
}

// receiveLines returns the next lines from the chat. It publishes the people counts that come before them.
func (s *session) receiveLines() (relay.Message, error) {
	for {
		m, err := s.out.receiveInTime()
		if err != nil {
			return m, err
		}
		if len(m.Segments) > 0 {
			s.next.Store(max(s.next.Load(), m.Next()))
			return m, nil
		}
		if m.People != nil {
			if err := s.nats.Publish(s.jetStream.peopleSubject(s.origin()), m.Encode()); err != nil {
				slog.Warn("publishing the people count failed", "err", err)
			}
		}
	}
}

// store stores m in the JetStream stream if after is the sequence of the chat's last message there. It
// returns the sequence of the chat's last message afterwards, and the number of the next line to ask for. If
// another relay of this chat has stored a message meanwhile, both are those of that message. A line too long
// for NATS is left out.
func (s *session) store(ctx context.Context, m relay.Message, after uint64) (seq, next uint64, err error) {
	if size := len(m.Encode()); size > s.maxMessage() {
		slog.Error("line too long for NATS or the JetStream stream, left out", "number", m.First, "room", m.Segments[0].Room, "bytes", size, "limit", s.maxMessage())
		return after, m.Next(), nil
	}
	seq, conflict, err := s.jetStream.publish(ctx, s.origin(), m, after)
	if err != nil {
		return 0, 0, err
	}
	if conflict {
		return s.jetStream.last(ctx, s.origin(), m.First)
	}
	return seq, m.Next(), nil
}
