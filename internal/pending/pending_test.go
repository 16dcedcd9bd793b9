package pending

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"example.com/chat/internal/once"
	"example.com/chat/internal/stream"
)

// line returns a line of size bytes, or "" if size is 0.
func line(size int) string {
	if size == 0 {
		return ""
	}
	return strings.Repeat("x", size-1) + "\n"
}

// remote returns a part of another chat, with lines from a number on. Without lines it only marks that number.
func remote(first uint64, lines string) Part {
	if lines == "" {
		return Part{"other", first, 1, nil}
	}
	return Part{"other", first, uint64(strings.Count(lines, "\n")), stream.TextFrame([]byte(lines))}
}

// Local lines are enough with more than 32 KiB, and so are local and remote lines together, with 128 bytes
// for each part. Remote lines are too many with more than 4 MiB. A message that was received before
// counts until the next flush.
func TestFull(t *testing.T) {
	type state struct {
		size                               int // bytes of the next flush
		empty, localFull, remoteFull, full bool
	}
	for _, test := range []struct {
		name   string
		local  int   // bytes of messages, which may all be repeated
		remote []int // bytes of each part; 0 for a mark
		want   state
	}{
		{"nothing", 0, nil, state{empty: true}},
		{"a repeated message, which a flush must remove", 10, nil, state{size: 10}},
		{"32 KiB", 32 << 10, nil, state{size: 32768}},
		{"a byte more", 32<<10 + 1, nil, state{size: 32769, localFull: true, full: true}},
		{"remote lines", 0, []int{10_000, 22_768 - 256}, state{size: 32768}},
		{"local and remote lines", 10_000, []int{22_768 - 127}, state{size: 32769, full: true}},
		{"4 MiB", 0, []int{4<<20 - 256, 0}, state{size: 32768, full: true}},
		{"a byte more than 4 MiB", 0, []int{4<<20 - 255, 0}, state{size: 32768, full: true, remoteFull: true}},
	} {
		var p Lines
		p.Add(nil, test.local)
		for _, size := range test.remote {
			p.AddRemote(remote(1, line(size)))
		}
		if got := (state{p.Size(), p.Empty(), p.LocalFull(), p.RemoteFull(), p.Full()}); got != test.want {
			t.Errorf("%s: got %+v, want %+v", test.name, got, test.want)
		}
	}
}

// A flush has the local lines, and after them the remote lines that were not accepted before. It changes
// the marks with them, and no line is marked before its flush. Nothing is pending after it.
func TestTake(t *testing.T) {
	for _, test := range []struct {
		name     string
		remote   []Part
		want     string // the frames after those of the local lines; "|" ends a frame
		repeated uint64
		refused  uint64
		mark     once.Mark // 3 before
	}{
		{"only local lines", nil, "", 0, 0, 3},
		{"new lines", []Part{remote(4, "d\n"), remote(5, "e\nf\n")}, "d\n|e\nf\n|", 0, 0, 6},
		{"repeated lines", []Part{remote(1, "x\ny\n"), remote(3, "z\nd\n")}, "d\n|", 3, 0, 4},
		{"lines with a gap before them", []Part{remote(10, "d\n"), remote(7, "e\n")}, "d\n|", 1, 0, 10},
		{"marks", []Part{remote(2, ""), remote(9, ""), remote(8, "x\n")}, "", 1, 0, 9},
		{"numbers that no chat has", []Part{remote(1<<62, "x\ny\n"), remote(1<<62, ""), remote(4, "d\n")}, "d\n|", 0, 2, 4},
	} {
		var p Lines
		marks := once.Marks{"other": {Number: 3}}
		p.Add(stream.TextFrame([]byte("a\n")), 2)
		for _, r := range test.remote {
			p.AddRemote(r)
		}
		p.Add(stream.TextFrame([]byte("b\nc\n")), 4)
		before := fmt.Sprint(marks["other"].Number, Count(p.Frames()))
		frames, repeated, refused := p.Take(marks, time.Now())
		got := ""
		for _, f := range frames {
			got += string(f.Lines) + "|"
		}
		if want := "a\n|b\nc\n|" + test.want; got != want || string(p.Local()) != "a\nb\nc\n" || repeated != test.repeated || refused != test.refused || marks["other"].Number != test.mark {
			t.Errorf("%s: got %q, local lines %q, %d repeated, %d refused, mark %d; want %q, %d, %d, %d",
				test.name, got, p.Local(), repeated, refused, marks["other"].Number, want, test.repeated, test.refused, test.mark)
		}
		if p.Done(); before != "3 3" || !p.Empty() || p.Full() || p.Size() != 0 || len(p.Frames()) != 0 || p.Local() != nil {
			t.Errorf("%s: got mark and local lines %s before the flush, and %+v after it; want 3 3, and nothing", test.name, before, p)
		}
	}
}

// Of remote lines, parts go into a flush until they have more than 32 KiB, even if their lines are repeated.
// Marks have no size. The next flush has the next parts.
func TestTakeIsBounded(t *testing.T) {
	for _, test := range []struct{ sizes, want []int }{ // of the parts, 0 for a mark; number of parts in each flush
		{[]int{32 << 10, 2, 2}, []int{2, 1}},
		{[]int{32<<10 + 1, 2, 1 << 20, 2}, []int{1, 2, 1}},
		{slices.Repeat([]int{0}, 1000), []int{1000}},
	} {
		for _, mark := range []once.Mark{0, 1000} { // all lines are new, or all are repeated
			var p Lines
			for i, size := range test.sizes {
				p.AddRemote(remote(uint64(i+1), line(size)))
			}
			var got []int
			for left := len(p.remote); left > 0; left = len(p.remote) {
				p.Take(once.Marks{"other": {Number: mark}}, time.Now())
				p.Done()
				got = append(got, left-len(p.remote))
			}
			if !slices.Equal(got, test.want) || p.Size() != 0 {
				t.Errorf("parts of %.20v bytes, mark %d: got %v parts in the flushes, and %d bytes left; want %v, 0", test.sizes, mark, got, p.Size(), test.want)
			}
		}
	}
}
