package cpushare

import (
	"errors"
	"net"
	"sync/atomic"
	"time"
)

// Conn is a connection on which the peer takes turns with those of other Conns. Only the goroutine that reads may
// call Read, Request, Frame, Frames and Messages. Any goroutine may call the other methods.
type Conn struct {
	net.Conn
	share  *Share
	unpaid time.Duration // work since the last turn; negative while the peer may begin
	turned time.Duration // when the last turn began, since share.began
	closed atomic.Bool

	// For a WebSocket.
	framed bool // Frames was called
	unread int  // bytes since then, of which no frame has come
}

// errNoFrames ends a connection.
var errNoFrames = errors.New("too many bytes without a frame")

// Conn returns a Conn on a new connection.
func (s *Share) Conn(conn net.Conn) *Conn {
	return &Conn{Conn: conn, share: s, unpaid: -begin, turned: time.Since(s.began)}
}

// Read waits for the peer's turn, and reads. On a WebSocket it fails when more than maxUnread bytes have come without a
// frame, because crypto/tls would hold up to 256 KiB of a handshake message that never ends.
func (c *Conn) Read(b []byte) (n int, err error) {
	if c.framed && c.unread > maxUnread {
		return 0, errNoFrames
	}
	c.takeTurn()
	n, err = c.Conn.Read(b)
	c.unpaid += readPrice + time.Duration(n)*bytePrice
	c.unread += n
	return n, err
}

// Close closes the connection. A peer that waits for its turn need not wait for more than 0.25 s.
func (c *Conn) Close() error {
	c.closed.Store(true)
	return c.Conn.Close()
}

// CloseWrite closes the writing half of the connection, if it can be closed alone.
func (c *Conn) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return errors.ErrUnsupported
}

// Request counts a request, besides its bytes, and waits for the peer's turn.
func (c *Conn) Request() {
	c.unpaid += requestPrice
	c.takeTurn()
}

// Frame counts a frame of a WebSocket, besides its bytes, and waits for the peer's turn.
func (c *Conn) Frame(ping bool) {
	c.unpaid += framePrice
	if ping {
		c.unpaid += pingPrice
	}
	c.takeTurn()
}

// Messages counts messages that are handed over together, besides their frames.
func (c *Conn) Messages() { c.unpaid += messagePrice }

// Command counts a command of n bytes, besides its frames.
func (c *Conn) Command(n int) { c.unpaid += commandPrice + time.Duration(n)*jsonBytePrice }

// Frames notes that n of the bytes that were read belong to frames, and cost less than others. With n = 0 it notes that
// frames come from now on.
func (c *Conn) Frames(n int) {
	c.unpaid -= time.Duration(n) * (bytePrice - frameBytePrice)
	c.framed, c.unread = true, 0
}

// takeTurn waits until the peer may go on. A peer whose last turn began more than two waits ago does not wait, so the
// wait is only for those who flood.
func (c *Conn) takeTurn() {
	if c.unpaid < turn {
		return
	}
	wait, ok := c.share.pay(c.unpaid, maxTurnWait)
	if !ok {
		wait = maxTurnWait
	}
	now := time.Since(c.share.began)
	if now-c.turned <= 2*wait {
		now += wait
		for ; wait > 0 && !c.closed.Load(); wait -= nap {
			time.Sleep(min(wait, nap))
		}
	}
	c.unpaid, c.turned = 0, now
}
