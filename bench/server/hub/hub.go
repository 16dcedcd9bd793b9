// Package hub is the classic chat hub, the same for every library that is
// measured: one goroutine owns the set of members and hands each line to all of
// them; each member has a queue of 256 and a goroutine that writes, one WebSocket
// message a line; a member whose queue is full is let go.
package hub

import (
	"flag"
	"log"
	"net/http"
	"time"
)

// WriteWait is the time allowed for a write to a peer.
const WriteWait = 10 * time.Second

// Hub broadcasts lines to its members, each encoded once as an M.
type Hub[M any] struct {
	// Encode makes of a line what is handed to every member.
	Encode func(line []byte) M
	// Release, if set, is called when a line has been handed to every member.
	Release func(M)

	members   map[*Member[M]]bool
	join      chan *Member[M]
	leave     chan *Member[M]
	broadcast chan []byte
}

// Member is one who hears what is said.
type Member[M any] struct {
	deliver func(M) bool
	gone    func()
}

// New returns a running Hub.
func New[M any](encode func(line []byte) M) *Hub[M] {
	h := &Hub[M]{
		Encode:    encode,
		members:   make(map[*Member[M]]bool),
		join:      make(chan *Member[M]),
		leave:     make(chan *Member[M]),
		broadcast: make(chan []byte),
	}
	go h.run()
	return h
}

func (h *Hub[M]) run() {
	for {
		select {
		case m := <-h.join:
			h.members[m] = true
		case m := <-h.leave:
			h.remove(m)
		case line := <-h.broadcast:
			encoded := h.Encode(line)
			for m := range h.members {
				if !m.deliver(encoded) {
					h.remove(m)
				}
			}
			if h.Release != nil {
				h.Release(encoded)
			}
		}
	}
}

func (h *Hub[M]) remove(m *Member[M]) {
	if h.members[m] {
		delete(h.members, m)
		m.gone()
	}
}

// Join adds a member. The Hub calls deliver with each line; it must not block, and
// reports whether the member can go on. It calls gone when it has let the member go.
func (h *Hub[M]) Join(deliver func(M) bool, gone func()) *Member[M] {
	m := &Member[M]{deliver, gone}
	h.join <- m
	return m
}

// Leave removes a member.
func (h *Hub[M]) Leave(m *Member[M]) { h.leave <- m }

// Say broadcasts a line. The Hub keeps it.
func (h *Hub[M]) Say(line []byte) { h.broadcast <- line }

// Serve makes a member of a connection, and returns when it has ended. receive
// returns the next message, for the Hub to keep; write writes one.
func (h *Hub[M]) Serve(receive func() ([]byte, error), write func(M) error, close_ func()) {
	send := make(chan M, 256)
	m := h.Join(func(message M) bool {
		select {
		case send <- message:
			return true
		default:
			return false
		}
	}, func() { close(send) })
	go func() {
		defer close_()
		for message := range send {
			if write(message) != nil {
				return
			}
		}
	}()
	defer close_()
	defer h.Leave(m)
	for {
		line, err := receive()
		if err != nil {
			return
		}
		h.Say(line)
	}
}

// ListenAndServe serves handler at /ws on the address of the -addr flag.
func ListenAndServe(handler http.HandlerFunc) {
	addr := flag.String("addr", "127.0.0.1:8080", "listen on `host:port`")
	flag.Parse()
	http.HandleFunc("/ws", handler)
	log.Fatal(http.ListenAndServe(*addr, nil))
}
