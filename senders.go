package main

import (
	"container/list"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"example.com/chat/internal/state"
	"example.com/chat/internal/ws"
)

// A room remembers this many senders that have no connection. Beyond it the one that left first is
// forgotten: what it sends again would be said again.
const maxAbsent = 1000

// sender is a client beyond one connection: it numbers its messages, from 1, and sends again what may not
// have arrived. Its numbers hold on all its connections.
type sender struct {
	id       string
	received uint64 // the number of the last message that the Hub has, pending or not
	taken    uint64 // the number of the last message in the stream
	spoke    bool   // the Hub has received a message of it

	conns []*Conn       // connections that may broadcast
	place *list.Element // in senders.absent, while there are none
}

// senders are the senders of a room. Only the Hub uses it while it runs.
type senders struct {
	byID   map[string]*sender
	absent *list.List // of *sender; who left first is first
}

func newSenders() senders { return senders{make(map[string]*sender), list.New()} }

// join adds a connection of a sender, which knows that taken of its messages were taken. It may know more
// than the room, which may have forgotten it, or have lost the last lines in a crash.
func (s *senders) join(c *Conn, id string, taken uint64) *sender {
	joined := s.byID[id]
	if joined == nil {
		joined = &sender{id: id}
		s.byID[id] = joined
	}
	if joined.place != nil {
		s.absent.Remove(joined.place)
		joined.place = nil
	}
	joined.conns = append(joined.conns, c)
	joined.received, joined.taken = max(joined.received, taken), max(joined.taken, taken)
	return joined
}

// leave is called when nothing more will be broadcast from a connection of a sender.
func (s *senders) leave(c *Conn, left *sender) {
	left.conns = slices.DeleteFunc(left.conns, func(other *Conn) bool { return other == c })
	switch {
	case len(left.conns) > 0:
	case left.spoke:
		s.remember(left)
		s.forgetFirst()
	default:
		delete(s.byID, left.id)
	}
}

// remember keeps a sender that has no connection.
func (s *senders) remember(left *sender) {
	s.byID[left.id] = left
	left.place = s.absent.PushBack(left)
}

// forgetFirst forgets those who left first, if more than maxAbsent have left.
func (s *senders) forgetFirst() {
	for s.absent.Len() > maxAbsent {
		first := s.absent.Remove(s.absent.Front()).(*sender)
		delete(s.byID, first.id)
	}
}

// snapshot returns what is to be written of s: those who are absent, who left first is first, and then
// those who are there.
func (s *senders) snapshot() (kept []state.Sender) {
	for place := s.absent.Front(); place != nil; place = place.Next() {
		one := place.Value.(*sender)
		kept = append(kept, state.Sender{ID: one.id, Taken: one.taken})
	}
	for _, one := range s.byID {
		if one.place == nil && one.spoke {
			kept = append(kept, state.Sender{ID: one.id, Taken: one.taken})
		}
	}
	return kept
}

// restore takes what was written. Those who were there when the program stopped may be more than
// maxAbsent: they come back, or are forgotten when others leave.
func (s *senders) restore(kept []state.Sender) {
	for _, one := range kept {
		s.remember(&sender{id: one.ID, received: one.Taken, taken: one.Taken, spoke: true})
	}
}

// senderQuery is what a handshake says with ?sender=ID.TAKEN.
type senderQuery struct {
	id    string // "" if it says nothing
	taken uint64
}

// senderSyntax is the syntax of ID.TAKEN.
var senderSyntax = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}\.[0-9]+$`)

// parseSender returns what a handshake says of its sender.
func parseSender(query url.Values) (senderQuery, *ws.HandshakeError) {
	if !query.Has("sender") {
		return senderQuery{}, nil
	}
	asked := query.Get("sender")
	id, number, _ := strings.Cut(asked, ".")
	taken, err := strconv.ParseUint(number, 10, 52) // JavaScript counts to twice as much
	if err != nil || !senderSyntax.MatchString(asked) || !query.Has("events") {
		return senderQuery{}, &ws.HandshakeError{Status: http.StatusBadRequest, Reason: "sender",
			Text: fmt.Sprintf("Want sender=ID.TAKEN, with an ID of up to 64 letters, digits, - and _, and with events; not %.100q.", asked)}
	}
	return senderQuery{strings.Clone(id), taken}, nil
}

// receive numbers messages that come on c, and returns how many of them, the first ones, the Hub has
// received before.
func (s *sender) receive(c *Conn, messages uint64) (repeated uint64) {
	repeated = min(messages, max(s.received, c.sent)-c.sent)
	c.sent += messages
	if c.sent > s.received {
		s.received, s.spoke = c.sent, true
	}
	return repeated
}

// dropRepeated returns f without the lines that c's sender has sent before, or nil if there is nothing else.
func (h *Hub) dropRepeated(c *Conn, f *frame) *frame {
	lines := uint64(countLines(f.lines))
	repeated := c.sender.receive(c, lines)
	if repeated < lines {
		h.unacknowledged = append(h.unacknowledged, c.sender)
	}
	return withoutLines(f, int(repeated))
}

// acknowledge tells the senders of what is pending that it was taken: it is put into the stream next.
func (h *Hub) acknowledge() {
	for _, s := range h.unacknowledged {
		if s.taken == s.received {
			continue // it stands here more than once
		}
		s.taken = s.received
		for _, c := range s.conns {
			if h.connections[c] && !c.behind { // otherwise it is told with the next batch
				h.sendTaken(c)
			}
		}
	}
	clear(h.unacknowledged)
	h.unacknowledged = h.unacknowledged[:0]
}

// sendTaken tells c what was taken, unless it knows. c is not behind.
func (h *Hub) sendTaken(c *Conn) {
	if taken := c.nextTaken(); taken != nil {
		h.send(c, []*frame{event{Taken: taken}.frame()}, 0)
	}
}

// nextTaken returns the number that c is to be told now, and notes that it is told; or nil.
func (c *Conn) nextTaken() *uint64 {
	if c.sender == nil || c.toldTaken == c.sender.taken {
		return nil
	}
	c.toldTaken = c.sender.taken
	return &c.sender.taken
}
