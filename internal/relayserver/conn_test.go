package relayserver

import (
	"bufio"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/websocket"

	"example.com/chat/internal/relay"
	"example.com/chat/internal/wstest"
)

// A relay gets local lines with their rooms and times, even lines from before it connected. It may ask again,
// from any number on. A second ask replaces the first. Another connection learns what was asked for. A line is
// dropped 3 minutes after a relay has asked for the next one. It then counts as lost, once, if a relay asks for it.
func TestAsks(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, h *harness) {
		origin, one := h.server.Publish("", []byte("one\n"), time.UnixMilli(5))
		if _, two := h.server.Publish("lobby", []byte("two\nthree\n"), time.UnixMilli(6)); origin == "" || one != 1 || two != 2 {
			t.Errorf("Publish: got origin %q, numbers %d and %d; want an origin, 1 and 2", origin, one, two)
		}
		r := h.connect()
		if want := (relay.Hello{Origin: origin, Asked: 1, Backlog: true}); r.hello != want {
			t.Errorf("hello: got %+v, want %+v", r.hello, want)
		}
		r.ask(1, 1<<20)
		m, all := r.receive(), []string{"1 : one", "2 lobby: two", "3 lobby: three"}
		if got := linesIn(m); !slices.Equal(got, all) || m.Segments[0].At != 5 || m.Segments[1].At != 6 {
			t.Errorf("got %q, segments %+v; want %q at 5 and 6", got, m.Segments, all)
		}
		for range 2 {
			r.ask(4, 1<<20) // waits
			synctest.Wait()
		}
		h.publish("", "four")
		r.expect("4 : four")
		all = append(all, "4 : four")
		r.ask(2, 1<<20)
		r.expect(all[1:]...)
		r.ask(0, 1<<20)
		r.expect(all...)
		again := h.connect()
		if again.hello.Origin != origin || again.hello.Asked != 4 {
			t.Errorf("second hello: got %+v, want origin %s and 4 asked", again.hello, origin)
		}
		h.expectCount("relays", &h.counters.Relays, 2)
		time.Sleep(3*time.Minute - 2*time.Second)
		again.ask(1, 1<<20)
		again.expect(all...)
		h.expectCount("lines lost after less than 3 minutes", &h.counters.RelayLost, 0)
		time.Sleep(4 * time.Second)
		for range 2 {
			again.ask(1, 1<<20)
			again.expect(all[3:]...)
			h.expectCount("lines lost after 3 minutes", &h.counters.RelayLost, 3)
		}
	})
}

// An answer has at most as many bytes as the relay asks for, and at most 1 MiB, but at least one line.
func TestAnswersAreLimited(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, h *harness) {
		for range 3000 {
			h.publish("", strings.Repeat("x", 999))
		}
		r := h.connect()
		for limit, want := range map[int]int{-1 << 63: 1, 1000: 1, 10_000: 9, 1<<63 - 1: 1048} {
			r.ask(1, limit)
			if got := len(linesIn(r.receive())); got != want {
				t.Errorf("limit %d: got %d lines, want %d", limit, got, want)
			}
		}
	})
}

// Only a client with a relay's Origin may connect, so no page in a browser can. Its handshake has no body.
func TestOnlyRelaysConnect(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, h *harness) {
		for _, test := range []struct {
			path, headers string
			status        int
		}{
			{"/relay", "Origin: relay://relay\r\n", 101},
			{"/relay", "", 403}, {"/relay", "Origin: \r\n", 403}, {"/relay", "Origin: null\r\n", 403},
			{"/relay", "Origin: http://chat\r\n", 403}, {"/relay", "Origin: http://localhost\r\n", 403},
			{"/relay", "Origin: relay://relay/\r\n", 403}, {"/relay", "Origin: RELAY://RELAY\r\n", 403},
			{"/relay", "Origin: http://chat\r\nOrigin: relay://relay\r\n", 403},
			{"/relay", "Origin: relay://relay\r\nContent-Length: 5\r\n", 403}, // the body would be read as frames
			{"/relay", "Origin: relay://relay\r\nTransfer-Encoding: chunked\r\n", 403},
			{"/", "Origin: relay://relay\r\n", 404}, {"/ws", "Origin: relay://relay\r\n", 404},
		} {
			conn := h.listener.(wstest.Listener).Dial(t)
			go io.WriteString(conn, strings.TrimSuffix(wstest.Request(test.path), "\r\n")+test.headers+"\r\n")
			response, err := http.ReadResponse(bufio.NewReader(conn), nil)
			if err != nil || response.StatusCode != test.status {
				t.Errorf("%s with %q: got %v, %v; want %d", test.path, test.headers, response, err, test.status)
			}
			conn.Close()
		}
	})
}

