package main

import "time"

const (
	// Bytes that may wait in a connection's queue. When it has taken them it asks for more.
	sendWindow = 64 << 10

	// A connection is lagging if it has more bytes of the stream than this before it. While
	// one is that keeps up, the Hub takes no lines. Less costs throughput where connections
	// take turns on a processor, more is seconds of delay on a slow line.
	maxLag = 512 << 10

	// A lagging connection keeps up if it takes minSpeed bytes a second. It is credited with
	// the time for what it takes, up to stallTimeout, since that comes in lumps: a peer that
	// takes 50 kB/s in gulps of 100 kB opens its TCP window each 6 to 8 s (Linux 6.18).
	// firstCredit is for one that has begun to lag: it may only wait for a processor.
	minSpeed     = 32 << 10
	stallTimeout = writeWait
	firstCredit  = 250 * time.Millisecond

	// A lagging connection that doesn't keep up is stalled: it is not waited for, and is
	// dropped when the stream holds maxHeld bytes for it, beside the history. Until then the
	// Hub takes stalledIntake bytes a second, so that the connection has writeWait to show
	// some progress. Less would slow the room, more would take memory.
	maxHeld       = 8 << 20
	stalledIntake = (maxHeld - maxLag) / int(writeWait/time.Second)

	// When most connections have more than one batch waiting, the Hub gathers lines for that
	// long: fewer and larger frames cost less.
	gatherPause = 200 * time.Microsecond
)

// delivery is how far a Conn is in the stream. Only the Hub uses it.
type delivery struct {
	position position // behind what was put into the Conn's queue
	queued   int      // bytes in the queue, since it was seen empty
	behind   bool     // what follows position waits until the Conn asks for more
	owed     []*frame // control frames that wait with it
	excused  uint64   // bytes behind position that are no lag: missed before it joined, or while it was stalled

	seen     uint64    // bytes written when keepingUp was called last
	credited time.Time // until when it keeps up
}

// backpressure is what the last fan-out has shown.
type backpressure struct {
	pause     <-chan time.Time // until the next fan-out, or nil
	busy      int              // connections that have more than one batch waiting
	lagging   []*Conn          // those that kept up
	stalled   bool             // whether there were others
	throttled time.Time        // since when lagging connections keep the Hub from taking lines, or zero
}

// keepingUp reports whether c, which is lagging, takes minSpeed.
func (c *Conn) keepingUp(now time.Time) bool {
	written := c.writes.bytes()
	taken := min(written-c.seen, minSpeed*uint64(stallTimeout/time.Second))
	earned := time.Duration(taken) * time.Second / minSpeed
	if now.Sub(c.credited) > stallTimeout {
		earned = firstCredit
	}
	if c.credited.Before(now) {
		c.credited = now
	}
	c.seen, c.credited = written, c.credited.Add(earned)
	if latest := now.Add(stallTimeout); c.credited.After(latest) {
		c.credited = latest
	}
	return c.credited.After(now)
}

// lag returns by how many bytes c lags.
func (h *Hub) lag(c *Conn) uint64 {
	if !c.behind {
		return 0
	}
	return h.stream.end.bytes - c.position.bytes - c.excused
}

// judge looks at a connection after a fan-out, of which it is called for each.
func (h *Hub) judge(c *Conn) {
	if c.behind || len(c.send) > 1 {
		h.busy++
	}
	lag := h.lag(c)
	switch {
	case lag <= maxLag:
	case c.keepingUp(time.Now()):
		h.lagging = append(h.lagging, c)
	case h.stream.beforeHistory(c.position) > maxHeld:
		h.counters.tooSlow.Add(1)
		h.drop(c, tooSlow)
	default:
		c.excused += lag - maxLag
		h.stalled = true
	}
}

// setPause sets the pause after a fan-out of size bytes: up to 100 ms, since a message may be
// long.
func (h *Hub) setPause(size int) {
	switch {
	case h.stalled:
		h.pause = time.After(min(time.Duration(size)*time.Second/time.Duration(stalledIntake), 100*time.Millisecond))
	case h.busy > len(h.connections)/2:
		h.pause = time.After(gatherPause)
	}
}

// waiting reports whether there is a lagging connection that keeps up.
func (h *Hub) waiting() bool {
	for n := len(h.lagging) - 1; n >= 0; n-- {
		if c := h.lagging[n]; h.connections[c] && h.lag(c) > maxLag && c.keepingUp(time.Now()) {
			return true
		}
		h.lagging[n] = nil
		h.lagging = h.lagging[:n]
	}
	return false
}

// intake returns the channel of new lines, or nil while none are taken: then readPumps wait,
// and the peers whose sockets they don't read.
func (h *Hub) intake() <-chan []byte {
	if h.isDraining() && time.Now().After(h.drainDeadline) {
		return h.broadcast // nothing but what readPumps have read already
	}
	waiting, full := h.waiting(), h.full()
	if waiting && h.pause == nil {
		h.pause = time.After(gatherPause) // then credit may have run out
	}
	h.throttle(waiting || full && h.stalled)
	if waiting || full {
		return nil
	}
	return h.broadcast
}

// throttle counts how often and for how long lagging connections keep the Hub from taking lines.
func (h *Hub) throttle(on bool) {
	switch {
	case on && h.throttled.IsZero():
		h.throttled = time.Now()
		h.counters.throttled.Add(1)
	case !on && !h.throttled.IsZero():
		h.counters.throttledSeconds.Add(time.Since(h.throttled).Seconds())
		h.throttled = time.Time{}
	}
}
