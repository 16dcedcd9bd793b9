// slow_test.go: peers that read slowly, or late, or not at all, over real sockets.

package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/websocket"
)

// long is set where tests may take minutes, and every where they may take half an hour.
var (
	long  = os.Getenv("CHAT_TEST_LONG") != ""
	every = os.Getenv("CHAT_TEST_LONG") == "all"
)

// A pace is how a peer reads: so many bytes, then none for a while.
type pace struct {
	bytes int
	every time.Duration
}

// sips returns the pace of a peer that reads a little twenty times a second, and gulps
// that of one that reads 100 kB at a time.
func sips(bytesPerSecond int) pace { return pace{bytesPerSecond / 20, 50 * time.Millisecond} }
func gulps(bytesPerSecond int) pace {
	return pace{100_000, 100_000 * time.Second / time.Duration(bytesPerSecond)}
}

// pacedConn is a connection that is read at a pace.
type pacedConn struct {
	net.Conn
	pace
	left int
	next time.Time
}

func (c *pacedConn) Read(b []byte) (int, error) {
	if c.left == 0 {
		time.Sleep(time.Until(c.next))
		c.left, c.next = c.bytes, time.Now().Add(c.every)
	}
	n, err := c.Conn.Read(b[:min(len(b), c.left)])
	c.left -= n
	return n, err
}

// joinPaced connects a peer that reads at a pace, to a target such as /ws, for up to d.
func joinPaced(t testing.TB, addr, target string, p pace, d time.Duration) *rawPeer {
	t.Helper()
	conn := dial(t, addr)
	conn.SetDeadline(time.Now().Add(d))
	return upgradeAt(t, &pacedConn{Conn: conn, pace: p}, target)
}

// speech is what one peer says: so many lines "0 N" of size bytes, the first of which is given,
// so many a second, or as many as it can if that is 0; and "over" in the end.
type speech struct{ size, rate, lines, first int }

// give has p give the speech.
func (s speech) give(p *rawPeer) {
	pad := strings.Repeat(" ", max(0, s.size-8))
	began := time.Now()
	for n := 0; n < s.lines; {
		due := min(n+16, s.lines)
		if s.rate > 0 {
			due = min(due, int(time.Since(began).Seconds()*float64(s.rate)))
		}
		var packet []byte
		for ; n < due; n++ {
			packet = append(packet, clientFrame(0x81, fmt.Sprintf("0 %06d", s.first+n)+pad)...)
		}
		if _, err := p.Conn.Write(packet); err != nil {
			p.t.Errorf("at line %d: %v", n, err)
			return
		}
		if len(packet) == 0 {
			time.Sleep(time.Millisecond)
		}
	}
	p.Conn.Write(clientFrame(0x81, "over"))
}

// hearSpeech has p hear a speech to its end, each line once and in order. The first must be
// that given.
func hearSpeech(p *rawPeer, first int) {
	for next := first; ; {
		opcode, message, err := p.readFrame()
		if opcode == websocket.PingFrame && err == nil {
			_, err = p.Conn.Write(clientFrame(0x8a, message))
		}
		if err != nil || opcode == websocket.CloseFrame {
			p.t.Errorf("%v heard lines up to %d, then %s, %v", p.LocalAddr(), next, show(opcode, message), err)
			return
		}
		if opcode != websocket.TextFrame {
			continue
		}
		for line := range strings.SplitSeq(message, "\n") {
			if line == "over" {
				return
			}
			if _, n, ok := parse(line); !ok || n != next {
				p.t.Errorf("%v heard %.20q, want %d", p.LocalAddr(), line, next)
				return
			}
			next++
		}
	}
}

