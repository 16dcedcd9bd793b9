package main

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"golang.org/x/net/websocket"

	"example.com/chat/assets"
	"example.com/chat/internal/budget"
	"example.com/chat/internal/cpushare"
	"example.com/chat/internal/delivery"
	"example.com/chat/internal/event"
	"example.com/chat/internal/lines"
	"example.com/chat/internal/metrics"
	"example.com/chat/internal/once"
	"example.com/chat/internal/pace"
	"example.com/chat/internal/past"
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

var (
	// errGoingAway is the close frame of a stopping chat. A draining readPump ends with it, too.
	errGoingAway = &ws.CloseError{Code: ws.CloseGoingAway, Reason: "the server is shutting down"}

	// errTooSlow is the close frame for a connection that is too far behind. After a blocked write there is none,
	// because the transport is closed.
	errTooSlow = &ws.CloseError{Code: ws.CloseTryAgainLater, Reason: "you read too slowly"}
)

// Hub maintains the connections of a room and broadcasts lines to them. Its goroutine, run, never waits for a
// connection.
type Hub struct {
	// Set before run.
	name   string // of the room; "" for the nameless room
	shared *shared
	stored *store.Room // handle of the room's lines in -state; nil without -state

	// Set before run, with -relay only.
	publish   publisher
	delivered func() once.Marks // returns the marks with which a new room begins; nil for a restored one

	// Any goroutine sends on these, until done is closed.
	register   chan registration         // new connections
	unregister chan ending               // connections whose readPump broadcasts nothing more
	broadcast  chan connFrame            // frames of lines from connections
	more       chan *Conn                // connections whose writePump has received a batch marked last
	answers    chan connFrame            // pong frames, and events that answer commands, to send
	remote     chan pending.Part         // lines of other chats
	reads      chan chan<- stream.Record // requests for the last lines; run sends one answer

	// Any goroutine reads these; the chat sets remotePeople.
	localPeople  atomic.Int64  // connections that are not dropped
	remotePeople atomic.Int64  // connections in this room at other chats, as last reported
	leaving      atomic.Int64  // connections that are dropped and still write
	draining     chan struct{} // closed by run when the drain begins
	done         chan struct{} // closed by run when it returns; nobody receives from the channels above afterwards

	// Set by run before it closes draining.
	drainDeadline time.Time // after it readPumps read no more lines, and no lines are held back

	// Owned by run, and readable once done is closed.
	connections map[*Conn]bool // registered and not dropped; only run sends on a Conn's send, and closes it
	registered  map[*Conn]bool // connections that have not unregistered, and may broadcast
	pending     pending.Lines  // lines for the next flush
	stream      *stream.Stream // lines that were broadcast
	pace        pace.Pace
	memory      budget.Account // what the room holds
	free        int64          // bytes that the room may hold
	leftAt      uint64         // where the stream began, in bytes, when leaving was last 0
	timer       *time.Timer    // fires at due
	due         time.Time      // when the next flush is due; zero if the timer does not run
	hold        metrics.Hold   // counts the times at which lines are held back
	countIn     int            // sweeps until the next people count
}

// shared is what the Hubs of a chat share. Any goroutine may use it.
type shared struct {
	counters *metrics.Counters
	peerLog  *slog.Logger // limited log of what peers cause
	page     string       // digest of the page's files
	readers  *cpushare.Share
	crowd    *pace.Crowd
	lines    *budget.Budget // memory of the rooms
	asleep   int64          // bytes of lines up to which an empty room runs no sweeps
}

// newShared returns what the Hubs of a chat share. All rooms that are empty hold at most a fifth of the memory for
// lines without looking.
func newShared(cfg *config) *shared {
	lines := cfg.lineMemory()
	return &shared{new(metrics.Counters), metrics.NewPeerLog(), assets.Digest(), cpushare.New(), new(pace.Crowd), budget.New(lines), lines / 5 / int64(1+cfg.rooms)}
}

// publisher puts lines of a room, each ended by '\n', into the outbox, which owns text afterwards. It returns the
// origin of this chat and the number of the first line.
type publisher func(room string, text []byte, at time.Time) (origin string, first uint64)

// registration is a new connection with the query of its handshake.
type registration struct {
	conn  *Conn
	asked join
}

// ending is a connection that broadcasts nothing more, with the close frame that answers the end of its input,
// or nil.
type ending struct {
	conn  *Conn
	reply *ws.CloseError
}

// connFrame is a frame of lines that conn has sent, or an answer that conn must get.
type connFrame struct {
	conn  *Conn
	frame *stream.Frame
}

