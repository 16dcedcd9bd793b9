package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/websocket"

	"example.com/chat/internal/wstest"
)

// Lines that wait for a peer come joined in one message.
func TestWaitingLinesAreJoined(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := startChat(t, inMemory)
		ann, bob := c.join("/ws"), c.join("/ws")
		for _, line := range []string{"one", "two", "", "four"} {
			ann.Send(websocket.TextFrame, line)
			ann.Expect(websocket.TextFrame, line)
			synctest.Wait()
		}
		bob.Expect(websocket.TextFrame, "one") // writePump has begun to write it
		bob.Expect(websocket.TextFrame, "two\n\nfour")
	})
}

// Lines that come while others are written to everyone share the next writes. A fan-out to 200 connections counts
// as 200 times 10 µs of processor time. A line that comes later is written at once.
func TestLinesShareWrites(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const people = 200
		fanOutTime := people * 10 * time.Microsecond / time.Duration(runtime.GOMAXPROCS(0))
		c := startChat(t, inMemory)
		ann, bob := c.join("/ws"), c.join("/ws")
		for range people - 2 {
			go io.Copy(io.Discard, c.join("/ws").In)
		}
		began := time.Now()
		hear := func(want string, at time.Duration) {
			ann.Expect(websocket.TextFrame, want)
			bob.Expect(websocket.TextFrame, want)
			if after := time.Since(began); after != at {
				t.Errorf("heard %q after %v, want %v", want, after, at)
			}
		}
		ann.Send(websocket.TextFrame, "one")
		hear("one", 0)
		ann.Send(websocket.TextFrame, "two")
		synctest.Wait()
		bob.Send(websocket.TextFrame, "three")
		hear("two\nthree", fanOutTime)
		time.Sleep(fanOutTime)
		bob.Send(websocket.TextFrame, "four")
		hear("four", 2*fanOutTime)
	})
}

// sayLong has p say n lines of 4 KiB and hear each of them.
func sayLong(p *wstest.Client, n int) {
	p.T.Helper()
	long := strings.Repeat("x", 4096)
	for range n {
		p.Send(websocket.TextFrame, long)
		p.Expect(websocket.TextFrame, long)
	}
}

// sayBesideStuck has p say n lines in a bubble and hear each of them at once, although another peer does not read.
func sayBesideStuck(p *wstest.Client, n int) {
	p.T.Helper()
	for n := range n {
		said := time.Now()
		line := fmt.Sprint("line ", n)
		p.Send(websocket.TextFrame, line)
		p.Expect(websocket.TextFrame, line)
		synctest.Wait()
		if waited := time.Since(said); waited > time.Millisecond {
			p.T.Errorf("heard %q after %v, want it at once", line, waited)
		}
	}
}

// A peer that reads 16 KiB/s is dropped with 1013 when it is too far behind, and has 5 s to close.
func TestSlowPeerIsDropped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := startChat(t, inMemory, with(func(cfg *config) { cfg.history = 0 })) // so its frames are gone when it is
		ann, slow := c.join("/ws"), c.join("/ws")
		go func() { // 4 MB/s
			for line := wstest.Frame(0x81, strings.Repeat("x", 4096)); ; time.Sleep(time.Millisecond) {
				if _, err := ann.Conn.Write(line); err != nil {
					return
				}
			}
		}()
		go io.Copy(io.Discard, ann.In)
		for {
			opcode, payload, err := slow.ReadFrame()
			if err != nil {
				t.Fatal(err)
			}
			if opcode == websocket.CloseFrame {
				if payload != "\x03\xf5you read too slowly" {
					t.Errorf("got %s, want 1013 and a reason", wstest.Show(opcode, payload))
				}
				break
			}
			time.Sleep(time.Duration(len(payload)) * time.Second / (16 << 10))
		}
		ann.Conn.Close()
		time.Sleep(4 * time.Second)
		sayUntilClosed(slow, time.Second) // what it says does not prolong its time
	})
}

// A peer that reads nothing, or next to nothing, is cut off after 10 s in one write and counted as slow. A peer
// from which nothing comes for 60 s is counted as idle. The other connections notice nothing.
func TestDroppedPeersAreCounted(t *testing.T) {
	for _, test := range []struct {
		name       string
		lines      int                       // said to everyone
		read       func(peer *wstest.Client) // nil: nothing is read
		after      time.Duration             // and at most a second more
		slow, idle int64
	}{
		{"reads nothing", 1000, nil, 10 * time.Second, 1, 0},
		{"reads 100 bytes/s", 20, func(peer *wstest.Client) {
			for b := make([]byte, 1); ; time.Sleep(10 * time.Millisecond) {
				if _, err := peer.Conn.Read(b); err != nil {
					return
				}
			}
		}, 10 * time.Second, 1, 0},
		{"sends nothing", 0, func(peer *wstest.Client) { io.Copy(io.Discard, peer.In) }, 60 * time.Second, 0, 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := startChat(t, inMemory)
				ann, peer := c.join("/ws"), c.join("/ws")
				if test.name == "reads 100 bytes/s" {
					sayLong(ann, test.lines)
				} else {
					sayBesideStuck(ann, test.lines)
				}
				if test.read != nil {
					go test.read(peer)
				}
				go io.Copy(io.Discard, ann.In)
				keepAlive := time.AfterFunc(30*time.Second, func() { ann.Send(websocket.PongFrame, "") })
				defer keepAlive.Stop()
				time.Sleep(test.after - 1)
				if got := c.chat.shared.counters.Connections.Value(); got != 2 {
					t.Errorf("%d connections just before %v, want 2", got, test.after)
				}
				time.Sleep(time.Second + 2)
				synctest.Wait()
				slow, idle := c.chat.shared.counters.DroppedSlow.Value(), c.chat.shared.counters.DroppedIdle.Value()
				if slow != test.slow || idle != test.idle {
					t.Errorf("counted %d slow and %d idle, want %d and %d", slow, idle, test.slow, test.idle)
				}
				if got := c.chat.shared.counters.Connections.Value(); got != 1 {
					t.Errorf("%d connections, want 1", got)
				}
			})
		})
	}
}

