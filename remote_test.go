package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/websocket"

	"example.com/chat/internal/relay"
	"example.com/chat/internal/wstest"
)

// What is said at another chat is heard in the same rooms here, in order, with what is said here.
func TestLinesOfOtherChats(t *testing.T) {
	t.Parallel()
	c := startRelayed(t, defaults)
	ann, bob, r := c.join("/ws"), c.join("/lobby/ws"), c.connect()
	now := time.Now().UnixMilli()
	r.send(fromStream("other", relay.Message{First: 1, Body: []byte("one\ntwo\nthree\nfour\nfive\n"),
		Said: []relay.Said{{Room: "", Lines: 2, At: now}, {Room: "lobby", Lines: 1, At: now}, {Room: "", Lines: 1, At: now}, {Room: "lobby", Lines: 1, At: now}}}.Encode()))
	ann.ExpectLines("one", "two", "four")
	bob.ExpectLines("three", "five")
	sayNumbered(t, ann, 0, 1)
	r.say("other", 6, "six")
	r.say("third", 1, "seven")
	ann.ExpectLines("six", "seven")
	for n := range 100 {
		r.send(saidIn("lobby", "other", uint64(7+n), fmt.Sprint("line ", n)))
	}
	bob.ExpectLines(wstest.Numbered(0, 100)...)
	if missed, known := c.rooms.counters.relayMissed.Value(), c.rooms.counters.relayKnown.Value(); missed+known != 0 {
		t.Errorf("%d lines are counted as missing and %d as known", missed, known)
	}
}

// Lines that come twice, as from two relays, are said once. Those that were said here are not said again either.
func TestLinesThatComeTwice(t *testing.T) {
	t.Parallel()
	c := startRelayed(t, defaults)
	ann, one, two := c.join("/ws"), c.connect(), c.connect()
	one.say("other", 1, "a", "b", "c")
	ann.ExpectLines("a", "b", "c")
	two.say("other", 2, "b", "c", "d", "e")
	ann.ExpectLines("d", "e")
	one.say("other", 4, "d")
	one.say("other", 4, "d", "e", "f")
	ann.ExpectLines("f")
	sayNumbered(t, ann, 0, 2)
	two.say(two.hello.Origin, 1, "line 0", "line 1")
	two.say("other", 1, "a", "b", "c", "d", "e", "f", "g")
	ann.ExpectLines("g")
	if known := c.rooms.counters.relayKnown.Value(); known != 2+1+2+6 {
		t.Errorf("%d lines are counted as known", known)
	}
	if missed := c.rooms.counters.relayMissed.Value(); missed != 0 {
		t.Errorf("%d lines are counted as missing", missed)
	}
}

// Two relays that send the same lines at the same time, each cut in its own way, have each line said once.
func TestTwoRelaysAtOnce(t *testing.T) {
	t.Parallel()
	const lines = 10_000
	c := startRelayed(t, defaults)
	ann, said := c.join("/ws"), wstest.Numbered(0, lines)
	var relays sync.WaitGroup
	for _, size := range []int{7, 11} {
		r := c.connect()
		relays.Go(func() {
			for from := 0; from < lines; from += size {
				r.say("other", uint64(from+1), said[from:min(from+size, lines)]...)
			}
		})
	}
	next := ann.Lines()
	for _, want := range said {
		if got, err := next(); got != want {
			t.Fatalf("heard %q, %v; want %q", got, err, want)
		}
	}
	relays.Wait() // the one that is behind still sends what is known
	sayNumbered(t, ann, lines, lines+1)
}

