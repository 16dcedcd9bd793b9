// Package pending collects the lines of a room that its Hub broadcasts next.
//
// Lines come from the room's own connections and, over a relay, from other chats. The package reports when
// there are enough of either, so that the Hub lets their senders wait, and memory stays bounded.
package pending

import (
	"slices"
	"time"

	"example.com/chat/internal/lines"
	"example.com/chat/internal/once"
	"example.com/chat/internal/stream"
)

const (
	// Enough is the number of bytes beyond which readPump and the Hub add no more local lines to a flush. It is
	// half of stream.JoinLimit, so that one more line usually still fits into the same message.
	Enough = stream.JoinLimit / 2

	// maxRemote is the number of bytes of remote lines that wait while the Hub holds back lines for lagging
	// connections. With more, the relay has to wait, and so do the lines for other rooms.
	maxRemote = 4 << 20

	// partCost is the number of bytes that a Part is charged beside its lines.
	partCost = 128
)

// Part is consecutive lines of another chat.
type Part struct {
	Origin string        // of the chat
	First  uint64        // number of the first line
	Count  uint64        // number of lines
	Frame  *stream.Frame // nil if the lines must only be marked as accepted
}

func (p Part) cost() int {
	if p.Frame == nil {
		return partCost
	}
	return len(p.Frame.Lines) + partCost
}

// Lines is the pending lines of one room. The zero Lines is empty. It is not safe for concurrent use.
type Lines struct {
	frames     []*stream.Frame // for the next flush
	local      [][]byte        // text of the frames that connections have sent, for the relay
	size       int             // bytes that connections have sent since the last Take
	remote     []Part          // oldest first
	remoteSize int
}

// Add adds a frame of a connection, without its repeated lines. The frame is nil if all lines are repeated. The
// connection sent size bytes, with repeated lines.
func (p *Lines) Add(f *stream.Frame, size int) {
	p.size += size
	if f != nil {
		p.frames = append(p.frames, f)
		p.local = append(p.local, f.Lines)
	}
}

// AddRemote adds lines of another chat.
func (p *Lines) AddRemote(part Part) {
	p.remote = append(p.remote, part)
	p.remoteSize += part.cost()
}

// Empty reports whether there is nothing to flush. Repeated lines fill a flush, too, so that a client that
// repeats itself can't keep the Hub busy.
func (p *Lines) Empty() bool { return p.size == 0 && len(p.remote) == 0 }

// LocalFull reports whether local lines fill a flush. Then connections must wait.
func (p *Lines) LocalFull() bool { return p.size > Enough }

// RemoteFull reports whether too many remote lines are pending. Then the relay must wait.
func (p *Lines) RemoteFull() bool { return p.remoteSize > maxRemote }

// RemoteSize returns the number of bytes that the remote lines take.
func (p *Lines) RemoteSize() int { return p.remoteSize }

// Held returns the number of bytes that all lines take.
func (p *Lines) Held() int64 { return int64(p.size + p.remoteSize) }

// Full reports whether local and remote lines together fill a flush.
func (p *Lines) Full() bool { return p.size+p.remoteSize > Enough }

// Size returns about the number of bytes in the next flush.
func (p *Lines) Size() int { return p.size + min(p.remoteSize, Enough) }

// Frames returns the frames of the next flush, without those of other chats.
func (p *Lines) Frames() []*stream.Frame { return p.frames }

// Local returns a copy of the text that connections of this chat have sent since the last flush, which the
// caller owns, or nil.
func (p *Lines) Local() []byte { return slices.Concat(p.local...) }

// Take returns the frames of the next flush. Frames of connections come first. Then come parts of other chats,
// until these have more than Enough bytes. Take accepts their lines in marks. It leaves out lines that marks
// had accepted before, and lines with numbers that marks refuse, and returns how many of each there were.
//
// The slice is valid until Done. The caller must call Done before the next Add. The frames stay valid.
func (p *Lines) Take(marks once.Marks, now time.Time) (frames []*stream.Frame, repeated, refused uint64) {
	p.size = 0
	for size := 0; len(p.remote) > 0 && size <= Enough; {
		part := p.remote[0]
		p.remote[0] = Part{} // lets the frame be collected before the array is
		p.remote = p.remote[1:]
		p.remoteSize -= part.cost()
		known, ok := marks.Accept(part.Origin, part.First, part.Count, now)
		if part.Frame == nil {
			continue
		}
		size += len(part.Frame.Lines)
		if !ok {
			refused += part.Count
			continue
		}
		repeated += known
		if rest := part.Frame.WithoutLines(known); rest != nil {
			p.frames = append(p.frames, rest)
		}
	}
	return p.frames, repeated, refused
}

// Done removes the frames that Take has returned.
func (p *Lines) Done() {
	clear(p.frames)
	clear(p.local)
	p.frames, p.local = p.frames[:0], p.local[:0]
}

// Count returns the number of lines in frames.
func Count(frames []*stream.Frame) (n uint64) {
	for _, f := range frames {
		n += uint64(lines.Count(f.Lines))
	}
	return n
}
