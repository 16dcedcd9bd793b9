// library.go: what one message costs in x/net/websocket and in gorilla/websocket by
// themselves, without a hub, a scheduler or a network.

package main

import (
	"bufio"
	"bytes"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	gorilla "github.com/gorilla/websocket"
	xnet "golang.org/x/net/websocket"
)

// library is one way to read or to write a message.
type library struct {
	name string
	open func(*tape) func() error // makes a connection; what it returns is done once a message
}

var reading = []library{
	{"x/net, `Message.Receive` into bytes", func(t *tape) func() error {
		ws, message := openXnet(t), []byte(nil)
		return func() error { return xnet.Message.Receive(ws, &message) }
	}},
	{"gorilla, `ReadMessage`", func(t *tape) func() error {
		ws := openGorilla(t)
		return func() error { _, _, err := ws.ReadMessage(); return err }
	}},
}

var writing = []library{
	{"x/net, `Conn.Write`", func(t *tape) func() error {
		ws, message := openXnet(t), t.message
		return func() error { _, err := ws.Write(message); return err }
	}},
	{"gorilla, `WriteMessage`", func(t *tape) func() error {
		ws, message := openGorilla(t), t.message
		return func() error { return ws.WriteMessage(gorilla.TextMessage, message) }
	}},
}

// LibraryCosts returns a table of what messages cost. A write is a call of the
// socket's Write.
func (r *reporter) LibraryCosts() (string, error) {
	rows := [][]string{{"", "64 bytes", "4 KiB", "64 KiB"}}
	for i, l := range append(reading, writing...) {
		row := []string{l.name}
		for _, size := range []int{64, 4 << 10, 64 << 10} {
			cost, err := l.cost(size, i >= len(reading))
			if err != nil {
				return "", fmt.Errorf("%s, %d bytes: %w", l.name, size, err)
			}
			row = append(row, cost)
		}
		rows = append(rows, row)
	}
	return markdown(rows), nil
}

// cost measures a message of so many bytes.
func (l library) cost(size int, writes bool) (string, error) {
	t := newTape(size)
	message := l.open(t)
	t.writes = 0
	var err error
	result := testing.Benchmark(func(b *testing.B) {
		b.ReportAllocs()
		for range b.N {
			if e := message(); e != nil {
				err = e
				return
			}
		}
	})
	if err != nil {
		return "", err
	}
	cost := fmt.Sprintf("%.3g µs, %d B in %d allocations", float64(result.NsPerOp())/1000, result.AllocedBytesPerOp(), result.AllocsPerOp())
	if writes {
		before := t.writes
		err = message()
		cost += fmt.Sprintf(", writes: %d", t.writes-before)
	}
	return cost, err
}

// tape is a socket from which the same message comes without end, and which forgets
// what is written.
type tape struct {
	net.Conn
	message []byte
	frame   []byte
	at      int
	writes  int
}

func newTape(size int) *tape {
	message := bytes.Repeat([]byte("x"), size)
	return &tape{message: message, frame: appendFrame(nil, message)}
}

func (t *tape) Read(p []byte) (int, error) {
	n := copy(p, t.frame[t.at:])
	t.at = (t.at + n) % len(t.frame)
	return n, nil
}

func (t *tape) Write(p []byte) (int, error)      { t.writes++; return len(p), nil }
func (t *tape) Close() error                     { return nil }
func (t *tape) SetDeadline(time.Time) error      { return nil }
func (t *tape) SetReadDeadline(time.Time) error  { return nil }
func (t *tape) SetWriteDeadline(time.Time) error { return nil }

// hijacked is a response whose connection is a tape, with buffers such as net/http's.
type hijacked struct {
	http.ResponseWriter
	tape *tape
}

func (h hijacked) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	return h.tape, bufio.NewReadWriter(bufio.NewReader(h.tape), bufio.NewWriter(h.tape)), nil
}

func upgradeRequest() *http.Request {
	r, err := http.ReadRequest(bufio.NewReader(strings.NewReader("GET / HTTP/1.1\r\nHost: chat\r\nConnection: Upgrade\r\n" +
		"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")))
	if err != nil {
		panic(err)
	}
	return r
}

func openXnet(t *tape) (ws *xnet.Conn) {
	xnet.Server{Handler: func(c *xnet.Conn) { ws = c }}.ServeHTTP(hijacked{tape: t}, upgradeRequest())
	return ws
}

func openGorilla(t *tape) *gorilla.Conn {
	var upgrader gorilla.Upgrader
	ws, err := upgrader.Upgrade(hijacked{tape: t}, upgradeRequest(), nil)
	if err != nil {
		panic(err)
	}
	return ws
}
