// stream_test.go: who comes back with its position hears what it missed, once.

package main

import (
	"fmt"
	"math"
	"net"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"golang.org/x/net/websocket"
)

// place is what the chat tells a client that asks for its position.
type place struct {
	epoch    string
	seq, end uint64
}

// comeBack connects with a position, or with nonsense, and returns what the chat answers.
func comeBack(t testing.TB, addr, since string) (*rawPeer, place) {
	t.Helper()
	return resume(t, dial(t, addr), since)
}

// startHolding runs a chat that holds so many lines.
func startHolding(t testing.TB, history int) (addr string, stop func()) {
	t.Helper()
	cfg := defaults
	cfg.history = history
	addr, _, stop = startWith(t, cfg)
	return addr, stop
}

func resume(t testing.TB, conn net.Conn, since string) (*rawPeer, place) {
	t.Helper()
	p := upgradeAt(t, conn, "/ws?since="+since)
	opcode, message, err := p.readFrame()
	match := regexp.MustCompile(`^([A-Za-z0-9]+) ([0-9]+) ([0-9]+)$`).FindStringSubmatch(message)
	if err != nil || opcode != websocket.TextFrame || match == nil {
		t.Fatalf("got %s, %v; want a position", show(opcode, message), err)
	}
	at := place{epoch: match[1]}
	at.seq, _ = strconv.ParseUint(match[2], 10, 64)
	at.end, _ = strconv.ParseUint(match[3], 10, 64)
	return p, at
}

// hearing returns a function that returns the next line that p hears, or an error.
func hearing(p *rawPeer) func() (string, error) {
	var waiting []string
	return func() (string, error) {
		if len(waiting) == 0 {
			opcode, message, err := p.readFrame()
			if err == nil && opcode != websocket.TextFrame {
				err = fmt.Errorf("got %s", show(opcode, message))
			}
			if err != nil {
				return "", err
			}
			waiting = strings.Split(message, "\n")
		}
		line := waiting[0]
		waiting = waiting[1:]
		return line, nil
	}
}

// expectLines reads lines.
func expectLines(t *testing.T, p *rawPeer, want ...string) {
	t.Helper()
	next := hearing(p)
	for _, line := range want {
		if got, err := next(); err != nil || got != line {
			t.Fatalf("heard %q, %v; want %q", got, err, line)
		}
	}
}

func numbered(from, to int) (lines []string) {
	for n := from; n < to; n++ {
		lines = append(lines, fmt.Sprint("line ", n))
	}
	return lines
}

// sayNumbered has p say lines and hear them.
func sayNumbered(t *testing.T, p *rawPeer, from, to int) {
	for _, line := range numbered(from, to) {
		p.send(websocket.TextFrame, line)
		p.expect(websocket.TextFrame, line)
	}
}

func TestComingBack(t *testing.T) {
	for _, test := range []struct {
		name    string
		history int
		since   string // EPOCH stands for that of the server
		seq     uint64
		lines   []string
	}{
		{"for the first time", 256, "", 0, numbered(0, 20)},
		{"to the middle", 256, "EPOCH.7", 7, numbered(7, 20)},
		{"having missed nothing", 256, "EPOCH.20", 20, nil},
		{"to the beginning", 256, "EPOCH.0", 0, numbered(0, 20)},
		{"too late", 8, "EPOCH.3", 12, numbered(12, 20)},
		{"just in time", 8, "EPOCH.12", 12, numbered(12, 20)},
		{"to the last line", 8, "EPOCH.19", 19, numbered(19, 20)},
		{"for the first time, when the ring has wrapped", 8, "", 12, numbered(12, 20)},
		{"where one line is held", 1, "", 19, numbered(19, 20)},
		{"where nothing is held", 0, "EPOCH.3", 20, nil},
		{"for the first time, where nothing is held", 0, "", 20, nil},
		{"to another run of the server", 256, "ANOTHER.7", 0, numbered(0, 20)},
		{"from the future", 256, "EPOCH.21", 0, numbered(0, 20)},
		{"with a place only", 256, "7", 0, numbered(0, 20)},
		{"with an epoch only", 256, "EPOCH", 0, numbered(0, 20)},
		{"with a number too large", 256, "EPOCH.99999999999999999999", 0, numbered(0, 20)},
		{"with a negative number", 256, "EPOCH.-1", 0, numbered(0, 20)},
		{"with nonsense", 256, "%00%ff.%zz;&since=%20", 0, numbered(0, 20)},
		{"with much nonsense", 256, strings.Repeat("x.", 4000), 0, numbered(0, 20)},
	} {
		t.Run(test.name, func(t *testing.T) {
			addr, _ := startHolding(t, test.history)
			sayNumbered(t, joinRaw(t, addr), 0, 20)
			_, here := comeBack(t, addr, "")
			p, at := comeBack(t, addr, strings.Replace(test.since, "EPOCH", here.epoch, 1))
			if at != (place{here.epoch, test.seq, 20}) {
				t.Fatalf("it is at %v, want %d", at, test.seq)
			}
			expectLines(t, p, test.lines...)
			p.send(websocket.TextFrame, "live")
			p.expect(websocket.TextFrame, "live")
		})
	}
}

