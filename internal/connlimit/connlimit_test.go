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

const isNew, active, idle, hijacked, gone = http.StateNew, http.StateActive, http.StateIdle, http.StateHijacked, http.StateClosed

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

// Up to 3 connections may wait for the head of a request, and there may be 5. At a limit a new one waits until another
// one ends, until the oldest that waits for a head has done so for 0.5 s, or until the oldest request has taken 2 s. A
// connection that becomes idle may make one more that waits for a head, if each of them has its time.
func TestLimit(t *testing.T) {
	type change struct {
		conn  int
		state http.ConnState
	}
	const second = time.Second
	begin := func(conns ...int) (changes []change) { // requests in progress
		for _, n := range conns {
			changes = append(changes, change{n, isNew}, change{n, active})
		}
		return changes
	}
	for _, test := range []struct {
		name    string
		changes []change
		later   []change      // after 0.1 s
		want    time.Duration // until connection 9 is accepted
		closed  []int
	}{
		{"few", []change{{0, isNew}, {1, isNew}}, nil, 0, nil},
		{"few that wait for a head", append(begin(0, 1), change{2, isNew}, change{3, isNew}), nil, 0, nil},
		{"three without a request", []change{{0, isNew}, {1, isNew}, {2, isNew}}, nil, second / 2, []int{0}},
		{"one of them is idle", []change{{1, isNew}, {1, active}, {1, idle}, {0, isNew}, {2, isNew}}, nil, second / 2, []int{1}},
		{"a fourth becomes idle", []change{{0, isNew}, {0, active}, {1, isNew}, {2, isNew}, {3, isNew}, {0, idle}}, nil, second / 2, []int{1, 2}},
		{"a fourth has become idle, and two end", []change{{0, isNew}, {0, active}, {1, isNew}, {2, isNew}, {3, isNew}, {0, idle}}, []change{{1, gone}, {2, gone}}, second / 10, nil},
		{"one sends its request", []change{{0, isNew}, {1, isNew}, {2, isNew}}, []change{{1, active}}, second / 10, nil},
		{"one is hijacked", append(begin(0, 1, 2, 3), change{4, isNew}), []change{{0, hijacked}}, second / 10, nil},
		{"one closes", []change{{0, isNew}, {1, isNew}, {2, isNew}}, []change{{1, gone}}, second / 10, nil},
		{"five requests in progress", begin(0, 1, 2, 3, 4), nil, 2 * second, []int{0}},
		{"four, and one idle", append(begin(0, 1, 2, 3, 4), change{3, idle}), nil, second / 2, []int{3}},
		{"four, and one without a request", append(begin(0, 1, 2, 3), change{4, isNew}), nil, second / 2, []int{4}},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l, conns := New(3, 5), make([]*conn, 10)
				for i := range conns {
					conns[i] = new(conn)
				}
				for _, c := range test.changes {
					l.Changed(conns[c.conn], c.state)
				}
				go func() {
					time.Sleep(100 * time.Millisecond)
					for _, c := range test.later {
						l.Changed(conns[c.conn], c.state)
					}
				}()
				began := time.Now()
				l.Changed(conns[9], isNew)
				if got := time.Since(began); got != test.want {
					t.Errorf("one more waited for %v, want %v", got, test.want)
				}
				time.Sleep(time.Minute)
				if got := closed(conns); !slices.Equal(got, test.closed) {
					t.Errorf("closed %v, want %v", got, test.closed)
				}
			})
		})
	}
}

// After Shut, idle connections are closed at once, also one that becomes idle later. The others are closed 1 s later,
// even if they were active for long before. A new one does not wait.
func TestShut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := New(4, 4)
		conns := []*conn{{}, {}, {}, {}, {}}
		for _, c := range conns[:4] {
			l.Changed(c, isNew)
			l.Changed(c, active)
		}
		accepted := make(chan bool)
		go func() {
			l.Changed(conns[4], isNew)
			close(accepted)
		}()
		synctest.Wait()
		l.Shut(time.Second)
		<-accepted
		l.Changed(conns[1], idle)
		time.Sleep(time.Second - 1)
		if got := closed(conns); !slices.Equal(got, []int{1}) {
			t.Errorf("before 1 s: closed %v, want 1", got)
		}
		l.Changed(conns[2], gone)
		time.Sleep(time.Nanosecond)
		synctest.Wait()
		if got := closed(conns); !slices.Equal(got, []int{0, 1, 3, 4}) {
			t.Errorf("after 1 s: closed %v, want 0, 1, 3 and 4", got)
		}
	})
	l := New(4, 4)
	conns := []*conn{{}, {}}
	for _, c := range conns {
		l.Changed(c, isNew)
	}
	l.Changed(conns[0], active)
	l.Changed(conns[0], idle)
	if l.Shut(time.Hour); !conns[0].closed.Load() || conns[1].closed.Load() {
		t.Errorf("closed %v, want 0", closed(conns))
	}
}

// A connection that was closed here no longer counts, whatever the server reports of it afterwards. Beyond the limit of
// those that wait for a head, one that becomes idle has the oldest closed if that has had its 0.5 s.
func TestClosedHere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, conns := New(1, 5), []*conn{{}, {}, {}}
		l.Changed(conns[0], isNew)
		time.Sleep(500 * time.Millisecond)
		l.Changed(conns[1], isNew)
		l.Changed(conns[0], active)
		l.Changed(conns[0], gone)
		if got := closed(conns); !slices.Equal(got, []int{0}) || len(l.elems) != 1 {
			t.Errorf("closed %v, %d count; want 0, and 1", got, len(l.elems))
		}
		l.Changed(conns[1], active)
		l.Changed(conns[2], isNew)
		l.Changed(conns[1], idle)
		if got := closed(conns); !slices.Equal(got, []int{0}) {
			t.Errorf("closed %v, want 0", got)
		}
		time.Sleep(500 * time.Millisecond)
		l.Changed(conns[1], active)
		l.Changed(conns[1], idle)
		if got := closed(conns); !slices.Equal(got, []int{0, 2}) {
			t.Errorf("closed %v, want 0 and 2", got)
		}
	})
}
