// conn.go: a WebSocket connection, from its handshake to its last byte.

package main

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
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

	// Frames that can wait for a connection's writePump.
	sendQueue = 128

	// Lines are joined into one message up to this many bytes, here and in the Hub. A
	// line that is longer goes alone.
	joinLimit = 64 << 10

	// A deadline is set anew only when it is this old: that costs more than it seems.
	renewDeadline = time.Second

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

	// Closed when writePump has ended, which it did at writeEnd.
	written  chan struct{}
	writeEnd time.Time

	// What readPump wants to be written last. Set before it unregisters.
	answer *closeFrame

	// What is written last. Set by the Hub before it closes send.
	farewell *closeFrame

	// Set by the Hub before it closes send, for a writePump that is busy.
	dropped atomic.Bool

	// Whether waiting for this connection has been no use. Only the Hub's pace uses it.
	stuck bool

	// Of the deadlines: when they were set, for readPump and for writePump, and
	// whether there is no other for writing.
	readSet, writeSet time.Time
	lastWrite         bool
}

func newConn(hub *Hub) *Conn {
	return &Conn{
		hub:     hub,
		send:    make(chan *frame, sendQueue),
		pongs:   make(chan *frame),
		written: make(chan struct{}),
	}
}

// wsHandler serves the WebSocket address: it makes a Conn of a request.
type wsHandler struct {
	hub        *Hub
	maxMessage int // bytes in a message
}

func (h wsHandler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch {
	case !isUpgrade(r):
		w.Header().Set("Connection", "Upgrade")
		w.Header().Set("Upgrade", "websocket")
		w.Header().Set("Sec-WebSocket-Version", websocket.SupportedProtocolVersion)
		http.Error(w, "This address speaks WebSocket, version 13, and nothing else.", http.StatusUpgradeRequired)
	case !validKey(r.Header.Get("Sec-WebSocket-Key")):
		http.Error(w, "Sec-WebSocket-Key must be 16 bytes in base64.", http.StatusBadRequest)
	case !sameOrigin(r):
		http.Error(w, "Pages of another origin may not connect to this chat.", http.StatusForbidden)
	default:
		h.open(w, r)
	}
}

// open makes a Conn of an upgrade request. The Conn is in the Hub before the
// handshake is answered: a peer that knows itself connected misses nothing.
func (h wsHandler) open(w http.ResponseWriter, r *http.Request) {
	c := newConn(h.hub)
	if query := r.URL.Query(); query.Has("since") {
		since := parsePlace(query.Get("since"))
		c.since = &since
	}
	select {
	case h.hub.register <- c:
	case <-h.hub.done:
		http.Error(w, "The chat is shutting down.", http.StatusServiceUnavailable)
		return
	}
	if err := c.start(w, r, h.maxMessage); err != nil {
		c.leave()
		h.hub.sockets.Done()
	}
}

// start takes the connection over from net/http, has x/net answer the handshake on
// it, and starts the pumps. It returns when they run, so that net/http can let go of
// what it held for the request. Where it fails there are no pumps, and no socket.
func (c *Conn) start(w http.ResponseWriter, r *http.Request, maxMessage int) error {
	socket, buffer, err := http.NewResponseController(w).Hijack()
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return err
	}
	c.socket = socket
	c.socket.SetWriteDeadline(time.Now().Add(writeWait))
	c.renewReading(time.Now())

	in := bufio.NewReaderSize(c.input(buffer.Reader), readBuffer)
	err = errors.New("the handshake could not be answered")
	websocket.Server{Handler: func(ws *websocket.Conn) {
		err = nil
		go c.writePump()
		go c.readPump(newMessageReader(ws, in, maxMessage, c.pong))
	}}.ServeHTTP(hijacked{w, keptOpen{socket}, bufio.NewReadWriter(in, buffer.Writer)}, essentials(r))
	if err != nil {
		socket.Close()
	}
	return err
}

// input returns what the peer sends: first what it sent without waiting for the
// handshake's answer, which is in net/http's buffer.
func (c *Conn) input(buffer *bufio.Reader) io.Reader {
	early, _ := buffer.Peek(buffer.Buffered())
	if len(early) == 0 {
		return silenceReader{c}
	}
	return io.MultiReader(bytes.NewReader(bytes.Clone(early)), silenceReader{c})
}

