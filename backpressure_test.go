// backpressure_test.go: who reads is never dropped and misses nothing, whatever others do.

package main

import (
	"fmt"
	"net"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/websocket"
)

// crowd is a number of peers, of whom some say each lines as fast as they can,
// "SPEAKER N" and pad more bytes, and all check that they hear all of it.
type crowd struct {
	speakers, each, pad int
}

// speak has p say its lines.
func (c crowd) speak(p *rawPeer, speaker int) {
	var packet []byte
	pad := strings.Repeat(" ", c.pad)
	for n := range c.each {
		packet = append(packet, clientFrame(0x81, fmt.Sprint(speaker, " ", n, pad))...)
		if len(packet) > 4096 || n == c.each-1 {
			if _, err := p.Conn.Write(packet); err != nil {
				p.t.Errorf("speaker %d, line %d: %v", speaker, n, err)
				return
			}
			packet = packet[:0]
		}
	}
}

// listen has p hear everything that everyone says, each speaker's lines in order and
// once. It passes over lines that are no speaker's.
func (c crowd) listen(p *rawPeer) {
	next := make([]int, c.speakers)
	for left := c.speakers * c.each; left > 0; {
		opcode, message, err := p.readFrame()
		if err != nil || opcode != websocket.TextFrame {
			p.t.Errorf("%d lines are missing: %s, %v", left, show(opcode, message), err)
			return
		}
		for line := range strings.SplitSeq(message, "\n") {
			speaker, n, ok := parse(line)
			if !ok {
				continue
			}
			if n != next[speaker] {
				p.t.Errorf("speaker %d: heard line %d, want %d", speaker, n, next[speaker])
				return
			}
			next[speaker]++
			left--
		}
	}
}

// parse reads a speaker's line.
func parse(line string) (speaker, n int, ok bool) {
	first, second, ok := strings.Cut(line, " ")
	speaker, err := strconv.Atoi(first)
	n, err2 := strconv.Atoi(strings.TrimRight(second, " "))
	return speaker, n, ok && err == nil && err2 == nil
}

// meet has all peers listen, and the first of them speak, until everyone has heard
// everything.
func (c crowd) meet(peers []*rawPeer) {
	var wg sync.WaitGroup
	for i, p := range peers {
		wg.Go(func() { c.listen(p) })
		if i < c.speakers {
			wg.Go(func() { c.speak(p, i) })
		}
	}
	wg.Wait()
}

// joinMany connects n peers to the chat.
func joinMany(t *testing.T, addr string, n int) (peers []*rawPeer) {
	for range n {
		peers = append(peers, joinRaw(t, addr))
	}
	return peers
}

// Half of the room speaks without a pause.
func TestFloods(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ peers, each int }{{2, 100_000}, {5, 50_000}, {20, 10_000}, {200, 500}} {
		t.Run(fmt.Sprint(c.peers), func(t *testing.T) {
			addr, _ := startServer(t, 4096)
			crowd{c.peers / 2, c.each, 0}.meet(joinMany(t, addr, c.peers))
		})
	}
}

func TestFloodOverTLS(t *testing.T) {
	t.Parallel()
	addr := startTLSServer(t)
	var peers []*rawPeer
	for range 20 {
		peers = append(peers, upgrade(t, dialTLS(t, addr)))
	}
	crowd{len(peers) / 2, 20_000, 0}.meet(peers)
}

// smallBuffers dials with the smallest receive buffer that the system grants.
var smallBuffers = &net.Dialer{Control: func(_, _ string, c syscall.RawConn) error {
	return c.Control(func(fd uintptr) { syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, 4096) })
}}

// Twenty peers who don't read, more than half of the room, cost the others nothing.
func TestStuckPeersBesideReaders(t *testing.T) {
	t.Parallel()
	addr, _ := startServer(t, 4096)
	var stuck []*rawPeer
	for range 20 {
		stuck = append(stuck, upgrade(t, dialWith(t, addr, smallBuffers)))
	}
	const speakers, each = 2, 1500
	crowd{speakers, each, 4000}.meet(joinMany(t, addr, 5))
	var wg sync.WaitGroup
	for i, p := range stuck {
		wg.Go(func() {
			if heard := linesUntilClosed(p); heard == speakers*each {
				t.Errorf("peer %d heard everything, so it was never stuck", i)
			}
		})
	}
	wg.Wait()
}

