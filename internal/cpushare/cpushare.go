// Package cpushare keeps processor time for those who send little while others flood.
//
// Go's scheduler gives new input to a goroutine at once only while a processor is idle. If goroutines keep all
// processors busy, it looks for input every 10 ms (sysmon in runtime/proc.go), and a line that passes four
// goroutines waits several times. A goroutine whose socket always has data never waits by itself. So the readers of
// one chat together get a share of the processors. Each of them estimates the work that its peer's frames cause,
// and waits for its turn when all readers together exceed the share.
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

	// turn is the work after which a peer must wait for its turn. A peer that sends less seldom waits.
	turn = 100 * time.Microsecond

	// tolerance is the wait that a reader need not keep. An idle processor sleeps for at least 1 ms (netpoll in
	// runtime/netpoll_epoll.go), so short waits would leave processors idle below the share.
	tolerance = 2 * time.Millisecond

	// maxWait is the longest wait. Work that would make others wait longer is not counted, because its peer may
	// be gone already, and everybody waits in one queue. 300 peers that flood still keep the share.
	maxWait = 50 * time.Millisecond
)

// The prices are estimates of the processor time for one peer's input. They were measured on an AMD EPYC with
// floods of empty pongs, and of texts of 64 bytes and 4 KiB.
const (
	readPrice  = time.Microsecond      // a read from the socket
	framePrice = 300 * time.Nanosecond // a frame, without its payload
	pingPrice  = 5 * time.Microsecond  // the pong for a ping, which passes the Hub and is written alone
	bytePrice  = 3 * time.Nanosecond   // a byte

	requestPrice   = 30 * time.Microsecond  // an HTTP request
	headerPrice    = 200 * time.Nanosecond  // a header of it
	bodyPrice      = 5 * time.Millisecond   // its body, of which net/http reads up to 256 KiB in chunks of any size
	handshakePrice = 200 * time.Microsecond // a TLS handshake
)

// Share is the processor time of all readers of a chat. Any goroutine may use it.
type Share struct {
	began     time.Time
	perSecond time.Duration // work in a second
	next      atomic.Int64  // when all work that was done is paid, in nanoseconds since began
}

// New returns a Share of the processors that this program has now.
func New() *Share {
	return &Share{began: time.Now(), perSecond: time.Duration(share * float64(runtime.GOMAXPROCS(0)) * float64(time.Second))}
}

// pay adds work, and returns how long its reader must wait, at most maxWait. If that is too short, it adds nothing.
func (s *Share) pay(work time.Duration) time.Duration {
	cost := int64(float64(work) / s.perSecond.Seconds())
	for {
		now, next := int64(time.Since(s.began)), s.next.Load()
		paid := max(now, next) + cost
		if time.Duration(paid-now)-tolerance > maxWait {
			return maxWait
		}
		if s.next.CompareAndSwap(next, paid) {
			return max(0, time.Duration(paid-now)-tolerance)
		}
	}
}

// Request counts an HTTP request with this number of headers. It returns how long its handler must wait before it
// begins.
func (s *Share) Request(headers int, body bool) time.Duration {
	work := requestPrice + time.Duration(headers)*headerPrice
	if body {
		work += bodyPrice
	}
	return s.pay(work)
}

// Handshake counts a TLS handshake. It returns how long that must wait before it begins.
func (s *Share) Handshake() time.Duration { return s.pay(handshakePrice) }

// Meter counts the work for one peer. Only the goroutine that reads from the peer may use it.
type Meter struct {
	share  *Share
	unpaid time.Duration
}

// Meter returns a Meter for one more peer.
func (s *Share) Meter() Meter { return Meter{share: s} }

// Read counts a read of n bytes from the socket.
func (m *Meter) Read(n int) { m.unpaid += readPrice + time.Duration(n)*bytePrice }

// Frame counts a frame, besides its bytes.
func (m *Meter) Frame(ping bool) {
	m.unpaid += framePrice
	if ping {
		m.unpaid += pingPrice
	}
}

// Wait returns how long the reader must wait before it reads on. It must be called before each read.
func (m *Meter) Wait() time.Duration {
	if m.unpaid < turn {
		return 0
	}
	work := m.unpaid
	m.unpaid = 0
	return m.share.pay(work)
}
