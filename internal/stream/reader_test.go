package stream

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
)

// Read returns frames of at most limit bytes, but at least one. Each frame costs 24 bytes beside its
// lines. The size is that of the lines. The memory that it takes does not depend on the rest of the
// stream.
func TestReadLimit(t *testing.T) {
	for _, test := range []struct {
		size   int // of each frame, which is one line
		limit  uint64
		frames int
	}{
		{76, 1000, 10}, {76, 999, 9}, {76, 100, 1}, {76, 99, 1}, {76, 0, 1}, {76, 1 << 20, 100},
		{1, 100, 4}, {1, 124, 4}, {1, 125, 5}, {1000, 10, 1}, {1000, 2047, 1}, {1000, 2048, 2},
	} {
		s := New(256)
		for n := range 100 {
			s.Append(TextFrame([]byte(strings.Repeat("x", test.size-1)+"\n")), int64(n))
		}
		r := s.NewReaderSince("")
		entries, size := r.Read(s, test.limit)
		if len(entries) != test.frames || size != test.frames*test.size || r.Line() != uint64(test.frames) || cap(entries) > test.frames+20 {
			t.Errorf("%+v: got %d frames of %d bytes, up to line %d, and space for %d frames", test, len(entries), size, r.Line(), cap(entries))
		}
		if last := entries[len(entries)-1]; last.At != int64(test.frames-1) {
			t.Errorf("%+v: got the last frame said at %d, want %d", test, last.At, test.frames-1)
		}
	}
}

// A connection lags by the bytes that were said since it came, less all that it has read since then. So it
// does not lag for the history, and may take its time to read that. Once it has caught up with the stream,
// the history no longer counts.
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
		said, read int // frames; only late reads
		late, live int64
	}{
		{0, 0, 0, 0}, {5, 0, 500, 500}, {0, 3, 200, 500}, {0, 3, 0, 500}, {2, 0, 200, 700},
		{0, 11, 0, 700}, {4, 0, 400, 1100}, {0, 1, 300, 1100},
	} {
		say(test.said)
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

// Through appends, trims, joins and reads at random, each reader gets each line from its place on, once
// and in order. The stream holds the history, the lines that are needed, and less than a frame more.
func TestEveryReaderGetsEveryLine(t *testing.T) {
	const longest = 30 // lines of a frame
	for seed := range uint64(20) {
		random := rand.New(rand.NewPCG(seed, 0))
		history := random.IntN(3) * random.IntN(100)
		s, end := New(history), 0
		var readers []*Reader
		read := func(r *Reader, limit uint64) {
			from := int(r.Line())
			entries, _ := r.Read(s, limit)
			var got string
			for _, e := range entries {
				got += string(e.Frame.Lines)
			}
			if want := numbered(from, int(r.Line())); got != want || from < end && got == "" {
				t.Fatalf("seed %d: got %q, want %q", seed, got, want)
			}
		}
		for range 150 {
			switch random.IntN(4) {
			case 0:
				n := 1 + random.IntN(longest)
				s.Append(TextFrame([]byte(numbered(end, end+n))), 0)
				end += n
			case 1:
				needed := max(0, end-history)
				for _, r := range readers {
					needed = min(needed, int(r.Line()))
				}
				s.Trim(uint64(needed))
				if first := int(s.start(0).Lines); first > needed || first <= needed-longest {
					t.Fatalf("seed %d: got lines from %d on held, want from %d on", seed, first, needed)
				}
			case 2:
				since := random.IntN(end + 1)
				r := s.NewReaderSince(fmt.Sprint(s.Epoch(), ".", since))
				if want := max(since, end-history); int(r.Line()) != want {
					t.Fatalf("seed %d: got line %d, want %d", seed, r.Line(), want)
				}
				readers = append(readers, &r)
			case 3:
				if len(readers) > 0 {
					read(readers[random.IntN(len(readers))], random.Uint64N(2000))
				}
			}
		}
		for _, r := range readers {
			for !r.AtEnd(s) {
				read(r, 1000)
			}
			if int(r.Line()) != end {
				t.Errorf("seed %d: got line %d at the end, want %d", seed, r.Line(), end)
			}
		}
	}
}
