package stream

import (
	"slices"
	"strings"
	"testing"

	"golang.org/x/net/websocket"
)

// A text frame has the lines without the last line break as its payload. It does not alias the lines. WithoutLines
// removes the first lines from a copy. Without none it returns the frame, and without all of them nil.
func TestTextFrame(t *testing.T) {
	for _, test := range []struct{ lines, header string }{
		{"\n", "\x81\x00"},
		{"one\n\n", "\x81\x04"},
		{strings.Repeat("x", 1<<16) + "\n", "\x81\x7f\x00\x00\x00\x00\x00\x01\x00\x00"},
	} {
		text := []byte(test.lines)
		f := TextFrame(text)
		clear(text)
		if want := test.header + test.lines[:len(test.lines)-1]; string(f.Bytes) != want || string(f.Lines) != test.lines || f.At != 0 {
			t.Errorf("got %.40q with the lines %.40q at %d, want %.40q with %.40q at 0", f.Bytes, f.Lines, f.At, want, test.lines)
		}
		n := uint64(strings.Count(test.lines, "\n"))
		if f.WithoutLines(0) != f || f.WithoutLines(n-1) == nil || f.WithoutLines(n) != nil {
			t.Errorf("%.40q: got a copy without 0 lines, none without %d, or one without %d; want the frame, a line, nil", test.lines, n-1, n)
		}
	}
}

// Join joins frames of lines that were said at the same time, up to 64 KiB. A longer frame remains alone, and
// so does one without lines. The frames that were joined remain as they were. Join allocates nothing.
func TestJoin(t *testing.T) {
	type said struct{ size, at int } // size 0 is a ping
	for _, test := range []struct{ given, want []said }{
		{[]said{{2, 0}}, []said{{2, 0}}},
		{[]said{{2, 0}, {1, 0}, {3, 0}}, []said{{6, 0}}},
		{[]said{{65_534, 0}, {2, 0}, {3, 0}}, []said{{65_536, 0}, {3, 0}}},
		{[]said{{65_535, 0}, {2, 0}, {3, 0}}, []said{{65_535, 0}, {5, 0}}},
		{[]said{{2, 0}, {1 << 20, 0}, {2, 0}, {3, 0}}, []said{{2, 0}, {1 << 20, 0}, {5, 0}}},
		{[]said{{0, 0}, {2, 0}, {3, 0}, {0, 0}, {0, 0}, {2, 0}}, []said{{0, 0}, {5, 0}, {0, 0}, {0, 0}, {2, 0}}},
		{[]said{{2, 0}, {3, 0}, {2, 5}, {2, 5}, {2, 6}, {2, 0}}, []said{{5, 0}, {4, 5}, {2, 6}, {2, 0}}},
	} {
		var frames []*Frame
		for _, s := range test.given {
			f := NewFrame(websocket.PingFrame, nil)
			if s.size > 0 {
				f = TextFrame([]byte(strings.Repeat("x", s.size-1) + "\n"))
			}
			f.At = int64(s.at)
			frames = append(frames, f)
		}
		var got []said
		text, after, into := "", "", new(Frame)
		for f, rest := (*Frame)(nil), frames; len(rest) > 0; {
			f, rest = Join(rest, into)
			got, text = append(got, said{len(f.Lines), int(f.At)}), text+string(f.Lines)
			if f.Lines != nil && string(f.Bytes) != string(TextFrame(f.Lines).Bytes) {
				t.Errorf("got the message %.20q for the lines %.20q", f.Bytes, f.Lines)
			}
		}
		for _, f := range frames {
			after += string(f.Lines)
		}
		if !slices.Equal(got, test.want) || text != after {
			t.Errorf("%v: got messages %v with %.20q of frames with %.20q, want %v", test.given, got, text, after, test.want)
		}
		if n := testing.AllocsPerRun(10, func() { Join(frames, into) }); n > 0 {
			t.Errorf("%v: got %v allocations with memory that was used before, want none", test.given, n)
		}
	}
}
