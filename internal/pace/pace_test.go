package pace

import (
	"math"
	"runtime"
	"slices"
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
	for i, test := range []struct{ written, lag, speed int64 }{
		{1000, lagging, 0}, {9000, lagging, 1000}, {17_000, lagging, 1875}, {17_000, lagging, 1641}, // it reads 8000, 8000, 0
		{25_000, near, 1436}, {33_000, lagging, 1257}, {41_000, lagging, 2099}, // it does not lag for a while
	} {
		if m.Sweep(uint64(test.written), test.lag == lagging); m.speed != test.speed {
			t.Errorf("sweep %d: got %d bytes a second, want %d", i, m.speed, test.speed)
		}
	}
}

// A room may have half the speed of its slowest lagging connection, at least 32 KiB/s and at most 1.2 MB/s.
// Beside a connection that reads up to 16 KiB/s it may have 1.2 MB/s, as if that read nothing. Beside one that
// is more than 14 MiB behind it may have 32 KiB/s. Its stream must keep all lines that a connection needs.
func TestSurvey(t *testing.T) {
	for _, test := range []struct {
		connections [][3]int64 // lag, first line that it needs, speed
		want        Survey
	}{
		{nil, Survey{16 << 20, 0, math.MaxInt64, 100}},
		{[][3]int64{{near, 70, 0}}, Survey{16 << 20, 0, math.MaxInt64, 70}},
		{[][3]int64{{lagging, 70, 0}}, Survey{16 << 20, 1, stalled, 70}},
		{[][3]int64{{14 << 20, 70, 16 << 10}}, Survey{16 << 20, 1, stalled, 70}},
		{[][3]int64{{lagging, 70, 16<<10 + 1}}, Survey{16 << 20, 1, slowest, 70}},
		{[][3]int64{{14 << 20, 70, 100_000}}, Survey{16 << 20, 1, 50_000, 70}},
		{[][3]int64{{14<<20 + 1, 70, 100_000}}, Survey{16 << 20, 1, slowest, 70}},
		{[][3]int64{{lagging, 70, 1 << 30}}, Survey{16 << 20, 1, stalled, 70}},
		{[][3]int64{{lagging, 70, 400_000}, {lagging, 60, 100_000}, {lagging, 50, 800_000}}, Survey{16 << 20, 3, 50_000, 50}},
		{[][3]int64{{near, 60, 100_000}, {lagging, 70, 400_000}}, Survey{16 << 20, 1, 200_000, 60}},
	} {
		p := New(new(Crowd))
		got := p.NewSurvey(100, 1<<40)
		for _, c := range test.connections {
			got.Add(c[0], uint64(c[1]), &Meter{speed: c[2]})
		}
		if got != test.want || got.Needed() != test.want.needed {
			t.Errorf("connections with lag, line and speed %d: got %+v, want %+v", test.connections, got, test.want)
		}
	}
}

// When the last lagging connection has caught up, lines are held back for 1 ms after the last fan-out at most,
// without another look.
func TestChanged(t *testing.T) {
	p := New(new(Crowd))
	p.FannedOut(now, 2)
	p.SetSurvey(Survey{limit: 16 << 20, lagging: 2, speed: stalled})
	for _, test := range []struct{ before, after, lagging int }{
		{2 * lagging, lagging, 2}, {near, 0, 2}, {lagging, near, 1}, {near, 0, 1}, {lagging, 0, 0},
	} {
		p.Changed(int64(test.before), int64(test.after))
		if _, got := p.Due(now.Add(time.Millisecond), stalled, true, time.Time{}); got != (test.lagging > 0) {
			t.Errorf("from a lag of %d to %d: got held back %v beside %d that lag", test.before, test.after, got, test.lagging)
		}
	}
}

// Rooms that are flooded at the same time take turns, so that all of them together take half of two processors by
// the estimate of 20 µs for a flush, 10 µs for a write, and 0.5 ns for a byte of it. A room whose flushes are short
// waits for no more than its part. A room that is alone, or does not wait itself, goes at once.
func TestTurns(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(2))
	const µs = time.Microsecond
	type flush struct{ bytes, connections int }
	for _, test := range []struct {
		name   string
		others []flush // of the rooms that wait
		own    flush
		want   time.Duration // from the fan-out to the next full flush
	}{
		{"alone", nil, flush{40_000, 100}, 0},
		{"two alike", []flush{{40_000, 9}}, flush{40_000, 9}, 580 * µs},            // 2 × (20 + 9×10 + 9×20)
		{"many alike", slices.Repeat([]flush{{0, 1}}, 99), flush{0, 1}, 3000 * µs}, // 100 × (20 + 10)
		{"a small one", []flush{{40_000, 1000}}, flush{0, 2}, 80 * µs},             // twice its own 20 + 20
		{"a large one beside small ones", slices.Repeat([]flush{{0, 1}}, 99), flush{0, 1000}, 12_990 * µs},
	} {
		crowd := new(Crowd)
		fanOut := func(f flush) *Pace {
			p := New(crowd)
			p.Waits()
			p.Sent(f.bytes)
			p.FannedOut(now, f.connections)
			return &p
		}
		var others []*Pace
		for _, f := range test.others {
			others = append(others, fanOut(f))
		}
		own := fanOut(test.own)
		due, heldBack := own.Due(now, 100_000, true, time.Time{})
		if got := max(0, due.Sub(now)); got != test.want || heldBack {
			t.Errorf("%s: got %v, held back %v; want %v, false", test.name, got, heldBack, test.want)
		}
		for _, p := range others {
			p.End()
		}
		if due, _ := own.Due(now, 100_000, true, time.Time{}); due.After(now) {
			t.Errorf("%s: got %v when the others are no longer flooded, want at once", test.name, due.Sub(now))
		}
		if own.End(); crowd.rooms.Load() != 0 || crowd.work.Load() != 0 {
			t.Errorf("%s: got %d rooms with work of %d ns at the end, want none", test.name, crowd.rooms.Load(), crowd.work.Load())
		}
	}
}