// Lines of another chat that did not come are counted, and the next ones are said. What an origin said before it
// is first heard of is not missing.
func TestMissingLines(t *testing.T) {
	t.Parallel()
	c := startRelayed(t, defaults)
	ann, bob, r := c.join("/ws"), c.join("/lobby/ws"), c.connect()
	for _, test := range []struct {
		origin string
		first  uint64
		missed int64 // by then
	}{{"other", 5, 0}, {"other", 6, 0}, {"third", 1000, 0}, {"other", 10, 3}, {"other", 11, 3}, {"third", 1002, 4}} {
		r.say(test.origin, test.first, "hello")
		ann.ExpectLines("hello")
		if missed := c.rooms.counters.relayMissed.Value(); missed != test.missed {
			t.Errorf("%s %d: %d lines are counted as missing, want %d", test.origin, test.first, missed, test.missed)
		}
	}
	r.send(saidIn("lobby", "other", 12, "in another room")) // numbers go on over all rooms
	bob.ExpectLines("in another room")
	if missed := c.rooms.counters.relayMissed.Value(); missed != 4 {
		t.Errorf("%d lines are counted as missing, want 4", missed)
	}
}

// What was said at another chat some time ago comes with that time, and what was said just now with the time here.
func TestTimesElsewhere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := startRelayedInBubble(t, defaults)
		ann, r := c.join("/ws"), c.connect()
		now := time.Now().UnixMilli()
		long := now - 3_600_000
		for _, said := range []struct {
			from, to int
			at       int64
		}{{0, 1, long}, {0, 2, long}, {2, 3, now - 900}, {3, 4, now + 3_600_000}} {
			r.send(saidAt(said.at, "", "other", uint64(said.from+1), wstest.Numbered(said.from, said.to)...))
		}
		ann.ExpectLines(wstest.Numbered(0, 4)...)
		bob, _ := resume(t, c.dial(), "/ws?events", "")
		readEvent(t, bob) // people
		if e := readEvent(t, bob); fmt.Sprint(e.Said) != fmt.Sprint([][2]int64{{2, long}, {2, now}}) {
			t.Errorf("told %v at %d", e.Said, now)
		}
	})
}

// In a large room, too, lines of other chats that fill a frame don't wait for more.
func TestManyRemoteLines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const said = 100
		c := startRelayedInBubble(t, defaults)
		ann, r := c.join("/ws"), c.connect()
		for range 200 {
			go io.Copy(io.Discard, c.join("/ws").In)
		}
		began := time.Now()
		go func() {
			for n := range said {
				r.send(saidIn("", "other", uint64(n+1), strings.Repeat("x", 2*coalesceLimit)))
			}
		}()
		for next, heard := ann.Lines(), 0; heard < said; heard++ {
			if _, err := next(); err != nil {
				t.Fatal(err)
			}
		}
		if took := time.Since(began); took > 0 {
			t.Errorf("they took %v", took)
		}
	})
}

// What was said at different times is not joined: it would have one time.
func TestTimesAreNotJoined(t *testing.T) {
	var frames []*frame
	for _, said := range []int64{0, 0, 5, 5, 6, 0} {
		f := textFrame([]byte("x\n"))
		f.said = said
		frames = append(frames, f)
	}
	for _, want := range []struct {
		lines int
		said  int64
	}{{2, 0}, {2, 5}, {1, 6}, {1, 0}} {
		var f *frame
		f, frames = join(frames, new(frame))
		if lines := countLines(f.lines); lines != want.lines || f.said != want.said {
			t.Errorf("%d lines of %d, want %+v", lines, f.said, want)
		}
	}
}

// Lines are cut into parts of up to joinLimit. One that is longer is alone.
func TestParts(t *testing.T) {
	long, half := strings.Repeat("x", joinLimit)+"\n", strings.Repeat("y", joinLimit/2-1)+"\n"
	var got []int
	for part := range parts([]byte("\n" + long + "\n" + half + half + "\n" + half + long + long)) {
		got = append(got, len(part))
	}
	if want := []int{1, len(long), 1 + len(half), len(half) + 1, len(half), len(long), len(long)}; !slices.Equal(got, want) {
		t.Errorf("parts of %d bytes, want %d", got, want)
	}
}

