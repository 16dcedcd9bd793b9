// history.go: the last lines that were said, and places in the stream of all lines.

package main

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"strconv"
	"strings"
)

// place is a place in the stream: before the line that so many others came before.
type place struct {
	epoch string // of which run of the server the stream is
	seq   uint64 // lines
}

// parsePlace reads what a client says of its place. What can't be read is a place in
// no stream.
func parsePlace(s string) place {
	epoch, number, _ := strings.Cut(s, ".")
	seq, err := strconv.ParseUint(number, 10, 64)
	if err != nil {
		return place{}
	}
	return place{epoch, seq}
}

func (p place) String() string { return fmt.Sprint(p.epoch, " ", p.seq) }

// history holds the last lines. Only the Hub uses it.
//
// It keeps the frames that were broadcast, which costs a pointer for each. As long as
// limit lines are held without the oldest frame, that one goes: so it holds at most
// limit lines, and joinLimit bytes more.
type history struct {
	limit  int   // lines to hold
	end    place // behind the last line
	frames []*frame
	counts []int // lines in each of frames
	held   int   // lines in all of them
}

func newHistory(limit int) history {
	return history{limit: limit, end: place{epoch: rand.Text()}}
}

// add adds a text frame that is broadcast, and returns how many lines it has.
func (h *history) add(f *frame) (lines int) {
	n := bytes.Count(f.lines(), []byte{'\n'})
	h.end.seq += uint64(n)
	if h.limit == 0 {
		return n
	}
	h.frames, h.counts, h.held = append(h.frames, f), append(h.counts, n), h.held+n
	for h.held-h.counts[0] >= h.limit {
		h.held -= h.counts[0]
		h.frames[0] = nil // the array is kept for some time
		h.frames, h.counts = h.frames[1:], h.counts[1:]
	}
	return n
}

// after returns the lines after p, if they are all held, or else all that are held;
// and where they begin.
func (h *history) after(p place) (at place, past chan *frame) {
	count := min(h.held, h.limit)
	if missed := h.end.seq - p.seq; p.epoch == h.end.epoch && p.seq <= h.end.seq && missed < uint64(count) {
		count = int(missed)
	}
	first, lines := len(h.frames), 0
	for lines < count {
		first--
		lines += h.counts[first]
	}
	past = make(chan *frame, len(h.frames)-first)
	for i, f := range h.frames[first:] {
		if i == 0 && lines > count {
			f = lastLines(f, h.counts[first]-(lines-count))
		}
		past <- f
	}
	close(past)
	return place{h.end.epoch, h.end.seq - uint64(count)}, past
}

// lastLines returns a frame of the last n lines of f.
func lastLines(f *frame, n int) *frame {
	lines := f.lines()
	start := len(lines)
	for ; n >= 0 && start >= 0; n-- {
		start = bytes.LastIndexByte(lines[:start], '\n')
	}
	return textFrame(append(make([]byte, maxHeader), lines[start+1:len(lines)-1]...))
}
