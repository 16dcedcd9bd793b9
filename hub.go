package main

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"golang.org/x/net/websocket"

	"example.com/chat/internal/delivery"
	"example.com/chat/internal/event"
	"example.com/chat/internal/lines"
	"example.com/chat/internal/metrics"
	"example.com/chat/internal/once"
	"example.com/chat/internal/pace"
	"example.com/chat/internal/pending"
	"example.com/chat/internal/store"
	"example.com/chat/internal/stream"
	"example.com/chat/internal/ws"
)

const (
	// maxCounts is the number of people counts that a room sends in a second, to all its connections together.
	// A count costs as much as a short line, so 1,000 of them take a hundredth of a core.
	maxCounts = 1000

	// drainTimeout limits how long a draining Hub accepts lines. A peer that sends nothing for drainIdle, twice,
	// has nothing more in flight.
	drainTimeout = 5 * time.Second
	drainIdle    = 100 * time.Millisecond
)

// Close frames that the Hub sends of its own accord.
var (
	errGoingAway = &ws.CloseError{Code: ws.CloseGoingAway, Reason: "the server is shutting down"}
	errTooSlow   = &ws.CloseError{Code: ws.CloseTryAgainLater, Reason: "you read too slowly"}
)

// Hub maintains the connections of a room and broadcasts lines to them. One goroutine, run, serves it, and never
// waits for a connection.
type Hub struct {
	// Set before run.
	name     string // of the room
	counters *metrics.Counters
	peerLog  *slog.Logger
	stored   *store.Room // the room in -state; nil without

	// Set before run, with -relay only.
	publish   publisher
	delivered func() once.Marks // returns the marks of lines that a new room must not say again

	// Any goroutine sends on these, until done is closed.
	register   chan registration   // new connections
	unregister chan *Conn          // connections from which nothing more will be broadcast
	broadcast  chan message        // lines
	more       chan *Conn          // connections that have written a batch marked last
	pongs      chan message        // answers to pings
	remote     chan pending.Remote // lines of other chats

	// Any goroutine reads these; the chat sets remotePeople.
	localPeople  atomic.Int64  // connections here
	remotePeople atomic.Int64  // connections in this room at other chats, as far as is known
	draining     chan struct{} // closed when the Hub drains, and accepts lines until drainDeadline
	done         chan struct{} // closed when run has returned, and nobody receives from the channels above

	// Set by run before it closes draining.
	drainDeadline time.Time

	// Owned by run, and readable once done is closed.
	connections map[*Conn]bool // that get what is broadcast; only run sends on a Conn's send, and closes it
	readers     map[*Conn]bool // that have not unregistered, so they may broadcast
	pending     pending.Lines  // for the next flush
	stream      *stream.Stream // what was broadcast
	pace        pace.Pace
	timer       *time.Timer // fires at due
	due         time.Time   // when the next flush is due; zero if the timer does not run
	hold        metrics.Hold
	countIn     int // sweeps until the next people count
}

// publisher gives local lines of a room to the relay, which owns text afterwards. It returns the number of the
// first line, and the origin that numbers it.
type publisher func(room string, text []byte, at time.Time) (origin string, first uint64)

// registration is a new connection, and what its client asked for.
type registration struct {
	conn  *Conn
	asked join
}

// message is a frame that came from a connection, or the answer to one.
type message struct {
	conn  *Conn
	frame *stream.Frame
}

// newHub returns a Hub for the named room that continues s. openChat and openLocked set stored, and
// startLocked the rest.
func newHub(name string, s *stream.Stream, counters *metrics.Counters, peerLog *slog.Logger) *Hub {
	h := &Hub{
		name:        name,
		counters:    counters,
		peerLog:     peerLog,
		register:    make(chan registration),
		unregister:  make(chan *Conn),
		broadcast:   make(chan message),
		more:        make(chan *Conn, 64), // so writePumps rarely wait
		pongs:       make(chan message),
		remote:      make(chan pending.Remote),
		draining:    make(chan struct{}),
		done:        make(chan struct{}),
		connections: make(map[*Conn]bool),
		readers:     make(map[*Conn]bool),
		stream:      s,
		timer:       time.NewTimer(time.Hour),
	}
	h.timer.Stop()
	return h
}

