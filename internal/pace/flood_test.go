package pace

import (
	"fmt"
	"testing"
	"time"
)

// The tests in this file simulate a room in numbers and virtual time. Its people speak as fast as the pace
// allows.

const (
	step = 10 * time.Millisecond // time in which each connection moves its bytes once
	part = 64 << 10              // bytes in one write, and in a full queue
)

// pattern is how a peer reads. It reads some bytes at once, and again after a while.
type pattern struct {
	bytes  int64
	every  time.Duration
	buffer int64 // bytes that the system holds. When a write has filled it, a third must become free, as on Linux
}

// steady returns the pattern of a peer that reads 20 times a second.
func steady(speed int64) pattern { return pattern{bytes: speed / 20, every: time.Second / 20} }

// bursts returns the pattern of a peer that reads only now and then.
func bursts(speed int64, every time.Duration) pattern {
	return pattern{bytes: speed * every.Milliseconds() / 1000, every: every}
}

// portions returns the pattern of a peer that reads 100 kB at a time, over TCP.
func portions(speed int64) pattern {
	return pattern{bytes: 100_000, every: 100_000 * time.Second / time.Duration(speed), buffer: 128 << 10}
}

// conn is a simulated connection. Its bytes go from the stream to the queue, the current write, the buffer
// and the peer.
type conn struct {
	pattern
	next, sent, replay int64 // frame after the queue; bytes before it; bytes by which it may be behind without lag
	queue              int64
	size, left         int64 // of the write, and the part of it that is not in the buffer
	buffered           int64
	thirst             int64         // bytes that the peer reads now
	again              time.Duration // when it reads again
	meter              Meter
	writes             Progress
	stall              Stall
	dropped            string // why
}

// room is a simulated room.
type room struct {
	t      *testing.T
	now    time.Duration
	size   int64   // bytes of each frame that its people say
	rate   int64   // bytes a second that they say; 0 if they flood the room
	frames []int64 // the stream
	end    int64   // bytes of all frames
	said   time.Duration
	most   int64 // the largest lag so far
	conns  []*conn
	pace   Pace
}

// join adds a connection, which first gets the history if it resumes.
func (r *room) join(p pattern, resumes bool) {
	c := &conn{pattern: p, again: r.now, next: int64(len(r.frames)), sent: r.end}
	if resumes {
		c.next, c.sent, c.replay = 0, 0, r.end
	}
	r.conns = append(r.conns, c)
}

func (r *room) lag(c *conn) int64 { return r.end - c.sent - c.replay }

// fill moves frames into the queue of c, up to 64 KiB, but at least one.
func (r *room) fill(c *conn) {
	before := r.lag(c)
	for c.next < int64(len(r.frames)) && (c.queue == 0 || c.queue+r.frames[c.next] <= part) {
		c.queue, c.sent, c.next = c.queue+r.frames[c.next], c.sent+r.frames[c.next], c.next+1
	}
	c.replay = min(c.replay, r.end-c.sent)
	r.pace.Changed(before, r.lag(c))
}

// move has the peer of c read, and the writer write, all bytes that they can now.
func (r *room) move(c *conn) {
	if c.thirst == 0 && r.now >= c.again {
		c.thirst, c.again = c.bytes, r.now+c.every
	}
	for {
		n := min(c.thirst, c.buffered)
		c.thirst, c.buffered = c.thirst-n, c.buffered-n
		if c.queue == 0 {
			r.fill(c)
		}
		if c.left == 0 && c.queue > 0 {
			c.size = min(c.queue, part)
			c.left, c.queue = c.size, c.queue-c.size
			c.writes.Begin()
		}
		free := max(c.buffer, c.thirst) - c.buffered
		if c.left == 0 || free <= 0 || free < c.buffer/3 {
			return
		}
		n = min(free, c.left)
		c.left, c.buffered = c.left-n, c.buffered+n
		if c.left == 0 {
			c.writes.End(int(c.size))
		}
	}
}

