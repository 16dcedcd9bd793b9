package main

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"slices"
	"sync/atomic"
	"time"

	"golang.org/x/net/websocket"

	"example.com/chat/internal/state"
	"example.com/chat/internal/ws"
)

// Close frames that the server begins with.
var (
	errGoingAway = &ws.CloseError{Code: ws.CloseGoingAway, Reason: "the server is shutting down"}
	errTooSlow   = &ws.CloseError{Code: ws.CloseTryAgainLater, Reason: "you read too slowly"}
)

const (
	// The Hub looks at every connection with this period.
	sweepPeriod = time.Second

	// When the chat stops, time to read the lines that are on their way; and silence that shows
	// that a peer has no more of them.
	drainTimeout = 5 * time.Second
	drainIdle    = 100 * time.Millisecond
)

// Hub maintains the set of open connections of a room and broadcasts lines to them. One goroutine,
// run, owns its fields. Others send on the channels, wait for draining and done, read rooms and name, use the
// atomics, and read drainDeadline once draining is closed, and stream once done is. The Hub never waits for
// a connection.
type Hub struct {
	// Open connections. Only run sends on a connection's send channel, and closes it.
	connections map[*Conn]bool

	// Connections that have not unregistered, and may broadcast.
	readers map[*Conn]bool

	broadcast  chan connFrame   // lines
	register   chan *Conn       // new connections
	unregister chan *Conn       // connections from which nothing more will be broadcast
	more       chan *Conn       // connections whose writePump has taken a batch that is marked more
	pongs      chan connFrame   // answers to pings
	remote     chan remoteFrame // lines that were said at other chats

	// Closed when the Hub drains: until drainDeadline it takes the lines that are on their
	// way, and of new connections only those that had entered the room.
	draining      chan struct{}
	drainDeadline time.Time

	// Closed when run has returned, and nobody receives from the channels above.
	done chan struct{}

	rooms *rooms
	name  string // of the room

	saved     atomic.Int64             // up to which line the keeper has written the stream, or -1
	isDue     bool                     // the keeper will ask for a snapshot
	snapshots chan chan<- state.Stream // where it asks

	pending []*frame // for the next fan-outs
	local   [][]byte // pending lines that were said here, for the relay
	size    int      // bytes of lines that came since the last flush
	stream  stream   // what was broadcast

	remoteQueue
	here      atomic.Int64 // connections
	elsewhere atomic.Int64 // people in this room at other chats, as far as is known

	unacknowledged []*sender // who are to be told with the next flush; one may stand here several times

	backpressure

	untold int // sweeps left in which nobody is told how many people there are
}

// connFrame is a frame that came from a connection, or an answer to it.
type connFrame struct {
	conn  *Conn
	frame *frame
}

// newHub returns the Hub of a room, which goes on with a stream.
func newHub(r *rooms, name string, s stream) *Hub {
	h := &Hub{
		rooms:       r,
		name:        name,
		stream:      s,
		connections: make(map[*Conn]bool),
		readers:     make(map[*Conn]bool),
		broadcast:   make(chan connFrame),
		register:    make(chan *Conn),
		unregister:  make(chan *Conn),
		more:        make(chan *Conn, 64), // writePumps rarely wait
		pongs:       make(chan connFrame),
		remote:      make(chan remoteFrame),
		draining:    make(chan struct{}),
		done:        make(chan struct{}),
		snapshots:   make(chan chan<- state.Stream),
	}
	h.saved.Store(s.saved)
	return h
}

// snapshot returns what is to be written of the stream, unless the Hub has stopped. The keeper calls it.
func (h *Hub) snapshot() (s state.Stream, ok bool) {
	answer := make(chan state.Stream, 1)
	select {
	case h.snapshots <- answer:
		return <-answer, true
	case <-h.done:
		return state.Stream{}, false
	}
}

// run serves the Hub's channels until ctx is done. Then it drains, closes all connections
// and returns; the sockets close by themselves soon after.
func (h *Hub) run(ctx context.Context) {
	defer close(h.done)
	sweeps := time.NewTicker(sweepPeriod)
	defer sweeps.Stop()
	for h.step(ctx, sweeps.C) {
	}

	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTimeout+time.Second) // readPumps notice it late
	defer cancel()
	h.startDrain()
	for len(h.readers) > 0 && h.step(ctx, sweeps.C) {
	}
	for len(h.pending)+len(h.waiting) > 0 {
		h.flush()
	}
	for c := range h.connections {
		if h.readers[c] || c.closeReply == nil { // it must not be looked at before c unregisters
			h.drop(c, h.unsent(c), errGoingAway)
		} else {
			h.drop(c, h.unsent(c), c.closeReply)
		}
	}
}

// atOnce is a pause that is over at once.
var atOnce = func() <-chan time.Time {
	over := make(chan time.Time)
	close(over)
	return over
}()

