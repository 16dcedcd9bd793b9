package main

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/net/websocket"
)

const (
	// Time allowed for a write to the peer, of up to writeLimit bytes.
	writeWait = 10 * time.Second

	// Time allowed for anything at all to come from the peer.
	pongWait = 60 * time.Second

	// A silent peer is pinged with this period. A ping waits behind what is on its way to
	// the peer, and on a slow line its pong may take most of pongWait.
	pingPeriod = pongWait / 3

	// Time allowed for the peer to close the connection after our close frame; and, when it
	// has hung up, for what it has sent before.
	closeWait = 5 * time.Second

	// Batches that can wait for a connection's writePump.
	maxBatches = 7

	// Control frames that can wait for a connection that is behind. Only the newest pongs are
	// sent, as RFC 6455, section 5.5.3, allows.
	maxOwed = 16

	// Lines are joined into one message up to this many bytes, here and in the Hub. A
	// line that is longer goes alone.
	joinLimit = 64 << 10

	// When more than that has been taken from a connection at once, or is pending for a
	// frame, it goes on: with what came last it mostly fits into one message.
	gatherLimit = joinLimit / 2

	// What is longer is written in parts, and so is seen to make progress.
	writeLimit = maxHeader + joinLimit

	// Bytes that the system may hold for a peer before a write waits; Linux takes twice that. A
	// write goes on when a third of it is free: with 128 KiB that took readers of 20 kB/s 10 s.
	writeBuffer = 64 << 10

	// Bytes that are read from the socket at once. What is longer than that is read
	// without a buffer.
	readBuffer = 512
)

// Conn is one peer's connection. readPump and writePump, a goroutine each, serve
// it between the socket and the Hub.
type Conn struct {
	hub *Hub

	// What the peer speaks WebSocket on: readPump alone reads it, writePump alone writes to
	// it. And the connection under it, if that is TLS, or the same: any goroutine may close
	// it to break off, for that never blocks.
	socket, transport net.Conn

	// Batches to be written. Only the Hub sends here; closed, it tells writePump to
	// finish. Beside maxBatches there is a place for the last one.
	send chan batch

	// Closed closeWait after the last write, by linger. Then transport is closed, too.
	expired chan struct{}
	linger  *time.Timer

	closeReply *closeFrame    // readPump's answer to what ended it, or nil; set before it unregisters
	closeFrame *closeFrame    // what is written last, or nil; set before the Hub closes send
	writing    sync.WaitGroup // waits for writePump to end

	since   *string  // the position that the peer asks for, as EPOCH.SEQ, or nil
	limiter *limiter // of how fast the peer may speak, or nil; only readPump uses it
	claim   string   // what the peer, or a proxy, says of where it comes from

	// What the Hub knows. Only the Hub uses it.
	delivery
	readWatch, writeWatch watch

	// What the pumps tell the Hub.
	reads, writes progress
}

// batch is a number of frames for a writePump. It is not changed.
type batch struct {
	frames []*frame
	more   bool // no other will come before writePump asks for more
}

// progress counts what a pump reads or writes: twice the bytes, and one more while it waits
// for the peer. Only the pump changes it.
type progress struct{ atomic.Uint64 }

func (p *progress) begin()        { p.Add(1) }
func (p *progress) end(bytes int) { p.Add(2*uint64(bytes) - 1) }
func (p *progress) bytes() uint64 { return p.Load() / 2 }

// newConn returns the Conn of a peer on socket.
func newConn(hub *Hub, socket net.Conn) *Conn {
	return &Conn{
		hub:       hub,
		socket:    socket,
		transport: transportOf(socket),
		send:      make(chan batch, maxBatches+1),
		expired:   make(chan struct{}),
	}
}

// transportOf returns the connection under conn if that is TLS, or conn.
func transportOf(conn net.Conn) net.Conn {
	if secure, ok := conn.(*tls.Conn); ok {
		return secure.NetConn()
	}
	return conn
}

// socketReader reads a Conn's socket; when the Hub drains, up to goingAway.
type socketReader struct{ *Conn }

func (r socketReader) Read(p []byte) (n int, err error) {
	r.reads.begin()
	err = os.ErrDeadlineExceeded // the only deadline is that of draining
	if !r.hub.isDraining() {
		n, err = r.socket.Read(p)
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		n, err = r.readDraining(p)
	}
	r.reads.end(n)
	return n, err
}

// readDraining reads until the peer has been silent for drainIdle, twice. For what came just
// before may have been missed; and a read that ends late shows only that this goroutine was.
func (c *Conn) readDraining(p []byte) (int, error) {
	for idle := 0; idle < 2 && time.Now().Before(c.hub.drainDeadline); {
		deadline := time.Now().Add(drainIdle)
		c.socket.SetReadDeadline(deadline)
		n, err := c.socket.Read(p)
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			return n, err
		}
		if time.Since(deadline) < drainIdle {
			idle++
		}
	}
	return 0, goingAway
}

// readPump hands the peer's messages, which r reads, to the Hub.
//
// Its goroutine alone reads the socket. It outlives writePump, and closes the socket. It mostly
// waits in await: the fewer calls deep that is, the less stack an idle connection takes.
func (c *Conn) readPump(r *messageReader) {
	err := r.await()
	for err == nil {
		if err = c.relay(r); err == nil {
			err = r.await()
		}
	}
	c.shutdown(err)
}