// run serves the Hub's channels until ctx is done. Then it drains, drops all connections and returns. The
// sockets close soon afterwards.
func (h *Hub) run(ctx context.Context) {
	defer close(h.done)
	if h.delivered != nil {
		h.stream.Marks.Merge(h.delivered())
	}
	sweeps := time.NewTicker(pace.SweepPeriod)
	defer sweeps.Stop()
	for h.step(ctx, sweeps.C) {
	}

	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTimeout+time.Second) // readPumps notice it late
	defer cancel()
	h.startDrain()
	for len(h.readers) > 0 && h.step(ctx, sweeps.C) {
	}
	for !h.pending.Empty() {
		h.flush(time.Now())
	}
	for c := range h.connections {
		reason := errGoingAway
		if !h.readers[c] && c.closeReply != nil { // until c unregisters, closeReply is readPump's
			reason = c.closeReply
		}
		h.dropWithRest(c, reason)
	}
}

// step waits for something to happen and acts on it. It returns false when ctx is done.
func (h *Hub) step(ctx context.Context, sweeps <-chan time.Time) bool {
	broadcast := h.broadcast
	if h.pending.LocalFull() {
		broadcast = nil // so readPumps wait, and the peers whose sockets they don't read
	}
	remote := h.remote
	if h.pending.RemoteFull() {
		remote = nil // so the relay waits
	}
	if len(h.connections) == 0 && !h.stored.Behind(h.stream.End().Lines) {
		sweeps = nil // an empty room costs nothing
	}
	select {
	case r := <-h.register:
		h.add(r.conn, r.asked)
	case c := <-h.unregister:
		h.remove(c)
	case m := <-broadcast:
		h.coalesce(m)
	case r := <-remote:
		h.pending.AddRemote(r)
	case c := <-h.more:
		h.catchUp(c)
	case m := <-h.pongs:
		h.sendControl(m.conn, m.frame)
	case r := <-h.stored.Requests():
		r.Answer(h.stream.Since(r.Since))
	case <-h.timer.C:
		h.due = time.Time{}
	case <-sweeps:
		h.sweep()
	case <-ctx.Done():
		return false
	}
	h.flushWhenDue()
	return true
}

// add registers c. The first message to a client that comes back with a position tells where it goes on, and
// the first event how many people there are.
func (h *Hub) add(c *Conn, asked join) {
	h.connections[c] = true
	h.localPeople.Store(int64(len(h.connections)))
	h.readers[c] = true
	h.counters.Connected.Add(1)
	var first []*stream.Frame
	reader := h.stream.NewReader()
	if asked.resumes {
		reader = h.stream.NewReaderSince(asked.since)
		first = append(first, h.announcement(reader.Line()))
	}
	c.out = delivery.New(c.send, reader)
	if asked.events {
		first = append(first, h.greeting(c, asked))
	}
	if len(first) > 0 {
		c.out.Begin(first, asked.resumes)
	}
}

// announcement returns the message EPOCH SEQ END: the position of a client, and how many lines were said
// before it came. It is not joined with lines.
func (h *Hub) announcement(line uint64) *stream.Frame {
	end := h.stream.End().Lines + pending.Count(h.pending.Frames())
	return stream.NewFrame(websocket.TextFrame, fmt.Appendf(nil, "%s %d %d", h.stream.Epoch(), line, end))
}

// greeting subscribes c to events, and returns the first one: the people count and, for a sender, the number of its
// last acknowledged message.
func (h *Hub) greeting(c *Conn, asked join) *stream.Frame {
	e := event.Event{People: h.people()}
	var session *once.Session
	if asked.sender != "" {
		session = h.stream.Senders.Join(asked.sender, asked.acked)
		acked := session.Acked()
		e.Acked = &acked
	}
	c.out.Subscribe(e.People, session)
	return e.Frame()
}