// A room is flooded from the moment in which its lines wait until the second sweep without a line that had to wait. The
// work of its flushes is charged while another room is flooded, too: 20 µs, 10 µs for each connection, and 0.5 ns for
// each byte in a write.
func TestFlooded(t *testing.T) {
	crowd := new(Crowd)
	own, other := New(crowd), New(crowd)
	charged := func(p *Pace, want time.Duration) {
		t.Helper()
		p.Sent(2000)
		if got := p.FannedOut(now, 3); got != want {
			t.Errorf("got %v charged, want %v", got, want)
		}
	}
	const work = 53 * time.Microsecond
	charged(&own, 0)
	own.Waits()
	charged(&own, 0)
	other.Waits()
	charged(&own, work)
	other.Sweep()
	own.Sweep()
	charged(&own, work)
	own.Waits()
	own.Sweep()
	other.Sweep()
	charged(&own, 0)
	charged(&other, 0)
	if !own.Flooded() || other.Flooded() {
		t.Errorf("got flooded %v and %v, want the first room alone", own.Flooded(), other.Flooded())
	}
	if own.End(); own.Flooded() || crowd.rooms.Load() != 0 || crowd.work.Load() != 0 {
		t.Errorf("got %d rooms with work of %d ns at the end, want none", crowd.rooms.Load(), crowd.work.Load())
	}
}

// A connection is too far behind with more than 16 MiB, or the memory that is free, and the longest frame of
// the room so far.
func TestTooFar(t *testing.T) {
	p := New(new(Crowd))
	for _, test := range []struct{ sent, free, limit int64 }{
		{0, 1 << 40, 16 << 20}, {20 << 20, 1 << 40, 36 << 20}, {100, 1 << 40, 36 << 20}, {100, 1 << 20, 21 << 20}, {100, 0, 20 << 20},
	} {
		p.Sent(int(test.sent))
		p.NewSurvey(0, test.free)
		if at, above := p.TooFar(test.limit), p.TooFar(test.limit+1); at || !above {
			t.Errorf("after a frame of %d bytes: got too far %v at %d bytes and %v above, want false and true", test.sent, at, test.limit, above)
		}
	}
}

// A flush is due when lagging connections no longer hold it back, and the last fan-out can have been written,
// with 10 µs of one processor for each connection. A full flush does not wait for the writes. Nothing is held
// back after the latest time.
func TestDue(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(2))
	const ms = time.Millisecond
	var none time.Time
	for _, test := range []struct {
		name          string
		size, lagging int // connections that lag hold back stalled bytes for a second
		full          bool
		connections   int
		latest        time.Time
		at, want      time.Duration // after the fan-out
		heldBack      bool
	}{
		{"10,000 connections", 100, 0, false, 10_000, none, 0, 50 * ms, false},
		{"10,000 connections and a full flush", 100, 0, true, 10_000, none, 0, 0, false},
		{"one lags", stalled, 1, false, 1, none, 0, 1000 * ms, true},
		{"one has lagged for long enough", stalled, 1, false, 1, none, 1000 * ms, 1000 * ms, false},
		{"only the writes take longer", stalled / 2, 1, false, 200_000, none, 600 * ms, 1000 * ms, false},
		{"one lags, and little is pending", 1, 1, true, 1, none, 0, 1 * ms, true},
		{"the latest time comes first", stalled, 1, false, 1, now.Add(300 * ms), 0, 300 * ms, true},
		{"the latest time has passed", stalled, 1, false, 1, now.Add(300 * ms), 1000 * ms, 300 * ms, false},
		{"the latest time comes later", stalled, 1, false, 1, now.Add(2000 * ms), 0, 1000 * ms, true},
		{"the writes take longer than the latest time", 100, 0, false, 200_000, now.Add(300 * ms), 0, 300 * ms, false},
	} {
		p := New(new(Crowd))
		p.FannedOut(now, test.connections)
		p.SetSurvey(Survey{limit: 16 << 20, lagging: test.lagging, speed: stalled})
		due, heldBack := p.Due(now.Add(test.at), test.size, test.full, test.latest)
		if got := max(due.Sub(now), 0); got != test.want || heldBack != test.heldBack {
			t.Errorf("%s: got %v, held back %v; want %v, %v", test.name, got, heldBack, test.want, test.heldBack)
		}
	}

	// A connection that lagged at the last look has caught up since.
	p := New(new(Crowd))
	p.FannedOut(now, 1)
	p.SetSurvey(Survey{limit: 16 << 20, lagging: 1, speed: stalled})
	p.Changed(MaxLag+1, 0)
	if due, heldBack := p.Due(now, stalled, true, none); due.Sub(now) != ms || !heldBack {
		t.Errorf("one has caught up: got %v, held back %v; want 1 ms, true", due.Sub(now), heldBack)
	}
}
