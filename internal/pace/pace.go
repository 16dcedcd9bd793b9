// Package pace decides how fast a room may go, so that a connection that reads is not dropped for being slow.
//
// A connection lags when more than [MaxLag] bytes of the room's stream were not sent to it. While a
// connection lags, the Hub holds back pending lines, and the clients that send more lines must wait. A
// connection that reads at least [MinSpeed] bytes a second, steadily or in bursts up to ten seconds apart,
// keeps up with the slowed room. One that reads less is dropped, because a write takes [WriteWait] or because
// [Pace.TooFar] reports true.
//
// The package knows only numbers: bytes, times, and speeds in bytes a second.
package pace

import (
	"math"
	"runtime"
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

	// minSpeedLag is the lag, in bytes, beyond which a connection slows down its room to MinSpeed.
	minSpeedLag = 14 << 20

	// stalledSpeed is the speed of a room beside a connection that reads nothing. At this speed the blocked write
	// has taken WriteWait, and a sweep has noticed it, before the connection is minSpeedLag behind.
	stalledSpeed = minSpeedLag / int64((WriteWait+2*SweepPeriod)/time.Second)

	// dropLag is the lag, in bytes, beyond which a connection is dropped. The space from minSpeedLag on is for
	// peers that read in bursts. A peer that reads 50 kB/s in portions of 100 kB opens its TCP window every 6 to
	// 8 s (Linux 6.18).
	dropLag = 16 << 20

	// speedSweeps is the number of sweeps over which a connection's speed is averaged.
	speedSweeps = 8

	// writeTime is about the processor time of one write and of its peer's read. After a fan-out, lines wait for
	// writeTime per connection and share the next writes. A larger value saves processor time in large rooms. A
	// smaller one saves latency: with 10,000 people on two cores it adds 50 ms.
	writeTime = 10 * time.Microsecond
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

// Sweep notes the number of bytes that were written to the connection so far, and its lag. It must be called
// each SweepPeriod. It counts only bytes that were written between two sweeps that both found the connection
// lagging. Other bytes may be in the system's buffers, unread.
func (m *Meter) Sweep(written uint64, lag int64) {
	read, lags := int64(0), lag > MaxLag
	if lags && m.lagged {
		read = int64(written - m.written)
	}
	m.lagged, m.written = lags, written
	m.speed += (read - m.speed) / speedSweeps
}

// allowed returns the speed that a room may have while the connection has this lag. Beside a connection that
// reads, it is half the connection's speed, so that the connection catches up.
func (m *Meter) allowed(lag int64) int64 {
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
	lagging int
	speed   int64  // the room's highest speed; only valid if a connection lags
	needed  uint64 // the first line of the stream that a connection still needs
}

// NewSurvey returns a Survey without a connection, for a stream of this number of lines.
func NewSurvey(lines uint64) Survey { return Survey{speed: math.MaxInt64, needed: lines} }

// Needed returns the first line of the stream that a connection still needs.
func (s Survey) Needed() uint64 { return s.needed }

// Add adds a connection that is behind, with its lag, the first line that it needs, and its meter.
func (s *Survey) Add(lag int64, line uint64, m *Meter) {
	s.needed = min(s.needed, line)
	if lag > MaxLag {
		s.lagging++
		s.speed = min(s.speed, m.allowed(lag))
	}
}

// Pace decides when a room's next flush is due. The zero Pace is that of a room without connections.
type Pace struct {
	survey    Survey    // the last look at all connections; Changed keeps it up to date
	lagged    bool      // the last look found a connection lagging
	fannedOut time.Time // when the last fan-out ended
	written   time.Time // when it can have been written
	longest   int64     // bytes of the longest frame so far
}

// TooFar reports whether a connection with this lag must be dropped. The limit is dropLag and the room's
// longest frame, because a single message may be longer than dropLag.
func (p *Pace) TooFar(lag int64) bool { return lag > dropLag+p.longest }

// Sent notes that the room sends a frame of size bytes.
func (p *Pace) Sent(size int) { p.longest = max(p.longest, int64(size)) }

// SetSurvey replaces the Survey of the last look.
func (p *Pace) SetSurvey(s Survey) { p.survey, p.lagged = s, s.lagging > 0 }

// Changed notes that one connection's lag has fallen since the last look. A connection that is dropped has
// fallen to 0.
func (p *Pace) Changed(before, after int64) {
	if before > MaxLag && after <= MaxLag {
		p.survey.lagging--
	}
}

// FannedOut notes that a fan-out to this number of connections has ended.
func (p *Pace) FannedOut(now time.Time, connections int) {
	p.fannedOut = now
	p.written = now.Add(writeTime * time.Duration(connections) / time.Duration(runtime.GOMAXPROCS(0)))
}

// Due returns when size pending bytes may be flushed, and whether lagging connections hold them back. If full
// is true, they need not wait for the last fan-out's writes. latest ends the holding back, unless it is zero.
func (p *Pace) Due(now time.Time, size int, full bool, latest time.Time) (due time.Time, heldBack bool) {
	due = p.heldUntil(size)
	if !latest.IsZero() && latest.Before(due) {
		due = latest
	}
	heldBack = due.After(now)
	if !full && due.Before(p.written) {
		due = p.written
	}
	return due, heldBack
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
