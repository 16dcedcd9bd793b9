package relay

import (
	"bytes"
	"crypto/rand"
	"errors"
	"math"
	"sort"
	"sync"
	"time"

	"example.com/chat/internal/lines"
)

const (
	// maxHeld is the number of bytes that an Outbox holds while the relay or NATS is away. That is 20 s of
	// 50,000 lines a second of 64 bytes, or an hour of 85 lines a second of 80 bytes. relay/README.md and
	// docs/relay.md state these figures, too.
	maxHeld = 64 << 20

	// holdFor is how long an Outbox holds a line that is in the JetStream stream. NATS acknowledges a message
	// up to two minutes (its sync_interval) before it writes the message to the disk, and may lose it until
	// then.
	holdFor = 3 * time.Minute

	// entryCost is the number of bytes that an entry is charged beside its lines.
	entryCost = 128

	// segmentCost is the largest number of bytes that a Segment has in a message.
	segmentCost = 128

	// timePrecision is the span, in milliseconds, within which lines of a room share a Segment and so a time. A
	// shorter one would make more segments than lines can afford.
	timePrecision = 1000
)

// ErrOrigin is the error of an [Outbox.Read] for an origin that the outbox has given up.
var ErrOrigin = errors.New("the chat has a new origin")

// Outbox holds the local lines of all rooms for the relay, and numbers them from 1. Any goroutine may use it.
//
// The numbers belong to an origin, which names the chat. The Outbox gives up its origin when it finds that
// somebody else has numbered lines of it ([Outbox.Disown]), or when the numbers end.
//
// A relay that asks for a number has put all lines before it into the JetStream stream. So the numbers have
// three ranges:
//
//	before settled     in the JetStream stream for holdFor, dropped
//	settled to asked   in the JetStream stream, held in case NATS loses them
//	asked to next      not known to be in the JetStream stream
//
// At all times settled <= asked <= next and counted <= next.
type Outbox struct {
	mu      sync.Mutex
	origin  string
	entries []entry   // oldest first, without gaps; the last one ends before next
	size    int       // cost of the entries
	next    uint64    // number of the next line
	asked   uint64    // every line before asked is in the JetStream stream
	settled uint64    // every line before settled has been there for holdFor
	counted uint64    // every lost line before counted has been counted as lost
	past    []askedAt // values of asked above settled, oldest first

	added chan struct{} // closed by the next Add; nil while no Read waits for it
}

// askedAt is the value of asked at a time.
type askedAt struct {
	at    time.Time
	asked uint64
}

// entry is the lines of one Add.
type entry struct {
	segment Segment
	first   uint64 // number of the first line
	text    []byte
}

func (e entry) next() uint64 { return e.first + uint64(e.segment.Lines) }
func (e entry) cost() int    { return len(e.text) + entryCost }

// NewOutbox returns an empty Outbox with an origin of its own.
func NewOutbox() *Outbox { return &Outbox{origin: rand.Text(), next: 1, asked: 1} }

// Snapshot returns a message with the origin and all lines in the outbox, and the highest number that a relay
// has asked for. If there are no lines, the message has the number of the next one.
func (o *Outbox) Snapshot() (held Message, asked uint64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	held.Origin, held.First = o.origin, o.next
	if len(o.entries) > 0 {
		held.First = o.entries[0].first
	}
	for _, e := range o.entries {
		held.add(e, math.MaxInt)
	}
	return held, o.asked
}

// RestoreOutbox returns an Outbox that continues from a Snapshot, or an error if the arguments are not one.
// If the numbers are higher than numbers may be, the Outbox has a new origin. The Outbox keeps held.Body.
func RestoreOutbox(held Message, asked uint64) (*Outbox, error) {
	if empty := len(held.Segments) == 0 && len(held.Body) == 0; !empty && !held.hasLines() {
		return nil, errLines
	}
	if held.First < 1 || held.Next() < held.First || asked < 1 || asked > held.Next() {
		return nil, errors.New("a number is out of range")
	}
	o := &Outbox{origin: held.Origin, next: held.First, asked: asked}
	text := held.Body
	for _, segment := range held.Segments {
		var part []byte
		part, text = lines.Cut(text, segment.Lines)
		o.addLocked(segment, part)
	}
	if o.next > maxNumber {
		o.asked = max(o.asked, held.First) // a gap before the lines may be as large as the numbers
		o.renameLocked()
	}
	return o, nil
}

// Add adds lines of a room, each ended by '\n'. It returns the origin and the number of the first line. The
// outbox keeps text, which must not change afterwards.
func (o *Outbox) Add(room string, text []byte, at time.Time) (origin string, first uint64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	segment := Segment{room, lines.Count(text), at.UnixMilli()}
	if o.next+uint64(segment.Lines) > maxNumber {
		o.renameLocked()
	}
	first = o.next
	o.addLocked(segment, text)
	o.trimLocked()
	o.wakeLocked()
	return o.origin, first
}

// wakeLocked ends the wait of every Read.
func (o *Outbox) wakeLocked() {
	if o.added != nil {
		close(o.added)
		o.added = nil
	}
}

func (o *Outbox) addLocked(segment Segment, text []byte) {
	e := entry{segment, o.next, text}
	o.entries = append(o.entries, e)
	o.size += e.cost()
	o.next = e.next()
}