// newHub returns a Hub for the named room that continues s. The caller sets stored, publish and delivered.
func newHub(name string, s *stream.Stream, all *shared) *Hub {
	h := &Hub{
		name:        name,
		shared:      all,
		register:    make(chan registration),
		unregister:  make(chan ending),
		broadcast:   make(chan connFrame),
		more:        make(chan *Conn, 64), // so writePumps rarely wait
		answers:     make(chan connFrame),
		remote:      make(chan pending.Part),
		reads:       make(chan chan<- stream.Record),
		draining:    make(chan struct{}),
		done:        make(chan struct{}),
		connections: make(map[*Conn]bool),
		registered:  make(map[*Conn]bool),
		stream:      s,
		pace:        pace.New(all.crowd),
		memory:      all.lines.Account(),
		timer:       time.NewTimer(time.Hour),
	}
	h.timer.Stop()
	h.trim(s.End().Lines)
	return h
}

// run serves the Hub's channels until ctx is done. Then it drains, drops all connections and returns. The
// sockets close soon afterwards.
func (h *Hub) run(ctx context.Context) {
	defer close(h.done)
	if h.delivered != nil { // not in startLocked, which holds chat.mu, because delivered takes another lock
		h.stream.Marks.Merge(h.delivered())
	}
	sweeps := time.NewTicker(pace.SweepPeriod)
	defer sweeps.Stop()
	for h.step(ctx, sweeps.C) {
	}

	// A second more than the drain, because a busy readPump notices it late.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTimeout+time.Second)
	defer cancel()
	h.startDrain()
	for len(h.registered) > 0 && h.step(ctx, sweeps.C) {
	}
	for !h.pending.Empty() {
		h.flush(time.Now())
	}
	for c := range h.connections {
		h.dropWithRest(c, cmp.Or(c.reply, errGoingAway))
	}
	h.pace.End()
	h.memory.Hold(0)
}

