package main

import (
	"bytes"
	"crypto/rand"
	"maps"
	"slices"
	"sort"
	"strconv"
	"strings"

	"golang.org/x/net/websocket"

	"example.com/chat/internal/lines"
	"example.com/chat/internal/once"
	"example.com/chat/internal/relay"
	"example.com/chat/internal/state"
	"example.com/chat/internal/ws"
)

// Lines are joined into one message up to this many bytes. A line that is longer goes alone.
const joinLimit = 64 << 10

// frame is an encoded frame. One that the Hub has sent is never changed: it goes to many connections.
type frame struct {
	bytes []byte // header and payload
	lines []byte // of a text frame, the payload and a line break; nil if it is not to be joined
	said  int64  // milliseconds since 1970, of lines that were said some time ago at another chat; or 0
}

// newFrame encodes a frame that is not joined with others.
func newFrame(opcode byte, payload []byte) *frame {
	return &frame{bytes: ws.AppendFrame(nil, opcode, payload)}
}

// textFrame encodes lines, at least one, each with a line break behind it, as a text frame.
func textFrame(lines []byte) *frame {
	b := ws.AppendHeader(make([]byte, 0, ws.MaxHeader+len(lines)), websocket.TextFrame, len(lines)-1)
	header := len(b)
	b = append(b, lines...)
	return &frame{bytes: b[:len(b)-1], lines: b[header:]}
}

// join returns the first of frames, and those that remain. If the lines of the first and of some
// behind it take no more than joinLimit bytes, it encodes these into a frame, which it returns.
func join(frames []*frame, into *frame) (first *frame, rest []*frame) {
	n, size := 0, 0
	for n < len(frames) && frames[n].lines != nil && frames[n].said == frames[0].said && size+len(frames[n].lines) <= joinLimit {
		size += len(frames[n].lines)
		n++
	}
	if n <= 1 {
		return frames[0], frames[1:]
	}
	b := ws.AppendHeader(slices.Grow(into.bytes[:0], ws.MaxHeader+size), websocket.TextFrame, size-1)
	header := len(b)
	for _, f := range frames[:n] {
		b = append(b, f.lines...)
	}
	into.bytes, into.lines, into.said = b[:len(b)-1], b[header:], frames[0].said
	return into, frames[n:]
}

// countLines returns how many lines there are in text, each with a line break.
func countLines(text []byte) int { return bytes.Count(text, []byte{'\n'}) }

// A position in the stream says how much was broadcast before it: lines, and bytes of whole frames
// of lines, with their line breaks.
type position struct{ lines, bytes uint64 }

// stream holds the frames that were broadcast: the last lines, for clients that join with
// ?since=, and older ones as long as a connection needs them. Only the Hub uses it while it runs.
type stream struct {
	epoch   string      // of which run of the room the stream is
	history uint64      // lines to hold
	end     position    // behind the last frame
	frames  []heldFrame // oldest first

	senders senders    // whose messages are in it
	marks   once.Marks // whose lines of other chats are in it, and of runs of this one

	former []state.Run // of which positions are known, oldest first
	saved  int64       // up to which line a file held it when it began, or -1
}

// A position of a run that crashed can be told from others for so many crashes more.
const maxFormer = 100

// heldFrame is a frame of lines, when they were said, and the position before it.
type heldFrame struct {
	frame *frame
	said  int64 // milliseconds since 1970
	start position
}

func newStream(history int) stream {
	return stream{epoch: rand.Text(), history: uint64(history), senders: newSenders(), marks: make(once.Marks), saved: -1}
}

// restoreStream returns the stream that was written as s. If that is not complete, because the program
// crashed, lines may have been said behind it: the stream goes on as another run then.
func restoreStream(history int, s state.Stream, complete bool) stream {
	restored := newStream(history)
	restored.former = s.Former
	if complete {
		restored.epoch, restored.saved = s.Epoch, int64(s.Lines)
	} else {
		restored.former = append(s.Former[max(0, len(s.Former)+1-maxFormer):], state.Run{Epoch: s.Epoch, End: s.Lines})
	}
	restored.end.lines = s.Lines
	for _, f := range s.Frames {
		restored.end.lines -= uint64(countLines(f.Text))
	}
	for _, f := range s.Frames {
		restored.add(textFrame(f.Text), f.Said)
	}
	restored.trim(restored.end.lines)
	restored.senders.restore(s.Senders)
	maps.Copy(restored.marks, s.Marks)
	return restored
}

// snapshot returns what is to be written of the stream.
func (s *stream) snapshot() state.Stream {
	snapshot := state.Stream{Epoch: s.epoch, Lines: s.end.lines, Former: s.former, Senders: s.senders.snapshot(), Marks: maps.Clone(s.marks)}
	for _, f := range s.frames[s.index(s.historyStart()):] {
		snapshot.Frames = append(snapshot.Frames, state.Frame{Text: f.frame.lines, Said: f.said})
	}
	return snapshot
}

// add appends a frame, and returns how many lines it has.
func (s *stream) add(f *frame, said int64) (lines int) {
	lines = countLines(f.lines)
	s.frames = append(s.frames, heldFrame{f, said, s.end})
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
// history, it is the history's beginning. Behind the end of a former run, it is that end.
func (s *stream) find(since string) position {
	epoch, number, _ := strings.Cut(since, ".")
	line, err := strconv.ParseUint(number, 10, 64)
	for _, former := range s.former {
		if epoch == former.Epoch {
			epoch, line = s.epoch, min(line, former.End)
		}
	}
	start := s.historyStart()
	if err != nil || epoch != s.epoch || line < start || line > s.end.lines {
		line = start
	}
	return s.at(line)
}

// A frame counts as that many bytes beside its lines: an event may say when they were said.
const frameCost = 24

// read returns what follows p, up to limit bytes of it but at least a frame, and the
// position behind that.
func (s *stream) read(p position, limit uint64) (frames []heldFrame, next position) {
	first := s.index(p.lines)
	last := first
	for last < len(s.frames) && (last == first || s.start(last+1).bytes-p.bytes+uint64(last+1-first)*frameCost <= limit) {
		last++
	}
	frames = slices.Clone(s.frames[first:last])
	if len(frames) > 0 {
		frames[0].frame = withoutLines(frames[0].frame, int(p.lines-frames[0].start.lines))
	}
	return frames, s.start(last)
}

// withoutLines returns a frame of f's lines but for the first n, or nil if there are no others.
func withoutLines(f *frame, n int) *frame {
	if n == 0 {
		return f
	}
	_, rest := lines.Cut(f.lines, n)
	if len(rest) == 0 {
		return nil
	}
	without := textFrame(rest)
	without.said = f.said
	return without
}
