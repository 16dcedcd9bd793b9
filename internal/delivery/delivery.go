// Package delivery decides what one connection gets next of a room's stream.
//
// A connection that keeps up gets each new frame at once, in a queue that its writer empties. When the queue
// is full the connection is behind, and the next frames stay in the stream until the writer asks for more. So
// every connection gets each frame once and in order. Frames that wait for slow connections are in memory
// once, and the room never waits for a connection.
package delivery

import (
	"math"
	"slices"

	"golang.org/x/net/websocket"

	"example.com/chat/internal/event"
	"example.com/chat/internal/once"
	"example.com/chat/internal/stream"
)

const (
	// window is the number of bytes in a queue at which its connection is behind.
	window = 64 << 10

	// maxBatches is the number of batches in a queue at which its connection is behind.
	maxBatches = 7

	// maxControl is the number of frames without lines that wait while a connection is behind. One more replaces the
	// oldest, as RFC 6455, section 5.5.3, allows for pongs.
	maxControl = 16
)

// beatSweeps is the number of sweeps, one each second, without a line or an event after which a client that gets events
// gets a heartbeat. Scripts in a browser see no pings, so a page learns from heartbeats that its connection is alive.
// docs/protocol.md promises something every 25 s, and pings come every 20 s.
const beatSweeps = 24

// QueueSize is the capacity that a queue must have. One place is for the batch of Finish.
const QueueSize = maxBatches + 1

// Batch is frames for a writer. It is never changed.
type Batch struct {
	Frames []*stream.Frame
	Last   bool // until the writer asks for more, only a batch of Finish may follow in the queue
}

// Delivery is the side of one connection's queue that sends. Only the goroutine of its Hub uses it.
//
// A send on the queue never blocks. A connection with maxBatches in its queue is behind, and gets nothing
// until its writer has received the last of them and asks for more. Only Finish sends to a connection that is
// behind, and it must be called only once. A send that would block panics, because the room would wait for
// ever.
type Delivery struct {
	queue   chan<- Batch
	reader  stream.Reader   // the connection's place in the stream
	behind  bool            // the writer must ask for more
	events  bool            // the client gets events
	quiet   uint16          // sweeps since the last line or event
	queued  int             // bytes put into the queue since it was seen empty
	control []*stream.Frame // control frames, heartbeats and pongs for a connection that is behind

	// Only for a client that gets events.
	people    int           // the people count that the client has, or will have with the next batch
	owesCount bool          // the next batch must carry people
	session   *once.Session // nil unless the client numbers its messages
}

// New returns the Delivery of a connection that gets the lines after r. The queue must have the capacity
// QueueSize.
func New(queue chan<- Batch, r stream.Reader) Delivery { return Delivery{queue: queue, reader: r} }

// Subscribe makes d deliver events. The caller must send the client this people count. session is nil unless the
// client numbers its messages.
func (d *Delivery) Subscribe(people int, session *once.Session) {
	d.events, d.people, d.session = true, people, session
}

// Begin sends the first batch. It must be called at most once, before anything else is sent. A client that
// resumes is behind from then on.
func (d *Delivery) Begin(frames []*stream.Frame, resumes bool) {
	d.behind = resumes
	d.put(Batch{frames, resumes})
}

// Session returns the session of a client that numbers its messages, or nil.
func (d *Delivery) Session() *once.Session { return d.session }

// Behind reports whether the connection must ask for more.
func (d *Delivery) Behind() bool { return d.behind }

// Idle reports whether nothing waits for the connection.
func (d *Delivery) Idle() bool { return !d.behind && len(d.queue) == 0 }

// Lag returns the lag of the connection in bytes, as [stream.Reader.Lag].
func (d *Delivery) Lag(s *stream.Stream) int64 { return d.reader.Lag(s) }

// Line returns the number of lines before the first one that the connection still needs.
func (d *Delivery) Line() uint64 { return d.reader.Line() }

// Push sends the newest frame of s, unless the connection is behind. shared must hold only that frame; all
// connections may share it. If messages of the client were acknowledged since the last batch, the
// acknowledgement precedes the frame. Push must be called after each Append.
func (d *Delivery) Push(s *stream.Stream, shared []*stream.Frame) {
	if d.behind {
		return
	}
	d.reader.Skip(s)
	frames := shared
	if d.session != nil {
		if acked, ok := d.session.TakeAck(); ok {
			frames = []*stream.Frame{event.Event{Acked: &acked}.Frame(), shared[0]}
		}
	}
	d.send(s, frames, len(shared[0].Lines))
}

// More sends the next frames of s, at most window bytes or one longer frame. It must be called once after each
// batch that is marked last, when the writer asks for more.
func (d *Delivery) More(s *stream.Stream) {
	entries, size := d.reader.Read(s, window)
	d.behind = false
	if frames := d.next(entries); len(frames) > 0 {
		d.send(s, frames, size)
	}
}

