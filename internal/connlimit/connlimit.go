// Package connlimit limits how many connections an HTTP server has, WebSockets not included.
//
// Anybody can open many connections. Each takes a descriptor, and memory, most of it while the head of a request
// arrives. So there is a limit of those that wait for a head, and one of all. At a limit a new connection waits until
// another one ends, and the oldest one is closed when it has had some time. Below the limits nothing is closed.
// After a restart all clients come at once, and each of them gets that time for its handshake.
package connlimit

import (
	"container/list"
	"net"
	"net/http"
	"sync"
	"time"
)

const (
	// headTime is how long the first head of a connection may take while new connections wait.
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
	fresh  list.List                  // of counted, without a request so far
	idle   list.List                  // of counted, after a request
	active list.List                  // of counted, with a request in progress
	elems  map[net.Conn]*list.Element // in one of the lists
	shut   bool
}

// counted is a connection in one of the lists.
type counted struct {
	conn  net.Conn
	since time.Time // in this list
	list  *list.List
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
		l.addLocked(conn, &l.fresh)
	case http.StateActive:
		l.addLocked(conn, &l.active)
	case http.StateIdle:
		l.addLocked(conn, &l.idle)
		if l.shut || l.fresh.Len()+l.idle.Len() > l.heads {
			l.closeLocked(l.idle.Front())
		}
	}
}

// makePlaceLocked waits until there is a place for a new connection. An idle connection gives it its place at once.
func (l *Limit) makePlaceLocked() {
	for !l.shut {
		heads := l.fresh.Len()+l.idle.Len() >= l.heads
		if !heads && len(l.elems) < l.all {
			return
		}
		oldest, allowed := l.idle.Front(), time.Duration(0)
		if oldest == nil && heads {
			oldest, allowed = l.fresh.Front(), headTime
		} else if oldest == nil {
			oldest, allowed = l.active.Front(), responseTime
		}
		if left := allowed - time.Since(oldest.Value.(counted).since); left > 0 {
			timer := time.AfterFunc(left, func() {
				l.mu.Lock()
				defer l.mu.Unlock()
				l.fewer.Signal()
			})
			l.fewer.Wait()
			timer.Stop()
		} else {
			l.closeLocked(oldest)
		}
	}
}

// Shut closes idle connections, and from then on each one that becomes idle. Wait later it closes the others. It is
// for http.Server.RegisterOnShutdown: without it, Shutdown would close one connection after the other, and wait up
// to 5 s for each TLS client that does not read the close notification.
func (l *Limit) Shut(wait time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.shut = true
	l.fewer.Signal()
	l.closeAllLocked(&l.idle)
	time.AfterFunc(wait, func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.closeAllLocked(&l.fresh)
		l.closeAllLocked(&l.active)
	})
}

func (l *Limit) closeAllLocked(conns *list.List) {
	for conns.Len() > 0 {
		l.closeLocked(conns.Front())
	}
}

func (l *Limit) closeLocked(elem *list.Element) {
	l.removeLocked(elem)
	elem.Value.(counted).conn.Close()
}

func (l *Limit) addLocked(conn net.Conn, to *list.List) {
	l.elems[conn] = to.PushBack(counted{conn, time.Now(), to})
}

func (l *Limit) removeLocked(elem *list.Element) {
	removed := elem.Value.(counted)
	removed.list.Remove(elem)
	delete(l.elems, removed.conn)
	l.fewer.Signal()
}
