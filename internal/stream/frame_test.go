package stream

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"golang.org/x/net/websocket"

	"example.com/chat/internal/lines"
)

// A text frame has the lines without the last line break as its payload. It does not alias the lines.
func TestTextFrame(t *testing.T) {
	for _, test := range []struct{ lines, header string }{
		{"\n", "\x81\x00"},
		{"one\n\ntwo\n", "\x81\x08"},
		{strings.Repeat("x", 125) + "\n", "\x81\x7d"},
		{strings.Repeat("x", 126) + "\n", "\x81\x7e\x00\x7e"},
		{strings.Repeat("x", 1<<16) + "\n", "\x81\x7f\x00\x00\x00\x00\x00\x01\x00\x00"},
	} {
		text := []byte(test.lines)
		f := TextFrame(text)
		clear(text)
		if want := test.header + test.lines[:len(test.lines)-1]; string(f.Bytes) != want || string(f.Lines) != test.lines || f.At != 0 {
			t.Errorf("got %.40q with the lines %.40q at %d, want %.40q with %.40q at 0", f.Bytes, f.Lines, f.At, want, test.lines)
		}
	}
}

// Join joins frames of lines that were said at the same time, up to 64 KiB. A longer frame remains alone, and
// so does one without lines. The frames that were joined remain as they were.
func TestJoin(t *testing.T) {
	type said struct {
		text string // "" for a control frame
		at   int64
	}
	long := func(size int) string { return strings.Repeat("x", size-1) + "\n" }
	for _, test := range []struct {
		name  string
		given []said
		want  []string // LINES@AT of each message
	}{
		{"one frame", []said{{"a\n", 0}}, []string{"1@0"}},
		{"three frames, one of two lines", []said{{"a\n", 0}, {"\nb\n", 0}, {"\n", 0}}, []string{"4@0"}},
		{"64 KiB", []said{{long(64<<10 - 2), 0}, {"a\n", 0}, {"b\n", 0}}, []string{"2@0", "1@0"}},
		{"a byte more", []said{{long(64<<10 - 1), 0}, {"a\n", 0}, {"b\n", 0}}, []string{"1@0", "2@0"}},
		{"a long line", []said{{"a\n", 0}, {long(1 << 20), 0}, {"b\n", 0}, {"c\n", 0}}, []string{"1@0", "1@0", "2@0"}},
		{"control frames", []said{{}, {"a\n", 0}, {"b\n", 0}, {}, {}, {"c\n", 0}}, []string{"0@0", "2@0", "0@0", "0@0", "1@0"}},
		{"other times", []said{{"a\n", 0}, {"b\n", 0}, {"c\n", 5}, {"d\n", 5}, {"e\n", 6}, {"f\n", 0}}, []string{"2@0", "2@5", "1@6", "1@0"}},
	} {
		var frames []*Frame
		var wantText, text, after string
		for _, s := range test.given {
			f := NewFrame(websocket.PingFrame, nil)
			if s.text != "" {
				f = TextFrame([]byte(s.text))
			}
			f.At = s.at
			frames = append(frames, f)
			wantText += s.text
		}
		var got []string
		into := new(Frame)
		for rest := frames; len(rest) > 0; {
			var f *Frame
			f, rest = Join(rest, into)
			got = append(got, fmt.Sprint(lines.Count(f.Lines), "@", f.At))
			text += string(f.Lines)
			if f.Lines != nil && string(f.Bytes) != string(TextFrame(f.Lines).Bytes) {
				t.Errorf("%s: got %.20q, want the lines %.20q", test.name, f.Bytes, f.Lines)
			}
		}
		for _, f := range frames {
			after += string(f.Lines)
		}
		if !slices.Equal(got, test.want) || text != wantText || after != wantText {
			t.Errorf("%s: got messages %q, text %.20q of frames %.20q; want %q, %.20q", test.name, got, text, after, test.want, wantText)
		}
		if n := testing.AllocsPerRun(10, func() { Join(frames, into) }); n > 0 {
			t.Errorf("%s: got %v allocations in a Join into memory that was used before, want none", test.name, n)
		}
	}
}

// WithoutLines removes the first lines from a frame, and keeps its time. The frame itself remains whole.
func TestWithoutLines(t *testing.T) {
	f := TextFrame([]byte("one\n\nthree\n"))
	f.At = 7
	for n, want := range []string{"one\n\nthree\n", "\nthree\n", "three\n"} {
		got := f.WithoutLines(uint64(n))
		if string(got.Lines) != want || string(got.Bytes[2:])+"\n" != want || got.At != 7 || (got == f) != (n == 0) {
			t.Errorf("without %d lines: got %q at %d, want %q at 7", n, got.Lines, got.At, want)
		}
	}
	if got := f.WithoutLines(3); got != nil {
		t.Errorf("without any line: got %q, want nil", got.Lines)
	}
	if got := string(f.Lines); got != "one\n\nthree\n" {
		t.Errorf("got the frame changed to %q", got)
	}
}