// look looks at each connection, after visit, and drops those that are too far behind.
func (r *room) look(visit func(c *conn)) {
	survey := NewSurvey(uint64(len(r.frames)))
	for _, c := range r.conns {
		if c.dropped != "" {
			continue
		}
		visit(c)
		lag := r.lag(c)
		r.most = max(r.most, lag)
		if r.pace.TooFar(lag) {
			c.dropped = "too far behind"
		} else if c.next < int64(len(r.frames)) && c.dropped == "" {
			survey.Add(lag, uint64(c.next), &c.meter)
		}
	}
	r.pace.SetSurvey(survey)
}

// say sends a frame at a time within the current step.
func (r *room) say(size int64, at time.Duration) {
	r.frames, r.end, r.said = append(r.frames, size), r.end+size, at
	r.pace.Sent(int(size))
	r.look(func(c *conn) {
		if c.next == int64(len(r.frames)-1) && c.queue < part {
			c.queue, c.sent, c.next = c.queue+size, c.sent+size, c.next+1
		}
	})
	r.pace.FannedOut(now.Add(at), len(r.conns))
}

// sweep looks at each connection, as once a second.
func (r *room) sweep() {
	r.look(func(c *conn) {
		c.meter.Sweep(c.writes.Bytes(), r.lag(c))
		if c.stall.Sweep(&c.writes) >= 10*time.Second {
			c.dropped = "blocked"
		}
	})
}

// speak has people speak in the current step. It fails if lines of a flood have less than 32 KiB/s, or if lines
// at a rate are held back at all.
func (r *room) speak() {
	for range 100 { // more is more than the processors can do
		due := r.now
		if r.rate > 0 {
			due = max(due, r.said+time.Duration(r.size)*time.Second/time.Duration(r.rate))
		}
		held, _ := r.pace.Due(now, int(r.size), true, time.Time{})
		until := held.Sub(now)
		if until > r.said+time.Duration(r.size)*time.Second/slowest || r.rate > 0 && until > due {
			r.t.Fatalf("after %v: got a frame of %d bytes held back for %v after the last", r.now, r.size, until-r.said)
		}
		if due = max(due, until); due >= r.now+step {
			return
		}
		r.say(r.size, due)
	}
}

// run goes on for d, or until all connections are dropped. It calls meanwhile in each step.
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
		meanwhile()
		r.speak()
	}
}

func nothing() {}

// expect checks why the first n connections were dropped; "" if they were not.
func (r *room) expect(n int, want string) {
	r.t.Helper()
	for i, c := range r.conns[:n] {
		if c.dropped != want {
			r.t.Errorf("connection %d, %d bytes every %v: got dropped %q, want %q; the largest lag was %d", i, c.bytes, c.every, c.dropped, want, r.most)
		}
	}
}

// A connection that reads 32 KiB/s, steadily or in bursts up to 10 s apart, is not dropped, even if it first
// gets a long history, and while others come and go. The room has at least 32 KiB/s meanwhile.
func TestReadersAreNotDropped(t *testing.T) {
	type row struct {
		name    string
		size    int64
		history int // MiB that the connections get first
		readers []pattern
	}
	const apart, line = 9900 * time.Millisecond, 32 << 10
	least := steady(slowest + 20)
	rows := []row{
		{"bit by bit", line, 0, []pattern{least}},
		{"in bursts", line, 0, []pattern{bursts(slowest, apart), bursts(slowest, apart), bursts(slowest, apart)}},
		{"fast in bursts", line, 0, []pattern{bursts(100_000, apart)}},
		{"long lines", 1 << 20, 0, []pattern{steady(100_000)}},
		{"very long lines", 4 << 20, 0, []pattern{steady(200_000)}},
		{"lines longer than 16 MiB", 17 << 20, 0, []pattern{steady(500_000)}},
		{"mixed speeds", line, 0, []pattern{steady(50_000), portions(1_000_000), steady(250_000), portions(50_000), steady(1_000_000)}},
		{"a long history", line, 16, []pattern{least, bursts(100_000, apart), steady(250 << 10)}},
		{"many", line, 0, nil},
	}
	for i := range 30 {
		rows[len(rows)-1].readers = append(rows[len(rows)-1].readers, bursts(slowest, time.Duration(i+1)*330*time.Millisecond))
	}
	for every := 6 * time.Second; every < 10*time.Second; every += 1300 * time.Millisecond {
		tcp := bursts(50_000, every)
		tcp.buffer = 128 << 10
		rows = append(rows, row{fmt.Sprint("every ", every), line, 0, []pattern{bursts(slowest, every)}},
			row{fmt.Sprint("a TCP window every ", every), line, 0, []pattern{tcp}})
	}
	for _, speed := range []int64{50_000, 100_000, 250_000, 1_000_000} {
		rows = append(rows, row{fmt.Sprint(speed, " bytes a second, short frames"), 4000, 0, []pattern{steady(speed), portions(speed)}},
			row{fmt.Sprint(speed, " bytes a second"), line, 0, []pattern{steady(speed), portions(speed)}})
	}
	for _, test := range rows {
		t.Run(test.name, func(t *testing.T) {
			r := &room{t: t, size: test.size}
			for range test.history {
				r.say(1<<20, 0)
			}
			for _, p := range test.readers {
				r.join(p, true)
			}
			if r.sweep(); r.most > 0 {
				t.Errorf("got a lag of %d bytes for the history, want none", r.most)
			}
			duration := time.Minute
			if test.history > 0 {
				duration = 9 * time.Minute // in which the slowest has read it
			}
			r.run(duration, func() {
				r.conns = r.conns[:len(test.readers)]
				r.join(pattern{}, false)
			})
			r.expect(len(test.readers), "")
		})
	}
}

