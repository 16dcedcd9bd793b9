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
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/net/websocket"
)

const (
	// Time allowed for a write to the peer.
	writeWait = 10 * time.Second

	// Time allowed for anything at all to come from the peer.
	pongWait = 60 * time.Second

	// The peer is pinged with this period. Must be less than pongWait.
	pingPeriod = pongWait * 9 / 10

	// Time allowed for the peer to close the connection after our close frame.
	closeWait = 5 * time.Second

	// Lines that can wait for a connection's writePump.
	sendQueue = 256

	// Waiting lines are joined into one message up to about this many bytes.
	joinLimit = 64 << 10
)

// Conn is one peer's connection. readPump and writePump, a goroutine each, serve
// it between the socket and the Hub.
type Conn struct {
	hub *Hub

	// The socket. readPump alone reads it and closes it in the end, writePump
	// alone writes to it. Each sets its own deadline.
	socket net.Conn

	// The frames on the socket.
	ws *websocket.Conn

	// Lines to be written. Only the Hub sends here; closed, it tells writePump
	// to finish.
	send chan []byte

	// Payloads of pings to be answered, from readPump to writePump.
	pings chan []byte

	// Closed when writePump has ended.
	written chan struct{}

	// What readPump wants to be written last. Set before it unregisters.
	answer *closeFrame

	// What is written last. Set by the Hub before it closes send.
	farewell *closeFrame

	// Set by the Hub before it closes send, for a writePump that is busy.
	dropped atomic.Bool

	// Whether the write deadline is the last. Only writePump uses it.
	lastWait bool
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
	c := &Conn{
		hub:     h.hub,
		send:    make(chan []byte, sendQueue),
		pings:   make(chan []byte),
		written: make(chan struct{}),
	}
	select {
	case h.hub.register <- c:
	case <-h.hub.done:
		http.Error(w, "The chat is shutting down.", http.StatusServiceUnavailable)
		return
	}
	c.serve(w, r, h.maxMessage)
	if c.ws == nil { // no handshake, no pumps
		c.leave()
		h.hub.sockets.Done()
	}
}

// serve takes the connection over from net/http, has x/net answer the handshake
// on it, and starts the pumps. It returns when they run, so that net/http can let
// go of what it held for the request.
func (c *Conn) serve(w http.ResponseWriter, r *http.Request, maxMessage int) {
	socket, buffer, err := http.NewResponseController(w).Hijack()
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	c.socket = socket
	c.socket.SetDeadline(time.Now().Add(writeWait))

	// What the client sent without waiting for the answer is in net/http's buffer.
	early, _ := buffer.Reader.Peek(buffer.Reader.Buffered())
	in := bufio.NewReader(io.MultiReader(bytes.NewReader(bytes.Clone(early)), silenceReader{c}))

	websocket.Server{Handler: func(ws *websocket.Conn) {
		c.ws = ws
		go c.writePump()
		go c.readPump(&messageReader{ws: ws, in: in, limit: maxMessage, ping: c.pong})
	}}.ServeHTTP(hijacked{w, keptOpen{socket}, in}, essentials(r))
	if c.ws == nil {
		socket.Close()
	}
}

// essentials returns the part of an upgrade request that x/net needs, and keeps
// as long as the connection lasts. Subprotocols are not among it: there are none.
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
	in     *bufio.Reader
}

func (h hijacked) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	return h.socket, bufio.NewReadWriter(h.in, bufio.NewWriter(h.socket)), nil
}

// keptOpen is a socket that x/net can't close when its handler returns, since
// the pumps go on with it.
type keptOpen struct{ net.Conn }

func (keptOpen) Close() error { return nil }

// silenceReader reads a Conn's socket until the peer has been silent for pongWait,
// or writePump has ended.
type silenceReader struct{ c *Conn }

func (r silenceReader) Read(p []byte) (int, error) {
	r.c.socket.SetReadDeadline(time.Now().Add(pongWait))
	select {
	case <-r.c.written: // writePump may have set its deadline before this one
		r.c.socket.SetReadDeadline(time.Now().Add(closeWait))
		return 0, net.ErrClosed
	default:
		return r.c.socket.Read(p)
	}
}

// readPump hands the peer's messages, which r reads, to the Hub.
//
// It runs in a goroutine of its own, the only one that reads the socket, until
// the peer is gone or has to go. It outlives writePump, and closes the socket.
func (c *Conn) readPump(r *messageReader) {
	defer c.hub.sockets.Done()
	defer c.socket.Close()

	err := c.relay(r)
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

// relay broadcasts what r reads, a line a message, until that fails.
func (c *Conn) relay(r *messageReader) error {
	for {
		line, err := r.next()
		if err != nil {
			return err
		}
		for i, b := range line {
			if b == '\n' {
				line[i] = ' '
			}
		}
		select {
		case c.hub.broadcast <- line:
		case <-c.hub.done:
			return net.ErrClosed
		}
	}
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
	case c.pings <- payload:
		return nil
	case <-c.written:
		return net.ErrClosed
	}
}

// writePump writes to the peer what the Hub sends, and the control frames.
//
// It runs in a goroutine of its own, the only one that writes to the socket,
// until the Hub closes c.send or a write fails.
func (c *Conn) writePump() {
	ticker := time.NewTicker(pingPeriod)
	defer func() {
		ticker.Stop()
		close(c.written)
		c.socket.SetReadDeadline(time.Now().Add(closeWait))
	}()
	for {
		var err error
		select {
		case line, ok := <-c.send:
			if !ok {
				c.finish()
				return
			}
			err = c.write(websocket.TextFrame, c.join(line))
		case payload := <-c.pings:
			err = c.write(websocket.PongFrame, payload)
		case <-ticker.C:
			err = c.write(websocket.PingFrame, nil)
		}
		if err != nil {
			c.socket.Close()
			return
		}
	}
}

// join returns line and the lines that wait behind it as one message.
func (c *Conn) join(line []byte) []byte {
	message := slices.Clip(line) // append copies: the line is everyone's
	for len(message) < joinLimit {
		select {
		case next, ok := <-c.send:
			if !ok {
				return message
			}
			message = append(append(message, '\n'), next...)
		default:
			return message
		}
	}
	return message
}

// finish writes the farewell and closes the writing half of the connection.
func (c *Conn) finish() {
	if c.farewell != nil {
		c.write(websocket.CloseFrame, c.farewell.payload())
	}
	if half, ok := c.socket.(interface{ CloseWrite() error }); ok {
		half.CloseWrite()
	}
}

// write writes one frame, within writeWait. Once the Hub has dropped c, what is
// left has one writeWait together.
func (c *Conn) write(opcode byte, payload []byte) error {
	if !c.lastWait {
		c.lastWait = c.dropped.Load()
		c.socket.SetWriteDeadline(time.Now().Add(writeWait))
	}
	w, err := c.ws.NewFrameWriter(opcode)
	if err != nil {
		return err
	}
	_, err = w.Write(payload)
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
