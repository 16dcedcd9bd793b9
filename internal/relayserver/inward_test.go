package relayserver

import (
	"context"
	"fmt"
	"reflect"
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
// without lines or one that can't be read. A room that is opened later does not say what was delivered before.
func TestLinesOfOtherChats(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, h *harness) {
		r := h.connect()
		r.send(inStream("other", 7, relay.Message{First: 1, Body: []byte("one\ntwo\nthree\nfour\nfive\n"),
			Segments: []relay.Segment{{Room: "", Lines: 2}, {Room: "lobby", Lines: 1}, {Room: "", Lines: 1}, {Room: "lobby", Lines: 1}}}.Encode()))
		h.expectSaid("", "one", "two", "four")
		h.expectSaid("lobby", "three", "five")
		h.expectHello(relay.Cursor{Seq: 7}, false)
		r.say("other", 6, "six")
		r.say("third", 1, "seven")
		h.expectSaid("", "six", "seven")
		h.publish("", "said here")
		r.say(r.hello.Origin, 1, "said here")
		h.expectSaid("")
		r.send(relay.Message{Cursor: &relay.Cursor{Seq: 9, Time: 3}})
		h.expectHello(relay.Cursor{Seq: 9, Time: 3}, false)
		for n, message := range []string{
			"hello", "{}", `{"people":{"":5}}`, "{}\nlines of no room\n", strings.Repeat("x", 1000),
			`{"first":1,"said":[{"room":"","lines":2}]}` + "\none\n", `{"first":1,"said":[{"room":"","lines":1}]}` + "\none\ntwo\n",
		} {
			r.send(inStream("strange", uint64(n+10), []byte(message)))
			h.expectHello(relay.Cursor{Seq: uint64(n + 10)}, false)
		}
		r.send(linesAt(0, "later", "other", 5, "five", "six", "eight"))
		h.expectSaid("later", "eight")
		if got := h.server.Delivered(); len(got) != 2 || got["other"].Number != 7 || got["third"].Number != 1 {
			t.Errorf("delivered: got %v, want other 7, third 1", got)
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

// Missing lines of an origin are counted once, over all rooms. Those before its first line are unknown.
func TestMissingLines(t *testing.T) {
	seen := once.Marks{"restored": {Number: 5, At: 946684800000}} // when a bubble begins
	inBubble(t, Options{Seen: seen}, func(t *testing.T, h *harness) {
		one, two := h.connect(), h.connect()
		for _, test := range []struct {
			relay        *fakeRelay
			room, origin string
			first        uint64
			missed       int64 // by then
		}{
			{one, "", "other", 5, 0}, {one, "", "other", 6, 0}, {one, "", "third", 1000, 0}, {one, "", "other", 10, 3},
			{one, "", "other", 11, 3}, {one, "", "third", 1002, 4}, {one, "lobby", "other", 12, 4},
			{two, "", "other", 10, 4}, {two, "", "other", 13, 4}, {one, "", "other", 13, 4}, {one, "", "restored", 8, 6},
		} {
			test.relay.send(linesAt(0, test.room, test.origin, test.first, "hello"))
			h.expectCount(fmt.Sprintf("lines missed at %s %d", test.origin, test.first), &h.counters.RelayMissed, test.missed)
		}
		if got := h.server.Delivered()["restored"].Number; got != 8 {
			t.Errorf("delivered: got %d, want 8", got)
		}
	})
}

// Parts have at most 64 KiB or a single line, and their lines keep their rooms, numbers and order. Invalid
// UTF-8 becomes U+FFFD before the lines are cut, because that makes them longer. Lines get a time only if they were
// said 1 s ago or earlier.
func TestParts(t *testing.T) {
	long, half := strings.Repeat("x", 64<<10)+"\n", strings.Repeat("y", 32<<10-1)+"\n"
	third := strings.Repeat("\xffx", 1<<13) + "\n" // of 16 KiB, and 32 KiB when it is valid
	for _, test := range []struct {
		text string
		want []string
	}{
		{"\n\na\n\n", []string{"\n\na\n\n"}},
		{"\x00\r\t\u2028 <&>\n", []string{"\x00\r\t\u2028 <&>\n"}},
		{"a\xc3\n\xa4b\n\xed\xa0\x80\n", []string{"a\uFFFD\n\uFFFDb\n\uFFFD\n"}},
		{"\n" + long + "\n" + half + half + "\n" + half + long + long, []string{"\n", long, "\n" + half, half + "\n", half, long, long}},
		{third + third + third, slices.Repeat([]string{strings.ToValidUTF8(third, "\uFFFD")}, 3)},
	} {
		m := relay.Message{First: 7, Body: []byte(test.text + "lobby\n"),
			Segments: []relay.Segment{{Room: "", Lines: strings.Count(test.text, "\n")}, {Room: "lobby", Lines: 1}}}
		want, number := []Part(nil), uint64(7)
		for _, text := range test.want {
			want = append(want, Part{"", "other", number, uint64(strings.Count(text, "\n")), []byte(text), 0})
			number += want[len(want)-1].Count
		}
		want = append(want, Part{"lobby", "other", number, 1, []byte("lobby\n"), 0})
		if got := slices.Collect(parts("other", m, time.Now())); !reflect.DeepEqual(got, want) {
			t.Errorf("%.50q: got %.300v, want %.300v", test.text, got, want)
		}
	}
	for at, want := range map[int64]int64{
		1_000_000: 0, 999_001: 0, 998_999: 998_999, 1: 1, 0: 0, -1: 0, -1 << 63: 0, 1_000_001: 0, 1<<63 - 1: 0,
	} {
		m := relay.Message{First: 1, Segments: []relay.Segment{{Lines: 1, At: at}}, Body: []byte("x\n")}
		if got := slices.Collect(parts("other", m, time.UnixMilli(1_000_000))); len(got) != 1 || got[0].At != want {
			t.Errorf("said at %d: got %+v at 1000000, want time %d", at, got, want)
		}
	}
}

// Lines for a room that can't be opened are counted as missed, once, and the cursor moves on.
func TestNoRoom(t *testing.T) {
	inBubble(t, Options{History: 1}, func(t *testing.T, h *harness) {
		r := h.connect()
		for n := range uint64(3) { // of which two are only marked
			r.sayBacklog("full", "other", n+1, "hello")
		}
		for range 2 { // as over two relays
			r.send(linesAt(0, "full", "other", 4, "a", "b"))
		}
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
// moves the cursor from then on. A backlog comes again after a restart. Local lines still go out.
func TestStopping(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, h *harness) {
		h.refuse = func(context.Context, Part) error { return fmt.Errorf("no: %w", ErrStopping) }
		one, two := h.connect(), h.connect()
		one.sayBacklog("", "other", 1, "one")
		one.say("other", 2, "two")
		synctest.Wait()
		h.refuse = nil // which the Server must not notice
		one.say("other", 3, "three")
		two.say("other", 2, "two")
		two.send(relay.Message{Cursor: &relay.Cursor{Seq: 9}})
		h.expectSaid("")
		h.expectHello(relay.Cursor{}, true)
		if got := h.server.Delivered(); len(got) > 0 {
			t.Errorf("delivered: got %v, want nothing", got)
		}
		h.publish("", "the last line")
		one.ask(1, 1<<20)
		one.expect("1 : the last line")
		h.expectCount("lines missed", &h.counters.RelayMissed, 0)
	})
}

// A connection that ends while it delivers a part delivers nothing after it, and does not move the cursor.
func TestConnectionEndsDuringDelivery(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, h *harness) {
		var refused []string
		h.refuse = func(ctx context.Context, p Part) error {
			refused = append(refused, p.Room)
			<-ctx.Done()
			return ctx.Err()
		}
		r := h.connect()
		r.discard()
		r.send(inStream("other", 1, relay.Message{First: 1, Body: []byte("one\ntwo\n"),
			Segments: []relay.Segment{{Room: "a", Lines: 1}, {Room: "b", Lines: 1}}}.Encode()))
		synctest.Wait()
		r.conn.Close()
		time.Sleep(10 * time.Second) // until a report of people can't be sent
		h.expectCount("relays", &h.counters.Relays, 0)
		if !slices.Equal(refused, []string{"a"}) {
			t.Errorf("got parts for %q, want only one for room a", refused)
		}
		h.expectHello(relay.Cursor{}, true)
	})
}

// A backlog holds at least the last lines of each room, and all lines since the chat started. Of the others
// it keeps the last numbers, for the marks.
func TestBacklogAdd(t *testing.T) {
	text, huge := []byte("text"), make([]byte, 40<<20)
	for _, test := range []struct {
		name    string
		history uint64
		parts   []Part
		want    []string // room, origin, first number, and ! if the room only marks the lines
	}{
		{"less than the history", 3, []Part{{"", "a", 1, 1, text, 5}, {"", "a", 2, 1, text, 5}}, []string{":a 1", ":a 2"}},
		{"more than the history", 2, []Part{{"", "a", 1, 1, text, 5}, {"", "a", 2, 1, text, 5}, {"", "a", 3, 1, text, 5}, {"", "a", 4, 1, text, 5}},
			[]string{":a 2!", ":a 3", ":a 4"}},
		{"whole parts", 3, []Part{{"", "a", 1, 2, text, 5}, {"", "a", 3, 2, text, 5}, {"", "a", 5, 2, text, 5}}, []string{":a 1!", ":a 3", ":a 5"}},
		{"no history", 0, []Part{{"", "a", 1, 2, text, 5}, {"", "a", 3, 2, text, 5}}, []string{":a 1!", ":a 3"}},
		{"since the start", 1, []Part{{"", "a", 1, 1, text, 999}, {"", "a", 2, 1, text, 1000}, {"", "a", 3, 1, text, 0}, {"", "a", 4, 1, text, 1001}},
			[]string{":a 1!", ":a 2", ":a 3", ":a 4"}},
		{"several origins", 1, []Part{{"", "a", 1, 1, text, 5}, {"", "b", 1, 1, text, 5}, {"", "a", 2, 1, text, 5}, {"", "b", 2, 1, text, 5}},
			[]string{":a 2!", ":b 1!", ":b 2"}},
		{"several rooms", 1, []Part{{"", "a", 1, 1, text, 5}, {"x", "a", 2, 1, text, 5}, {"x", "a", 3, 1, text, 5}, {"", "a", 4, 1, text, 5}},
			[]string{":a 1!", ":a 4", "x:a 2!", "x:a 3"}},
		{"more than 64 MiB", 256, []Part{{"", "a", 1, 1, huge, 5}, {"", "a", 2, 1, huge, 5}, {"", "a", 3, 1, text, 5}, {"x", "a", 4, 1, huge, 5}},
			[]string{":a 1!", ":a 2", ":a 3", "x:a 4!"}},
		{"more than 64 MiB since the start", 256, []Part{{"", "a", 1, 1, huge, 0}, {"", "a", 2, 1, huge, 0}}, []string{":a 1!", ":a 2"}},
	} {
		b := &backlog{rooms: make(map[string]*roomBacklog)}
		for _, part := range test.parts {
			b.add(part, test.history, 1000)
		}
		var got []string
		for _, part := range b.take() {
			marked := map[bool]string{true: "!"}[part.Text == nil]
			got = append(got, fmt.Sprint(part.Room, ":", part.Origin, " ", part.First, marked))
		}
		if slices.Sort(got); !slices.Equal(got, test.want) || len(b.rooms)+b.size > 0 {
			t.Errorf("%s: got %q and left %d rooms and %d bytes, want %q", test.name, got, len(b.rooms), b.size, test.want)
		}
	}
}

// A backlog takes at most 64 MiB, however many rooms and origins it has. What does not fit is lost, and counted.
func TestBacklogMemory(t *testing.T) {
	b, lost := &backlog{rooms: make(map[string]*roomBacklog)}, uint64(0)
	for n := range 100 {
		lost += b.add(Part{Room: fmt.Sprint(n), Origin: "a", First: uint64(n + 1), Count: 1, Text: make([]byte, 1<<20)}, 256, 1)
	}
	for n := range 1_000_000 {
		lost += b.add(Part{Room: "", Origin: fmt.Sprint(n), First: 1, Count: 1, Text: []byte("x")}, 256, 1)
	}
	text, parts := 0, b.take()
	for _, part := range parts {
		text += len(part.Text)
	}
	if size := text + 128*len(parts); size > 64<<20 {
		t.Errorf("got %d parts with %d bytes, want at most 64 MiB with 128 bytes for each part", len(parts), text)
	}
	if lost < 900_000 {
		t.Errorf("got %d lines lost, want the others", lost)
	}
	message := []byte("said")
	b.add(Part{Room: "", Origin: "a", First: 1, Count: 1, Text: message}, 256, 1)
	copy(message, "gone") // a part must not keep the message that it is cut from in memory
	if got := b.take(); len(got) != 1 || string(got[0].Text) != "said" {
		t.Errorf("got %v, want a copy of the text", got)
	}
}

// A backlog is delivered at its end. Without an end, the cursor stays and the relay sends it again. Old lines
// beyond the history are not said, even if they come again. All lines since the start of the chat are said.
func TestBacklog(t *testing.T) {
	inBubble(t, Options{History: 3}, func(t *testing.T, h *harness) {
		since := time.Now().Add(-59 * time.Second).UnixMilli() // clocks may differ by a minute
		time.Sleep(5 * time.Minute)
		broken := h.connect()
		broken.sayBacklog("", "other", 1, wstest.Numbered(1, 5)...)
		broken.conn.Close()
		r := h.connect()
		r.sayBacklog("", "early", 1, "early")
		for n, line := range wstest.Numbered(1, 10) {
			r.sayBacklog("", "other", uint64(n+1), line)
		}
		r.sayBacklog("lobby", "other", 10, "line 10")
		r.sayBacklog("", "third", 1, "of a third")
		for n, line := range wstest.Numbered(0, 10) {
			m := linesAt(since, "since", "fourth", uint64(n+1), line)
			m.Backlog = true
			r.send(m)
		}
		h.expectSaid("")
		h.expectHello(relay.Cursor{}, true)
		end := relay.Cursor{Seq: 111, Time: 10}
		r.send(relay.Message{Origin: "other", Cursor: &end})
		h.expectSaid("", "line 8", "line 9", "of a third")
		h.expectSaid("lobby", "line 10")
		h.expectSaid("since", wstest.Numbered(0, 10)...)
		h.expectHello(end, false)
		r.say("other", 1, wstest.Numbered(1, 10)...)
		r.say("early", 1, "early")
		r.say("other", 11, "line 11")
		h.expectSaid("", "line 11")
		r.send(linesAt(1, "later", "other", 5, "line 5")) // for a room that is opened now
		h.expectSaid("later")
		h.expectCount("lines missed", &h.counters.RelayMissed, 0)
	})
}

// Of two relays, the first one to end its backlog delivers it. The other one must connect again, and
// continues from the first one's cursor. Lines that only the other one had are not marked as delivered.
func TestTwoBacklogs(t *testing.T) {
	inBubble(t, Options{History: 256}, func(t *testing.T, h *harness) {
		one, two := h.connect(), h.connect()
		one.sayBacklog("", "other", 1, "one")
		two.sayBacklog("", "other", 1, "one", "two", "three")
		two.sayBacklog("", "third", 1, "third")
		end := two.discard()
		one.say("other", 2, "two") // the end of a backlog may have lines
		h.expectSaid("", "one", "two")
		if got := h.server.Delivered(); len(got) != 1 || got["other"].Number != 2 {
			t.Errorf("delivered: got %v, want other 2", got)
		}
		two.say("other", 4, "four")
		<-end
		h.expectHello(relay.Cursor{Seq: 2}, false)
		h.connect().send(linesAt(0, "opened later", "other", 3, "three"))
		h.expectSaid("opened later", "three")
	})
}

// While one relay's backlog is delivered, other relays wait, and may disconnect.
func TestWaitingForABacklog(t *testing.T) {
	inBubble(t, Options{History: 256}, func(t *testing.T, h *harness) {
		resume := make(chan struct{})
		h.refuse = func(context.Context, Part) error {
			<-resume
			return nil
		}
		one, two, three := h.connect(), h.connect(), h.connect()
		for _, r := range []*fakeRelay{one, two, three} {
			r.discard()
		}
		one.sayBacklog("", "other", 1, "one")
		one.say("other", 2, "two")
		synctest.Wait()
		two.say("other", 1, "one", "two", "three")
		three.say("other", 1, "one", "two", "three")
		synctest.Wait()
		three.conn.Close()
		time.Sleep(10 * time.Second) // until a report of people can't be sent
		h.expectCount("relays", &h.counters.Relays, 2)
		h.expectSaid("")
		close(resume)
		h.expectSaid("", "one", "two", "three")
	})
}
