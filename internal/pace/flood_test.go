package pace

import (
	"fmt"
	"testing"
	"time"
)

// The tests in this file simulate a room in numbers and virtual time. Its people speak as fast as the pace allows.

// step is the time in which a simulated connection moves bytes once.
const step = 10 * time.Millisecond

// part is the number of bytes in one write, and in a queue that is full.
const part = 64 << 10

// pattern is how a peer reads: so many bytes at once, and again after a while.
type pattern struct {
	bytes  int64
	every  time.Duration
	buffer int64 // bytes that the system holds for the peer. A blocked write continues when a third of it is free
	first  time.Duration
}

// sips is the pattern of a peer that reads 20 times a second.
func sips(speed int64) pattern { return pattern{bytes: speed / 20, every: 50 * time.Millisecond} }

// gulps is the pattern of a peer that reads 100 kB at a time, over TCP.
func gulps(speed int64) pattern {
	return pattern{bytes: 100_000, every: 100_000 * time.Second / time.Duration(speed), buffer: 128 << 10}
}

// lumps is the pattern of a peer that reads at this speed, but only every so often.
func lumps(speed int64, every time.Duration) pattern {
	return pattern{bytes: speed * int64(every) / int64(time.Second), every: every}
}

// conn is a simulated connection: its place in the stream, its queue, its writer, and its peer.
type conn struct {
	pattern
	next     int           // frame to be put into the queue
	sent     int64         // bytes of all frames before
	replay   int64         // bytes after these that were said before the connection came
	queued   int64         // bytes in the queue
	batch    int64         // bytes that the writer has received and not begun to write
	size     int64         // bytes of the current write
	left     int64         // bytes of it that are not in the buffer
	buffered int64         // bytes in the buffer
	thirst   int64         // bytes that the peer still reads at once
	again    time.Duration // when it reads again
	meter    Meter
	writes   Progress
	stall    Stall
	dropped  string
}

// room is a simulated room.
type room struct {
	t      *testing.T
	now    time.Duration
	frames []int64 // sizes
	end    int64   // bytes
	conns  []*conn
	pace   Pace
	size   int64         // of each frame
	rate   int64         // bytes a second that people say, or 0 for a flood
	last   time.Duration // when the last frame was sent
	most   int64         // the largest lag so far
}

func newRoom(t *testing.T, size int64, patterns ...pattern) *room {
	r := &room{t: t, size: size}
	for _, p := range patterns {
		r.join(p, false)
	}
	return r
}

// join adds a connection, from the beginning of the stream on if it resumes.
func (r *room) join(p pattern, resumes bool) {
	c := &conn{pattern: p, again: r.now + p.first, next: len(r.frames), sent: r.end}
	if resumes {
		c.next, c.sent, c.replay = 0, 0, r.end
	}
	r.conns = append(r.conns, c)
}

func (r *room) lag(c *conn) int64 { return r.end - c.sent - c.replay }

// fill puts the next frames into the queue of c, up to 64 KiB, but at least one.
func (r *room) fill(c *conn) {
	before := r.lag(c)
	for c.next < len(r.frames) && (c.queued == 0 || c.queued+r.frames[c.next] <= part) {
		c.queued += r.frames[c.next]
		c.sent += r.frames[c.next]
		c.next++
	}
	c.replay = min(c.replay, r.end-c.sent)
	r.pace.Changed(before, r.lag(c))
}

// move has the peer of c read, and the writer write, as much as they can now.
func (r *room) move(c *conn) {
	if c.thirst == 0 && r.now >= c.again {
		c.thirst, c.again = c.bytes, r.now+c.every
	}
	for {
		n := min(c.thirst, c.buffered)
		c.thirst, c.buffered = c.thirst-n, c.buffered-n
		if c.left == 0 && c.batch == 0 {
			c.batch, c.queued = c.queued, 0
			r.fill(c)
		}
		if c.left == 0 && c.batch > 0 {
			c.size = min(c.batch, part)
			c.left, c.batch = c.size, c.batch-c.size
			c.writes.Begin()
		}
		free := max(c.buffer, c.thirst) - c.buffered
		if c.left == 0 || free <= 0 || free < c.buffer/3 {
			return
		}
		n = min(free, c.left)
		c.buffered, c.left = c.buffered+n, c.left-n
		if c.left == 0 {
			c.writes.End(int(c.size))
		}
	}
}

// note adds c to what a look finds, or drops it.
func (r *room) note(c *conn, found *Survey) {
	lag := r.lag(c)
	r.most = max(r.most, lag)
	switch {
	case c.next == len(r.frames):
	case r.pace.TooFar(lag):
		c.dropped = "too far behind"
	default:
		found.Add(lag, uint64(c.next), &c.meter)
	}
}

