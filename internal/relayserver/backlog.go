package relayserver

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"example.com/chat/internal/once"
	"example.com/chat/internal/relay"
)

// backlog is the lines of the messages that a relay marks as backlog, which were in the JetStream stream when
// the relay connected. Of lines older than this chat it holds only the last ones of each room, because the
// room's history would drop the others at once.
type backlog struct {
	history uint64 // lines to hold for each room
	began   int64  // milliseconds since 1970; all lines since then are held, because somebody may have been here
	rooms   map[string]*roomBacklog
	marks   once.Marks // last line by origin, held or not
}

// roomBacklog is the backlog of one room.
type roomBacklog struct {
	held    []Part          // oldest first
	lines   uint64          // in held
	skipped map[string]Part // the last part of each origin that is no longer held, without its text
}

func newBacklog(history int, began int64) backlog {
	return backlog{uint64(history), began, make(map[string]*roomBacklog), make(once.Marks)}
}

// addMessage adds the lines of a message.
func (b *backlog) addMessage(origin string, message relay.Message, now time.Time) {
	b.marks.Accept(origin, message.First, message.Lines(), now)
	for part := range parts(origin, message, now) {
		b.add(part)
	}
}

// add adds a part to its room, and stops holding older ones while the history is complete without them.
func (b *backlog) add(part Part) {
	room := b.rooms[part.Room]
	if room == nil {
		room = &roomBacklog{skipped: make(map[string]Part)}
		b.rooms[part.Room] = room
	}
	room.held = append(room.held, part)
	room.lines += part.Count
	for len(room.held) > 1 && room.lines-room.held[0].Count >= b.history && b.isOld(room.held[0]) {
		room.skipFirst()
	}
}

// isOld reports whether a part was said before this chat started.
func (b *backlog) isOld(part Part) bool { return part.At != 0 && part.At < b.began }

// skipFirst stops holding the oldest part.
func (r *roomBacklog) skipFirst() {
	first := r.held[0]
	first.Text = nil
	r.skipped[first.Origin] = first
	r.lines -= first.Count
	r.held[0] = Part{} // frees the text
	r.held = r.held[1:]
}

// take empties the backlog. It returns what the rooms must get: for each room, parts without text for the
// skipped lines, and then the held ones.
func (b *backlog) take() (all []Part) {
	for _, room := range b.rooms {
		all = slices.AppendSeq(all, maps.Values(room.skipped))
		all = append(all, room.held...)
	}
	clear(b.rooms)
	return all
}

// endBacklog delivers the connection's backlog before the first message that does not belong to it. Only one
// backlog is delivered: one of another relay may lack lines that were delivered meanwhile, or that it left
// out. That relay must connect again, so endBacklog returns an error.
func (c *conn) endBacklog(ctx context.Context) error {
	s := c.server
	select {
	case s.turn <- struct{}{}:
		defer func() { <-s.turn }()
	case <-ctx.Done():
		return ctx.Err()
	}
	s.mu.Lock()
	wantsBacklog := s.wantsBacklog
	s.mu.Unlock()
	if !wantsBacklog {
		if len(c.backlog.rooms) > 0 {
			return errors.New("another relay has delivered the backlog")
		}
		return nil
	}
	for _, part := range c.backlog.take() {
		if err := s.deliver(ctx, part); err != nil {
			return err
		}
	}
	s.advanceBacklog(c.backlog.marks)
	return nil
}
