// conn.go: Conn, a WebSocket connection, and its pumps.

package main

import (
	"bufio"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/net/websocket"
)

const (
	// Time allowed for a write to the peer.
	writeWait = 10 * time.Second

	// Time allowed for anything at all to come from the peer.
	pongWait = 60 * time.Second

	// The peer is pinged with this period. A ping waits behind what is on its way to the
	// peer, and on a slow line its pong may take most of pongWait.
	pingPeriod = pongWait / 3

	// Time allowed for the peer to close the connection after our close frame.
	closeWait = 5 * time.Second

	// When the chat stops, time allowed for what has been said already; and silence that
	// shows that nothing more is on its way from a peer.
	lastWords = 5 * time.Second
	lastPause = 100 * time.Millisecond

	// Frames that can wait for a connection's writePump.
	sendQueue = 128

	// Lines are joined into one message up to this many bytes, here and in the Hub. A
	// line that is longer goes alone.
	joinLimit = 64 << 10

	// When more than that has been taken from a connection at once, or gathered for one
	// fan-out, it goes on: with what came last it mostly fits into one message.
	gatherLimit = joinLimit / 2

	// A deadline is set anew only when it is this old: that costs more than it seems.
	renewDeadline = time.Second

	// Bytes that the system may hold for a peer before a write waits. A write that waits
	// goes on when a third of it is free: with more, a slow reader would seem to be stuck.
	writeBuffer = 128 << 10

	// Bytes that are read from the socket at once. What is longer than that is read
	// without a buffer.
	readBuffer = 512
)

// Conn is one peer's connection. readPump and writePump, a goroutine each, serve
// it between the socket and the Hub.
type Conn struct {
	hub *Hub

	// The socket. readPump alone reads it and closes it in the end, writePump alone
	// writes to it. Each sets its own deadline, and writePump that for reading when it ends.
	socket net.Conn

	// Frames to be written. Only the Hub sends here; closed, it tells writePump to
	// finish. A peer who doesn't read pins sendQueue frames of joinLimit bytes (8 MiB), or
	// of a message each if messages may be longer. The frames are everyone's: those who
	// are stuck at the same time pin the same, and a joinBuffer each.
	send chan *frame

	// The place in the stream that the peer has asked to go on from, or nil. If it has,
	// the first frame in send says where it is, and past is what it has missed. The Hub
	// sets past before it sends that frame.
	since *place
	past  chan *frame

	// Pongs to be written, from readPump to writePump.
	pongs chan *frame

	// Closed when writePump has ended.
	written chan struct{}

	// What readPump wants to be written last. Set before it unregisters.
	answer *closeFrame

	// What is written last. Set by the Hub before it closes send.
	farewell *closeFrame

	// Set by the Hub after farewell, before it closes send: for a writePump that is busy.
	dropped atomic.Bool

	// Whether waiting for this connection has been no use. Only the Hub's pace uses it.
	stuck bool

	// How fast the peer may speak, or nil if that is not limited. Only readPump uses it.
	allowance *allowance

	// What the peer, or a proxy, says of where it comes from.
	claim string

	// Of the deadlines: when they were set, for readPump and for writePump, and
	// whether there is no other for writing. When writePump has ended, writeSet is when it
	// did.
	readSet, writeSet time.Time
	lastWrite         bool

	// Whether the peer can't be written to any more. Only writePump uses it.
	deaf bool
}

func newConn(hub *Hub, socket net.Conn) *Conn {
	return &Conn{
		hub:     hub,
		socket:  socket,
		send:    make(chan *frame, sendQueue),
		pongs:   make(chan *frame),
		written: make(chan struct{}),
	}
}

// silenceReader reads a Conn's socket until the peer has been silent for pongWait, or
// writePump has ended. While something waits to be written the peer may not have been
// asked yet whether it lives; then it is writeWait that ends the waiting. When the chat
// stops, goingAway ends what is read after a pause.
type silenceReader struct{ c *Conn }

