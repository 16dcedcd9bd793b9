package main

import (
	"fmt"
	"math"
	"net"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"golang.org/x/net/websocket"

	"example.com/chat/internal/wstest"
)

// announcement is what the chat tells a client that joins with ?since=.
type announcement struct {
	epoch    string
	seq, end uint64
}

// comeBack connects with a position, or with nonsense, and returns what the chat answers.
func comeBack(t testing.TB, addr, since string) (*wstest.Client, announcement) {
	t.Helper()
	return resume(t, wstest.Dial(t, addr), "/ws", since)
}

// startHolding runs a chat with -history.
func startHolding(t testing.TB, history int) (addr string, stop func()) {
	t.Helper()
	cfg := defaults
	cfg.history = history
	addr, _, stop = startWith(t, cfg)
	return addr, stop
}

// resume is comeBack on a connection, to a target such as /lobby/ws.
func resume(t testing.TB, conn net.Conn, target, since string) (*wstest.Client, announcement) {
	t.Helper()
	p, at, err := tryResume(t, conn, target, since)
	if err != nil {
		t.Fatal(err)
	}
	return p, at
}

// tryResume is resume for any goroutine.
func tryResume(t testing.TB, conn net.Conn, target, since string) (p *wstest.Client, at announcement, err error) {
	separator := "?"
	if strings.Contains(target, "?") {
		separator = "&"
	}
	if p, err = wstest.TryUpgrade(t, conn, target+separator+"since="+since); err != nil {
		return p, at, err
	}
	opcode, message, err := p.ReadFrame()
	match := regexp.MustCompile(`^([A-Za-z0-9]+) ([0-9]+) ([0-9]+)$`).FindStringSubmatch(message)
	if err != nil || opcode != websocket.TextFrame || match == nil {
		return p, at, fmt.Errorf("got %s, %v; want a position", wstest.Show(opcode, message), err)
	}
	at.epoch = match[1]
	at.seq, _ = strconv.ParseUint(match[2], 10, 64)
	at.end, _ = strconv.ParseUint(match[3], 10, 64)
	return p, at, nil
}

// sayNumbered has p say lines and hear them.
func sayNumbered(t *testing.T, p *wstest.Client, from, to int) {
	for _, line := range wstest.Numbered(from, to) {
		p.Send(websocket.TextFrame, line)
		p.Expect(websocket.TextFrame, line)
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
		{"for the first time", 256, "", 0, wstest.Numbered(0, 20)},
		{"to the middle", 256, "EPOCH.7", 7, wstest.Numbered(7, 20)},
		{"having missed nothing", 256, "EPOCH.20", 20, nil},
		{"to the beginning", 256, "EPOCH.0", 0, wstest.Numbered(0, 20)},
		{"too late", 8, "EPOCH.3", 12, wstest.Numbered(12, 20)},
		{"just in time", 8, "EPOCH.12", 12, wstest.Numbered(12, 20)},
		{"to the last line", 8, "EPOCH.19", 19, wstest.Numbered(19, 20)},
		{"for the first time, when the ring has wrapped", 8, "", 12, wstest.Numbered(12, 20)},
		{"where one line is held", 1, "", 19, wstest.Numbered(19, 20)},
		{"where nothing is held", 0, "EPOCH.3", 20, nil},
		{"for the first time, where nothing is held", 0, "", 20, nil},
		{"to another run of the server", 256, "ANOTHER.7", 0, wstest.Numbered(0, 20)},
		{"from the future", 256, "EPOCH.21", 0, wstest.Numbered(0, 20)},
		{"with a number only", 256, "7", 0, wstest.Numbered(0, 20)},
		{"with an epoch only", 256, "EPOCH", 0, wstest.Numbered(0, 20)},
		{"with a number too large", 256, "EPOCH.99999999999999999999", 0, wstest.Numbered(0, 20)},
		{"with a negative number", 256, "EPOCH.-1", 0, wstest.Numbered(0, 20)},
		{"with nonsense", 256, "%00%ff.%zz;&since=%20", 0, wstest.Numbered(0, 20)},
		{"with much nonsense", 256, strings.Repeat("x.", 4000), 0, wstest.Numbered(0, 20)},
	} {
		t.Run(test.name, func(t *testing.T) {
			addr, _ := startHolding(t, test.history)
			sayNumbered(t, wstest.Join(t, addr), 0, 20)
			_, here := comeBack(t, addr, "")
			p, at := comeBack(t, addr, strings.Replace(test.since, "EPOCH", here.epoch, 1))
			if at != (announcement{here.epoch, test.seq, 20}) {
				t.Fatalf("it is at %v, want %d", at, test.seq)
			}
			p.ExpectLines(test.lines...)
			p.Send(websocket.TextFrame, "live")
			p.Expect(websocket.TextFrame, "live")
		})
	}
}