// remove unregisters c, and drops it if that has not happened. While the Hub drains, c stays for the last lines.
func (h *Hub) remove(c *Conn) {
	delete(h.readers, c)
	if session := c.out.Session(); session != nil {
		session.Leave()
	}
	if h.connections[c] && !h.isDraining() {
		h.dropWithRest(c, c.closeReply)
	}
}

// coalesce adds m, and the messages that other connections have ready, to the pending lines.
func (h *Hub) coalesce(m message) {
	for {
		size := len(m.frame.Lines)
		if s := m.conn.out.Session(); s != nil {
			m.frame = m.frame.WithoutLines(s.Receive(uint64(lines.Count(m.frame.Lines))))
		}
		h.pending.Add(m.frame, size)
		if h.pending.LocalFull() {
			return
		}
		select {
		case m = <-h.broadcast:
		default:
			return
		}
	}
}

// flushWhenDue flushes the pending lines if the pace allows it, and else has the timer wake the Hub when it does.
// After one flush the other channels get their turn.
func (h *Hub) flushWhenDue() {
	if h.pending.Empty() {
		return
	}
	now := time.Now()
	due := h.pace.HeldUntil(h.pending.Size())
	if h.isDraining() && h.drainDeadline.Before(due) {
		due = h.drainDeadline
	}
	h.hold.Note(due.After(now), h.counters)
	if written := h.pace.WrittenBy(); !h.pending.Full() && due.Before(written) {
		due = written
	}
	if !due.After(now) {
		h.flush(now)
		due = now
	}
	if !h.pending.Empty() && due != h.due {
		h.due = due
		h.timer.Reset(due.Sub(now))
	}
}

// flush moves pending lines into the stream and broadcasts them. Lines, marks and the senders' numbers change
// together, so that a store keeps all of them or none.
func (h *Hub) flush(now time.Time) {
	h.stream.Senders.Commit()
	frames, repeated := h.pending.Take(h.stream.Marks, now)
	h.counters.RelayKnown.Add(int64(repeated))
	h.publishLocal(now)
	for rest := frames; len(rest) > 0; {
		var f *stream.Frame
		f, rest = stream.Join(rest, new(stream.Frame))
		n := h.stream.Append(f, cmp.Or(f.At, now.UnixMilli()))
		h.fanOut(f)
		h.counters.FanOut(n, len(f.Lines)-n, len(h.connections))
	}
	if len(frames) > 0 {
		h.pace.FannedOut(time.Now(), len(h.connections))
	}
	h.pending.Done()
}

// publishLocal hands the pending local lines to the relay, and marks them, because a relay may bring them back.
func (h *Hub) publishLocal(now time.Time) {
	if h.publish == nil {
		return
	}
	if text := h.pending.Local(); len(text) > 0 {
		origin, first := h.publish(h.name, text, now)
		h.stream.Marks.Accept(origin, first, uint64(lines.Count(text)), now)
	}
}

// fanOut sends f, the newest frame of the stream, to the connections that are not behind. The others will get
// it from the stream.
func (h *Hub) fanOut(f *stream.Frame) {
	shared := []*stream.Frame{f}
	found := pace.NewSurvey(h.stream.End().Lines)
	h.pace.Sent(len(f.Lines))
	for c := range h.connections {
		c.out.Push(h.stream, shared)
		h.note(c, &found)
	}
	h.adopt(found)
}

// note adds c to found, or drops c if it is too far behind.
func (h *Hub) note(c *Conn, found *pace.Survey) {
	if !c.out.Behind() {
		return
	}
	lag := c.out.Lag(h.stream)
	if h.pace.TooFar(lag) {
		h.counters.DroppedSlow.Add(1)
		h.drop(c, nil, errTooSlow)
		return
	}
	found.Add(lag, c.out.Line(), &c.meter)
}

// adopt adopts what a look at all connections has found.
func (h *Hub) adopt(found pace.Survey) {
	h.pace.Look(found)
	h.stream.Trim(found.Needed())
}

