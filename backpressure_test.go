package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/websocket"

	"example.com/chat/internal/wstest"
)

// Half of the room speaks without a pause.
func TestFloods(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ peers, each int }{{2, 100_000}, {5, 50_000}, {20, 10_000}, {200, 500}} {
		t.Run(fmt.Sprint(c.peers), func(t *testing.T) {
			addr, _ := startServer(t, 4096)
			wstest.Crowd{Speakers: c.peers / 2, Each: c.each}.Meet(wstest.JoinMany(t, addr, c.peers))
		})
	}
}

func TestFloodOverTLS(t *testing.T) {
	t.Parallel()
	addr := startTLSServer(t)
	var peers []*wstest.Client
	for range 20 {
		peers = append(peers, wstest.Upgrade(t, wstest.DialTLS(t, addr), "/ws"))
	}
	wstest.Crowd{Speakers: len(peers) / 2, Each: 20_000}.Meet(peers)
}

// Twenty peers that don't read, more than half of the room, cost the others nothing.
func TestStuckPeersBesideReaders(t *testing.T) {
	t.Parallel()
	addr, rooms, _ := startWith(t, defaults)
	var stuck []*wstest.Client
	for range 20 {
		stuck = append(stuck, wstest.Upgrade(t, wstest.DialWith(t, addr, wstest.SmallBuffers), "/ws"))
	}
	const speakers, each = 2, 1500
	readers := wstest.JoinMany(t, addr, 5)
	wstest.Crowd{Speakers: speakers, Each: each, Pad: 4000}.Meet(readers)
	untilOpen(t, rooms, int64(len(readers)))
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
func linesUntilClosed(p *wstest.Client) (heard int) {
	for {
		opcode, message, err := p.ReadFrame()
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
	peers := wstest.JoinMany(t, addr, 20)
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
	wstest.Crowd{Speakers: 10, Each: 20_000}.Meet(peers)
	close(over)
	passers.Wait()
}

// passBy joins, says hello, hears that, and leaves: every third time at once, else
// after it has said bye and heard that.
func passBy(t *testing.T, addr string, visit int) {
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Error(err)
		return
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(time.Minute))
	p, err := wstest.TryUpgrade(t, conn, "/ws")
	if err != nil {
		t.Error(err)
		return
	}
	hello, bye := fmt.Sprint("hello from ", conn.LocalAddr()), fmt.Sprint("bye from ", conn.LocalAddr())
	p.Send(websocket.TextFrame, hello)
	if err := p.Hear(hello); err != nil {
		t.Error("passing by:", err)
	}
	if visit%3 == 0 {
		return
	}
	p.Write(append(wstest.Frame(0x81, bye), wstest.Frame(0x88, "\x03\xe8")...))
	if err := p.Hear(bye); err != nil {
		t.Error("leaving:", err)
	}
}

// A peer that reads slowly but steadily hears everything.
func TestSlowButSteadyReader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const said = 20_000
		l, _ := startInBubble(t)
		ann, slow := wstest.Upgrade(t, l.Dial(t), "/ws"), wstest.Upgrade(t, l.Dial(t), "/ws")
		c := wstest.Crowd{Speakers: 1, Each: said}
		go c.Speak(ann, 0)
		go c.Listen(ann)
		next := 0
		for next < said {
			time.Sleep(10 * time.Millisecond)
			opcode, message, err := slow.ReadFrame()
			if err != nil || opcode != websocket.TextFrame {
				t.Fatalf("after %d lines: %s, %v", next, wstest.Show(opcode, message), err)
			}
			for line := range strings.SplitSeq(message, "\n") {
				if _, n, _ := wstest.Parse(line); n != next {
					t.Fatalf("heard line %d, want %d", n, next)
				}
				next++
			}
		}
	})
}

