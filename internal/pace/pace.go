// Package pace decides how fast a room may go, so that a connection that reads is not dropped for being slow.
//
// A connection lags when more than [MaxLag] bytes of the room's stream were not sent to it, or fewer if memory is
// scarce. While a connection lags, the Hub holds back pending lines, and the clients that send more lines must wait. A
// connection that reads at least [MinSpeed] bytes a second, steadily or in bursts up to ten seconds apart,
// keeps up with the slowed room. One that reads less is dropped, because a write takes [WriteWait] or because
// [Pace.TooFar] reports true.
//
// Several rooms that are flooded at the same time rest between their flushes, so that they leave processors idle for
// other rooms.
//
// The package knows only numbers: bytes, times, and speeds in bytes a second.
package pace

import (
	"math"
	"runtime"
	"sync/atomic"
	"time"
)

// SweepPeriod is the time between two sweeps, in which the Hub looks at each of its connections.
const SweepPeriod = time.Second

// WriteWait is the time allowed for one write to a peer.
const WriteWait = 10 * time.Second

const (
	// MaxLag is the number of bytes by which a connection may be behind without slowing down its room. Less would
	// cost throughput where connections take turns on a processor. More would be seconds of delay on a slow line.
	MaxLag = 512 << 10

	// MinSpeed is the speed below which lagging connections can't slow down a room.
	MinSpeed = 32 << 10

	// dropLag is the lag, in bytes, beyond which a connection is dropped while there is enough memory.
	dropLag = 16 << 20

	// burst is how much lag is left, in bytes, before a connection is dropped, when it slows down its room to
	// MinSpeed. It is for peers that read in bursts. A peer that reads 50 kB/s in portions of 100 kB opens its TCP
	// window every 6 to 8 s (Linux 6.18).
	burst = 2 << 20

	// speedSweeps is the number of sweeps over which a connection's speed is averaged.
	speedSweeps = 8

	// writeTime is about the processor time of one write and of its peer's read. After a fan-out, lines wait for
	// writeTime per connection and share the next writes. A larger value saves processor time in large rooms. A
	// smaller one saves latency: with 10,000 people on two cores it adds 50 ms.
	writeTime = 10 * time.Microsecond

	// flushTime is about the processor time of a flush, without its writes.
	flushTime = 20 * time.Microsecond

	// byteTime is about the processor time, in nanoseconds, of a byte in a write.
	byteTime = 0.5

	// crowdRest is how many times the estimated work of all flooded rooms lies between two flushes of one of them. So
	// they take half of the processors.
	crowdRest = 2
)

// settleTime is the shortest time between two fan-outs if the first one found a connection lagging. A
// connection that has caught up with its queue has yet to write it. Without this time a flooded room of 1,000
// fills its peers' buffers, and p99 latency doubles (flat-out-1000 of bench).
const settleTime = time.Millisecond

// Meter measures how fast one connection reads while it lags. The zero Meter has measured nothing.
type Meter struct {
	lagged  bool   // the connection lagged at the last sweep
	written uint64 // bytes written to it until then
	speed   int64
}

// Sweep notes the number of bytes that were written to the connection so far, and whether it lags. It must be called
// each SweepPeriod. It counts only bytes that were written between two sweeps that both found the connection
// lagging. Other bytes may be in the system's buffers, unread.
func (m *Meter) Sweep(written uint64, lags bool) {
	read := int64(0)
	if lags && m.lagged {
		read = int64(written - m.written)
	}
	m.lagged, m.written = lags, written
	m.speed += (read - m.speed) / speedSweeps
}

// allowed returns the speed that a room may have while the connection has this lag, and is dropped beyond limit.
// Beside a connection that reads, it is half the connection's speed, so that the connection catches up.
func (m *Meter) allowed(lag, limit int64) int64 {
	minSpeedLag := limit - min(burst, limit/2)
	// At stalledSpeed, the blocked write of a connection that reads nothing has taken WriteWait, and a sweep has
	// noticed it, before the connection is minSpeedLag behind.
	stalledSpeed := max(MinSpeed, minSpeedLag/int64((WriteWait+2*SweepPeriod)/time.Second))
	switch {
	case lag > minSpeedLag:
		return MinSpeed
	case m.speed > MinSpeed/2:
		return min(max(m.speed/2, MinSpeed), stalledSpeed)
	default:
		return stalledSpeed
	}
}

// Survey is what one look at all connections of a room finds.
type Survey struct {
	limit   int64 // the lag, in bytes, beyond which a connection is dropped
	lagging int
	speed   int64  // the room's highest speed; only valid if a connection lags
	needed  uint64 // the first line of the stream that a connection still needs
}

// Lags reports whether a connection with this lag slows down the room. Scarce memory lowers the limit, so that the
// room slows down before the connection must be dropped.
func (s *Survey) Lags(lag int64) bool { return lag > min(MaxLag, s.limit/4) }

// Needed returns the first line of the stream that a connection still needs.
func (s Survey) Needed() uint64 { return s.needed }

// Add adds a connection that is behind, with its lag, the first line that it needs, and its meter.
func (s *Survey) Add(lag int64, line uint64, m *Meter) {
	s.needed = min(s.needed, line)
	if s.Lags(lag) {
		s.lagging++
		s.speed = min(s.speed, m.allowed(lag, s.limit))
	}
}

// Crowd is the flooded rooms of a chat: those in which lines had to wait for their flush in the last two sweeps. Any
// goroutine may use it.
type Crowd struct {
	rooms atomic.Int64
	work  atomic.Int64 // sum of their Pace.work, in nanoseconds
}

