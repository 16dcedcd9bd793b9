package main

import (
	"math"
	"runtime"
	"slices"
	"time"
)

const (
	// Bytes that may wait in a connection's queue. When it has taken them it asks for more.
	sendWindow = 64 << 10

	// A connection is lagging if more bytes of the stream than this have not been sent to it. While
	// one is, fan-outs wait for it to take some. Less costs throughput where connections
	// take turns on a processor, more is seconds of delay on a slow line.
	maxLag = 512 << 10

	// Lagging connections can't slow the stream below minSpeed, in bytes a second. One that
	// takes as much is never dropped for being slow.
	minSpeed = 32 << 10

	// Up to lowHeld, a lagging connection that takes nothing lets the stream have heldSpeed, and is
	// broken off for its blocked write before it gets there. From there on the stream has
	// minSpeed, and at maxHeld the connection is dropped. What is between is for peers that take
	// minSpeed, but in lumps: one that takes 50 kB/s in gulps of 100 kB opens its TCP window
	// each 6 to 8 s (Linux 6.18).
	lowHeld   = 14 << 20
	maxHeld   = 16 << 20
	heldSpeed = lowHeld / int64((writeWait+2*sweepPeriod)/time.Second)

	// The speed of a lagging connection is averaged over this many sweeps.
	speedSweeps = 8

	// While a connection lags and lines wait for it, the Hub checks with this period whether they still
	// have to.
	lagPeriod = 200 * time.Microsecond

	// Processor time that a write to a connection takes, with the peer's read: the CPU for a line in
	// bench/RESULTS.md, quiet-1000, and some more.
	writeTime = 10 * time.Microsecond
)

// delivery is how far a Conn is in the stream. Only the Hub uses it.
type delivery struct {
	position       position // behind what was put into the Conn's queue
	queued         int      // bytes in the queue, since it was seen empty
	behind         bool     // what follows position waits until the Conn asks for more
	pendingControl []*frame // control frames that wait with it
	missed         uint64   // bytes after position that were said before the Conn came; they are no lag

	lagged  bool   // whether it was lagging at the last sweep
	written uint64 // bytes until then
	speed   int64  // bytes a second that it took of late while it was lagging
}

// backpressure is what decides when the next fan-out is.
type backpressure struct {
	pause     <-chan time.Time // until what is pending is looked at again, or nil
	fannedOut time.Time        // when the last fan-out was
	throttled time.Time        // since when fan-outs wait for lagging connections, or zero
	longest   int64            // bytes of the longest frame so far: a lag of maxHeld and that much is allowed

	// What the last fan-out or sweep has found.
	lagging []*Conn
	needed  uint64 // the first line that a connection needs
	speed   int64  // bytes a second that the stream has in spite of lagging connections
}

// measure updates the speed of c. The sweep calls it.
func (c *Conn) measure(lag int64) {
	written, lagging, taken := c.writes.bytes(), lag > maxLag, int64(0)
	if lagging && c.lagged { // else the bytes may only have filled the system's buffers
		taken = int64(written - c.written)
	}
	c.lagged, c.written = lagging, written
	c.speed += (taken - c.speed) / speedSweeps
}

// lag returns by how many bytes c lags.
func (h *Hub) lag(c *Conn) int64 {
	if !c.behind {
		return 0
	}
	return int64(h.stream.end.bytes - c.position.bytes - c.missed)
}

// allowedSpeed returns how many bytes a second the stream may have while c lags that much: if c is
// reading, half of what it takes, so that it catches up.
func (c *Conn) allowedSpeed(lag int64) int64 {
	switch {
	case lag > lowHeld:
		return minSpeed
	case c.speed > minSpeed/2:
		return min(max(c.speed/2, minSpeed), heldSpeed)
	default:
		return heldSpeed
	}
}

// resetLag forgets what the last fan-out or sweep has found.
func (h *Hub) resetLag() {
	clear(h.lagging)
	h.lagging, h.speed, h.needed = h.lagging[:0], math.MaxInt64, h.stream.end.lines
}

// checkLag adds c to what a fan-out, or a sweep, finds. It drops c if it is maxHeld behind.
func (h *Hub) checkLag(c *Conn) {
	if c.behind {
		h.needed = min(h.needed, c.position.lines)
	}
	switch lag := h.lag(c); {
	case lag > maxHeld+h.longest:
		h.rooms.counters.droppedSlow.Add(1)
		h.drop(c, nil, errTooSlow)
	case lag > maxLag:
		h.lagging = append(h.lagging, c)
		h.speed = min(h.speed, c.allowedSpeed(lag))
	}
}

// anyLagging reports whether a connection still lags. It takes those that don't off h.lagging, up to the
// first that does.
func (h *Hub) anyLagging() bool {
	for n := len(h.lagging) - 1; n >= 0; n-- {
		if c := h.lagging[n]; h.connections[c] && h.lag(c) > maxLag {
			return true
		}
		h.lagging = slices.Delete(h.lagging, n, n+1)
	}
	return false
}

// wait returns for how long to leave what is pending before asking again; it is broadcast now if that is 0
// or less. While a connection lags it is lagPeriod, until the time that the stream's speed allows, or until
// drainDeadline. Otherwise it is the time until the last fan-out can have been written: what comes meanwhile
// shares its writes.
func (h *Hub) wait() time.Duration {
	now, anything := time.Now(), len(h.pending)+len(h.waiting) > 0
	held := anything && h.anyLagging() && now.Before(h.fannedOut.Add(h.timeAtSpeed())) && !(h.isDraining() && now.After(h.drainDeadline))
	h.countThrottle(held)
	switch {
	case held:
		return lagPeriod
	case !anything || h.enough():
		return 0
	default:
		fanOutTime := writeTime * time.Duration(len(h.connections)) / time.Duration(runtime.GOMAXPROCS(0))
		return h.fannedOut.Add(fanOutTime).Sub(now)
	}
}

// timeAtSpeed returns how long what is pending takes at the stream's speed.
func (h *Hub) timeAtSpeed() time.Duration {
	size := h.size + min(h.waitingCost, coalesceLimit)
	return time.Duration(float64(size) / float64(h.speed) * float64(time.Second))
}

// countThrottle counts how often and for how long lines are held.
func (h *Hub) countThrottle(on bool) {
	switch {
	case on && h.throttled.IsZero():
		h.throttled = time.Now()
		h.rooms.counters.throttled.Add(1)
	case !on && !h.throttled.IsZero():
		h.rooms.counters.throttledSeconds.Add(time.Since(h.throttled).Seconds())
		h.throttled = time.Time{}
	}
}