// Half of the room speaks without a pause, and everyone hears every line once, in its speaker's order.
func TestFloods(t *testing.T) {
	t.Parallel()
	for _, crowd := range []struct{ peers, each int }{{2, 50_000}, {20, 5_000}, {200, 500}} {
		t.Run(fmt.Sprint(crowd.peers), func(t *testing.T) {
			c := startChat(t)
			wstest.Crowd{Speakers: crowd.peers / 2, Each: crowd.each}.Meet(wstest.JoinMany(t, c.addr, crowd.peers))
		})
	}
	t.Run("over TLS", func(t *testing.T) {
		certificate := newCertificate(t)
		c := startChat(t, with(func(cfg *config) { cfg.tls = certificate }))
		var peers []*wstest.Client
		for range 20 {
			peers = append(peers, wstest.Upgrade(t, wstest.DialTLS(t, c.addr), "/ws"))
		}
		wstest.Crowd{Speakers: len(peers) / 2, Each: 5_000}.Meet(peers)
	})
}

// Twenty peers that don't read, more than half of the room, cost the others no line. They are dropped, and what
// they got before is whole and in order.
func TestStuckPeersBesideReaders(t *testing.T) {
	t.Parallel()
	c := startChat(t)
	var stuck []*wstest.Client
	for range 20 {
		stuck = append(stuck, wstest.Upgrade(t, wstest.DialWith(t, c.addr, wstest.SmallBuffers), "/ws"))
	}
	const speakers, each = 2, 1500
	readers := wstest.JoinMany(t, c.addr, 5)
	wstest.Crowd{Speakers: speakers, Each: each, Pad: 4000}.Meet(readers)
	c.untilOpen(int64(len(readers)))
	var wg sync.WaitGroup
	for i, p := range stuck {
		wg.Go(func() {
			heard, next := [speakers]int{}, p.Lines()
			for line, err := next(); err == nil; line, err = next() {
				speaker, n, ok := wstest.Parse(strings.TrimRight(line, " "))
				if !ok || n != heard[speaker] {
					t.Errorf("stuck peer %d heard %.20q, want line %d", i, line, heard[speaker])
					return
				}
				heard[speaker]++
			}
			if heard[0]+heard[1] == speakers*each {
				t.Errorf("stuck peer %d has heard all %d lines, want fewer", i, speakers*each)
			}
		})
	}
	wg.Wait()
}

// Peers that come, say something and leave all the time cost the others no line.
func TestChurn(t *testing.T) {
	t.Parallel()
	c := startChat(t)
	peers := wstest.JoinMany(t, c.addr, 20)
	over := make(chan struct{})
	var visitors sync.WaitGroup
	for range 4 {
		visitors.Go(func() {
			for visit := 0; ; visit++ {
				select {
				case <-over:
					return
				default:
					passBy(t, c.addr, visit)
				}
			}
		})
	}
	wstest.Crowd{Speakers: 10, Each: 10_000}.Meet(peers)
	close(over)
	visitors.Wait()
}

// passBy joins, says hello and hears it. Two of three times it says bye, too, and hears it before the close frame.
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
		t.Error("hello:", err)
	}
	if visit%3 == 0 {
		return
	}
	p.Write(append(wstest.Frame(0x81, bye), wstest.Frame(0x88, "\x03\xe8")...))
	if err := p.Hear(bye); err != nil {
		t.Error("bye:", err)
	}
}

// Fifty peers that don't read hold at most 16 MiB of lines together, and what their writePumps are writing.
// When they are gone, their memory is free.
func TestStuckPeersPinLittleMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const stuck, held, buffers = 50, 16<<20 + 256*4096, 50 * (64 << 10)
		c := startChat(t, inMemory)
		for range stuck {
			c.join("/ws")
		}
		ann := c.join("/ws")
		before, most := heap(), int64(0)
		go func() {
			line := wstest.Frame(0x81, strings.Repeat("x", 4096))
			for {
				if _, err := ann.Conn.Write(line); err != nil {
					return
				}
			}
		}()
		for range 400 {
			if opcode, message, err := ann.ReadFrame(); err != nil {
				t.Fatal(wstest.Show(opcode, message), err)
			}
			most = max(most, heap()-before)
		}
		if most < held/2 || most > (held+buffers)*5/4 { // size classes cost up to a quarter
			t.Errorf("they hold %d bytes, want about %d, and up to %d in buffers", most, held, buffers)
		}
		ann.Conn.Close()
		time.Sleep(10*time.Second + 5*time.Second + 2*time.Second)
		heap() // a sync.Pool holds its objects for one more collection
		if left := heap() - before; left > 2*256*4096 {
			t.Errorf("%d bytes are left when they are gone, want at most %d", left, 2*256*4096)
		}
	})
}

// Eight rooms with a peer that reads nothing beside a flood hold three eighths of -memory together, although one room alone
// would hold 16 MiB. Meanwhile a room in which people say little keeps its history, and nobody there is dropped.
func TestRoomsShareMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const rooms, memory = 8, 16 // three eighths of 16 MiB, 6 MiB, are for lines
		c := startChat(t, inMemory, with(func(cfg *config) { cfg.memory = memory }))
		quiet := c.join("/quiet/ws")
		sayNumbered(t, quiet, 0, 100)
		before, most := heap(), int64(0)
		var flooding sync.WaitGroup
		for n := range rooms {
			target := fmt.Sprintf("/flooded%d/ws", n)
			c.join(target) // reads nothing
			p := c.join(target)
			flooding.Go(func() { io.Copy(io.Discard, p.In) })
			flooding.Go(func() {
				for line := wstest.Frame(0x81, strings.Repeat("x", 4000)); ; {
					if _, err := p.Conn.Write(line); err != nil {
						return
					}
				}
			})
			defer p.Conn.Close()
		}
		for range 10 {
			time.Sleep(200 * time.Millisecond)
			most = max(most, heap()-before)
		}
		if lines, buffers := int64(6<<20), int64(rooms*3*(64<<10)); most < lines/2 || most > (lines+buffers)*5/4 {
			t.Errorf("the rooms hold %d bytes, want about %d, and up to %d in buffers", most, lines, buffers)
		}
		sayNumbered(t, quiet, 100, 110)
		_, at := c.resume("/quiet/ws", "")
		if at.seq != 0 || at.end != 110 {
			t.Errorf("got lines %d to %d in the quiet room, want 0 to 110", at.seq, at.end)
		}
	})
}