// Nobody who reads is dropped or misses a line, however slowly it reads, and whatever is said.
// Each row says what the slowest reader takes in some seconds.
func TestSlowReaders(t *testing.T) {
	t.Parallel()
	type row struct {
		readers int
		paces   []pace // of the readers, in turn
		speech  speech
		rate    int // of -rate
	}
	rows := map[string]row{
		"one of 1 MB/s in gulps":                     {1, []pace{gulps(1_000_000)}, speech{size: 4000, lines: 2000}, 0},
		"five of 250 kB/s, 5,000 short lines/s":      {5, []pace{sips(250_000)}, speech{size: 64, rate: 5000, lines: 25_000}, 0},
		"fifteen of mixed speeds and no pause":       {15, []pace{sips(250_000), gulps(500_000), sips(1_000_000)}, speech{size: 200, lines: 10_000}, 0},
		"five of 250 kB/s, with -rate 100, no pause": {5, []pace{sips(250_000)}, speech{size: 4000, lines: 600}, 100},
	}
	n := 0
	for _, readers := range []int{1, 5, 15, 50} {
		for _, speed := range []int{50_000, 100_000, 250_000, 1_000_000} {
			for _, s := range []speech{{size: 64, rate: 2000}, {size: 64, rate: 5000}, {size: 200, rate: 5000}, {size: 4000}, {size: 64}} {
				s.lines = (20*speed + 2_000_000) / s.size
				for i, p := range []pace{sips(speed), gulps(speed)} {
					if n++; every || long && n%5 == 0 {
						name := fmt.Sprintf("%d of %d kB/s in %s, %d lines/s of %d B", readers, speed/1000, []string{"sips", "gulps"}[i], s.rate, s.size)
						rows[name] = row{readers, []pace{p}, s, 0}
					}
				}
			}
		}
		if mixed := []pace{sips(50_000), gulps(1_000_000), sips(250_000), gulps(50_000), sips(1_000_000)}; long {
			rows[fmt.Sprint(readers, " of mixed speeds")] = row{readers, mixed, speech{size: 200, lines: 12_000}, 0}
			rows[fmt.Sprint(readers, " of mixed speeds, 5000 long lines/s")] = row{readers, mixed, speech{size: 4000, rate: 5000, lines: 600}, 0}
			rows[fmt.Sprint(readers, " of 50 kB/s, with -rate 20")] = row{readers, []pace{sips(50_000), gulps(50_000)}, speech{size: 4000, rate: 20, lines: 1000}, 20}
		}
	}
	for name, r := range rows {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := defaults
			cfg.rate = r.rate
			addr, hub, _ := startWith(t, cfg)
			talker := joinPaced(t, addr, "/ws", pace{1 << 20, 0}, 10*time.Minute)
			var wg sync.WaitGroup
			wg.Go(func() { hearSpeech(talker, 0) })
			for i := range r.readers {
				p := joinPaced(t, addr, "/ws", r.paces[i%len(r.paces)], 10*time.Minute)
				wg.Go(func() { hearSpeech(p, 0) })
			}
			r.speech.give(talker)
			wg.Wait()
			if n := hub.counters.tooSlow.Value(); n > 0 {
				t.Errorf("%d were dropped", n)
			}
			t.Logf("throttled %v times, for %v s", &hub.counters.throttled, &hub.counters.throttledSeconds)
		})
	}
}

// Who joins with ?since= on a slow line fetches the past while the room speaks at a pace that
// it can follow. It gets everything, and holds nobody back.
func TestSlowJoiners(t *testing.T) {
	t.Parallel()
	const history, size = 256, 4000 // 1 MB
	speeds := []int{250_000}
	if long {
		speeds = []int{20_000, 50_000, 100_000, 250_000}
	}
	for _, speed := range speeds {
		t.Run(fmt.Sprint(speed/1000, " kB/s"), func(t *testing.T) {
			t.Parallel()
			addr, hub, _ := startWith(t, defaults)
			talker := joinPaced(t, addr, "/ws", pace{1 << 20, 0}, 10*time.Minute)
			var wg sync.WaitGroup
			wg.Go(func() { hearSpeech(talker, 0) })
			pad := strings.Repeat(" ", size-8)
			for n := range history {
				talker.send(websocket.TextFrame, fmt.Sprintf("0 %06d", n)+pad)
			}
			for hub.counters.linesIn.Value() < history {
				time.Sleep(time.Millisecond)
			}
			before := hub.counters.throttled.Value()
			for range 2 {
				joiner := joinPaced(t, addr, "/ws?since=", sips(speed), 10*time.Minute)
				opcode, message, err := joiner.readFrame()
				var epoch string
				var first, end int
				if fmt.Sscan(message, &epoch, &first, &end); err != nil || first != 0 || end != history {
					t.Fatal(show(opcode, message), err)
				}
				wg.Go(func() { hearSpeech(joiner, first) })
			}
			const short = 200
			rate := speed / 2 / short
			speech{short, rate, rate * history * size / (speed / 2), history}.give(talker)
			wg.Wait()
			if n := hub.counters.throttled.Value() - before; n > 0 {
				t.Errorf("it was throttled %d times", n)
			}
		})
	}
}

