// pace_test.go: whoever keeps up with most of the room is never let go and misses
// nothing, whatever others do.

package main

import (
	"bufio"
	"fmt"
	"net"
	"runtime"
	"slices"
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
	for _, c := range []struct{ peers, each int }{{2, 400_000}, {5, 200_000}, {20, 20_000}, {200, 1000}} {
		t.Run(fmt.Sprint(c.peers), func(t *testing.T) {
			addr, _ := startServer(t, 4096)
			crowd{c.peers / 2, c.each, 0}.meet(joinMany(t, addr, c.peers))
		})
	}
}

func TestFloodOverTLS(t *testing.T) {
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
	addr, _ := startServer(t, 4096)
	var stuck []*rawPeer
	for range 20 {
		stuck = append(stuck, upgrade(t, dialWith(t, addr, smallBuffers)))
	}
	const speakers, each = 2, 4000
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

// The same in memory, where time passes only when the Hub pauses: so much, and no more,
// is what those who read wait for those who don't.
func TestReadersDoNotWaitForTheStuck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const stuck, readers, each = 20, 5, 20_000
		l, _ := startInBubble(t)
		for range stuck {
			upgrade(t, l.dial(t))
		}
		var peers []*rawPeer
		for range readers {
			peers = append(peers, upgrade(t, l.dial(t)))
		}
		var wg sync.WaitGroup
		defer wg.Wait()
		speaker := peers[0]
		wg.Go(func() { crowd{1, each, 4000}.speak(speaker, 0) })
		for _, p := range peers[1:] {
			wg.Go(func() { crowd{1, each, 4000}.listen(p) })
		}
		var longest time.Duration
		for heard := 0; heard < each; {
			asked := time.Now()
			opcode, message, err := speaker.readFrame()
			if err != nil || opcode != websocket.TextFrame {
				t.Fatal(show(opcode, message), err)
			}
			longest = max(longest, time.Since(asked))
			heard += 1 + strings.Count(message, "\n")
		}
		if most := patience + stuck*patienceFor + 2*catchUp; longest > most {
			t.Errorf("waited %v, want at most %v", longest, most)
		}
	})
}

// A room in which all but the speaker read slowly, but steadily, is what the speaker has to
// wait for. Over TCP they seem to stand still for moments, and then to take much at once.
func TestSlowRoom(t *testing.T) {
	addr, _ := startServer(t, 4096)
	peers := joinMany(t, addr, 4)
	for _, p := range peers[1:] {
		p.in = bufio.NewReaderSize(slowLine{p.Conn}, 8<<10)
	}
	crowd{1, 5000, 4000}.meet(peers)
}

// slowLine reads 8 KiB each 2 ms, which is 4 MB a second.
type slowLine struct{ net.Conn }

func (s slowLine) Read(b []byte) (int, error) {
	time.Sleep(2 * time.Millisecond)
	return s.Conn.Read(b[:min(len(b), 8<<10)])
}

// What waits for peers who are stuck together is the same for all, and bounded.
func TestStuckPeersPinLittleMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const stuck, queued, buffers = 50, sendQueue * joinLimit, 50 * joinLimit
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
		for range 4 * sendQueue {
			if opcode, message, err := ann.readFrame(); err != nil || len(message) > joinLimit {
				t.Fatal(show(opcode, message), err)
			}
			most = max(most, heap()-before)
		}
		if most < queued/2 || most > queued+buffers+1<<20 {
			t.Errorf("they pin %d bytes, want about %d, and up to %d in buffers", most, queued, buffers)
		}
	})
}

// paced is a room as pace sees it: connections, and how many frames wait for each.
type paced struct {
	pace
	room []*Conn
}

func newPaced(waiting ...int) *paced {
	var p paced
	for _, n := range waiting {
		c := newConn(nil, nil)
		p.room = append(p.room, c)
		for range n {
			c.send <- nil
		}
	}
	return &p
}

// fanOut has the pace see the room, and decide.
func (p *paced) fanOut() {
	p.begin()
	for _, c := range p.room {
		p.see(c)
	}
	p.set()
}

// pauses returns for how long the Hub may not fan out, up to a second. For each pause
// then is called first.
func (p *paced) pauses(then func()) (total time.Duration) {
	for began := time.Now(); !p.allows() && total < time.Second; total = time.Since(began) {
		<-p.pause
		p.pause = nil
		then()
	}
	return total
}

