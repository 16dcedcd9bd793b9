package relayserver

import (
	"bytes"
	"context"
	"errors"
	"iter"
	"time"

	"example.com/chat/internal/lines"
	"example.com/chat/internal/once"
	"example.com/chat/internal/relay"
)

const (
	// partLimit is the largest Text of a Part, in bytes, unless that is a single line. A Hub sends frames of
	// this size.
	partLimit = 64 << 10

	// nowLimit is the age below which a line counts as said now. A time of its own would cost an event, and
	// clocks of chats differ by about as much.
	nowLimit = time.Second
)

// receive processes a message of the JetStream stream: it delivers the lines and advances the cursor. The
// lines of a backlog wait for its end. An error ends the connection, and the next one continues from the
// cursor.
func (c *conn) receive(ctx context.Context, m relay.Message) error {
	s := c.server
	message, hasLines := s.decode(m)
	if m.Backlog {
		if hasLines {
			s.noteSeen(m.Origin, message)
			c.backlog.addMessage(m.Origin, message, time.Now())
		}
		return nil
	}
	if err := c.endBacklog(ctx); err != nil {
		return err
	}
	if hasLines {
		s.noteSeen(m.Origin, message)
		for part := range parts(m.Origin, message, time.Now()) {
			if err := s.deliver(ctx, part); err != nil {
				return err
			}
		}
	}
	s.advance(*m.Cursor, m.Origin, message)
	return nil
}

// decode returns the lines in m. It returns false if there are none, if they are of this chat, or if the
// message in the JetStream stream can't be read. Such a message is skipped, because it would come again on
// each connection.
func (s *Server) decode(m relay.Message) (message relay.Message, ok bool) {
	if len(m.Body) == 0 || m.Origin == s.origin {
		return message, false
	}
	message, err := relay.DecodeLines(m.Body)
	if err != nil {
		s.log.Warn("message in the JetStream stream skipped", "seq", m.Cursor.Seq, "origin", shorten(m.Origin), "err", shorten(err.Error()))
		return relay.Message{}, false
	}
	return message, true
}

// noteSeen records that lines of origin came, and counts the lines that are missing before them. It can't
// tell what is missing before the first message of an origin.
func (s *Server) noteSeen(origin string, message relay.Message) {
	s.mu.Lock()
	mark, known := s.seen[origin]
	s.seen.Accept(origin, message.First, message.Lines(), time.Now())
	s.mu.Unlock()
	if next := uint64(mark.Number) + 1; known && message.First > next {
		missing := message.First - next
		s.counters.RelayMissed.Add(int64(missing))
		s.log.Warn("lines of another chat are missing", "origin", shorten(origin), "lines", missing, "from", next)
	}
}

// parts cuts the lines of a message into parts. The message must have passed relay.DecodeLines.
func parts(origin string, message relay.Message, now time.Time) iter.Seq[Part] {
	return func(yield func(Part) bool) {
		number, rest := message.First, message.Body
		for _, segment := range message.Segments {
			var text []byte
			text, rest = lines.Cut(rest, segment.Lines)
			text = bytes.ToValidUTF8(text, []byte("\uFFFD")) // with as many lines: '\n' is valid
			for piece := range lines.Parts(text, partLimit) {
				part := Part{Room: segment.Room, Origin: origin, First: number, Count: uint64(lines.Count(piece)), Text: piece}
				if segment.At > 0 && segment.At < now.Add(-nowLimit).UnixMilli() {
					part.At = segment.At
				}
				number += part.Count
				if !yield(part) {
					return
				}
			}
		}
	}
}

// deliver hands p to the chat. It returns nil, too, if the room can't be opened (it counts the lines), or if the
// chat is stopping. After an error the caller must deliver nothing more, because a Hub with later lines of the
// origin would drop p when it comes again.
func (s *Server) deliver(ctx context.Context, p Part) error {
	if s.isStopping() {
		return nil
	}
	err := s.chat.Deliver(ctx, p)
	switch {
	case errors.Is(err, ErrStopping):
		s.setStopping()
		return nil
	case errors.Is(err, ErrNoRoom):
		s.noteDropped(p)
		return nil
	}
	return err
}

// noteDropped counts the lines of a part whose room can't be opened. Lines that come again, or over two relays,
// count once.
func (s *Server) noteDropped(p Part) {
	if p.Text == nil {
		return
	}
	s.mu.Lock()
	dropped := p.Count - s.dropped.Accept(p.Origin, p.First, p.Count, time.Now())
	s.mu.Unlock()
	if dropped > 0 {
		s.counters.RelayMissed.Add(int64(dropped))
		s.log.Warn("room can't be opened: lines of another chat dropped", "room", shorten(p.Room), "lines", dropped)
	}
}

// isStopping reports whether the chat has refused a part because it is stopping.
func (s *Server) isStopping() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stopping
}

// setStopping stops the deliveries. The connections remain, so that relays get the last local lines. The
// cursor remains, too, so that the dropped lines come again after a restart.
func (s *Server) setStopping() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stopping = true
}

// advance moves the cursor to a message. The Hubs must have all lines up to and including it.
func (s *Server) advance(cursor relay.Cursor, origin string, message relay.Message) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopping {
		return
	}
	s.cursor = cursor
	if message.Lines() > 0 {
		s.delivered.Accept(origin, message.First, message.Lines(), time.Now())
	}
}

// advanceBacklog records that the Hubs have a backlog up to marks.
func (s *Server) advanceBacklog(marks once.Marks) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopping {
		return
	}
	s.wantsBacklog = false
	s.delivered.Merge(marks)
}
