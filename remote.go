package main

import (
	"bytes"
	"context"
	"errors"
	"iter"
	"log/slog"
	"maps"
	"slices"
	"time"

	"example.com/chat/internal/lines"
	"example.com/chat/internal/once"
	"example.com/chat/internal/relay"
)

const (
	// Bytes of lines of other chats that wait for a room, while the Hub holds the stream back for lagging
	// connections. With more the relay has to wait, and so have the other rooms.
	maxRemote = 4 << 20

	// Bytes that a remoteFrame takes beside its lines.
	remoteCost = 128

	// What was said at another chat less than that long ago is said now.
	remoteDelay = time.Second
)

// remoteFrame is a frame of lines that were said at another chat.
type remoteFrame struct {
	origin string // of the chat
	first  uint64 // number of the first line
	lines  uint64
	frame  *frame // nil if they are not to be said, only marked as known
}

// cost returns how many bytes f takes, about.
func (f remoteFrame) cost() int {
	if f.frame == nil {
		return remoteCost
	}
	return len(f.frame.lines) + remoteCost
}

// hear takes what a relay has from the stream, and notes its position. The lines of a backlog are said when its end
// has come. An error tells the relay to begin again.
func (c *relayConn) hear(ctx context.Context, m relay.Message) error {
	if !m.Backlog {
		if err := c.endBacklog(ctx); err != nil {
			return err
		}
	}
	said, ok := c.server.linesOf(m)
	if ok {
		for room, f := range remoteFrames(m.Origin, said, time.Now()) {
			if m.Backlog {
				c.backlog.add(room, f)
			} else {
				c.server.say(ctx, room, f)
			}
		}
	}
	if !m.Backlog {
		c.server.setPosition(ctx, *m.Cursor, m.Origin, said)
	}
	return ctx.Err()
}

// linesOf returns the message of the stream that is in m, if it has lines of another chat, and notes that it
// was heard.
func (s *relayServer) linesOf(m relay.Message) (said relay.Message, ok bool) {
	if len(m.Body) == 0 || m.Origin == s.origin {
		return said, false
	}
	said, err := relay.DecodeLines(m.Body)
	if err != nil {
		slog.Warn("a message in the stream is skipped", "seq", m.Cursor.Seq, "origin", m.Origin, "err", err)
		return said, false
	}
	s.noteHeard(m.Origin, said)
	return said, true
}

// noteHeard notes which lines of an origin were heard. It counts those that are missing before them.
func (s *relayServer) noteHeard(origin string, said relay.Message) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if mark, ok := s.heard[origin]; ok && said.First > uint64(mark.Number)+1 {
		missing := said.First - uint64(mark.Number) - 1
		s.rooms.counters.relayMissed.Add(int64(missing))
		slog.Warn("lines of another chat are missing", "origin", origin, "lines", missing, "from", uint64(mark.Number)+1)
	}
	s.heard.Accept(origin, said.First, said.Next()-said.First, time.Now())
}

// remoteFrames returns the lines of a message in frames, each with its room.
func remoteFrames(origin string, m relay.Message, now time.Time) iter.Seq2[string, remoteFrame] {
	return func(yield func(string, remoteFrame) bool) {
		number, text := m.First, m.Body
		for _, said := range m.Segments {
			var cut []byte
			cut, text = lines.Cut(text, said.Lines)
			for part := range parts(cut) {
				f := remoteFrame{origin, number, uint64(countLines(part)), textFrame(bytes.ToValidUTF8(part, []byte("\uFFFD")))}
				if said.At > 0 && said.At < now.Add(-remoteDelay).UnixMilli() {
					f.frame.said = said.At
				}
				number += f.lines
				if !yield(said.Room, f) {
					return
				}
			}
		}
	}
}

// parts cuts lines, each with a line break, into parts of whole lines of up to joinLimit bytes, or one longer line.
func parts(lines []byte) iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		for len(lines) > 0 {
			n := bytes.LastIndexByte(lines[:min(len(lines), joinLimit)], '\n') + 1
			if n == 0 {
				n = bytes.IndexByte(lines, '\n') + 1
			}
			if !yield(lines[:n]) {
				return
			}
			lines = lines[n:]
		}
	}
}

// say hands f to the Hub of a room. If that has stopped, the room was empty, and there may be another one. When ctx is
// done it says nothing: what follows a frame that was not said must not be said before it.
func (s *relayServer) say(ctx context.Context, room string, f remoteFrame) {
	for hub := s.rooms.hear(room); hub != nil && ctx.Err() == nil; hub = s.rooms.hear(room) {
		select {
		case hub.remote <- f:
			return
		case <-hub.done:
		case <-ctx.Done():
			return
		}
	}
}

