package connlimit

import (
	"net"
	"net/http"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// conn is a connection that only knows whether it was closed.
type conn struct {
	net.Conn
	closed atomic.Bool
}

func (c *conn) Close() error { c.closed.Store(true); return nil }

// closed returns the indices of the connections that were closed.
func closed(conns []*conn) (all []int) {
	for i, c := range conns {
		if c.closed.Load() {
			all = append(all, i)
		}
	}
	return all
}

// After Shut, idle connections are closed at once, also one that becomes idle later. An active one is closed 1 s
// later, even if it was active for long before.
func TestShut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := New(3, 100, 2*time.Second)
		conns := []*conn{{}, {}, {}}
		for _, c := range conns {
			l.Changed(c, http.StateNew)
		}
		l.Changed(conns[0], http.StateIdle)
		time.Sleep(time.Minute)
		l.Shut(time.Second)
		if got := closed(conns); !slices.Equal(got, []int{0}) {
			t.Errorf("at once: closed %v, want 0", got)
		}
		l.Changed(conns[1], http.StateIdle)
		time.Sleep(time.Second - 1)
		if got := closed(conns); !slices.Equal(got, []int{0, 1}) {
			t.Errorf("before 1 s: closed %v, want 0 and 1", got)
		}
		time.Sleep(time.Nanosecond)
		synctest.Wait()
		if got := closed(conns); !slices.Equal(got, []int{0, 1, 2}) {
			t.Errorf("after 1 s: closed %v, want all", got)
		}
	})
}

// Of too many connections, the one that has been idle for longest is closed at once, and an active one when it has
// taken its time. A hijacked connection does not count.
func TestLimit(t *testing.T) {
	const isNew, active, idle, hijacked, gone = http.StateNew, http.StateActive, http.StateIdle, http.StateHijacked, http.StateClosed
	type change struct {
		conn  int
		state http.ConnState
	}
	for _, test := range []struct {
		name    string
		changes []change
		now     []int // closed at once
		later   []int // closed after 2 s
	}{
		{"no more than allowed", []change{{0, isNew}, {1, isNew}, {2, isNew}}, nil, nil},
		{"active ones get their time", []change{{0, isNew}, {1, isNew}, {2, isNew}, {3, isNew}, {4, isNew}}, nil, []int{0, 1}},
		{"idle ones go at once", []change{{0, isNew}, {0, active}, {1, isNew}, {2, isNew}, {2, active}, {0, idle}, {2, idle}, {3, isNew}}, []int{0}, []int{0}},
		{"an idle one becomes active", []change{{0, isNew}, {0, idle}, {0, active}, {1, isNew}, {2, isNew}, {3, isNew}}, nil, []int{0}},
		{"hijacked ones don't count", []change{{0, isNew}, {0, active}, {0, hijacked}, {1, isNew}, {2, isNew}, {3, isNew}}, nil, nil},
		{"closed ones don't count", []change{{0, isNew}, {0, gone}, {1, isNew}, {2, isNew}, {3, isNew}}, nil, nil},
		{"one that was closed here stays away", []change{{0, isNew}, {0, idle}, {1, isNew}, {2, isNew}, {3, isNew}, {0, active}, {0, gone}}, []int{0}, []int{0}},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := New(3, 100, 2*time.Second)
				conns := []*conn{{}, {}, {}, {}, {}}
				for _, c := range test.changes {
					l.Changed(conns[c.conn], c.state)
				}
				if got := closed(conns); !slices.Equal(got, test.now) {
					t.Errorf("at once: closed %v, want %v", got, test.now)
				}
				time.Sleep(2*time.Second + 1)
				synctest.Wait()
				if got := closed(conns); !slices.Equal(got, test.later) {
					t.Errorf("after 2 s: closed %v, want %v", got, test.later)
				}
			})
		})
	}
}

// At 5 connections a new one waits until one of them is hijacked or closed, or has been active for a quarter of the time.
func TestFull(t *testing.T) {
	for name, test := range map[string]struct {
		end  func(*Limit, net.Conn)
		want time.Duration
	}{
		"hijacked":     {func(l *Limit, c net.Conn) { l.Changed(c, http.StateHijacked) }, 100 * time.Millisecond},
		"closed":       {func(l *Limit, c net.Conn) { l.Changed(c, http.StateClosed) }, 100 * time.Millisecond},
		"idle":         {func(l *Limit, c net.Conn) { l.Changed(c, http.StateIdle) }, 100 * time.Millisecond},
		"shut":         {func(l *Limit, c net.Conn) { l.Shut(time.Second) }, 100 * time.Millisecond},
		"still active": {func(*Limit, net.Conn) {}, 500 * time.Millisecond},
	} {
		synctest.Test(t, func(t *testing.T) {
			l := New(3, 5, 2*time.Second)
			conns := []*conn{{}, {}, {}, {}, {}}
			for _, c := range conns {
				l.Changed(c, http.StateNew)
			}
			time.AfterFunc(100*time.Millisecond, func() { test.end(l, conns[1]) })
			began := time.Now()
			l.Changed(new(conn), http.StateNew)
			if got := time.Since(began); got != test.want {
				t.Errorf("%s: a sixth connection waited for %v, want %v", name, got, test.want)
			}
			time.Sleep(time.Minute)
		})
	}
}
