package relay

import (
	"bytes"
	"example.com/chat/internal/lines"
	"math"
	"sort"
	"sync"
	"time"
)

const (
	// Bytes that an Outbox holds while its relay, or NATS, is away: 20 s of 50,000 lines a second of 64 bytes, and
	// an hour of 85 lines a second of 80 bytes. relay/README.md and docs/protocol.md say so, too.
	maxHeld = 64 << 20

	// A line is held for that long after it is known to be in the stream: NATS writes what it has acknowledged onto the
	// disk each two minutes (its sync_interval), and may lose it before.
	holdFor = 3 * time.Minute

	// Bytes that an entry takes beside its lines.
	entryCost = 128

	// Bytes that a Said takes in a message, at most.
	saidCost = 128

	// Milliseconds up to which times of lines are told as one.
	saidPrecision = 1000
)

// Outbox holds the lines that were said at a chat, in all rooms, for its relay. It numbers them from 1. Any
// goroutine may use it.
type Outbox struct {
	mu      sync.Mutex
	entries []entry   // oldest first
	size    int       // bytes that they take
	next    uint64    // number of the next line
	asked   uint64    // what is before this number is in the stream
	counted uint64    // what is before this number, and lost, was counted
	settled uint64    // what is before this number has been there for holdFor
	past    []askedAt // of asked, oldest first

	added chan struct{} // closed when lines are added; nil while nobody waits for that
}

// askedAt is what was asked at some time.
type askedAt struct {
	at    time.Time
	asked uint64
}

// entry is what was said at once in a room.
type entry struct {
	said  Segment
	first uint64 // number of the first line
	lines []byte
}

func (e entry) next() uint64 { return e.first + uint64(e.said.Lines) }
func (e entry) cost() int    { return len(e.lines) + entryCost }

func NewOutbox() *Outbox { return &Outbox{next: 1, asked: 1} }

// Snapshot returns the lines that o holds, or the number of the next one.
func (o *Outbox) Snapshot() (held Message) {
	o.mu.Lock()
	defer o.mu.Unlock()
	held.First = o.next
	if len(o.entries) > 0 {
		held.First = o.entries[0].first
	}
	for _, e := range o.entries {
		held.add(e, math.MaxInt)
	}
	return held
}

// RestoreOutbox returns an Outbox that holds what Snapshot returned, and of which asked was asked.
func RestoreOutbox(held Message, asked uint64) *Outbox {
	o := &Outbox{next: held.First, asked: asked}
	if !held.hasLines() {
		return o
	}
	text := held.Body
	for _, said := range held.Segments {
		var part []byte
		part, text = lines.Cut(text, said.Lines)
		o.add(said, part)
	}
	return o
}

// Add adds lines that were said in a room, each with a line break behind it. They must not be changed any more.
// It returns the number of the last of them.
func (o *Outbox) Add(room string, lines []byte, at time.Time) (last uint64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.add(Segment{room, bytes.Count(lines, []byte{'\n'}), at.UnixMilli()}, lines)
	o.trim()
	if o.added != nil {
		close(o.added)
		o.added = nil
	}
	return o.next - 1
}

// add adds an entry. o.mu is locked, or nobody else knows o.
func (o *Outbox) add(said Segment, lines []byte) {
	e := entry{said, o.next, lines}
	o.entries = append(o.entries, e)
	o.size += e.cost()
	o.next = e.next()
}

// Trim drops lines that need not be held any more. It is to be called each second.
func (o *Outbox) Trim(now time.Time) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for len(o.past) > 0 && now.Sub(o.past[0].at) >= holdFor {
		o.settled = o.past[0].asked
		o.past = o.past[1:]
	}
	if o.asked != o.settled && (len(o.past) == 0 || o.past[len(o.past)-1].asked != o.asked) {
		o.past = append(o.past, askedAt{now, o.asked})
	}
	o.trim()
}

// trim drops lines that have been in the stream for long, or are too many. o.mu is locked.
func (o *Outbox) trim() {
	n := 0
	for n < len(o.entries) && (o.size > maxHeld || o.entries[n].next() <= o.settled) {
		o.size -= o.entries[n].cost()
		n++
	}
	clear(o.entries[:n])
	o.entries = o.entries[n:]
}

// Read returns the lines that are asked for, as many as there are, and how many are lost, because they are not
// held any more: each is counted once. If there are no such lines yet Read returns a channel that is closed when
// there may be.
func (o *Outbox) Read(ask Ask) (m Message, lost uint64, added <-chan struct{}) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if ask.From > o.next {
		lost = o.skipTo(ask.From)
	}
	o.asked = max(o.asked, ask.From)
	wanted := ask.From
	if wanted == 0 {
		wanted = o.asked // what is before that has been in the stream, and may have been dropped there in its time
	}
	i := sort.Search(len(o.entries), func(i int) bool { return o.entries[i].next() > ask.From })
	if i == len(o.entries) {
		if o.added == nil {
			o.added = make(chan struct{})
		}
		return m, lost, o.added
	}
	m.First = max(ask.From, o.entries[i].first)
	for ; i < len(o.entries); i++ {
		if !m.add(o.entries[i].from(m.Next()), ask.Limit) {
			break
		}
	}
	if wanted = max(wanted, o.counted); m.First > wanted {
		lost, o.counted = m.First-wanted, m.First
	}
	return m, lost, nil
}

// skipTo has the next line get a number, because those before it were given: the Outbox was restored from an old copy.
// It returns how many lines are lost, which have some of these numbers. o.mu is locked.
func (o *Outbox) skipTo(number uint64) (lost uint64) {
	lost = o.next - o.asked
	o.entries, o.size, o.next = nil, 0, number
	return lost
}

// from returns the part of e that begins with a line.
func (e entry) from(line uint64) entry {
	n := int(line - e.first)
	_, e.lines = lines.Cut(e.lines, n)
	e.first = line
	e.said.Lines -= n
	return e
}

// add adds e to m, or as many of its lines as make m no larger than limit bytes, but at least one line in all. It
// reports whether these are all.
func (m *Message) add(e entry, limit int) (all bool) {
	if last := len(m.Segments) - 1; last < 0 || !m.Segments[last].joins(e.said) {
		m.Segments = append(m.Segments, Segment{Room: e.said.Room, At: e.said.At})
	}
	limit -= saidCost*len(m.Segments) + len(m.Body)
	n, size := e.said.Lines, len(e.lines)
	if size > limit {
		n, size = fitting(e.lines, limit)
	}
	if n == 0 && len(m.Body) == 0 {
		n, size = 1, bytes.IndexByte(e.lines, '\n')+1
	}
	last := &m.Segments[len(m.Segments)-1]
	last.Lines += n
	if last.Lines == 0 {
		m.Segments = m.Segments[:len(m.Segments)-1]
	}
	m.Body = append(m.Body, e.lines[:size]...)
	return n == e.said.Lines
}

// joins reports whether other, which was said after s, can be told with it.
func (s Segment) joins(other Segment) bool {
	return s.Room == other.Room && other.At-s.At < saidPrecision && other.At >= s.At
}

// fitting returns how many whole lines of text make no more than limit bytes, and how many they make.
func fitting(text []byte, limit int) (lines, size int) {
	size = bytes.LastIndexByte(text[:max(limit, 0)], '\n') + 1
	return bytes.Count(text[:size], []byte{'\n'}), size
}

// Asked returns the highest number that was asked for: all lines before it are in the stream.
func (o *Outbox) Asked() uint64 {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.asked
}

// Unasked returns how many lines nobody knows to be in the stream.
func (o *Outbox) Unasked() uint64 {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.next - o.asked
}
