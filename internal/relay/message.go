// Package relay holds the two parts of the relay protocol that a chat and its relay share: the messages, and
// the outbox, which keeps a chat's lines for its relay. docs/relay.md describes the protocol.
//
// The package makes the outgoing half of "exactly once" possible: an [Outbox] numbers the lines of a chat
// from 1, without gaps over all rooms, and can repeat any of them until the relay has stored them safely. The
// receiving chat drops lines whose number it has accepted before.
package relay

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"example.com/chat/internal/lines"
	"example.com/chat/internal/once"
)

// OriginHeader is the Origin header of a relay's handshake. A browser never sends it, so a page that can
// reach the chat's address for relays can't pass for a relay.
const OriginHeader = "relay://relay"

// Message is a message between a chat and its relay, and a message of the JetStream stream. It is encoded as
// a line of JSON followed by Body. The fields that are set tell its kind: Hello, Ask, People, lines of a chat
// (First, Segments and Body), or a message of the JetStream stream (Cursor).
type Message struct {
	Hello  *Hello         `json:"hello,omitempty"`
	Ask    *Ask           `json:"ask,omitempty"`
	People map[string]int `json:"people,omitzero"` // number of connections by room; empty rooms are left out

	// Repeated comes with People. By origin, it has the highest line number that the chat knows, of the
	// origins whose last lines it took for repetitions. An origin that has not given out that number finds
	// out here.
	Repeated map[string]uint64 `json:"repeated,omitempty"`

	// First is the number of the first line in Body, and Segments assign these lines to rooms.
	First    uint64    `json:"first,omitempty"`
	Segments []Segment `json:"said,omitempty"`

	// Cursor belongs to the message of the JetStream stream in Body. If Body is empty, only the cursor moves.
	// Backlog marks a message of the backlog. More messages follow.
	Cursor  *Cursor `json:"position,omitempty"`
	Backlog bool    `json:"backlog,omitempty"`

	Origin string `json:"origin,omitempty"` // the chat whose lines or people these are; the relay sets it

	Body []byte `json:"-"`
}

// Hello is a chat's first message to a relay.
type Hello struct {
	Origin  string `json:"origin"`            // of the chat
	Asked   uint64 `json:"asked"`             // highest number that a relay has asked for
	Cursor  Cursor `json:"position"`          // last message of the JetStream stream that the chat has processed
	Backlog bool   `json:"backlog,omitempty"` // the chat has just started and wants a backlog
}

// Cursor is a message of the JetStream stream. The time tells it from another message with the same sequence,
// which exists if the JetStream stream has lost its end. The zero Cursor is the beginning of the JetStream
// stream.
type Cursor struct {
	Seq  uint64 `json:"seq"`
	Time int64  `json:"time"` // when it was stored, in nanoseconds since 1970
}

// Ask asks a chat for its lines from number From on. From 0 asks for all lines in the outbox, and any other
// number tells that the lines before it are in the JetStream stream. The chat answers once it has such a
// line, with at most Limit bytes or a single line.
type Ask struct {
	From  uint64 `json:"from"`
	Limit int    `json:"limit"`
}

// Segment describes consecutive lines of one room.
type Segment struct {
	Room  string `json:"room"`
	Lines int    `json:"lines"` // at least one
	At    int64  `json:"at"`    // when they were said, in milliseconds since 1970
}

// Encode returns m as it is sent.
func (m Message) Encode() []byte {
	header, err := json.Marshal(m)
	if err != nil {
		panic(err) // m consists of strings and numbers alone
	}
	return slices.Concat(header, []byte{'\n'}, m.Body)
}

const (
	// maxNumber is the highest number in a message: of a line, of the line after the last one, or of the line
	// that a relay asks for. So a relay can ask for the line after any that it can decode.
	maxNumber = once.MaxNumber

	// maxSegments is the number of segments in a message of the JetStream stream. A chat sends at most 1 MiB of
	// lines in a message, or one longer line.
	maxSegments = 1 << 19

	// maxPeople is the largest number of people that a chat may report for a room, so that sums don't overflow.
	maxPeople = 1 << 30
)

var (
	errMessage  = errors.New("not a message between a chat and its relay")
	errNumber   = fmt.Errorf("%w: a number is out of range", errMessage)
	errSegments = fmt.Errorf("%w: it has too many segments", errMessage)
	errLines    = fmt.Errorf("%w: its segments do not match its lines", errMessage)
)

// Decode decodes b. The message's Body aliases b. An error says why b is no message.
func Decode(b []byte) (m Message, err error) {
	header, body, _ := bytes.Cut(b, []byte{'\n'})
	if err := json.Unmarshal(header, &m); err != nil {
		return m, fmt.Errorf("%w: %w", errMessage, err)
	}
	m.Body = body
	if m.First > maxNumber || m.Ask != nil && m.Ask.From > maxNumber || m.Hello != nil && m.Hello.Asked > maxNumber {
		return m, errNumber
	}
	for _, n := range m.Repeated {
		if n > maxNumber {
			return m, errNumber
		}
	}
	for _, n := range m.People {
		if n < 1 || n > maxPeople {
			return m, errNumber
		}
	}
	return m, nil
}

// DecodeLines decodes b, and checks that it has at least one line, that its segments cover exactly its lines,
// and that the numbers of its lines are in range. The message's Body aliases b.
func DecodeLines(b []byte) (m Message, err error) {
	m, err = Decode(b)
	if err == nil && !m.hasLines() {
		err = errLines
	}
	if err == nil && m.Next() > maxNumber {
		err = errNumber
	}
	if len(m.Segments) > maxSegments {
		err = errSegments
	}
	return m, err
}

// hasLines reports whether m has at least one line, and segments for exactly the lines in Body.
func (m Message) hasLines() bool {
	left := lines.Count(m.Body)
	for _, segment := range m.Segments {
		if segment.Lines < 1 || segment.Lines > left {
			return false
		}
		left -= segment.Lines
	}
	return left == 0 && len(m.Segments) > 0 && m.Body[len(m.Body)-1] == '\n' && m.First > 0
}

// Lines returns the number of lines in m.
func (m Message) Lines() uint64 {
	n := uint64(0)
	for _, segment := range m.Segments {
		n += uint64(segment.Lines)
	}
	return n
}

// Next returns the number that follows those of m's lines.
func (m Message) Next() uint64 { return m.First + m.Lines() }
