// Package event encodes what the server reports to clients beside lines: JSON objects in binary messages, for
// clients that join with ?events. docs/protocol.md lists the keys.
//
// No client can forge an event, because the server passes on text messages only.
package event

import (
	"encoding/json"
	"time"

	"golang.org/x/net/websocket"

	"example.com/chat/internal/lines"
	"example.com/chat/internal/stream"
)

// timePrecision is the number of milliseconds within which lines share a time. A slow reader of short lines would
// otherwise get more bytes of times than of lines.
const timePrecision = 1000

// Event is one event. A zero key is left out, except Now. An event of Now alone is a heartbeat.
//
// An event reaches a client in one of four ways: when it joins (Hub.greeting), at once as a frame that all
// clients share, as the answer to a command (Conn.command), or, for a client that is behind, with its next lines
// (delivery.nextEvent).
type Event struct {
	People int        `json:"people,omitempty"` // connections in the room, at all chats that relays connect
	Now    int64      `json:"now"`              // the server's clock, in milliseconds since 1970; set by Frame
	Times  [][2]int64 `json:"said,omitempty"`   // [lines, at] for the lines that follow, at in milliseconds since 1970
	Acked  *uint64    `json:"taken,omitempty"`  // number of the client's last message that is in the stream
	Page   string     `json:"page,omitempty"`   // digest of the page's files (assets.Digest)
	Pong   *float64   `json:"pong,omitempty"`   // number of the ping that this event answers
}

// IsEmpty reports whether e has nothing but the time.
func (e Event) IsEmpty() bool {
	return e.People == 0 && e.Times == nil && e.Acked == nil && e.Page == "" && e.Pong == nil
}

// Frame encodes e as a binary message, with the current time in Now.
func (e Event) Frame() *stream.Frame {
	e.Now = time.Now().UnixMilli()
	b, err := json.Marshal(e)
	if err != nil {
		panic(err) // numbers can always be encoded
	}
	return stream.NewFrame(websocket.BinaryFrame, b)
}

// TimesOf returns the Times of an event before the lines of entries.
func TimesOf(entries []stream.Entry) (times [][2]int64) {
	for _, e := range entries {
		last, n := len(times)-1, int64(lines.Count(e.Frame.Lines))
		if last >= 0 && e.At-times[last][1] < timePrecision && e.At >= times[last][1] {
			times[last][0] += n
		} else {
			times = append(times, [2]int64{n, e.At})
		}
	}
	return times
}