// Lines of other chats have no other form than those that are said here, and no limit of their length.
func TestStrangeLines(t *testing.T) {
	t.Parallel()
	cfg := defaults
	cfg.maxMessage = 10
	c := startRelayed(t, cfg)
	ann, r := c.join("/ws"), c.connect()
	long, longer := strings.Repeat("x", 5000), strings.Repeat("y", 3*joinLimit)
	first := uint64(1)
	for _, test := range []struct{ said, heard []string }{
		{[]string{""}, nil},
		{[]string{"", "", "a", ""}, nil},
		{[]string{"\xff"}, []string{"\uFFFD"}},
		{[]string{"a\xc3", "\xa4b", "\xed\xa0\x80"}, []string{"a\uFFFD", "\uFFFDb", "\uFFFD"}},
		{[]string{"\x00\r\t\u2028 <&>"}, nil},
		{[]string{long, "", long}, nil},
		{[]string{"short", longer, "", longer, "short"}, nil},
		{[]string{strings.Repeat("\xffx", joinLimit)}, []string{strings.Repeat("\uFFFDx", joinLimit)}},
	} {
		if test.heard == nil {
			test.heard = test.said
		}
		r.say("other", first, test.said...)
		ann.ExpectLines(test.heard...)
		first += uint64(len(test.said))
	}
}

// Of what was said before the chat was there, the last lines of each room are said, when there are no more. The
// others are not said when they come again.
func TestBacklog(t *testing.T) {
	cfg := defaults
	cfg.history = 3
	synctest.Test(t, func(t *testing.T) {
		c := startRelayedInBubble(t, cfg)
		ann, bob, r := c.join("/ws"), c.join("/lobby/ws"), c.connect()
		long := time.Now().Add(-time.Hour).UnixMilli()
		say := func(r *fakeRelay, room string, number int, backlog bool) {
			m := saidAt(long, room, "other", uint64(number), fmt.Sprint("line ", number))
			m.Backlog, m.Position.Seq = backlog, uint64(100+number)
			r.send(m)
		}
		early := saidAt(long, "", "early", 1, "early")
		early.Backlog = true
		r.send(early)
		for n := 1; n <= 9; n++ {
			say(r, "", n, true)
		}
		say(r, "lobby", 10, true)
		third := saidAt(long, "", "third", 1, "of a third")
		third.Backlog = true
		r.send(third)
		synctest.Wait()
		if said := c.rooms.counters.linesIn.Value(); said != 0 {
			t.Errorf("%d lines were said before the end of the backlog", said)
		}
		if p := c.connect().hello.Position; p != (relay.Position{}) {
			t.Errorf("the position is %+v before the end of the backlog", p)
		}
		end := relay.Position{Seq: 111, Time: 10}
		r.send(relay.Message{Origin: "other", Position: &end})
		ann.ExpectLines("line 8", "line 9", "of a third")
		bob.ExpectLines("line 10")
		if hello := c.connect().hello; hello.Position != end || hello.Backlog {
			t.Errorf("hello behind the backlog: %+v, want %+v", hello, end)
		}
		for n := range 9 {
			say(r, "", n+1, false)
		}
		r.say("early", 1, "early")
		say(r, "", 11, false)
		ann.ExpectLines("line 11")
		if known := c.rooms.counters.relayKnown.Value(); known != 10 {
			t.Errorf("%d lines are counted as known, want 10", known)
		}
	})
}

// What was said since the chat began is not left out of a backlog: somebody may have been here before the relay.
func TestBacklogSinceTheStart(t *testing.T) {
	t.Parallel()
	cfg := defaults
	cfg.history = 3
	c := startRelayed(t, cfg)
	ann, r := c.join("/ws"), c.connect()
	for n := range 100 {
		m := saidIn("", "other", uint64(n+1), fmt.Sprint("line ", n))
		m.Backlog = n < 99
		r.send(m)
	}
	ann.ExpectLines(wstest.Numbered(0, 100)...)
}

// The end of a backlog may come with lines.
func TestBacklogEndsWithLines(t *testing.T) {
	t.Parallel()
	c := startRelayed(t, defaults)
	ann, bob, r := c.join("/ws"), c.join("/lobby/ws"), c.connect()
	for n, room := range []string{"", "lobby", ""} {
		m := saidIn(room, "other", uint64(n+1), fmt.Sprint("line ", n))
		m.Backlog = true
		r.send(m)
	}
	r.say("other", 4, "line 3")
	ann.ExpectLines("line 0", "line 2", "line 3")
	bob.ExpectLines("line 1")
}

