// Package wstest has a WebSocket client for tests. The client can send any bytes, and fails the test if the
// server sends an invalid frame. A Listener connects clients in memory, for testing/synctest.
//
// The package also has what tests of several packages share, such as clients that talk to each other, and
// certificates.
//
// Functions that call t.Fatal must be called on the goroutine of the test. Those whose comments say "on any
// goroutine" return an error or call t.Error instead.
package wstest

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"syscall"
	"testing"
	"time"
	"unicode/utf8"

	"golang.org/x/net/websocket"
)

// Client is the client's end of a WebSocket. One goroutine at a time may read, and another one may write.
type Client struct {
	net.Conn               // for writing; reads must use In
	In       *bufio.Reader // buffers what arrives on Conn
	T        testing.TB
}

// NewClient returns a Client on conn. It sends nothing.
func NewClient(t testing.TB, conn net.Conn) *Client {
	return &Client{conn, bufio.NewReader(conn), t}
}

// Upgrade returns a Client on conn after a handshake for the request target, such as "/ws".
func Upgrade(t testing.TB, conn net.Conn, target string) *Client {
	t.Helper()
	c, err := TryUpgrade(t, conn, target)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TryUpgrade is Upgrade on any goroutine.
func TryUpgrade(t testing.TB, conn net.Conn, target string) (*Client, error) {
	c := NewClient(t, conn)
	c.Write([]byte(Request(target)))
	return c, c.ReadHandshake()
}

// Dial connects to addr. The connection has a deadline of one minute, and is closed at the end of the test.
func Dial(t testing.TB, addr string) net.Conn {
	t.Helper()
	return DialWith(t, addr, new(net.Dialer))
}

// DialWith is Dial with the given dialer.
func DialWith(t testing.TB, addr string, dialer *net.Dialer) net.Conn {
	t.Helper()
	conn, err := dialer.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(time.Minute))
	return conn
}

// SmallBuffers is a dialer for connections with a small receive buffer, so that a client that does not read
// soon blocks the server. It asks for 4 KiB; the system may grant more.
var SmallBuffers = &net.Dialer{Control: func(_, _ string, c syscall.RawConn) error {
	return c.Control(func(fd uintptr) { syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, 4096) })
}}

// Request returns a client's handshake for a request target. Its key is the one of RFC 6455, section 1.3.
func Request(target string) string {
	return "GET " + target + " HTTP/1.1\r\nHost: chat\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" +
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
}

// ReadHandshake reads the server's answer to Request, on any goroutine. A status other than 101 is an error.
func (c *Client) ReadHandshake() error {
	response, err := http.ReadResponse(c.In, nil)
	if err == nil && response.StatusCode != http.StatusSwitchingProtocols {
		err = fmt.Errorf("handshake: got status %s, want 101", response.Status)
	}
	return err
}

// Send sends a final, masked frame, on any goroutine. If it fails, so does the test.
func (c *Client) Send(opcode byte, payload string) {
	c.T.Helper()
	if _, err := c.Write(Frame(0x80|opcode, payload)); err != nil {
		c.T.Error(err)
	}
}

// Frame returns a masked frame. The first byte has the final bit, the reserved bits and the opcode (RFC
// 6455, section 5.2), such as 0x81 for a text message.
func Frame(first byte, payload string) []byte {
	b := []byte{first, 0x80}
	switch n := len(payload); {
	case n <= 125:
		b[1] |= byte(n)
	case n <= 0xffff:
		b[1] |= 126
		b = binary.BigEndian.AppendUint16(b, uint16(n))
	default:
		b[1] |= 127
		b = binary.BigEndian.AppendUint64(b, uint64(n))
	}
	mask := [4]byte{0x37, 0xfa, 0x21, 0x3d}
	b = append(b, mask[:]...)
	for i := range len(payload) {
		b = append(b, payload[i]^mask[i%4])
	}
	return b
}

// Frames returns n copies of Frame(first, payload).
func Frames(n int, first byte, payload string) []byte {
	return bytes.Repeat(Frame(first, payload), n)
}

