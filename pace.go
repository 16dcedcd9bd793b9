// pace.go: how fast the Hub fans out: as fast as the connections can follow.

package main

import (
	"math"
	"slices"
	"time"
)

const (
	// A connection with that many frames waiting is late: its writePump is behind.
	late = 8

	// When more than half of the room is late, it is given time to catch up, a step at
	// a time. If nobody has made any of it for patience, and more for each who is late,
	// they are stuck: they are not waited for again until they have caught up. And while
	// they make some of it, but little, the Hub goes on when it has waited that long, and
	// longer the fuller their queues are: so those can't hold it who take just enough to be
	// waited for. But where there is nobody else, nothing is gained by going on.
	catchUp     = time.Millisecond
	patience    = 100 * catchUp
	patienceFor = 40 * time.Microsecond

	// From this many waiting frames on, even a single connection slows the Hub down, by
	// maxPause between two frames when its queue is nearly full. That gives a writePump
	// which the scheduler has not woken yet some 200 ms, and a stuck peer costs the
	// others no more than that before its queue is full.
	crowded  = sendQueue / 4
	maxPause = 4 * time.Millisecond
)

// pace tells the Hub when to fan out next. The Hub alone uses it: nobody is asked
// anything, it looks at the queues.
//
// While the Hub pauses, lines are gathered, and so the next frames are larger: what
// pauses cost in latency they return in throughput. When no more can be gathered
// senders wait, and with them the TCP connections they are read from.
type pace struct {
	// Set while the Hub pauses; it receives when the pause is over.
	pause <-chan time.Time

	// What the last fan-out has shown: who is late, not counting those who are stuck;
	// how many are in time, and stuck; and the longest queue.
	late    []*Conn
	inTime  int
	stuck   int
	longest int

	// While the room catches up: for how long it has done so; how many frames waited
	// when they last became fewer; and when in that time this was.
	waited   time.Duration
	waiting  int
	progress time.Duration
}

// begin is called when a fan-out begins.
func (p *pace) begin() {
	p.late = slices.Delete(p.late, 0, len(p.late))
	p.inTime, p.stuck, p.longest = 0, 0, 0
	p.waited, p.waiting = 0, math.MaxInt
}

// welcome is called for each connection that joins: it has heard all it is to hear.
func (p *pace) welcome() { p.inTime++ }

// see is called for each connection for which a frame has been queued.
func (p *pace) see(c *Conn) {
	n := len(c.send)
	p.longest = max(p.longest, n)
	switch {
	case n < late:
		c.stuck = false
		p.inTime++
	case c.stuck:
		p.stuck++
	default:
		p.late = append(p.late, c)
	}
}

// set begins a pause if the last fan-out has shown that the connections can't follow.
func (p *pace) set() {
	if len(p.late) > p.inTime {
		p.pause = time.After(catchUp)
	} else if p.longest > crowded {
		p.pause = time.After(maxPause * time.Duration(p.longest-crowded) / (sendQueue - crowded))
	}
}

// allows reports whether the Hub may fan out. If not, p.pause says when to ask again.
func (p *pace) allows() bool {
	if p.pause == nil && p.catchingUp() {
		p.pause = time.After(catchUp)
	}
	return p.pause == nil
}

// catchingUp reports whether most of the room is late still, and there is use in
// waiting on.
func (p *pace) catchingUp() bool {
	if len(p.late) <= p.inTime {
		return false
	}
	p.waited += catchUp
	if waiting := p.recount(); waiting < p.waiting {
		p.waiting, p.progress = waiting, p.waited
	}
	n := len(p.late)
	if n <= p.inTime || p.inTime+p.stuck == 0 {
		return n > p.inTime
	}
	enough := patience + patienceFor*time.Duration(n)
	if p.waited-p.progress < enough {
		return p.waited < enough*time.Duration(p.waiting+n)/time.Duration(late*n) // a frame each is being written
	}
	for _, c := range p.late {
		c.stuck = true
	}
	return false
}

// recount moves those who have caught up from late to inTime, and returns how many
// frames wait for the others. It forgets those who are gone.
func (p *pace) recount() (waiting int) {
	p.late = slices.DeleteFunc(p.late, func(c *Conn) bool {
		n := len(c.send)
		waiting += n
		if n < late {
			p.inTime++
		}
		return n < late || c.gone()
	})
	return waiting
}
