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
	"time"

	"golang.org/x/net/websocket"

	"example.com/chat/internal/delivery"
	"example.com/chat/internal/pace"
	"example.com/chat/internal/pending"
	"example.com/chat/internal/ratelimit"
	"example.com/chat/internal/stream"
	"example.com/chat/internal/ws"
)

const (
	// writeWait is the time allowed for a write to the peer, of at most writeLimit bytes.
	writeWait = pace.WriteWait

	// pongWait is how long a peer may be silent.
	pongWait = 60 * time.Second

	// pingPeriod is the time after which a silent peer is pinged, and pinged again. It is a third of pongWait
	// because a ping waits behind what is on its way to the peer, and on a slow line its pong may take most of
	// pongWait.
	pingPeriod = pongWait / 3

	// closeWait is the time allowed for the peer to close the connection after our close frame. If the peer has
	// hung up, it is the time in which the server reads what the peer sent before.
	closeWait = 5 * time.Second

	// writeLimit is the number of bytes in one write. A sweep sees progress after each part of a longer frame.
	writeLimit = ws.MaxHeader + stream.JoinLimit

	// writeBuffer is the number of bytes that the system may hold for a peer before a write waits. Linux uses twice
	// that, and a write goes on when a third of it is free. With 128 KiB that took readers of 20 kB/s 10 s.
	writeBuffer = 64 << 10

	// retryAfter is the number of seconds after which a client may ask again whether there is room.
	retryAfter = "5"

	// maxForwardedFor is the number of bytes that are logged of X-Forwarded-For.
	maxForwardedFor = 100
)

var errBinary = &ws.CloseError{Code: ws.CloseUnsupportedData, Reason: "this is a text chat"}

// wsHandler serves the WebSocket address of each room.
type wsHandler struct{ chat *chat }

func (h wsHandler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	refused := h.accept(w, r)
	if refused == nil {
		return
	}
	if refused.Status == http.StatusServiceUnavailable {
		w.Header().Set("Retry-After", retryAfter)
	}
	refused.Write(w, r)
	h.chat.counters.Refused.Add(refused.Reason, 1)
	h.chat.peerLog.Info("handshake refused", "reason", refused.Reason, "room", r.PathValue("room"), "peer", r.RemoteAddr, "x_forwarded_for", forwardedFor(r))
}

// accept makes a Conn of a request, or returns why it refuses the request. After Hijack there is no response to
// refuse with, so a connection that fails then is closed.
func (h wsHandler) accept(w http.ResponseWriter, r *http.Request) *ws.HandshakeError {
	// A full chat is checked first. A browser hides from its page why a WebSocket was refused, so the page
	// asks again with a plain GET.
	room := r.PathValue("room")
	if refused := h.chat.check(room); refused != nil {
		return refused
	}
	if refused := ws.CheckRequest(r, h.chat.cfg.origins); refused != nil {
		return refused
	}
	asked, refused := parseJoin(r.URL.Query())
	if refused != nil {
		return refused
	}
	hub, refused := h.chat.enter(room)
	if refused != nil {
		return refused
	}
	socket, in, err := ws.Hijack(w)
	if err != nil {
		h.chat.leave(hub)
		return &ws.HandshakeError{Status: http.StatusInternalServerError, Reason: "no hijacker", Text: err.Error()}
	}
	c := newConn(hub, socket, func() { h.chat.leave(hub) })
	c.forwardedFor = forwardedFor(r)
	if rate := h.chat.cfg.rate; rate > 0 {
		c.limiter = ratelimit.New(rate, time.Second/time.Duration(rate))
	}
	c.serve(r, in, asked, h.chat.cfg.maxMessage)
	return nil
}

// forwardedFor returns the beginning of X-Forwarded-For, in which a proxy names the client. The client may
// forge it.
func forwardedFor(r *http.Request) string {
	all := strings.Join(r.Header["X-Forwarded-For"], ", ")
	return strings.Clone(all[:min(len(all), maxForwardedFor)])
}

// Conn is one client's connection. Two goroutines serve it: readPump between the socket and the Hub, and
// writePump between the Hub and the socket.
type Conn struct {
	// Set at construction.
	hub          *Hub
	socket       net.Conn // the WebSocket; only readPump reads it, and only writePump writes to it
	transport    net.Conn // the connection under TLS, or socket; any goroutine may close it, which never blocks
	leave        func()   // must be called once, when the connection is closed
	forwardedFor string
	limiter      *ratelimit.Limiter // of messages; nil without -rate; readPump's

	// send is the queue of batches to write. Only the Hub sends on it, through out, and only the Hub closes it,
	// which tells writePump to finish.
	send chan delivery.Batch

	// Written by readPump before it unregisters, and read by the Hub after that.
	closeReply *ws.CloseError // the answer to what ended the reading, or nil

	// Written by the Hub before it closes send.
	reason *ws.CloseError // why it has dropped the Conn, which the close frame says; nil for no close frame

	// Written by writePump at its end.
	writing sync.WaitGroup
	linger  *time.Timer   // closes expired and transport after closeWait
	expired chan struct{} // closed when the peer has had its time to close

	// Owned by the Hub.
	out              delivery.Delivery
	meter            pace.Meter
	silence, blocked pace.Stall

	// Counted by the pumps, and read by the Hub. While accept writes the answer there are no pumps.
	reads, writes pace.Progress
}