// Lines for peers that leave before they have read them count. However many leave, they take no more than the room may
// hold.
func TestLeavingPeersCount(t *testing.T) {
	for name, last := range map[string]string{"close frame": string(wstest.Frame(0x88, "")), "refused message": string(wstest.Frame(0x82, "binary"))} {
		for _, lines := range []int{15, 100} { // 60 KB fit into the queue of a connection, and 400 KB do not
			t.Run(fmt.Sprintf("%s after %d lines", name, lines), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					const memory, line, peers = 8, 4000, 60
					c := startChat(t, inMemory, with(func(cfg *config) { cfg.memory, cfg.history = memory, 10 }))
					speaker, before := c.join("/ws"), heap()
					for range peers {
						p := c.join("/ws")
						for range lines {
							speaker.Send(websocket.TextFrame, strings.Repeat("x", line))
							speaker.Expect(websocket.TextFrame, strings.Repeat("x", line))
						}
						p.Conn.Write([]byte(last))
					}
					took, most := heap()-before, int64(memory<<20/8*3/2+peers*(16<<10))
					if took > most {
						t.Errorf("%d peers that left take %d bytes, want at most the room's %d", peers, took, most)
					}
				})
			})
		}
	}
}

// Histories take their part of -memory: rooms with long lines keep fewer of them, also after everybody has left.
func TestHistoriesShareMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const rooms, memory, line = 30, 8, 4000 // with 256 lines in each room, these would be 30 MiB
		c := startChat(t, inMemory, with(func(cfg *config) { cfg.memory = memory }))
		var kept uint64
		for n := range rooms {
			p := c.join(fmt.Sprintf("/room%d/ws", n))
			go io.Copy(io.Discard, p.In)
			for range 256 {
				p.Send(websocket.TextFrame, strings.Repeat("x", line))
			}
			p.Send(websocket.CloseFrame, "")
			time.Sleep(2 * time.Second) // a sweep
		}
		for n := range rooms {
			_, at := c.resume(fmt.Sprintf("/room%d/ws", n), "")
			kept += at.end - at.seq
			if share := uint64(3 << 20 / (rooms + 1) / line); at.end != 256 || at.end-at.seq < share/2 {
				t.Errorf("room %d keeps %d of %d lines, want at least half of its share of %d, of 256", n, at.end-at.seq, at.end, share)
			}
		}
		if kept*line > 3<<20 {
			t.Errorf("the rooms hold %d bytes, want at most 3 MiB", kept*line)
		}
	})
}

// A room alone holds at most half of the memory for lines, also with -state, where each line counts twice.
func TestOneRoomHoldsHalf(t *testing.T) {
	for name, state := range map[string]string{"in memory": "", "with -state": t.TempDir()} {
		c := startChat(t, with(func(cfg *config) { cfg.memory, cfg.history, cfg.state = 8, 10_000, state }))
		p := c.join("/ws")
		for _, line := range wstest.Numbered(0, 500) {
			p.Send(websocket.TextFrame, line+strings.Repeat("x", 4000))
			p.Expect(websocket.TextFrame, line+strings.Repeat("x", 4000))
		}
		probe := c.chat.shared.lines.Account()
		if free := probe.Hold(0); free < 3<<19 || free > 2<<20 {
			t.Errorf("%s: a room with 2 MB of lines leaves %d bytes, want half of 3 MiB", name, free)
		}
		p.Conn.Close()
		c.stop()
	}
}

// heap returns the number of bytes in use.
func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// A peer that reads 32 KiB/s, bit by bit or in lumps of up to ten seconds, is not dropped beside a flood of
// lines of any length, and the flood goes on with 32 KiB/s. internal/pace has the same in numbers, for more
// patterns.
func TestReadersAreNotDropped(t *testing.T) {
	const lump, most = 9900 * time.Millisecond, 16 << 20
	for _, test := range []struct {
		name   string
		read   int // bytes in each period
		period time.Duration
		size   int // of a line
	}{
		{"bit by bit", 32 << 10 / 20, 50 * time.Millisecond, 1000},
		{"in lumps", 320 << 10, lump, 1000},
		{"long lines", 100_000 / 20, 50 * time.Millisecond, 1 << 20},
		{"a line longer than 16 MiB", 500_000 / 20, 50 * time.Millisecond, most + 1<<20},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				maxMessage := 4096
				if test.size > maxMessage {
					maxMessage = 2 * most
				}
				c := startChat(t, inMemory, with(func(cfg *config) { cfg.maxMessage, cfg.history = maxMessage, 0 }))
				var over sync.WaitGroup
				t.Cleanup(over.Wait)
				slow, witness := c.joinSlow("/ws", test.read, test.period), c.join("/ws")
				var heard atomic.Int64
				over.Go(func() { readUntilClosed(slow, new(atomic.Int64)) })
				over.Go(func() { readUntilClosed(witness, &heard) })
				for range 2 {
					p := c.join("/ws")
					over.Go(func() { io.Copy(io.Discard, p.In) })
					over.Go(func() {
						wstest.Flood(p.Conn, wstest.Frames(max(1, 4096/test.size), 0x81, strings.Repeat("x", test.size)))
					})
				}
				time.Sleep(30 * time.Second)
				before := heard.Load()
				time.Sleep(30 * time.Second)
				if speed := (heard.Load() - before) / 30; test.size <= 4096 && speed < 32<<10*9/10 {
					t.Errorf("the room has %d bytes/s, want at least %d", speed, 32<<10)
				}
				if n := c.chat.shared.counters.DroppedSlow.Value(); n > 0 {
					t.Errorf("%d were dropped, want none", n)
				}
			})
		})
	}
}

