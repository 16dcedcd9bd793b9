// backpressure_test.go: who reads is never dropped and misses nothing, whatever others do.

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
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
		most := int64(0)
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
		ann.Conn.Close()
		time.Sleep(writeWait + closeWait + 2*sweepPeriod)
		heap() // a sync.Pool holds what it has for one more collection
		if left := heap() - before; left > 2*256*4096 {
			t.Errorf("when they are gone %d bytes are left", left)
		}
	})
}

// heap returns the bytes that are in use.
func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// A room is a chat in a bubble, with a talker who hears himself.
type room struct {
	t      *testing.T
	l      pipeListener
	talker *rawPeer
	heard  atomic.Int64 // bytes, by the talker
	wg     sync.WaitGroup
}

// startRoom starts a chat with peers who join at a pace each, read, and must not be dropped.
func startRoom(t *testing.T, cfg config, readers ...pace) *room {
	r := &room{t: t}
	t.Cleanup(r.wg.Wait)
	r.l, _ = startInBubbleWith(t, cfg)
	r.talker = upgrade(t, r.l.dial(t))
	r.listen(r.talker)
	for _, pace := range readers {
		r.join(pace, "/ws")
	}
	return r
}

// join adds a peer who reads at a pace, and must not be dropped.
func (r *room) join(pace pace, target string) {
	r.listen(upgradeAt(r.t, &pacedConn{Conn: r.l.dial(r.t), pace: pace}, target))
}

// listen has p listen; it must not be dropped before the test is over.
func (r *room) listen(p *rawPeer) {
	r.wg.Go(func() {
		for {
			opcode, message, err := p.readFrame()
			switch {
			case errors.Is(err, io.ErrClosedPipe):
				return
			case err != nil || opcode == websocket.CloseFrame:
				r.t.Errorf("%T: %s, %v", p.Conn, show(opcode, message), err)
				return
			case opcode == websocket.PingFrame:
				p.Conn.Write(clientFrame(0x8a, message))
			case p == r.talker:
				r.heard.Add(int64(len(message)))
			}
		}
	})
}

// flood has so many more peers say lines of size bytes without a pause, and hear.
func (r *room) flood(peers, size int) {
	for range peers {
		p := upgrade(r.t, r.l.dial(r.t))
		r.wg.Go(func() { io.Copy(io.Discard, p.in) })
		r.wg.Go(func() { flood(p.Conn, frames(max(1, 4096/size), 0x81, strings.Repeat("x", size))) })
	}
}

// speed returns how many bytes a second the talker hears in d.
func (r *room) speed(d time.Duration) int {
	before := r.heard.Load()
	time.Sleep(d)
	return int(float64(r.heard.Load()-before) / d.Seconds())
}

// Whoever takes minSpeed is not dropped, in lumps of up to ten seconds or bit by bit, whatever
// is said; and the room has minSpeed then.
func TestReadersAreNotDropped(t *testing.T) {
	const lump = 9900 * time.Millisecond
	for _, test := range []struct {
		name       string
		readers    []pace
		size       int // of a line
		maxMessage int
	}{
		{"bit by bit", []pace{{minSpeed / 20, 50 * time.Millisecond}}, 1000, 4096},
		{"in lumps", []pace{{minSpeed * 10, lump}, {minSpeed * 10, lump}, {minSpeed * 10, lump}}, 1000, 4096},
		{"fast in lumps", []pace{{1 << 20, lump}}, 64, 4096},
		{"long lines", []pace{sips(100_000)}, 1 << 20, 16 << 20},
		{"very long lines", []pace{sips(200_000)}, 4 << 20, 16 << 20},
		{"a line that is longer than what may be held", []pace{sips(500_000)}, maxHeld + 1<<20, maxHeld * 2},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				cfg := defaults
				cfg.maxMessage, cfg.history = test.maxMessage, 0
				r := startRoom(t, cfg, test.readers...)
				r.flood(2, test.size)
				time.Sleep(time.Minute)
				if test.size > 4096 {
					return
				}
				if speed := r.speed(time.Minute); speed < minSpeed*9/10 {
					t.Errorf("the room has %d bytes a second", speed)
				}
			})
		})
	}
}

// Peers who take less than minSpeed, however they share it out, can't slow the room further.
func TestTricklers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := startRoom(t, defaults)
		for i := range 8 {
			conn := r.l.dial(t)
			p := upgrade(t, &pacedConn{Conn: conn, pace: pace{128 << 10, 9 * time.Second}, next: time.Now().Add(time.Duration(i) * time.Second)})
			r.wg.Go(func() { io.Copy(io.Discard, p.in) })
		}
		r.flood(1, 64)
		for range 6 {
			if speed := r.speed(10 * time.Second); speed < minSpeed*9/10 {
				t.Errorf("the room has %d bytes a second", speed)
			}
		}
	})
}

// Peers who don't read, and come one after another, delay nobody who says no more than
// heldSpeed.
func TestPeersWhoComeAndDoNotRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, _ := startInBubble(t)
		ann := upgrade(t, l.dial(t))
		ctx, cancel := context.WithTimeout(t.Context(), 40*time.Second)
		defer cancel()
		var coming sync.WaitGroup
		defer coming.Wait()
		coming.Go(func() {
			for ; ctx.Err() == nil; time.Sleep(60 * time.Millisecond) {
				upgrade(t, l.dial(t))
			}
		})
		next := hearing(ann)
		for n := 0; ctx.Err() == nil; n++ { // 500 kB a second
			due := time.Now()
			line := fmt.Sprintf("%01000d", n)
			ann.send(websocket.TextFrame, line)
			if got, err := next(); err != nil || got != line {
				t.Fatalf("heard %.20q, %v; want %.20q", got, err, line)
			}
			if took := time.Since(due); took > 100*time.Millisecond {
				t.Errorf("heard line %d after %v", n, took)
			}
			time.Sleep(time.Until(due.Add(2 * time.Millisecond)))
		}
	})
}

// Peers who come and go, and people who fetch the past, change nothing of that.
func TestReadersAreNotDroppedMeanwhile(t *testing.T) {
	t.Run("others come and go", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			r := startRoom(t, defaults, pace{400 << 10, 9900 * time.Millisecond})
			r.flood(4, 4000)
			for began := time.Now(); time.Since(began) < 30*time.Second; time.Sleep(5 * time.Millisecond) {
				upgrade(t, r.l.dial(t)).Conn.Close()
			}
		})
	})
	t.Run("the past becomes short", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			cfg := defaults
			cfg.maxMessage = 1 << 20
			r := startRoom(t, cfg)
			for range cfg.history / 8 {
				r.talker.send(websocket.TextFrame, strings.Repeat("x", 1<<20))
			}
			r.join(pace{1 << 20, 9900 * time.Millisecond}, "/ws?since=")
			r.join(sips(250<<10), "/ws?since=")
			time.Sleep(2 * time.Second)
			r.flood(2, 64)
			time.Sleep(time.Minute)
		})
	})
}