// Beat is the frames of a sweep. All connections share them.
type Beat struct{ ping, event, both *stream.Frame }

// NewBeat returns the Beat of a sweep that begins now.
func NewBeat() *Beat {
	ping, heartbeat := stream.NewFrame(websocket.PingFrame, nil), event.Event{}.Frame()
	return &Beat{ping, heartbeat, &stream.Frame{Bytes: slices.Concat(heartbeat.Bytes, ping.Bytes)}}
}

// Sweep sends a ping if ping says that one is due. A client that gets events gets a heartbeat in the same write, and
// also after each beatSweeps without a line or an event. Sweep must be called each sweep.
func (d *Delivery) Sweep(s *stream.Stream, b *Beat, ping bool) {
	d.quiet++
	switch {
	case ping && d.events:
		d.Control(s, b.both)
	case ping:
		d.Control(s, b.ping)
	case d.events && d.quiet%beatSweeps == 0:
		d.Control(s, b.event)
	}
}

// Control sends a control frame, a heartbeat, or an event that answers a ping. If the connection is behind, the frame
// waits for the next batch, and may be left out if 16 newer ones wait, too.
func (d *Delivery) Control(s *stream.Stream, f *stream.Frame) {
	if d.behind {
		d.control = append(d.control[max(0, len(d.control)+1-maxControl):], f)
	} else {
		d.send(s, []*stream.Frame{f}, 0)
	}
}

// NeedsCount reports whether the client gets events, and has a people count other than people.
func (d *Delivery) NeedsCount(people int) bool { return d.events && d.people != people }

// Count sends the event count, which carries people. If the connection is behind, the next batch has the newest
// people count instead.
func (d *Delivery) Count(s *stream.Stream, people int, count *stream.Frame) {
	d.people, d.owesCount = people, d.behind
	if !d.behind {
		d.send(s, []*stream.Frame{count}, 0)
	}
}

// Rest returns all frames of s that the connection was not sent, and the acknowledgement of all messages that
// came from it, pending ones included. The caller must append the pending lines, because the acknowledgement
// covers them. Then it must drop the connection, whose Lag is still the same.
func (d *Delivery) Rest(s *stream.Stream) (frames []*stream.Frame) {
	if d.behind {
		reader := d.reader
		entries, _ := reader.Read(s, math.MaxUint64)
		frames = d.next(entries)
	}
	if d.session != nil {
		if acked, ok := d.session.TakeLastAck(); ok {
			frames = append(frames, event.Event{Acked: &acked}.Frame())
		}
	}
	return frames
}

// Finish sends the last frames. Nothing may be sent after it.
func (d *Delivery) Finish(frames []*stream.Frame) {
	if len(frames) > 0 {
		d.put(Batch{Frames: frames})
	}
}

// send puts frames, with lines of size bytes, into the queue of a connection that is not behind. If they fill
// the queue, or are not the last of s, the connection is behind from then on.
func (d *Delivery) send(s *stream.Stream, frames []*stream.Frame, size int) {
	if len(d.queue) == 0 {
		d.queued = 0
	}
	d.queued += size
	d.behind = !d.reader.AtEnd(s) || d.queued >= window || len(d.queue) == maxBatches-1
	d.put(Batch{frames, d.behind})
}

// put puts b into the queue. The last frame shows whether b has lines or events, because they follow control frames. If
// it is a ping that waited behind a heartbeat, the next heartbeat only comes early.
func (d *Delivery) put(b Batch) {
	if last := b.Frames[len(b.Frames)-1]; last.Bytes[0]&0x08 == 0 { // no control frame (RFC 6455, section 5.5)
		d.quiet = 0
	}
	select {
	case d.queue <- b:
	default:
		panic("delivery: a queue is full")
	}
}

// next returns the next batch of a connection that was behind. It has the frames of control, an event
// about the lines, and the lines of entries.
func (d *Delivery) next(entries []stream.Entry) (frames []*stream.Frame) {
	frames, d.control = d.control, nil
	if d.events {
		if e := d.nextEvent(entries); !e.IsEmpty() {
			frames = append(frames, e.Frame())
		}
	}
	for _, e := range entries {
		frames = append(frames, e.Frame)
	}
	return frames
}

// nextEvent returns the event that precedes entries, which the client gets late.
func (d *Delivery) nextEvent(entries []stream.Entry) event.Event {
	e := event.Event{Times: event.TimesOf(entries)}
	if d.owesCount {
		d.owesCount = false
		e.People = d.people
	}
	if d.session != nil {
		if acked, ok := d.session.TakeAck(); ok {
			e.Acked = &acked
		}
	}
	return e
}