// readUntilClosed answers pings and counts bytes until p's connection is closed. A close frame is an error.
func readUntilClosed(p *wstest.Client, heard *atomic.Int64) {
	for {
		opcode, message, err := p.ReadFrame()
		switch {
		case errors.Is(err, io.ErrClosedPipe):
			return
		case err != nil || opcode == websocket.CloseFrame:
			p.T.Errorf("got %s, %v; want to stay connected", wstest.Show(opcode, message), err)
			return
		case opcode == websocket.PingFrame:
			p.Conn.Write(wstest.Frame(0x8a, message))
		default:
			heard.Add(int64(len(message)))
		}
	}
}

// Over TCP, no reader is dropped or misses a line, however slowly it reads.
func TestSlowReaders(t *testing.T) {
	t.Parallel()
	const sip, gulp = 50 * time.Millisecond, 100_000
	type reader struct {
		size   int
		period time.Duration
	}
	sips := func(speed int) reader { return reader{speed / 20, sip} }
	gulps := func(speed int) reader { return reader{gulp, gulp * time.Second / time.Duration(speed)} }
	type row struct {
		name    string
		readers []reader
		size    int // of a line
		lines   int
		rate    int // -rate
	}
	rows := []row{
		{"one of 1 MB/s in gulps", []reader{gulps(1_000_000)}, 4000, 2000, 0},
		{"mixed speeds", slices.Repeat([]reader{sips(250_000), gulps(500_000), sips(1_000_000)}, 5), 200, 10_000, 0},
		{"250 kB/s, with -rate 100", slices.Repeat([]reader{sips(250_000)}, 5), 4000, 600, 100},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			c := startChat(t, with(func(cfg *config) { cfg.rate = row.rate }))
			ann := c.joinSlow("/ws", 1<<20, 0)
			var hearing sync.WaitGroup
			hearing.Go(func() { hearNumbered(ann, row.lines) })
			for _, r := range row.readers {
				p := c.joinSlow("/ws", r.size, r.period)
				hearing.Go(func() { hearNumbered(p, row.lines) })
			}
			for n := 0; n < row.lines; n += 16 {
				var packet []byte
				for m := n; m < min(n+16, row.lines); m++ {
					packet = append(packet, wstest.Frame(0x81, fmt.Sprintf("%0*d", row.size, m))...)
				}
				ann.Write(packet)
			}
			hearing.Wait()
			if n := c.chat.shared.counters.DroppedSlow.Value(); n > 0 {
				t.Errorf("%d were dropped, want none", n)
			}
		})
	}
}

// hearNumbered has p hear the lines 0 to n-1, and answer pings.
func hearNumbered(p *wstest.Client, n int) {
	for next := 0; next < n; {
		opcode, message, err := p.ReadFrame()
		if err == nil && opcode == websocket.PingFrame {
			p.Conn.Write(wstest.Frame(0x8a, message))
			continue
		}
		if err != nil || opcode != websocket.TextFrame {
			p.T.Errorf("after %d lines: got %s, %v; want %d lines", next, wstest.Show(opcode, message), err, n)
			return
		}
		for line := range strings.SplitSeq(message, "\n") {
			if got, err := strconv.Atoi(line); err != nil || got != next {
				p.T.Errorf("got line %.20q, want %d", line, next)
				return
			}
			next++
		}
	}
}

// A client on a slow line that joins with ?since= gets all of the history while the room speaks at a pace that the
// client can follow. The history is no lag, so nothing is held meanwhile.
func TestSlowJoiner(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const history, size, speed = 256, 4000, 50_000
		c := startChat(t, inMemory)
		ann := c.join("/ws")
		for n := range history {
			line := fmt.Sprintf("%0*d", size, n)
			ann.Send(websocket.TextFrame, line)
			ann.Expect(websocket.TextFrame, line)
		}
		var listening sync.WaitGroup
		defer listening.Wait()
		listening.Go(func() { io.Copy(io.Discard, ann.In) })
		slow := c.joinSlow("/ws?since=", speed/20, 50*time.Millisecond)
		if opcode, message, err := slow.ReadFrame(); err != nil || !strings.HasSuffix(message, " 0 256") {
			t.Fatalf("got %s, %v; want a position at 0 of 256", wstest.Show(opcode, message), err)
		}
		const more = 2000 // of 200 bytes at 25 kB/s
		listening.Go(func() {
			for n := range more {
				ann.Conn.Write(wstest.Frame(0x81, fmt.Sprintf("%0200d", history+n)))
				time.Sleep(8 * time.Millisecond)
			}
		})
		hearNumbered(slow, history+more)
		if n := c.chat.shared.counters.Held.Value(); n > 0 {
			t.Errorf("lines were held %d times, want never", n)
		}
		ann.Conn.Close()
	})
}

// Lines that are held back for a lagging connection go out within 2 ms when it has read enough or is gone.
func TestHeldLinesGoAtOnce(t *testing.T) {
	for _, leaves := range []bool{false, true} {
		t.Run(fmt.Sprint("the lagging peer leaves: ", leaves), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				const said = 200 // lines of 4,000 bytes
				c := startChat(t, inMemory)
				ann, lagging := c.join("/ws"), c.join("/ws")
				heard := make(chan string, said)
				go func() {
					for next := ann.Lines(); ; {
						line, err := next()
						if err != nil {
							return
						}
						heard <- line
					}
				}()
				go func() {
					for n := range said {
						ann.Conn.Write(wstest.Frame(0x81, fmt.Sprintf("%04000d", n)))
					}
				}()
				time.Sleep(10 * time.Millisecond) // the price of the lines
				synctest.Wait()
				if held := c.chat.shared.counters.Held.Value(); held == 0 || len(heard) == said {
					t.Fatalf("held %d times, and %d lines heard; want lines held", held, len(heard))
				}
				began := time.Now()
				if leaves {
					lagging.Conn.Close()
				} else {
					go io.Copy(io.Discard, lagging.In)
				}
				for range said {
					<-heard
				}
				if took := time.Since(began); took > 2*time.Millisecond {
					t.Errorf("heard the held lines after %v, want at most 2 ms", took)
				}
				ann.Conn.Close()
			})
		})
	}
}