// each calls f for each connection that was not dropped, and adopts what it finds.
func (r *room) each(f func(c *conn, found *Survey)) {
	found := NewSurvey(uint64(len(r.frames)))
	for _, c := range r.conns {
		if c.dropped == "" {
			f(c, &found)
		}
	}
	r.pace.Look(found)
}

// say sends a frame after the time at.
func (r *room) say(at time.Duration, size int64) {
	r.last = at
	r.frames = append(r.frames, size)
	r.end += size
	r.pace.Sent(int(size))
	r.each(func(c *conn, found *Survey) {
		if c.next == len(r.frames)-1 && c.queued < part {
			c.next, c.sent, c.queued = c.next+1, c.sent+size, c.queued+size
		}
		r.note(c, found)
	})
	r.pace.FannedOut(now.Add(at), len(r.conns))
}

// sweep looks at all connections, as once a second.
func (r *room) sweep() {
	r.each(func(c *conn, found *Survey) {
		c.meter.Sweep(c.writes.Bytes(), r.lag(c))
		if r.note(c, found); c.stall.Sweep(&c.writes) >= 10*time.Second && c.dropped == "" {
			c.dropped = "blocked"
		}
	})
}

// flood has people speak in the current step. No frame is held for longer than it takes at 32 KiB/s.
func (r *room) flood() {
	for range 100 { // a step takes no more from the processors
		due := r.now
		if r.rate > 0 {
			due = max(due, r.last+time.Duration(r.size)*time.Second/time.Duration(r.rate))
		}
		held := r.pace.HeldUntil(int(r.size)).Sub(now)
		if longest := time.Duration(r.size) * time.Second / slowest; held > r.last+longest || r.rate > 0 && held > due {
			r.t.Fatalf("at %v: got a frame of %d bytes held for %v, want at most %v, and none at %d bytes a second",
				r.now, r.size, held-r.last, longest, r.rate)
		}
		if due = max(due, held); due >= r.now+step {
			return
		}
		r.say(due, r.size)
	}
}

// run goes on for d, or until all connections are dropped. It calls meanwhile in each step, unless that is nil.
func (r *room) run(d time.Duration, meanwhile func()) {
	for end, left := r.now+d, 1; r.now < end && left > 0; r.now += step {
		if r.now%time.Second == 0 {
			r.sweep()
		}
		left = 0
		for _, c := range r.conns {
			if c.dropped == "" {
				r.move(c)
				left++
			}
		}
		if meanwhile != nil {
			meanwhile()
		}
		r.flood()
	}
}

// expect checks why each connection was dropped, "" if it was not.
func (r *room) expect(want string) {
	r.t.Helper()
	for i, c := range r.conns {
		if c.dropped != want {
			r.t.Errorf("connection %d of %d bytes every %v: got dropped %q, want %q; the largest lag was %d", i, c.bytes, c.every, c.dropped, want, r.most)
		}
	}
}

// A connection that reads 32 KiB/s, steadily or in lumps of up to 10 s, is never dropped. The room has at
// least 32 KiB/s meanwhile.
func TestReadersAreNotDropped(t *testing.T) {
	type row struct {
		name    string
		size    int64 // of a frame
		readers []pattern
	}
	many := make([]pattern, 50)
	for i := range many {
		many[i] = lumps(slowest, time.Duration(i+1)*190*time.Millisecond)
	}
	rows := []row{
		{"bit by bit", 32 << 10, []pattern{sips(slowest + 20)}},
		{"in lumps", 32 << 10, []pattern{lumps(slowest, 9900*time.Millisecond), lumps(slowest, 9900*time.Millisecond), lumps(slowest, 9900*time.Millisecond)}},
		{"fast in lumps", 32 << 10, []pattern{{bytes: 1 << 20, every: 9900 * time.Millisecond}}},
		{"long lines", 1 << 20, []pattern{sips(100_000)}},
		{"very long lines", 4 << 20, []pattern{sips(200_000)}},
		{"lines that are longer than what may be held", 17 << 20, []pattern{sips(500_000)}},
		{"mixed speeds", 32 << 10, []pattern{sips(50_000), gulps(1_000_000), sips(250_000), gulps(50_000), sips(1_000_000)}},
		{"fifty", 32 << 10, many},
	}
	for every := 6 * time.Second; every < 10*time.Second; every += 1300 * time.Millisecond {
		rows = append(rows, row{fmt.Sprint("every ", every), 32 << 10, []pattern{lumps(slowest, every)}})
		tcp := lumps(50_000, every)
		tcp.buffer = 128 << 10
		rows = append(rows, row{fmt.Sprint("a TCP window every ", every), 32 << 10, []pattern{tcp}})
	}
	for _, speed := range []int64{50_000, 100_000, 250_000, 1_000_000} {
		for _, size := range []int64{4000, 32 << 10} {
			rows = append(rows, row{fmt.Sprintf("%d bytes a second, %d at once", speed, size), size, []pattern{sips(speed), gulps(speed)}})
		}
	}
	for _, test := range rows {
		t.Run(test.name, func(t *testing.T) {
			r := newRoom(t, test.size, test.readers...)
			r.run(2*time.Minute, nil)
			r.expect("")
		})
	}
}

