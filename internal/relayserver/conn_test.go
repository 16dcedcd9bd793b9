package relayserver

import (
	"bufio"
	"fmt"
	"io"
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
// from any number on. Another connection learns what was asked for.
func TestAsks(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, h *harness) {
		if origin, first := h.server.Publish("", []byte("one\n"), time.UnixMilli(5)); origin == "" || first != 1 {
			t.Errorf("Publish: got origin %q, number %d; want one, 1", origin, first)
		}
		if _, first := h.server.Publish("lobby", []byte("two\nthree\n"), time.UnixMilli(6)); first != 2 {
			t.Errorf("Publish: got number %d, want 2", first)
		}
		r := h.connect()
		if want := (relay.Hello{Origin: r.hello.Origin, Asked: 1, Backlog: true}); r.hello != want || r.hello.Origin == "" {
			t.Errorf("hello: got %+v, want %+v with an origin", r.hello, want)
		}
		r.ask(1, 1<<20)
		m := r.receive()
		if want := []relay.Segment{{Room: "", Lines: 1, At: 5}, {Room: "lobby", Lines: 2, At: 6}}; !slices.Equal(m.Segments, want) {
			t.Errorf("got segments %+v, want %+v", m.Segments, want)
		}
		all := []string{"1 : one", "2 lobby: two", "3 lobby: three"}
		if got := linesIn(m); !slices.Equal(got, all) {
			t.Errorf("got %q, want %q", got, all)
		}
		r.ask(4, 1<<20) // waits
		synctest.Wait()
		h.publish("", "four")
		r.expect("4 : four")
		all = append(all, "4 : four")
		r.ask(2, 1<<20)
		r.expect(all[1:]...)
		r.ask(0, 1<<20)
		r.expect(all...)
		again := h.connect()
		if again.hello.Origin != r.hello.Origin || again.hello.Asked != 4 {
			t.Errorf("second hello: got %+v, want origin %s and 4 asked", again.hello, r.hello.Origin)
		}
		again.ask(1, 1<<20)
		again.expect(all...)
		h.expectCount("relays", &h.counters.Relays, 2)
	})
}

// An answer has at most as many bytes as the relay asks for, and at most 1 MiB, but at least one line.
func TestAnswersAreLimited(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, h *harness) {
		line := strings.Repeat("x", 999)
		for range 3000 {
			h.publish("", line)
		}
		r := h.connect()
		for _, test := range []struct{ limit, least, most int }{
			{-1 << 63, 1, 1}, {-1, 1, 1}, {0, 1, 1}, {1, 1, 1}, {1000, 1, 1}, {10_000, 8, 10}, {500_000, 490, 500}, {1<<63 - 1, 1000, 1 << 20 / 1000},
		} {
			r.ask(1, test.limit)
			if got := len(linesIn(r.receive())); got < test.least || got > test.most {
				t.Errorf("limit %d: got %d lines, want %d to %d", test.limit, got, test.least, test.most)
			}
		}
	})
}

// A second ask replaces the first, and gets one answer.
func TestAsksTwice(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, h *harness) {
		r := h.connect()
		h.publish("", "one", "two", "three")
		r.ask(4, 1<<20)
		synctest.Wait()
		r.ask(5, 1<<20)
		synctest.Wait()
		h.publish("", "five")
		r.expect("5 : five") // the relay has asked for 5, so number 4 is used
		r.ask(5, 1<<20)
		r.expect("5 : five")
	})
}

// The chat holds a line for 3 minutes after a relay has asked for the next one. Then it counts the line as
// lost, once, if a relay asks for it.
func TestLostLines(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, h *harness) {
		r := h.connect()
		for n := range 5 {
			h.publish("", fmt.Sprint("line ", n+1))
		}
		r.ask(4, 1<<20)
		r.expect("4 : line 4", "5 : line 5")
		time.Sleep(3*time.Minute - 2*time.Second)
		r.ask(2, 1<<20)
		r.expect("2 : line 2", "3 : line 3", "4 : line 4", "5 : line 5")
		h.expectCount("lines lost after less than 3 minutes", &h.counters.RelayLost, 0)
		time.Sleep(4 * time.Second)
		for range 2 {
			r.ask(2, 1<<20)
			r.expect("4 : line 4", "5 : line 5")
			h.expectCount("lines lost after 3 minutes", &h.counters.RelayLost, 2)
		}
	})
}

