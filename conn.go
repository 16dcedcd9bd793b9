package main

import (
	"bytes"
	"cmp"
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

	"example.com/chat/internal/command"
	"example.com/chat/internal/cpushare"
	"example.com/chat/internal/delivery"
	"example.com/chat/internal/event"
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

	// pingPeriod is the time between two pings of a silent peer. It is a third of pongWait because a ping waits
	// behind the bytes that are on their way to the peer. On a slow line the pong may take most of pongWait.
	pingPeriod = pongWait / 3

	// closeWait is the time after the last write in which the peer must close the connection. Meanwhile
	// readPump still reads lines that the peer sent before it hung up.
	closeWait = 5 * time.Second

	// writeLimit is the largest number of bytes in one write. A longer frame is written in parts, so that a
	// sweep sees its progress.
	writeLimit = ws.MaxHeader + stream.JoinLimit

	// writeBuffer is the number of bytes that the system may hold for a peer before a write blocks. Linux
	// doubles it, and a blocked write continues when a third is free. With 128 KiB, a write to a peer that
	// reads 20 kB/s took 10 s.
	writeBuffer = 64 << 10

	// retryAfter is the number of seconds after which a client may ask again whether there is room.
	retryAfter = "5"

	// maxForwardedFor is the largest number of bytes that are logged of X-Forwarded-For.
	maxForwardedFor = 100
)

// errBinary answers a binary message of a client that gets no events.
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
	h.chat.shared.counters.Refused.Add(refused.Reason, 1)
	h.chat.shared.peerLog.Info("handshake refused", "reason", refused.Reason, "room", r.PathValue("room"), "peer", r.RemoteAddr, "x_forwarded_for", forwardedFor(r))
}

// accept makes a Conn of a request, or returns why it refuses the request. A connection that fails after Hijack is
// closed without a response.
func (h wsHandler) accept(w http.ResponseWriter, r *http.Request) *ws.HandshakeError {
	// The limits come before CheckRequest, which refuses every POST. With a POST the page asks again after a
	// refusal, because a browser does not tell its page why a WebSocket was refused.
	room := r.PathValue("room")
	if refused := h.chat.check(room); refused != nil {
		return refused
	}
	if refused := ws.CheckRequest(r, h.chat.cfg.origins); refused != nil {
		return refused
	}
	asked, refused := parseJoin(r.URL.RawQuery)
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
	return strings.Clone(ratelimit.Cut(all, maxForwardedFor))
}

// Conn is one client's connection. readPump hands messages from the socket to the Hub, and writePump writes the
// Hub's frames to the socket. Each has its own goroutine.
type Conn struct {
	// Set at construction.
	hub          *Hub
	socket       net.Conn       // the WebSocket; only readPump reads it, and only writePump writes to it
	transport    *cpushare.Conn // socket without TLS, or the connection under TLS; any goroutine may close it, and Close never blocks
	leave        func()         // releases the room; close calls it once
	forwardedFor string

	// Owned by readPump, and by open before the pumps start.
	limiter *ratelimit.Limiter // limits frames; nil without -rate
	events  bool               // the client gets events, and may send commands

	// send is the queue of batches to write. Only the Hub sends on it, through out, and only the Hub closes it,
	// which tells writePump to finish.
	send chan delivery.Batch

	// Set by the Hub before it closes send.
	reason *ws.CloseError // close frame that writePump writes last; nil for none

	writing sync.WaitGroup // waits for writePump; serve adds to it
	expired chan struct{}  // closed by linger; readPump then hands over no more lines

	// Set by writePump at its end, and read after writing.Wait.
	linger *time.Timer // closes expired and transport, closeWait after the last write

	// Owned by the Hub.
	out              delivery.Delivery
	reply            *ws.CloseError // close frame that answers the end of the input; nil if there is none, or before that
	meter            pace.Meter
	silence, blocked pace.Stall

	// Changed by the pumps, and by open before the pumps start. Any goroutine may read them.
	reads, writes pace.Progress
}

