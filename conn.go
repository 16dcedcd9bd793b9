package main

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/net/websocket"

	"example.com/chat/internal/ratelimit"
	"example.com/chat/internal/ws"
)

const (
	// Time allowed for a write to the peer, of up to writeLimit bytes.
	writeWait = 10 * time.Second

	// Time allowed for anything at all to come from the peer.
	pongWait = 60 * time.Second

	// A silent peer is pinged with this period, a multiple of sweepPeriod. A ping waits behind what
	// is on its way to the peer, and on a slow line its pong may take most of pongWait.
	pingPeriod = pongWait / 3

	// Time allowed for the peer to close the connection after our close frame; and, when it
	// has hung up, for what it has sent before.
	closeWait = 5 * time.Second

	// Batches that can wait for a connection's writePump.
	maxBatches = 7

	// Control frames that can wait for a connection that is behind. Only the newest pongs are
	// sent, as RFC 6455, section 5.5.3, allows.
	maxPendingControl = 16

	// When lines have more bytes than this, readPump adds no further message to them, and the Hub no
	// further ones to a fan-out. With the last one they mostly still fit joinLimit.
	coalesceLimit = joinLimit / 2

	// What is longer is written in parts, so that the sweep sees progress.
	writeLimit = ws.MaxHeader + joinLimit

	// Bytes that the system may hold for a peer before a write waits; Linux takes twice that. A
	// write goes on when a third of it is free: with 128 KiB that took readers of 20 kB/s 10 s.
	writeBuffer = 64 << 10

	// Seconds after which a client may ask again whether there is room.
	retryAfter = "5"

	// Bytes of ?since= that are looked at: an epoch and a number have no more.
	maxSince = 64

	// Bytes of a request's X-Forwarded-For that are logged.
	maxForwardedFor = 100
)

var errBinary = &ws.CloseError{Code: ws.CloseUnsupportedData, Reason: "this is a text chat"}

// wsHandler serves the WebSocket address of each room.
type wsHandler struct{ rooms *rooms }

func (h wsHandler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	refused := h.accept(w, r)
	if refused == nil {
		return
	}
	if refused.Status == http.StatusServiceUnavailable {
		w.Header().Set("Retry-After", retryAfter)
	}
	refused.Write(w, r)
	h.rooms.counters.refused.Add(refused.Reason, 1)
	h.rooms.peerLog.Info("handshake refused", "reason", refused.Reason, "room", r.PathValue("room"), "peer", r.RemoteAddr, "x_forwarded_for", forwardedFor(r))
}

// accept makes a Conn of a request and starts its pumps, or returns why it can't. Once the
// connection is taken over from net/http there is no refusal any more; it is closed.
func (h wsHandler) accept(w http.ResponseWriter, r *http.Request) *ws.HandshakeError {
	// A full chat comes first: a browser hides from its page why a WebSocket was refused, so the
	// page asks again with a plain GET.
	room := r.PathValue("room")
	if refused := h.rooms.check(room); refused != nil {
		return refused
	}
	if refused := ws.CheckRequest(r, h.rooms.cfg.origins); refused != nil {
		return refused
	}
	query := r.URL.Query()
	asSender, refused := parseSender(query)
	if refused != nil {
		return refused
	}
	hub, refused := h.rooms.enter(room)
	if refused != nil {
		return refused
	}
	socket, in, err := ws.Hijack(w)
	if err != nil {
		h.rooms.leave(hub)
		return &ws.HandshakeError{Status: http.StatusInternalServerError, Reason: "no hijacker", Text: err.Error()}
	}

	c := newConn(hub, socket)
	c.forwardedFor = forwardedFor(r)
	if rate := h.rooms.cfg.rate; rate > 0 {
		c.limiter = ratelimit.New(rate, time.Second/time.Duration(rate))
	}
	c.events, c.senderQuery = query.Has("events"), asSender
	if query.Has("since") {
		since := query.Get("since")
		since = strings.Clone(since[:min(len(since), maxSince)])
		c.since = &since
	}
	if tcp, ok := c.transport.(*net.TCPConn); ok {
		tcp.SetWriteBuffer(writeBuffer)
	}

	// The Conn is in the Hub before the handshake is answered: the peer misses no line that is
	// broadcast after it reads the answer.
	select {
	case hub.register <- c:
	case <-hub.done:
		c.close()
		return nil
	}
	c.writes.begin() // the answer is a write, too
	messages, err := ws.Accept(r, socket, socketReader{c, in}, h.rooms.cfg.maxMessage, c.pong)
	c.writes.end(0)
	if err != nil {
		c.unregister()
		c.close()
		return nil
	}
	c.writing.Add(1)
	go c.writePump()
	go c.readPump(messages)
	return nil
}