// catchUp sends more to c, which asks for it.
func (h *Hub) catchUp(c *Conn) {
	if !h.connections[c] {
		return // dropped since it asked
	}
	before := c.out.Lag(h.stream)
	c.out.More(h.stream)
	h.pace.Changed(before, c.out.Lag(h.stream))
}

// sendControl sends c a control frame.
func (h *Hub) sendControl(c *Conn, f *stream.Frame) {
	if h.connections[c] {
		c.out.Control(h.stream, f)
	}
}

// sweep looks at every connection. It pings a silent one, and drops one that has been silent for pongWait or
// blocked in a write for writeWait.
func (h *Hub) sweep() {
	ping := stream.NewFrame(websocket.PingFrame, nil)
	found := pace.NewSurvey(h.stream.End().Lines)
	for c := range h.connections {
		c.meter.Sweep(c.writes.Bytes(), c.out.Lag(h.stream))
		h.checkSilence(c, ping)
		if h.connections[c] {
			h.note(c, &found)
		}
	}
	h.adopt(found)
	h.sendCounts()
	h.stored.Offer(h.stream.End().Lines)
}

// checkSilence pings or drops c if it is silent or blocked.
func (h *Hub) checkSilence(c *Conn, ping *stream.Frame) {
	if !c.out.Idle() {
		c.silence.Reset() // a ping may still be queued
	}
	silent, blocked := c.silence.Sweep(&c.reads), c.blocked.Sweep(&c.writes)
	switch {
	case blocked >= writeWait:
		h.counters.DroppedSlow.Add(1)
		c.transport.Close()
		h.drop(c, nil, errTooSlow)
	case silent >= pongWait:
		h.counters.DroppedIdle.Add(1)
		c.transport.Close()
		h.drop(c, nil, nil)
	case silent > 0 && silent%pingPeriod == 0:
		h.sendControl(c, ping)
	}
}

// people returns the number of connections in the room, at all chats.
func (h *Hub) people() int { return len(h.connections) + int(h.remotePeople.Load()) }

// sendCounts sends the people count to connections that have another one. In a large room it does so only every few
// sweeps.
func (h *Hub) sendCounts() {
	if h.countIn > 0 {
		h.countIn--
		return
	}
	var count *stream.Frame // shared by all connections
	people := h.people()
	for c := range h.connections {
		if !c.out.NeedsCount(people) {
			continue
		}
		if count == nil {
			count = event.Event{People: people}.Frame()
			h.countIn = (len(h.connections) - 1) / maxCounts
		}
		c.out.Count(h.stream, people, count)
	}
}

// dropWithRest drops c after all that it was not sent yet, pending lines included.
func (h *Hub) dropWithRest(c *Conn, reason *ws.CloseError) {
	before := c.out.Lag(h.stream)
	rest := append(c.out.Rest(h.stream), h.pending.Frames()...)
	h.pace.Changed(before, 0)
	h.drop(c, rest, reason)
}

// drop removes c from the connections and closes its send. Within writeWait, writePump then writes the queue, rest
// and, unless reason is nil, a close frame that says reason. It does nothing if c was dropped before.
func (h *Hub) drop(c *Conn, rest []*stream.Frame, reason *ws.CloseError) {
	if !h.connections[c] {
		return
	}
	h.pace.Changed(c.out.Lag(h.stream), 0)
	delete(h.connections, c)
	h.localPeople.Store(int64(len(h.connections)))
	if len(h.connections) == 0 {
		h.stream.Trim(h.stream.End().Lines) // there may be no sweep to do it
	}
	c.reason = reason
	c.socket.SetWriteDeadline(time.Now().Add(writeWait))
	c.out.Finish(rest)
	close(c.send)
}

// startDrain begins to drain: readPumps read the lines in flight and unregister.
func (h *Hub) startDrain() {
	h.drainDeadline = time.Now().Add(drainTimeout)
	close(h.draining)
	for c := range h.readers {
		c.socket.SetReadDeadline(time.Now()) // wakes readPump
	}
}

// isDraining reports whether the Hub drains or has stopped. Any goroutine may call it.
func (h *Hub) isDraining() bool {
	select {
	case <-h.draining:
		return true
	default:
		return false
	}
}
