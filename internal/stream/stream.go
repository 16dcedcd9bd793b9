// Package stream holds the lines that were said in a room, in order and each with a number.
//
// A position counts the lines before a point, so it names a place in the stream. A client that lost its
// connection comes back with its position and gets the lines after it. Numbers are unique within an epoch,
// which names one run of the room.
//
// The lines, the marks of other chats and the numbers of senders change together. So a [Record] of a stream
// never holds a line without the numbers by which the room recognizes it if it comes again.
package stream

import (
	"crypto/rand"
	"maps"
	"math"
	"sort"
	"strconv"
	"strings"

	"example.com/chat/internal/lines"
	"example.com/chat/internal/once"
)

// frameCost is the number of bytes that [Reader.Read] charges for a frame beside its lines, because an event
// may carry the frame's time.
const frameCost = 24

const (
	// entryCost is about the number of bytes that an Entry and its Frame take beside the lines.
	entryCost = 192

	// senderCost is about the number of bytes that a sender takes, with an ID of 64 bytes.
	senderCost = 256
)

// Stream is the stream of one room. It holds the frames of the last lines, for clients that come back, and
// older frames while a connection needs them. It is not safe for concurrent use.
type Stream struct {
	Senders *once.Senders // senders whose messages are in the stream
	Marks   once.Marks    // other chats, and earlier runs of this one, whose lines are in the stream

	epoch   string
	history uint64  // lines to hold
	entries []Entry // oldest first
	memory  int64   // bytes that entries take
	end     Position
	past    []PastEpoch // oldest first
}

// Position is a place in a stream. It counts lines, and bytes of lines with their line breaks, from the
// stream's beginning. Bytes begin anew when a stream is restored.
type Position struct{ Lines, Bytes uint64 }

// Entry is a frame of lines in a stream.
type Entry struct {
	Frame *Frame
	At    int64    // when the lines were said, in milliseconds since 1970
	start Position // before the frame
}

// PastEpoch is an epoch of the room that ended with a crash. Lines up to End have the same numbers in all later
// epochs.
type PastEpoch struct {
	Epoch string `json:"epoch"`
	End   uint64 `json:"end"` // number of lines that are known to have been said
}

// Record is the lines of a stream from some line to its end, and the numbers that belong to them. A store
// appends records, and returns all it has as one.
type Record struct {
	Epoch   string
	End     uint64 // number of lines said so far in the room
	Start   uint64 // line with which the stream's history begins; Since sets it, and Restore does not read it
	Frames  []Text // the last lines, oldest first
	Past    []PastEpoch
	Senders []once.Saved
	Marks   once.Marks
}

// Text is lines that were said at one time.
type Text struct {
	Lines []byte
	At    int64 // in milliseconds since 1970
}

// First returns the number of lines in the stream before the record's frames.
func (r Record) First() uint64 {
	first := r.End
	for _, f := range r.Frames {
		first -= uint64(lines.Count(f.Lines))
	}
	return first
}

// New returns an empty stream with an epoch of its own. It holds the last history lines.
func New(history int) *Stream {
	return &Stream{Senders: once.NewSenders(nil), Marks: make(once.Marks), epoch: rand.Text(), history: uint64(history)}
}

// Restore returns a stream that continues r, in r's epoch. It keeps r.Past. It leaves out marks that
// [once.Marks.Merge] refuses.
func Restore(history int, r Record) *Stream {
	s := New(history)
	s.epoch, s.past = r.Epoch, r.Past
	s.end.Lines = r.First()
	for _, f := range r.Frames {
		s.Append(TextFrame(f.Lines), f.At)
	}
	s.Trim(s.end.Lines, math.MaxInt64)
	s.Senders = once.NewSenders(r.Senders)
	s.Marks.Merge(r.Marks)
	return s
}

