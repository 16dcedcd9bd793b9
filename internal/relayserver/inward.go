package relayserver

import (
	"bytes"
	"context"
	"errors"
	"iter"
	"maps"
	"slices"
	"time"

	"example.com/chat/internal/lines"
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

// receive delivers the lines of a message of the JetStream stream, and advances the cursor. The lines of a
// backlog wait in held until the first message without Backlog. An error ends the connection, and the next one
// continues from the cursor.
//
// Once the chat is stopping, receive does nothing. The connections remain, so that relays get the last local
// lines. The cursor remains, too, so that the dropped lines come again after a restart.
func (s *Server) receive(ctx context.Context, m relay.Message, held backlog) error {
	select {
	case s.turn <- struct{}{}:
		defer func() { <-s.turn }()
	case <-ctx.Done():
		return ctx.Err()
	}
	if s.stopping {
		return nil
	}
	now := time.Now()
	received := parts(m.Origin, s.decode(m, now), now)
	if m.Backlog {
		for part := range received {
			held.add(part, s.history, s.began)
		}
		return nil
	}
	// Only one backlog is delivered. One of another relay may lack lines that were delivered meanwhile, or that
	// it left out, so that relay must connect again.
	if !s.wantsBacklog && len(held) > 0 {
		return errors.New("another relay has delivered the backlog")
	}
	all := slices.AppendSeq(held.take(), received)
	for _, part := range all {
		// After an error no later part may be delivered. A Hub with later lines of the origin would drop this
		// part when it comes again.
		if err := s.deliver(ctx, part, now); errors.Is(err, ErrStopping) {
			s.stopping = true
			return nil
		} else if err != nil {
			return err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.wantsBacklog = false
	s.cursor = *m.Cursor
	for _, part := range all {
		s.delivered.Accept(part.Origin, part.First, part.Count, now)
	}
	return nil
}

// decode returns the lines in m, which are none if they are of this chat, or if the message in the JetStream
// stream can't be read. Such a message is skipped, because it would come again on each connection. decode
// counts the lines that are missing before those in m. It can't tell what is missing before the first message
// of an origin.
func (s *Server) decode(m relay.Message, now time.Time) relay.Message {
	if len(m.Body) == 0 || m.Origin == s.origin {
		return relay.Message{}
	}
	message, err := relay.DecodeLines(m.Body)
	if err != nil {
		s.log.Warn("message in the JetStream stream skipped", "seq", m.Cursor.Seq, "origin", shorten(m.Origin), "err", shorten(err.Error()))
		return relay.Message{}
	}
	mark, known := s.seen[m.Origin]
	s.seen.Accept(m.Origin, message.First, message.Lines(), now)
	if next := uint64(mark.Number) + 1; known && message.First > next {
		missing := message.First - next
		s.counters.RelayMissed.Add(int64(missing))
		s.log.Warn("lines of another chat are missing", "origin", shorten(m.Origin), "lines", missing, "from", next)
	}
	return message
}

// parts cuts the lines of a message into parts. The message must have passed relay.DecodeLines or be empty.
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

// deliver hands p to the chat. A room that can't be opened is no error, because the lines after p can still be
// delivered. deliver counts the dropped lines, once even if they come again.
func (s *Server) deliver(ctx context.Context, p Part, now time.Time) error {
	err := s.chat.Deliver(ctx, p)
	if !errors.Is(err, ErrNoRoom) {
		return err
	}
	if p.Text == nil {
		return nil
	}
	if dropped := p.Count - s.dropped.Accept(p.Origin, p.First, p.Count, now); dropped > 0 {
		s.counters.RelayMissed.Add(int64(dropped))
		s.log.Warn("room can't be opened: lines of another chat dropped", "room", shorten(p.Room), "lines", dropped)
	}
	return nil
}

// backlog is, by room, the lines of the messages that a relay marks as backlog. These were in the JetStream
// stream when the relay connected.
type backlog map[string]*roomBacklog

// roomBacklog is the backlog of one room.
type roomBacklog struct {
	held    []Part          // oldest first
	lines   uint64          // in held
	skipped map[string]Part // the last part of each origin that is no longer held, without its text
}

// add adds a part to its room. It stops holding parts that were said before began, in milliseconds since 1970,
// while the room has history lines without them. The room would drop these at once. Lines since began are all
// held, because somebody may have been here.
func (b backlog) add(part Part, history uint64, began int64) {
	room := b[part.Room]
	if room == nil {
		room = &roomBacklog{skipped: make(map[string]Part)}
		b[part.Room] = room
	}
	room.held = append(room.held, part)
	room.lines += part.Count
	for len(room.held) > 1 {
		first := room.held[0]
		if old := first.At != 0 && first.At < began; !old || room.lines-first.Count < history {
			return
		}
		room.lines -= first.Count
		room.held[0] = Part{} // frees the text
		room.held = room.held[1:]
		first.Text = nil
		room.skipped[first.Origin] = first
	}
}

// take empties the backlog. It returns what the rooms must get: for each room, parts without text for the
// skipped lines, and then the held ones.
func (b backlog) take() (all []Part) {
	for _, room := range b {
		all = slices.AppendSeq(all, maps.Values(room.skipped))
		all = append(all, room.held...)
	}
	clear(b)
	return all
}
