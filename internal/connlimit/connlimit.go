// Package connlimit limits how many connections an HTTP server has, WebSockets not included.
//
// A connection that waits for a request costs a descriptor and memory, and anybody can open many. So beyond a
// limit the oldest ones are closed: idle ones at once, and those with a request in progress when it has taken
// some time. After a restart all clients come at once, and each of them gets that time for its handshake. There is a
// second limit, at which new connections wait, and the time is shorter.
package connlimit

import (
	"container/list"
	"math"
	"net"
	"net/http"
	"sync"
	"time"
)

// hurry is the divisor of the time for a request while new connections wait.
const hurry = 4

// Limit closes connections of one server while there are more than it allows. The server's ConnState must call
// [Limit.Changed]. A connection must have a Close that never blocks.
type Limit struct {
	mu    sync.Mutex
	fewer sync.Cond // signals that there is one connection less

	// Guarded by mu.
	most   int                        // connections from which on some are closed; Shut sets it to 0
	full   int                        // connections at which new ones wait; Shut lifts it
	busy   time.Duration              // Shut shortens it
	idle   list.List                  // of counted, the one idle for longest first
	active list.List                  // of counted, the one active for longest first
	elems  map[net.Conn]*list.Element // in idle or active
	timer  *time.Timer                // calls trimLocked; nil if none has been needed
}

// counted is a connection in one of the lists.
type counted struct {
	conn  net.Conn
	since time.Time // in this list
	list  *list.List
}

// New returns a Limit. With more than most connections, idle ones are closed, and those with a request in progress
// that have been active for busy. With full connections, new ones wait until there are fewer.
func New(most, full int, busy time.Duration) *Limit {
	l := &Limit{most: most, full: full, busy: busy, elems: make(map[net.Conn]*list.Element)}
	l.fewer.L = &l.mu
	return l
}

// Changed notes that a connection has changed its state. A connection that was hijacked or closed no longer
// counts. Any goroutine may call it. It closes connections while it holds the lock. For a new connection it blocks
// until there are fewer than full ones, so the server accepts no others.
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
		for len(l.elems) >= l.full {
			l.fewer.Wait()
		}
		l.addLocked(conn, &l.active)
	case http.StateActive:
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
	l.most, l.full, l.busy = 0, math.MaxInt, wait
	now := time.Now()
	for elem := l.active.Front(); elem != nil; elem = elem.Next() {
		elem.Value = counted{elem.Value.(counted).conn, now, &l.active}
	}
	l.fewer.Broadcast()
	l.trimLocked()
}

// trimLocked closes connections while there are too many. If the next connection may not be closed yet, a timer
// calls trimLocked later.
func (l *Limit) trimLocked() {
	for len(l.elems) > l.most {
		first := l.idle.Front()
		if first == nil {
			first = l.active.Front()
			busy := l.busy
			if len(l.elems) >= l.full {
				busy /= hurry
			}
			if left := busy - time.Since(first.Value.(counted).since); left > 0 {
				l.trimLaterLocked(left)
				return
			}
		}
		l.removeLocked(first).Close()
	}
}

// trimLaterLocked sets the timer, which calls trimLocked after d.
func (l *Limit) trimLaterLocked(d time.Duration) {
	if l.timer != nil {
		l.timer.Reset(d)
		return
	}
	l.timer = time.AfterFunc(d, func() {
		l.mu.Lock()
		defer l.mu.Unlock()
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
	l.fewer.Signal()
	return removed.conn
}