// When a sweep drops a connection that was blocked for 10 s, lines are no longer held back for it.
func TestSweepEndsHold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := startChat(t, inMemory)
		ann := c.join("/ws")
		c.join("/ws") // reads nothing
		var flooding sync.WaitGroup
		defer flooding.Wait()
		flooding.Go(func() {
			for line := wstest.Frame(0x81, strings.Repeat("x", 4000)); ; {
				if _, err := ann.Conn.Write(line); err != nil {
					return
				}
			}
		})
		for next := ann.Lines(); c.chat.shared.counters.DroppedSlow.Value() == 0; {
			if _, err := next(); err != nil {
				t.Fatal(err)
			}
		}
		dropped := time.Now().Truncate(time.Second) // a sweep
		next := ann.Lines()
		for range 20 { // more than a flush
			if _, err := next(); err != nil {
				t.Fatal(err)
			}
		}
		if took := time.Since(dropped); took > time.Millisecond {
			t.Errorf("20 lines came %v after the sweep that dropped the connection, want at once", took)
		}
		ann.Conn.Close()
	})
}

// A client that comes back with a position gets what it missed, and then what is said. Anything else in ?since=
// gets the whole history. internal/stream has a table of positions.
func TestComingBack(t *testing.T) {
	c := startChat(t)
	ann := c.join("/ws")
	sayNumbered(t, ann, 0, 20)
	_, here := c.resume("/ws", "")
	for since, seq := range map[string]int{
		here.epoch + ".7": 7, here.epoch + ".20": 20, "": 0, "%00%ff.%3b%20": 0, strings.Repeat("x.", 3000): 0,
	} {
		p, at := c.resume("/ws", since)
		if want := (position{here.epoch, uint64(seq), 20}); at != want {
			t.Errorf("since %.20q: at %v, want %v", since, at, want)
		}
		p.ExpectLines(wstest.Numbered(seq, 20)...)
		p.Send(websocket.CloseFrame, "")
		p.ExpectClose(1005)
	}
	other := c.join("/ws") // without since there is no position and no past
	other.Send(websocket.TextFrame, "now")
	other.Expect(websocket.TextFrame, "now")
}

// What was said before a stuck peer came waits for it, and so does what is said since.
func TestPastOfAStuckPeer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := startChat(t, inMemory)
		ann := c.join("/ws")
		sayNumbered(t, ann, 0, 300)
		p, at := c.resume("/ws", "")
		sayNumbered(t, ann, 300, 400)
		if at.seq != 300-256 {
			t.Errorf("at %d, want %d", at.seq, 300-256)
		}
		p.ExpectLines(wstest.Numbered(300-256, 400)...)
	})
}

// A client that loses its connection in the middle of a flood, and comes back, hears every line at its
// position, and all of them if the history is long enough.
func TestSeam(t *testing.T) {
	t.Parallel()
	for _, history := range []int{500, 1 << 20} {
		t.Run(fmt.Sprint(history), func(t *testing.T) { testSeam(t, history) })
	}
}

func testSeam(t *testing.T, history int) {
	const speakers, each = 4, 10_000
	const all = speakers * each
	c := startChat(t, with(func(cfg *config) { cfg.history = history }))
	said := make([]string, all) // by position
	visitors := make([][]string, 4)
	witness, peers := c.join("/ws"), wstest.JoinMany(t, c.addr, speakers)
	var wg sync.WaitGroup
	wg.Go(func() { hearInto(witness, said) })
	for v := range visitors {
		visitors[v] = make([]string, all)
		wg.Go(func() {
			for at := (position{}); at.seq < all; {
				conn, err := net.Dial("tcp", c.addr)
				if err != nil {
					t.Error(err)
					return
				}
				defer conn.Close()
				p, here, err := tryResume(t, conn, "/ws", at.String())
				if err != nil {
					t.Error(err)
					return
				}
				if here.seq < at.seq || here.seq > at.seq && history > all {
					t.Errorf("asked for %v and got %v", at, here)
				}
				at = position{here.epoch, min(here.seq+750, all), here.end}
				hearInto(p, visitors[v][here.seq:at.seq])
				p.Conn.Close()
			}
		})
	}
	wg.Go(func() { wstest.Crowd{Speakers: speakers, Each: each}.Meet(peers) })
	wg.Wait()
	for v, heard := range visitors {
		for at, line := range heard {
			if line != said[at] && (line != "" || history > all) {
				t.Fatalf("visitor %d heard %q at %d, want %q", v, line, at, said[at])
			}
		}
	}
}

// hearInto fills lines with what p hears.
func hearInto(p *wstest.Client, lines []string) {
	next := p.Lines()
	for i := range lines {
		var err error
		if lines[i], err = next(); err != nil {
			p.T.Error(err)
			return
		}
	}
}

// END in the position counts a line that the Hub has not broadcast when the client comes. The client may have
// said it itself, on the connection that it lost.
func TestPendingLinesAreBeforeEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := startChat(t, inMemory)
		for range 1000 { // a fan-out takes 10 ms, divided by the processors
			go io.Copy(io.Discard, c.join("/ws").In)
		}
		ann := c.join("/ws")
		sayNumbered(t, ann, 0, 1)
		ann.Send(websocket.TextFrame, "pending")
		synctest.Wait()
		if _, at := c.resume("/ws", ""); at.end != 2 || at.seq != 0 {
			t.Errorf("announced %d of %d, want 0 of 2", at.seq, at.end)
		}
	})
}

