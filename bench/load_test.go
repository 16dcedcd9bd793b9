// load_test.go: the load generator must notice what a server does wrong. The server
// here does wrong on purpose.

package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// cheat is a chat server that may interfere with the lines it broadcasts.
type cheat struct {
	mu    sync.Mutex
	peers []net.Conn
	lines int // heard so far

	// frames returns what each peer gets for the line with that number; nil sends it
	// as one frame.
	frames func(number int, line []byte) []byte
	// hangUp, if not 0, is the number of the line at which the last peer is dropped.
	hangUp int
}

// startCheat runs the server until the test ends.
func startCheat(t *testing.T, c *cheat) *net.TCPAddr {
	t.Helper()
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go c.serve(conn)
		}
	}()
	return listener.Addr().(*net.TCPAddr)
}

func (c *cheat) serve(conn net.Conn) {
	defer conn.Close()
	in := bufio.NewReader(conn)
	if _, err := http.ReadRequest(in); err != nil {
		return
	}
	c.mu.Lock()
	c.peers = append(c.peers, conn)
	c.mu.Unlock()
	io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n")
	for {
		first, payload, err := readClientFrame(in)
		if err != nil {
			return
		}
		if first == 0x81 {
			c.broadcast(payload)
		}
	}
}

func (c *cheat) broadcast(line []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lines++
	out := serverFrame(0x81, line)
	if c.frames != nil {
		out = c.frames(c.lines, line)
	}
	if c.lines == c.hangUp {
		c.peers[len(c.peers)-1].Close()
	}
	for _, peer := range c.peers {
		peer.Write(out)
	}
}

// readClientFrame reads a frame that is masked by zero, and returns its first byte
// and its payload.
func readClientFrame(in *bufio.Reader) (first byte, payload []byte, err error) {
	var head [14]byte
	if _, err := io.ReadFull(in, head[:2]); err != nil {
		return 0, nil, err
	}
	length, more := int(head[1]&0x7f), 4
	switch length {
	case 126:
		more += 2
	case 127:
		more += 8
	}
	if _, err := io.ReadFull(in, head[2:2+more]); err != nil {
		return 0, nil, err
	}
	switch length {
	case 126:
		length = int(binary.BigEndian.Uint16(head[2:]))
	case 127:
		length = int(binary.BigEndian.Uint64(head[2:]))
	}
	payload = make([]byte, length)
	_, err = io.ReadFull(in, payload)
	return head[0], payload, err
}

// serverFrame returns a frame of a server.
func serverFrame(first byte, payload []byte) []byte {
	b := appendFrame(nil, payload)
	head := len(b) - len(payload) - 4
	b[0] = first
	b[1] &^= 0x80
	return append(b[:head:head], payload...)
}

// generate runs a load against the server, and returns it when it has run.
func generate(t *testing.T, c *cheat, what traffic) *load {
	t.Helper()
	what.measure = 300 * time.Millisecond
	l, err := connect(t.Context(), startCheat(t, c), what)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.close)
	if err := l.run(t.Context(), func() error { return nil }); err != nil {
		t.Fatal(err)
	}
	return l
}

// said is how many lines were said.
func (l *load) said() (n uint64) {
	for _, sent := range l.sent {
		n += uint64(sent)
	}
	return n
}

// whole sends a line as one frame.
func whole(line []byte) []byte { return serverFrame(0x81, line) }

var few = traffic{conns: 4, senders: 2, rate: 500, size: 64}

func TestHonestServer(t *testing.T) {
	var waiting [][]byte
	for name, frames := range map[string]func(int, []byte) []byte{
		"one line a frame": nil,
		"a line in fragments": func(_ int, line []byte) []byte {
			return slices.Concat(serverFrame(0x01, line[:10]), serverFrame(0x00, nil), serverFrame(0x00, line[10:63]), serverFrame(0x80, line[63:]))
		},
		"control frames between": func(_ int, line []byte) []byte {
			return slices.Concat(serverFrame(0x89, []byte("ping")), serverFrame(0x01, line[:10]), serverFrame(0x8a, nil), serverFrame(0x80, line[10:]))
		},
		"joined lines": func(n int, line []byte) []byte {
			if waiting = append(waiting, line); len(waiting) < 5 {
				return nil
			}
			joined := bytes.Join(waiting, []byte("\n"))
			waiting = nil
			cut := n % len(joined)
			return slices.Concat(serverFrame(0x01, joined[:cut]), serverFrame(0x80, joined[cut:]))
		},
	} {
		t.Run(name, func(t *testing.T) {
			l := generate(t, &cheat{frames: frames}, few)
			// The server that joins lines may be left with four of them.
			if l.said() < 100 || l.lines < 4*100 || l.linesLost > 4*4 || l.repeated+l.corrupt > 0 || l.connsLost > 0 {
				t.Errorf("%d lines said, %+v", l.said(), l.outcome)
			}
		})
	}
}

func TestLongLines(t *testing.T) {
	for _, size := range []int{minLine, 126, 4 << 10, maxLine} {
		what := few
		what.size, what.rate = size, 100
		l := generate(t, &cheat{}, what)
		if l.said() == 0 || l.lines == 0 || l.linesLost+l.repeated+l.corrupt > 0 {
			t.Errorf("size %d: %d lines said, %+v", size, l.said(), l.outcome)
		}
	}
}

func TestSendersWithoutAPause(t *testing.T) {
	what := few
	what.rate = 0
	l := generate(t, &cheat{}, what)
	if l.said() < 1000 || l.linesLost+l.repeated+l.corrupt > 0 || l.connsLost > 0 {
		t.Errorf("%d lines said, %+v", l.said(), l.outcome)
	}
}