// linesUntilClosed counts what p hears.
func linesUntilClosed(p *rawPeer) (heard int) {
	for {
		opcode, message, err := p.readFrame()
		if err != nil || opcode != websocket.TextFrame {
			return heard
		}
		heard += 1 + strings.Count(message, "\n")
	}
}

// People come, say something and leave all the time while others speak.
func TestChurn(t *testing.T) {
	t.Parallel()
	addr, _ := startServer(t, 4096)
	peers := joinMany(t, addr, 20)
	over := make(chan struct{})
	var passers sync.WaitGroup
	for range 4 {
		passers.Go(func() {
			for visit := 0; ; visit++ {
				select {
				case <-over:
					return
				default:
					passBy(t, addr, visit)
				}
			}
		})
	}
	crowd{10, 20_000, 0}.meet(peers)
	close(over)
	passers.Wait()
}

// passBy joins, says hello, hears that, and leaves: every third time at once, else
// after it has heard its own last words.
func passBy(t *testing.T, addr string, visit int) {
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Error(err)
		return
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(time.Minute))
	p := upgrade(t, conn)
	hello, bye := fmt.Sprint("hello from ", conn.LocalAddr()), fmt.Sprint("bye from ", conn.LocalAddr())
	p.send(websocket.TextFrame, hello)
	if err := hear(p, hello); err != nil {
		t.Error("passing by:", err)
	}
	if visit%3 == 0 {
		return
	}
	p.write(append(clientFrame(0x81, bye), clientFrame(0x88, "\x03\xe8")...))
	if err := hear(p, bye); err != nil {
		t.Error("leaving:", err)
	}
}

// hear reads until a message holds text.
func hear(p *rawPeer, text string) error {
	for {
		opcode, message, err := p.readFrame()
		switch {
		case err != nil:
			return err
		case opcode == websocket.CloseFrame:
			return fmt.Errorf("closed with %d before %q was heard", closeCode(message), text)
		case strings.Contains(message, text):
			return nil
		}
	}
}

// Someone who reads slowly but steadily, on a slow line, hears everything.
func TestSlowButSteadyReader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const said = 20_000
		l, _ := startInBubble(t)
		ann, slow := upgrade(t, l.dial(t)), upgrade(t, l.dial(t))
		c := crowd{1, said, 0}
		go c.speak(ann, 0)
		go c.listen(ann)
		next := 0
		for next < said {
			time.Sleep(10 * time.Millisecond)
			opcode, message, err := slow.readFrame()
			if err != nil || opcode != websocket.TextFrame {
				t.Fatalf("after %d lines: %s, %v", next, show(opcode, message), err)
			}
			for line := range strings.SplitSeq(message, "\n") {
				if _, n, _ := parse(line); n != next {
					t.Fatalf("heard line %d, want %d", n, next)
				}
				next++
			}
		}
	})
}

// What waits for peers who are stuck together is the same for all, and bounded.
func TestStuckPeersPinLittleMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const stuck, held, buffers = 50, maxHeld + 256*4096, 50 * joinLimit
		l, _ := startInBubble(t)
		for range stuck {
			upgrade(t, l.dial(t))
		}
		ann := upgrade(t, l.dial(t))
		before := heap()
		most := uint64(0)
		go func() {
			line := clientFrame(0x81, strings.Repeat("x", 4096))
			for {
				if _, err := ann.Conn.Write(line); err != nil {
					return
				}
			}
		}()
		for range 400 {
			if opcode, message, err := ann.readFrame(); err != nil || len(message) > joinLimit {
				t.Fatal(show(opcode, message), err)
			}
			most = max(most, heap()-before)
		}
		if most < held/2 || most > (held+buffers)*5/4 { // of which Go's size classes take some
			t.Errorf("they pin %d bytes, want about %d, and up to %d in buffers", most, held, buffers)
		}
	})
}

// heap returns the bytes that are in use.
func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