// take has the connections write so many frames each.
func (p *paced) take(n int, from ...int) {
	for _, i := range from {
		for range min(n, len(p.room[i].send)) {
			<-p.room[i].send
		}
	}
}

func TestPace(t *testing.T) {
	for _, test := range []struct {
		name    string
		waiting []int         // frames, for each connection
		want    time.Duration // pause after a fan-out
		then    func(p *paced)
	}{
		{"an empty room", nil, 0, nil},
		{"nobody is late", []int{1, late - 1}, 0, nil},
		{"half of the room is late", []int{1, late}, 0, nil},
		{"the room catches up", []int{1, late, late}, 3 * catchUp, func(p *paced) {
			if p.waited == 2*catchUp {
				p.take(1, 1)
			}
		}},
		{"most of the room is stuck", []int{1, late, late}, patience + 2*catchUp, nil},
		{"most of the room is slow", []int{1, 10, 10}, 3 * 15 * catchUp, func(p *paced) {
			if p.waited%(15*catchUp) == 14*catchUp {
				p.take(1, 1, 2)
			}
		}},
		{"most of the room takes just enough to be waited for", []int{1, 40, 40}, 285 * catchUp, func(p *paced) {
			if p.waited%(15*catchUp) == 14*catchUp {
				p.take(1, 1, 2)
			}
		}},
		{"a large room is stuck", append([]int{1}, slices.Repeat([]int{late}, 1000)...), patience + 1000*patienceFor + catchUp, nil},
		{"the whole room is slow", []int{late, late}, 500 * catchUp, func(p *paced) {
			if p.waited == 499*catchUp {
				p.take(1, 0, 1)
			}
		}},
		{"the whole room is stuck and someone joins", []int{late, late}, 130 * catchUp, func(p *paced) {
			if p.waited == 129*catchUp {
				p.welcome()
			}
		}},
		{"the late are let go", []int{1, late, late}, 2 * catchUp, func(p *paced) {
			p.room[1].dropped.Store(p.waited == catchUp)
		}},
		{"the only one who isn't stuck dies", []int{late, late, late}, 5 * catchUp, func(p *paced) {
			if p.waited == 4*catchUp {
				for _, c := range p.room {
					close(c.written)
				}
			}
		}},
		{"one is crowded a little", []int{1, crowded + 1}, maxPause / (sendQueue - crowded), nil},
		{"one is nearly full", []int{1, sendQueue}, maxPause, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newPaced(test.waiting...)
				p.fanOut()
				if got := p.pauses(func() {
					if test.then != nil {
						test.then(p)
					}
				}); got != test.want {
					t.Errorf("paused for %v, want %v", got, test.want)
				}
			})
		})
	}
}

// Where others are stuck, one who falls behind is not waited for without end.
func TestPaceBesideTheStuck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPaced(late, 20, 20)
		p.room[1].stuck, p.room[2].stuck = true, true
		p.fanOut()
		if got := p.pauses(func() {}); got > patience+2*catchUp {
			t.Errorf("paused for %v", got)
		}
	})
}

// A ping in the middle of a catch-up is no reason to lose patience.
func TestPaceWithAPing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPaced(0, 20, 20)
		p.fanOut()
		pinged := false
		p.pauses(func() {
			if p.waited == patience-catchUp && !pinged {
				pinged = true
				p.room[1].send <- nil
				p.room[2].send <- nil
				p.begin()
				for _, c := range p.room {
					p.see(c)
				}
			} else if pinged && p.waited == 10*catchUp {
				p.take(20, 1, 2)
			}
		})
		if p.room[1].stuck {
			t.Error("taken for stuck")
		}
	})
}

// Those who have proved stuck are not waited for again, until they have caught up.
func TestPaceRemembersWhoIsStuck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPaced(0, 20, 20)
		for _, want := range []time.Duration{patience + 2*catchUp, 0, 0} {
			p.fanOut()
			if got := p.pauses(func() {}); got != want {
				t.Errorf("paused for %v, want %v", got, want)
			}
		}
		p.take(20, 1, 2)
		p.fanOut()
		for range late {
			p.room[1].send <- nil
			p.room[2].send <- nil
		}
		p.fanOut()
		if got := p.pauses(func() {}); got == 0 {
			t.Error("didn't wait for those who had caught up")
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
