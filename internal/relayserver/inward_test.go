package relayserver

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"example.com/chat/internal/once"
	"example.com/chat/internal/relay"
	"example.com/chat/internal/wstest"
)

// Lines of other chats reach their rooms in order, and the cursor moves with each message, even with one
// without lines.
func TestLinesOfOtherChats(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, h *harness) {
		r := h.connect()
		now := time.Now().UnixMilli()
		r.send(inStream("other", 7, relay.Message{First: 1, Body: []byte("one\ntwo\nthree\nfour\nfive\n"),
			Segments: []relay.Segment{{Room: "", Lines: 2, At: now}, {Room: "lobby", Lines: 1, At: now}, {Room: "", Lines: 1, At: now}, {Room: "lobby", Lines: 1, At: now}}}.Encode()))
		h.expectSaid("", "one", "two", "four")
		h.expectSaid("lobby", "three", "five")
		h.expectHello(relay.Cursor{Seq: 7}, false)
		r.say("other", 6, "six")
		r.say("third", 1, "seven")
		h.expectSaid("", "six", "seven")
		r.say(r.hello.Origin, 1, "said here")
		h.expectSaid("")
		r.send(relay.Message{Cursor: &relay.Cursor{Seq: 9, Time: 3}})
		synctest.Wait()
		h.expectHello(relay.Cursor{Seq: 9, Time: 3}, false)
		if got, want := h.server.Delivered(), map[string]once.Mark{"other": 6, "third": 1}; len(got) != 2 || got["other"].Number != want["other"] || got["third"].Number != want["third"] {
			t.Errorf("delivered: got %v, want %v", got, want)
		}
		h.expectCount("lines missed", &h.counters.RelayMissed, 0)
	})
}

// Two relays that send the same lines at the same time, each cut in its own way, do not reorder them.
func TestTwoRelaysAtOnce(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, h *harness) {
		const count = 1000
		want := wstest.Numbered(0, count)
		var relays sync.WaitGroup
		for _, size := range []int{7, 11} {
			r := h.connect()
			relays.Go(func() {
				for from := 0; from < count; from += size {
					r.say("other", uint64(from+1), want[from:min(from+size, count)]...)
				}
			})
		}
		relays.Wait()
		h.expectSaid("", want...)
	})
}

// The marks for a room that is opened later cover everything that was delivered before, so the room does not
// say it.
func TestRoomOpenedLater(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, h *harness) {
		r := h.connect()
		r.say("other", 1, "one", "two")
		h.expectSaid("", "one", "two")
		delete(h.chat.rooms, "")
		r.say("other", 1, "one", "two", "three")
		h.expectSaid("", "three")
	})
}

// Missing lines of an origin are counted once, over all rooms. Those before its first line are unknown.
func TestMissingLines(t *testing.T) {
	seen := once.Marks{"restored": {Number: 5, At: 946684800000}} // when a bubble begins
	inBubble(t, Options{Seen: seen}, func(t *testing.T, h *harness) {
		one, two := h.connect(), h.connect()
		for _, test := range []struct {
			relay  *fakeRelay
			room   string
			origin string
			first  uint64
			missed int64 // by then
		}{
			{one, "", "other", 5, 0}, {one, "", "other", 6, 0}, {one, "", "third", 1000, 0}, {one, "", "other", 10, 3},
			{one, "", "other", 11, 3}, {one, "", "third", 1002, 4}, {one, "lobby", "other", 12, 4},
			{two, "", "other", 10, 4}, {two, "", "other", 13, 4}, {one, "", "other", 13, 4},
			{one, "", "restored", 8, 6},
		} {
			test.relay.send(linesOf(test.room, test.origin, test.first, "hello"))
			h.expectCount(fmt.Sprintf("lines missed at %s %d", test.origin, test.first), &h.counters.RelayMissed, test.missed)
		}
		if got := h.server.Delivered()["restored"].Number; got != 8 {
			t.Errorf("delivered: got %d, want 8", got)
		}
	})
}