// What waits for stuck peers is held once for all, and bounded.
func TestStuckPeersPinLittleMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const stuck, held, buffers = 50, maxHeld + 256*4096, 50 * joinLimit
		l, _ := startInBubble(t)
		for range stuck {
			wstest.Upgrade(t, l.Dial(t), "/ws")
		}
		ann := wstest.Upgrade(t, l.Dial(t), "/ws")
		before := heap()
		most := int64(0)
		go func() {
			line := wstest.Frame(0x81, strings.Repeat("x", 4096))
			for {
				if _, err := ann.Conn.Write(line); err != nil {
					return
				}
			}
		}()
		for range 400 {
			if opcode, message, err := ann.ReadFrame(); err != nil || len(message) > joinLimit {
				t.Fatal(wstest.Show(opcode, message), err)
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

// bubble is a chat in a bubble, with a talker that hears its own lines.
type bubble struct {
	t      *testing.T
	l      wstest.Listener
	talker *wstest.Client
	heard  atomic.Int64 // bytes, by the talker
	wg     sync.WaitGroup
}

// startBubble starts a chat with readers, each with its readPattern, that must not be dropped.
func startBubble(t *testing.T, cfg config, readers ...readPattern) *bubble {
	r := &bubble{t: t}
	t.Cleanup(r.wg.Wait)
	r.l, _ = startInBubbleWith(t, cfg)
	r.talker = wstest.Upgrade(t, r.l.Dial(t), "/ws")
	r.listen(r.talker)
	for _, p := range readers {
		r.join(p, "/ws")
	}
	return r
}

// join adds a reader that must not be dropped.
func (r *bubble) join(p readPattern, target string) {
	r.listen(wstest.Upgrade(r.t, &pacedConn{Conn: r.l.Dial(r.t), readPattern: p}, target))
}

// listen has p listen; it must not be dropped before the test is over.
func (r *bubble) listen(p *wstest.Client) {
	r.wg.Go(func() {
		for {
			opcode, message, err := p.ReadFrame()
			switch {
			case errors.Is(err, io.ErrClosedPipe):
				return
			case err != nil || opcode == websocket.CloseFrame:
				r.t.Errorf("%T: %s, %v", p.Conn, wstest.Show(opcode, message), err)
				return
			case opcode == websocket.PingFrame:
				p.Conn.Write(wstest.Frame(0x8a, message))
			case p == r.talker:
				r.heard.Add(int64(len(message)))
			}
		}
	})
}

// flood adds peers that say lines of size bytes without a pause, and read all they get.
func (r *bubble) flood(peers, size int) {
	for range peers {
		p := wstest.Upgrade(r.t, r.l.Dial(r.t), "/ws")
		r.wg.Go(func() { io.Copy(io.Discard, p.In) })
		r.wg.Go(func() { wstest.Flood(p.Conn, wstest.Frames(max(1, 4096/size), 0x81, strings.Repeat("x", size))) })
	}
}

// speed returns how many bytes a second the talker hears in d.
func (r *bubble) speed(d time.Duration) int {
	before := r.heard.Load()
	time.Sleep(d)
	return int(float64(r.heard.Load()-before) / d.Seconds())
}

// A peer that takes minSpeed, bit by bit or in lumps of up to ten seconds, is not dropped, whatever
// is said; and the room has minSpeed meanwhile.
func TestReadersAreNotDropped(t *testing.T) {
	const lump = 9900 * time.Millisecond
	phase := 30 * time.Second
	if wstest.Long() {
		phase = time.Minute
	}
	for _, test := range []struct {
		name       string
		readers    []readPattern
		size       int // of a line
		maxMessage int
	}{
		{"bit by bit", []readPattern{{minSpeed / 20, 50 * time.Millisecond}}, 1000, 4096},
		{"in lumps", []readPattern{{minSpeed * 10, lump}, {minSpeed * 10, lump}, {minSpeed * 10, lump}}, 1000, 4096},
		{"fast in lumps", []readPattern{{1 << 20, lump}}, 64, 4096},
		{"long lines", []readPattern{sips(100_000)}, 1 << 20, 16 << 20},
		{"very long lines", []readPattern{sips(200_000)}, 4 << 20, 16 << 20},
		{"a line that is longer than what may be held", []readPattern{sips(500_000)}, maxHeld + 1<<20, maxHeld * 2},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				cfg := defaults
				cfg.maxMessage, cfg.history = test.maxMessage, 0
				r := startBubble(t, cfg, test.readers...)
				r.flood(2, test.size)
				time.Sleep(phase)
				if test.size > 4096 {
					return
				}
				if speed := r.speed(phase); speed < minSpeed*9/10 {
					t.Errorf("the room has %d bytes a second", speed)
				}
			})
		})
	}
}

// Peers that take less than minSpeed, however they share it out, can't slow the room further.
func TestTricklers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := startBubble(t, defaults)
		for i := range 8 {
			conn := r.l.Dial(t)
			p := wstest.Upgrade(t, &pacedConn{Conn: conn, readPattern: readPattern{128 << 10, 9 * time.Second}, next: time.Now().Add(time.Duration(i) * time.Second)}, "/ws")
			r.wg.Go(func() { io.Copy(io.Discard, p.In) })
		}
		r.flood(1, 64)
		for range 6 {
			if speed := r.speed(10 * time.Second); speed < minSpeed*9/10 {
				t.Errorf("the room has %d bytes a second", speed)
			}
		}
	})
}

