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

// now is the time of a flush.
var now = time.UnixMilli(1_000_000)

// text returns a frame of one line with size bytes.
func text(size int) *stream.Frame {
	return stream.TextFrame([]byte(strings.Repeat("x", size-1) + "\n"))
}

// remote returns a part of another chat, with these lines from a number on. Without lines it only marks that
// number.
func remote(first uint64, lines string) Part {
	if lines == "" {
		return Part{Origin: "other", First: first, Count: 1}
	}
	return Part{"other", first, uint64(strings.Count(lines, "\n")), stream.TextFrame([]byte(lines))}
}

// Local lines are enough with more than 32 KiB, and so are local and remote lines together, with 128 bytes
// for each part. Remote lines are too many with more than 4 MiB. A message that was received before
// counts until the next flush.
func TestFull(t *testing.T) {
	const full = 32 << 10
	for _, test := range []struct {
		name                        string
		local, repeated             int   // bytes
		remote                      []int // bytes of each part
		marks                       int   // parts that only mark lines
		empty, localFull, remoteToo bool
		full                        bool
		size                        int // bytes of the next flush
	}{
		{name: "nothing", empty: true},
		{name: "a repeated message, which a flush must remove", repeated: 10, size: 10},
		{name: "32 KiB", local: full, size: full},
		{name: "a byte more", local: full + 1, size: full + 1, localFull: true, full: true},
		{name: "repeated messages", local: 10, repeated: full, size: full + 10, localFull: true, full: true},
		{name: "remote lines", remote: []int{10_000, full - 10_000 - 256}, size: full},
		{name: "a remote byte more", remote: []int{10_000, full - 10_000 - 255}, size: full, full: true},
		{name: "local and remote lines", local: 10_000, remote: []int{full - 10_000 - 127}, size: full + 1, full: true},
		{name: "4 MiB", remote: []int{4<<20 - 128}, size: full, full: true},
		{name: "a byte more than 4 MiB", remote: []int{4<<20 - 127}, size: full, full: true, remoteToo: true},
		{name: "4 MiB of marks", marks: 32768, size: full, full: true},
		{name: "one mark more", marks: 32769, size: full, full: true, remoteToo: true},
	} {
		var p Lines
		if test.local > 0 {
			p.Add(text(test.local), test.local)
		}
		p.Add(nil, test.repeated)
		for _, size := range test.remote {
			p.AddRemote(Part{"other", 1, 1, text(size)})
		}
		for range test.marks {
			p.AddRemote(remote(1, ""))
		}
		got := fmt.Sprint(p.Empty(), p.LocalFull(), p.RemoteFull(), p.Full(), p.Size())
		if want := fmt.Sprint(test.empty, test.localFull, test.remoteToo, test.full, test.size); got != want {
			t.Errorf("%s: got Empty, LocalFull, RemoteFull, Full, Size %s; want %s", test.name, got, want)
		}
	}
}

// A flush has the local lines, and after them the remote lines that were not accepted before. It changes
// the marks with them, and no line is marked before its flush.
func TestTake(t *testing.T) {
	for _, test := range []struct {
		name     string
		remote   []Part
		want     string // "|" ends a frame
		repeated uint64
		mark     once.Mark // 3 before
	}{
		{"only local lines", nil, "a\n|b\nc\n|", 0, 3},
		{"new lines", []Part{remote(4, "d\n"), remote(5, "e\nf\n")}, "a\n|b\nc\n|d\n|e\nf\n|", 0, 6},
		{"repeated lines", []Part{remote(1, "x\ny\n"), remote(3, "z\n")}, "a\n|b\nc\n|", 3, 3},
		{"partly repeated lines", []Part{remote(2, "x\ny\nd\n"), remote(3, "y\nd\ne\n")}, "a\n|b\nc\n|d\n|e\n|", 4, 5},
		{"lines with a gap before them", []Part{remote(10, "d\n"), remote(7, "e\n")}, "a\n|b\nc\n|d\n|", 1, 10},
		{"marks alone", []Part{remote(9, ""), remote(8, "x\n")}, "a\n|b\nc\n|", 1, 9},
		{"known marks", []Part{remote(2, "")}, "a\n|b\nc\n|", 0, 3},
	} {
		marks := once.Marks{"other": {Number: 3}}
		var p Lines
		p.Add(stream.TextFrame([]byte("a\n")), 2)
		for _, r := range test.remote {
			p.AddRemote(r)
		}
		p.Add(stream.TextFrame([]byte("b\nc\n")), 4)
		if got := marks["other"].Number; got != 3 || string(p.Local()) != "a\nb\nc\n" || Count(p.Frames()) != 3 {
			t.Errorf("%s: got mark %d and local lines %q before the flush, want 3 and a, b, c", test.name, got, p.Local())
		}
		frames, repeated := p.Take(marks, now)
		got := ""
		for _, f := range frames {
			got += string(f.Lines) + "|"
		}
		if got != test.want || repeated != test.repeated || marks["other"].Number != test.mark {
			t.Errorf("%s: got %q, %d repeated, mark %d; want %q, %d, %d", test.name, got, repeated, marks["other"].Number, test.want, test.repeated, test.mark)
		}
		if string(p.Local()) != "a\nb\nc\n" {
			t.Errorf("%s: got local lines %q in the flush, want a, b, c", test.name, p.Local())
		}
		if p.Done(); !p.Empty() || p.Full() || p.Size() != 0 || len(p.Frames())+len(p.local) != 0 || p.Local() != nil {
			t.Errorf("%s: got empty %v, %d bytes after the flush; want nothing pending", test.name, p.Empty(), p.Size())
		}
	}
}

// Of remote lines, parts go into a flush until they have more than 32 KiB, even if their lines are repeated.
// Marks have no size. The next flush has the next parts.
func TestTakeIsBounded(t *testing.T) {
	for _, test := range []struct {
		name  string
		sizes []int // of the lines; 0 for a mark, and negative for repeated lines
		want  []int // parts in each flush
	}{
		{"short parts", []int{10_000, 10_000, 10_000, 10_000, 10_000}, []int{4, 1}},
		{"32 KiB", []int{32 << 10, 2, 2}, []int{2, 1}},
		{"a byte more", []int{32<<10 + 1, 2, 2}, []int{1, 2}},
		{"long lines", []int{1 << 20, 1 << 20, 2, 1 << 20, 2}, []int{1, 1, 2, 1}},
		{"repeated lines", []int{-20_000, -20_000, 2}, []int{2, 1}},
		{"marks", slices.Repeat([]int{0}, 1000), []int{1000}},
	} {
		var p Lines
		for i, size := range test.sizes {
			r := Part{"other", uint64(i + 1), 1, nil}
			if size < 0 {
				r.Origin, r.First = "repeated", 1
			}
			if size != 0 {
				r.Frame = text(max(size, -size))
			}
			p.AddRemote(r)
		}
		var got []int
		marks := once.Marks{"repeated": {Number: 1}}
		for left := len(p.remote); left > 0; left = len(p.remote) {
			p.Take(marks, now)
			p.Done()
			got = append(got, left-len(p.remote))
		}
		if !slices.Equal(got, test.want) || p.Size() != 0 {
			t.Errorf("%s: got %v parts in the flushes, and %d bytes left; want %v, 0", test.name, got, p.Size(), test.want)
		}
	}
}
