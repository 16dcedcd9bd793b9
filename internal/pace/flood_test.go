package pace

import (
	"slices"
	"testing"
	"time"
)

const (
	step = 10 * time.Millisecond // time in which each connection moves its bytes once
	part = 64 << 10              // bytes in one write, and in a full queue
)

// pattern is how a peer reads. It reads some bytes at once, and again after a while.
type pattern struct {
	bytes int64
	every time.Duration
}

// conn is a simulated connection. Its bytes go from the stream through the queue and a write to the peer.
type conn struct {
	pattern
	again       time.Time // when the peer reads again
	thirst      int64     // bytes that the peer reads now
	write, left int64     // bytes of the current write, and those of them that the peer has not read
	queue       int64     // bytes that the peer has not read, of the queue and the current write
	sent        int64     // bytes of the stream up to the end of the queue
	meter       Meter
	writes      Progress
	stall       Stall
}

// room simulates a room in numbers and virtual time. Its people speak as fast as the pace allows.
type room struct {
	now, said time.Time     // said is when the last frame was sent
	size, end int64         // bytes of each frame, and of all
	most      int64         // the largest lag so far
	held      time.Duration // the longest time for which a frame was held back after the last one
	conns     []*conn
	dropped   string // why a connection must be dropped, which ends the simulation
	pace      Pace
	free      int64 // memory that the room may take
}

// move has the peer of c read, and the writer write, all bytes that they can now.
func (r *room) move(c *conn) {
	if c.thirst == 0 && !r.now.Before(c.again) {
		c.thirst, c.again = c.bytes, r.now.Add(c.every)
	}
	for {
		if lag := r.end - c.sent; c.queue == 0 && lag > 0 {
			c.queue = min(max(part/r.size, 1)*r.size, lag)
			c.sent += c.queue
			r.pace.Changed(lag, r.end-c.sent)
		}
		if c.left == 0 && c.queue > 0 {
			c.write = min(c.queue, part)
			c.left = c.write
			c.writes.Begin()
		}
		n := min(c.thirst, c.left)
		if n == 0 {
			return
		}
		c.thirst, c.left, c.queue = c.thirst-n, c.left-n, c.queue-n
		if c.left == 0 {
			c.writes.End(int(c.write))
		}
	}
}

// look looks at each connection.
func (r *room) look() {
	survey := r.pace.NewSurvey(0, r.free)
	for _, c := range r.conns {
		lag := r.end - c.sent
		if r.most = max(r.most, lag); r.pace.TooFar(lag) {
			r.dropped = "too far behind"
		}
		survey.Add(lag, 0, &c.meter)
	}
	r.pace.SetSurvey(survey)
}

// advance simulates a step.
func (r *room) advance() {
	if r.now.Sub(now)%time.Second == 0 { // a sweep
		for _, c := range r.conns {
			c.meter.Sweep(c.writes.Bytes(), r.end-c.sent > MaxLag)
			if c.stall.Sweep(&c.writes) >= 10*time.Second {
				r.dropped = "blocked"
			}
		}
		r.look()
	}
	for _, c := range r.conns {
		r.move(c)
	}
	end := r.now.Add(step)
	for range 10 { // frames; people do not speak faster
		due, heldBack := r.pace.Due(r.now, int(r.size), true, time.Time{})
		if heldBack {
			r.held = max(r.held, due.Sub(r.said))
		} else {
			due = r.now
		}
		if !due.Before(end) {
			break
		}
		r.end, r.said = r.end+r.size, due
		r.pace.Sent(int(r.size))
		r.look()
		r.pace.FannedOut(due, len(r.conns))
	}
	r.now = end
}

// Beside a flood, a connection that reads 32 KiB/s, steadily or in bursts up to 10 s apart, is not dropped. One
// that reads so little that a write takes 10 s is dropped for that before it is 14 MiB behind, and the room has
// 1.2 MB/s until then. One that reads less than 32 KiB/s, but has no such write, is dropped when it is 16 MiB
// behind. However many there are, the room has at least 32 KiB/s. If memory is scarce, the same holds with less
// lag.
func TestFlood(t *testing.T) {
	const line, second, apart = 32 << 10, time.Second, 9900 * time.Millisecond
	steady := func(speed int64) pattern { return pattern{speed / 20, second / 20} }
	var many []pattern
	for n := range time.Duration(30) {
		many = append(many, pattern{slowest * int64(n+1) * 33 / 100, (n + 1) * 330 * time.Millisecond})
	}
	for _, test := range []struct {
		name        string
		free        int64 // MiB of memory
		size        int64 // bytes of each frame
		peers       []pattern
		want        string // why one is dropped
		least, most int64  // the largest lag, in MiB
	}{
		{"32 KiB/s bit by bit", 320, line, []pattern{steady(slowest + 20)}, "", 0, 14},
		{"32 KiB/s in bursts of all lengths", 320, line, many, "", 0, 14},
		{"1 MB in bursts", 320, line, []pattern{{1_000_000, apart}}, "", 0, 14},
		{"50 kB/s in bursts, as of a TCP window", 320, line, []pattern{{445_000, apart - second}}, "", 0, 14},
		{"mixed speeds and short frames", 320, 4000, []pattern{steady(50_000), {100_000, 2 * second}, steady(1_000_000)}, "", 0, 14},
		{"frames longer than 16 MiB", 320, 17 << 20, []pattern{steady(500_000)}, "", 17, 33},
		{"100 bytes a second, or nothing", 320, line, []pattern{{1, step}, {}}, "blocked", 12, 14},
		{"5 kB/s", 320, line, []pattern{steady(5000)}, "blocked", 12, 14},
		{"22 KiB/s", 320, line, slices.Repeat([]pattern{steady(22 << 10)}, 8), "too far behind", 16, 17},
		{"128 KiB in bursts", 320, line, slices.Repeat([]pattern{{128 << 10, apart}}, 8), "too far behind", 16, 17},
		{"scarce memory, 32 KiB/s in bursts of all lengths", 2, line, many, "", 0, 2},
		{"scarce memory, mixed speeds", 1, 4000, []pattern{steady(50_000), {100_000, 2 * second}, steady(1_000_000)}, "", 0, 1},
		{"scarce memory, nothing", 2, line, []pattern{{}}, "blocked", 0, 2},
		{"scarce memory, 22 KiB/s", 2, line, slices.Repeat([]pattern{steady(22 << 10)}, 8), "too far behind", 2, 3},
	} {
		r := &room{now: now, said: now, size: test.size, pace: New(new(Crowd)), free: test.free << 20}
		for i, p := range test.peers {
			r.conns = append(r.conns, &conn{pattern: p, again: now.Add(time.Duration(i) * step)})
		}
		for r.now.Sub(now) < 20*time.Minute && r.dropped == "" {
			r.advance()
		}
		if r.dropped != test.want || r.most < test.least<<20 || r.most > test.most<<20 {
			t.Errorf("%s: got one dropped as %q and a lag of %d bytes, want %q and %d to %d MiB", test.name, r.dropped, r.most, test.want, test.least, test.most)
		}
		if r.held > time.Duration(r.size)*second/slowest {
			t.Errorf("%s: got a frame of %d bytes held back for %v, want at least 32 KiB/s", test.name, r.size, r.held)
		}
	}
}