// A connection that reads nothing, or takes 10 s for a write, is dropped for that before it is 14 MiB behind. The room
// has 1.2 MB/s until then.
func TestBlockedConnectionsAreDropped(t *testing.T) {
	for _, p := range []pattern{{}, {buffer: 128 << 10}, {bytes: 1, every: step}, sips(5000)} {
		r := newRoom(t, 32<<10, p, p)
		r.run(time.Second, nil)
		before := r.end
		r.run(9*time.Second, nil)
		if got := (r.end - before) / 9; got < stuck-32<<10 || got > stuck+32<<10 {
			t.Errorf("%+v: got %d bytes a second, want %d", p, got, stuck)
		}
		r.expect("")
		r.run(3*time.Second, nil)
		r.expect("blocked")
		if r.most < 12<<20 || r.most > 14<<20 {
			t.Errorf("%+v: got a lag of %d bytes, want less than 14 MiB", p, r.most)
		}
	}
}

// Connections that read less than 32 KiB/s, even if each write goes on within 10 s, are dropped when they are 16 MiB
// behind. However many there are, the room has at least 32 KiB/s meanwhile.
func TestSlowConnectionsAreDropped(t *testing.T) {
	for _, p := range []pattern{sips(16 << 10), sips(26 << 10), {bytes: 128 << 10, every: 9 * time.Second}} {
		var patterns []pattern
		for i := range 8 {
			p.first = time.Duration(i) * 100 * time.Millisecond
			patterns = append(patterns, p)
		}
		r := newRoom(t, 32<<10, patterns...)
		r.run(20*time.Minute, nil)
		r.expect("too far behind")
		if want := int64(16<<20 + 32<<10); r.most < want || r.most > want+64<<10 {
			t.Errorf("%+v: got a lag of %d bytes, want about %d", p, r.most, want)
		}
	}
}

// Connections that come one after another and read nothing delay no line of a room that says 500 kB/s.
func TestConnectionsThatComeAndDoNotRead(t *testing.T) {
	r := newRoom(t, 4000, sips(1_000_000))
	r.rate = 500_000
	r.run(30*time.Second, func() {
		if r.now%(60*time.Millisecond) == 0 {
			r.join(pattern{}, false)
		}
	})
	if got := r.conns[0].dropped; got != "" {
		t.Errorf("the reader is dropped: %s", got)
	}
	if got := r.end; got < 29*500_000 {
		t.Errorf("got %d bytes in 30 s, want 500 kB/s", got)
	}
}

// A connection that reads in lumps is not dropped while others come and go.
func TestReadersAreNotDroppedWhileOthersComeAndGo(t *testing.T) {
	r := newRoom(t, 32<<10, pattern{bytes: 400 << 10, every: 9900 * time.Millisecond})
	r.run(2*time.Minute, func() {
		r.conns = r.conns[:1]
		r.join(pattern{}, false)
	})
	r.conns = r.conns[:1]
	r.expect("")
}

// A connection that still gets a long history does not lag for that, and is not dropped while the room floods.
func TestReadersOfTheHistoryAreNotDropped(t *testing.T) {
	r := newRoom(t, 32<<10)
	for range 32 {
		r.say(0, 1<<20)
	}
	r.join(pattern{bytes: 1 << 20, every: 9900 * time.Millisecond}, true)
	r.join(sips(250<<10), true)
	r.sweep()
	if r.most > 0 {
		t.Errorf("got a lag of %d bytes for the history, want none", r.most)
	}
	r.join(sips(slowest+20), true)
	r.run(20*time.Minute, nil)
	r.expect("")
	for i, c := range r.conns {
		if c.sent <= 32<<20 {
			t.Errorf("connection %d: got %d bytes read in 20 minutes, want more than the history", i, c.sent)
		}
	}
}
