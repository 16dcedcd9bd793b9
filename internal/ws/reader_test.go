package ws

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/iotest"

	"example.com/chat/internal/wstest"
)

// A caller can append a line break to a message without copying it, and a message wastes at most its own
// size in memory, or 4 KiB.
func TestRoomForALineBreak(t *testing.T) {
	for _, size := range []int{1, 64, 4096, 64 << 10, 1 << 20} {
		r, err := Accept(upgrade(), discard{}, &endless{bytes: wstest.Frame(0x81, strings.Repeat("x", size))}, size, nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		for range 3 {
			message, _, err := r.AppendMessage(nil)
			if err != nil || len(message) != size {
				t.Fatalf("got %d bytes, %v; want %d", len(message), err, size)
			}
			if room := cap(message) - size; room < 1 || room > max(size, 4096) {
				t.Errorf("a message of %d bytes has room for %d more, want 1 to %d", size, room, max(size, 4096))
			}
		}
	}
}

// If the last bytes of a message come together with an error, AppendMessage returns the message, and the error
// at the next call.
func TestErrorWithTheLastBytes(t *testing.T) {
	text := strings.Repeat("x", 3*readBuffer) // the last read returns a whole buffer, so the bufio.Reader is bypassed
	in := iotest.DataErrReader(strings.NewReader(string(wstest.Frame(0x81, text))))
	r, err := Accept(upgrade(), discard{}, in, len(text), nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []error{nil, io.EOF} {
		if got, _, err := r.AppendMessage(nil); err != want || want == nil && string(got) != text {
			t.Errorf("got %d bytes, %v; want %d, %v", len(got), err, len(text), want)
		}
	}
}

// upgrade returns a request that CheckRequest accepts.
func upgrade() *http.Request {
	r, err := http.ReadRequest(bufio.NewReader(strings.NewReader(wstest.Request("/"))))
	if err != nil {
		panic(err)
	}
	return r
}

// endless is a Reader that repeats bytes forever.
type endless struct {
	bytes []byte
	at    int // index of the next byte
}

func (e *endless) Read(p []byte) (int, error) {
	n := copy(p, e.bytes[e.at:])
	e.at = (e.at + n) % len(e.bytes)
	return n, nil
}

// discard is a connection that can only be written to.
type discard struct{ net.Conn }

func (discard) Write(p []byte) (int, error) { return len(p), nil }
func (discard) Close() error                { return nil }