// Pace decides when a room's next flush is due.
type Pace struct {
	crowd     *Crowd
	flooded   bool          // the room is in crowd
	waited    bool          // lines had to wait since the last sweep
	work      time.Duration // about the processor time of the last flush and its writes
	limit     int64         // the lag beyond which a connection is dropped
	survey    Survey        // the last look at all connections; Changed keeps it up to date
	lagged    bool          // the last look found a connection lagging
	fannedOut time.Time     // when the last fan-out ended
	written   time.Time     // when it has probably been written
	longest   int64         // bytes of the longest frame so far
	sent      int           // bytes of the frames since the last fan-out
}

// New returns the Pace of a room without connections. crowd is that of all rooms.
func New(crowd *Crowd) Pace {
	return Pace{crowd: crowd, limit: dropLag, survey: Survey{limit: dropLag, needed: math.MaxUint64}}
}

// NewSurvey returns a Survey without a connection. The room's stream has this number of lines, and connections may
// be up to free bytes behind.
func (p *Pace) NewSurvey(lines uint64, free int64) Survey {
	p.limit = min(dropLag, free)
	return Survey{limit: p.limit, speed: math.MaxInt64, needed: lines}
}

// TooFar reports whether a connection with this lag must be dropped. The room's longest frame is added to the
// limit, because a single message may be longer.
func (p *Pace) TooFar(lag int64) bool { return lag > p.limit+p.longest }

// Sent notes that the room sends a frame of size bytes.
func (p *Pace) Sent(size int) {
	p.longest = max(p.longest, int64(size))
	p.sent += size
}

// Longest returns the number of bytes of the longest frame so far.
func (p *Pace) Longest() int64 { return p.longest }

// SetSurvey replaces the Survey of the last look.
func (p *Pace) SetSurvey(s Survey) { p.survey, p.lagged = s, s.lagging > 0 }

// Behind reports whether the last look found a connection that still needs lines before the end of a stream of this
// number of lines.
func (p *Pace) Behind(lines uint64) bool { return p.survey.needed < lines }

// Changed notes that one connection's lag has fallen since the last look. A connection that is dropped has
// fallen to 0.
func (p *Pace) Changed(before, after int64) {
	if p.survey.Lags(before) && !p.survey.Lags(after) {
		p.survey.lagging--
	}
}

// FannedOut notes that a fan-out to this number of connections has ended. If two or more rooms are flooded, this one
// rests long enough for each of them to flush once, but not for the whole of flushes that are longer than its own. So
// each takes as much of the processors as any other. FannedOut returns about the processor time of the flush and
// its writes if two rooms are flooded, and otherwise 0.
func (p *Pace) FannedOut(now time.Time, connections int) (work time.Duration) {
	n := time.Duration(connections)
	wait := n * writeTime
	before := p.work
	p.work = flushTime + wait + n*time.Duration(byteTime*float64(p.sent))
	if p.flooded {
		p.crowd.work.Add(int64(p.work - before))
	}
	if rooms := time.Duration(p.crowd.rooms.Load()); p.flooded && rooms > 1 {
		work = p.work
		wait = crowdRest * min(rooms*p.work, time.Duration(p.crowd.work.Load()))
	}
	p.fannedOut, p.sent = now, 0
	p.written = now.Add(wait / time.Duration(runtime.GOMAXPROCS(0)))
	return work
}

// Waits notes that lines of the room wait for their flush.
func (p *Pace) Waits() {
	p.waited = true
	if !p.flooded {
		p.flooded = true
		p.crowd.rooms.Add(1)
		p.crowd.work.Add(int64(p.work))
	}
}

// Flooded reports whether the room is in the Crowd.
func (p *Pace) Flooded() bool { return p.flooded }

// Sweep takes the room out of the Crowd if no lines had to wait since the last sweep. It must be called each
// SweepPeriod while the room is flooded.
func (p *Pace) Sweep() {
	if p.flooded && !p.waited {
		p.flooded = false
		p.crowd.rooms.Add(-1)
		p.crowd.work.Add(-int64(p.work))
	}
	p.waited = false
}

// End takes the room out of the Crowd.
func (p *Pace) End() {
	p.waited = false
	p.Sweep()
}

// crowded reports whether another room is flooded.
func (p *Pace) crowded() bool {
	return p.crowd.rooms.Load() > 1 || !p.flooded && p.crowd.rooms.Load() > 0
}

// Due returns when size pending bytes may be flushed, and whether lagging connections hold them back. If full
// is true, and no other room is flooded, they need not wait for the last fan-out's writes. They never wait beyond latest,
// unless it is zero.
func (p *Pace) Due(now time.Time, size int, full bool, latest time.Time) (due time.Time, heldBack bool) {
	held := p.heldUntil(size)
	due = held
	if (!full || p.crowded()) && due.Before(p.written) {
		due = p.written
	}
	if !latest.IsZero() && latest.Before(due) {
		due = latest
	}
	return due, held.After(now) && due.After(now)
}

// heldUntil returns the time until which lagging connections hold back size pending bytes. It returns the zero
// time if none lags, and none lagged at the last look.
func (p *Pace) heldUntil(size int) time.Time {
	if !p.lagged {
		return time.Time{}
	}
	held := settleTime
	if p.survey.lagging > 0 {
		held = max(held, time.Duration(float64(size)/float64(p.survey.speed)*float64(time.Second)))
	}
	return p.fannedOut.Add(held)
}