// Peers that don't read, and come one after another, delay no line of a room that says no more than
// heldSpeed.
func TestPeersWhoComeAndDoNotRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, _ := startInBubble(t)
		ann := wstest.Upgrade(t, l.Dial(t), "/ws")
		ctx, cancel := context.WithTimeout(t.Context(), 40*time.Second)
		defer cancel()
		var coming sync.WaitGroup
		defer coming.Wait()
		coming.Go(func() {
			for ; ctx.Err() == nil; time.Sleep(60 * time.Millisecond) {
				if _, err := wstest.TryUpgrade(t, l.Dial(t), "/ws"); err != nil {
					t.Error(err)
				}
			}
		})
		next := ann.Lines()
		for n := 0; ctx.Err() == nil; n++ { // 500 kB a second
			due := time.Now()
			line := fmt.Sprintf("%01000d", n)
			ann.Send(websocket.TextFrame, line)
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

// Readers are not dropped either while peers come and go, or fetch the past.
func TestReadersAreNotDroppedMeanwhile(t *testing.T) {
	t.Run("others come and go", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			r := startBubble(t, defaults, readPattern{400 << 10, 9900 * time.Millisecond})
			r.flood(4, 4000)
			for began := time.Now(); time.Since(began) < 30*time.Second; time.Sleep(5 * time.Millisecond) {
				wstest.Upgrade(t, r.l.Dial(t), "/ws").Conn.Close()
			}
		})
	})
	t.Run("the past becomes short", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			cfg := defaults
			cfg.maxMessage = 1 << 20
			r := startBubble(t, cfg)
			for range cfg.history / 8 {
				r.talker.Send(websocket.TextFrame, strings.Repeat("x", 1<<20))
			}
			r.join(readPattern{1 << 20, 9900 * time.Millisecond}, "/ws?since=")
			r.join(sips(250<<10), "/ws?since=")
			time.Sleep(2 * time.Second)
			r.flood(2, 64)
			time.Sleep(time.Minute)
		})
	})
}

// readPattern is how a peer reads: that many bytes in each period.
type readPattern struct {
	bytes int
	every time.Duration
}

// sips returns the pattern of a peer that reads a little twenty times a second, and gulps
// that of one that reads 100 kB at a time.
func sips(bytesPerSecond int) readPattern {
	return readPattern{bytesPerSecond / 20, 50 * time.Millisecond}
}
func gulps(bytesPerSecond int) readPattern {
	return readPattern{100_000, 100_000 * time.Second / time.Duration(bytesPerSecond)}
}