// A backlog that breaks off is not said, nor is its position known: the relay begins again.
func TestBrokenBacklog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := startRelayedInBubble(t, defaults)
		ann := c.join("/ws")
		for try := range 3 {
			r := c.connect()
			if r.hello.Position != (relay.Position{}) {
				t.Errorf("the position is %+v", r.hello.Position)
			}
			for n := range 5 {
				m := saidIn("", "other", uint64(n+1), fmt.Sprint("line ", n))
				m.Backlog, m.Position.Seq = true, uint64(n+1)
				r.send(m)
			}
			if try < 2 {
				r.hangUp()
				synctest.Wait()
				continue
			}
			r.send(relay.Message{Position: new(relay.Position)})
		}
		ann.ExpectLines(wstest.Numbered(0, 5)...)
		if missed := c.rooms.counters.relayMissed.Value(); missed != 0 {
			t.Errorf("%d lines are counted as missing", missed)
		}
	})
}

// Of two relays the first one to tell its backlog counts. The other one has to begin again: it may have left out lines
// that the first one has said since then.
func TestTwoBacklogs(t *testing.T) {
	t.Parallel()
	c := startRelayed(t, defaults)
	ann, one, two := c.join("/ws"), c.connect(), c.connect()
	for _, r := range []*fakeRelay{one, two} {
		m := saidIn("", "other", 1, "one")
		m.Backlog = true
		r.send(m)
	}
	one.say("other", 2, "two")
	ann.ExpectLines("one", "two")
	two.say("other", 2, "two")
	var b []byte
	for err := error(nil); err == nil; {
		err = websocket.Message.Receive(two.Conn, &b)
	}
	again := c.connect()
	if again.hello.Backlog {
		t.Errorf("hello: %+v", again.hello)
	}
	again.say("other", 2, "two", "three")
	ann.ExpectLines("three")
}

// tellPeople sends how many people another chat has.
func (r *fakeRelay) tellPeople(origin string, people map[string]int) {
	r.t.Helper()
	r.send(relay.Message{Origin: origin, People: people})
}

// readPeople passes over pings, up to the next event.
func readPeople(t *testing.T, p *wstest.Client) event {
	t.Helper()
	for {
		if head, err := p.In.Peek(1); err != nil || head[0] != 0x80|websocket.PingFrame {
			return readEvent(t, p)
		}
		p.Expect(websocket.PingFrame, "")
	}
}

// A room's people are those of all chats. A chat that is not heard any more has none.
func TestPeopleElsewhere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := startRelayedInBubble(t, defaults)
		ann, bob, r := c.join("/ws?events"), c.join("/lobby/ws?events"), c.connect()
		expect := func(p *wstest.Client, people int, within time.Duration) {
			t.Helper()
			began := time.Now()
			e := readPeople(t, p)
			if e.People != people || time.Since(began) > within {
				t.Errorf("told %+v after %v, want %d people within %v", e, time.Since(began), people, within)
			}
		}
		expect(ann, 1, 0)
		expect(bob, 1, 0)
		r.tellPeople("other", map[string]int{"": 3, "lobby": 5, "silent": 7})
		expect(ann, 4, 2*sweepPeriod)
		expect(bob, 6, 2*sweepPeriod)
		r.tellPeople("third", map[string]int{"": 100})
		expect(ann, 104, 2*sweepPeriod)
		r.tellPeople("other", map[string]int{"": 2, "lobby": 5})
		expect(ann, 103, 2*sweepPeriod)
		r.tellPeople(r.hello.Origin, map[string]int{"": 9}) // its own are here
		for range 4 {
			time.Sleep(peopleRepeat - 100*time.Millisecond)
			r.tellPeople("third", map[string]int{"": 100})
		}
		expect(ann, 101, 0) // other was silent
		expect(bob, 1, 0)
		r.tellPeople("third", map[string]int{})
		expect(ann, 1, 2*sweepPeriod)
		r.tellPeople("third", map[string]int{"": 1})
		expect(ann, 2, 2*sweepPeriod)
		began := time.Now()
		expect(ann, 1, peopleExpire+3*sweepPeriod)
		if time.Since(began) < peopleExpire-2*sweepPeriod {
			t.Errorf("forgotten after %v", time.Since(began))
		}
	})
}