// Trim drops the lines that have been in the JetStream stream for holdFor. The caller must call it once a
// second.
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
	o.trimLocked()
}

// trimLocked drops settled entries, and the oldest ones while the outbox is larger than maxHeld.
func (o *Outbox) trimLocked() {
	n := 0
	for n < len(o.entries) && (o.size > maxHeld || o.entries[n].next() <= o.settled) {
		o.size -= o.entries[n].cost()
		n++
	}
	clear(o.entries[:n])
	o.entries = o.entries[n:]
}

// Disown gives up the outbox's origin if it is the given one, and next is above the number of the next line.
// Next is the number after a line that is said to be of this origin. This outbox has not given out such a
// number, so the line is forged, or the chat was restored from an old copy. Other chats would take the next
// lines for repetitions.
//
// Disown then returns true, and the number of the last line of the former origin. The lines that a relay has
// not asked for go out under the new origin, with new numbers from 1.
func (o *Outbox) Disown(origin string, next uint64) (last uint64, disowned bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if origin != o.origin || next <= o.next {
		return 0, false
	}
	last = o.next - 1
	o.renameLocked()
	return last, true
}

// renameLocked gives the outbox a new origin. It drops the lines before asked, because other chats would say
// them twice, and lowers all numbers so that asked becomes 1. So lost lines remain a gap.
func (o *Outbox) renameLocked() {
	lowered := o.asked - 1
	o.settled = o.asked
	o.trimLocked()
	if len(o.entries) > 0 && o.entries[0].first < o.asked {
		cut := o.entries[0].from(o.asked)
		o.size -= len(o.entries[0].text) - len(cut.text)
		o.entries[0] = cut
	}
	for i := range o.entries {
		o.entries[i].first -= lowered
	}
	o.counted = max(o.counted, o.asked) - lowered
	o.next -= lowered
	o.origin, o.asked, o.settled, o.past = rand.Text(), 1, 0, nil
	o.wakeLocked()
}

// Read returns a message with the lines that ask asks for. If the outbox has none of them yet, Read returns a
// channel instead, which is closed when that may have changed. It returns ErrOrigin if origin, to whose
// numbers ask refers, is not the outbox's. The caller must have called Disown for ask.From.
//
// A line that a relay asks for is lost if the outbox no longer holds it. Read returns the number of lines
// that were found to be lost, and counts each of them once.
func (o *Outbox) Read(origin string, ask Ask) (m Message, lost uint64, added <-chan struct{}, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if origin != o.origin || ask.From > o.next { // the second means a number of another origin, too
		return m, 0, nil, ErrOrigin
	}
	o.asked = max(o.asked, ask.From)

	i := sort.Search(len(o.entries), func(i int) bool { return o.entries[i].next() > ask.From })
	if i == len(o.entries) {
		if o.added == nil {
			o.added = make(chan struct{})
		}
		return m, 0, o.added, nil
	}
	m.First = max(ask.From, o.entries[i].first)
	from := max(ask.From, o.counted)
	if ask.From == 0 {
		from = max(o.asked, o.counted) // the lines before asked are in the JetStream stream
	}
	if m.First > from {
		lost += m.First - from
		o.counted = m.First
	}
	for _, e := range o.entries[i:] {
		if !m.add(e.from(max(ask.From, e.first)), ask.Limit) {
			break
		}
	}
	return m, lost, nil, nil
}

// from returns e without the lines before number.
func (e entry) from(number uint64) entry {
	n := int(number - e.first)
	_, e.text = lines.Cut(e.text, n)
	e.first = number
	e.segment.Lines -= n
	return e
}

// add appends e to m, or as many of its lines as keep m within limit bytes. The first line of m is appended
// even if it is longer. add reports whether m has all lines of e.
func (m *Message) add(e entry, limit int) (all bool) {
	if last := len(m.Segments) - 1; last < 0 || !m.Segments[last].includes(e.segment) {
		m.Segments = append(m.Segments, Segment{Room: e.segment.Room, At: e.segment.At})
	}
	limit -= segmentCost*len(m.Segments) + len(m.Body)
	n, size := e.segment.Lines, len(e.text)
	if size > limit {
		size = bytes.LastIndexByte(e.text[:max(limit, 0)], '\n') + 1
		n = lines.Count(e.text[:size])
	}
	if n == 0 && len(m.Body) == 0 {
		n, size = 1, lines.Length(e.text, 1)
	}
	last := &m.Segments[len(m.Segments)-1]
	last.Lines += n
	if last.Lines == 0 {
		m.Segments = m.Segments[:len(m.Segments)-1]
	}
	m.Body = append(m.Body, e.text[:size]...)
	return n == e.segment.Lines
}

// includes reports whether other, the next segment, may become part of s: it has the same room and about the
// same time.
func (s Segment) includes(other Segment) bool {
	return s.Room == other.Room && other.At-s.At < timePrecision && other.At >= s.At
}

// Asked returns the origin, and the highest number that a relay has asked for. Every line before that number
// is in the JetStream stream.
func (o *Outbox) Asked() (origin string, asked uint64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.origin, o.asked
}

// Origin returns the origin of the next line.
func (o *Outbox) Origin() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.origin
}

// Unasked returns the number of lines that may not be in the JetStream stream.
func (o *Outbox) Unasked() uint64 {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.next - o.asked
}