// A message of the JetStream stream that can't be read is skipped.
func TestSkippedMessages(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, h *harness) {
		r := h.connect()
		for n, message := range []string{
			"hello", "{}", "null", "[]\n", `{"people":{"":5}}`, "{}\nlines of no room\n",
			`{"first":1,"said":[{"room":"","lines":1}]}`,
			`{"first":1,"said":[{"room":"","lines":2}]}` + "\none\n",
			`{"first":1,"said":[{"room":"","lines":1}]}` + "\none\ntwo\n",
			`{"first":1,"said":[{"room":"","lines":1}]}` + "\nno line break",
			`{"first":1,"said":[{"room":"","lines":0},{"room":"","lines":1}]}` + "\none\n",
			`{"first":1,"said":[{"room":"","lines":2},{"room":"","lines":-1}]}` + "\none\n",
			`{"first":1,"said":[{"room":"","lines":9223372036854775807},{"room":"","lines":-9223372036854775806}]}` + "\none\n",
			`{"said":[{"room":"","lines":1}]}` + "\none\n", // lines are numbered from 1
			strings.Repeat("x", 1000),
		} {
			seq := uint64(n + 1)
			r.send(inStream("strange", seq, []byte(message)))
			synctest.Wait()
			h.expectHello(relay.Cursor{Seq: seq}, false)
		}
		r.say("strange", 100, "hello")
		h.expectSaid("", "hello")
		h.expectCount("lines missed", &h.counters.RelayMissed, 0)
	})
}

// Lines get a time only if they were said 1 s ago or earlier.
func TestTimes(t *testing.T) {
	now := time.UnixMilli(1_000_000)
	for _, test := range []struct{ at, want int64 }{
		{1_000_000, 0}, {999_001, 0}, {998_999, 998_999}, {1, 1}, {0, 0}, {-1, 0}, {-1 << 63, 0}, {1_000_001, 0}, {1<<63 - 1, 0},
	} {
		m := relay.Message{First: 1, Segments: []relay.Segment{{Lines: 1, At: test.at}}, Body: []byte("x\n")}
		for part := range parts("other", m, now) {
			if part.At != test.want {
				t.Errorf("said at %d: got time %d at %d, want %d", test.at, part.At, now.UnixMilli(), test.want)
			}
		}
	}
}

// Parts have at most 64 KiB or a single line, and their lines keep their rooms, numbers and order. Invalid
// UTF-8 becomes U+FFFD before the lines are cut, because that makes them longer.
func TestParts(t *testing.T) {
	long, half := strings.Repeat("x", 64<<10)+"\n", strings.Repeat("y", 32<<10-1)+"\n"
	for _, test := range []struct {
		text string
		want []string
	}{
		{"\n", []string{"\n"}},
		{"\n\na\n\n", []string{"\n\na\n\n"}},
		{"\x00\r\t\u2028 <&>\n", []string{"\x00\r\t\u2028 <&>\n"}},
		{"\xff\n", []string{"\uFFFD\n"}},
		{"a\xc3\n\xa4b\n\xed\xa0\x80\n", []string{"a\uFFFD\n\uFFFDb\n\uFFFD\n"}},
		{"\n" + long + "\n" + half + half + "\n" + half + long + long, []string{"\n", long, "\n" + half, half + "\n", half, long, long}},
		{strings.Repeat("\xffx", 1<<15) + "\n", []string{strings.Repeat("\uFFFDx", 1<<15) + "\n"}},
		{strings.Repeat(strings.Repeat("\xffx", 1<<13)+"\n", 2), slices.Repeat([]string{strings.Repeat("\uFFFDx", 1<<13) + "\n"}, 2)[:2]},
	} {
		lines := strings.Count(test.text, "\n")
		m := relay.Message{
			First:    7,
			Segments: []relay.Segment{{Room: "", Lines: lines}, {Room: "lobby", Lines: 1}},
			Body:     []byte(test.text + "lobby\n"),
		}
		var got []string
		next := uint64(7)
		for part := range parts("other", m, time.Now()) {
			if part.First != next || part.Origin != "other" || part.Count != uint64(strings.Count(string(part.Text), "\n")) {
				t.Errorf("%.50q: got %s %d, %d lines; want other %d", test.text, part.Origin, part.First, part.Count, next)
			}
			if wantRoom := map[bool]string{true: "lobby"}[next == m.Next()-1]; part.Room != wantRoom {
				t.Errorf("%.50q: line %d is in room %q, want %q", test.text, next, part.Room, wantRoom)
			}
			next += part.Count
			got = append(got, string(part.Text))
		}
		if want := append(test.want, "lobby\n"); strings.Join(got, "") != strings.Join(want, "") || next != m.Next() {
			t.Errorf("%.50q: got %.200q, want %.200q", test.text, got, want)
		} else if !slices.Equal(got, want) && len(test.text) < 1<<15 {
			t.Errorf("%.50q: got parts %.200q, want %.200q", test.text, got, want)
		}
	}
}

