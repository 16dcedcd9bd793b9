package ws

import (
	"bufio"
	"bytes"
	"fmt"
	"strings"
	"testing"

	"golang.org/x/net/websocket"

	"example.com/chat/internal/wstest"
)

// BenchmarkRead reads text messages of one frame with a Reader, and with x/net's Message.Receive into a
// string and into bytes. Receive checks less.
func BenchmarkRead(b *testing.B) {
	for _, size := range []int{16, 64, 1 << 10, 4 << 10, 64 << 10, 1 << 20} {
		frame := wstest.Frame(0x81, strings.Repeat("x", size))
		b.Run(fmt.Sprintf("bytes=%d/by=ws", size), func(b *testing.B) {
			r, err := Accept(upgrade(), discard{}, &endless{bytes: frame}, size, nil, nil)
			if err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			b.SetBytes(int64(size))
			for b.Loop() {
				if err := r.Wait(); err != nil {
					b.Fatal(err)
				}
				if _, _, err := r.AppendMessage(nil); err != nil {
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

// benchmarkReceive receives frame, whose payload has size bytes, into message.
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

// BenchmarkEncode encodes text messages with AppendFrame, and with x/net's Message.Send. A program calls
// AppendFrame once for all connections, but Send once for each.
func BenchmarkEncode(b *testing.B) {
	for _, size := range []int{16, 64, 1 << 10, 4 << 10, 64 << 10, 1 << 20} {
		b.Run(fmt.Sprintf("bytes=%d/by=ws", size), func(b *testing.B) {
			line := bytes.Repeat([]byte("x"), size)
			b.ReportAllocs()
			b.SetBytes(int64(size))
			for b.Loop() {
				AppendFrame(nil, websocket.TextFrame, line)
			}
		})
		b.Run(fmt.Sprintf("bytes=%d/by=Send", size), func(b *testing.B) {
			ws := serverConn(bufio.NewReader(nil))
			text := strings.Repeat("x", size)
			b.ReportAllocs()
			b.SetBytes(int64(size))
			for b.Loop() {
				if err := websocket.Message.Send(ws, text); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// serverConn returns the connection that x/net hands to a handler. It reads from in, and discards what is
// written.
func serverConn(in *bufio.Reader) (conn *websocket.Conn) {
	hijacked := hijackedWriter{conn: discard{}, buffer: bufio.NewReadWriter(in, bufio.NewWriter(discard{}))}
	websocket.Server{Handler: func(c *websocket.Conn) { conn = c }}.ServeHTTP(hijacked, upgrade())
	return conn
}
