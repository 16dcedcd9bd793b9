// Package relay is what a chat and its relay say to each other, and what a chat remembers for that: the
// lines that its relay may ask for, and up to where it has heard other chats. docs/protocol.md has the
// protocol.
package relay

import (
	"bytes"
	"encoding/json"
	"errors"
	"example.com/chat/internal/once"
	"fmt"
	"slices"
)

// OriginHeader is the Origin header of a relay's handshake. No page has it, so no page in a browser beside the chat
// can pass for a relay.
const OriginHeader = "relay://relay"

// Message is a message between a chat and its relay, and in the stream: a line of JSON, and behind it Body. What it
// is is told by the fields that are set: hello, ask, people, lines of the chat (First, Said, and lines in Body), or
// what the relay has from the stream (Position).
type Message struct {
	Hello  *Hello         `json:"hello,omitempty"`
	Ask    *Ask           `json:"ask,omitempty"`
	People map[string]int `json:"people,omitzero"` // how many there are in each room, without those that have none

	First    uint64    `json:"first,omitempty"` // number of the first line
	Segments []Segment `json:"said,omitempty"`  // in which room they were said, and when

	// From the stream: Body is a message with lines, or nothing if only the position is told.
	Cursor  *Cursor `json:"position,omitempty"` // of the message
	Backlog bool    `json:"backlog,omitempty"`  // more follows of what was there before a chat that has just started

	Origin string `json:"origin,omitempty"` // which chat has said the lines, or has the people; from the relay

	Body []byte `json:"-"`
}

// Hello is the first message from a chat.
type Hello struct {
	Origin  string     `json:"origin"`            // of the chat
	Asked   uint64     `json:"asked"`             // the highest number that a relay has asked for
	Cursor  Cursor     `json:"position"`          // that a relay has told last
	Backlog bool       `json:"backlog,omitempty"` // the chat has just started, and wants a backlog
	Heard   once.Marks `json:"heard,omitempty"`   // what the chat has heard; in what it keeps at a stop
}

// Position is a message in the stream. With its time it can be told from another one that has the same sequence,
// because the stream lost its end. The zero Position is the stream's beginning.
type Cursor struct {
	Seq  uint64 `json:"seq"`
	Time int64  `json:"time"` // when it was stored, in nanoseconds since 1970
}

// Ask asks the chat for the lines from number From on, up to Limit bytes but at least one line; or, with 0, for
// all that it holds. The chat answers when there are any. What is before From is in the stream.
type Ask struct {
	From  uint64 `json:"from"`
	Limit int    `json:"limit"`
}

// Said says of some lines in which room they were said, and when.
type Segment struct {
	Room  string `json:"room"`
	Lines int    `json:"lines"` // at least one
	At    int64  `json:"at"`    // milliseconds since 1970
}

// Encode returns m as it is sent.
func (m Message) Encode() []byte {
	header, err := json.Marshal(m)
	if err != nil {
		panic(err) // of strings and numbers alone
	}
	return slices.Concat(header, []byte{'\n'}, m.Body)
}

const (
	// No number of a line is higher: so many lines are never said, and sums don't overflow.
	maxNumber = 1 << 62

	// People that a chat has in a room, at most.
	maxPeople = 1 << 30
)

var (
	errMessage = errors.New("not a message between a chat and its relay")
	errNumber  = fmt.Errorf("%w: a number is out of range", errMessage)
)

// Decode returns the message that b is. It refers to b. An error says why b is none.
func Decode(b []byte) (m Message, err error) {
	header, body, _ := bytes.Cut(b, []byte{'\n'})
	if err := json.Unmarshal(header, &m); err != nil {
		return m, fmt.Errorf("%w: %w", errMessage, err)
	}
	m.Body = body
	return m, m.check()
}

// check returns an error if m has numbers that can't be.
func (m Message) check() error {
	if m.First > maxNumber || m.Ask != nil && m.Ask.From > maxNumber {
		return errNumber
	}
	for _, n := range m.People {
		if n < 1 || n > maxPeople {
			return errNumber
		}
	}
	return nil
}

// DecodeLines returns the message that b is, with lines of a chat.
func DecodeLines(b []byte) (m Message, err error) {
	m, err = Decode(b)
	if err == nil && !m.hasLines() {
		err = fmt.Errorf("%w: it does not say of each line where it was said", errMessage)
	}
	return m, err
}

// hasLines reports whether m has lines, and says of each where it was said.
func (m Message) hasLines() bool {
	left := bytes.Count(m.Body, []byte{'\n'})
	for _, said := range m.Segments {
		if said.Lines < 1 || said.Lines > left {
			return false
		}
		left -= said.Lines
	}
	return left == 0 && len(m.Segments) > 0 && m.Body[len(m.Body)-1] == '\n' && m.First > 0
}

// Next returns the number behind those of m's lines.
func (m Message) Next() uint64 {
	next := m.First
	for _, said := range m.Segments {
		next += uint64(said.Lines)
	}
	return next
}