// forwardedFor returns what a request, or a proxy, says of where it comes from.
func forwardedFor(r *http.Request) string {
	all := strings.Join(r.Header["X-Forwarded-For"], ", ")
	return strings.Clone(all[:min(len(all), maxForwardedFor)])
}

// Conn is one peer's connection. readPump and writePump, a goroutine each, serve
// it between the socket and the Hub.
type Conn struct {
	hub *Hub

	// WebSocket runs on socket: readPump alone reads it, writePump alone writes to it. transport is
	// the TCP connection under TLS, or socket: any goroutine may close it, which never blocks.
	socket, transport net.Conn

	// Batches to be written. Only the Hub sends here; closed, it tells writePump to
	// finish. Beside maxBatches there is a place for the last one.
	send chan batch

	// Closed closeWait after the last write, by linger. Then transport is closed, too.
	expired chan struct{}
	linger  *time.Timer

	closeReply *ws.CloseError // readPump's answer to what ended it, or nil; set before it unregisters
	closeFrame *ws.CloseError // what is written last, or nil; set before the Hub closes send
	writing    sync.WaitGroup // waits for writePump to end

	since        *string            // the position that the peer asks for, as EPOCH.SEQ, or nil
	events       bool               // whether the peer asks for events
	senderQuery  senderQuery        // the sender that the peer says it is
	limiter      *ratelimit.Limiter // of how fast the peer may speak, or nil; only readPump uses it
	forwardedFor string             // what the peer, or a proxy, says of where it comes from

	// What the Hub knows. Only the Hub uses it.
	delivery
	people                int     // the count that the peer was told
	countPending          bool    // it is told with the next batch
	sender                *sender // nil without ?sender=
	sent                  uint64  // the number of the last message from the peer
	toldTaken             uint64  // up to which number the peer knows that messages were taken
	readWatch, writeWatch watch

	// What the pumps tell the Hub.
	reads, writes progress
}

// batch is what the Hub sends to a writePump. It is never changed.
type batch struct {
	frames []*frame
	more   bool // no other will come before writePump asks for more
}

// progress counts what a pump reads or writes: twice the bytes, and one more while it waits
// for the peer. Only the pump changes it, and wsHandler before there are pumps.
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

// socketReader reads a Conn's socket. When the Hub drains it ends with errGoingAway.
type socketReader struct {
	*Conn
	in io.Reader // what the peer sent before it was a Conn, then the socket
}

func (r socketReader) Read(p []byte) (n int, err error) {
	r.reads.begin()
	err = os.ErrDeadlineExceeded // the only deadline is that of draining
	if !r.hub.isDraining() {
		n, err = r.in.Read(p)
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		n, err = r.readDraining(p)
	}
	r.reads.end(n)
	return n, err
}

// readDraining reads until the peer has been silent for drainIdle, twice: a line may have come just
// before the first time. A timeout that is noticed late doesn't count: this goroutine may have had no
// processor, and a line may have come meanwhile.
func (r socketReader) readDraining(p []byte) (int, error) {
	for idle := 0; idle < 2 && time.Now().Before(r.hub.drainDeadline); {
		deadline := time.Now().Add(drainIdle)
		r.socket.SetReadDeadline(deadline)
		n, err := r.in.Read(p)
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			return n, err
		}
		if time.Since(deadline) < drainIdle {
			idle++
		}
	}
	return 0, errGoingAway
}

// readPump hands the peer's messages to the Hub.
//
// Its goroutine alone reads the socket. It outlives writePump, and closes the socket. It mostly
// waits in Wait: the fewer calls deep that is, the less stack an idle connection takes.
func (c *Conn) readPump(messages *ws.Reader) {
	err := messages.Wait()
	for err == nil {
		if err = c.broadcast(messages); err == nil {
			err = messages.Wait()
		}
	}
	c.shutdown(err)
}

// broadcast broadcasts a message, and those that came with it.
func (c *Conn) broadcast(messages *ws.Reader) error {
	lines, err := c.readLines(messages)
	if len(lines) == 0 {
		return err
	}
	if c.limiter != nil {
		c.throttle(c.limiter.Delay(time.Now()))
		c.limiter.Take()
	}
	select {
	case c.hub.broadcast <- connFrame{c, textFrame(lines)}:
		return err
	case <-c.expired:
	case <-c.hub.done:
	}
	return net.ErrClosed
}

// readLines reads a message and, without -rate, those that came with it. Each becomes a line:
// with spaces for its line breaks, and a line break behind it. With an error, too, there may be
// lines.
func (c *Conn) readLines(messages *ws.Reader) (lines []byte, err error) {
	for more := true; more; more = c.limiter == nil && len(lines) < coalesceLimit && messages.Ready() {
		start := len(lines)
		var opcode byte
		lines, opcode, err = messages.AppendMessage(slices.Grow(lines, messages.Buffered()+1)) // for the others, too
		if err != nil {
			return lines, err
		}
		if opcode != websocket.TextFrame {
			return lines[:start], errBinary
		}
		spaceLineBreaks(lines[start:])
		lines = append(lines, '\n')
	}
	return lines, nil
}

