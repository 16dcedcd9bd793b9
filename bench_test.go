// bench_test.go: what things cost. benchstat reads what comes out.

package main

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"

	"golang.org/x/net/websocket"
)

// endless reads the same bytes over and over.
type endless struct {
	bytes []byte
	at    int
}

func (e *endless) Read(p []byte) (int, error) {
	n := copy(p, e.bytes[e.at:])
	e.at = (e.at + n) % len(e.bytes)
	return n, nil
}

// BenchmarkRead compares reading a text message of one frame as it is done here
// with x/net's Message.Receive into a string and into bytes, which check less.
func BenchmarkRead(b *testing.B) {
	for _, size := range []int{16, 64, 1 << 10, 4 << 10, 64 << 10, 1 << 20} {
		frame := clientFrame(0x81, strings.Repeat("x", size))
		b.Run(fmt.Sprintf("bytes=%d/by=chat", size), func(b *testing.B) {
			in := bufio.NewReader(&endless{bytes: frame})
			r := newMessageReader(serverConn(in), in, size, nil)
			b.ReportAllocs()
			b.SetBytes(int64(size))
			for b.Loop() {
				if _, err := r.lines(); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(fmt.Sprintf("bytes=%d/by=Receive-string", size), func(b *testing.B) {
			benchmarkReceive(b, frame, size, new(string))
		})
		b.Run(fmt.Sprintf("bytes=%d/by=Receive-bytes", size), func(b *testing.B) {
			benchmarkReceive(b, frame, size, new([]byte))
		})
	}
}

func benchmarkReceive(b *testing.B, frame []byte, size int, message any) {
	ws := serverConn(bufio.NewReader(&endless{bytes: frame}))
	b.ReportAllocs()
	b.SetBytes(int64(size))
	for b.Loop() {
		if err := websocket.Message.Receive(ws, message); err != nil {
			b.Fatal(err)
		}
	}
}

// serverConn returns an x/net connection as its handler gets it, reading from in.
func serverConn(in *bufio.Reader) (ws *websocket.Conn) {
	r, err := http.ReadRequest(bufio.NewReader(strings.NewReader(upgradeRequest)))
	if err != nil {
		panic(err)
	}
	websocket.Server{Handler: func(c *websocket.Conn) { ws = c }}.ServeHTTP(hijacked{socket: discard{}, buffer: bufio.NewReadWriter(in, bufio.NewWriter(discard{}))}, r)
	return ws
}

// discard is a socket that takes everything and gives nothing.
type discard struct{ net.Conn }

func (discard) Write(p []byte) (int, error) { return len(p), nil }
func (discard) Close() error                { return nil }
