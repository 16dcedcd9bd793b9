package main

import (
	"context"
	"log/slog"
	"math"
	"slices"
	"sync"
	"time"

	"golang.org/x/net/websocket"
)

const (
	// The Hub looks at every connection with this period.
	sweepPeriod = time.Second

	// When the chat stops, time for the lines that are on their way; and silence that shows
	// that a peer has no more of them.
	drainTimeout = 5 * time.Second
	drainIdle    = 100 * time.Millisecond
)

// Hub maintains the set of open connections and broadcasts lines to them. One goroutine,
// run, owns all of it; others speak to it through the channels. It never waits for a
// connection.
type Hub struct {
	// Open connections. Only run touches the map, and only run sends on a connection's
	// send channel and closes it.
	connections map[*Conn]bool

	// Connections that have not unregistered, and may broadcast.
	readers map[*Conn]bool

	broadcast  chan []byte       // lines, each with a line break behind it; the Hub keeps them
	register   chan *Conn        // connections that are to hear what is said from now on
	unregister chan *Conn        // connections from which nothing more will be broadcast
	more       chan *Conn        // connections that have taken a batch which has them ask for more
	pongs      chan controlFrame // answers to pings

	// Closed when the Hub drains: until drainDeadline it takes the lines that are on their
	// way, and no new connections.
	draining      chan struct{}
	drainDeadline time.Time

	// Closed when run has returned, and nobody receives from the channels above.
	done chan struct{}

	// Counts the registered connections whose sockets are not closed yet.
	sockets sync.WaitGroup

	counters counters
	peerLog  *slog.Logger // of what peers do; limited

	pending [][]byte // lines for the next frames
	size    int      // bytes of them
	stream  stream   // what was broadcast
	backpressure
}

// controlFrame is a frame for one connection.
type controlFrame struct {
	conn  *Conn
	frame *frame
}

// newHub returns a Hub that holds that many lines for clients that join with ?since=.
func newHub(history int) *Hub {
	return &Hub{
		stream:      newStream(history),
		peerLog:     slog.New(newSparing(slog.Default().Handler())),
		connections: make(map[*Conn]bool),
		readers:     make(map[*Conn]bool),
		broadcast:   make(chan []byte),
		register:    make(chan *Conn),
		unregister:  make(chan *Conn),
		more:        make(chan *Conn, 64), // so that a writePump needn't wait for its turn
		pongs:       make(chan controlFrame),
		draining:    make(chan struct{}),
		done:        make(chan struct{}),
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
	h.flush()
	for c := range h.connections {
		if h.readers[c] || c.closeReply == nil { // it must not be looked at before c unregisters
			h.drop(c, goingAway)
		} else {
			h.drop(c, c.closeReply)
		}
	}
}

// step waits for something to happen, and acts on it. It returns false when ctx is done.
func (h *Hub) step(ctx context.Context, sweeps <-chan time.Time) bool {
	broadcast := h.broadcast
	if h.full() {
		broadcast = nil // so readPumps wait, and the peers whose sockets they don't read
	}
	select {
	case c := <-h.register:
		h.add(c)
	case c := <-h.unregister:
		h.remove(c)
	case lines := <-broadcast:
		h.gather(lines)
	case c := <-h.more:
		h.catchUp(c)
	case p := <-h.pongs:
		h.control(p.conn, p.frame)
	case <-h.pause:
		h.pause = nil
	case <-sweeps:
		h.sweep()
	case <-ctx.Done():
		return false
	}
	switch {
	case h.pause != nil:
	case h.held():
		h.pause = time.After(gatherPause)
	default:
		h.flush()
	}
	return true
}

// add registers c. If it asked for its position in the stream it begins behind, with the
// message that tells it.
func (h *Hub) add(c *Conn) {
	h.connections[c] = true
	h.sockets.Add(1)
	h.readers[c] = true
	h.counters.connected.Add(1)
	c.position = h.stream.end
	if c.since != nil {
		c.position = h.stream.find(*c.since)
		c.missed = h.stream.end.bytes - c.position.bytes
		c.behind = true
		c.send <- batch{[]*frame{h.stream.announce(c.position)}, true}
	}
}

// remove unregisters c, and drops it. When the Hub drains it hears the others to the end.
func (h *Hub) remove(c *Conn) {
	delete(h.readers, c)
	if !h.isDraining() {
		h.drop(c, c.closeReply)
	}
}

// gather keeps lines, and those that others have ready, for the next frames.
func (h *Hub) gather(lines []byte) {
	for {
		h.pending = append(h.pending, lines)
		h.size += len(lines)
		if h.full() {
			return
		}
		select {
		case lines = <-h.broadcast:
		default:
			return
		}
	}
}

// full reports whether enough is pending for one frame.
func (h *Hub) full() bool { return h.size > gatherLimit }

// flush broadcasts what is pending.
func (h *Hub) flush() {
	if len(h.pending) == 0 {
		return
	}
	for len(h.pending) > 0 {
		f := h.join()
		lines := h.stream.add(f)
		h.fanOut(f)
		h.counters.count(lines, len(f.lines)-lines, len(h.connections))
	}
	if h.busy > len(h.connections)/2 {
		h.pause = time.After(gatherPause)
	}
	h.size, h.fannedOut = 0, time.Now()
}

// join makes a frame of as many of the pending lines as one message holds.
func (h *Hub) join() *frame {
	n, size := 1, len(h.pending[0])
	for n < len(h.pending) && size+len(h.pending[n]) <= joinLimit {
		size += len(h.pending[n])
		n++
	}
	f := textFrame(h.pending[:n]...)
	h.pending = slices.Delete(h.pending, 0, n)
	return f
}

// fanOut sends f, the newest frame of the stream, to the connections that have all before
// it. For the others it stays in the stream.
func (h *Hub) fanOut(f *frame) {
	frames := []*frame{f}
	h.startJudging()
	h.longest = max(h.longest, int64(len(f.lines)))
	for c := range h.connections {
		if !c.behind {
			c.position = h.stream.end
			h.send(c, frames, len(f.lines))
		}
		h.judge(c)
	}
	h.stream.trim(h.needed)
}

// send puts frames, of that many bytes, into c's queue. They follow c.position, or are not
// of the stream. When with them as much waits as may, c has to ask for more.
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
	frames, next := h.stream.read(c.position, sendWindow)
	size := int(next.bytes - c.position.bytes)
	c.position = next
	c.missed = min(c.missed, h.stream.end.bytes-next.bytes)
	if frames = append(c.owed, frames...); len(frames) > 0 {
		c.owed = nil
		h.send(c, frames, size)
	}
}

