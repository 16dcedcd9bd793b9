// Package cpushare keeps processor time for those who send little while others flood.
//
// Go's scheduler gives new input to a goroutine at once only while a processor is idle. If goroutines keep all
// processors busy, it looks for input every 10 ms (sysmon in runtime/proc.go), and a line that passes four
// goroutines waits several times. A goroutine whose socket always has data never waits by itself. So the readers of
// one chat together get a share of the processors. Each of them estimates the work that its peer's input causes,
// and waits for its turn when all readers together exceed the share. Those who send little do not wait.
package cpushare

import (
	"runtime"
	"sync/atomic"
	"time"
)

const (
	// share is the part of the processors that all readers of a Share may take. What they read causes as much work
	// again in Hubs and writers. With 0.3, a room of ten in which everybody floods is as fast as without a limit.
	share = 0.3

	// turn is the work after which a peer must wait for its turn.
	turn = 100 * time.Microsecond

	// begin is the work that a new connection may cause before its first turn, so that clients join and pages load
	// while others flood. A request with a head of 500 bytes costs 80 µs. Heads of more than 2 KB wait.
	begin = 200 * time.Microsecond

	// tolerance is subtracted from each wait. An idle processor sleeps for at least 1 ms (netpoll in
	// runtime/netpoll_epoll.go), so short waits would leave processors idle below the share.
	tolerance = 2 * time.Millisecond

	// maxWait bounds the waits that Admit and Count cause. Work beyond it is refused, or not charged. A larger value
	// would only keep more peers waiting.
	maxWait = 250 * time.Millisecond

	// maxTurnWait is the longest wait for a turn. More than 6,000 peers that flood would wait longer, and get more than
	// the share instead, because otherwise a peer that says ten lines a second would wait, too.
	maxTurnWait = time.Second

	// nap is how long a peer that waits sleeps before it looks whether its connection is closed.
	nap = 250 * time.Millisecond

	// maxUnread is the number of bytes of a WebSocket that may come without a frame. A TLS record has up to 16,645
	// (RFC 8446, section 5.2, and its header), and crypto/tls may have read a part of the next one.
	maxUnread = 40 << 10
)

// The prices are estimates of the processor time for one peer's input. They were measured on an AMD EPYC with
// floods of empty pongs, of texts of 64 bytes and 4 KiB, and of requests.
const (
	readPrice      = time.Microsecond      // a read from the network
	bytePrice      = 100 * time.Nanosecond // a byte: of the head or the body of a request, or of a TLS record
	requestPrice   = 30 * time.Microsecond // a request, without its bytes
	framePrice     = 300 * time.Nanosecond // a frame of a WebSocket, without its bytes
	frameBytePrice = 3 * time.Nanosecond   // a byte of a frame
	messagePrice   = 2 * time.Microsecond  // messages that are handed over together
	pingPrice      = 5 * time.Microsecond  // the pong for a ping, which passes the Hub and is written alone
	commandPrice   = 8 * time.Microsecond  // a command, and its answer, which passes the Hub and is written alone
	jsonBytePrice  = 100 * time.Nanosecond // a byte of a command
)

// Share is a share of the processors. Any goroutine may use it.
type Share struct {
	began     time.Time
	perSecond time.Duration // work in a second
	next      atomic.Int64  // when all work that was counted is paid, in nanoseconds since began
}

// New returns a Share of the processors that this program has now.
func New() *Share {
	return &Share{began: time.Now(), perSecond: time.Duration(share * float64(runtime.GOMAXPROCS(0)) * float64(time.Second))}
}

// pay counts work, unless it would have to wait for more than limit. It returns how long the work must wait.
func (s *Share) pay(work, limit time.Duration) (wait time.Duration, ok bool) {
	cost := int64(float64(work) / s.perSecond.Seconds())
	for {
		now, next := int64(time.Since(s.began)), s.next.Load()
		paid := max(now, next) + cost
		wait = max(0, time.Duration(paid-now)-tolerance)
		if wait > limit {
			return wait, false
		}
		if s.next.CompareAndSwap(next, paid) {
			return wait, true
		}
	}
}

// Count charges work that does not wait itself. The peers that take turns wait longer for it, but not for more than
// 0.25 s.
func (s *Share) Count(work time.Duration) { s.pay(work, maxWait) }

// Admit waits until work of a newcomer may begin. If that would take more than 0.25 s, it returns false at once
// instead, and the work must not begin.
func (s *Share) Admit(work time.Duration) bool {
	wait, ok := s.pay(work, maxWait)
	if ok {
		time.Sleep(wait)
	}
	return ok
}