// step waits for something to happen, and acts on it. It returns false when ctx is done.
func (h *Hub) step(ctx context.Context, sweeps <-chan time.Time) bool {
	broadcast := h.broadcast
	if h.full() {
		broadcast = nil // so readPumps wait, and the peers whose sockets they don't read
	}
	remote := h.remote
	if h.waitingCost > maxRemote {
		remote = nil // so the relay waits
	}
	if len(h.connections) == 0 && !h.rooms.keeper.wants(h) {
		sweeps = nil // an empty room costs nothing
	}
	select {
	case c := <-h.register:
		h.add(c)
	case c := <-h.unregister:
		h.remove(c)
	case f := <-broadcast:
		h.coalesce(f)
	case f := <-remote:
		h.enqueue(f)
	case c := <-h.more:
		h.catchUp(c)
	case p := <-h.pongs:
		h.sendControl(p.conn, p.frame)
	case answer := <-h.snapshots:
		h.isDue = false
		answer <- h.stream.snapshot()
	case <-h.pause:
		h.pause = nil
	case <-sweeps:
		h.sweep()
	case <-ctx.Done():
		return false
	}
	if h.pause == nil || h.enough() {
		h.flushOrWait()
	}
	return true
}

// add registers c. If it asked for its position in the stream, it starts behind, and its first batch
// is the message that tells it.
func (h *Hub) add(c *Conn) {
	h.connections[c] = true
	h.here.Store(int64(len(h.connections)))
	h.readers[c] = true
	h.rooms.counters.connected.Add(1)
	c.position = h.stream.end
	var first []*frame
	if c.since != nil {
		c.position = h.stream.find(*c.since)
		c.missed = h.stream.end.bytes - c.position.bytes
		first = append(first, h.announcement(c.position))
	}
	if c.events {
		first = append(first, h.greeting(c))
	}
	if len(first) > 0 {
		c.behind = c.since != nil
		c.send <- batch{first, c.behind}
	}
	c.since = nil // an idle connection holds little
}

// announcement returns the message that tells a client its position and, in END, how many lines were
// said before it came: EPOCH SEQ END. It is not joined with lines.
func (h *Hub) announcement(p position) *frame {
	end := h.stream.end.lines
	for _, f := range h.pending {
		end += uint64(countLines(f.lines))
	}
	return newFrame(websocket.TextFrame, fmt.Appendf(nil, "%s %d %d", h.stream.epoch, p.lines, end))
}

// remove unregisters c, and drops it if that has not happened. While the Hub drains, c stays for the
// last lines.
func (h *Hub) remove(c *Conn) {
	delete(h.readers, c)
	if c.sender != nil {
		h.stream.senders.leave(c, c.sender)
	}
	if h.connections[c] && !h.isDraining() {
		h.drop(c, h.unsent(c), c.closeReply)
	}
}

// coalesce keeps f, and the frames that others have ready, for the next fan-out.
func (h *Hub) coalesce(f connFrame) {
	for {
		h.size += len(f.frame.lines)
		if f.conn.sender != nil {
			f.frame = h.dropRepeated(f.conn, f.frame)
		}
		if f.frame != nil {
			h.pending = append(h.pending, f.frame)
			if h.rooms.relays != nil {
				h.local = append(h.local, f.frame.lines)
			}
		}
		if h.full() {
			return
		}
		select {
		case f = <-h.broadcast:
		default:
			return
		}
	}
}

// full reports whether enough of what was said here is pending for one frame.
func (h *Hub) full() bool { return h.size > coalesceLimit }

// enough reports whether there is enough for one frame, with what waits from other chats.
func (h *Hub) enough() bool { return h.size+h.waitingCost > coalesceLimit }

// flushOrWait flushes what may go, or sets a pause. If lines of other chats are left over, all channels are
// looked at before the next flush.
func (h *Hub) flushOrWait() {
	if wait := h.wait(); wait <= 0 {
		h.pause = nil
		h.flush()
	} else if h.pause == nil {
		h.pause = time.After(wait)
	}
	if h.pause == nil && len(h.waiting) > 0 {
		h.pause = atOnce
	}
}

// flush broadcasts what is pending, and what waits from other chats.
func (h *Hub) flush() {
	h.acknowledge()
	h.takeRemote()
	h.size = 0
	if len(h.pending) == 0 {
		return
	}
	now := time.Now()
	h.passOn(now)
	for pending := h.pending; len(pending) > 0; {
		var f *frame
		f, pending = join(pending, new(frame))
		lines := h.stream.add(f, cmp.Or(f.said, now.UnixMilli()))
		h.fanOut(f)
		h.rooms.counters.count(lines, len(f.lines)-lines, len(h.connections))
	}
	clear(h.pending)
	h.pending = h.pending[:0]
	h.fannedOut = time.Now()
}

// fanOut sends f, the newest frame of the stream, to the connections that have all before
// it. For the others it stays in the stream.
func (h *Hub) fanOut(f *frame) {
	frames := []*frame{f}
	h.resetLag()
	h.longest = max(h.longest, int64(len(f.lines)))
	for c := range h.connections {
		if !c.behind {
			c.position = h.stream.end
			h.send(c, frames, len(f.lines))
		}
		h.checkLag(c)
	}
	h.stream.trim(h.needed)
}

