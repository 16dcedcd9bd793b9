package pace

import (
	"runtime"
	"testing"
	"time"
)

const (
	near    = 512 << 10 // the largest lag of a connection that does not lag
	lagging = near + 1
	stalled = 1_223_338 // bytes a second beside a connection that reads nothing: 14 MiB in 12 s
	slowest = 32 << 10  // bytes a second beside any connection
)

var now = time.UnixMilli(1_000_000)

// A connection's speed is the average over 8 sweeps of the bytes that were written to it while it lagged.
// Bytes before the second sweep that finds it lagging may be in the system's buffers, and do not count.
func TestMeter(t *testing.T) {
	var m Meter
	for i, test := range []struct {
		written    uint64
		lag, speed int64
	}{
		{1000, lagging, 0}, {9000, lagging, 1000}, {17_000, lagging, 1875}, {17_000, lagging, 1641}, // it reads 8000, 8000, 0
		{25_000, near, 1436}, {33_000, lagging, 1257}, {41_000, lagging, 2099}, // it does not lag for a while
	} {
		if m.Sweep(test.written, test.lag); m.speed != test.speed {
			t.Errorf("sweep %d: got %d bytes a second, want %d", i, m.speed, test.speed)
		}
	}
}

// A room may have half the speed of a connection that lags, at least 32 KiB/s and at most 1.2 MB/s. Beside a
// connection that reads up to 16 KiB/s it may have 1.2 MB/s, as if that read nothing. Beside one that is more
// than 14 MiB behind it may have 32 KiB/s.
func TestAllowedSpeed(t *testing.T) {
	for _, test := range []struct{ speed, lag, want int64 }{
		{0, lagging, stalled}, {0, 14 << 20, stalled}, {0, 14<<20 + 1, slowest},
		{16 << 10, lagging, stalled}, {16<<10 + 1, lagging, slowest}, {64 << 10, lagging, slowest},
		{100_000, lagging, 50_000}, {100_000, 14<<20 + 1, slowest}, {2 * stalled, lagging, stalled}, {1 << 30, lagging, stalled},
	} {
		m := Meter{speed: test.speed}
		if got := m.allowed(test.lag); got != test.want {
			t.Errorf("read at %d bytes a second, %d bytes behind: got %d bytes a second, want %d", test.speed, test.lag, got, test.want)
		}
	}
}

// found is what a look finds of one connection that is behind.
type found struct {
	lag   int64
	line  uint64
	speed int64
}

// look returns the Survey of connections in a room with 100 lines.
func look(connections ...found) Survey {
	s := NewSurvey(100)
	for _, c := range connections {
		s.Add(c.lag, c.line, &Meter{speed: c.speed})
	}
	return s
}

// After a fan-out, lines are held back as long as the slowest lagging connection requires. The stream must keep
// all lines from the first one that a connection needs.
func TestSurvey(t *testing.T) {
	for _, test := range []struct {
		name        string
		connections []found
		size        int
		want        time.Duration // after the fan-out; -1 if lines are not held back
		needed      uint64
	}{
		{"none is behind", nil, 1 << 20, -1, 100},
		{"one is behind, and does not lag", []found{{near, 70, 0}}, 1 << 20, -1, 70},
		{"one reads nothing", []found{{lagging, 70, 0}}, stalled, time.Second, 70},
		{"one reads 100 kB/s", []found{{lagging, 70, 100_000}}, 25_000, time.Second / 2, 70},
		{"the slowest decides", []found{{lagging, 70, 400_000}, {lagging, 60, 100_000}, {lagging, 50, 800_000}}, 50_000, time.Second, 50},
		{"a slow one does not lag", []found{{near, 60, 100_000}, {lagging, 70, 400_000}}, 200_000, time.Second, 60},
		{"one is far behind", []found{{14<<20 + 1, 3, 1_000_000}}, 64 << 10, 2 * time.Second, 3},
	} {
		s, want := look(test.connections...), now.Add(test.want)
		if test.want < 0 {
			want = time.Time{}
		}
		var p Pace
		p.FannedOut(now, 10)
		p.SetSurvey(s)
		got, heldBack := p.Due(now, test.size, true, time.Time{})
		if !got.Equal(want) || heldBack != (test.want > 0) || s.Needed() != test.needed {
			t.Errorf("%s: got %v, held back %v, and line %d; want %v and line %d", test.name, got.Sub(now), heldBack, s.Needed(), want.Sub(now), test.needed)
		}
	}
}