func (r silenceReader) Read(p []byte) (int, error) {
	c := r.c
	for last := false; ; {
		if now := time.Now(); now.Sub(c.readSet) >= renewDeadline {
			c.renewReading(now)
		}
		select {
		case <-c.written: // writePump may have set its deadline before this one
			c.socket.SetReadDeadline(c.writeSet.Add(closeWait))
			return 0, net.ErrClosed
		case <-c.hub.lastCall:
			c.hurry()
		default:
		}
		n, err := c.socket.Read(p)
		switch {
		case !errors.Is(err, os.ErrDeadlineExceeded):
			return n, err
		case c.hub.stopping() && last:
			return n, goingAway
		case c.hub.stopping():
			last = true // something may have come while this goroutine was not awake
		case len(c.send) == 0:
			return n, err
		}
	}
}

// renewReading gives the peer another pongWait to be heard of.
func (c *Conn) renewReading(now time.Time) {
	c.readSet = now
	c.socket.SetReadDeadline(now.Add(pongWait + renewDeadline))
}

// hurry has readPump take what has come, and what comes without a pause. It may be
// called from any goroutine.
func (c *Conn) hurry() { c.socket.SetReadDeadline(time.Now().Add(lastPause)) }

// newMessageReader returns the reader for readPump.
func (c *Conn) newMessageReader(ws *websocket.Conn, in *bufio.Reader, maxMessage int) *messageReader {
	r := newMessageReader(ws, in, maxMessage, c.pong)
	if c.allowance != nil {
		r.batch = 0 // each is waited for
	}
	return r
}

// readPump hands the peer's messages, which r reads, to the Hub.
//
// It runs in a goroutine of its own, the only one that reads the socket, until
// the peer is gone or has to go. It outlives writePump, and closes the socket.
//
// Most of the time it waits in await: the fewer calls deep that is, the less stack
// an idle connection takes.
func (c *Conn) readPump(r *messageReader) {
	err := r.await()
	for err == nil {
		if err = c.relay(r); err == nil {
			err = r.await()
		}
	}
	c.end(err)
}

// relay broadcasts the lines that r reads.
func (c *Conn) relay(r *messageReader) error {
	lines, err := r.lines()
	if lines != nil {
		select {
		case c.hub.broadcast <- lines:
		case <-c.hub.done:
			return net.ErrClosed
		}
	}
	if c.allowance != nil && err == nil {
		c.rest(c.allowance.use(time.Now()))
	}
	return err
}

// rest lets d pass, in which the peer's TCP connection fills up, and the peer has to wait.
func (c *Conn) rest(d time.Duration) {
	if d <= 0 {
		return
	}
	select {
	case <-time.After(d):
	case <-c.written:
	case <-c.hub.lastCall:
	}
}

// end has writePump take leave, as err demands, and closes the socket.
func (c *Conn) end(err error) {
	defer c.close()
	if !errors.As(err, &c.answer) && errors.Is(err, os.ErrDeadlineExceeded) {
		if !c.gone() {
			c.hub.counters.silent.Add(1)
		}
		c.socket.Close() // nobody is there to take leave of
	}
	c.leave()

	// Closing a socket with unread bytes resets the connection, and the peer
	// might never see the close frame (RFC 6455, section 7.1.1).
	io.Copy(io.Discard, silenceReader{c})
	<-c.written
	c.socket.SetReadDeadline(c.writeSet.Add(closeWait))
	io.Copy(io.Discard, c.socket)
	c.report()
}

// report logs why c was let go, if that was the peer's fault.
func (c *Conn) report() {
	f := c.answer
	if f == nil && c.dropped.Load() { // else farewell may be about to be set
		f = c.farewell
	}
	if f != nil && f.reason != "" && f != goingAway {
		c.hub.peerLog.Info("let go", "code", f.code, "reason", f.reason, "peer", c.socket.RemoteAddr(), "claim", c.claim)
	}
}

// close closes the socket, when no pump runs any more.
func (c *Conn) close() {
	c.socket.Close()
	c.hub.counters.connections.Add(-1)
	c.hub.sockets.Done()
}

// leave unregisters c, if there is still a Hub to unregister from.
func (c *Conn) leave() {
	select {
	case c.hub.unregister <- c:
	case <-c.hub.done:
	}
}

// pong has writePump answer a ping.
func (c *Conn) pong(payload []byte) error {
	select {
	case c.pongs <- controlFrame(websocket.PongFrame, payload):
		return nil
	case <-c.hub.lastCall: // what stands behind the ping matters more
		return nil
	case <-c.written:
		return net.ErrClosed
	}
}