// send puts frames, of size bytes, into c's queue. c is not behind. If the queue is full with them,
// or more of the stream follows, c must ask for more.
func (h *Hub) send(c *Conn, frames []*frame, size int) {
	if len(c.send) == 0 {
		c.queued = 0
	}
	c.queued += size
	c.behind = c.position != h.stream.end || c.queued >= sendWindow || len(c.send) == maxBatches-1
	c.send <- batch{frames, c.behind}
}

// catchUp sends c what follows its position.
func (h *Hub) catchUp(c *Conn) {
	if !h.connections[c] {
		return // dropped since it asked
	}
	c.behind = false
	held, next := h.stream.read(c.position, sendWindow)
	size := int(next.bytes - c.position.bytes)
	c.position = next
	c.missed = min(c.missed, h.stream.end.bytes-next.bytes)
	if frames := h.batch(c, held); len(frames) > 0 {
		h.send(c, frames, size)
	}
}

// batch returns what c, which is behind, gets next: the control frames that wait with it, events,
// and frames of the stream.
func (h *Hub) batch(c *Conn, held []heldFrame) []*frame {
	frames := c.pendingControl
	c.pendingControl = nil
	if c.events {
		frames = c.appendEvent(frames, held)
	}
	for _, f := range held {
		frames = append(frames, f.frame)
	}
	return frames
}

// sendControl sends c a control frame. If c is behind, the frame comes with the next batch; of too
// many the newest are sent.
func (h *Hub) sendControl(c *Conn, f *frame) {
	switch {
	case !h.connections[c]:
	case !c.behind:
		h.send(c, []*frame{f}, 0)
	default:
		c.pendingControl = append(c.pendingControl[max(0, len(c.pendingControl)+1-maxPendingControl):], f)
	}
}

// sweep looks at every connection: it pings those that are silent, and closes those that have been
// silent for pongWait, or in one write for writeWait. What else is due once in a while is done, too.
func (h *Hub) sweep() {
	ping := newFrame(websocket.PingFrame, nil)
	h.resetLag()
	for c := range h.connections {
		c.measure(h.lag(c))
		h.checkLag(c)
		if !h.connections[c] {
			continue
		}
		if c.behind || len(c.send) > 0 {
			c.readWatch.same = 0 // a ping may still be queued
		}
		silent, blocked := c.readWatch.look(&c.reads), c.writeWatch.look(&c.writes)
		switch {
		case blocked >= writeWait:
			h.rooms.counters.droppedSlow.Add(1)
			c.transport.Close()
			h.drop(c, nil, errTooSlow)
		case silent >= pongWait:
			h.rooms.counters.droppedIdle.Add(1)
			c.transport.Close()
			h.drop(c, nil, nil)
		case silent > 0 && silent%pingPeriod == 0:
			h.sendControl(c, ping)
		}
	}
	h.stream.trim(h.needed)
	h.tellPeople()
	h.rooms.keeper.offer(h)
}

// watch measures in sweeps for how long a pump has waited in one call.
type watch struct {
	last uint64        // the pump's progress at the last sweep
	same time.Duration // for how long it has been last
}

// look returns for how long a pump has waited for its peer, up to a sweepPeriod less; 0 if it doesn't.
func (w *watch) look(p *progress) time.Duration {
	w.same += sweepPeriod
	if now := p.Load(); now != w.last || now%2 == 0 {
		w.last, w.same = now, 0
	}
	return w.same
}

// drop removes c from the connections and closes its send channel: writePump then writes what is
// queued there, rest, and closeFrame unless that is nil, within writeWait. It does nothing if c was
// dropped before.
func (h *Hub) drop(c *Conn, rest []*frame, closeFrame *ws.CloseError) {
	if !h.connections[c] {
		return
	}
	delete(h.connections, c)
	h.here.Store(int64(len(h.connections)))
	if len(h.connections) == 0 {
		h.stream.trim(h.stream.end.lines) // there may be no sweep to do it
	}
	if len(rest) > 0 {
		c.send <- batch{rest, false} // there is always a place for it
	}
	c.closeFrame = closeFrame
	c.socket.SetWriteDeadline(time.Now().Add(writeWait))
	close(c.send)
}

// unsent returns all frames that c has not been sent, pending ones included.
func (h *Hub) unsent(c *Conn) (frames []*frame) {
	if c.behind {
		held, _ := h.stream.read(c.position, math.MaxUint64)
		frames = h.batch(c, held)
	}
	if s := c.sender; s != nil && c.toldTaken != s.received {
		frames = append(frames, event{Taken: &s.received}.frame()) // with what is pending
	}
	return slices.Concat(frames, h.pending)
}

// startDrain has the readPumps take the lines that are on their way, and end.
func (h *Hub) startDrain() {
	h.drainDeadline = time.Now().Add(drainTimeout)
	close(h.draining)
	for c := range h.readers {
		c.socket.SetReadDeadline(time.Now()) // wakes readPump
	}
}

// isDraining reports whether the Hub drains, or has stopped. Any goroutine may call it.
func (h *Hub) isDraining() bool {
	select {
	case <-h.draining:
		return true
	default:
		return false
	}
}