// A relay that does not read for minutes is not dropped, and gets all lines afterwards. If it disconnects while its
// answer is being written, and another ask waits, it leaves nothing behind.
func TestRelayThatDoesNotRead(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, h *harness) {
		r := h.connect()
		r.ask(1, 1)
		for n := range 200 {
			h.publish("", fmt.Sprint("line ", n))
		}
		time.Sleep(10 * time.Minute)
		for n := range 200 { // of which each answer has one
			r.expect(fmt.Sprintf("%d : line %d", n+1, n))
			r.ask(uint64(n+2), 1)
		}
		h.expectCount("lines lost", &h.counters.RelayLost, 0)
		for range 2 {
			r.ask(1, 1<<20)
			synctest.Wait()
		}
		r.conn.Close()
		h.expectCount("relays", &h.counters.Relays, 0)
	})
}

// A message that can't be understood, or is longer than 65 MiB, closes its connection, and no other one.
func TestBadMessages(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, h *harness) {
		other := h.connect()
		masked := func(message string) string { return string(wstest.Frame(0x82, message)) }
		for n, frame := range []string{
			masked(""), masked("hello"), masked(`{}`), masked(`{"origin":"x"}`), masked(`{"people":{"":0}}`), masked(`{"ask":{"from":"1"}}`),
			masked(`{"origin":"x","first":1,"said":[{"room":"","lines":1}]}` + "\nnot of the stream\n"),
			"\x82\xff\x00\x00\x00\x00\x04\x10\x00\x01\x01\x02\x03\x04", // the header of a frame of 65 MiB + 1
		} {
			r := h.connect()
			end := r.discard()
			go io.WriteString(r.conn, frame)
			select {
			case <-end:
			case <-time.After(time.Minute):
				t.Errorf("%q: the connection is still open", frame)
			}
			other.say("other", uint64(n+1), "still here")
			h.expectSaid("", "still here")
		}
	})
}

// Messages with the strangest numbers and names may end their connection. The chat and another relay continue.
func TestHostileMessages(t *testing.T) {
	const most, least = 1<<64 - 1, -1 << 63
	strange := func(origin string, first, seq uint64, room string, at int64, said ...string) relay.Message {
		m := linesAt(at, room, origin, first, said...)
		m.Cursor.Seq = seq
		return m
	}
	now := time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC).UnixMilli() // in a bubble
	for name, messages := range map[string][]relay.Message{
		"numbers up to the end":     {strange("x", most-1, 1, "", now, "a", "b", "c"), strange("x", most, 1, "", now, "a"), strange("x", 1, 1, "", now, "a")},
		"the last number":           {strange("x", most, most, "", now, "a"), strange("x", most, most, "", now, "a", "b")},
		"the middle":                {strange("x", 1<<63-1, 1, "", now, "a", "b"), strange("x", 1<<63, 1, "", now, "a", "b")},
		"the highest number":        {strange("x", 1<<52, 1, "", now, "a", "b"), {Ask: &relay.Ask{From: 1 << 52, Limit: 1}}},
		"a number above it":         {strange("x", 1<<62, 1, "", now, "a", "b"), {Ask: &relay.Ask{From: 1 << 62, Limit: 1}}},
		"an ask for a line to come": {{Ask: &relay.Ask{From: 2, Limit: 1}}},
		"a report of repetitions":   {{Origin: "x", People: map[string]int{}, Repeated: map[string]uint64{"OWN": 7, "x": most}}},
		"overflowing repetitions":   {{Origin: "x", People: map[string]int{}, Repeated: map[string]uint64{"OWN": most}}},
		"backwards":                 {strange("x", 1<<40, 1, "", now, "a"), strange("x", 1, 1, "", now, "a", "b")},
		"the chat's own origin":     {strange("OWN", 1<<40, 1, "", now, "a"), {Hello: &relay.Hello{Origin: "OWN", Asked: most}}},
		"no origin":                 {strange("", 1, 1, "", now, "a")},
		"strange rooms":             {strange("x", 1, 1, "../x", now, "a"), strange("x", 2, 1, "A\x00\n", now, "a"), strange("x", 3, 1, strings.Repeat("x", 1000), now, "a")},
		"strange times":             {strange("x", 1, 1, "", least, "a"), strange("x", 2, 1, "", -1, "a"), strange("x", 3, 1, "", 0, "a"), strange("x", 4, 1, "", 1<<63-1, "a")},
		"a backlog without an end":  {{Backlog: true, Cursor: new(relay.Cursor)}, {Origin: "x", Cursor: &relay.Cursor{Seq: most}, Backlog: true}},
		"nothing":                   {{Cursor: &relay.Cursor{Seq: most, Time: least}}, {First: most}},
		"people":                    {{Origin: "x", People: map[string]int{"": -5, "../x": 1}}},
		"too many people":           {{Origin: "y", People: map[string]int{"": 1<<63 - 1}}},
		"asks":                      {{Ask: &relay.Ask{Limit: least}}, {Ask: &relay.Ask{From: 0, Limit: 1<<63 - 1}}, {Ask: &relay.Ask{From: 2, Limit: -1}}},
		"an ask far ahead":          {{Ask: &relay.Ask{From: most, Limit: 1}}},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, Options{}, func(t *testing.T, h *harness) {
				hostile, other := h.connect(), h.connect()
				hostile.discard()
				for _, m := range messages {
					m.Origin = strings.Replace(m.Origin, "OWN", other.hello.Origin, 1)
					if n, ok := m.Repeated["OWN"]; ok {
						m.Repeated[other.hello.Origin] = n
					}
					websocket.Message.Send(hostile.socket, m.Encode())
				}
				time.Sleep(3 * time.Second)
				if h.server.outbox.Origin() != other.hello.Origin {
					other.discard()
					other = h.connect()
				}
				if n := h.remotePeople.Load().(map[string]int)[""]; n != 0 {
					t.Errorf("got %d people at other chats, want none", n)
				}
				other.send(relay.Message{Cursor: new(relay.Cursor)}) // ends a backlog
				other.send(linesAt(now, "unharmed", "other", 1, "from elsewhere"))
				h.expectSaid("unharmed", "from elsewhere")
				h.publish("", "from here")
				other.ask(0, 1<<20)
				if got := linesIn(other.receive()); len(got) != 1 || !strings.HasSuffix(got[0], " : from here") {
					t.Errorf("got %q, want the line from here", got)
				}
				other.discard()
				h.stop()
				if restored := New(h, Options{Saved: h.server.Snapshot()}); restored.outbox.Origin() != h.server.outbox.Origin() {
					t.Error("the snapshot is not used")
				}
			})
		})
	}
}

