package relayserver

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"example.com/chat/internal/relay"
	"example.com/chat/internal/wstest"
)

// A backlog holds at least the last lines of each room, and all lines since the chat started. Of the others
// it keeps the last numbers, for the marks.
func TestBacklogAdd(t *testing.T) {
	const began = 1000
	part := func(room, origin string, first, count uint64, at int64) Part {
		return Part{Room: room, Origin: origin, First: first, Count: count, Text: []byte("text"), At: at}
	}
	for _, test := range []struct {
		name    string
		history int
		parts   []Part
		want    []string // origin, first number, and ! if the room only marks the lines
	}{
		{"nothing", 3, nil, nil},
		{"less than the history", 3, []Part{part("", "a", 1, 1, 5), part("", "a", 2, 1, 5)}, []string{"a 1", "a 2"}},
		{"more than the history", 3, []Part{part("", "a", 1, 1, 5), part("", "a", 2, 1, 5), part("", "a", 3, 1, 5), part("", "a", 4, 1, 5), part("", "a", 5, 1, 5)},
			[]string{"a 2!", "a 3", "a 4", "a 5"}},
		{"whole parts", 3, []Part{part("", "a", 1, 2, 5), part("", "a", 3, 2, 5), part("", "a", 5, 2, 5)}, []string{"a 1!", "a 3", "a 5"}},
		{"a large part", 3, []Part{part("", "a", 1, 2, 5), part("", "a", 3, 100, 5)}, []string{"a 1!", "a 3"}},
		{"no history", 0, []Part{part("", "a", 1, 2, 5), part("", "a", 3, 2, 5)}, []string{"a 1!", "a 3"}},
		{"since the start", 1, []Part{part("", "a", 1, 1, 999), part("", "a", 2, 1, 1000), part("", "a", 3, 1, 0), part("", "a", 4, 1, 1001)},
			[]string{"a 1!", "a 2", "a 3", "a 4"}},
		{"several origins", 1, []Part{part("", "a", 1, 1, 5), part("", "b", 1, 1, 5), part("", "a", 2, 1, 5), part("", "b", 2, 1, 5)},
			[]string{"a 2!", "b 1!", "b 2"}},
		{"several rooms", 1, []Part{part("", "a", 1, 1, 5), part("x", "a", 2, 1, 5), part("x", "a", 3, 1, 5), part("", "a", 4, 1, 5)},
			[]string{"a 1!", "a 4", "x: a 2!", "x: a 3"}},
	} {
		b := newBacklog(test.history, began)
		for _, part := range test.parts {
			b.add(part)
		}
		var got []string
		for _, part := range b.take() {
			text := fmt.Sprint(part.Origin, " ", part.First)
			if part.Room != "" {
				text = part.Room + ": " + text
			}
			if part.Text == nil {
				text += "!"
			}
			got = append(got, text)
		}
		if slices.Sort(got); !slices.Equal(got, test.want) {
			t.Errorf("%s: got %q, want %q", test.name, got, test.want)
		}
		if again := b.take(); len(again) != 0 {
			t.Errorf("%s: got %v when the backlog was taken", test.name, again)
		}
	}
}

// A backlog is delivered at its end. Old lines beyond the history are not said, even if they come again.
func TestBacklog(t *testing.T) {
	inBubble(t, Options{History: 3}, func(t *testing.T, h *harness) {
		r := h.connect()
		r.sayBacklog("", hourAgo(), "early", 1, "early")
		for n := uint64(1); n <= 9; n++ {
			r.sayBacklog("", hourAgo(), "other", n, fmt.Sprint("line ", n))
		}
		r.sayBacklog("lobby", hourAgo(), "other", 10, "line 10")
		r.sayBacklog("", hourAgo(), "third", 1, "of a third")
		h.expectSaid("")
		h.expectSaid("lobby")
		h.expectHello(relay.Cursor{}, true)
		end := relay.Cursor{Seq: 111, Time: 10}
		r.send(relay.Message{Origin: "other", Cursor: &end})
		h.expectSaid("", "line 8", "line 9", "of a third")
		h.expectSaid("lobby", "line 10")
		h.expectHello(end, false)
		for n := uint64(1); n <= 9; n++ {
			r.send(linesAt(hourAgo(), "", "other", n, fmt.Sprint("line ", n)))
		}
		r.say("early", 1, "early")
		r.say("other", 11, "line 11")
		h.expectSaid("", "line 11")
		r.send(linesAt(hourAgo(), "later", "other", 5, "line 5")) // for a room that is opened now
		h.expectSaid("later")
	})
}