// Only a client with a relay's Origin may connect, so no page in a browser can.
func TestOnlyRelaysConnect(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, h *harness) {
		for _, test := range []struct {
			path   string
			origin []string
			status int
		}{
			{"/relay", []string{"relay://relay"}, 101},
			{"/relay", nil, 403},
			{"/relay", []string{""}, 403},
			{"/relay", []string{"null"}, 403},
			{"/relay", []string{"http://chat"}, 403},
			{"/relay", []string{"http://localhost"}, 403},
			{"/relay", []string{"relay://relay/"}, 403},
			{"/relay", []string{"RELAY://RELAY"}, 403},
			{"/relay", []string{"http://chat", "relay://relay"}, 403},
			{"/", []string{"relay://relay"}, 404},
			{"/ws", []string{"relay://relay"}, 404},
		} {
			request := wstest.Request(test.path)
			for _, origin := range test.origin {
				request = strings.Replace(request, "\r\n\r\n", "\r\nOrigin: "+origin+"\r\n\r\n", 1)
			}
			conn := h.listener.Dial(t)
			go io.WriteString(conn, request)
			response, err := http.ReadResponse(bufio.NewReader(conn), nil)
			if err != nil {
				t.Fatal(err)
			}
			if response.StatusCode != test.status {
				t.Errorf("%s with Origin %q: got %s, want %d", test.path, test.origin, response.Status, test.status)
			}
			conn.Close()
		}
	})
}

// A relay that does not read for minutes is not dropped, and gets all lines afterwards.
func TestRelayThatDoesNotRead(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, h *harness) {
		r := h.connect()
		r.ask(1, 1<<10)
		var want []string
		for n := range 1000 {
			h.publish("", fmt.Sprint("line ", n))
			want = append(want, fmt.Sprintf("%d : line %d", n+1, n))
		}
		time.Sleep(10 * time.Minute)
		var got []string
		for len(got) < len(want) {
			got = append(got, linesIn(r.receive())...)
			r.ask(uint64(len(got)+1), 1<<10)
		}
		if !slices.Equal(got, want) {
			t.Errorf("got %.500q, want 1000 lines", got)
		}
		h.expectCount("lines lost", &h.counters.RelayLost, 0)
	})
}

// A relay that disconnects while its answer is being written, and while another ask waits, leaves nothing
// behind.
func TestRelayGoesWhileItIsAnswered(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, h *harness) {
		h.publish("", "hello")
		r := h.connect()
		r.ask(1, 1<<20)
		synctest.Wait()
		r.ask(1, 1<<20)
		synctest.Wait()
		r.hangUp()
		h.expectCount("relays", &h.counters.Relays, 0)
	})
}

// A message that can't be understood closes its connection, and no other one.
func TestBadMessages(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, h *harness) {
		other := h.connect()
		for n, message := range []string{
			"",
			"\n",
			"hello",
			"[]",
			`"text"`,
			`{}`,
			`{"origin":"x"}`,
			`{"said":"no list"}`,
			`{"first":-1}`,
			`{"first":1.5}`,
			`{"first":18446744073709551616}`,
			`{"people":[]}`,
			`{"people":{"":0}}`,
			`{"ask":{"from":"1"}}`,
			`{}` + "\nlines of no room\n",
			`{"origin":"x","first":1,"said":[{"room":"","lines":1}]}` + "\nnot of the stream\n",
		} {
			r := h.connect()
			end := r.discard()
			if err := websocket.Message.Send(r.socket, message); err != nil {
				t.Error(err)
			}
			select {
			case <-end:
			case <-time.After(time.Minute):
				t.Errorf("%q: the connection is still open", message)
			}
			other.say("other", uint64(n+1), "still here")
			h.expectSaid("", "still here")
		}
	})
}

