package pace

import (
	"runtime"
	"testing"
	"time"
)

const (
	near    = 512 << 10 // the largest lag with which a connection does not lag
	lagging = near + 1
	stuck   = 1_223_338 // bytes a second beside a connection that reads nothing: 14 MiB in 12 s
	slowest = 32 << 10  // bytes a second beside any connection
)

var now = time.UnixMilli(1_000_000)

// A meter averages over 8 sweeps the bytes that were written between two sweeps that found the connection lagging.
func TestMeter(t *testing.T) {
	var m Meter
	for i, test := range []struct {
		written uint64
		lag     int64
		speed   int64
	}{
		{1000, lagging, 0}, // these bytes may be in the system's buffers
		{9000, lagging, 1000},
		{17_000, lagging, 1875},
		{25_000, near, 1641},
		{33_000, lagging, 1436},
		{41_000, lagging, 2256},
		{41_000, lagging, 1974},
	} {
		if m.Sweep(test.written, test.lag); m.speed != test.speed {
			t.Errorf("sweep %d: got %d bytes a second, want %d", i, m.speed, test.speed)
		}
	}
}

// A room may have half the speed of a connection that lags, at least 32 KiB/s and at most 1.2 MB/s. Beside a connection
// that reads less than 16 KiB/s it may have 1.2 MB/s, as if that read nothing. Beside one that is more than
// 14 MiB behind it may have 32 KiB/s.
func TestAllowedSpeed(t *testing.T) {
	for _, test := range []struct{ speed, lag, want int64 }{
		{0, lagging, stuck},
		{0, 14 << 20, stuck},
		{0, 14<<20 + 1, slowest},
		{16 << 10, lagging, stuck},
		{16<<10 + 1, lagging, slowest},
		{64 << 10, lagging, slowest},
		{100_000, lagging, 50_000},
		{100_000, 14<<20 + 1, slowest},
		{2 * stuck, lagging, stuck},
		{100_000_000, lagging, stuck},
	} {
		m := Meter{speed: test.speed}
		if got := m.allowed(test.lag); got != test.want {
			t.Errorf("a connection that reads %d bytes a second, %d bytes behind: got %d bytes a second for the room, want %d",
				test.speed, test.lag, got, test.want)
		}
	}
}

// connection is what a look finds of one connection that is behind.
type connection struct {
	lag   int64
	line  uint64
	speed int64
}

// look returns the Survey of connections in a room with 100 lines.
func look(connections ...connection) Survey {
	s := NewSurvey(100)
	for _, c := range connections {
		s.Add(c.lag, c.line, &Meter{speed: c.speed})
	}
	return s
}

// After a fan-out, lines are held until the slowest lagging connection allows them. If none lags, they are not held.
// The stream must keep all lines from the first one that a connection needs.
func TestSurvey(t *testing.T) {
	for _, test := range []struct {
		name        string
		connections []connection
		size        int
		held        time.Duration // after the fan-out; -1 if not held
		needed      uint64
	}{
		{"no connection is behind", nil, 1 << 20, -1, 100},
		{"one is behind, and does not lag", []connection{{near, 70, 0}}, 1 << 20, -1, 70},
		{"one reads nothing", []connection{{lagging, 70, 0}}, stuck, time.Second, 70},
		{"one reads nothing, and one line is small", []connection{{lagging, 70, 0}}, 0, 0, 70},
		{"one reads 100 kB/s", []connection{{lagging, 70, 100_000}}, 25_000, time.Second / 2, 70},
		{"the slowest decides", []connection{{lagging, 70, 400_000}, {lagging, 60, 100_000}, {lagging, 50, 800_000}}, 50_000, time.Second, 50},
		{"a slow one does not lag", []connection{{near, 60, 100_000}, {lagging, 70, 400_000}}, 200_000, time.Second, 60},
		{"one is far behind", []connection{{14<<20 + 1, 3, 1_000_000}}, 64 << 10, 2 * time.Second, 3},
	} {
		s := look(test.connections...)
		if got := s.Needed(); got != test.needed {
			t.Errorf("%s: got line %d as the first one needed, want %d", test.name, got, test.needed)
		}
		var p Pace
		p.FannedOut(now, 10)
		p.Look(s)
		want := now.Add(test.held)
		if test.held < 0 {
			want = time.Time{}
		}
		if got := p.HeldUntil(test.size); !got.Equal(want) {
			t.Errorf("%s: got %d bytes held for %v, want %v", test.name, test.size, got.Sub(now), want.Sub(now))
		}
	}
}

// Lines are no longer held when the last lagging connection has caught up, before the next look.
func TestChanged(t *testing.T) {
	var p Pace
	p.Look(look(connection{lagging, 1, 0}, connection{2 * lagging, 1, 0}))
	for i, test := range []struct {
		before, after int64
		held          bool
	}{
		{2 * lagging, lagging, true}, // this one still lags
		{near, 0, true},              // this one did not lag
		{lagging, near, true},
		{near, 0, true}, // it no longer lagged
		{lagging, 0, false},
	} {
		p.Changed(test.before, test.after)
		if got := !p.HeldUntil(1).IsZero(); got != test.held {
			t.Errorf("change %d, from %d to %d bytes behind: got held %v, want %v", i, test.before, test.after, got, test.held)
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
		if p.TooFar(test.limit) || !p.TooFar(test.limit+1) {
			t.Errorf("after a frame of %d bytes: got too far %v with %d bytes and %v with one more, want only the latter",
				test.sent, p.TooFar(test.limit), test.limit, p.TooFar(test.limit+1))
		}
	}
}

// A fan-out can have been written after 10 µs of one processor for each connection.
func TestWrittenBy(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(2))
	var p Pace
	if got := p.WrittenBy(); !got.IsZero() {
		t.Errorf("before the first fan-out: got %v, want the zero time", got)
	}
	for connections, want := range map[int]time.Duration{0: 0, 1: 5 * time.Microsecond, 10_000: 50 * time.Millisecond} {
		p.FannedOut(now, connections)
		if got := p.WrittenBy().Sub(now); got != want {
			t.Errorf("%d connections on two processors: got %v, want %v", connections, got, want)
		}
	}
}