// Peers that don't read take nothing from those who do.
func TestPeersThatDoNotRead(t *testing.T) {
	t.Parallel()
	type row struct {
		idle, readers, rate int
		coming              bool // and going, instead of staying
	}
	rows, seconds := []row{{20, 5, 5000, false}, {20, 5, 500, true}}, 4
	if long {
		rows, seconds = append(rows, row{1, 50, 500, false}, row{250, 5, 5000, true}, row{250, 500, 500, false}, row{250, 50, 5000, false}), 15
	}
	if every {
		rows, seconds = nil, 20
		for _, idle := range []int{1, 20, 250} {
			for _, readers := range []int{5, 50, 500} {
				for _, rate := range []int{50, 500, 5000} {
					rows = append(rows, row{idle, readers, rate, false}, row{idle, readers, rate, true})
				}
			}
		}
	}
	for _, r := range rows {
		t.Run(fmt.Sprintf("%+v", r), func(t *testing.T) {
			if !every { // else one by one, for the sake of what is logged
				t.Parallel()
			}
			addr, hub, _ := startWith(t, defaults)
			talker := joinPaced(t, addr, "/ws", pace{1 << 20, 0}, 10*time.Minute)
			var wg, others sync.WaitGroup
			ctx, end := context.WithCancel(t.Context())
			for range r.idle {
				if !r.coming {
					upgrade(t, dialWith(t, addr, smallBuffers))
					continue
				}
				others.Go(func() {
					for a := (attacker{addr: addr}); ctx.Err() == nil; {
						conn := a.joinSmall(ctx)
						a.rest(ctx)
						conn.Close()
					}
				})
			}
			for range r.readers {
				p := joinPaced(t, addr, "/ws", pace{1 << 20, 0}, 10*time.Minute)
				wg.Go(func() { hearSpeech(p, 0) })
			}
			delays := make(chan time.Duration, 1)
			wg.Go(func() { delays <- hearDelay(talker, r.rate) })
			speech{size: 200, rate: r.rate, lines: r.rate * seconds}.give(talker)
			wg.Wait()
			end()
			others.Wait()
			t.Logf("the longest delay was %v; throttled for %v s", <-delays, &hub.counters.throttledSeconds)
		})
	}
}

// hearDelay has p, who gives a speech of that rate, hear it, and returns the longest time
// that a line took from when it was due.
func hearDelay(p *rawPeer, rate int) (longest time.Duration) {
	began := time.Now()
	for {
		opcode, message, err := p.readFrame()
		if err != nil || opcode == websocket.CloseFrame {
			p.t.Error("talker: ", show(opcode, message), err)
			return longest
		}
		for line := range strings.SplitSeq(message, "\n") {
			if line == "over" {
				return longest
			}
			if _, n, ok := parse(line); ok {
				longest = max(longest, time.Since(began)-time.Duration(n)*time.Second/time.Duration(rate))
			}
		}
	}
}

// When the chat stops while many speak without a pause, those who listen hear all that it
// has read of each, and are told.
func TestStopAtFullSpeed(t *testing.T) {
	t.Parallel()
	if !long {
		t.Skip("it keeps every processor busy for ten seconds: set CHAT_TEST_LONG")
	}
	const senders, listeners = 30, 20
	p := startProgram(t)
	peers := joinMany(t, p.addr, listeners)
	var speaking, listening sync.WaitGroup
	for i := range senders {
		sender := joinRaw(t, p.addr)
		go io.Copy(io.Discard, sender.in)
		speaking.Go(func() {
			for n := 0; ; n++ {
				if _, err := sender.Conn.Write(clientFrame(0x81, fmt.Sprint(i, " ", n))); err != nil {
					sender.Conn.Close()
					return
				}
			}
		})
	}
	heard := make([][senders]int, listeners)
	for i, listener := range peers {
		listening.Go(func() {
			next := &heard[i] // of each sender, from the first that was heard on
			for {
				opcode, message, err := listener.readFrame()
				if opcode == websocket.CloseFrame && closeCode(message) == closeGoingAway {
					listener.Conn.Close()
					return
				}
				if err != nil || opcode == websocket.CloseFrame {
					t.Errorf("listener %d: %s, %v", i, show(opcode, message), err)
					return
				}
				for line := range strings.SplitSeq(message, "\n") {
					sender, n, ok := parse(line)
					if ok && next[sender] != 0 && n != next[sender] {
						t.Errorf("listener %d heard line %d of %d, want %d", i, n, sender, next[sender])
						return
					}
					next[sender] = n + 1
				}
			}
		})
	}
	time.Sleep(time.Second)
	p.Process.Signal(syscall.SIGTERM)
	listening.Wait()
	if err := p.Wait(); err != nil {
		t.Error(err)
	}
	speaking.Wait()
	for i := range heard {
		if heard[i] != heard[0] {
			t.Errorf("listener %d heard up to %v, and the first %v", i, heard[i], heard[0])
		}
	}
}