// pacedConn is a connection that is read in a pattern.
type pacedConn struct {
	net.Conn
	readPattern
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

// joinPaced connects a peer that reads in a pattern, to a target such as /ws, for up to d.
func joinPaced(t testing.TB, addr, target string, p readPattern, d time.Duration) *wstest.Client {
	t.Helper()
	conn := wstest.Dial(t, addr)
	conn.SetDeadline(time.Now().Add(d))
	return wstest.Upgrade(t, &pacedConn{Conn: conn, readPattern: p}, target)
}

// speech is what one peer says: lines "0 N" of size bytes, from N = first on, at a rate a second, or
// without a pause if that is 0; and "over" in the end.
type speech struct{ size, rate, lines, first int }

// give has p give the speech.
func (s speech) give(p *wstest.Client) {
	pad := strings.Repeat(" ", max(0, s.size-8))
	began := time.Now()
	for n := 0; n < s.lines; {
		due := min(n+16, s.lines)
		if s.rate > 0 {
			due = min(due, int(time.Since(began).Seconds()*float64(s.rate)))
		}
		var packet []byte
		for ; n < due; n++ {
			packet = append(packet, wstest.Frame(0x81, fmt.Sprintf("0 %06d", s.first+n)+pad)...)
		}
		if _, err := p.Conn.Write(packet); err != nil {
			p.T.Errorf("at line %d: %v", n, err)
			return
		}
		if len(packet) == 0 {
			time.Sleep(time.Millisecond)
		}
	}
	p.Conn.Write(wstest.Frame(0x81, "over"))
}

// hearSpeech has p hear a speech to its end, each line once and in order, from N = first on.
func hearSpeech(p *wstest.Client, first int) {
	for next := first; ; {
		opcode, message, err := p.ReadFrame()
		if opcode == websocket.PingFrame && err == nil {
			_, err = p.Conn.Write(wstest.Frame(0x8a, message))
		}
		if err != nil || opcode == websocket.CloseFrame {
			p.T.Errorf("%v heard lines up to %d, then %s, %v", p.LocalAddr(), next, wstest.Show(opcode, message), err)
			return
		}
		if opcode != websocket.TextFrame {
			continue
		}
		for line := range strings.SplitSeq(message, "\n") {
			if line == "over" {
				return
			}
			if _, n, ok := wstest.Parse(line); !ok || n != next {
				p.T.Errorf("%v heard %.20q, want %d", p.LocalAddr(), line, next)
				return
			}
			next++
		}
	}
}

// No peer that reads is dropped or misses a line, however slowly it reads, and whatever is said.
// Each row says what the slowest reader takes in some seconds.
func TestSlowReaders(t *testing.T) {
	t.Parallel()
	type row struct {
		name     string
		readers  int
		patterns []readPattern // of the readers, in turn
		speech   speech
		rate     int // of -rate
	}
	rows := []row{
		{"one of 1 MB/s in gulps", 1, []readPattern{gulps(1_000_000)}, speech{size: 4000, lines: 2000}, 0},
		{"five of 250 kB/s, 5,000 short lines/s", 5, []readPattern{sips(250_000)}, speech{size: 64, rate: 5000, lines: 25_000}, 0},
		{"fifteen of mixed speeds and no pause", 15, []readPattern{sips(250_000), gulps(500_000), sips(1_000_000)}, speech{size: 200, lines: 10_000}, 0},
		{"five of 250 kB/s, with -rate 100, no pause", 5, []readPattern{sips(250_000)}, speech{size: 4000, lines: 600}, 100},
	}
	n := 0
	for _, readers := range []int{1, 5, 15, 50} {
		for _, speed := range []int{50_000, 100_000, 250_000, 1_000_000} {
			for _, s := range []speech{{size: 64, rate: 2000}, {size: 64, rate: 5000}, {size: 200, rate: 5000}, {size: 4000}, {size: 64}} {
				s.lines = (20*speed + 2_000_000) / s.size
				for i, p := range []readPattern{sips(speed), gulps(speed)} {
					if n++; wstest.All() || wstest.Long() && n%5 == 0 {
						name := fmt.Sprintf("%d of %d kB/s in %s, %d lines/s of %d B", readers, speed/1000, []string{"sips", "gulps"}[i], s.rate, s.size)
						rows = append(rows, row{name, readers, []readPattern{p}, s, 0})
					}
				}
			}
		}
		if mixed := []readPattern{sips(50_000), gulps(1_000_000), sips(250_000), gulps(50_000), sips(1_000_000)}; wstest.Long() {
			rows = append(rows, row{fmt.Sprint(readers, " of mixed speeds"), readers, mixed, speech{size: 200, lines: 12_000}, 0})
			rows = append(rows, row{fmt.Sprint(readers, " of mixed speeds, 5,000 long lines/s"), readers, mixed, speech{size: 4000, rate: 5000, lines: 600}, 0})
			rows = append(rows, row{fmt.Sprint(readers, " of 50 kB/s, with -rate 20"), readers, []readPattern{sips(50_000), gulps(50_000)}, speech{size: 4000, rate: 20, lines: 1000}, 20})
		}
	}
	for _, r := range rows {
		t.Run(r.name, func(t *testing.T) {
			t.Parallel()
			cfg := defaults
			cfg.rate = r.rate
			addr, rooms, _ := startWith(t, cfg)
			talker := joinPaced(t, addr, "/ws", readPattern{1 << 20, 0}, 10*time.Minute)
			var wg sync.WaitGroup
			wg.Go(func() { hearSpeech(talker, 0) })
			for i := range r.readers {
				p := joinPaced(t, addr, "/ws", r.patterns[i%len(r.patterns)], 10*time.Minute)
				wg.Go(func() { hearSpeech(p, 0) })
			}
			r.speech.give(talker)
			wg.Wait()
			if n := rooms.counters.droppedSlow.Value(); n > 0 {
				t.Errorf("%d were dropped", n)
			}
			t.Logf("throttled %v times, for %v s", &rooms.counters.throttled, &rooms.counters.throttledSeconds)
		})
	}
}

// A peer that joins with ?since= on a slow line fetches the past while the room speaks at a pace that
// it can follow. It gets everything, and the room is not throttled.
func TestSlowJoiners(t *testing.T) {
	t.Parallel()
	const history, size = 256, 4000 // 1 MB
	speeds := []int{250_000}
	if wstest.Long() {
		speeds = []int{20_000, 50_000, 100_000, 250_000}
	}
	for _, speed := range speeds {
		t.Run(fmt.Sprint(speed/1000, " kB/s"), func(t *testing.T) {
			t.Parallel()
			addr, rooms, _ := startWith(t, defaults)
			talker := joinPaced(t, addr, "/ws", readPattern{1 << 20, 0}, 10*time.Minute)
			var wg sync.WaitGroup
			wg.Go(func() { hearSpeech(talker, 0) })
			pad := strings.Repeat(" ", size-8)
			for n := range history {
				talker.Send(websocket.TextFrame, fmt.Sprintf("0 %06d", n)+pad)
			}
			wstest.Until(t, "the past is said", func() bool { return rooms.counters.linesIn.Value() >= history })
			before := rooms.counters.throttled.Value()
			for range 2 {
				joiner := joinPaced(t, addr, "/ws?since=", sips(speed), 10*time.Minute)
				opcode, message, err := joiner.ReadFrame()
				var epoch string
				var first, end int
				if fmt.Sscan(message, &epoch, &first, &end); err != nil || first != 0 || end != history {
					t.Fatal(wstest.Show(opcode, message), err)
				}
				wg.Go(func() { hearSpeech(joiner, first) })
			}
			const short = 200
			rate := speed / 2 / short
			speech{short, rate, rate * history * size / (speed / 2), history}.give(talker)
			wg.Wait()
			if n := rooms.counters.throttled.Value() - before; n > 0 {
				t.Errorf("it was throttled %d times", n)
			}
		})
	}
}

// Peers that don't read delay the others little: the delays are logged.
func TestPeersThatDoNotRead(t *testing.T) {
	t.Parallel()
	type row struct {
		idle, readers, rate int
		coming              bool // and going, instead of staying
	}
	rows, seconds := []row{{20, 5, 5000, false}, {20, 5, 500, true}}, 4
	if wstest.Long() {
		rows, seconds = append(rows, row{1, 50, 500, false}, row{250, 5, 5000, true}, row{250, 500, 500, false}, row{250, 50, 5000, false}), 15
	}
	if wstest.All() {
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
			if !wstest.All() { // else one by one, for the sake of what is logged
				t.Parallel()
			}
			addr, rooms, _ := startWith(t, defaults)
			talker := joinPaced(t, addr, "/ws", readPattern{1 << 20, 0}, 10*time.Minute)
			var wg, others sync.WaitGroup
			ctx, end := context.WithCancel(t.Context())
			for range r.idle {
				if !r.coming {
					wstest.Upgrade(t, wstest.DialWith(t, addr, wstest.SmallBuffers), "/ws")
					continue
				}
				others.Go(func() {
					for ctx.Err() == nil {
						conn, err := wstest.SmallBuffers.Dial("tcp", addr)
						if err != nil {
							t.Error(err)
							return
						}
						conn.Write([]byte(wstest.Request("/ws")))
						select {
						case <-ctx.Done():
						case <-time.After(rand.N(time.Second)):
						}
						conn.Close()
					}
				})
			}
			for range r.readers {
				p := joinPaced(t, addr, "/ws", readPattern{1 << 20, 0}, 10*time.Minute)
				wg.Go(func() { hearSpeech(p, 0) })
			}
			delays := make(chan time.Duration, 1)
			wg.Go(func() { delays <- hearDelay(talker, r.rate) })
			speech{size: 200, rate: r.rate, lines: r.rate * seconds}.give(talker)
			wg.Wait()
			end()
			others.Wait()
			t.Logf("the longest delay was %v; throttled for %v s", <-delays, &rooms.counters.throttledSeconds)
		})
	}
}

// hearDelay has p, which gives a speech of that rate, hear it, and returns the longest time
// that a line took from when it was due.
func hearDelay(p *wstest.Client, rate int) (longest time.Duration) {
	began := time.Now()
	for {
		opcode, message, err := p.ReadFrame()
		if err != nil || opcode == websocket.CloseFrame {
			p.T.Error("talker: ", wstest.Show(opcode, message), err)
			return longest
		}
		for line := range strings.SplitSeq(message, "\n") {
			if line == "over" {
				return longest
			}
			if _, n, ok := wstest.Parse(line); ok {
				longest = max(longest, time.Since(began)-time.Duration(n)*time.Second/time.Duration(rate))
			}
		}
	}
}
