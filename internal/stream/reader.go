package stream

import (
	"slices"

	"example.com/chat/internal/lines"
)

// Reader is one connection's place in a stream. All lines before it were sent to the connection.
type Reader struct {
	next Position

	// replay is the shortest distance to the end of the stream, in bytes, that r had at its start or after a Read.
	// At first it is the size of the history that the connection gets. It is 0 once the connection has caught up.
	// Lag does not count it.
	replay uint64
}

// NewReader returns a Reader at the end of the stream.
func (s *Stream) NewReader() Reader { return Reader{next: s.end} }

// NewReaderSince returns a Reader for a client that comes back with EPOCH.SEQ. Its place is the one asked for,
// or the beginning of the history if the stream does not know that place or no longer holds it.
func (s *Stream) NewReaderSince(since string) Reader {
	next := s.find(since)
	return Reader{next: next, replay: s.end.Bytes - next.Bytes}
}

// Line returns the number of lines before r.
func (r *Reader) Line() uint64 { return r.next.Lines }

// AtEnd reports whether r has read everything in s.
func (r *Reader) AtEnd(s *Stream) bool { return r.next == s.end }

// Skip moves r to the end of s. The caller must send the last frame itself, and r must have been before it.
func (r *Reader) Skip(s *Stream) { r.next = s.end }

// Lag returns the number of bytes by which the distance from r to the end of s exceeds replay. So the history
// that r still has to read is no lag. Once r has caught up, Lag is the number of bytes that r has not read.
func (r *Reader) Lag(s *Stream) int64 { return int64(s.end.Bytes - r.next.Bytes - r.replay) }

// Read returns the frames after r and the size of their lines, and moves r past them. The frames have at most
// limit bytes, or there is one longer frame. The caller owns entries.
func (r *Reader) Read(s *Stream, limit uint64) (entries []Entry, size int) {
	first := s.index(r.next.Lines)
	last := first
	for last < len(s.entries) && (last == first || s.start(last+1).Bytes-r.next.Bytes+uint64(last+1-first)*frameCost <= limit) {
		last++
	}
	entries = slices.Clone(s.entries[first:last])
	if len(entries) > 0 {
		entries[0].Frame = entries[0].Frame.WithoutLines(r.next.Lines - entries[0].start.Lines)
	}
	next := s.start(last)
	size = int(next.Bytes - r.next.Bytes)
	r.next = next
	r.replay = min(r.replay, s.end.Bytes-next.Bytes)
	return entries, size
}

// WithoutLines returns a frame of f's lines except the first n, or nil if there are no more. It returns f
// itself if n is 0. f must have at least n lines.
func (f *Frame) WithoutLines(n uint64) *Frame {
	if n == 0 {
		return f
	}
	_, rest := lines.Cut(f.Lines, int(n))
	if len(rest) == 0 {
		return nil
	}
	without := TextFrame(rest)
	without.At = f.At
	return without
}