// A connection that doesn't ask for a place gets none, and no past.
func TestWithoutSince(t *testing.T) {
	addr, _ := startServer(t, 4096)
	sayNumbered(t, joinRaw(t, addr), 0, 3)
	p := joinRaw(t, addr)
	p.send(websocket.TextFrame, "live")
	p.expect(websocket.TextFrame, "live")
}

func TestEachRunHasItsEpoch(t *testing.T) {
	t.Parallel()
	addr, stop := startServer(t, 4096)
	p, first := comeBack(t, addr, "")
	p.Conn.Close()
	stop()
	addr, _ = startServer(t, 4096)
	_, second := comeBack(t, addr, "")
	if first.epoch == second.epoch {
		t.Error(first, second)
	}
}

// In the middle of a flood, whoever loses its connection and comes back hears every
// line at its place; and all of them, if enough are held.
func TestSeam(t *testing.T) {
	t.Parallel()
	for _, history := range []int{1000, 1 << 20} {
		t.Run(fmt.Sprint(history), func(t *testing.T) { testSeam(t, history) })
	}
}

func testSeam(t *testing.T, history int) {
	const speakers, each = 4, 20_000
	const all = speakers * each
	addr, _ := startHolding(t, history)
	said := make([]string, all) // by place
	visitors := make([][]string, 4)
	witness, peers := joinRaw(t, addr), joinMany(t, addr, speakers)
	var wg sync.WaitGroup
	wg.Go(func() { hearFrom(witness, said) })
	for v := range visitors {
		visitors[v] = make([]string, all)
		wg.Go(func() {
			for at := (place{}); at.seq < all; {
				p, here := comeBack(t, addr, at.epoch+"."+fmt.Sprint(at.seq))
				if here.seq < at.seq || here.seq > at.seq && history > all {
					t.Errorf("sent from %v to %v", at, here)
				}
				at = place{here.epoch, min(here.seq+1500, all), here.end}
				hearFrom(p, visitors[v][here.seq:at.seq])
				p.Conn.Close()
			}
		})
	}
	wg.Go(func() { crowd{speakers, each, 0}.meet(peers) })
	wg.Wait()
	for v, heard := range visitors {
		for place, line := range heard {
			if line != said[place] && (line != "" || history > all) {
				t.Fatalf("visitor %d heard %q at %d, where %q was said", v, line, place, said[place])
			}
		}
	}
}

// hearFrom has p hear as many lines as there is room for.
func hearFrom(p *rawPeer, lines []string) {
	next := hearing(p)
	for i := range lines {
		var err error
		if lines[i], err = next(); err != nil {
			p.t.Error(err)
			return
		}
	}
}

// What a slow peer has not been told yet waits for it, and so does what is said since.
func TestPastOfAStuckPeer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, _ := startInBubble(t)
		ann := upgrade(t, l.dial(t))
		sayNumbered(t, ann, 0, 300)
		stuck := l.dial(t)
		p, at := resume(t, stuck, "")
		sayNumbered(t, ann, 300, 400)
		if at.seq != 300-256 {
			t.Error(at)
		}
		expectLines(t, p, numbered(300-256, 400)...)
	})
}

// The stream holds the lines of the history and those that are needed, and little else,
// however many lines a frame has; and it is read from any line on, in any portions.
func TestStreamHoldsWhatIsNeeded(t *testing.T) {
	const history, longestFrame = 100, 50
	for _, needed := range []int{math.MaxInt, 0, 700} {
		s := newStream(history)
		var said []string
		for n := range 200 {
			lines := numbered(len(said), len(said)+1+n*7%longestFrame)
			said = append(said, lines...)
			s.add(textFrame([]byte(strings.Join(lines, "\n") + "\n")))
			s.trim(uint64(needed))
			start := max(0, len(said)-history)
			if at := s.find(""); at.lines != uint64(start) {
				t.Fatalf("after %d lines the history begins with %d", len(said), at.lines)
			}
			if held := len(said) - int(s.start(0).lines); held >= len(said)-min(needed, start)+longestFrame {
				t.Fatalf("%d lines of %d are held", held, len(said))
			}
			for _, from := range []int{min(needed, start), start, len(said) - 1, len(said)} {
				if got := readAll(&s, from, 1+n*10); !slices.Equal(got, said[from:]) {
					t.Fatalf("from %d on: %q", from, got)
				}
			}
		}
	}
}

// readAll reads a stream from a line on, so many bytes at a time.
func readAll(s *stream, from, limit int) (lines []string) {
	for at := s.at(uint64(from)); at != s.end; {
		var frames []*frame
		frames, at = s.read(at, limit)
		for _, f := range frames {
			lines = append(lines, strings.Split(strings.TrimSuffix(string(f.lines), "\n"), "\n")...)
		}
	}
	return lines
}

// However long the history is, joining costs the same.
func TestJoinWithALongHistory(t *testing.T) {
	costs := func(lines int) float64 {
		s := newStream(lines)
		for range lines {
			s.add(textFrame([]byte("hello\n")))
		}
		since := fmt.Sprint(s.epoch, ".", lines/2)
		return testing.AllocsPerRun(100, func() {
			at := s.find(since)
			s.announce(at)
			s.read(at, sendWindow)
		})
	}
	if short, long := costs(1<<10), costs(1<<20); long != short {
		t.Errorf("%v allocations, and %v with a short history", long, short)
	}
}