// Lines for a room that can't be opened are counted as missed, and the cursor moves on.
func TestNoRoom(t *testing.T) {
	inBubble(t, Options{History: 1}, func(t *testing.T, h *harness) {
		h.chat.refuse = func(_ context.Context, p Part) error {
			if p.Room == "full" {
				return fmt.Errorf("no: %w", ErrNoRoom)
			}
			return nil
		}
		r := h.connect()
		for n := range uint64(3) { // of which two are only marked
			r.sayBacklog("full", hourAgo(), "other", n+1, "hello")
		}
		r.send(linesOf("full", "other", 4, "a", "b"))
		r.send(linesOf("full", "other", 4, "a", "b")) // again, as over a second relay
		r.say("other", 6, "hello")
		h.expectSaid("", "hello")
		h.expectCount("lines missed", &h.counters.RelayMissed, 1+2)
		h.expectHello(relay.Cursor{Seq: 6}, false)
		if got := h.server.Delivered()["other"].Number; got != 6 {
			t.Errorf("delivered: got %d, want 6", got)
		}
	})
}

// When the chat is stopping, its lines are dropped without an error, and no connection delivers anything or
// moves the cursor from then on. Local lines still go out.
func TestStopping(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, h *harness) {
		one, two := h.connect(), h.connect()
		one.say("other", 1, "one")
		h.expectSaid("", "one")
		stopping := true
		h.chat.refuse = func(context.Context, Part) error {
			if stopping {
				return fmt.Errorf("no: %w", ErrStopping)
			}
			return nil
		}
		one.say("other", 2, "two")
		synctest.Wait()
		stopping = false // which the Server must not notice
		one.say("other", 3, "three")
		two.say("other", 2, "two")
		two.send(relay.Message{Cursor: &relay.Cursor{Seq: 9}})
		h.expectSaid("")
		h.expectHello(relay.Cursor{Seq: 1}, false)
		if got := h.server.Delivered()["other"].Number; got != 1 {
			t.Errorf("delivered: got %d, want 1", got)
		}
		h.publish("", "the last line")
		one.ask(1, 1<<20)
		one.expect("1 : the last line")
		h.expectCount("lines missed", &h.counters.RelayMissed, 0)
	})
}

// A backlog that ends while the chat is stopping comes again after a restart.
func TestStoppingWithBacklog(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, h *harness) {
		h.chat.refuse = func(context.Context, Part) error { return ErrStopping }
		r := h.connect()
		r.sayBacklog("", hourAgo(), "other", 1, "one")
		r.say("other", 2, "two")
		synctest.Wait()
		h.expectHello(relay.Cursor{}, true)
		if got := h.server.Delivered(); len(got) != 0 {
			t.Errorf("delivered: got %v, want nothing", got)
		}
		h.expectCount("relays", &h.counters.Relays, 1)
	})
}

// A connection that ends while it delivers a part delivers nothing after it, and does not move the cursor.
func TestConnectionEndsDuringDelivery(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, h *harness) {
		var refused []string
		h.chat.refuse = func(ctx context.Context, p Part) error {
			refused = append(refused, p.Room)
			<-ctx.Done()
			return ctx.Err()
		}
		r := h.connect()
		r.discard()
		r.send(inStream("other", 1, relay.Message{First: 1, Body: []byte("one\ntwo\n"),
			Segments: []relay.Segment{{Room: "a", Lines: 1}, {Room: "b", Lines: 1}}}.Encode()))
		synctest.Wait()
		r.hangUp()
		time.Sleep(10 * time.Second) // until a report of people can't be sent
		h.expectCount("relays", &h.counters.Relays, 0)
		if !slices.Equal(refused, []string{"a"}) {
			t.Errorf("got parts for %q, want only one for room a", refused)
		}
		h.chat.refuse = nil
		h.expectHello(relay.Cursor{}, false)
		r = h.connect()
		r.send(inStream("other", 1, relay.Message{First: 1, Body: []byte("one\ntwo\n"),
			Segments: []relay.Segment{{Room: "a", Lines: 1}, {Room: "b", Lines: 1}}}.Encode()))
		h.expectSaid("a", "one")
		h.expectSaid("b", "two")
	})
}
