package stream

import (
	"bytes"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
)

// say appends frames of one line with size bytes. Frame n was said at the time n.
func say(s *Stream, frames, size int) {
	for n := range frames {
		s.Append(TextFrame([]byte(strings.Repeat("x", size-1)+"\n")), int64(n))
	}
}

// Read returns frames of at most limit bytes, but at least one. Each frame costs 24 bytes beside its lines. The
// size is that of the lines. The memory that Read takes does not depend on the rest of the stream.
func TestReadLimit(t *testing.T) {
	for _, test := range []struct{ frame, limit, want int }{
		{76, 1000, 10}, {76, 999, 9}, {76, 0, 1}, {76, 1 << 20, 100}, {1, 124, 4}, {1, 125, 5},
	} {
		s := New(256)
		say(s, 100, test.frame)
		r := s.NewReaderSince("")
		entries, size := r.Read(s, uint64(test.limit))
		if last := entries[len(entries)-1].At; len(entries) != test.want || last != int64(test.want-1) ||
			size != test.want*test.frame || r.Line() != uint64(test.want) || cap(entries) > test.want+20 {
			t.Errorf("%+v: got %d frames of %d bytes, the last said at %d, line %d after them, and space for %d", test, len(entries), size, last, r.Line(), cap(entries))
		}
	}
}

// A connection lags by the bytes that were said since it came, less all that it has read since then. So it
// does not lag for the history, and may take its time to read that. Once it has caught up with the stream,
// the history no longer counts.
func TestLag(t *testing.T) {
	s := New(256)
	say(s, 10, 100)
	late, live := s.NewReaderSince(""), s.NewReader()
	for i, test := range []struct{ said, read, late, live int64 }{ // frames, those that late reads, and the lags
		{0, 0, 0, 0}, {5, 0, 500, 500}, {0, 6, 0, 500}, {2, 0, 200, 700}, {0, 11, 0, 700}, {4, 0, 400, 1100}, {0, 1, 300, 1100},
	} {
		say(s, int(test.said), 100)
		for range test.read {
			late.Read(s, 0)
		}
		if late.Lag(s) != test.late || live.Lag(s) != test.live {
			t.Errorf("step %d: got lags %d and %d, want %d and %d", i, late.Lag(s), live.Lag(s), test.late, test.live)
		}
	}
	if live.Skip(s); !live.AtEnd(s) || live.Lag(s) != 0 {
		t.Errorf("after Skip: got a lag of %d, want 0 at the end", live.Lag(s))
	}
}

// A stream that takes more memory than it may drops the oldest frames, of the history, too, but none that a
// connection needs. A client that comes back then gets what is left. A frame takes its lines, 10 bytes for its
// header, and 192 bytes.
func TestTrim(t *testing.T) {
	for _, test := range []struct {
		history      int
		needed       uint64
		most         int64
		first, start uint64 // line with which the stream begins, and a client that asks for everything
	}{
		{256, 100, math.MaxInt64, 0, 0},
		{5, 100, math.MaxInt64, 95, 95},
		{5, 50, math.MaxInt64, 50, 95},
		{256, 100, 100 * 302, 0, 0},
		{256, 100, 100*302 - 1, 1, 1},
		{256, 100, 10 * 302, 90, 90},
		{256, 100, 0, 100, 100},
		{256, 70, 0, 70, 70},
		{5, 100, 10 * 302, 95, 95},
		{5, 100, 2 * 302, 98, 98},
	} {
		s := New(test.history)
		say(s, 100, 100)
		if s.Size() != 100*302 {
			t.Errorf("got a size of %d bytes with 100 frames of 100 bytes, want 30,200", s.Size())
		}
		s.Trim(test.needed, test.most)
		if r := s.NewReaderSince(""); s.start(0).Lines != test.first || r.Line() != test.start {
			t.Errorf("%+v: got lines from %d on, and %d for a client; want %d and %d", test, s.start(0).Lines, r.Line(), test.first, test.start)
		}
	}
}

// Through appends, trims, joins and reads at random, each reader gets each line from its place on, once and in
// order, with its time. The stream holds the history and the lines that are needed, and no frame before them.
func TestEveryReaderGetsEveryLine(t *testing.T) {
	for seed := range uint64(20) {
		random := rand.New(rand.NewPCG(seed, 0))
		history, end := random.IntN(3)*random.IntN(100), 0
		s := New(history)
		readers := []*Reader{new(s.NewReader())}
		read := func(r *Reader, limit uint64) {
			from, got := int(r.Line()), ""
			entries, _ := r.Read(s, limit)
			for _, e := range entries {
				got += string(e.Frame.Bytes[bytes.IndexByte(e.Frame.Bytes, 'l'):]) + "\n"
				if e.Frame.At != e.At {
					t.Fatalf("seed %d: got a frame at %d, want %d", seed, e.Frame.At, e.At)
				}
			}
			if want := numbered(from, int(r.Line())); got != want || from < end && got == "" {
				t.Fatalf("seed %d: got %q, want %q", seed, got, want)
			}
		}
		for range 150 {
			switch random.IntN(4) {
			case 0:
				n := 1 + random.IntN(30)
				f := TextFrame([]byte(numbered(end, end+n)))
				f.At = int64(end)
				s.Append(f, f.At)
				end += n
			case 1:
				needed := end
				for _, r := range readers {
					needed = min(needed, int(r.Line()))
				}
				s.Trim(uint64(needed), math.MaxInt64)
				needed = min(needed, max(0, end-history))
				if first, next := int(s.start(0).Lines), int(s.start(1).Lines); first > needed || next <= needed && first < end {
					t.Fatalf("seed %d: got lines from %d on held, the next frame from %d on; want from %d on", seed, first, next, needed)
				}
			case 2:
				readers = append(readers, new(s.NewReaderSince(fmt.Sprint(s.Epoch(), ".", random.IntN(end+1)))))
			case 3:
				read(readers[random.IntN(len(readers))], random.Uint64N(2000))
			}
		}
		for _, r := range readers {
			for !r.AtEnd(s) {
				read(r, 1000)
			}
		}
	}
}