// Since returns a record of the lines of the history from line since on. Its first frame is whole, even if it
// begins before that line. Frames and Past alias the stream.
func (s *Stream) Since(since uint64) Record {
	r := Record{Epoch: s.epoch, End: s.end.Lines, Start: s.historyStart(), Past: s.past, Senders: s.Senders.Save(), Marks: maps.Clone(s.Marks)}
	for _, e := range s.entries[s.index(max(since, s.historyStart())):] {
		r.Frames = append(r.Frames, Text{e.Frame.Lines, e.At})
	}
	return r
}

// Last returns a record of the last lines of the history, without Senders and Marks. It has the fewest of the last
// frames that hold the number lines, or the number bytes. Its first frame is whole, even if it begins before these lines.
// Frames and Past alias the stream.
func (s *Stream) Last(lines, bytes uint64) Record {
	r := Record{Epoch: s.epoch, End: s.end.Lines, Start: s.historyStart(), Past: s.past}
	first := s.index(max(r.Start, r.End-min(r.End, lines)))
	for i := len(s.entries) - 1; i > first; i-- {
		if s.end.Bytes-s.start(i).Bytes >= bytes {
			first = i
		}
	}
	for _, e := range s.entries[first:] {
		r.Frames = append(r.Frames, Text{e.Frame.Lines, e.At})
	}
	return r
}

// Append appends a frame of lines that were said at the time at, in milliseconds since 1970. It returns the
// number of lines. f must have at least one line, and must not change afterwards.
func (s *Stream) Append(f *Frame, at int64) (n int) {
	n = lines.Count(f.Lines)
	s.entries = append(s.entries, Entry{f, at, s.end})
	s.memory += f.memory()
	s.end.Lines += uint64(n)
	s.end.Bytes += uint64(len(f.Lines))
	return n
}

// Epoch returns the name of this run of the room.
func (s *Stream) Epoch() string { return s.epoch }

// End returns the position after the last frame.
func (s *Stream) End() Position { return s.end }

// Start returns the position before the first frame that the stream holds.
func (s *Stream) Start() Position { return s.start(0) }

// historyStart returns the line with which the history begins.
func (s *Stream) historyStart() uint64 {
	return max(s.end.Lines-min(s.end.Lines, s.history), s.start(0).Lines)
}

// start returns the position before s.entries[i], or the end if there is no such entry.
func (s *Stream) start(i int) Position {
	if i < len(s.entries) {
		return s.entries[i].start
	}
	return s.end
}

// Trim drops the frames that lie before the history and before the line needed. While the stream has more than most
// bytes, it drops frames of the history, too, and then returns true.
func (s *Stream) Trim(needed uint64, most int64) (cut bool) {
	start := s.historyStart()
	for len(s.entries) > 0 && s.start(1).Lines <= needed && (s.start(1).Lines <= start || s.Size() > most) {
		cut = cut || s.start(1).Lines > start
		s.memory -= s.entries[0].Frame.memory()
		s.entries[0] = Entry{} // lets the frame be collected before the array is
		s.entries = s.entries[1:]
	}
	return cut
}

// memory returns about the number of bytes that f takes in a stream.
func (f *Frame) memory() int64 { return int64(cap(f.Bytes)) + entryCost }

// Size returns about the number of bytes of memory that the stream takes.
func (s *Stream) Size() int64 {
	return s.memory + int64(s.Senders.Len())*senderCost
}

// index returns the index of the entry that holds a line, or len(s.entries).
func (s *Stream) index(line uint64) int {
	return sort.Search(len(s.entries), func(i int) bool { return s.start(i+1).Lines > line })
}

// find returns the position for EPOCH.SEQ. A position of a past epoch counts as one of this epoch, at most that
// epoch's end. A position outside of the history, or of an unknown epoch, becomes the history's beginning.
func (s *Stream) find(since string) Position {
	epoch, number, _ := strings.Cut(since, ".")
	line, err := strconv.ParseUint(number, 10, 64)
	for _, past := range s.past {
		if epoch == past.Epoch {
			epoch, line = s.epoch, min(line, past.End)
		}
	}
	start := s.historyStart()
	if err != nil || epoch != s.epoch || line < start || line > s.end.Lines {
		line = start
	}
	return Position{line, s.start(s.index(line)).Bytes}
}