func newConn(hub *Hub, socket net.Conn, leave func()) *Conn {
	c := &Conn{
		hub:       hub,
		socket:    socket,
		transport: socket,
		leave:     leave,
		send:      make(chan delivery.Batch, delivery.QueueSize),
		expired:   make(chan struct{}),
	}
	if secure, ok := socket.(*tls.Conn); ok {
		c.transport = secure.NetConn()
	}
	if tcp, ok := c.transport.(*net.TCPConn); ok {
		tcp.SetWriteBuffer(writeBuffer)
	}
	return c
}

// serve answers the handshake r and starts the pumps, or closes c if that fails. The client's frames come from in.
func (c *Conn) serve(r *http.Request, in io.Reader, asked join, maxMessage int) {
	messages, err := c.open(r, in, asked, maxMessage)
	if err != nil {
		c.close()
		return
	}
	c.writing.Add(1)
	go c.writePump()
	go c.readPump(messages)
}

// open registers c and answers the handshake. The Conn is in the Hub before the answer is written, so the client
// misses no line that is broadcast after it reads the answer.
func (c *Conn) open(r *http.Request, in io.Reader, asked join, maxMessage int) (*ws.Reader, error) {
	select {
	case c.hub.register <- registration{c, asked}:
	case <-c.hub.done:
		return nil, net.ErrClosed
	}
	c.writes.Begin()
	messages, err := ws.Accept(r, c.socket, socketReader{c, in}, maxMessage, c.pong)
	c.writes.End(0)
	if err != nil {
		c.unregister()
	}
	return messages, err
}

// socketReader reads a Conn's socket for readPump. Once the Hub drains, it ends with errGoingAway when the peer
// has nothing more in flight.
type socketReader struct {
	conn *Conn
	in   io.Reader // what the peer sent before Hijack, then the socket
}

func (r socketReader) Read(p []byte) (n int, err error) {
	c := r.conn
	c.reads.Begin()
	err = os.ErrDeadlineExceeded // only draining sets a deadline
	if !c.hub.isDraining() {
		n, err = r.in.Read(p)
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		n, err = r.readDraining(p)
	}
	c.reads.End(n)
	return n, err
}

// readDraining reads until the peer has been silent for drainIdle, twice, because a line may have come just
// before the first time. A timeout that this goroutine notices late does not count: it had no processor, and a
// line may have come meanwhile.
func (r socketReader) readDraining(p []byte) (int, error) {
	for idle := 0; idle < 2 && time.Now().Before(r.conn.hub.drainDeadline); {
		deadline := time.Now().Add(drainIdle)
		r.conn.socket.SetReadDeadline(deadline)
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

// readPump hands the client's messages to the Hub until reading fails. Then it reads the socket to its end and
// closes it.
//
// Between messages it waits in Wait: the fewer calls deep a goroutine waits, the less stack an idle connection
// takes.
func (c *Conn) readPump(messages *ws.Reader) {
	err := messages.Wait()
	for err == nil {
		if err = c.forward(messages); err == nil {
			err = messages.Wait()
		}
	}
	c.shutdown(err)
}

// forward reads a message, and any more that are already buffered, and hands them to the Hub.
func (c *Conn) forward(messages *ws.Reader) error {
	text, err := c.readLines(messages)
	if len(text) == 0 {
		return err
	}
	if c.limiter != nil {
		c.throttle(c.limiter.Delay(time.Now()))
		c.limiter.Take()
	}
	select {
	case c.hub.broadcast <- message{c, stream.TextFrame(text)}:
		return err
	case <-c.expired:
	case <-c.hub.done:
	}
	return net.ErrClosed
}

// readLines reads a message and, without -rate, any more that are buffered. Each becomes a line, with spaces
// for its line breaks and a line break at its end. There may be lines beside an error.
func (c *Conn) readLines(messages *ws.Reader) (text []byte, err error) {
	for more := true; more; more = c.limiter == nil && len(text) < pending.Enough && messages.Ready() {
		start := len(text)
		var opcode byte
		text = slices.Grow(text, messages.Buffered()+1) // for all that is buffered
		text, opcode, err = messages.AppendMessage(text)
		if err != nil {
			return text, err
		}
		if opcode != websocket.TextFrame {
			return text[:start], errBinary
		}
		spaceLineBreaks(text[start:])
		text = append(text, '\n')
	}
	return text, nil
}

// spaceLineBreaks replaces each line break in text with a space.
func spaceLineBreaks(text []byte) {
	for i := bytes.IndexByte(text, '\n'); i >= 0; i = bytes.IndexByte(text, '\n') {
		text[i] = ' '
		text = text[i+1:]
	}
}

// throttle waits for d. Meanwhile the peer's TCP window fills up, so the peer has to wait, too.
func (c *Conn) throttle(d time.Duration) {
	if d > 0 {
		select {
		case <-time.After(d):
		case <-c.hub.draining:
		case <-c.expired:
		}
	}
}

// shutdown is the end of readPump, which was ended by err. The close frame answers err if that is a CloseError.
func (c *Conn) shutdown(err error) {
	if reply, ok := errors.AsType[*ws.CloseError](err); ok {
		c.closeReply = reply
	}
	c.unregister()

	// To close a socket with unread bytes resets the connection, and the peer might never see the close frame
	// (RFC 6455, section 7.1.1).
	c.socket.SetReadDeadline(time.Time{}) // removes the one of draining
	io.Copy(io.Discard, c.socket)
	c.writing.Wait()
	c.linger.Stop()
	c.logClose()
	c.close()
}

// unregister unregisters c from the Hub, unless the Hub has stopped.
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
		f = c.reason
	}
	if f != nil && f.Reason != "" && f.Code != ws.CloseGoingAway {
		c.hub.peerLog.Info("connection closed", "code", f.Code, "reason", f.Reason, "room", c.hub.name, "peer", c.socket.RemoteAddr(), "x_forwarded_for", c.forwardedFor)
	}
}