// spaceLineBreaks makes each line break in text a space.
func spaceLineBreaks(text []byte) {
	for i := bytes.IndexByte(text, '\n'); i >= 0; i = bytes.IndexByte(text, '\n') {
		text[i] = ' '
		text = text[i+1:]
	}
}

// throttle waits for d. Meanwhile the peer's TCP window fills up, and the peer has to wait, too.
func (c *Conn) throttle(d time.Duration) {
	if d > 0 {
		select {
		case <-time.After(d):
		case <-c.hub.draining:
		case <-c.expired:
		}
	}
}

// shutdown unregisters c, reads the socket to its end, and closes it. If err is a CloseError the
// peer is told.
func (c *Conn) shutdown(err error) {
	errors.As(err, &c.closeReply)
	c.unregister()

	// Closing a socket with unread bytes resets the connection, and the peer
	// might never see the close frame (RFC 6455, section 7.1.1).
	c.socket.SetReadDeadline(time.Time{}) // that of draining
	io.Copy(io.Discard, c.socket)
	c.writing.Wait()
	c.linger.Stop()
	c.logClose()
	c.close()
}

// unregister unregisters c, if there is still a Hub to unregister from.
func (c *Conn) unregister() {
	select {
	case c.hub.unregister <- c:
	case <-c.hub.done:
	}
}

// logClose logs why the connection was closed, if that was the peer's fault.
func (c *Conn) logClose() {
	f := c.closeReply
	if f == nil {
		f = c.closeFrame
	}
	if f != nil && f.Reason != "" && f.Code != ws.CloseGoingAway {
		c.hub.rooms.peerLog.Info("connection closed", "code", f.Code, "reason", f.Reason, "room", c.hub.name, "peer", c.socket.RemoteAddr(), "x_forwarded_for", c.forwardedFor)
	}
}

// close closes the connection and leaves the room. It is called last: by readPump, or where there are no
// pumps.
func (c *Conn) close() {
	c.transport.Close()
	c.hub.rooms.leave(c.hub)
}

// pong answers a ping.
func (c *Conn) pong(payload []byte) error {
	select {
	case c.hub.pongs <- connFrame{c, newFrame(websocket.PongFrame, payload)}:
	case <-c.hub.done:
	}
	return nil
}

// writePump writes to the peer what the Hub sends.
//
// Its goroutine alone writes to the socket after the handshake. If a write fails it goes on
// without writing: readPump may still read what the peer sent before it hung up.
func (c *Conn) writePump() {
	defer c.writing.Done()
	if err := c.writeQueue(); errors.Is(err, os.ErrDeadlineExceeded) {
		c.transport.Close() // the peer doesn't read
	}
	c.linger = time.AfterFunc(closeWait, func() {
		close(c.expired)
		c.transport.Close()
	})
	for b := range c.send {
		c.requestMore(b)
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

// requestMore asks the Hub for more if b says so.
func (c *Conn) requestMore(b batch) {
	if b.more {
		select {
		case c.hub.more <- c:
		case <-c.hub.done:
		}
	}
}

// joinedFrames are buffers for frames that are joined from others and written at once.
var joinedFrames = sync.Pool{New: func() any { return &frame{bytes: make([]byte, 0, ws.MaxHeader+joinLimit)} }}

// writeBatch writes b and the batches that wait behind it, their lines joined.
func (c *Conn) writeBatch(b batch) error {
	var space [maxBatches + 1]*frame
	frames := c.dequeue(space[:0], b)
	if len(frames) == 1 {
		return c.write(frames[0].bytes)
	}
	into := joinedFrames.Get().(*frame)
	defer joinedFrames.Put(into)
	for len(frames) > 0 {
		var f *frame
		f, frames = join(frames, into)
		if err := c.write(f.bytes); err != nil {
			return err
		}
	}
	return nil
}

// dequeue appends the frames of b, and those that wait behind it, to frames.
func (c *Conn) dequeue(frames []*frame, b batch) []*frame {
	for open := true; open; {
		frames = append(frames, b.frames...)
		c.requestMore(b)
		select {
		case b, open = <-c.send:
		default:
			return frames
		}
	}
	return frames
}

// writeClose writes the close frame and closes the writing half of the connection.
func (c *Conn) writeClose() (err error) {
	if c.closeFrame != nil {
		err = c.write(c.closeFrame.Frame())
	}
	if half, ok := c.socket.(interface{ CloseWrite() error }); ok && err == nil {
		half.CloseWrite()
	}
	return err
}

// write writes b. The Hub closes the connection if a part takes longer than writeWait.
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
