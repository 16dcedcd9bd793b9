package stream

import (
	"bytes"
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
		{"one\n", "\x81\x03"},
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

// A frame that carries no lines is never joined.
func TestNewFrame(t *testing.T) {
	f := NewFrame(websocket.PongFrame, []byte("hi"))
	if string(f.Bytes) != "\x8a\x02hi" || f.Lines != nil {
		t.Errorf("got %q with the lines %q, want %q without lines", f.Bytes, f.Lines, "\x8a\x02hi")
	}
}

// Join joins frames of lines that were said at one time, up to 64 KiB. A longer one remains alone, and so does a
// frame without lines. The frames that were joined remain as they were.
func TestJoin(t *testing.T) {
	text := func(at int64, size int) *Frame {
		f := TextFrame([]byte(strings.Repeat("x", size-1) + "\n"))
		f.At = at
		return f
	}
	ping, short := NewFrame(websocket.PingFrame, nil), text(0, 2)
	for _, test := range []struct {
		name   string
		frames []*Frame
		want   []int // number of frames in each message
	}{
		{"one frame", []*Frame{short}, []int{1}},
		{"three frames", []*Frame{short, short, short}, []int{3}},
		{"empty lines", []*Frame{text(0, 1), text(0, 1)}, []int{2}},
		{"64 KiB", []*Frame{text(0, 64<<10-2), short, short}, []int{2, 1}},
		{"a byte more than 64 KiB", []*Frame{text(0, 64<<10-1), short, short}, []int{1, 2}},
		{"a longer line", []*Frame{short, text(0, 1<<20), short, short}, []int{1, 1, 2}},
		{"a control frame", []*Frame{ping, short, short, ping, ping, short}, []int{1, 2, 1, 1, 1}},
		{"other times", []*Frame{short, short, text(5, 2), text(5, 2), text(6, 2), short}, []int{2, 2, 1, 1}},
	} {
		var before []Frame
		for _, f := range test.frames {
			before = append(before, Frame{bytes.Clone(f.Bytes), bytes.Clone(f.Lines), f.At})
		}
		into := new(Frame)
		rest, done := test.frames, 0
		for i, n := range test.want {
			var f *Frame
			f, rest = Join(rest, into)
			want := test.frames[done]
			if n > 1 {
				var all []byte
				for _, f := range test.frames[done : done+n] {
					all = append(all, f.Lines...)
				}
				want = TextFrame(all)
				want.At = test.frames[done].At
			}
			done += n
			if !bytes.Equal(f.Bytes, want.Bytes) || !bytes.Equal(f.Lines, want.Lines) || f.At != want.At || len(rest) != len(test.frames)-done {
				t.Fatalf("%s: got message %d of %d bytes at %d, and %d more frames; want %d bytes at %d, and %d more", test.name,
					i, len(f.Bytes), f.At, len(rest), len(want.Bytes), want.At, len(test.frames)-done)
			}
			if joined := f == into; joined != (n > 1) {
				t.Errorf("%s: got message %d of %d frames in into: %v, want %v", test.name, i, n, joined, n > 1)
			}
		}
		for i, f := range test.frames {
			if !bytes.Equal(f.Bytes, before[i].Bytes) || !bytes.Equal(f.Lines, before[i].Lines) {
				t.Errorf("%s: got frame %d changed, want it as it was", test.name, i)
			}
		}
	}
}

// Join uses the memory of its second argument again.
func TestJoinAllocatesNothing(t *testing.T) {
	frames := slices.Repeat([]*Frame{TextFrame([]byte("hello\n"))}, 10)
	into := new(Frame)
	Join(frames, into)
	if got := testing.AllocsPerRun(100, func() { Join(frames, into) }); got > 0 {
		t.Errorf("got %v allocations, want none", got)
	}
}

// WithoutLines removes the first lines of a frame and keeps the time.
func TestWithoutLines(t *testing.T) {
	f := TextFrame([]byte("one\n\nthree\n"))
	f.At = 7
	for n, want := range []string{"one\n\nthree\n", "\nthree\n", "three\n"} {
		got := f.WithoutLines(uint64(n))
		if string(got.Lines) != want || got.At != 7 || len(got.Bytes) != 2+len(want)-1 || n == 0 && got != f {
			t.Errorf("without %d lines: got %q at %d, want %q at 7", n, got.Lines, got.At, want)
		}
	}
	if got := f.WithoutLines(3); got != nil {
		t.Errorf("without all lines: got %q, want nil", got.Lines)
	}
	if lines.Count(f.Lines) != 3 {
		t.Errorf("got the frame changed to %q", f.Lines)
	}
}
