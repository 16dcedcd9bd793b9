// Package connlimit limits how many connections an HTTP server has, WebSockets not included.
//
// Anybody can open many connections. Each takes a descriptor, and memory, most of it while the head of a request
// arrives. So one limit is for connections that wait for a head, and one for all. At a limit a new connection waits until
// another one ends, and the oldest one is closed when it has had some time. Below the limits nothing is closed.
// After a restart all clients come at once, and each of them gets that time for its handshake. A browser that fetches
// one file after the other gets it between two files.
package connlimit

import (
	"container/list"
	"net"
	"net/http"
	"sync"
	"time"
)

const (
	// headTime is how long a connection may wait for a head, while new connections wait.
	headTime = 500 * time.Millisecond

	// responseTime is how long a response may take while new connections wait.
	responseTime = 2 * time.Second
)

// Limit limits the connections of one server. The server's ConnState must call [Limit.Changed]. The connections must
// have a Close that never blocks.
type Limit struct {
	// Set at construction.
	heads int // connections that may wait for a head
	all   int

	mu    sync.Mutex
	fewer sync.Cond // signals that a new connection should look again

	// Guarded by mu. In each list the connection that has been there for longest is first.
	waiting list.List                  // of counted, for the head of a request
	active  list.List                  // of counted, with a request in progress
	elems   map[net.Conn]*list.Element // in one of the lists
	shut    bool
}

// counted is a connection in one of the lists.
type counted struct {
	conn  net.Conn
	since time.Time // in this list
	list  *list.List
	idle  bool // waits, after a request
}

// New returns a Limit of all connections, of which at most heads wait for the head of a request.
func New(heads, all int) *Limit {
	l := &Limit{heads: heads, all: all, elems: make(map[net.Conn]*list.Element)}
	l.fewer.L = &l.mu
	return l
}

// Changed notes that a connection has changed its state. A connection that was hijacked or closed no longer
// counts. Any goroutine may call it. It closes connections while it holds the lock. For a new connection it blocks
// while the server is at a limit, so that the server accepts no other. Only one goroutine may call it for new ones.
func (l *Limit) Changed(conn net.Conn, state http.ConnState) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if elem := l.elems[conn]; elem != nil {
		l.removeLocked(elem)
	} else if state != http.StateNew {
		return // the Limit has closed it
	}
	switch state {
	case http.StateNew:
		l.makePlaceLocked()
		l.addLocked(conn, &l.waiting, false)
	case http.StateActive:
		l.addLocked(conn, &l.active, false)
	case http.StateIdle:
		l.addLocked(conn, &l.waiting, true)
		if l.shut {
			l.closeLocked(l.elems[conn])
		} else if first := l.waiting.Front(); l.waiting.Len() > l.heads && left(first, headTime) <= 0 {
			l.closeLocked(first)
		}
	}
}

// makePlaceLocked waits until there is a place for a new connection.
func (l *Limit) makePlaceLocked() {
	for !l.shut {
		heads := l.waiting.Len() >= l.heads
		if !heads && len(l.elems) < l.all {
			return
		}
		oldest, wait := l.waiting.Front(), left(l.waiting.Front(), headTime)
		if first := l.active.Front(); !heads && left(first, responseTime) < wait {
			oldest, wait = first, left(first, responseTime)
		}
		if wait <= 0 {
			l.closeLocked(oldest)
			continue
		}
		timer := time.AfterFunc(wait, func() {
			l.mu.Lock()
			defer l.mu.Unlock()
			l.fewer.Signal()
		})
		l.fewer.Wait()
		timer.Stop()
	}
}

// left returns how much of the allowed time a connection has left, or an hour if there is no connection.
func left(elem *list.Element, allowed time.Duration) time.Duration {
	if elem == nil {
		return time.Hour
	}
	return allowed - time.Since(elem.Value.(counted).since)
}

// Shut closes idle connections, and from then on each one that becomes idle. Wait later it closes the others. It is
// for http.Server.RegisterOnShutdown: without it, Shutdown would close one connection after the other, and wait up
// to 5 s for each TLS client that does not read the close notification.
func (l *Limit) Shut(wait time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.shut = true
	l.fewer.Signal()
	for _, elem := range l.elems {
		if elem.Value.(counted).idle {
			l.closeLocked(elem)
		}
	}
	time.AfterFunc(wait, func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		for _, elem := range l.elems {
			l.closeLocked(elem)
		}
	})
}

func (l *Limit) closeLocked(elem *list.Element) {
	l.removeLocked(elem)
	elem.Value.(counted).conn.Close()
}

func (l *Limit) addLocked(conn net.Conn, to *list.List, idle bool) {
	l.elems[conn] = to.PushBack(counted{conn, time.Now(), to, idle})
}

func (l *Limit) removeLocked(elem *list.Element) {
	removed := elem.Value.(counted)
	removed.list.Remove(elem)
	delete(l.elems, removed.conn)
	l.fewer.Signal()
}
