package main

import (
	"context"
	"log/slog"
	"time"

	"example.com/chat/internal/relay"
)

const (
	// Bytes of lines that are asked for at once.
	batchSize = 256 << 10

	// Bytes that a message takes beside the lines: its header, and that of NATS.
	headerSize = 4 << 10

	// Bytes that the header of NATS takes in it, at most.
	natsHeader = 512
)

// relayOut puts what is said at the chat into the stream, one batch after the other, and tells other relays how
// many people the chat has.
func (s *session) relayOut(ctx context.Context) error {
	seq, next, err := s.lines.last(ctx, s.origin(), s.out.hello.Asked)
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
		if seq, next, err = s.put(ctx, m, seq); err != nil {
			return err
		}
	}
}

// limit returns how many bytes of lines to ask for.
func (s *session) limit() int { return max(1, min(batchSize, s.maxMessage()-headerSize)) }

// maxMessage returns how many bytes a message may have, by NATS and by the stream.
func (s *session) maxMessage() int {
	most := int(s.conn.MaxPayload()) - natsHeader
	if ofStream := int(s.lines.stream.CachedInfo().Config.MaxMsgSize); ofStream > 0 {
		most = min(most, ofStream-natsHeader)
	}
	return most
}

// receiveLines returns the next lines from the chat. It passes on how many people there are.
func (s *session) receiveLines() (relay.Message, error) {
	for {
		s.out.SetReadDeadline(time.Now().Add(chatSilence))
		m, err := s.out.receive()
		if err != nil || len(m.Segments) > 0 {
			return m, err
		}
		if m.People != nil {
			if err := s.conn.Publish(s.lines.peopleSubject(s.origin()), m.Encode()); err != nil {
				slog.Warn("others don't know how many people there are", "err", err)
			}
		}
	}
}

// put puts m into the stream behind the chat's message with sequence after. It returns the sequence of the chat's
// last message there, and the number of the line to ask for next. Where another relay of this chat was faster, these
// are of its message. A line that NATS does not take is left out.
func (s *session) put(ctx context.Context, m relay.Message, after uint64) (seq, next uint64, err error) {
	if size := len(m.Encode()); size > s.maxMessage() {
		slog.Error("a line was not passed on: it is longer than NATS, or the stream, takes", "number", m.First, "room", m.Segments[0].Room, "bytes", size, "limit", s.maxMessage())
		return after, m.Next(), nil
	}
	seq, conflict, err := s.lines.publish(ctx, s.origin(), m, after)
	if err != nil {
		return 0, 0, err
	}
	if conflict {
		return s.lines.last(ctx, s.origin(), m.First)
	}
	return seq, m.Next(), nil
}
