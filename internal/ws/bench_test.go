package ws

import (
	"bufio"
	"bytes"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"

	"golang.org/x/net/websocket"

	"example.com/chat/internal/wstest"
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

// There is room behind a message for a line break, but not for much more.
func TestRoomBehindAMessage(t *testing.T) {
	for _, size := range []int{1, 64, 4096, 64 << 10, 1 << 20} {
		r, err := Accept(upgrade(), discard{}, &endless{bytes: wstest.Frame(0x81, strings.Repeat("x", size))}, size, nil)
		if err != nil {
			t.Fatal(err)
		}
		for range 3 {
			message, _, err := r.AppendMessage(nil)
			if err != nil || len(message) != size {
				t.Fatalf("%d bytes, %v", len(message), err)
			}
			if room := cap(message) - size; room < 1 || room > max(size, 4096) {
				t.Errorf("a message of %d bytes has room for %d more", size, room)
			}
		}
	}
}

// BenchmarkRead compares reading a text message of one frame with a
// Reader with x/net's Message.Receive into a string and into bytes, which check less.
func BenchmarkRead(b *testing.B) {
	for _, size := range []int{16, 64, 1 << 10, 4 << 10, 64 << 10, 1 << 20} {
		frame := wstest.Frame(0x81, strings.Repeat("x", size))
		b.Run(fmt.Sprintf("bytes=%d/by=ws", size), func(b *testing.B) {
			r, err := Accept(upgrade(), discard{}, &endless{bytes: frame}, size, nil)
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

// BenchmarkEncode compares encoding a text message, which is done once for everyone,
// with x/net's Message.Send, which does it for each connection.
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

// upgrade returns an upgrade request.
func upgrade() *http.Request {
	r, err := http.ReadRequest(bufio.NewReader(strings.NewReader(wstest.Request("/"))))
	if err != nil {
		panic(err)
	}
	return r
}

// serverConn returns an x/net connection as its handler gets it, reading from in.
func serverConn(in *bufio.Reader) (conn *websocket.Conn) {
	buffer := bufio.NewReadWriter(in, bufio.NewWriter(discard{}))
	websocket.Server{Handler: func(c *websocket.Conn) { conn = c }}.ServeHTTP(hijackedWriter{conn: discard{}, buffer: buffer}, upgrade())
	return conn
}

// discard is a connection that takes everything and gives nothing.
type discard struct{ net.Conn }

func (discard) Write(p []byte) (int, error) { return len(p), nil }
func (discard) Close() error                { return nil }
