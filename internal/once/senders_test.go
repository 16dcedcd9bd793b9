package once

import (
	"fmt"
	"slices"
	"testing"
)

// take returns the acknowledgement that the client of x gets now, 0 for none.
func take(x *Session) uint64 {
	acked, _ := x.TakeAck()
	return acked
}

// A sender's numbers hold across all its connections. Each message is accepted once, and acknowledged once
// to each of them, when it is committed. Another sender gets nothing.
func TestSessionsOfOneSender(t *testing.T) {
	s := NewSenders(nil)
	one, two, bob := s.Join("ann", 0), s.Join("ann", 0), s.Join("bob", 0)
	for _, test := range []struct {
		name            string
		on              *Session // the connection on which messages come
		n               uint64
		repeated, acked uint64
	}{
		{"a first message", one, 1, 0, 1},
		{"it comes again on the other connection", two, 1, 1, 0},
		{"the next two messages", two, 2, 0, 3},
		{"they come late on the first connection, with a new one", one, 3, 2, 4},
		{"it comes on the second connection", two, 1, 1, 0},
	} {
		got := []uint64{test.on.Receive(test.n), take(one), take(two)}
		s.Commit()
		got = append(got, take(one), take(two), take(bob))
		if want := []uint64{test.repeated, 0, 0, test.acked, test.acked, 0}; !slices.Equal(got, want) {
			t.Errorf("%s: got repeated, acknowledged before and after the commit %d; want %d", test.name, got, want)
		}
	}
}

// The first message of a connection has the number after those that are acknowledged. A connection that joins
// while a message is pending gets its acknowledgement later, and may send it again. If the connection ends, it
// gets the acknowledgement at once. A client may know of more acknowledged messages than the room, which then
// believes it.
func TestJoin(t *testing.T) {
	for _, test := range []struct{ says, acked, last, repeated, after uint64 }{
		{0, 2, 3, 1, 4}, {2, 2, 3, 1, 4}, {3, 3, 0, 0, 5}, {7, 7, 0, 0, 9},
	} {
		s := NewSenders(nil)
		old := s.Join("ann", 0) // has 2 messages acknowledged, and a third one pending
		old.Receive(2)
		s.Commit()
		old.Receive(1)
		old.Leave()
		x := s.Join("ann", test.says)
		got := []uint64{x.Acked(), take(x)}
		last, _ := x.TakeLastAck()
		_, again := x.TakeLastAck()
		got = append(got, last, x.Receive(2))
		s.Commit()
		got = append(got, take(x))
		if want := []uint64{test.acked, 0, test.last, test.repeated, test.after}; !slices.Equal(got, want) || again {
			t.Errorf("knows of %d: got acknowledged on joining, again, if it ends; repeated; acknowledged: %d, twice %v; want %d", test.says, got, again, want)
		}
	}
}

// The room remembers senders that are connected, and the 1,000 that left last, if they have sent a
// message. They are saved in the order in which they left, and restored in that order.
func TestAbsentSenders(t *testing.T) {
	visit := func(s *Senders, id string) {
		x := s.Join(id, 0)
		x.Receive(1)
		s.Commit()
		x.Leave()
	}
	expect := func(what string, s *Senders, want []Saved) {
		if got := s.Save(); !slices.Equal(got, want) {
			t.Errorf("%s: got %d senders, %v; want %d, %v", what, len(got), got, len(want), want)
		}
	}
	s := NewSenders(nil)
	s.Join("silent and connected", 0)
	s.Join("connected", 0).Receive(2)
	s.Join("connected", 0).Leave() // one of two connections
	var want []Saved
	for n := range 1010 {
		visit(s, fmt.Sprint(n))
		s.Join("silent", 0).Leave()
		if n > 10 {
			want = append(want, Saved{fmt.Sprint(n), 1})
		}
	}
	s.Join("10", 0).Leave() // it comes back, and leaves last
	want = append(want, Saved{"10", 1}, Saved{"connected", 2})
	expect("after 1,010 have left", s, want)
	restored := NewSenders(want) // which has more than 1,000, until one leaves
	visit(restored, "last")
	expect("after one more has left", restored, append(want[2:], Saved{"last", 1}))
	if got := s.Join("0", 0).Acked(); got != 0 {
		t.Errorf("got %d acknowledged for a sender that is forgotten, want 0", got)
	}
}