// A client with ?events gets the people count on joining and, at most once a second, when it has changed.
func TestPeople(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := startChat(t, inMemory)
		other, ann := c.join("/ws"), c.join("/ws?events")
		if e := readEvent(t, ann); e.People != 2 || e.Now != time.Now().UnixMilli() || e.Times != nil {
			t.Errorf("on joining: got %+v, want 2 people and the time", e)
		}
		since, _ := c.resume("/ws?events=", "")
		if e := readEvent(t, since); e.People != 3 || e.Now != time.Now().UnixMilli() || e.Times != nil {
			t.Errorf("on joining with since: got %+v, want 3 people and the time", e)
		}
		for range 5 {
			c.join("/ws")
		}
		for _, p := range []*wstest.Client{ann, since} {
			if e := readEvent(t, p); e.People != 8 {
				t.Errorf("when five more have come: got %+v, want 8 people", e)
			}
		}
		other.Conn.Close()
		if e := readEvent(t, ann); e.People != 7 {
			t.Errorf("when one has left: got %+v, want 7 people", e)
		}
		ann.Send(websocket.TextFrame, "hello")
		ann.Expect(websocket.TextFrame, "hello")
	})
}

// A room of more than 1,000 people sends at most 1,000 people counts a second, on average.
func TestPeopleInALargeRoom(t *testing.T) {
	for _, people := range []int{1000, 1001, 2500} {
		synctest.Test(t, func(t *testing.T) {
			const seconds = 30
			c := startChat(t, inMemory)
			var counts atomic.Int64
			for range people {
				p := c.join("/ws?events")
				go func() {
					for {
						opcode, message, err := p.ReadFrame()
						if err != nil {
							return
						}
						if e, ok := eventIn(t, opcode, message); ok && e.People > 0 {
							counts.Add(1)
						}
					}
				}()
			}
			time.Sleep(10 * time.Second)
			before := counts.Load()
			for range seconds { // the count changes each second
				c.join("/ws")
				time.Sleep(time.Second)
			}
			sent := int(counts.Load() - before)
			if least, most := people*9, 1000*seconds+people; sent < least || sent > most {
				t.Errorf("%d people: %d counts in %d s, want %d to %d", people, sent, seconds, least, most)
			}
		})
	}
}

// Lines of the past come with the times at which they were said.
func TestTimesOfThePast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := startChat(t, inMemory)
		ann := c.join("/ws")
		began := time.Now().UnixMilli()
		for _, line := range wstest.Numbered(0, 3) {
			ann.Send(websocket.TextFrame, line)
			ann.Expect(websocket.TextFrame, line)
			time.Sleep(10 * time.Second)
		}
		bob, at := c.resume("/ws?events", "")
		readEvent(t, bob) // people
		e := readEvent(t, bob)
		if want := [][2]int64{{1, began}, {1, began + 10_000}, {1, began + 20_000}}; !slices.Equal(e.Times, want) || e.Now != began+30_000 {
			t.Errorf("got %+v, want %v", e, want)
		}
		bob.ExpectLines(wstest.Numbered(0, 3)...)
		ann.Send(websocket.TextFrame, "now")
		bob.Expect(websocket.TextFrame, "now")

		carl, _ := c.resume("/ws?events", fmt.Sprintf("%s.%d", at.epoch, 2))
		readEvent(t, carl)
		if e := readEvent(t, carl); len(e.Times) != 2 || e.Times[0] != [2]int64{1, began + 20_000} {
			t.Errorf("got %+v, want 2 times, the first of them %d", e, began+20_000)
		}
		carl.ExpectLines("line 2", "now")
	})
}

// A client with ?events gets a line or an event at least every 25 s, whatever it sends and hears. The heartbeat that
// comes with a ping, every 20 s, is in the same write.
func TestHeartbeat(t *testing.T) {
	talk := func(p *wstest.Client, period time.Duration, opcode byte, text string) {
		for time.Sleep(period); ; time.Sleep(period) {
			if _, err := p.Write(wstest.Frame(0x80|opcode, text)); err != nil {
				return
			}
		}
	}
	listener := func(c *testChat, target string) *wstest.Client {
		p := c.join(target)
		go io.Copy(io.Discard, p.In)
		return p
	}
	for name, test := range map[string]struct {
		live func(c *testChat, p *wstest.Client) // sends what the client and others send
		most int                                 // heartbeats in ten minutes
	}{
		"answers pings":        {func(_ *testChat, p *wstest.Client) {}, 30},
		"is never silent":      {func(_ *testChat, p *wstest.Client) { talk(p, 3*time.Second, websocket.PongFrame, "") }, 25},
		"pings":                {func(_ *testChat, p *wstest.Client) { talk(p, 3*time.Second, websocket.PingFrame, "") }, 25},
		"sends empty commands": {func(_ *testChat, p *wstest.Client) { talk(p, 3*time.Second, websocket.BinaryFrame, "{}") }, 25},
		"hears a line every 22 s": {func(c *testChat, p *wstest.Client) {
			talk(listener(c, "/ws"), 22*time.Second, websocket.TextFrame, "x")
		}, 31},
		"speaks every 10 s":      {func(_ *testChat, p *wstest.Client) { talk(p, 10*time.Second, websocket.TextFrame, "x") }, 0},
		"others speak in a room": {func(c *testChat, p *wstest.Client) { talk(listener(c, "/a/ws"), time.Second, websocket.TextFrame, "x") }, 30},
		"never silent, and hears": {func(c *testChat, p *wstest.Client) {
			go talk(listener(c, "/ws"), 22*time.Second, websocket.TextFrame, "x")
			talk(p, 7*time.Second, websocket.PongFrame, "")
		}, 1},
	} {
		for _, target := range []string{"/ws?events", "/ws?events&since=", "/ws?events&sender=ann.0"} {
			synctest.Test(t, func(t *testing.T) {
				c := startChat(t, inMemory)
				p := c.join(target)
				go test.live(c, p)
				defer time.Sleep(30 * time.Second) // until those who talk have noticed the end
				defer c.stop()
				const duration = 10 * time.Minute
				heartbeats, began := 0, time.Now()
				for last := began; time.Since(began) < duration; {
					opcode, message, err := p.ReadFrame()
					if err != nil {
						t.Fatal(err)
					}
					waited := time.Since(last)
					if waited > 25*time.Second {
						t.Errorf("%s, %s: no line and no event came for %v, want 25 s at most", name, target, waited)
					}
					e, ok := eventIn(t, opcode, message)
					switch {
					case opcode == websocket.PingFrame && waited > 0:
						t.Errorf("%s, %s: a ping came %v after the last event, want it with one", name, target, waited)
					case opcode == websocket.PingFrame:
						p.Send(websocket.PongFrame, "")
						continue
					case opcode == websocket.PongFrame:
						continue
					case ok && e.IsEmpty():
						heartbeats++
					}
					last = time.Now()
				}
				if heartbeats > test.most {
					t.Errorf("%s, %s: got %d heartbeats, want at most %d", name, target, heartbeats, test.most)
				}
			})
		}
	}
	synctest.Test(t, func(t *testing.T) {
		p := startChat(t, inMemory).join("/ws?events")
		readEvent(t, p)
		b := make([]byte, 1000)
		n, _ := p.Conn.Read(b)
		if length := int(b[1]); n != 2+length+2 || string(b[2+length:n]) != "\x89\x00" {
			t.Errorf("after 20 s: got %q in one write, want an event and a ping", b[:n])
		}
	})
}

