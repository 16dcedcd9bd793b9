package main

import (
	"container/list"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"

	"chat/internal/state"
	"chat/internal/ws"
)

// Senders without a connection that a room remembers: of more, those that left first are forgotten, and
// what they send again is said again.
const maxAbsent = 1000

// sender is a client beyond one connection: it numbers its messages, from 1, and sends again what may not
// have arrived.
type sender struct {
	id    string
	seen  uint64 // messages that the Hub has, pending ones included
	taken uint64 // messages that are in the stream

	conns int           // connections on which it may send
	place *list.Element // in senders.absent, while there are none
}

// senders are the senders of a room. Only the Hub uses it while it runs.
type senders struct {
	byID   map[string]*sender
	absent *list.List // of *sender; who left first is first
}

func newSenders() senders { return senders{make(map[string]*sender), list.New()} }

// join returns the sender of a new connection, which says that taken of its messages were taken. It may
// know better, or have known it before a restart.
func (s *senders) join(id string, taken uint64) *sender {
	joined := s.byID[id]
	if joined == nil {
		joined = &sender{id: id}
		s.byID[id] = joined
	}
	if joined.place != nil {
		s.absent.Remove(joined.place)
		joined.place = nil
	}
	joined.conns++
	joined.seen, joined.taken = max(joined.seen, taken), max(joined.taken, taken)
	return joined
}

// leave is called when a connection has sent its last message.
func (s *senders) leave(left *sender) {
	left.conns--
	if left.conns > 0 {
		return
	}
	left.place = s.absent.PushBack(left)
	if left.seen == 0 {
		s.forget(left.place)
	} else if s.absent.Len() > maxAbsent {
		s.forget(s.absent.Front())
	}
}

// forget forgets an absent sender.
func (s *senders) forget(place *list.Element) {
	delete(s.byID, s.absent.Remove(place).(*sender).id)
}

// snapshot returns what is to be written of s.
func (s *senders) snapshot() (kept []state.Sender) {
	for _, one := range s.byID {
		if one.taken > 0 {
			kept = append(kept, state.Sender{ID: one.id, Taken: one.taken})
		}
	}
	return kept
}

// restore takes what was written.
func (s *senders) restore(kept []state.Sender) {
	for _, one := range kept {
		s.leave(s.join(one.ID, one.Taken))
	}
}

// senderQuery is the syntax of ?sender=ID.TAKEN.
var senderQuery = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}\.[0-9]+$`)

// parseSender returns the sender that a handshake names, or "".
func parseSender(query url.Values) (id string, taken uint64, refused *ws.HandshakeError) {
	if !query.Has("sender") {
		return "", 0, nil
	}
	asked := query.Get("sender")
	id, number, _ := strings.Cut(asked, ".")
	taken, err := strconv.ParseUint(number, 10, 63)
	if err != nil || !senderQuery.MatchString(asked) || !query.Has("events") {
		return "", 0, &ws.HandshakeError{Status: http.StatusBadRequest, Reason: "sender",
			Text: fmt.Sprintf("Want sender=ID.TAKEN, with an ID of up to 64 letters, digits, - and _, and with events; not %.100q.", asked)}
	}
	return strings.Clone(id), taken, nil
}

// unseen returns f without the lines that c's sender has sent before, or nil if there is nothing else.
func (h *Hub) unseen(c *Conn, f *frame) *frame {
	lines := uint64(countLines(f.lines))
	again := min(lines, c.sender.seen-min(c.sender.seen, c.sent))
	c.sent += lines
	c.sender.seen = max(c.sender.seen, c.sent)
	h.unacknowledged = append(h.unacknowledged, c)
	switch again {
	case 0:
		return f
	case lines:
		return nil
	default:
		return withoutLines(f, int(again))
	}
}

// acknowledge tells the senders of what is pending that it was taken: it is put into the stream now.
func (h *Hub) acknowledge() {
	for _, c := range h.unacknowledged {
		c.sender.taken = c.sender.seen
		if !h.connections[c] || c.behind {
			continue // it is told with the next batch
		}
		if taken := c.acknowledge(); taken != nil {
			h.send(c, []*frame{event{Taken: taken}.frame()}, 0)
		}
	}
	clear(h.unacknowledged)
	h.unacknowledged = h.unacknowledged[:0]
}

// acknowledge returns the number of the last message on c that was taken, or nil if the peer was told or
// does not number its messages.
func (c *Conn) acknowledge() *uint64 {
	if c.sender == nil {
		return nil
	}
	taken := min(c.sender.taken, c.sent)
	if c.acknowledged == taken {
		return nil
	}
	c.acknowledged = taken
	return &taken
}
