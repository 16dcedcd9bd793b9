// hub.go: the Hub, which knows who is connected and hands every line to all of them.

package main

import (
	"context"
	"sync"
	"time"
)

// Hub keeps the set of open connections and broadcasts lines to them. One
// goroutine, run, owns the set; everyone else speaks to it through channels.
// It never waits for a connection.
type Hub struct {
	// Open connections. Only run touches the map, and only run sends on a
	// connection's send channel and closes it.
	connections map[*Conn]bool

	// Lines from the readPumps. A line belongs to the Hub once it is sent here.
	broadcast chan []byte

	// Connections that are to hear what is said from now on.
	register chan *Conn

	// Connections from which nothing more will be broadcast.
	unregister chan *Conn

	// Closed when run has returned, and nobody receives from the channels above.
	done chan struct{}

	// Counts the registered connections whose sockets are not closed yet.
	sockets sync.WaitGroup
}

func newHub() *Hub {
	return &Hub{
		connections: make(map[*Conn]bool),
		broadcast:   make(chan []byte),
		register:    make(chan *Conn),
		unregister:  make(chan *Conn),
		done:        make(chan struct{}),
	}
}

// run serves the Hub's channels until ctx is done. Then it takes leave of
// everyone and returns; the sockets close by themselves soon after.
func (h *Hub) run(ctx context.Context) {
	defer close(h.done)
	for {
		select {
		case c := <-h.register:
			h.connections[c] = true
			h.sockets.Add(1)
		case c := <-h.unregister:
			h.drop(c, c.answer)
		case line := <-h.broadcast:
			h.fanOut(line)
		case <-ctx.Done():
			for c := range h.connections {
				h.drop(c, &closeFrame{closeGoingAway, "the server is shutting down"})
			}
			return
		}
	}
}

// wait waits until run has returned and the last socket is closed, but no longer
// than d.
func (h *Hub) wait(d time.Duration) {
	closed := make(chan struct{})
	go func() {
		<-h.done
		h.sockets.Wait()
		close(closed)
	}()
	select {
	case <-closed:
	case <-time.After(d):
	}
}

// fanOut queues line for every connection. One whose queue is full belongs to
// a peer that is dead or stuck, and is let go.
func (h *Hub) fanOut(line []byte) {
	for c := range h.connections {
		select {
		case c.send <- line:
		default:
			h.drop(c, &closeFrame{closeTryAgainLater, "you read too slowly"})
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
