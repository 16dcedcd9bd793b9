// Package wstest is what the tests of several packages share: a client that may send any bytes
// and checks each frame that it gets, and a listener in memory for testing/synctest.
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

// Client is the client's side of a WebSocket.
type Client struct {
	net.Conn
	In *bufio.Reader // of Conn
	T  testing.TB
}

// NewClient returns a Client on conn that has sent nothing.
func NewClient(t testing.TB, conn net.Conn) *Client {
	return &Client{conn, bufio.NewReader(conn), t}
}

// Upgrade returns a Client on conn whose handshake, for the request target, is done.
func Upgrade(t testing.TB, conn net.Conn, target string) *Client {
	t.Helper()
	c, err := TryUpgrade(t, conn, target)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TryUpgrade is Upgrade for any goroutine.
func TryUpgrade(t testing.TB, conn net.Conn, target string) (*Client, error) {
	c := NewClient(t, conn)
	c.Write([]byte(Request(target)))
	return c, c.ReadHandshake()
}

// Dial connects to addr until the end of the test, but no longer than a minute.
func Dial(t testing.TB, addr string) net.Conn {
	t.Helper()
	return DialWith(t, addr, new(net.Dialer))
}

// DialWith is Dial with another dialer.
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

// Request is a client's handshake for a request target.
func Request(target string) string {
	return "GET " + target + " HTTP/1.1\r\nHost: chat\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" +
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
}

// ReadHandshake reads the server's answer to Request, on any goroutine.
func (c *Client) ReadHandshake() error {
	response, err := http.ReadResponse(c.In, nil)
	if err == nil && response.StatusCode != http.StatusSwitchingProtocols {
		err = fmt.Errorf("handshake: %s", response.Status)
	}
	return err
}

// Send sends a final frame, on any goroutine.
func (c *Client) Send(opcode byte, payload string) {
	c.T.Helper()
	if _, err := c.Write(Frame(0x80|opcode, payload)); err != nil {
		c.T.Error(err)
	}
}

// Frame returns a masked frame with the given first byte.
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

// ReadFrame reads a frame of the server, on any goroutine, and fails the test unless
// it is one that a server may send (RFC 6455, sections 5.2, 5.5, 7.4 and 8.1). This one sends no
// fragments.
func (c *Client) ReadFrame() (opcode byte, payload string, err error) {
	c.T.Helper()
	var head [10]byte
	if _, err := io.ReadFull(c.In, head[:2]); err != nil {
		return 0, "", err
	}
	opcode = head[0] & 0x0f
	length, shortest := uint64(head[1]), uint64(0) // a set mask bit makes it longer than 127
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
		err = fmt.Errorf("not a frame for a server to send: %x, %s", head, Show(opcode, payload))
		c.T.Error(err)
	}
	return opcode, payload, err
}

// CloseCode returns the code in a close frame's payload, or 1005, which stands for none (RFC 6455,
// section 7.1.5).
func CloseCode(payload string) int {
	if len(payload) < 2 {
		return 1005
	}
	return int(binary.BigEndian.Uint16([]byte(payload)))
}

// readPastPings reads the next frame that is not a ping. These come to clients that are silent.
func (c *Client) readPastPings() (opcode byte, payload string, err error) {
	for {
		if opcode, payload, err = c.ReadFrame(); err != nil || opcode != websocket.PingFrame {
			return opcode, payload, err
		}
	}
}

// Expect reads the next frame, passing over the server's own pings, and compares it.
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

// ExpectClose reads a close frame with that code, then the end of the connection.
// Pongs may come before it.
func (c *Client) ExpectClose(code int) {
	c.T.Helper()
	opcode, payload, err := c.ReadFrame()
	for err == nil && opcode == websocket.PongFrame {
		opcode, payload, err = c.ReadFrame()
	}
	if err != nil || opcode != websocket.CloseFrame || CloseCode(payload) != code {
		c.T.Fatalf("got %s, %v; want a close frame with %d", Show(opcode, payload), err, code)
	}
	if b, err := c.In.ReadByte(); err != io.EOF {
		c.T.Fatalf("got %#x, %v after the close frame; want EOF", b, err)
	}
}

// Show describes a frame for a message of a test.
func Show(opcode byte, payload string) string {
	return fmt.Sprintf("opcode %d, %d bytes %.60q", opcode, len(payload), payload)
}

// SmallBuffers dials with the smallest receive buffer that the system grants.
var SmallBuffers = &net.Dialer{Control: func(_, _ string, c syscall.RawConn) error {
	return c.Control(func(fd uintptr) { syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, 4096) })
}}

// Frames returns a frame with the given first byte, n times.
func Frames(n int, first byte, payload string) []byte {
	return bytes.Repeat(Frame(first, payload), n)
}

// Flood writes b again and again until conn is closed.
func Flood(conn net.Conn, b []byte) {
	for {
		if _, err := conn.Write(b); err != nil {
			return
		}
	}
}
