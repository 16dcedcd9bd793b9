package main

import (
	"encoding/json"
	"time"

	"golang.org/x/net/websocket"
)

// A room sends up to that many counts of its people a second, to all connections together: in one
// with 10,000 each is told every ten seconds. A count costs as much as a short line: 1,000 of them
// take a hundredth of a core.
const maxCounts = 1000

// Milliseconds up to which times of lines are told as one: a slow reader of short lines would get more of
// times than of lines.
const saidPrecision = 1000

// event is what a client that joins with ?events is told beside lines, as a JSON object in a binary
// message. No client can forge it: the server takes text only.
type event struct {
	People int        `json:"people,omitempty"` // connections in the room, at all chats that relays connect
	Now    int64      `json:"now"`              // the server's clock, in milliseconds since 1970
	Said   [][2]int64 `json:"said,omitempty"`   // of lines to come: how many, and when they were said
	Taken  *uint64    `json:"taken,omitempty"`  // the number of the client's last message that was taken
}

// frame encodes e, with the time.
func (e event) frame() *frame {
	e.Now = time.Now().UnixMilli()
	b, err := json.Marshal(e)
	if err != nil {
		panic(err) // of numbers alone
	}
	return newFrame(websocket.BinaryFrame, b)
}

// greeting returns the first event for c: how many people there are, and of a sender, what was taken
// before: the next message from c has the number behind that.
func (h *Hub) greeting(c *Conn) *frame {
	c.people = h.people()
	e := event{People: c.people}
	if c.senderQuery.id != "" {
		c.sender = h.stream.senders.join(c, c.senderQuery.id, c.senderQuery.taken)
		c.sent, c.toldTaken = c.sender.taken, c.sender.taken
		e.Taken = &c.sender.taken
	}
	return e.frame()
}

// people returns how many people there are in the room.
func (h *Hub) people() int { return len(h.connections) + int(h.elsewhere.Load()) }

// tellPeople tells everyone who does not know it how many people there are, in a large room not in every
// sweep.
func (h *Hub) tellPeople() {
	if h.untold > 0 {
		h.untold--
		return
	}
	var count *frame // the same for all
	people := h.people()
	for c := range h.connections {
		if c.events && c.people != people {
			if count == nil {
				count = event{People: people}.frame()
				h.untold = (len(h.connections) - 1) / maxCounts
			}
			c.people = people
			c.countPending = c.behind // it comes with the next batch then
			if !c.behind {
				h.send(c, []*frame{count}, 0)
			}
		}
	}
}

// appendEvent appends to frames the event that tells c all that it is to know before frames of the
// stream that it did not get at once, if there is any.
func (c *Conn) appendEvent(frames []*frame, held []heldFrame) []*frame {
	e := event{Said: saidTimes(held)}
	if c.countPending {
		c.countPending = false
		e.People = c.people
	}
	e.Taken = c.nextTaken()
	if e.People == 0 && e.Said == nil && e.Taken == nil {
		return frames
	}
	return append(frames, e.frame())
}

// saidTimes returns when frames were said. Those that were said within saidPrecision share a time.
func saidTimes(frames []heldFrame) (said [][2]int64) {
	for _, f := range frames {
		last, lines := len(said)-1, int64(countLines(f.frame.lines))
		if last >= 0 && f.said-said[last][1] < saidPrecision && f.said >= said[last][1] {
			said[last][0] += lines
		} else {
			said = append(said, [2]int64{lines, f.said})
		}
	}
	return said
}
