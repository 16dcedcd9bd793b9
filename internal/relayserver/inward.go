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
	"example.com/chat/internal/once"
	"example.com/chat/internal/relay"
)

const (
	// partLimit is the largest Text of a Part, in bytes, unless that is a single line. A Hub sends frames of
	// this size.
	partLimit = 64 << 10

	// maxBacklog is the number of bytes that a backlog takes, a tenth of the default of -memory.
	maxBacklog = 64 << 20

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
func (s *Server) receive(ctx context.Context, m relay.Message, held *backlog) error {
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
	message, err := s.decode(m, now)
	if err != nil {
		return err
	}
	received := parts(m.Origin, message, now)
	if m.Backlog {
		lost := uint64(0)
		for part := range received {
			lost += held.add(part, s.history, s.began)
		}
		if lost > 0 {
			s.counters.RelayMissed.Add(int64(lost))
			s.log.Warn("backlog takes too much memory: lines of other chats dropped", "lines", lost)
		}
		return nil
	}
	// Only one backlog is delivered. One of another relay may lack lines that were delivered meanwhile, or that
	// it left out, so that relay must connect again.
	if !s.wantsBacklog && len(held.rooms) > 0 {
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

// errTooHigh is the error of a message whose numbers a once.Marks does not accept.
var errTooHigh = errors.New("its line numbers are too far above the last one that is known")

// errOrigin is the error of a message whose origin is too long for a once.Marks.
var errOrigin = errors.New("its origin is too long")

// decode returns the lines in m, which are none if they are of this chat, or if the message in the JetStream
// stream can't be read or has numbers that no chat has. Such a message is skipped, because it would come
// again on each connection. decode counts the lines that are missing before those in m. It can't tell what is
// missing before the first message of an origin.
//
// A relay has no need to send lines of this chat. If they have numbers that this chat has not given out, decode
// returns the error that ends the connection.
func (s *Server) decode(m relay.Message, now time.Time) (relay.Message, error) {
	if len(m.Body) == 0 {
		return relay.Message{}, nil
	}
	message, err := relay.DecodeLines(m.Body)
	if err == nil && m.Origin == s.outbox.Origin() {
		return relay.Message{}, s.compare(m.Origin, message.Next(), "a message of the JetStream stream")
	}
	mark, known := s.seen[m.Origin]
	var repeated uint64
	if err == nil && len(m.Origin) > once.MaxOrigin {
		err = errOrigin
	} else if err == nil {
		var ok bool
		if repeated, ok = s.seen.Accept(m.Origin, message.First, message.Lines(), now); !ok {
			err = errTooHigh
		}
	}
	if err != nil {
		s.log.Warn("message in the JetStream stream skipped", "seq", m.Cursor.Seq, "origin", shorten(m.Origin), "err", shorten(err.Error()))
		return relay.Message{}, nil
	}
	s.noteRepeated(m.Origin, repeated > 0)
	if next := uint64(mark.Number) + 1; known && message.First > next {
		missing := message.First - next
		s.counters.RelayMissed.Add(int64(missing))
		s.log.Warn("lines of another chat are missing", "origin", shorten(m.Origin), "lines", missing, "from", next)
	}
	return message, nil
}

// noteRepeated records whether the last message of an origin had repeated lines, for the next reports of
// people. Only the connection with the turn calls it.
func (s *Server) noteRepeated(origin string, repeated bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if delete(s.repeated, origin); repeated {
		s.repeated.Merge(once.Marks{origin: s.seen[origin]}) // which bounds s.repeated
	}
}

// compare gives this chat a new origin if origin is its own, and next is above the number of its next line.
// Somebody else has then numbered lines of this chat, and others would ignore its next lines. The log says
// where next was found. compare returns an error that must end the connection, because the relay uses the
// former origin.
func (s *Server) compare(origin string, next uint64, where string) error {
	last, disowned := s.outbox.Disown(origin, next)
	if !disowned {
		return nil
	}
	s.log.Warn("somebody else has numbered lines of this chat, so it has a new origin", "in", where, "number", next-1, "last", last,
		"former", origin, "origin", s.outbox.Origin())
	s.mu.Lock()
	defer s.mu.Unlock()
	if last > 0 { // rooms that open now must not say the lines again
		s.delivered.Accept(origin, 1, last, time.Now())
	}
	return relay.ErrOrigin
}

// isMarked reports whether markRenamed has returned for that origin, or the origin is this run's first one.
func (s *Server) isMarked(origin string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.marked == origin
}

// markRenamed has the rooms mark the lines that have got a new origin. Otherwise a room would say them again
// if they came back after a crash. So a relay must not learn of an origin before it is marked. markRenamed
// returns an error if ctx is done. Once the chat is stopping, the rooms mark nothing.
func (s *Server) markRenamed(ctx context.Context) error {
	select {
	case s.turn <- struct{}{}:
		defer func() { <-s.turn }()
	case <-ctx.Done():
		return ctx.Err()
	}
	now := time.Now()
	held, _ := s.outbox.Snapshot()
	for part := range parts(held.Origin, held, now) {
		part.Text = nil
		if s.stopping {
			break
		}
		if err := s.deliver(ctx, part, now); errors.Is(err, ErrStopping) {
			s.stopping = true
		} else if err != nil {
			return err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if last := held.Next() - 1; last > 0 {
		s.delivered.Accept(held.Origin, 1, last, now)
	}
	s.marked = held.Origin
	return nil
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
	repeated, _ := s.dropped.Accept(p.Origin, p.First, p.Count, now)
	if dropped := p.Count - repeated; dropped > 0 {
		s.counters.RelayMissed.Add(int64(dropped))
		s.log.Warn("room can't be opened: lines of another chat dropped", "room", shorten(p.Room), "lines", dropped)
	}
	return nil
}

// backlog is, by room, the lines of the messages that a relay marks as backlog. These were in the JetStream
// stream when the relay connected.
type backlog struct {
	rooms map[string]*roomBacklog
	size  int // bytes that the held and skipped parts take
}

// partCost is about the number of bytes that a Part takes beside its text.
const partCost = 128

// roomBacklog is the backlog of one room.
type roomBacklog struct {
	held    []Part          // oldest first
	lines   uint64          // in held
	skipped map[string]Part // the last part of each origin that is no longer held, without its text
}

// add adds a part to its room. It drops the oldest parts of the room that were said before began, in milliseconds
// since 1970, while the others have history lines, because the room itself would drop them. Beyond maxBacklog it drops
// the oldest parts anyway. add returns the number of lines since began that it drops, because somebody may have been
// here. It drops a part of one room too many.
func (b *backlog) add(part Part, history uint64, began int64) (lost uint64) {
	room := b.rooms[part.Room]
	if room == nil {
		if len(b.rooms) == maxRooms {
			return part.Count
		}
		room = &roomBacklog{skipped: make(map[string]Part)}
		b.rooms[part.Room] = room
	}
	part.Text = bytes.Clone(part.Text) // and not the rest of its segment
	room.held = append(room.held, part)
	room.lines += part.Count
	b.size += len(part.Text) + partCost
	for len(room.held) > 0 {
		first := room.held[0]
		old := first.At != 0 && first.At < began
		if b.size <= maxBacklog && (!old || len(room.held) == 1 || room.lines-first.Count < history) {
			return lost
		}
		if !old {
			lost += first.Count
		}
		room.lines -= first.Count
		b.size -= len(first.Text) + partCost
		room.held[0] = Part{} // frees the text
		room.held = room.held[1:]
		first.Text = nil
		if _, known := room.skipped[first.Origin]; !known {
			if b.size+partCost > maxBacklog {
				continue // so the room may say these lines if they come again
			}
			b.size += partCost
		}
		room.skipped[first.Origin] = first
	}
	return lost
}

// take empties the backlog. It returns what the rooms must get: for each room, parts without text for the
// skipped lines, and then the held ones.
func (b *backlog) take() (all []Part) {
	for _, room := range b.rooms {
		all = slices.AppendSeq(all, maps.Values(room.skipped))
		all = append(all, room.held...)
	}
	clear(b.rooms)
	b.size = 0
	return all
}