// A relay is told how many people there are in each room: when that changes, and again and again. At the stop
// there are none.
func TestPeopleAreTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := startRelayedInBubble(t, defaults)
		r := c.connect()
		expect := func(want map[string]int, from, to time.Duration) {
			t.Helper()
			began := time.Now()
			m := r.receiveAny()
			if took := time.Since(began); m.People == nil || fmt.Sprint(m.People) != fmt.Sprint(want) || took < from || took > to {
				t.Errorf("told %+v after %v, want %v after %v to %v", m, took, want, from, to)
			}
		}
		expect(map[string]int{}, 0, peoplePeriod)
		ann := c.join("/ws")
		bob := c.join("/lobby/ws")
		c.join("/lobby/ws")
		expect(map[string]int{"": 1, "lobby": 2}, 0, peoplePeriod)
		expect(map[string]int{"": 1, "lobby": 2}, peopleRepeat, peopleRepeat)
		ann.Conn.Close()
		bob.Conn.Close()
		expect(map[string]int{"lobby": 1}, 0, peoplePeriod)
		r.tellPeople("other", map[string]int{"lobby": 5}) // who are not here
		expect(map[string]int{"lobby": 1}, peopleRepeat, peopleRepeat)
		go c.stop()
		for m := r.receiveAny(); len(m.People) > 0; m = r.receiveAny() {
		}
		var b []byte
		if err := websocket.Message.Receive(r.Conn, &b); err != io.EOF {
			t.Errorf("%v; want the end", err)
		}
	})
}

// A room in which people are at another chat, or speak there, does not end when it is empty here.
func TestRoomWithPeopleElsewhere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := startRelayedInBubble(t, defaults)
		r := c.connect()
		go io.Copy(io.Discard, r.Conn)
		_, at := resume(t, c.dial(), "/lobby/ws", "")
		r.send(saidIn("lobby", "other", 1, "hello"))
		r.send(saidIn("empty", "other", 2, "hello")) // which makes a room
		talk := uint64(2)
		for began := time.Now(); time.Since(began) < 3*emptyRoomWait; time.Sleep(peopleRepeat) {
			r.tellPeople("other", map[string]int{"lobby": 1})
			talk++
			r.send(saidIn("talk", "other", talk, "is going on"))
		}
		for name, want := range map[string]bool{"lobby": true, "talk": true, "empty": false} {
			if got := c.rooms.exists(name); got != want {
				t.Errorf("room %s is there: %v, want %v", name, got, want)
			}
		}
		p, back := resume(t, c.dial(), "/lobby/ws", at.epoch+".0")
		if back.epoch != at.epoch || back.end != 1 {
			t.Errorf("position %+v after %+v", back, at)
		}
		p.Conn.Close()
		time.Sleep(closeWait + peopleExpire + emptyRoomWait + 2*expirePeriod)
		if c.rooms.exists("lobby") {
			t.Error("the room is there when people have gone everywhere")
		}
	})
}

// A room that has ended, and is opened again, does not hear again what it has heard.
func TestRoomOpenedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := startRelayedInBubble(t, defaults)
		r := c.connect()
		go io.Copy(io.Discard, r.Conn)
		ann := c.join("/lobby/ws")
		r.send(saidIn("lobby", "other", 1, "one", "two"))
		ann.ExpectLines("one", "two")
		ann.Conn.Close()
		time.Sleep(closeWait + emptyRoomWait + 2*expirePeriod)
		if c.rooms.exists("lobby") {
			t.Fatal("the room has not ended")
		}
		ann = c.join("/lobby/ws")
		r.send(saidIn("lobby", "other", 1, "one", "two", "three"))
		ann.ExpectLines("three")
	})
}