// writePump writes to the peer what the Hub sends, and pongs.
//
// It runs in a goroutine of its own, the only one that writes to the socket, until
// the Hub closes c.send or a write fails.
func (c *Conn) writePump() {
	defer func() {
		c.writeSet = time.Now()
		close(c.written)
		c.socket.SetReadDeadline(c.writeSet.Add(closeWait))
	}()
	if c.since != nil && c.writePast() != nil {
		c.socket.Close()
		return
	}
	for {
		var err error
		select {
		case f, ok := <-c.send:
			if !ok {
				c.finish()
				return
			}
			err = c.writeWaiting(f, c.send)
		case f := <-c.pongs:
			err = c.write(f.whole())
		}
		if err != nil {
			if !c.dropped.Load() {
				c.hub.counters.tooSlow.Add(1)
			}
			c.socket.Close()
			return
		}
	}
}

// gone reports whether nothing more will be written for c.
func (c *Conn) gone() bool {
	select {
	case <-c.written:
		return true
	default:
		return c.dropped.Load()
	}
}

// writePast writes the peer's place in the stream, and what it has missed.
func (c *Conn) writePast() error {
	at := <-c.send
	if err := c.write(at.whole()); err != nil {
		return err
	}
	past := c.past
	c.past = nil // it is not kept for as long as the connection
	if f := waiting(past); f != nil {
		return c.writeWaiting(f, past)
	}
	return nil
}

// writeWaiting writes f and the frames that wait behind it in queue.
func (c *Conn) writeWaiting(f *frame, queue chan *frame) (err error) {
	if len(queue) == 0 {
		return c.write(f.whole())
	}
	buffer := joinBuffers.Get().(*joinBuffer)
	defer joinBuffers.Put(buffer)
	for f != nil && err == nil {
		var message []byte
		message, f = joined(f, queue, buffer)
		err = c.write(message)
	}
	return err
}

// joinBuffer has room for a message of lines that are joined.
type joinBuffer [maxHeader + joinLimit]byte

var joinBuffers = sync.Pool{New: func() any { return new(joinBuffer) }}

// joined returns f as it is to be sent: with the lines that wait behind it in queue, as
// far as they take no more than joinLimit bytes together. next is a frame that has been
// taken from the queue and goes by itself, or nil.
func joined(f *frame, queue chan *frame, buffer *joinBuffer) (message []byte, next *frame) {
	next = waiting(queue)
	if !next.joins(f, len(f.lines())) {
		return f.whole(), next
	}
	end := maxHeader + copy(buffer[maxHeader:], f.lines())
	for next.joins(f, end-maxHeader) {
		end += copy(buffer[end:], next.lines())
		next = waiting(queue)
	}
	return seal(buffer[:end-1]), next // without the last line break
}

// waiting takes a frame from the queue. It returns nil if there is none.
func waiting(queue chan *frame) *frame {
	select {
	case f := <-queue:
		return f
	default:
		return nil
	}
}

// finish writes the farewell and closes the writing half of the connection.
func (c *Conn) finish() {
	if c.farewell != nil {
		c.write(c.farewell.frame().whole())
	}
	if half, ok := c.socket.(interface{ CloseWrite() error }); ok {
		half.CloseWrite()
	}
}

// write writes b, within writeWait, or up to renewDeadline less. Once the Hub has dropped c,
// what is left has one writeWait together. The error is that this was not enough. Any other
// shows that the peer is gone: nothing more is written, but what it has said may still be
// read, and readPump will notice.
func (c *Conn) write(b []byte) error {
	if c.deaf {
		return nil
	}
	if now := time.Now(); !c.lastWrite && (now.Sub(c.writeSet) >= renewDeadline || c.dropped.Load()) {
		c.lastWrite = c.dropped.Load()
		c.writeSet = now
		c.socket.SetWriteDeadline(now.Add(writeWait))
	}
	_, err := c.socket.Write(b)
	if _, ok := c.socket.(*tls.Conn); ok && !c.lastWrite {
		// crypto/tls writes for the reader, too (RFC 8446, section 4.6.3), and whenever
		// that is no old deadline may be in its way.
		c.writeSet = time.Time{}
		c.socket.SetWriteDeadline(c.writeSet)
	}
	if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
		c.deaf = true
		return nil
	}
	return err
}
