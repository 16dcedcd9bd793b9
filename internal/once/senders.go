package once

import "container/list"

// maxAbsent is the number of absent senders that a Senders remembers. One more replaces the sender that left
// first, and messages that this one sends again are accepted again.
const maxAbsent = 1000

// Senders holds the senders of a room. A sender is a client that numbers its messages from 1, across all of
// its connections, and sends again what it does not know to have arrived.
//
// Numbers go through two steps. A message is received when the room has it. It is acknowledged when it is in
// the room's stream, and only then may its sender forget it. [Senders.Commit] makes the second step.
//
// Senders is not safe for concurrent use.
type Senders struct {
	byID        map[string]*sender
	absent      *list.List // of *sender; the sender that left first is first
	uncommitted []*sender  // received more than is acknowledged; may hold a sender twice
}

// sender is one client that numbers its messages.
type sender struct {
	id       string
	received Mark
	acked    Mark
	spoke    bool          // received at least one message, so it is remembered when it leaves
	sessions int           // connections
	elem     *list.Element // in Senders.absent; nil while there are sessions
}

// Session is one connection of a sender.
type Session struct {
	senders *Senders
	sender  *sender
	last    uint64 // number of the last message that came on this connection
	ackSent Mark   // highest acknowledged number that the client knows from this connection
}

// Saved is a sender as a store keeps it.
type Saved struct {
	ID    string `json:"id"`
	Acked Mark   `json:"taken"`
}

// NewSenders returns a Senders that remembers saved, in the order in which the senders left.
func NewSenders(saved []Saved) *Senders {
	s := &Senders{byID: make(map[string]*sender), absent: list.New()}
	for _, one := range saved {
		s.remember(&sender{id: one.ID, received: one.Acked, acked: one.Acked, spoke: true})
	}
	return s
}

// Join adds a connection of the sender id, which knows that its messages up to acked were acknowledged. The
// client may know more than the room does, because the room has forgotten it, or has lost its last lines in a
// crash. The first message on the connection has the number [Session.Acked] + 1.
func (s *Senders) Join(id string, acked uint64) *Session {
	joined := s.byID[id]
	if joined == nil {
		joined = &sender{id: id}
		s.byID[id] = joined
	}
	if joined.elem != nil {
		s.absent.Remove(joined.elem)
		joined.elem = nil
	}
	joined.sessions++
	joined.received, joined.acked = max(joined.received, Mark(acked)), max(joined.acked, Mark(acked))
	return &Session{senders: s, sender: joined, last: uint64(joined.acked), ackSent: joined.acked}
}

// Len returns the number of senders.
func (s *Senders) Len() int { return len(s.byID) }

// Leave removes the connection. Receive must not be called after it.
func (x *Session) Leave() {
	left := x.sender
	left.sessions--
	switch {
	case left.sessions > 0:
	case left.spoke:
		x.senders.remember(left)
		x.senders.trim()
	default:
		delete(x.senders.byID, left.id)
	}
}

// remember adds a sender without a connection.
func (s *Senders) remember(left *sender) {
	s.byID[left.id] = left
	left.elem = s.absent.PushBack(left)
}

// trim forgets the senders that left first while there are more than maxAbsent.
func (s *Senders) trim() {
	for s.absent.Len() > maxAbsent {
		first := s.absent.Remove(s.absent.Front()).(*sender)
		delete(s.byID, first.id)
	}
}

// Receive numbers n messages that came on this connection, and returns how many of them were received before.
// These are always the first ones. n must be at least 1.
func (x *Session) Receive(n uint64) (repeated uint64) {
	repeated = x.sender.received.Accept(x.last+1, n)
	x.last += n
	if repeated < n {
		x.sender.spoke = true
		x.senders.uncommitted = append(x.senders.uncommitted, x.sender)
	}
	return repeated
}

// Commit acknowledges all messages that were received. The caller must put them into the stream with its next
// frames.
func (s *Senders) Commit() {
	for _, one := range s.uncommitted {
		one.acked = one.received
	}
	clear(s.uncommitted)
	s.uncommitted = s.uncommitted[:0]
}

// Acked returns the number of the sender's last acknowledged message.
func (x *Session) Acked() uint64 { return uint64(x.sender.acked) }

// TakeAck returns the number of the last acknowledged message, if the client does not know it from this
// connection. The caller must send it to the client.
func (x *Session) TakeAck() (acked uint64, ok bool) {
	if x.ackSent == x.sender.acked {
		return 0, false
	}
	x.ackSent = x.sender.acked
	return uint64(x.ackSent), true
}

// TakeLastAck is TakeAck for a connection that is about to end. It returns the last received number, so the
// caller must send the pending lines with it.
func (x *Session) TakeLastAck() (acked uint64, ok bool) {
	if x.ackSent == x.sender.received {
		return 0, false
	}
	x.ackSent = x.sender.received
	return uint64(x.ackSent), true
}

// Save returns all senders that have sent a message. Absent senders come first, in the order in which they
// left, and connected ones after them.
func (s *Senders) Save() (saved []Saved) {
	for elem := s.absent.Front(); elem != nil; elem = elem.Next() {
		one := elem.Value.(*sender)
		saved = append(saved, Saved{one.id, one.acked})
	}
	for _, one := range s.byID {
		if one.elem == nil && one.spoke {
			saved = append(saved, Saved{one.id, one.acked})
		}
	}
	return saved
}
