package stream

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"strings"
	"testing"

	"example.com/chat/internal/lines"
)

// Read returns frames of at most limit bytes, of which each frame costs 24 beside its lines, but at least one frame. Its size
// is that of the lines.
func TestReadLimit(t *testing.T) {
	for _, test := range []struct {
		size   int // of each frame, which is one line
		limit  uint64
		frames int
	}{
		{76, 1000, 10}, {76, 999, 9}, {76, 100, 1}, {76, 99, 1}, {76, 0, 1}, {1, 100, 4}, {1, 125, 5},
		{1000, 10, 1}, {1000, 2047, 1}, {1000, 2048, 2}, {76, 1 << 20, 20},
	} {
		s := New(256)
		for n := range 20 {
			s.Append(TextFrame([]byte(strings.Repeat("x", test.size-1)+"\n")), int64(n))
		}
		r := s.NewReaderSince("")
		entries, size := r.Read(s, test.limit)
		if len(entries) != test.frames || size != test.frames*test.size || r.Line() != uint64(test.frames) {
			t.Errorf("%+v: got %d frames of %d bytes, up to line %d", test, len(entries), size, r.Line())
		}
		for i, e := range entries {
			if e.At != int64(i) {
				t.Errorf("%+v: got frame %d said at %d, want %d", test, i, e.At, i)
			}
		}
	}
}

// A reader whose place lies within a frame reads the rest of that frame first. The frame in the stream remains whole.
func TestReadWithinAFrame(t *testing.T) {
	s := filled(256, 10)
	r := s.NewReaderSince(s.Epoch() + ".7")
	entries, _ := r.Read(s, 0)
	if got := string(entries[0].Frame.Lines); len(entries) != 1 || got != said(7, 10) || r.Line() != 10 {
		t.Errorf("got %d frames, %q, up to line %d; want the rest of the first frame", len(entries), got, r.Line())
	}
	if got := string(s.entries[0].Frame.Lines); got != said(0, 10) {
		t.Errorf("got the stream's frame %q, want it as it was", got)
	}
	r.Read(s, 1<<20)
	if entries, size := r.Read(s, 1<<20); len(entries) != 0 || size != 0 || !r.AtEnd(s) {
		t.Errorf("at the end: got %d frames of %d bytes, want none", len(entries), size)
	}
}

// The lag of a connection is what was said since it came, less what it has read since then, as long as it has not caught up.
// So it does not lag for the history, and a connection that gets a long one may read it as slowly as any other.
func TestLag(t *testing.T) {
	s := New(256)
	say := func(frames int) {
		for range frames {
			s.Append(TextFrame([]byte(strings.Repeat("x", 99)+"\n")), 0)
		}
	}
	say(10)
	late, live := s.NewReaderSince(""), s.NewReader()
	for i, test := range []struct {
		said, read int        // frames, the latter by late
		want       [2]int64 // of late and live
	}{
		{0, 0, [2]int64{0, 0}},
		{5, 0, [2]int64{500, 500}},
		{0, 3, [2]int64{200, 500}},
		{0, 3, [2]int64{0, 500}},
		{2, 0, [2]int64{200, 700}},
		{0, 11, [2]int64{0, 700}}, // it has caught up
		{4, 0, [2]int64{400, 1100}},
		{0, 1, [2]int64{300, 1100}},
	} {
		say(test.said)
		for range test.read {
			late.Read(s, 0)
		}
		if got := [2]int64{late.Lag(s), live.Lag(s)}; got != test.want {
			t.Errorf("step %d: got lags %d, want %d", i, got, test.want)
		}
	}
	live.Skip(s)
	if !live.AtEnd(s) || live.Lag(s) != 0 {
		t.Errorf("skipped: got a lag of %d, want 0", live.Lag(s))
	}
}

// At random appends, trims, joins and reads, each reader gets each line from its place on, once and in order. The stream
// holds the history, the lines that are needed, and less than a frame more.
func TestEveryReaderGetsEveryLine(t *testing.T) {
	type client struct {
		reader Reader
		next   int
	}
	const longest = 30
	for seed := range uint64(200) {
		random := rand.New(rand.NewPCG(seed, 0))
		history := random.IntN(3) * random.IntN(100)
		s, end := New(history), 0
		var clients []*client
		for range 200 {
			switch random.IntN(4) {
			case 0:
				n := 1 + random.IntN(longest)
				s.Append(TextFrame([]byte(said(end, end+n))), 0)
				end += n
			case 1:
				needed := end
				for _, c := range clients {
					needed = min(needed, int(c.reader.Line()))
				}
				s.Trim(uint64(needed))
				if first, want := int(s.start(0).Lines), min(needed, max(0, end-history)); first > want || first <= want-longest {
					t.Fatalf("seed %d: got lines from %d on held, want from %d on", seed, first, want)
				}
			case 2:
				since := random.IntN(end + 1)
				c := &client{s.NewReaderSince(fmt.Sprint(s.Epoch(), ".", since)), max(since, min(end, max(0, end-history)))}
				if since < int(s.historyStart()) {
					c.next = int(s.historyStart())
				}
				clients = append(clients, c)
			default:
				if len(clients) == 0 {
					continue
				}
				c := clients[random.IntN(len(clients))]
				entries, _ := c.reader.Read(s, random.Uint64N(2000))
				for _, e := range entries {
					n := lines.Count(e.Frame.Lines)
					if got, want := string(e.Frame.Lines), said(c.next, c.next+n); got != want {
						t.Fatalf("seed %d: got %q, want %q", seed, got, want)
					}
					c.next += n
				}
				if int(c.reader.Line()) != c.next {
					t.Fatalf("seed %d: got place %d, want %d", seed, c.reader.Line(), c.next)
				}
			}
		}
		for _, c := range clients {
			if got, want := readAll(s, &c.reader, 1000), said(c.next, end); got != want {
				t.Fatalf("seed %d: got %q at the end, want %q", seed, got, want)
			}
		}
	}
}

// A join takes the same memory, however long the history is.
func TestJoinWithALongHistory(t *testing.T) {
	const joins = 100
	cost := func(lines int) uint64 {
		s := New(lines)
		f := TextFrame([]byte("hello\n"))
		for range lines {
			s.Append(f, 0)
		}
		since := fmt.Sprint(s.Epoch(), ".", lines/2)
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		for range joins {
			r := s.NewReaderSince(since)
			r.Read(s, 64<<10)
		}
		runtime.ReadMemStats(&after)
		return (after.TotalAlloc - before.TotalAlloc) / joins
	}
	if short, long := cost(1<<13), cost(1<<20); long > short*3/2 {
		t.Errorf("got %d bytes with a long history, and %d with a short one; want about as many", long, short)
	}
}