// The first event of a connection has the digest that the page has, too, and no other event has it.
func TestPageDigest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := startChat(t, inMemory)
		digest := regexp.MustCompile(`<body [^>]*data-page="([0-9a-f]{16})"`)
		for target, page := range map[string]string{"/ws?events": "/", "/a/ws?events&sender=ann.0": "/a/"} {
			match := digest.FindStringSubmatch(answer(newServer(c.chat), "GET", page).Body.String())
			if match == nil {
				t.Fatalf("%s has no digest", page)
			}
			p := c.join(target)
			if e := readEvent(t, p); e.Page != match[1] {
				t.Errorf("%s: got %+v, want the page %s", target, e, match[1])
			}
			c.join(target)
			if e := readEvent(t, p); e.Page != "" || e.People != 2 {
				t.Errorf("%s: got a second event %+v, want 2 people and no page", target, e)
			}
		}
	})
}

// A client without ?events gets text alone.
func TestNoEventsUnasked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := startChat(t, inMemory)
		ann := c.join("/ws")
		bob, _ := c.resume("/ws", "")
		c.join("/ws?events")
		for range 3 { // when clients with ?events have had heartbeats
			for _, p := range []*wstest.Client{ann, bob} {
				p.Expect(websocket.PingFrame, "")
				p.Send(websocket.PongFrame, "")
			}
		}
		for _, p := range []*wstest.Client{ann, bob} {
			p.Send(websocket.TextFrame, "text")
			ann.Expect(websocket.TextFrame, "text")
			bob.Expect(websocket.TextFrame, "text")
		}
	})
}

// readAck passes over lines and other events until one acknowledges messages.
func readAck(t testing.TB, p *wstest.Client) uint64 {
	t.Helper()
	for {
		opcode, message, err := p.ReadFrame()
		if err != nil {
			t.Fatal(err)
		}
		if e, ok := eventIn(t, opcode, message); ok && e.Acked != nil {
			return *e.Acked
		}
	}
}

// A sender gets the acknowledgement of its message before the line. What it sends again is not said again, on
// any of its connections. internal/once has this in numbers.
func TestSender(t *testing.T) {
	c := startChat(t)
	other := c.join("/ws")
	expect := func(p *wstest.Client, acked uint64, line string) {
		t.Helper()
		if got := readAck(t, p); got != acked {
			t.Errorf("%d are acknowledged, want %d", got, acked)
		}
		if line != "" {
			p.Expect(websocket.TextFrame, line)
		}
	}
	first := c.join("/ws?events&sender=ann.0")
	expect(first, 0, "")
	first.Send(websocket.TextFrame, "one")
	expect(first, 1, "one")
	first.Send(websocket.TextFrame, "two")
	expect(first, 2, "two")

	second := c.join("/ws?events&sender=ann.1") // has missed the acknowledgement of two
	expect(second, 2, "")
	second.Send(websocket.TextFrame, "three")
	expect(second, 3, "three")

	expect(first, 3, "three") // is still connected
	first.Send(websocket.TextFrame, "three")
	first.Send(websocket.TextFrame, "four")
	expect(first, 4, "four")
	expect(second, 4, "four")
	other.ExpectLines("one", "two", "three", "four")
	other.Send(websocket.TextFrame, "the end")
	other.ExpectLines("the end")
}

// A client that repeats more than a flush holds does not stop the room: the Hub drops all of it and goes on.
func TestRepeatsOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := startChat(t, inMemory)
		ann := c.join("/ws")
		sender, again := c.join("/ws?events&sender=ann.0"), c.join("/ws?events&sender=ann.0")
		go io.Copy(io.Discard, sender.In)
		go io.Copy(io.Discard, again.In)
		const said = 20
		long := wstest.Frames(said, 0x81, strings.Repeat("x", 4000))
		sender.Write(long)
		next := ann.Lines()
		for range said {
			if _, err := next(); err != nil {
				t.Fatal(err)
			}
		}
		again.Write(append(long, wstest.Frame(0x81, "new")...))
		if line, err := next(); err != nil || line != "new" {
			t.Errorf("heard %.20q, %v; want new", line, err)
		}
	})
}

// Senders flood a room over connections that are cut again and again. Each of their messages is said once, in
// order.
func TestSendersWhoAreCutOff(t *testing.T) {
	c := startChat(t)
	const senders, messages = 8, 4000
	crowd := c.join("/ws")
	var sending sync.WaitGroup
	defer sending.Wait()
	for n := range senders {
		sending.Go(func() {
			for acked := 0; acked < messages && !t.Failed(); {
				acked = sendUntilCut(t, c.addr, fmt.Sprint("sender", n), acked, messages)
			}
		})
	}
	next, said := crowd.Lines(), make(map[string]int)
	for range senders * messages {
		line, err := next()
		if err != nil {
			t.Fatal(err)
		}
		var id string
		var number int
		fmt.Sscan(line, &id, &number)
		if number != said[id]+1 {
			t.Fatalf("%s said %d after %d", id, number, said[id])
		}
		said[id] = number
	}
	crowd.Send(websocket.TextFrame, "nothing more")
	if line, err := next(); line != "nothing more" {
		t.Errorf("heard %q, %v; want nothing more", line, err)
	}
}