func TestLostLinesAreNoticed(t *testing.T) {
	var lost uint64
	l := generate(t, &cheat{frames: func(n int, line []byte) []byte {
		if n%10 == 0 {
			lost++
			return nil
		}
		return whole(line)
	}}, few)
	if l.linesLost != 4*lost || lost == 0 {
		t.Errorf("%d lost, %+v", 4*lost, l.outcome)
	}
}

func TestDoubledLinesAreNoticed(t *testing.T) {
	var doubled uint64
	l := generate(t, &cheat{frames: func(n int, line []byte) []byte {
		if n%10 == 0 {
			doubled++
			return slices.Concat(whole(line), whole(line))
		}
		return whole(line)
	}}, few)
	if l.repeated != 4*doubled || l.linesLost > 0 || doubled == 0 {
		t.Errorf("%d doubled, %+v", 4*doubled, l.outcome)
	}
}

func TestDisorderIsNoticed(t *testing.T) {
	var held []byte
	what := few
	what.senders = 1 // between senders there is no order
	l := generate(t, &cheat{frames: func(n int, line []byte) []byte {
		switch n % 10 {
		case 0:
			held = whole(line)
			return nil
		case 1:
			return slices.Concat(whole(line), held)
		}
		return whole(line)
	}}, what)
	if l.repeated < 4*5 {
		t.Errorf("%+v", l.outcome)
	}
}

func TestDelayIsNoticed(t *testing.T) {
	const delay = 20 * time.Millisecond
	what := few
	what.rate = 20
	l := generate(t, &cheat{frames: func(_ int, line []byte) []byte {
		time.Sleep(delay)
		return whole(line)
	}}, what)
	if got := time.Duration(l.latency.Min()); got < delay*99/100 {
		t.Errorf("a delay of %v was measured as %v", delay, got)
	}
}

func TestInventedLinesAreNoticed(t *testing.T) {
	var invented uint64
	l := generate(t, &cheat{frames: func(n int, line []byte) []byte {
		invented += 3
		line = bytes.Clone(line)
		tooLong := append(bytes.Clone(line), 'x')
		line[0] = '9' // a sender that there isn't
		return slices.Concat(whole([]byte("hello")), whole(line), whole(tooLong))
	}}, few)
	if l.corrupt != 4*invented || l.lines > 0 || invented == 0 {
		t.Errorf("%d invented, %+v", 4*invented, l.outcome)
	}
}

func TestLostConnectionsAreNoticed(t *testing.T) {
	for name, c := range map[string]*cheat{
		"hang up":       {hangUp: 20},
		"masked frames": {frames: func(n int, line []byte) []byte { return appendFrame(nil, line) }},
		"close frames":  {frames: func(n int, line []byte) []byte { return serverFrame(0x88, nil) }},
	} {
		t.Run(name, func(t *testing.T) {
			l := generate(t, c, few)
			if want := map[bool]int{true: 1, false: 4}[c.hangUp > 0]; l.connsLost != want {
				t.Errorf("%+v", l.outcome)
			}
		})
	}
}

func TestNoServer(t *testing.T) {
	addr, err := freePort()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := connect(t.Context(), addr, few); err == nil || !strings.Contains(err.Error(), "connection refused") {
		t.Error(err)
	}
}

func TestRunCanBeInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	what := few
	what.measure = time.Hour
	l, err := connect(ctx, startCheat(t, &cheat{}), what)
	if err != nil {
		t.Fatal(err)
	}
	defer l.close()
	time.AfterFunc(50*time.Millisecond, cancel)
	if err := l.run(ctx, func() error { return nil }); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// A slow connection reads slowSpeed, and only the others are counted.
func TestSlow(t *testing.T) {
	l := generate(t, &cheat{}, traffic{conns: 10, senders: 1, rate: 1000, size: 1000, slow: 10, warmUp: 300 * time.Millisecond})
	slow := l.peers[9]
	if !slow.slow || l.linesLost > 0 || l.connsLost > 0 {
		t.Fatalf("%+v, lost %d lines and %d connections", slow, l.linesLost, l.connsLost)
	}
	all := l.said()
	heard := uint64(slow.next[0])
	if most := uint64(slowSpeed * time.Since(l.start) / time.Second / 1000); heard == 0 || heard > most || heard >= all {
		t.Errorf("the slow one heard %d lines, of at most %d", heard, most)
	}
	if l.lines == 0 || l.lines > 9*all {
		t.Errorf("%d lines are counted, of %d that were said to 9", l.lines, all)
	}
}

// A client that does not get what it missed is not served.
func TestMissedLines(t *testing.T) {
	lines := make([]string, stormMissed)
	for n := range lines {
		lines[n] = string(appendLine(nil, 64, 0, uint32(n), 0))
	}
	read := func(messages ...[]string) error {
		var frames []byte
		for _, m := range messages {
			frames = append(frames, serverFrame(0x81, []byte(strings.Join(m, "\n")))...)
		}
		return readMissed(bufio.NewReader(bytes.NewReader(frames)), 64)
	}
	if err := read(lines[:1], lines[1:3], lines[3:]); err != nil {
		t.Error(err)
	}
	for what, messages := range map[string][][]string{
		"one missing":      {lines[:50], lines[51:]},
		"the last missing": {lines[:99]},
		"one cut":          {lines[:50], {lines[50][1:]}, lines[51:]},
		"one twice":        {lines[:50], lines[49:]},
	} {
		if read(messages...) == nil {
			t.Errorf("%s: no error", what)
		}
	}
}