// control sends c a control frame. If c is behind that comes with the next batch, and if too many
// do, instead of the first of them.
func (h *Hub) control(c *Conn, f *frame) {
	switch {
	case !h.connections[c]:
	case !c.behind:
		h.send(c, []*frame{f}, 0)
	default:
		c.owed = append(c.owed[max(0, len(c.owed)+1-maxOwed):], f)
	}
}

// sweep looks at every connection: it pings those that are silent, and breaks off those that
// are for pongWait, or wait for a write for writeWait.
func (h *Hub) sweep() {
	ping := newFrame(websocket.PingFrame, nil)
	h.startJudging()
	for c := range h.connections {
		c.measure(h.lag(c))
		h.judge(c)
		if c.behind || len(c.send) > 0 {
			c.readWatch.same = 0 // the peer may not have been asked yet whether it lives
		}
		silent, blocked := c.readWatch.look(&c.reads), c.writeWatch.look(&c.writes)
		switch {
		case blocked >= writeWait:
			h.counters.tooSlow.Add(1)
			c.transport.Close()
			h.drop(c, tooSlow)
		case silent >= pongWait:
			h.counters.silent.Add(1)
			c.transport.Close()
			h.drop(c, nil)
		case silent > 0 && silent%pingPeriod == 0:
			h.control(c, ping)
		}
	}
	h.stream.trim(h.needed)
}

// watch is what the Hub saw of a pump's progress in its sweeps.
type watch struct {
	last uint64
	same time.Duration // how long it has waited for the same
}

// look returns for how long a pump waits for its peer, up to a sweepPeriod less.
func (w *watch) look(p *progress) time.Duration {
	w.same += sweepPeriod
	if now := p.Load(); now != w.last || now%2 == 0 {
		w.last, w.same = now, 0
	}
	return w.same
}

// drop forgets c and closes its send channel: writePump then writes what is queued there,
// and closeFrame unless that is nil, in writeWait altogether. It does nothing where c has
// been dropped before.
func (h *Hub) drop(c *Conn, closeFrame *closeFrame) {
	if !h.connections[c] {
		return
	}
	delete(h.connections, c)
	if rest := h.rest(c); len(rest) > 0 && closeFrame != tooSlow {
		c.send <- batch{rest, false} // there is always a place for it
	}
	c.closeFrame = closeFrame
	c.socket.SetWriteDeadline(time.Now().Add(writeWait))
	close(c.send)
}

// rest returns what has not been sent to c, and what is pending: c may have said some of that.
func (h *Hub) rest(c *Conn) (frames []*frame) {
	if c.behind {
		frames, _ = h.stream.read(c.position, math.MaxInt)
		frames = append(c.owed, frames...)
	}
	for _, lines := range h.pending {
		frames = append(frames, textFrame(lines))
	}
	return frames
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

// wait waits for run to return, and up to writeWait and closeWait for the last socket to close.
func (h *Hub) wait() {
	<-h.done
	h.sockets.Wait()
}