// relay broadcasts the lines that r reads.
func (c *Conn) relay(r *messageReader) error {
	lines, err := r.lines()
	if len(lines) == 0 {
		return err
	}
	if c.limiter != nil {
		c.rest(c.limiter.wait(time.Now()))
		c.limiter.take()
	}
	select {
	case c.hub.broadcast <- lines:
		return err
	case <-c.expired:
	case <-c.hub.done:
	}
	return net.ErrClosed
}

// rest lets d pass, in which the peer's TCP connection fills up, and the peer has to wait.
func (c *Conn) rest(d time.Duration) {
	if d > 0 {
		select {
		case <-time.After(d):
		case <-c.hub.draining:
		case <-c.expired:
		}
	}
}

// shutdown has writePump end the connection, as err demands, and closes the socket.
func (c *Conn) shutdown(err error) {
	errors.As(err, &c.closeReply)
	c.leave()

	// Closing a socket with unread bytes resets the connection, and the peer
	// might never see the close frame (RFC 6455, section 7.1.1).
	c.socket.SetReadDeadline(time.Time{}) // that of draining
	io.Copy(io.Discard, c.socket)
	c.writing.Wait()
	c.linger.Stop()
	c.report()
	c.close()
}

// report logs why the connection was closed, if that was the peer's fault.
func (c *Conn) report() {
	f := c.closeReply
	if f == nil {
		f = c.closeFrame
	}
	if f != nil && f.reason != "" && f != goingAway {
		c.hub.peerLog.Info("let go", "code", f.code, "reason", f.reason, "peer", c.socket.RemoteAddr(), "claim", c.claim)
	}
}

// close closes the socket, when no pump runs any more.
func (c *Conn) close() {
	c.transport.Close()
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

// pong answers a ping.
func (c *Conn) pong(payload []byte) error {
	select {
	case c.hub.pongs <- controlFrame{c, newFrame(websocket.PongFrame, payload)}:
	case <-c.hub.done:
	}
	return nil
}

// writePump writes to the peer what the Hub sends.
//
// Its goroutine alone writes to the socket, until the Hub closes c.send. If a write fails it goes
// on without writing: readPump may still read what the peer sent before it hung up.
func (c *Conn) writePump() {
	defer c.writing.Done()
	if err := c.writeQueue(); errors.Is(err, os.ErrDeadlineExceeded) {
		c.transport.Close() // nobody is there
	}
	c.linger = time.AfterFunc(closeWait, func() {
		close(c.expired)
		c.transport.Close()
	})
	for b := range c.send {
		c.ask(b)
	}
}

// writeQueue writes what the Hub sends until it closes c.send, and a close frame then, or
// until a write fails.
func (c *Conn) writeQueue() error {
	for b := range c.send {
		if err := c.writeBatch(b); err != nil {
			return err
		}
	}
	return c.writeClose()
}

// ask asks the Hub for more if b says so.
func (c *Conn) ask(b batch) {
	if b.more {
		select {
		case c.hub.more <- c:
		case <-c.hub.done:
		}
	}
}

// writeBatch writes b and the batches that wait behind it, their lines joined.
func (c *Conn) writeBatch(b batch) error {
	var room [maxBatches + 1]*frame
	frames := c.waiting(room[:0], b)
	if len(frames) == 1 {
		return c.write(frames[0].whole)
	}
	buffer := joinBuffers.Get().(*joinBuffer)
	defer joinBuffers.Put(buffer)
	for len(frames) > 0 {
		var message []byte
		message, frames = joined(frames, buffer)
		if err := c.write(message); err != nil {
			return err
		}
	}
	return nil
}

// waiting appends the frames of b, and those that wait behind it, to frames.
func (c *Conn) waiting(frames []*frame, b batch) []*frame {
	for open := true; open; {
		frames = append(frames, b.frames...)
		c.ask(b)
		select {
		case b, open = <-c.send:
		default:
			return frames
		}
	}
	return frames
}

// joinBuffer has room for a message of lines that are joined.
type joinBuffer [maxHeader + joinLimit]byte

var joinBuffers = sync.Pool{New: func() any { return new(joinBuffer) }}

// joined returns the first of frames as it is to be sent, with the lines of those behind it
// as far as they take no more than joinLimit bytes together; and the frames that remain.
func joined(frames []*frame, buffer *joinBuffer) (message []byte, rest []*frame) {
	n, size := 0, 0
	for n < len(frames) && frames[n].lines != nil && size+len(frames[n].lines) <= joinLimit {
		size += len(frames[n].lines)
		n++
	}
	if n <= 1 {
		return frames[0].whole, frames[1:]
	}
	message = appendHeader(buffer[:0], websocket.TextFrame, size-1) // without the last line break
	for _, f := range frames[:n] {
		message = append(message, f.lines...)
	}
	return message[:len(message)-1], frames[n:]
}

// writeClose writes the close frame and closes the writing half of the connection.
func (c *Conn) writeClose() (err error) {
	if c.closeFrame != nil {
		err = c.write(c.closeFrame.frame().whole)
	}
	if half, ok := c.socket.(interface{ CloseWrite() error }); ok && err == nil {
		half.CloseWrite()
	}
	return nil
}

// write writes b. The Hub's sweep sees to it that this takes no longer than writeWait.
func (c *Conn) write(b []byte) error {
	for part := range slices.Chunk(b, writeLimit) {
		c.writes.begin()
		n, err := c.socket.Write(part)
		c.writes.end(n)
		if err != nil {
			return err
		}
	}
	return nil
}