// sendUntilCut sends messages on one connection, with up to ten of them not acknowledged, and cuts it after some
// frames. It returns the number of the last acknowledged one.
func sendUntilCut(t *testing.T, addr, id string, acked, messages int) int {
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Error(err)
		return messages
	}
	defer conn.Close()
	p, err := wstest.TryUpgrade(t, conn, fmt.Sprintf("/ws?events&sender=%s.%d", id, acked))
	if err != nil {
		t.Error(err)
		return messages
	}
	for left, sent := 20+acked%7, -1; left > 0 && acked < messages; left-- {
		opcode, message, err := p.ReadFrame()
		if err != nil {
			t.Error(err)
			return messages
		}
		if e, ok := eventIn(t, opcode, message); ok && e.Acked != nil {
			acked = int(*e.Acked)
			sent = max(sent, acked)
			for ; sent < min(acked+10, messages); sent++ {
				p.Send(websocket.TextFrame, fmt.Sprint(id, " ", sent+1))
			}
		}
	}
	return acked
}

// Everyone hears what has reached the server before it stops.
func TestStopLosesNothing(t *testing.T) {
	t.Parallel()
	for range 5 {
		c := startChat(t)
		wstest.StopWhenSaid(wstest.JoinMany(t, c.addr, 20), c.stop)
	}
}

// The same over TLS, with more readPumps than can run at once.
func TestStopOverTLSLosesNothing(t *testing.T) {
	t.Parallel()
	const peers, each = 200, 40
	certificate := newCertificate(t)
	c := startChat(t, with(func(cfg *config) { cfg.tls = certificate }))
	var speaking, listening sync.WaitGroup
	for range peers {
		p := wstest.Upgrade(t, wstest.DialTLS(t, c.addr), "/ws")
		listening.Go(func() {
			io.Copy(io.Discard, p.In)
			p.Conn.Close()
		})
		speaking.Go(func() { p.Conn.Write(wstest.Frames(each, 0x81, strings.Repeat("x", 200))) })
	}
	speaking.Wait()
	c.stop()
	listening.Wait()
	if got := c.chat.shared.counters.LinesReceived.Value(); got != peers*each {
		t.Errorf("%d lines were said, want %d", got, peers*each)
	}
}

// A stopping chat hears a peer that does not read, even behind a ping.
func TestStopHearsThoseWhoDoNotRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := startChat(t, inMemory)
		ann, stuck := c.join("/ws"), c.join("/ws")
		ann.Send(websocket.TextFrame, "hello")
		ann.Expect(websocket.TextFrame, "hello")
		synctest.Wait()
		var others sync.WaitGroup
		defer others.Wait()
		others.Go(func() { stuck.Conn.Write(append(wstest.Frame(0x89, ""), wstest.Frame(0x81, "heard?")...)) })
		synctest.Wait()
		others.Go(c.stop)
		ann.Expect(websocket.TextFrame, "heard?")
		ann.ExpectClose(1001)
		ann.Conn.Close()
		stuck.Conn.Close()
	})
}

// A stopping chat hears a peer that never pauses for 5 s. A silent peer gets its close frame after 0.2 s, even
// beside a stuck one.
func TestStopTakesTime(t *testing.T) {
	t.Run("a speech", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			c := startChat(t, inMemory)
			ann, bob := c.join("/ws"), c.join("/ws")
			began := time.Now()
			go io.Copy(io.Discard, ann.In)
			var others sync.WaitGroup
			defer others.Wait()
			others.Go(c.stop)
			others.Go(func() {
				for {
					if _, err := ann.Conn.Write(wstest.Frame(0x81, "and another thing")); err != nil {
						return
					}
					time.Sleep(50 * time.Millisecond)
				}
			})
			for at := time.Duration(0); at < 5*time.Second; at += 50 * time.Millisecond {
				bob.Expect(websocket.TextFrame, "and another thing")
			}
			if heard := linesUntilClosed(bob); heard > 1 {
				t.Errorf("heard %d lines after 5 s, want at most 1", heard)
			}
			if took := time.Since(began); took != 5*time.Second {
				t.Errorf("stopped after %v, want 5 s", took)
			}
			bob.Conn.Close()
		})
	})
	t.Run("silence", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			c := startChat(t, inMemory)
			ann := c.join("/ws")
			c.join("/ws")
			sayBesideStuck(ann, 1000)
			var others sync.WaitGroup
			defer others.Wait()
			began := time.Now()
			others.Go(c.stop)
			ann.ExpectClose(1001)
			ann.Conn.Close()
			if took := time.Since(began); took != 200*time.Millisecond {
				t.Errorf("close frame after %v, want 200 ms", took)
			}
		})
	})
}

// Peers that are silent, stuck, half connected or in the middle of a frame hold a stop for at most 10.2 s, even
// where nothing but the close frame is to be written.
func TestStopIsBounded(t *testing.T) {
	for _, lines := range []int{0, 10} {
		synctest.Test(t, func(t *testing.T) {
			c := startChat(t, inMemory)
			c.join("/ws")
			c.join("/ws").Write([]byte{0x81})
			c.dial()
			c.dial().Write([]byte("GET /ws HTTP/1.1\r\n"))
			ann := c.join("/ws")
			for range lines {
				ann.Send(websocket.TextFrame, "to peers that don't read")
			}
			began := time.Now()
			c.stop()
			if took := time.Since(began); took > 10200*time.Millisecond {
				t.Errorf("%d lines: stopped after %v, want at most 10.2 s", lines, took)
			}
		})
	}
}
