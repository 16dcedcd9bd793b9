// hub.go: the Hub, which knows who is connected and hands every line to all of them.

package main

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"

	"golang.org/x/net/websocket"
)

// Hub keeps the set of open connections and broadcasts lines to them. One
// goroutine, run, owns the set; everyone else speaks to it through channels.
// It never waits for a connection.
type Hub struct {
	// Open connections. Only run touches the map, and only run sends on a
	// connection's send channel and closes it.
	connections map[*Conn]bool

	// Lines from the readPumps, joined by '\n', behind maxHeader bytes. They belong to
	// the Hub once they are sent here.
	broadcast chan []byte

	// Connections that are to hear what is said from now on.
	register chan *Conn

	// Connections from which nothing more will be broadcast.
	unregister chan *Conn

	// Closed when the Hub stops: it hears what has been said already, and no more.
	lastCall chan struct{}

	// Closed when run has returned, and nobody receives from the channels above.
	done chan struct{}

	// Counts the registered connections whose sockets are not closed yet.
	sockets sync.WaitGroup

	// What has happened so far; and a log of what peers do, within bounds.
	counters counters
	peerLog  *slog.Logger

	// What has been gathered for the next fan-out, as it came from the readPumps, and
	// how many bytes that is.
	gathered [][]byte
	size     int

	// When it is time for that.
	pace pace

	// What has been fanned out.
	history history

	// Connections that have not unregistered, and may broadcast; and those that have, but
	// whose own last words may be among what is gathered.
	speakers map[*Conn]bool
	leaving  []*Conn
}

// newHub returns a Hub that holds so many lines for those who ask for them.
func newHub(history int) *Hub {
	return &Hub{
		history:     newHistory(history),
		peerLog:     slog.New(newSparing(slog.Default().Handler())),
		connections: make(map[*Conn]bool),
		speakers:    make(map[*Conn]bool),
		broadcast:   make(chan []byte),
		register:    make(chan *Conn),
		unregister:  make(chan *Conn),
		lastCall:    make(chan struct{}),
		done:        make(chan struct{}),
	}
}

// run serves the Hub's channels until ctx is done. Then it hands on what has been said
// already, which takes up to lastWords, takes leave of everyone and returns; the sockets
// close by themselves soon after.
func (h *Hub) run(ctx context.Context) {
	defer close(h.done)
	pings := time.NewTicker(pingPeriod)
	defer pings.Stop()
	for h.step(ctx, pings.C) {
	}

	close(h.lastCall)
	for c := range h.speakers {
		c.hurry()
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastWords)
	defer cancel()
	for len(h.speakers) > 0 && h.step(ctx, nil) {
	}
	h.flush()
	h.release()
	for c := range h.connections {
		h.drop(c, goingAway)
	}
}

// step waits for something to happen, and acts on it. It returns false when ctx is done.
func (h *Hub) step(ctx context.Context, pings <-chan time.Time) bool {
	lines := h.broadcast
	if h.full() {
		lines = nil // whoever has something to say waits, and so do those who send it
	}
	select {
	case c := <-h.register:
		h.add(c)
	case c := <-h.unregister:
		delete(h.speakers, c)
		h.leaving = append(h.leaving, c)
	case l := <-lines:
		h.gather(l)
	case <-h.pace.pause:
		h.pace.pause = nil
	case <-pings:
		h.fanOut(controlFrame(websocket.PingFrame, nil))
	case <-ctx.Done():
		return false
	}
	if len(h.gathered) == 0 || h.pace.allows() {
		h.flush()
	}
	return true
}

// add adds c, and tells it its place in the stream if it has asked for one.
func (h *Hub) add(c *Conn) {
	h.connections[c] = true
	h.sockets.Add(1)
	h.speakers[c] = true
	h.counters.connected.Add(1)
	h.pace.welcome()
	if c.since != nil {
		at, past := h.history.after(*c.since)
		c.past = past
		c.send <- textFrame(append(make([]byte, maxHeader), at.String()...))
	}
}

// gather keeps lines, and those that others have ready, for the next fan-out.
func (h *Hub) gather(lines []byte) {
	for {
		h.gathered = append(h.gathered, lines)
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

// full reports whether enough is gathered for one fan-out.
func (h *Hub) full() bool { return h.size > gatherLimit }

// flush fans out what is gathered, and lets go of those who are leaving: but at the last
// call everyone is, and hears the others to the end.
func (h *Hub) flush() {
	if len(h.gathered) > 0 {
		for len(h.gathered) > 0 {
			f := textFrame(h.join())
			lines := h.history.add(f)
			h.fanOut(f)
			h.counters.count(lines, len(f.lines())-lines, len(h.connections))
		}
		h.size = 0
		h.pace.set()
	}
	if !h.stopping() {
		h.release()
	}
}

// release lets go of those who are leaving.
func (h *Hub) release() {
	for _, c := range h.leaving {
		h.drop(c, c.answer)
	}
	h.leaving = slices.Delete(h.leaving, 0, len(h.leaving))
}

// join takes as many of the gathered lines as one message holds, behind maxHeader
// bytes.
func (h *Hub) join() []byte {
	n, size := 1, len(h.gathered[0])
	for n < len(h.gathered) && size+len(h.gathered[n])-maxHeader < joinLimit {
		size += 1 + len(h.gathered[n]) - maxHeader
		n++
	}
	lines := h.gathered[0]
	if n > 1 {
		lines = append(make([]byte, 0, size+1), lines...) // textFrame adds a byte
	}
	for _, more := range h.gathered[1:n] {
		lines = append(append(lines, '\n'), more[maxHeader:]...)
	}
	h.gathered = slices.Delete(h.gathered, 0, n)
	return lines
}

// fanOut queues f for every connection. One whose queue is full belongs to a peer that
// is dead or stuck, or far slower than most, and is let go.
func (h *Hub) fanOut(f *frame) {
	h.pace.begin()
	for c := range h.connections {
		select {
		case c.send <- f:
			h.pace.see(c)
		default:
			h.drop(c, tooSlow)
			h.counters.tooSlow.Add(1)
		}
	}
}

// drop forgets c and closes its send channel: writePump then writes what is
// queued there, and farewell unless that is nil. It does nothing where c has
// been dropped before.
func (h *Hub) drop(c *Conn, farewell *closeFrame) {
	if !h.connections[c] {
		return
	}
	delete(h.connections, c)
	c.farewell = farewell
	c.dropped.Store(true)
	close(c.send)
}

// stopping reports whether the Hub stops, or has stopped.
func (h *Hub) stopping() bool {
	select {
	case <-h.lastCall:
		return true
	default:
		return false
	}
}

// wait waits until run has returned, and up to closeWait for the last socket to be closed.
func (h *Hub) wait() {
	<-h.done
	closed := make(chan struct{})
	go func() {
		h.sockets.Wait()
		close(closed)
	}()
	select {
	case <-closed:
	case <-time.After(closeWait):
	}
}