// close closes the connection and leaves the room. It is called once: at the end of readPump, or by serve if it
// starts no pumps.
func (c *Conn) close() {
	c.transport.Close()
	c.leave()
}

// pong answers a ping. The Hub passes the answer on to writePump, which alone writes.
func (c *Conn) pong(payload []byte) error {
	select {
	case c.hub.pongs <- message{c, stream.NewFrame(websocket.PongFrame, payload)}:
	case <-c.hub.done:
	}
	return nil
}

// writePump writes what the Hub sends, until the Hub closes send or a write fails. After a failed write it only
// empties the queue, because readPump may still read what the peer sent before it hung up.
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
		c.askForMore(b)
	}
}

// writeQueue writes batches until the Hub closes send, and then the close frame.
func (c *Conn) writeQueue() error {
	for b := range c.send {
		if err := c.writeBatch(b); err != nil {
			return err
		}
	}
	return c.writeClose()
}

// askForMore asks the Hub for more if b was the last batch.
func (c *Conn) askForMore(b delivery.Batch) {
	if b.Last {
		select {
		case c.hub.more <- c:
		case <-c.hub.done:
		}
	}
}

// joinedFrames holds buffers for frames that writePumps join from others and write at once.
var joinedFrames = sync.Pool{New: func() any {
	return &stream.Frame{Bytes: make([]byte, 0, ws.MaxHeader+stream.JoinLimit)}
}}

// writeBatch writes b and the batches in the queue behind it, with their lines joined.
func (c *Conn) writeBatch(b delivery.Batch) error {
	var space [delivery.QueueSize]*stream.Frame
	frames := c.dequeue(space[:0], b)
	if len(frames) == 1 {
		return c.write(frames[0].Bytes)
	}
	into := joinedFrames.Get().(*stream.Frame)
	defer joinedFrames.Put(into)
	for len(frames) > 0 {
		var f *stream.Frame
		f, frames = stream.Join(frames, into)
		if err := c.write(f.Bytes); err != nil {
			return err
		}
	}
	return nil
}

// dequeue appends the frames of b, and of the batches in the queue, to frames.
func (c *Conn) dequeue(frames []*stream.Frame, b delivery.Batch) []*stream.Frame {
	for open := true; open; {
		frames = append(frames, b.Frames...)
		c.askForMore(b)
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
	if c.reason != nil {
		err = c.write(c.reason.Frame())
	}
	if half, ok := c.socket.(interface{ CloseWrite() error }); ok && err == nil {
		half.CloseWrite()
	}
	return err
}

// write writes b, in parts. The Hub closes the transport if one part takes longer than writeWait.
func (c *Conn) write(b []byte) error {
	for part := range slices.Chunk(b, writeLimit) {
		c.writes.Begin()
		n, err := c.socket.Write(part)
		c.writes.End(n)
		if err != nil {
			return err
		}
	}
	return nil
}
