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
	// Enough is the number of bytes at which readPump and the Hub stop adding local lines. At half of the limit
	// of a message, one more line usually still fits.
	Enough = stream.JoinLimit / 2

	// maxRemote is the number of bytes of remote lines that wait while the Hub holds lines for lagging
	// connections. With more, the relay has to wait, and so do the lines for other rooms.
	maxRemote = 4 << 20

	// remoteCost is the number of bytes that a remote batch takes beside its lines.
	remoteCost = 128
)

// Remote is consecutive lines of another chat.
type Remote struct {
	Origin string // of the chat
	First  uint64 // number of the first line
	Count  uint64
	Frame  *stream.Frame // nil if the lines must only be marked as accepted
}

func (r Remote) cost() int {
	if r.Frame == nil {
		return remoteCost
	}
	return len(r.Frame.Lines) + remoteCost
}

// Lines is the pending lines of one room. The zero Lines is empty. It is not safe for concurrent use.
type Lines struct {
	frames     []*stream.Frame // for the next flush
	local      [][]byte        // text of the frames that connections have sent, for the relay
	size       int             // bytes that connections have sent since the last flush
	remote     []Remote        // oldest first
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
func (p *Lines) AddRemote(r Remote) {
	p.remote = append(p.remote, r)
	p.remoteSize += r.cost()
}

// Empty reports whether there is nothing to flush. Repeated lines fill a flush, too, so that a client that
// repeats itself can't keep the Hub busy.
func (p *Lines) Empty() bool { return p.size == 0 && len(p.remote) == 0 }

// LocalFull reports whether local lines fill a flush. Connections must wait then.
func (p *Lines) LocalFull() bool { return p.size > Enough }

// RemoteFull reports whether too many remote lines wait. The relay must wait then.
func (p *Lines) RemoteFull() bool { return p.remoteSize > maxRemote }

// Full reports whether local and remote lines together fill a flush.
func (p *Lines) Full() bool { return p.size+p.remoteSize > Enough }

// Size returns about the number of bytes in the next flush.
func (p *Lines) Size() int { return p.size + min(p.remoteSize, Enough) }

// Frames returns the frames of the next flush, without those of other chats.
func (p *Lines) Frames() []*stream.Frame { return p.frames }

// Local returns the text of the frames that connections of this chat have sent since the last flush, or nil.
func (p *Lines) Local() []byte { return slices.Concat(p.local...) }

// Take returns the frames of the next flush. Behind those of connections there are batches of other chats,
// until these have more than Enough bytes. Take accepts their lines in marks. It leaves out lines that marks
// had accepted before, and returns their number.
//
// The frames are valid until Done is called, which must be before the next Add.
func (p *Lines) Take(marks once.Marks, now time.Time) (frames []*stream.Frame, repeated uint64) {
	for size := 0; len(p.remote) > 0 && size <= Enough; {
		r := p.remote[0]
		p.remote[0] = Remote{} // lets the frame be collected before the array is
		p.remote = p.remote[1:]
		p.remoteSize -= r.cost()
		known := marks.Accept(r.Origin, r.First, r.Count, now)
		if r.Frame == nil {
			continue
		}
		size += len(r.Frame.Lines)
		repeated += known
		if rest := r.Frame.WithoutLines(known); rest != nil {
			p.frames = append(p.frames, rest)
		}
	}
	return p.frames, repeated
}

// Done removes the frames that Take has returned.
func (p *Lines) Done() {
	clear(p.frames)
	clear(p.local)
	p.frames, p.local, p.size = p.frames[:0], p.local[:0], 0
}

// Count returns the number of lines in frames.
func Count(frames []*stream.Frame) (n uint64) {
	for _, f := range frames {
		n += uint64(lines.Count(f.Lines))
	}
	return n
}