// essentials returns the part of an upgrade request that x/net needs. Subprotocols
// are not among it: there are none.
func essentials(r *http.Request) *http.Request {
	return &http.Request{Method: r.Method, Host: r.Host, URL: r.URL, TLS: r.TLS, Header: http.Header{
		"Connection":            {"Upgrade"},
		"Upgrade":               {"websocket"},
		"Sec-Websocket-Key":     {r.Header.Get("Sec-WebSocket-Key")},
		"Sec-Websocket-Version": {websocket.SupportedProtocolVersion},
	}}
}

// hijacked is the response that x/net gets to see: a connection taken over already.
type hijacked struct {
	http.ResponseWriter
	socket net.Conn
	buffer *bufio.ReadWriter
}

func (h hijacked) Hijack() (net.Conn, *bufio.ReadWriter, error) { return h.socket, h.buffer, nil }

// keptOpen is a socket that x/net can't close when its handler returns, since
// the pumps go on with it.
type keptOpen struct{ net.Conn }

func (keptOpen) Close() error { return nil }

// silenceReader reads a Conn's socket until the peer has been silent for pongWait, or
// writePump has ended. While something waits to be written the peer may not have been
// asked yet whether it lives; then it is writeWait that ends the waiting.
type silenceReader struct{ c *Conn }

func (r silenceReader) Read(p []byte) (int, error) {
	c := r.c
	for {
		if now := time.Now(); now.Sub(c.readSet) >= renewDeadline {
			c.renewReading(now)
		}
		select {
		case <-c.written: // writePump may have set its deadline before this one
			c.socket.SetReadDeadline(c.writeEnd.Add(closeWait))
			return 0, net.ErrClosed
		default:
		}
		n, err := c.socket.Read(p)
		if len(c.send) == 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
			return n, err
		}
	}
}

// renewReading gives the peer another pongWait to be heard of.
func (c *Conn) renewReading(now time.Time) {
	c.readSet = now
	c.socket.SetReadDeadline(now.Add(pongWait + renewDeadline))
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
	return err
}

// end has writePump take leave, as err demands, and closes the socket.
func (c *Conn) end(err error) {
	defer c.hub.sockets.Done()
	defer c.socket.Close()

	if !errors.As(err, &c.answer) && errors.Is(err, os.ErrDeadlineExceeded) {
		c.socket.Close() // nobody is there to take leave of
	}
	c.leave()

	// Closing a socket with unread bytes resets the connection, and the peer
	// might never see the close frame (RFC 6455, section 7.1.1). writePump sets
	// how long this may last.
	io.Copy(io.Discard, c.socket)
	<-c.written
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
		c.writeEnd = time.Now()
		close(c.written)
		c.socket.SetReadDeadline(c.writeEnd.Add(closeWait))
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

// write writes b, within writeWait, or up to renewDeadline less. Once the Hub has dropped c, what is left has one
// writeWait together.
func (c *Conn) write(b []byte) error {
	if now := time.Now(); !c.lastWrite && (now.Sub(c.writeSet) >= renewDeadline || c.dropped.Load()) {
		c.lastWrite = c.dropped.Load()
		c.writeSet = now
		c.socket.SetWriteDeadline(now.Add(writeWait))
	}
	_, err := c.socket.Write(b)
	return err
}

// isUpgrade reports whether r asks for a WebSocket connection in the version
// spoken here (RFC 6455, section 4.2.1).
func isUpgrade(r *http.Request) bool {
	return r.Method == http.MethodGet && r.ProtoAtLeast(1, 1) &&
		hasToken(r.Header["Connection"], "upgrade") &&
		hasToken(r.Header["Upgrade"], "websocket") &&
		r.Header.Get("Sec-WebSocket-Version") == websocket.SupportedProtocolVersion
}

// hasToken reports whether token is in the comma-separated lists, in any case.
func hasToken(lists []string, token string) bool {
	for _, list := range lists {
		for item := range strings.SplitSeq(list, ",") {
			if strings.EqualFold(strings.TrimSpace(item), token) {
				return true
			}
		}
	}
	return false
}

// validKey reports whether key can be a Sec-WebSocket-Key.
func validKey(key string) bool {
	b, err := base64.StdEncoding.DecodeString(key)
	return err == nil && len(b) == 16
}

// sameOrigin reports whether r comes from a page of the host it is sent to, or
// from no page at all: browsers always say from where, programs need not.
func sameOrigin(r *http.Request) bool {
	origin := r.Header["Origin"]
	if len(origin) == 0 {
		return true
	}
	u, err := url.Parse(origin[0])
	return err == nil && len(origin) == 1 && u.Host != "" && strings.EqualFold(u.Host, r.Host)
}