// A connection that doesn't ask for its position gets none, and no past.
func TestWithoutSince(t *testing.T) {
	addr, _ := startServer(t, 4096)
	sayNumbered(t, wstest.Join(t, addr), 0, 3)
	p := wstest.Join(t, addr)
	p.Send(websocket.TextFrame, "live")
	p.Expect(websocket.TextFrame, "live")
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

// A peer that loses its connection in the middle of a flood and comes back hears every
// line at its position; and all of them, if enough are held.
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
	said := make([]string, all) // by position
	visitors := make([][]string, 4)
	witness, peers := wstest.Join(t, addr), wstest.JoinMany(t, addr, speakers)
	var wg sync.WaitGroup
	wg.Go(func() { hearFrom(witness, said) })
	for v := range visitors {
		visitors[v] = make([]string, all)
		wg.Go(func() {
			for at := (announcement{}); at.seq < all; {
				conn, err := net.Dial("tcp", addr)
				if err != nil {
					t.Error(err)
					return
				}
				defer conn.Close()
				p, here, err := tryResume(t, conn, "/ws", at.epoch+"."+fmt.Sprint(at.seq))
				if err != nil {
					t.Error(err)
					return
				}
				if here.seq < at.seq || here.seq > at.seq && history > all {
					t.Errorf("sent from %v to %v", at, here)
				}
				at = announcement{here.epoch, min(here.seq+1500, all), here.end}
				hearFrom(p, visitors[v][here.seq:at.seq])
				p.Conn.Close()
			}
		})
	}
	wg.Go(func() { wstest.Crowd{Speakers: speakers, Each: each}.Meet(peers) })
	wg.Wait()
	for v, heard := range visitors {
		for at, line := range heard {
			if line != said[at] && (line != "" || history > all) {
				t.Fatalf("visitor %d heard %q at %d, where %q was said", v, line, at, said[at])
			}
		}
	}
}

// hearFrom has p hear as many lines as there is room for.
func hearFrom(p *wstest.Client, lines []string) {
	next := p.Lines()
	for i := range lines {
		var err error
		if lines[i], err = next(); err != nil {
			p.T.Error(err)
			return
		}
	}
}

// What a slow peer has not been told yet waits for it, and so does what is said since.
func TestPastOfAStuckPeer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, _ := startInBubble(t)
		ann := wstest.Upgrade(t, l.Dial(t), "/ws")
		sayNumbered(t, ann, 0, 300)
		stuck := l.Dial(t)
		p, at := resume(t, stuck, "/ws", "")
		sayNumbered(t, ann, 300, 400)
		if at.seq != 300-256 {
			t.Error(at)
		}
		p.ExpectLines(wstest.Numbered(300-256, 400)...)
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
			lines := wstest.Numbered(len(said), len(said)+1+n*7%longestFrame)
			said = append(said, lines...)
			s.add(textFrame([]byte(strings.Join(lines, "\n")+"\n")), 0)
			s.trim(uint64(needed))
			start := max(0, len(said)-history)
			if at := s.find(""); at.lines != uint64(start) {
				t.Fatalf("after %d lines the history begins with %d", len(said), at.lines)
			}
			if held := len(said) - int(s.start(0).lines); held >= len(said)-min(needed, start)+longestFrame {
				t.Fatalf("%d lines of %d are held", held, len(said))
			}
			for _, from := range []int{min(needed, start), start, len(said) - 1, len(said)} {
				if got := readAll(&s, from, 1+n*50); !slices.Equal(got, said[from:]) {
					t.Fatalf("from %d on: %q", from, got)
				}
			}
		}
	}
}

// readAll reads a stream from a line on, up to limit bytes at a time.
func readAll(s *stream, from, limit int) (lines []string) {
	for at := s.at(uint64(from)); at != s.end; {
		var frames []heldFrame
		frames, at = s.read(at, uint64(limit))
		for _, f := range frames {
			lines = append(lines, strings.Split(strings.TrimSuffix(string(f.frame.lines), "\n"), "\n")...)
		}
	}
	return lines
}

// A line that the Hub has read but not broadcast when a client comes is before END: the client may have
// said it itself, on its connection before.
func TestPendingLinesAreBeforeEnd(t *testing.T) {
	h := newTestHub(256)
	h.stream.add(textFrame([]byte("one\n")), 0)
	h.coalesce(connFrame{newConn(h, nil), textFrame([]byte("two\nthree\n"))})
	want := newFrame(websocket.TextFrame, []byte(h.stream.epoch+" 0 3"))
	if got := h.announcement(h.stream.find("")); string(got.bytes) != string(want.bytes) {
		t.Errorf("announced with %q, want %q", got.bytes, want.bytes)
	}
}

// However long the history is, joining takes the same memory.
func TestJoinWithALongHistory(t *testing.T) {
	const joins = 100
	cost := func(lines int) uint64 {
		h := newTestHub(lines)
		s := &h.stream
		for range lines {
			s.add(textFrame([]byte("hello\n")), 0)
		}
		since := fmt.Sprint(s.epoch, ".", lines/2)
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		for range joins {
			at := s.find(since)
			h.announcement(at)
			s.read(at, sendWindow)
		}
		runtime.ReadMemStats(&after)
		return (after.TotalAlloc - before.TotalAlloc) / joins
	}
	if short, long := cost(1<<13), cost(1<<20); long > short*3/2 {
		t.Errorf("%d bytes, and %d with a short history", long, short)
	}
}
