// Package connlimit limits how many connections an HTTP server has, WebSockets not included.
//
// A connection that waits for a request costs a descriptor and memory, and anybody can open many. So beyond a
// limit the oldest ones are closed: idle ones at once, and those with a request in progress when it has taken
// some time. After a restart all clients come at once, and each of them gets that time for its handshake.
package connlimit

import (
	"container/list"
	"net"
	"net/http"
	"sync"
	"time"
)

// Limit closes connections of one server while there are more than it allows. Its method [Limit.Changed] must be
// the server's ConnState.
type Limit struct {
	mu sync.Mutex

	// Guarded by mu.
	most     int                        // Shut sets it to 0
	busy     time.Duration              // Shut shortens it
	idle     list.List                  // of counted, the one idle for longest first
	active   list.List                  // of counted, the one active for longest first
	elems    map[net.Conn]*list.Element // in idle or active
	trimming bool                       // a timer will call trimLocked
}

// counted is a connection in one of the lists.
type counted struct {
	conn  net.Conn
	since time.Time // in this list
	list  *list.List
}

// New returns a Limit of most connections. A connection with a request in progress is not closed before it has
// been active for busy.
func New(most int, busy time.Duration) *Limit {
	return &Limit{most: most, busy: busy, elems: make(map[net.Conn]*list.Element)}
}

// Changed notes that a connection has changed its state. A connection that was hijacked or closed no longer
// counts. Any goroutine may call it. It closes connections while it holds the lock.
func (l *Limit) Changed(conn net.Conn, state http.ConnState) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if elem := l.elems[conn]; elem != nil {
		l.removeLocked(elem)
	} else if state != http.StateNew {
		return // the Limit has closed it
	}
	switch state {
	case http.StateNew, http.StateActive:
		l.addLocked(conn, &l.active)
	case http.StateIdle:
		l.addLocked(conn, &l.idle)
	}
	l.trimLocked()
}

// Shut closes idle connections, and from then on each one that becomes idle. Those with a request in progress are
// closed about wait later. It is for http.Server.RegisterOnShutdown: without it, Shutdown would close one
// connection after the other, and wait up to 5 s for each TLS client that does not read the close notification.
func (l *Limit) Shut(wait time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.most, l.busy = 0, wait
	now := time.Now()
	for elem := l.active.Front(); elem != nil; elem = elem.Next() {
		elem.Value = counted{elem.Value.(counted).conn, now, &l.active}
	}
	l.trimLocked()
}

// trimLocked closes connections while there are too many. If the next connection may not be closed yet, a timer
// calls trimLocked later.
func (l *Limit) trimLocked() {
	for l.idle.Len()+l.active.Len() > l.most {
		first := l.idle.Front()
		if first == nil {
			first = l.active.Front()
			if left := l.busy - time.Since(first.Value.(counted).since); left > 0 {
				l.trimLaterLocked(left)
				return
			}
		}
		closeTransport(l.removeLocked(first))
	}
}

// trimLaterLocked starts a timer that calls trimLocked after d, unless one is running.
func (l *Limit) trimLaterLocked(d time.Duration) {
	if l.trimming {
		return
	}
	l.trimming = true
	time.AfterFunc(d, func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.trimming = false
		l.trimLocked()
	})
}

func (l *Limit) addLocked(conn net.Conn, to *list.List) {
	l.elems[conn] = to.PushBack(counted{conn, time.Now(), to})
}

func (l *Limit) removeLocked(elem *list.Element) net.Conn {
	removed := elem.Value.(counted)
	removed.list.Remove(elem)
	delete(l.elems, removed.conn)
	return removed.conn
}

// closeTransport closes a connection without a TLS close notification, which could block.
func closeTransport(conn net.Conn) {
	if secure, ok := conn.(interface{ NetConn() net.Conn }); ok {
		conn = secure.NetConn()
	}
	conn.Close()
}