// When the last lagging connection has caught up, lines are no longer held back, without another look.
func TestChanged(t *testing.T) {
	var p Pace
	p.FannedOut(now, 2)
	p.SetSurvey(look(found{lagging, 1, 0}, found{2 * lagging, 1, 0}))
	for i, test := range []struct {
		before, after int64
		want          bool // lines are still held back
	}{{2 * lagging, lagging, true}, {near, 0, true}, {lagging, near, true}, {near, 0, true}, {lagging, 0, false}} {
		p.Changed(test.before, test.after)
		if _, got := p.Due(now, 1000, true, time.Time{}); got != test.want {
			t.Errorf("change %d, from a lag of %d to %d: got held back %v, want %v", i, test.before, test.after, got, test.want)
		}
	}
}

// A connection is too far behind with more than 16 MiB and the longest frame of the room so far.
func TestTooFar(t *testing.T) {
	var p Pace
	for _, test := range []struct {
		sent  int
		limit int64
	}{{0, 16 << 20}, {1 << 20, 17 << 20}, {100, 17 << 20}, {20 << 20, 36 << 20}} {
		p.Sent(test.sent)
		if got := []bool{p.TooFar(test.limit), p.TooFar(test.limit + 1)}; got[0] || !got[1] {
			t.Errorf("after a frame of %d bytes, %d bytes behind and one more: got too far %v, want [false true]", test.sent, test.limit, got)
		}
	}
}

// A flush is due when lagging connections no longer hold it back, and the last fan-out can have been written,
// with 10 µs of one processor for each connection. A full flush does not wait for the writes. Nothing is held
// back after the latest time.
func TestDue(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(2))
	const (
		second = stalled // pending bytes that a connection which reads nothing holds back for a second
		none   = -1
	)
	for _, test := range []struct {
		name             string
		size             int
		lags, full       bool
		connections      int
		latest, at, want time.Duration // after the fan-out; none is the zero time
		heldBack         bool
	}{
		{"no connection", 100, false, false, 0, none, 0, 0, false},
		{"one connection", 100, false, false, 1, none, 0, 5 * time.Microsecond, false},
		{"10,000 connections", 100, false, false, 10_000, none, 0, 50 * time.Millisecond, false},
		{"10,000 connections and a full flush", 100, false, true, 10_000, none, 0, none, false},
		{"one lags", second, true, false, 1, none, 0, time.Second, true},
		{"one lags, and the flush is full", second, true, true, 1, none, 0, time.Second, true},
		{"one has lagged for long enough", second, true, false, 1, none, time.Second, time.Second, false},
		{"the writes take longer", second / 2, true, false, 200_000, none, 0, time.Second, true},
		{"the writes take longer, later", second / 2, true, false, 200_000, none, 600 * time.Millisecond, time.Second, false},
		{"the latest time comes first", second, true, false, 1, 300 * time.Millisecond, 0, 300 * time.Millisecond, true},
		{"the latest time has passed", second, true, false, 1, 300 * time.Millisecond, time.Second, 300 * time.Millisecond, false},
		{"the latest time comes later", second, true, false, 1, 2 * time.Second, 0, time.Second, true},
		{"the writes take longer than the latest time", 100, false, false, 200_000, 300 * time.Millisecond, 0, time.Second, false},
	} {
		at := func(d time.Duration) time.Time {
			if d == none {
				return time.Time{}
			}
			return now.Add(d)
		}
		var p Pace
		p.FannedOut(now, test.connections)
		if test.lags {
			p.SetSurvey(look(found{lagging, 1, 0}))
		}
		got, heldBack := p.Due(at(test.at), test.size, test.full, at(test.latest))
		if want := at(test.want); !got.Equal(want) || heldBack != test.heldBack {
			t.Errorf("%s: got %v, held back %v; want %v, %v", test.name, got.Sub(now), heldBack, want.Sub(now), test.heldBack)
		}
	}
}
