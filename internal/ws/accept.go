package ws

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"

	"golang.org/x/net/websocket"
)

const (
	// Bytes that a Reader reads at once. It reads what is longer without a buffer.
	readBuffer = 512

	// Bytes for the answer to a handshake, which has some 130.
	answerBuffer = 256
)

// Hijack takes a request's connection over from net/http. What the client sends is to be read from in:
// first what net/http has read already, then conn.
//
// If a handler let x/net hijack the connection, net/http would hold the request with its buffers
// and the handler's goroutine as long as the WebSocket is open: 26 KB for each.
func Hijack(w http.ResponseWriter) (conn net.Conn, in io.Reader, err error) {
	conn, buffer, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return nil, nil, err
	}
	early, _ := buffer.Reader.Peek(buffer.Reader.Buffered())
	if len(early) == 0 {
		return conn, conn, nil
	}
	return conn, io.MultiReader(bytes.NewReader(bytes.Clone(early)), conn), nil
}

// Accept has x/net answer the handshake of r, which must have passed CheckRequest, on conn. It
// returns a Reader of the messages that come from in. They have up to limit bytes; ping is called
// with the payload of each ping, from within the Reader's methods, and may keep it. An error of
// ping ends the reading.
//
// With an error, conn remains open: the caller closes it.
func Accept(r *http.Request, conn net.Conn, in io.Reader, limit int, ping func(payload []byte) error) (*Reader, error) {
	buffered := bufio.NewReaderSize(in, readBuffer)
	var reader *Reader
	websocket.Server{Handler: func(c *websocket.Conn) {
		newFrameReader := c.NewFrameReader // a method of the interface that c embeds; c itself is not kept
		reader = &Reader{
			in:      buffered,
			payload: func() (io.Reader, error) { return newFrameReader() },
			limit:   limit,
			ping:    ping,
		}
	}}.ServeHTTP(hijackedWriter{
		conn:   noCloseConn{conn},
		buffer: bufio.NewReadWriter(buffered, bufio.NewWriterSize(conn, answerBuffer)),
	}, upgradeRequest(r))
	if reader == nil {
		return nil, errors.New("websocket: the handshake could not be answered")
	}
	return reader, nil
}

// upgradeRequest returns the part of r that x/net needs. It would parse host, path
// and subprotocols for nothing.
func upgradeRequest(r *http.Request) *http.Request {
	return &http.Request{Method: r.Method, Host: "host", URL: &url.URL{Path: "/"}, Header: http.Header{
		"Connection":            {"Upgrade"},
		"Upgrade":               {"websocket"},
		"Sec-Websocket-Key":     {r.Header.Get("Sec-WebSocket-Key")},
		"Sec-Websocket-Version": {websocket.SupportedProtocolVersion},
	}}
}

// hijackedWriter is the response that x/net gets to see: a connection taken over already. x/net
// calls no method of it but Hijack.
type hijackedWriter struct {
	http.ResponseWriter
	conn   net.Conn
	buffer *bufio.ReadWriter
}

func (w hijackedWriter) Hijack() (net.Conn, *bufio.ReadWriter, error) { return w.conn, w.buffer, nil }

// noCloseConn is a connection that x/net can't close when its handler returns.
type noCloseConn struct{ net.Conn }

func (noCloseConn) Close() error { return nil }