// newConn returns a Conn of hub on socket, which a clientListener has accepted. leave must release the room, and is
// called once.
func newConn(hub *Hub, socket net.Conn, leave func()) *Conn {
	transport(socket).Frames(0)
	return &Conn{
		hub:       hub,
		socket:    socket,
		transport: transport(socket),
		leave:     leave,
		send:      make(chan delivery.Batch, delivery.QueueSize),
		expired:   make(chan struct{}),
	}
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
// misses no line that is broadcast after it reads the answer. After an error the caller must close c.
func (c *Conn) open(r *http.Request, in io.Reader, asked join, maxMessage int) (*ws.Reader, error) {
	select {
	case c.hub.register <- registration{c, asked}:
	case <-c.hub.done:
		return nil, net.ErrClosed
	}
	c.writes.Begin()
	messages, err := ws.Accept(r, c.socket, socketReader{c, in}, maxMessage, c.frame, c.pong)
	c.writes.End(0)
	if err != nil {
		c.unregister(nil)
		c.skipQueue() // instead of writePump
		return nil, err
	}
	if c.events = asked.events; c.events {
		messages.LimitBinary(command.MaxSize)
	}
	return messages, nil
}

// socketReader reads a Conn's socket for readPump. While the Hub drains, Read returns errGoingAway when the
// peer has nothing more in flight, or at drainDeadline.
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
	c.transport.Frames(n)
	return n, err
}

// readDraining reads until two reads in a row time out after drainIdle. One is not enough, because a line may
// come just before it. A timeout that this goroutine notices late does not count: without a processor it may
// have missed a line.
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

// readPump hands the client's messages to the Hub until reading fails. Then it unregisters, reads the socket to
// its end, and closes the connection. It blocks in Wait because Wait is few calls deep, so that an idle
// connection needs a small stack.
func (c *Conn) readPump(messages *ws.Reader) {
	err := messages.Wait()
	for err == nil {
		if err = c.forward(messages); err == nil {
			err = messages.Wait()
		}
	}
	c.shutdown(err)
}

// forward reads a message and others that are buffered, and hands their lines to the Hub. It returns the error
// that ends the reading, or net.ErrClosed if the peer's time is over or the Hub has stopped. Lines that came
// before a read error are still handed over.
func (c *Conn) forward(messages *ws.Reader) error {
	text, err := c.readLines(messages)
	if len(text) == 0 {
		return err
	}
	c.transport.Messages()
	select {
	case c.hub.broadcast <- connFrame{c, stream.TextFrame(text)}:
		return err
	case <-c.expired:
	case <-c.hub.done:
	}
	return net.ErrClosed
}