// setPosition notes the position of a message whose lines the Hubs have, and all lines before it. While the chat drains
// they may not have them.
func (s *relayServer) setPosition(ctx context.Context, p relay.Cursor, origin string, said relay.Message) {
	if s.rooms.isDraining() {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if ctx.Err() != nil {
		return
	}
	s.position = p
	if len(said.Segments) > 0 {
		s.passed.Accept(origin, said.First, said.Next()-said.First, time.Now())
	}
}

// marks returns the marks for a room that is opened: what was heard before is not for it, also if it comes again.
func (s *relayServer) marks() once.Marks {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.passed)
}

// backlog is what was said before this chat was there: the last lines of each room. It is said at once, so that
// those who have joined meanwhile need not read all the rest.
type backlog struct {
	history uint64
	began   int64 // milliseconds since 1970: what was said from then on is not left out, someone may be here
	rooms   map[string]*roomBacklog
}

// roomBacklog is the backlog of a room.
type roomBacklog struct {
	frames []remoteFrame
	lines  uint64
	last   map[string]remoteFrame // the last one of each origin that is left out
}

func newBacklog(history int, began int64) backlog {
	return backlog{uint64(history), began, make(map[string]*roomBacklog)}
}

// add adds f, and leaves out what is too old.
func (b *backlog) add(room string, f remoteFrame) {
	of := b.rooms[room]
	if of == nil {
		of = &roomBacklog{last: make(map[string]remoteFrame)}
		b.rooms[room] = of
	}
	of.frames = append(of.frames, f)
	of.lines += f.lines
	for first := of.frames[0]; len(of.frames) > 1 && of.lines-first.lines >= b.history && b.isOld(first.frame); first = of.frames[0] {
		first.frame = nil
		of.last[first.origin] = first
		of.lines -= first.lines
		of.frames = of.frames[1:]
	}
}

// isOld reports whether f was said before anyone was here.
func (b *backlog) isOld(f *frame) bool { return f.said != 0 && f.said < b.began }

// endBacklog says the backlog, if there is one. If another relay's was said meanwhile it returns an error, and
// this relay begins again: its backlog may lack lines that the other one's had.
func (c *relayConn) endBacklog(ctx context.Context) error {
	s := c.server
	s.backlogs.Lock()
	defer s.backlogs.Unlock()
	if s.wantsBacklog.Load() {
		c.sayBacklog(ctx)
		s.passBacklog(ctx)
	}
	if len(c.backlog.rooms) > 0 {
		return errors.New("another relay was faster")
	}
	return nil
}

// passBacklog notes that a backlog was said.
func (s *relayServer) passBacklog(ctx context.Context) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if ctx.Err() == nil {
		s.wantsBacklog.Store(false)
		s.passed.Merge(s.heard)
	}
}

// sayBacklog says what there is of the backlog.
func (c *relayConn) sayBacklog(ctx context.Context) {
	for room, of := range c.backlog.rooms {
		for _, f := range of.last {
			c.server.say(ctx, room, f)
		}
		for _, f := range of.frames {
			c.server.say(ctx, room, f)
		}
	}
	clear(c.backlog.rooms)
}

// remoteQueue is the lines of other chats that wait for the next fan-outs. Only the Hub uses it.
type remoteQueue struct {
	waiting     []remoteFrame
	waitingCost int
}

// enqueue keeps f for the next fan-outs.
func (h *Hub) enqueue(f remoteFrame) {
	h.waiting = append(h.waiting, f)
	h.waitingCost += f.cost()
}

// takeRemote takes what waits into a fan-out, up to coalesceLimit bytes beside what was said here, but at
// least a frame. Lines that were said here before are dropped. The marks change with the stream, so that both
// are kept or neither.
func (h *Hub) takeRemote() {
	for taken := 0; len(h.waiting) > 0 && taken <= coalesceLimit; {
		f := h.waiting[0]
		h.waiting[0] = remoteFrame{}
		h.waiting = h.waiting[1:]
		h.waitingCost -= f.cost()
		known := h.stream.marks.Accept(f.origin, f.first, f.lines, time.Now())
		if f.frame == nil {
			continue
		}
		taken += len(f.frame.lines)
		h.rooms.counters.relayKnown.Add(int64(known))
		if rest := withoutLines(f.frame, int(known)); rest != nil {
			h.pending = append(h.pending, rest)
		}
	}
}

// passOn hands lines that were said here to the relay, if there is one.
func (h *Hub) passOn(now time.Time) {
	if len(h.local) == 0 {
		return
	}
	lines := slices.Concat(h.local...)
	last, n := h.rooms.relays.outbox.Add(h.name, lines, now), uint64(countLines(lines))
	h.stream.marks.Accept(h.rooms.relays.origin, last+1-n, n, now)
	clear(h.local)
	h.local = h.local[:0]
}