// step handles one event of the Hub's channels, ticker or timer, and then flushes pending lines if that is due. It
// returns false when ctx is done. Only run calls it and the methods below, except isDraining.
func (h *Hub) step(ctx context.Context, sweeps <-chan time.Time) bool {
	broadcast := h.broadcast
	if h.pending.LocalFull() {
		broadcast = nil // readPumps wait, so they read nothing, and the TCP windows of their peers fill up
	}
	remote := h.remote
	if h.pending.RemoteFull() || int64(h.pending.RemoteSize()) > h.free {
		remote = nil // the relay waits
	}
	if len(h.connections) == 0 && h.leaving.Load() == 0 && !h.pace.Flooded() && !h.stored.Lacks(h.stream.End().Lines) && h.copies()*h.stream.Size() <= h.shared.asleep {
		sweeps = nil // no tick wakes the Hub of an empty room whose lines are few and stored
	}
	select {
	case r := <-h.register:
		h.add(r.conn, r.asked)
	case e := <-h.unregister:
		h.remove(e.conn, e.reply)
	case m := <-broadcast:
		h.coalesce(m)
	case r := <-remote:
		h.pending.AddRemote(r)
		h.free = h.memory.Hold(h.size())
	case c := <-h.more:
		h.catchUp(c)
	case m := <-h.answers:
		h.sendControl(m.conn, m.frame)
	case answer := <-h.reads:
		answer <- h.stream.Last(past.MaxLines, past.MaxBytes)
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

// add registers c. If the client resumes, its first message announces its position. If it gets events, its
// first event has the people count.
func (h *Hub) add(c *Conn, asked join) {
	h.connections[c] = true
	h.localPeople.Store(int64(len(h.connections)))
	h.registered[c] = true
	h.shared.counters.Connected.Add(1)
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

// announcement returns the message EPOCH SEQ END for a client. SEQ is line, the number of lines before the next one
// that the client gets. END counts the lines of the stream and the pending local lines. The message is not joined
// with lines.
func (h *Hub) announcement(line uint64) *stream.Frame {
	end := h.stream.End().Lines + pending.Count(h.pending.Frames())
	return stream.NewFrame(websocket.TextFrame, fmt.Appendf(nil, "%s %d %d", h.stream.Epoch(), line, end))
}

// greeting subscribes c to events, and returns the first one: the people count, the digest of the page and, for a
// sender, the number of its last acknowledged message.
func (h *Hub) greeting(c *Conn, asked join) *stream.Frame {
	e := event.Event{People: h.people(), Page: h.shared.page}
	var session *once.Session
	if asked.sender != "" {
		session = h.stream.Senders.Join(asked.sender, asked.acked)
		acked := session.Acked()
		e.Acked = &acked
	}
	c.out.Subscribe(e.People, session)
	return e.Frame()
}

// remove unregisters c, and drops c unless it was dropped before. A connection that is behind is dropped when it has
// caught up, so that the lines for it are in the stream and count. While the Hub drains, remove does not drop c,
// because c still gets the last lines.
func (h *Hub) remove(c *Conn, reply *ws.CloseError) {
	delete(h.registered, c)
	c.reply = reply
	if session := c.out.Session(); session != nil {
		session.Leave()
	}
	if !c.out.Behind() {
		h.dropEnded(c)
	}
}

// dropEnded drops a connection that is not registered, unless the Hub drains.
func (h *Hub) dropEnded(c *Conn) {
	if h.connections[c] && !h.isDraining() {
		h.dropWithRest(c, c.reply)
	}
}

// coalesce adds the lines of m, and those that other connections have ready, to the pending lines. It leaves
// out lines that a sender repeats, and stops when local lines fill a flush.
func (h *Hub) coalesce(m connFrame) {
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

// flushWhenDue flushes if the pace allows it now, and otherwise sets the timer. It flushes only once, so that
// the other channels get their turn before the rest of the remote lines.
func (h *Hub) flushWhenDue() {
	if h.pending.Empty() {
		return
	}
	now := time.Now()
	due, heldBack := h.pace.Due(now, h.pending.Size(), h.pending.Full(), h.drainDeadline)
	h.hold.Note(heldBack, h.shared.counters)
	if !due.After(now) {
		h.flush(now)
		due = now
	}
	if h.pending.Empty() {
		return
	}
	h.pace.Waits()
	if !due.Equal(h.due) {
		h.due = due
		h.timer.Reset(due.Sub(now))
	}
}

// flush moves pending lines into the stream and broadcasts them. Lines, marks and the senders' numbers change
// together, so that a store keeps all of them or none.
func (h *Hub) flush(now time.Time) {
	h.stream.Senders.Commit()
	frames, repeated, refused := h.pending.Take(h.stream.Marks, now)
	h.shared.counters.RelayKnown.Add(int64(repeated))
	if refused > 0 {
		h.shared.peerLog.Warn("lines of another chat refused: their numbers are too high", "room", h.name, "lines", refused)
	}
	h.publishLocal(now)
	for rest := frames; len(rest) > 0; {
		var f *stream.Frame
		f, rest = stream.Join(rest, new(stream.Frame))
		n := h.stream.Append(f, cmp.Or(f.At, now.UnixMilli()))
		h.fanOut(f)
		h.shared.counters.FanOut(n, len(f.Lines)-n, len(h.connections))
	}
	if len(frames) > 0 {
		h.shared.readers.Count(h.pace.FannedOut(time.Now(), len(h.connections)))
	}
	h.pending.Done()
}

// publishLocal gives the pending local lines to the relay, and accepts their numbers in the room's marks. So
// the room drops these lines if a relay sends them back.
func (h *Hub) publishLocal(now time.Time) {
	if h.publish == nil {
		return
	}
	if text := h.pending.Local(); len(text) > 0 {
		origin, first := h.publish(h.name, text, now)
		h.stream.Marks.Accept(origin, first, uint64(lines.Count(text)), now)
	}
}

// fanOut sends f, the newest frame of the stream, to the connections that are not behind, and surveys all
// connections. A connection that is behind gets f from the stream later, and is dropped if it is too far
// behind.
func (h *Hub) fanOut(f *stream.Frame) {
	shared := []*stream.Frame{f}
	found := h.pace.NewSurvey(h.stream.End().Lines, h.free)
	h.pace.Sent(len(f.Lines))
	for c := range h.connections {
		c.out.Push(h.stream, shared)
		h.surveyConn(c, &found)
	}
	h.pace.SetSurvey(found)
	h.trim(found.Needed())
}

// trim drops the frames of the stream that lie before the history and before the line needed. If the room holds
// more than it may, it keeps less history.
func (h *Hub) trim(needed uint64) {
	free := h.memory.Hold(h.size())
	copies := h.copies()
	rest := h.size() - copies*h.stream.Size()
	if h.stream.Trim(needed, (free-rest)/copies) {
		h.stored.Shrink()
	}
	h.free = h.memory.Hold(h.size())
}

// copies returns how often each line counts: twice with a store, which keeps the frames that it wrote last.
func (h *Hub) copies() int64 {
	if h.stored != nil {
		return 2
	}
	return 1
}

// size returns about the number of bytes that the room holds, besides what each connection costs. A connection that
// is behind, or was dropped and still writes, holds frames that the stream may no longer hold.
func (h *Hub) size() int64 {
	size := h.copies()*h.stream.Size() + h.pending.Held()
	queue := max(stream.JoinLimit, h.pace.Longest())
	size += min(h.leaving.Load()*queue, int64(h.stream.Start().Bytes-h.leftAt))
	if len(h.connections) > 0 && h.pace.Behind(h.stream.End().Lines) {
		size += 2 * queue // in a queue and in a write
	}
	return size
}

// surveyConn adds c to found if c is behind, or drops c if it is too far behind.
func (h *Hub) surveyConn(c *Conn, found *pace.Survey) {
	if !c.out.Behind() {
		return
	}
	lag := c.out.Lag(h.stream)
	if h.pace.TooFar(lag) {
		h.shared.counters.DroppedSlow.Add(1)
		h.drop(c, nil, errTooSlow)
		return
	}
	found.Add(lag, c.out.Line(), &c.meter)
}

// catchUp sends c the next frames, after its writePump has asked for more.
func (h *Hub) catchUp(c *Conn) {
	if !h.connections[c] {
		return // dropped since it asked
	}
	before := c.out.Lag(h.stream)
	c.out.More(h.stream)
	h.pace.Changed(before, c.out.Lag(h.stream))
	if !h.registered[c] && !c.out.Behind() {
		h.dropEnded(c)
	}
}

// sendControl sends c a frame without lines, unless c was dropped.
func (h *Hub) sendControl(c *Conn, f *stream.Frame) {
	if h.connections[c] {
		c.out.Control(h.stream, f)
	}
}

// sweep pings connections that are silent, and drops those that were silent for pongWait or blocked in a write for
// writeWait. It sends heartbeats and people counts that are due, and offers the stream to the store.
func (h *Hub) sweep() {
	beat := delivery.NewBeat()
	found := h.pace.NewSurvey(h.stream.End().Lines, h.free)
	for c := range h.connections {
		c.meter.Sweep(c.writes.Bytes(), found.Lags(c.out.Lag(h.stream)))
		ping := h.checkSilence(c)
		if h.connections[c] {
			c.out.Sweep(h.stream, beat, ping)
			h.surveyConn(c, &found)
		}
	}
	h.pace.SetSurvey(found)
	h.pace.Sweep()
	h.trim(found.Needed())
	h.sendCounts()
	h.stored.Offer(h.stream.End().Lines)
}

// checkSilence closes and drops c if it was silent or blocked for too long. It reports whether a ping is due.
func (h *Hub) checkSilence(c *Conn) (ping bool) {
	if !c.out.Idle() {
		c.silence.Reset() // a ping may still be queued, so silence proves nothing
	}
	silent, blocked := c.silence.Sweep(&c.reads), c.blocked.Sweep(&c.writes)
	switch {
	case blocked >= writeWait:
		h.shared.counters.DroppedSlow.Add(1)
		c.transport.Close()
		h.drop(c, nil, errTooSlow)
	case silent >= pongWait:
		h.shared.counters.DroppedIdle.Add(1)
		c.transport.Close()
		h.drop(c, nil, nil)
	}
	return silent > 0 && silent%pingPeriod == 0
}

// people returns the number of connections in the room, at all chats.
func (h *Hub) people() int { return len(h.connections) + int(h.remotePeople.Load()) }

// sendCounts sends the people count to the connections that have an older one. In a large room it does so only
// every few sweeps.
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

// dropWithRest drops c after all frames of the stream and pending lines that c lacks.
func (h *Hub) dropWithRest(c *Conn, reason *ws.CloseError) {
	h.drop(c, append(c.out.Rest(h.stream), h.pending.Frames()...), reason)
}

// drop removes c from the connections and closes c.send, unless c was dropped before. writePump then has
// writeWait to write the queue, rest, and reason as a close frame, unless reason is nil.
func (h *Hub) drop(c *Conn, rest []*stream.Frame, reason *ws.CloseError) {
	if !h.connections[c] {
		return
	}
	h.pace.Changed(c.out.Lag(h.stream), 0)
	delete(h.connections, c)
	h.localPeople.Store(int64(len(h.connections)))
	if h.leaving.Add(1) == 1 {
		h.leftAt = h.stream.Start().Bytes
	}
	if len(h.connections) == 0 {
		h.trim(h.stream.End().Lines) // an empty room may have no sweep that trims the stream
	}
	c.reason = reason
	c.socket.SetWriteDeadline(time.Now().Add(writeWait))
	c.out.Finish(rest)
	close(c.send)
}

// startDrain makes every readPump read the lines in flight and unregister.
func (h *Hub) startDrain() {
	h.drainDeadline = time.Now().Add(drainTimeout)
	close(h.draining)
	for c := range h.registered {
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