// The chat gets the sum of the people at all other chats within a second. A chat that is silent for 15 s has
// none.
func TestRemotePeople(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, h *harness) {
		r := h.connect()
		r.discard()
		for n, step := range []struct {
			origin string
			report map[string]int // nil for none
			after  time.Duration
			want   map[string]int
		}{
			{r.hello.Origin, map[string]int{"": 1000}, time.Second, nil},
			{"other", map[string]int{"": 3, "lobby": 5}, time.Second, map[string]int{"": 3, "lobby": 5}},
			{"third", map[string]int{"": 100, "third": 1}, time.Second, map[string]int{"": 103, "lobby": 5, "third": 1}},
			{"other", map[string]int{"": 2}, time.Second, map[string]int{"": 102, "third": 1}},
			{"third", map[string]int{}, 13 * time.Second, map[string]int{"": 2}},
			{"third", map[string]int{"": 1}, 3 * time.Second, map[string]int{"": 1}}, // the other chat is silent
			{"third", nil, 14 * time.Second, nil},
		} {
			if step.report != nil {
				r.send(relay.Message{Origin: step.origin, People: step.report})
			}
			time.Sleep(step.after)
			synctest.Wait()
			if got := h.remotePeople.Load().(map[string]int); !maps.Equal(got, step.want) {
				t.Errorf("step %d: got %v, want %v", n, got, step.want)
			}
		}
	})
}

// A relay gets the people of this chat within a second after a change, and every 5 s. At the stop nobody is
// left.
func TestPeopleAreReported(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, h *harness) {
		r := h.connect()
		expect := func(want map[string]int, from, to time.Duration) {
			t.Helper()
			began := time.Now()
			m := r.receiveAny()
			if took := time.Since(began); m.People == nil || !maps.Equal(m.People, want) || took < from || took > to {
				t.Errorf("got %+v after %v, want %v after %v to %v", m, took, want, from, to)
			}
		}
		expect(map[string]int{}, 0, time.Second)
		for _, people := range []map[string]int{{"": 1, "lobby": 2}, {"lobby": 1}} {
			h.people.Store(people)
			expect(people, 0, time.Second)
			r.send(relay.Message{Origin: "other", People: map[string]int{"lobby": 5}}) // who are not here
			expect(people, 5*time.Second, 5*time.Second)
			expect(people, 5*time.Second, 5*time.Second)
		}
		go h.stop()
		expect(map[string]int{}, 0, 0)
		<-r.discard()
	})
}