// Lines since the start of the chat are not left out: somebody may have been here before the relay.
func TestBacklogSinceTheStart(t *testing.T) {
	inBubble(t, Options{History: 3}, func(t *testing.T, h *harness) {
		r := h.connect()
		time.Sleep(5 * time.Minute)
		r.discard()
		said := time.Now().Add(-5*time.Minute - 59*time.Second).UnixMilli() // clocks may differ by a minute
		for n := range uint64(100) {
			r.sayBacklog("", said, "other", n+1, fmt.Sprint("line ", n))
		}
		r.send(relay.Message{Cursor: new(relay.Cursor)})
		h.expectSaid("", wstest.Numbered(0, 100)...)
	})
}

// The message that ends a backlog may have lines.
func TestBacklogEndsWithLines(t *testing.T) {
	inBubble(t, Options{History: 256}, func(t *testing.T, h *harness) {
		r := h.connect()
		for n, room := range []string{"", "lobby", ""} {
			r.sayBacklog(room, hourAgo(), "other", uint64(n+1), fmt.Sprint("line ", n))
		}
		r.say("other", 4, "line 3")
		h.expectSaid("", "line 0", "line 2", "line 3")
		h.expectSaid("lobby", "line 1")
	})
}

// A backlog without an end is not delivered and leaves the cursor as it was, so the relay sends it again.
func TestBrokenBacklog(t *testing.T) {
	inBubble(t, Options{History: 256}, func(t *testing.T, h *harness) {
		for range 2 {
			r := h.connect()
			for n := range uint64(5) {
				r.sayBacklog("", hourAgo(), "other", n+1, fmt.Sprint("line ", n))
			}
			r.hangUp()
			h.expectSaid("")
			h.expectHello(relay.Cursor{}, true)
		}
		r := h.connect()
		for n := range uint64(5) {
			r.sayBacklog("", hourAgo(), "other", n+1, fmt.Sprint("line ", n))
		}
		r.send(relay.Message{Cursor: new(relay.Cursor)})
		h.expectSaid("", wstest.Numbered(0, 5)...)
		h.expectCount("lines missed", &h.counters.RelayMissed, 0)
	})
}

// Of two relays, the first one to end its backlog delivers it. The other one must connect again, and
// continues from the first one's cursor. Lines that only the other one had are not marked as delivered.
func TestTwoBacklogs(t *testing.T) {
	inBubble(t, Options{History: 256}, func(t *testing.T, h *harness) {
		one, two := h.connect(), h.connect()
		one.sayBacklog("", hourAgo(), "other", 1, "one")
		two.sayBacklog("", hourAgo(), "other", 1, "one", "two", "three")
		two.sayBacklog("", hourAgo(), "third", 1, "third")
		end := two.discard()
		one.say("other", 2, "two")
		h.expectSaid("", "one", "two")
		if got := h.server.Delivered(); len(got) != 1 || got["other"].Number != 2 {
			t.Errorf("delivered: got %v, want other 2", got)
		}
		two.say("other", 4, "four")
		<-end
		again := h.connect()
		if want := (relay.Cursor{Seq: 2}); again.hello.Backlog || again.hello.Cursor != want {
			t.Errorf("hello: got %+v, want cursor %+v and no backlog", again.hello, want)
		}
		again.send(linesOf("opened later", "other", 3, "three"))
		h.expectSaid("opened later", "three")
	})
}

// While one relay's backlog is delivered, other relays wait, and may disconnect.
func TestWaitingForABacklog(t *testing.T) {
	inBubble(t, Options{History: 256}, func(t *testing.T, h *harness) {
		resume := make(chan struct{})
		h.chat.refuse = func(context.Context, Part) error {
			<-resume
			return nil
		}
		one, two, three := h.connect(), h.connect(), h.connect()
		for _, r := range []*fakeRelay{one, two, three} {
			r.discard()
		}
		one.sayBacklog("", hourAgo(), "other", 1, "one")
		one.say("other", 2, "two")
		synctest.Wait()
		two.say("other", 1, "one", "two", "three")
		three.say("other", 1, "one", "two", "three")
		synctest.Wait()
		three.hangUp()
		time.Sleep(10 * time.Second) // until a report of people can't be sent
		h.expectCount("relays", &h.counters.Relays, 2)
		h.expectSaid("")
		close(resume)
		h.expectSaid("", "one", "two", "three")
	})
}
