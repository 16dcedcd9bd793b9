package once

import (
	"fmt"
	"slices"
	"testing"
)

// take returns the acknowledgements that the client of each session gets now, 0 for none.
func take(sessions ...*Session) (acked []uint64) {
	for _, x := range sessions {
		n, _ := x.TakeAck()
		acked = append(acked, n)
	}
	return acked
}

// A sender's numbers hold across all its connections. Each message is accepted once, and acknowledged once
// to each of them, when it is committed.
func TestSessionsOfOneSender(t *testing.T) {
	s := NewSenders(nil)
	one := s.Join("ann", 0)
	two := s.Join("ann", 0)
	for i, test := range []struct {
		name     string
		on       *Session // the connection on which messages come
		n        uint64
		repeated uint64
		acked    []uint64 // on each connection, after a commit
	}{
		{"a first message", one, 1, 0, []uint64{1, 1}},
		{"it comes again on the other connection", two, 1, 1, []uint64{0, 0}},
		{"the next two messages", two, 2, 0, []uint64{3, 3}},
		{"they come late on the first connection, with a new one", one, 3, 2, []uint64{4, 4}},
		{"it comes on the second connection", two, 1, 1, []uint64{0, 0}},
	} {
		if got := test.on.Receive(test.n); got != test.repeated {
			t.Errorf("%d, %s: got %d repeated, want %d", i, test.name, got, test.repeated)
		}
		if got := take(one, two); !slices.Equal(got, []uint64{0, 0}) {
			t.Errorf("%d, %s: got %d acknowledged before the commit, want none", i, test.name, got)
		}
		if got, want := len(s.uncommitted) > 0, test.repeated < test.n; got != want {
			t.Errorf("%d, %s: got messages to commit: %v, want %v", i, test.name, got, want)
		}
		s.Commit()
		if got := take(one, two); !slices.Equal(got, test.acked) {
			t.Errorf("%d, %s: got %d acknowledged, want %d", i, test.name, got, test.acked)
		}
	}
	if got := take(s.Join("bob", 0)); got[0] != 0 {
		t.Errorf("another sender: got %d acknowledged, want 0", got[0])
	}
}

// The first message of a connection has the number after those that are acknowledged. A connection that
// joins while a message is pending gets its acknowledgement later, and may send it again.
func TestResume(t *testing.T) {
	s := NewSenders(nil)
	old := s.Join("ann", 0)
	old.Receive(2)
	s.Commit()
	old.Receive(1)
	old.Leave()
	current := s.Join("ann", 1)
	if got := current.Acked(); got != 2 {
		t.Errorf("got %d acknowledged on joining, want 2", got)
	}
	if got := current.Receive(2); got != 1 {
		t.Errorf("message 3 again and message 4: got %d repeated, want 1", got)
	}
	s.Commit()
	if got := take(current); got[0] != 4 {
		t.Errorf("got %d acknowledged, want 4", got[0])
	}
}

// A client may know of more acknowledged messages than the room, which then believes it. The number never
// goes back.
func TestClientThatKnowsMore(t *testing.T) {
	s := NewSenders(nil)
	for _, test := range []struct{ says, want uint64 }{{7, 7}, {5, 7}, {9, 9}} {
		x := s.Join("bob", test.says)
		if got := x.Acked(); got != test.want {
			t.Errorf("a client that knows of %d: got %d, want %d", test.says, got, test.want)
		}
		if got := take(x); got[0] != 0 {
			t.Errorf("a client that knows of %d: got %d acknowledged again, want none", test.says, got[0])
		}
	}
}

// A connection that ends gets the acknowledgement of pending messages, too, even after it has left. It
// gets each number once.
func TestTakeLastAck(t *testing.T) {
	s := NewSenders(nil)
	x := s.Join("ann", 0)
	for i, test := range []struct {
		received uint64
		want     uint64 // 0 for none
	}{{0, 0}, {2, 2}, {0, 0}, {1, 3}} {
		if test.received > 0 {
			x.Receive(test.received)
		}
		if i == 3 {
			x.Leave()
		}
		if got, ok := x.TakeLastAck(); got != test.want || ok != (test.want > 0) {
			t.Errorf("%d: after %d more: got %d, %v, want %d", i, test.received, got, ok, test.want)
		}
	}
	if got := s.Save(); !slices.Equal(got, []Saved{{"ann", 0}}) {
		t.Errorf("before the commit: got %v saved, want none acknowledged", got)
	}
	s.Commit()
	if got := s.Save(); !slices.Equal(got, []Saved{{"ann", 3}}) {
		t.Errorf("after the commit: got %v saved, want 3 acknowledged", got)
	}
}

// The room remembers senders that are connected, and the 1,000 that left last, if they have sent a
// message. They are saved in the order in which they left, and restored in that order.
func TestAbsentSenders(t *testing.T) {
	s := NewSenders(nil)
	visit := func(s *Senders, id string, messages uint64) {
		x := s.Join(id, 0)
		if messages > 0 {
			x.Receive(messages)
		}
		s.Commit()
		x.Leave()
	}
	s.Join("silent and connected", 0)
	s.Join("connected", 0).Receive(2)
	s.Join("connected", 0).Leave() // one of two connections
	var want []Saved
	for n := range 1010 {
		visit(s, fmt.Sprint(n), 1)
		visit(s, fmt.Sprint("silent ", n), 0)
		if n >= 11 {
			want = append(want, Saved{fmt.Sprint(n), 1})
		}
	}
	visit(s, "10", 0) // it comes back, and leaves last
	want = append(want, Saved{"10", 1}, Saved{"connected", 2})
	saved := s.Save()
	if !slices.Equal(saved, want) {
		t.Errorf("got %d senders, from %v to %v; want %d, from %v to %v",
			len(saved), saved[0], saved[len(saved)-1], len(want), want[0], want[len(want)-1])
	}
	if got := s.Join("10", 0).Acked(); got != 1 {
		t.Errorf("a sender that left twice: got %d acknowledged, want 1", got)
	}
	restored := NewSenders(saved) // which has more than 1,000, until one leaves
	if got := restored.Save(); !slices.Equal(got, saved) {
		t.Errorf("restored: got %d senders, want %d as saved", len(got), len(saved))
	}
	visit(restored, "last", 1)
	if got, want := restored.Save(), append(saved[2:], Saved{"last", 1}); !slices.Equal(got, want) {
		t.Errorf("after one has left: got %d senders, from %v to %v; want 1000, from %v to %v",
			len(got), got[0], got[len(got)-1], want[0], want[len(want)-1])
	}
	if got := restored.Join("0", 0).Acked(); got != 0 {
		t.Errorf("a forgotten sender: got %d acknowledged, want 0", got)
	}
}