// When a connection is over nothing more of it is said: a later frame would have an earlier one, which comes again,
// taken as known.
func TestNothingIsSaidForAClosedConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := startRelayedInBubble(t, defaults)
		over, end := context.WithCancel(t.Context())
		end()
		for n := range uint64(100) {
			c.rooms.relays.say(over, "", remoteFrame{"other", n + 1, 1, textFrame([]byte("late\n"))})
		}
		time.Sleep(time.Second)
		if said := c.rooms.counters.linesIn.Value(); said != 0 {
			t.Errorf("%d lines were said", said)
		}
	})
}

// What is said elsewhere opens a room only where somebody could: one more with -rooms full takes the place of an
// empty one, and no other.
func TestRoomsOfOtherChats(t *testing.T) {
	t.Parallel()
	cfg := defaults
	cfg.rooms = 2
	c := startRelayed(t, cfg)
	ann, r, here := c.join("/a/ws"), c.connect(), c.join("/ws")
	for n, room := range []string{"b", "c", "../d", "D", ""} {
		r.send(saidIn(room, "other", uint64(n+1), "hello"))
	}
	here.ExpectLines("hello")
	for room, want := range map[string]bool{"": true, "a": true, "b": false, "c": true, "../d": false, "D": false} {
		if got := c.rooms.exists(room); got != want {
			t.Errorf("room %q is there: %v, want %v", room, got, want)
		}
	}
	c.join("/c/ws").Send(websocket.TextFrame, "stays")
	r.send(saidIn("e", "other", 6, "hello"))
	r.say("other", 7, "hello")
	here.ExpectLines("hello")
	if c.rooms.exists("e") {
		t.Error("a room more than there may be")
	}
	ann.Send(websocket.TextFrame, "untouched")
	ann.ExpectLines("untouched")
}

// holdStream joins with two clients, of which the first lags because it does not read, so that the stream is held
// back, and returns both.
func holdStream(c relayedChat) (stuck, reader *wstest.Client) {
	c.t.Helper()
	stuck, reader = c.join("/ws"), c.join("/ws")
	sayLong(reader, (maxLag+2*sendWindow)/4096)
	return stuck, reader
}

// sayMany has r send messages of a numbered line each with size bytes. It returns how many were sent, which grows.
func sayMany(r *fakeRelay, messages, size int) *atomic.Int64 {
	var sent atomic.Int64
	go func() {
		for n := range messages {
			m := saidIn("", "other", uint64(n+1), fmt.Sprintf("0 %d", n)+strings.Repeat(" ", size))
			m.Position.Seq = uint64(n + 1)
			if websocket.Message.Send(r.Conn, m.Encode()) != nil {
				return
			}
			sent.Add(1)
		}
	}()
	return &sent
}

// While the stream is held back, lines of other chats wait: up to maxRemote, then the relay does. None is lost.
func TestRemoteLinesWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const messages, size = 3000, 4096
		c := startRelayedInBubble(t, defaults)
		_, reader := holdStream(c)
		r := c.connect()
		sent := sayMany(r, messages, size)
		synctest.Wait()
		if bytes := sent.Load() * (size + remoteCost); bytes < maxRemote || bytes > maxRemote+joinLimit {
			t.Errorf("%d bytes wait, want %d", bytes, maxRemote)
		}
		wstest.Crowd{Speakers: 1, Each: messages}.Listen(reader)
		if throttled := c.rooms.counters.throttled.Value(); throttled == 0 {
			t.Error("the stream was not held back")
		}
	})
}

