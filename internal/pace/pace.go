// Package pace decides how fast a room may go, so that a connection that reads is not dropped for being slow.
//
// A connection lags when more than [MaxLag] bytes of the room's stream were not sent to it. While one lags, the
// room is slowed down: its lines are held, and so are the people who say them. A connection that reads at least
// [MinSpeed] bytes a second, steadily or in lumps of up to ten seconds, keeps up with the slowed room. One that
// reads less is [TooFar] behind at some point, or blocked in a write for too long, and is dropped.
//
// The package knows numbers only: bytes, times and speeds in bytes a second.
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

	// A connection that reads nothing slows down its room to heldSpeed. That is slow enough for its blocked
	// write to take WriteWait before the connection is lowHeld behind.
	lowHeld   = 14 << 20
	heldSpeed = lowHeld / int64((WriteWait+2*SweepPeriod)/time.Second)

	// From lowHeld on, a connection slows down its room to MinSpeed, and at maxHeld it is too far behind. The
	// space between the two is for peers that read in lumps: one that reads 50 kB/s in gulps of 100 kB opens
	// its TCP window every 6 to 8 s (Linux 6.18).
	maxHeld = 16 << 20

	// speedSweeps is the number of sweeps over which a connection's speed is averaged.
	speedSweeps = 8

	// writeTime is a tuning constant, about the processor time of one write and of the read at its other end.
	// Lines that come before the last fan-out can have been written wait for each other and share the next
	// writes. More saves processor time in large rooms, and less saves latency: with 10,000 people on two cores
	// it is 50 ms.
	writeTime = 10 * time.Microsecond
)

// Meter measures how fast one connection reads while it lags. The zero Meter has measured nothing.
type Meter struct {
	lagged  bool   // the connection lagged at the last sweep
	written uint64 // bytes written to it until then
	speed   int64
}

// Sweep notes the number of bytes that were written to the connection so far, and its lag. It must be called
// each SweepPeriod. Only bytes between two sweeps that both found the connection lagging count, because others
// may just have filled the system's buffers.
func (m *Meter) Sweep(written uint64, lag int64) {
	read, lags := int64(0), lag > MaxLag
	if lags && m.lagged {
		read = int64(written - m.written)
	}
	m.lagged, m.written = lags, written
	m.speed += (read - m.speed) / speedSweeps
}

// allowed returns the speed that a room may have while the connection has that lag. If the connection reads,
// this is half its speed, so that it catches up.
func (m *Meter) allowed(lag int64) int64 {
	switch {
	case lag > lowHeld:
		return MinSpeed
	case m.speed > MinSpeed/2:
		return min(max(m.speed/2, MinSpeed), heldSpeed)
	default:
		return heldSpeed
	}
}

// Survey is what one look at all connections of a room finds.
type Survey struct {
	lagging int
	speed   int64  // that the room may have; only valid if a connection lags
	needed  uint64 // the first line of the stream that a connection still needs
}

// NewSurvey returns a Survey without a connection, for a stream of that many lines.
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

// Pace decides when a room's next fan-out is due. The zero Pace is that of a room without connections.
type Pace struct {
	survey    Survey    // of the last look at all connections, kept up to date by Changed
	fannedOut time.Time // when the last fan-out ended
	written   time.Time // when it can have been written
	longest   int64     // bytes of the longest frame so far
}

// TooFar reports whether a connection with that lag is to be dropped. The longest frame is allowed beside
// maxHeld, because a single message may be longer than all of maxHeld.
func (p *Pace) TooFar(lag int64) bool { return lag > maxHeld+p.longest }

// Sent notes that a frame of size bytes is sent.
func (p *Pace) Sent(size int) { p.longest = max(p.longest, int64(size)) }

// Look replaces what the look before found.
func (p *Pace) Look(s Survey) { p.survey = s }

// Changed notes that the lag of one connection has become less since the last look.
func (p *Pace) Changed(before, after int64) {
	if before > MaxLag && after <= MaxLag {
		p.survey.lagging--
	}
}

// FannedOut notes that a fan-out to so many connections has ended.
func (p *Pace) FannedOut(now time.Time, connections int) {
	p.fannedOut = now
	p.written = now.Add(writeTime * time.Duration(connections) / time.Duration(runtime.GOMAXPROCS(0)))
}

// HeldUntil returns until when size pending bytes are held for lagging connections. If none lags, that is in
// the past.
func (p *Pace) HeldUntil(size int) time.Time {
	if p.survey.lagging == 0 {
		return time.Time{}
	}
	return p.fannedOut.Add(time.Duration(float64(size) / float64(p.survey.speed) * float64(time.Second)))
}

// WrittenBy returns when the last fan-out can have been written. Lines that come before then share the next writes.
func (p *Pace) WrittenBy() time.Time { return p.written }