// readLines reads a message and, without -rate, others that are buffered. Each becomes a line. Its line breaks
// become spaces, and '\n' ends it. If err is not nil, text has the lines before the error. readLines carries
// out a binary message, which is the first message, because Ready reports only text messages.
func (c *Conn) readLines(messages *ws.Reader) (text []byte, err error) {
	for more := true; more; more = c.limiter == nil && len(text) < pending.Enough && messages.Ready() {
		start := len(text)
		var opcode byte
		text = slices.Grow(text, messages.Buffered()+1) // room for everything that is buffered
		text, opcode, err = messages.AppendMessage(text)
		if err != nil {
			return text, err
		}
		if opcode != websocket.TextFrame {
			return nil, c.command(text)
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

// frame counts a frame of the peer, before its payload is read, and waits until the peer may send one. With -rate, a
// close frame need not wait, because no other follows it.
func (c *Conn) frame(opcode byte) {
	c.transport.Frame(opcode == websocket.PingFrame)
	if c.limiter != nil && opcode != websocket.CloseFrame {
		c.throttle(c.limiter.Delay(time.Now()))
		c.limiter.Take()
	}
}

// throttle waits for d, until the Hub drains, or until the peer's time is over. Meanwhile the TCP window fills
// up, so the peer must wait, too.
func (c *Conn) throttle(d time.Duration) {
	if d > 0 {
		select {
		case <-time.After(d):
		case <-c.hub.draining:
		case <-c.expired:
		}
	}
}

// shutdown ends readPump after the error err. If err is a *ws.CloseError, the peer gets it as close frame.
func (c *Conn) shutdown(err error) {
	reply, _ := errors.AsType[*ws.CloseError](err)
	c.unregister(reply)

	// Closing a socket with unread bytes resets the connection, and the peer might never see the close frame
	// (RFC 6455, section 7.1.1).
	c.socket.SetReadDeadline(time.Time{}) // startDrain has set one
	c.discard()
	c.writing.Wait()
	c.linger.Stop()
	c.close()
	c.logClose(cmp.Or(reply, c.reason))
}

// discard reads the socket until that fails.
func (c *Conn) discard() {
	b := make([]byte, 4<<10)
	for {
		n, err := c.socket.Read(b)
		c.transport.Frames(n)
		if err != nil {
			return
		}
	}
}

// unregister unregisters c from the Hub, unless the Hub has stopped.
func (c *Conn) unregister(reply *ws.CloseError) {
	select {
	case c.hub.unregister <- ending{c, reply}:
	case <-c.hub.done:
	}
}

// logClose logs why the connection was closed, if the peer caused it.
func (c *Conn) logClose(f *ws.CloseError) {
	if f != nil && f.Reason != "" && f.Code != ws.CloseGoingAway {
		c.hub.shared.peerLog.Info("connection closed", "code", f.Code, "reason", f.Reason, "room", c.hub.name,
			"peer", c.socket.RemoteAddr(), "x_forwarded_for", c.forwardedFor)
	}
}

// close closes the transport and leaves the room. It must be called once.
func (c *Conn) close() {
	c.transport.Close()
	c.leave()
}

// command carries out a binary message of the client, or returns the close frame with which the server refuses it.
func (c *Conn) command(message []byte) error {
	if !c.events {
		return errBinary
	}
	c.transport.Command(len(message))
	asked, err := command.Parse(message)
	if err == nil && asked.Ping != nil {
		c.answer(event.Event{Pong: asked.Ping}.Frame())
	}
	return err
}

// pong answers a ping. It returns nil.
func (c *Conn) pong(payload []byte) error {
	c.answer(stream.NewFrame(websocket.PongFrame, payload))
	return nil
}

// answer hands f to the Hub, because only writePump may write. While c is behind, only the newest answers remain.
func (c *Conn) answer(f *stream.Frame) {
	select {
	case c.hub.answers <- connFrame{c, f}:
	case <-c.hub.done:
	}
}

// writePump writes the frames that the Hub sends. After a failed write it only receives batches until the Hub
// closes send, because readPump may still read lines that the peer sent before it hung up.
func (c *Conn) writePump() {
	defer c.writing.Done()
	if err := c.writeQueue(); errors.Is(err, os.ErrDeadlineExceeded) {
		c.transport.Close() // the peer doesn't read
	}
	c.linger = time.AfterFunc(closeWait, func() {
		close(c.expired)
		c.transport.Close()
	})
	c.skipQueue()
}

// skipQueue receives batches, without writing them, until the Hub closes send. It must be the last to receive from send.
func (c *Conn) skipQueue() {
	for b := range c.send {
		c.askForMore(b)
	}
	c.hub.leaving.Add(-1)
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

// askForMore asks the Hub for more if b is marked last. writePump calls it before it writes b, so that the next
// batch comes during the write.
func (c *Conn) askForMore(b delivery.Batch) {
	if b.Last {
		select {
		case c.hub.more <- c:
		case <-c.hub.done:
		}
	}
}

// joining limits the writePumps that hold a buffer of joinedFrames to 256, which take 16 MiB. A peer that does
// not read blocks its writePump for up to writeWait, and there may be many. The other writePumps do not join
// frames.
var joining = make(chan struct{}, 256)

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
	select {
	case joining <- struct{}{}:
		defer func() { <-joining }()
	default:
		return c.writeEach(frames)
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

// writeEach writes frames as they are.
func (c *Conn) writeEach(frames []*stream.Frame) error {
	for _, f := range frames {
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

// write writes b in parts of at most writeLimit bytes. The Hub closes the transport if one part takes writeWait.
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