// When nothing holds the stream back any more, what waits is said at once, also where nobody is left to hear it.
func TestWaitingLinesAreSaidAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const messages, size = 900, 4096
		c := startRelayedInBubble(t, defaults)
		stuck, reader := holdStream(c)
		before := c.rooms.counters.linesIn.Value()
		sayMany(c.connect(), messages, size)
		synctest.Wait()
		stuck.Conn.Close()
		reader.Conn.Close()
		time.Sleep(time.Second)
		if said := c.rooms.counters.linesIn.Value() - before; said != messages {
			t.Errorf("%d of %d lines are said a second later", said, messages)
		}
	})
}

// A line that waits when the chat stops is said, or the relay is asked for it again by the next run.
func TestStopWhileRemoteLinesWait(t *testing.T) {
	cfg := keeping(t)
	cfg.history = 1 << 20
	synctest.Test(t, func(t *testing.T) {
		const messages, size = 10_000, 2000
		c := startRelayedInBubble(t, cfg)
		stuck, reader := holdStream(c)
		r := c.connect()
		sent := sayMany(r, messages, size)
		go io.Copy(io.Discard, r.Conn)
		synctest.Wait()
		if n := sent.Load(); n == messages || n < 1000 {
			t.Fatalf("%d lines are sent", n)
		}
		stuck.Conn.Close()
		reader.Conn.Close()
		c.stop()
		last := -1
		for line := range strings.Lines(fileOfNameless(t, cfg)) {
			if _, n, ok := wstest.Parse(strings.TrimSuffix(line, "\n")); ok {
				if n != last+1 {
					t.Fatalf("line %d follows %d", n, last)
				}
				last = n
			}
		}
		c = startRelayedInBubble(t, cfg)
		if p := c.connect().hello.Position; p.Seq > uint64(last+1) || p.Seq < 1000 {
			t.Errorf("the position is %d, and %d lines are kept", p.Seq, last+1)
		}
	})
}

// fileOfNameless returns what is kept of the room without a name.
func fileOfNameless(t *testing.T, cfg config) string {
	t.Helper()
	b, err := os.ReadFile(cfg.state + "/room.txt")
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// Lines that come when the rooms have stopped, while the chat waits for its relay, are not said: the next run asks
// for them.
func TestLinesThatComeAfterTheStop(t *testing.T) {
	cfg := keeping(t)
	synctest.Test(t, func(t *testing.T) {
		c := startRelayedInBubble(t, cfg)
		ann, r := c.join("/ws"), c.connect()
		go io.Copy(io.Discard, r.Conn)
		sayNumbered(t, ann, 0, 1)
		send := func(number uint64) {
			m := saidIn("", "other", number, fmt.Sprint("line ", number))
			m.Position.Seq = number
			r.send(m)
		}
		send(1)
		ann.ExpectLines("line 1")
		ann.Conn.Close()
		go c.stop()
		time.Sleep(relayWait / 2)
		send(2)
		c.stop()
		if strings.Contains(fileOfNameless(t, cfg), "line 2") {
			t.Error("said after the stop")
		}
		c = startRelayedInBubble(t, cfg)
		if p := c.connect().hello.Position; p.Seq != 1 {
			t.Errorf("the position is %d, want that of the last line that was said, 1", p.Seq)
		}
	})
}

// A line that waits is not marked in a snapshot that lacks it: after a crash it would not be said again.
func TestPendingIsNotMarked(t *testing.T) {
	h := newTestHub(256)
	say := func(first uint64, lines string) {
		h.enqueue(remoteFrame{"other", first, uint64(countLines([]byte(lines))), textFrame([]byte(lines))})
	}
	marked := func() uint64 { return h.stream.snapshot().Marks["other"].Number }
	say(1, "one\n")
	h.flush()
	say(1, "one\ntwo\n")
	say(3, "three\n")
	if n := marked(); n != 1 {
		t.Errorf("marked up to %d, while line 2 waits", n)
	}
	say(2, "two\n") // which waits
	h.flush()
	if n, lines := marked(), h.stream.end.lines; n != 3 || lines != 3 {
		t.Errorf("marked up to %d, when %d lines are said", n, lines)
	}
	if marks := h.stream.snapshot().Marks; len(marks) != 1 {
		t.Errorf("marks: %v", marks)
	}
}