// ReadFrame reads the server's next frame, on any goroutine. If a server must not send the frame, the test
// fails (RFC 6455, sections 5.2, 5.5, 7.4 and 8.1). Fragments also fail the test, because package ws sends
// none.
func (c *Client) ReadFrame() (opcode byte, payload string, err error) {
	c.T.Helper()
	var head [10]byte
	if _, err := io.ReadFull(c.In, head[:2]); err != nil {
		return 0, "", err
	}
	opcode = head[0] & 0x0f
	length, shortest := uint64(head[1]), uint64(0) // more than 127 if the frame is masked
	switch length {
	case 126:
		_, err = io.ReadFull(c.In, head[2:4])
		length, shortest = uint64(binary.BigEndian.Uint16(head[2:])), 126
	case 127:
		_, err = io.ReadFull(c.In, head[2:])
		length, shortest = binary.BigEndian.Uint64(head[2:]), 1<<16
	}
	var body bytes.Buffer
	if err == nil {
		_, err = io.CopyN(&body, c.In, int64(length))
	}
	if err != nil {
		return opcode, "", err
	}
	payload = body.String()

	legal := opcode == websocket.BinaryFrame
	switch opcode {
	case websocket.TextFrame:
		legal = utf8.ValidString(payload)
	case websocket.PingFrame, websocket.PongFrame:
		legal = length <= 125
	case websocket.CloseFrame:
		n := CloseCode(payload)
		legal = length <= 125 && (length == 0 || n >= 1000 && n < 5000 && utf8.ValidString(payload[2:]))
	}
	if !legal || head[0]&0xf0 != 0x80 || head[1] > 127 || length < shortest {
		err = fmt.Errorf("got a frame that a server must not send: header %x, %s", head, Show(opcode, payload))
		c.T.Error(err)
	}
	return opcode, payload, err
}

// CloseCode returns the code in a close frame's payload. If there is none it returns 1005 (RFC 6455,
// section 7.1.5).
func CloseCode(payload string) int {
	if len(payload) < 2 {
		return 1005
	}
	return int(binary.BigEndian.Uint16([]byte(payload)))
}

// readPastPings reads the next frame that is not a ping, on any goroutine. Servers may ping a silent client.
func (c *Client) readPastPings() (opcode byte, payload string, err error) {
	for {
		if opcode, payload, err = c.ReadFrame(); err != nil || opcode != websocket.PingFrame {
			return opcode, payload, err
		}
	}
}

// Expect reads the next frame, and fails the test unless it has this opcode and payload. It skips pings,
// unless it expects one.
func (c *Client) Expect(opcode byte, payload string) {
	c.T.Helper()
	read := c.readPastPings
	if opcode == websocket.PingFrame {
		read = c.ReadFrame
	}
	gotOpcode, got, err := read()
	if err != nil || gotOpcode != opcode || got != payload {
		c.T.Fatalf("got %s, %v; want %s", Show(gotOpcode, got), err, Show(opcode, payload))
	}
}

// ExpectClose reads a close frame, skipping pongs, and then the end of the connection. It fails the test
// unless the frame has this code.
func (c *Client) ExpectClose(code int) {
	c.T.Helper()
	opcode, payload, err := c.ReadFrame()
	for err == nil && opcode == websocket.PongFrame {
		opcode, payload, err = c.ReadFrame()
	}
	if err != nil || opcode != websocket.CloseFrame || CloseCode(payload) != code {
		c.T.Fatalf("got %s, %v; want a close frame with code %d", Show(opcode, payload), err, code)
	}
	if b, err := c.In.ReadByte(); err != io.EOF {
		c.T.Fatalf("got %#x, %v after the close frame; want EOF", b, err)
	}
}

// Show describes a frame in a failure message. It abbreviates the payload.
func Show(opcode byte, payload string) string {
	return fmt.Sprintf("opcode %d, %d bytes %.60q", opcode, len(payload), payload)
}

// Flood writes b repeatedly until conn is closed, on any goroutine.
func Flood(conn net.Conn, b []byte) {
	for {
		if _, err := conn.Write(b); err != nil {
			return
		}
	}
}