// A message longer than 65 MiB is not read.
func TestHugeMessage(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, h *harness) {
		p := wstest.NewClient(t, h.listener.Dial(t))
		go io.WriteString(p, strings.Replace(wstest.Request("/relay"), "\r\n\r\n", "\r\nOrigin: relay://relay\r\n\r\n", 1))
		if err := p.ReadHandshake(); err != nil {
			t.Fatal(err)
		}
		go p.Write([]byte{0x82, 0xff, 0, 0, 0, 0, 0x04, 0x10, 0, 1, 1, 2, 3, 4}) // the header of a frame of 65 MiB + 1
		io.Copy(io.Discard, p.In)                                                // until the end
		h.expectCount("relays", &h.counters.Relays, 0)
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
		"numbers up to the end":    {strange("x", most-1, 1, "", now, "a", "b", "c"), strange("x", most, 1, "", now, "a"), strange("x", 1, 1, "", now, "a")},
		"the last number":          {strange("x", most, most, "", now, "a"), strange("x", most, most, "", now, "a", "b")},
		"the middle":               {strange("x", 1<<63-1, 1, "", now, "a", "b"), strange("x", 1<<63, 1, "", now, "a", "b")},
		"the highest number":       {strange("x", 1<<62, 1, "", now, "a", "b"), {Ask: &relay.Ask{From: 1 << 62, Limit: 1}}},
		"backwards":                {strange("x", 1<<40, 1, "", now, "a"), strange("x", 1, 1, "", now, "a", "b")},
		"the chat's own origin":    {strange("OWN", 1<<40, 1, "", now, "a")},
		"no origin":                {strange("", 1, 1, "", now, "a")},
		"strange rooms":            {strange("x", 1, 1, "../x", now, "a"), strange("x", 2, 1, "A\x00\n", now, "a"), strange("x", 3, 1, strings.Repeat("x", 1000), now, "a")},
		"strange times":            {strange("x", 1, 1, "", least, "a"), strange("x", 2, 1, "", -1, "a"), strange("x", 3, 1, "", 0, "a"), strange("x", 4, 1, "", 1<<63-1, "a")},
		"a backlog without an end": {{Backlog: true, Cursor: new(relay.Cursor)}, {Origin: "x", Cursor: &relay.Cursor{Seq: most}, Backlog: true}},
		"nothing":                  {{Cursor: &relay.Cursor{Seq: most, Time: least}}, {First: most}},
		"a hello":                  {{Hello: &relay.Hello{Origin: "OWN", Asked: most}}},
		"people":                   {{Origin: "x", People: map[string]int{"": -5, "../x": 1}}},
		"too many people":          {{Origin: "y", People: map[string]int{"": 1<<63 - 1}}},
		"asks":                     {{Ask: &relay.Ask{Limit: least}}, {Ask: &relay.Ask{From: 0, Limit: 1<<63 - 1}}, {Ask: &relay.Ask{From: 2, Limit: -1}}},
		"an ask far ahead":         {{Ask: &relay.Ask{From: most, Limit: 1}}},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, Options{}, func(t *testing.T, h *harness) {
				hostile, other := h.connect(), h.connect()
				hostile.discard()
				for _, m := range messages {
					m.Origin = strings.Replace(m.Origin, "OWN", other.hello.Origin, 1)
					websocket.Message.Send(hostile.socket, m.Encode())
				}
				time.Sleep(3 * time.Second)
				h.chat.mu.Lock()
				if n := h.chat.remotePeople[""]; n != 0 {
					t.Errorf("got %d people at other chats, want none", n)
				}
				h.chat.mu.Unlock()
				other.send(relay.Message{Cursor: new(relay.Cursor)}) // ends a backlog
				other.send(linesOf("unharmed", "other", 1, "from elsewhere"))
				h.expectSaid("unharmed", "from elsewhere")
				h.publish("", "from here")
				other.ask(0, 1<<20)
				if got := linesIn(other.receive()); len(got) != 1 || !strings.HasSuffix(got[0], " : from here") {
					t.Errorf("got %q, want the line from here", got)
				}
				other.discard()
				h.stop()
				if restored := New(h.chat, Options{Saved: h.server.Snapshot()}); restored.origin != h.server.origin {
					t.Error("the snapshot is not used")
				}
			})
		})
	}
}