// A connection that reads nothing, or so little that a write takes 10 s, is dropped for that before it is 14
// MiB behind. The room has 1.2 MB/s until then.
func TestBlockedConnectionsAreDropped(t *testing.T) {
	for _, p := range []pattern{{}, {buffer: 128 << 10}, {bytes: 1, every: step}, steady(5000)} {
		r := &room{t: t, size: 32 << 10}
		r.join(p, false)
		r.run(time.Second, nothing)
		before := r.end
		r.run(9*time.Second, nothing)
		if got := (r.end - before) / 9; got < 1_220_000-32<<10 || got > 1_230_000+32<<10 {
			t.Errorf("%+v: got %d bytes a second, want 1.2 MB", p, got)
		}
		r.expect(1, "")
		r.run(3*time.Second, nothing)
		r.expect(1, "blocked")
		if r.most < 12<<20 || r.most > 14<<20 {
			t.Errorf("%+v: got a lag of %d bytes, want less than 14 MiB", p, r.most)
		}
	}
}

// Connections that read less than 32 KiB/s, but have no write that takes 10 s, are dropped when they are
// 16 MiB behind. However many they are, the room has at least 32 KiB/s.
func TestSlowConnectionsAreDropped(t *testing.T) {
	for _, p := range []pattern{steady(16 << 10), steady(22 << 10), {bytes: 128 << 10, every: 9 * time.Second}} {
		r := &room{t: t, size: 32 << 10}
		for i := range 8 {
			r.join(p, false)
			r.conns[i].again = time.Duration(i) * 100 * time.Millisecond
		}
		r.run(20*time.Minute, nothing)
		r.expect(8, "too far behind")
		if want := int64(16<<20 + 32<<10); r.most < want || r.most > want+64<<10 {
			t.Errorf("%+v: got a lag of %d bytes, want about %d", p, r.most, want)
		}
	}
}

// Connections that come one after another and read nothing delay no line of a room that says 500 kB/s.
func TestConnectionsThatComeAndDoNotRead(t *testing.T) {
	r := &room{t: t, size: 4000, rate: 500_000}
	r.join(steady(1_000_000), false)
	r.run(20*time.Second, func() {
		if r.now%(60*time.Millisecond) == 0 {
			r.join(pattern{}, false)
		}
	})
	r.expect(1, "")
	if last := r.conns[len(r.conns)-1]; r.end < 19*500_000 || r.conns[1].dropped != "blocked" || last.dropped != "" {
		t.Errorf("got %d bytes in 20 s, the first dropped %q and the last %q; want 500 kB/s, %q, %q",
			r.end, r.conns[1].dropped, last.dropped, "blocked", "")
	}
}
