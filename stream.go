package main

import (
	"bytes"
	"crypto/rand"
	"sort"
	"strconv"
	"strings"
)

// A position in the stream says how much was broadcast before it: lines, and bytes of whole frames
// of lines, with their line breaks.
type position struct{ lines, bytes uint64 }

// stream holds the frames that were broadcast: the last lines, for clients that join with
// ?since=, and older ones as long as a connection needs them. Only the Hub uses it.
type stream struct {
	epoch   string      // of which run of the server the stream is
	history uint64      // lines to hold
	end     position    // behind the last frame
	frames  []heldFrame // oldest first
}

// heldFrame is a frame of lines, and the position before it.
type heldFrame struct {
	frame *frame
	start position
}

func newStream(history int) stream {
	return stream{epoch: rand.Text(), history: uint64(history)}
}

// countLines returns how many lines there are in text, each with a line break.
func countLines(text []byte) int { return bytes.Count(text, []byte{'\n'}) }

// add appends a frame, and returns how many lines it has.
func (s *stream) add(f *frame) (lines int) {
	lines = countLines(f.lines)
	s.frames = append(s.frames, heldFrame{f, s.end})
	s.end.lines += uint64(lines)
	s.end.bytes += uint64(len(f.lines))
	return lines
}

// historyStart returns the line with which the history begins.
func (s *stream) historyStart() uint64 {
	return max(s.end.lines-min(s.end.lines, s.history), s.start(0).lines)
}

// start returns the position before s.frames[i], or the end.
func (s *stream) start(i int) position {
	if i < len(s.frames) {
		return s.frames[i].start
	}
	return s.end
}

// trim drops the frames before the history and before the line needed.
func (s *stream) trim(needed uint64) {
	needed = min(needed, s.historyStart())
	for len(s.frames) > 0 && s.start(1).lines <= needed {
		s.frames[0] = heldFrame{} // it can be collected before the array is
		s.frames = s.frames[1:]
	}
}

// index returns the index of the frame in which a line is.
func (s *stream) index(line uint64) int {
	return sort.Search(len(s.frames), func(i int) bool { return s.start(i+1).lines > line })
}

// at returns the position before a line that is held, or the end.
func (s *stream) at(line uint64) position {
	return position{line, s.start(s.index(line)).bytes}
}

// find returns the position that a client asks for as EPOCH.SEQ. Where that is not in the
// history, it is the history's beginning.
func (s *stream) find(since string) position {
	epoch, number, _ := strings.Cut(since, ".")
	line, err := strconv.ParseUint(number, 10, 64)
	start := s.historyStart()
	if err != nil || epoch != s.epoch || line < start || line > s.end.lines {
		line = start
	}
	return s.at(line)
}

// read returns what follows p, up to limit bytes of it but at least a frame, and the
// position behind that.
func (s *stream) read(p position, limit int) (frames []*frame, next position) {
	first := s.index(p.lines)
	last := first
	for last < len(s.frames) && (last == first || s.start(last+1).bytes-p.bytes <= uint64(limit)) {
		last++
	}
	frames = make([]*frame, last-first)
	for i := range frames {
		frames[i] = s.frames[first+i].frame
	}
	if skip := p.lines - s.start(first).lines; skip > 0 {
		frames[0] = withoutLines(frames[0], int(skip))
	}
	return frames, s.start(last)
}

// withoutLines returns a frame of f's lines but for the first n.
func withoutLines(f *frame, n int) *frame {
	rest := f.lines
	for range n {
		rest = rest[bytes.IndexByte(rest, '\n')+1:]
	}
	return textFrame(rest)
}
