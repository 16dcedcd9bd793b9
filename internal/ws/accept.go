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
	// readBuffer is the size in bytes of a Reader's buffer. It is small because each idle connection has one.
	// The Reader reads longer payloads directly into the message.
	readBuffer = 512

	// answerBuffer is the size in bytes of the buffer for the answer to a handshake, which has about 130.
	answerBuffer = 256
)

// Hijack takes over the request's connection from net/http. The caller must close conn, and must read what
// the client sends from in, which begins with the bytes that net/http has read already. After an error, the
// handler can still write a response to w.
//
// If x/net hijacked the connection instead, net/http would keep the request, its buffers and the handler's
// goroutine while the WebSocket is open. That is 26 KB for each connection.
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

// Accept answers the handshake of r on conn, and returns a Reader of the messages that arrive on in.
// CheckRequest must have accepted r. A message has at most limit bytes.
//
// AppendMessage calls frame, unless it is nil, with the opcode of each frame before it reads the payload. frame may
// block. AppendMessage calls ping with the payload of each ping, which ping may keep. An error of ping ends the
// reading, and AppendMessage returns it.
//
// After an error of Accept, conn is still open.
func Accept(r *http.Request, conn net.Conn, in io.Reader, limit int, frame func(opcode byte), ping func(payload []byte) error) (*Reader, error) {
	buffered := bufio.NewReaderSize(in, readBuffer)
	var reader *Reader
	websocket.Server{Handler: func(c *websocket.Conn) {
		newFrameReader := c.NewFrameReader // this method belongs to a field of c, so it does not keep c alive
		reader = &Reader{
			in:      buffered,
			payload: func() (io.Reader, error) { return newFrameReader() },
			limit:   limit,
			binary:  limit,
			onFrame: frame,
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

// upgradeRequest returns a request with only those parts of r that x/net needs for its answer. Otherwise
// x/net would also parse the host, the path and the subprotocols, and could reject them.
func upgradeRequest(r *http.Request) *http.Request {
	return &http.Request{Method: r.Method, Host: "host", URL: &url.URL{Path: "/"}, Header: http.Header{
		"Connection":            {"Upgrade"},
		"Upgrade":               {"websocket"},
		"Sec-Websocket-Key":     {r.Header.Get("Sec-WebSocket-Key")},
		"Sec-Websocket-Version": {websocket.SupportedProtocolVersion},
	}}
}

// hijackedWriter is the ResponseWriter that x/net sees. It returns a connection that is hijacked already.
// x/net calls only its Hijack method.
type hijackedWriter struct {
	http.ResponseWriter
	conn   net.Conn
	buffer *bufio.ReadWriter
}

func (w hijackedWriter) Hijack() (net.Conn, *bufio.ReadWriter, error) { return w.conn, w.buffer, nil }

// noCloseConn is a connection that stays open when x/net's handler returns.
type noCloseConn struct{ net.Conn }

func (noCloseConn) Close() error { return nil }
