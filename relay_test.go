package main

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/websocket"

	"example.com/chat/internal/relay"
	"example.com/chat/internal/wstest"
)

// relayedChat is a chat with -relay, over sockets or in a bubble.
type relayedChat struct {
	t               testing.TB
	rooms           *rooms
	stop            func()
	dial, dialRelay func() net.Conn
}

// startRelayed runs a chat with -relay on free ports of 127.0.0.1.
func startRelayed(t testing.TB, cfg config) relayedChat {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	cfg.relay = "127.0.0.1:0"
	relays, err := listenRelay(cfg.relay)
	if err != nil {
		t.Fatal(err)
	}
	c := relayedChat{t: t}
	c.dial = func() net.Conn { return wstest.Dial(t, listener.Addr().String()) }
	c.dialRelay = func() net.Conn { return wstest.Dial(t, relays.Addr().String()) }
	return c.start(listener, relays, cfg)
}

// startRelayedInBubble runs a chat with -relay in memory.
func startRelayedInBubble(t *testing.T, cfg config) relayedChat {
	t.Helper()
	listener, relays := wstest.NewListener(), wstest.NewListener()
	cfg.relay = "in memory"
	c := relayedChat{t: t}
	c.dial = func() net.Conn { return listener.Dial(t) }
	c.dialRelay = func() net.Conn { return relays.Dial(t) }
	return c.start(listener, relays, cfg)
}

// start runs the chat until stop, or the end of the test, which does not wait for a relay.
func (c relayedChat) start(listener, relays net.Listener, cfg config) relayedChat {
	c.t.Helper()
	c.rooms, c.stop = startBoth(c.t, listener, relays, cfg)
	c.t.Cleanup(func() {
		outbox := c.rooms.relays.outbox
		outbox.Read(relay.Ask{From: outbox.Asked() + outbox.Unasked()})
		c.stop()
	})
	return c
}

// join connects to a target such as /lobby/ws.
func (c relayedChat) join(target string) *wstest.Client {
	c.t.Helper()
	return wstest.Upgrade(c.t, c.dial(), target)
}

// fakeRelay is a relay as the chat sees it.
type fakeRelay struct {
	*websocket.Conn
	t      testing.TB
	hello  relay.Hello
	hangUp func() // closes the connection, without a word
}

// connect connects a relay.
func (c relayedChat) connect() *fakeRelay {
	c.t.Helper()
	config, err := websocket.NewConfig("ws://chat/relay", relay.OriginHeader)
	if err != nil {
		c.t.Fatal(err)
	}
	socket := c.dialRelay()
	conn, err := websocket.NewClient(config, socket)
	if err != nil {
		c.t.Fatal(err)
	}
	r := &fakeRelay{Conn: conn, t: c.t, hangUp: func() { socket.Close() }}
	m := r.receive()
	if m.Hello == nil {
		c.t.Fatalf("got %+v; want a hello", m)
	}
	r.hello = *m.Hello
	return r
}

// receiveAny returns the next message from the chat.
func (r *fakeRelay) receiveAny() relay.Message {
	r.t.Helper()
	var b []byte
	if err := websocket.Message.Receive(r.Conn, &b); err != nil {
		r.t.Fatal(err)
	}
	m, err := relay.Decode(b)
	if err != nil {
		r.t.Fatal(err)
	}
	return m
}

// receive passes over counts of people. It waits up to a minute.
func (r *fakeRelay) receive() relay.Message {
	r.t.Helper()
	r.SetReadDeadline(time.Now().Add(time.Minute))
	m := r.receiveAny()
	for m.People != nil {
		m = r.receiveAny()
	}
	return m
}

func (r *fakeRelay) send(m relay.Message) {
	r.t.Helper()
	r.sendBytes(m.Encode())
}

func (r *fakeRelay) sendBytes(b []byte) {
	r.t.Helper()
	if err := websocket.Message.Send(r.Conn, b); err != nil {
		r.t.Error(err)
	}
}

// ask asks for lines.
func (r *fakeRelay) ask(from uint64, limit int) {
	r.t.Helper()
	r.send(relay.Message{Ask: &relay.Ask{From: from, Limit: limit}})
}

// expect expects lines, each with its number and room, such as "7 lobby: hello".
func (r *fakeRelay) expect(want ...string) {
	r.t.Helper()
	for n := 0; n < len(want); {
		got := linesIn(r.receive())
		if n+len(got) > len(want) || !slices.Equal(got, want[n:n+len(got)]) {
			r.t.Fatalf("got %.500q; want %.500q", got, want[n:])
		}
		n += len(got)
	}
}

// linesIn returns the lines of m, each with its number and room.
func linesIn(m relay.Message) (lines []string) {
	text, number := m.Body, m.First
	for _, said := range m.Said {
		var some []byte
		some, text = relay.Cut(text, said.Lines)
		for line := range bytes.Lines(some) {
			lines = append(lines, fmt.Sprintf("%d %s: %s", number, said.Room, bytes.TrimSuffix(line, []byte{'\n'})))
			number++
		}
	}
	return lines
}

// saidIn returns what a relay sends of lines that are said now in a room of another chat.
func saidIn(room, origin string, first uint64, lines ...string) relay.Message {
	return saidAt(time.Now().UnixMilli(), room, origin, first, lines...)
}

// saidAt is saidIn at another time.
func saidAt(at int64, room, origin string, first uint64, lines ...string) relay.Message {
	return fromStream(origin, relay.Message{First: first, Body: []byte(strings.Join(lines, "\n") + "\n"),
		Said: []relay.Said{{Room: room, Lines: len(lines), At: at}}}.Encode())
}

// fromStream returns what a relay sends of a message in the stream.
func fromStream(origin string, message []byte) relay.Message {
	return relay.Message{Origin: origin, Position: &relay.Position{Seq: 1}, Body: message}
}

// say sends lines that are said now at another chat, in the room without a name.
func (r *fakeRelay) say(origin string, first uint64, lines ...string) {
	r.t.Helper()
	r.send(saidIn("", origin, first, lines...))
}

// A relay gets what is said, in which room and when, also what was said before it came. The lines are numbered
// over all rooms. It may ask again, and from any number on.
func TestRelayAsks(t *testing.T) {
	t.Parallel()
	c := startRelayed(t, defaults)
	began := time.Now().UnixMilli()
	ann, bob := c.join("/ws"), c.join("/lobby/ws")
	speak := func(p *wstest.Client, line string) {
		p.Send(websocket.TextFrame, line)
		p.Expect(websocket.TextFrame, line)
	}
	speak(ann, "one")
	speak(bob, "two")
	speak(bob, "three")
	all := []string{"1 : one", "2 lobby: two", "3 lobby: three"}
	r := c.connect()
	if r.hello.Origin == "" || r.hello.Asked != 1 || r.hello.Position != (relay.Position{}) {
		t.Errorf("hello: %+v", r.hello)
	}
	r.ask(1, 1<<20)
	m := r.receive()
	if got := linesIn(m); !slices.Equal(got, all) {
		t.Errorf("got %q", got)
	}
	for _, said := range m.Said {
		if said.At < began || said.At > time.Now().UnixMilli() {
			t.Errorf("said at %d, not since %d", said.At, began)
		}
	}
	r.ask(4, 1<<20) // waits
	speak(ann, "four")
	r.expect("4 : four")
	all = append(all, "4 : four")
	r.ask(2, 1<<20)
	r.expect(all[1:]...)
	r.ask(0, 1<<20)
	r.expect(all...)
	again := c.connect()
	if again.hello.Origin != r.hello.Origin || again.hello.Asked != 4 {
		t.Errorf("hello: %+v, before: %+v", again.hello, r.hello)
	}
	again.ask(1, 1<<20)
	again.expect(all...)
}

// An answer is no longer than the relay asks for, nor than maxAsk, but has a line at least.
func TestAnswersAreLimited(t *testing.T) {
	t.Parallel()
	c := startRelayed(t, defaults)
	outbox := c.rooms.relays.outbox
	line := strings.Repeat("x", 999) + "\n"
	for range 3000 {
		outbox.Add("", []byte(line), time.Now())
	}
	r := c.connect()
	for _, test := range []struct{ limit, least, most int }{
		{-1 << 63, 1, 1}, {-1, 1, 1}, {0, 1, 1}, {1, 1, 1}, {1000, 1, 1}, {10_000, 8, 10}, {500_000, 490, 500}, {1<<63 - 1, 1000, maxAsk / 1000},
	} {
		r.ask(1, test.limit)
		if got := len(linesIn(r.receive())); got < test.least || got > test.most {
			t.Errorf("limit %d: %d lines, want %d to %d", test.limit, got, test.least, test.most)
		}
	}
}

// Of two questions the second counts: a relay gets one answer.
func TestRelayAsksTwice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := startRelayedInBubble(t, defaults)
		ann, r := c.join("/ws"), c.connect()
		sayNumbered(t, ann, 0, 3)
		r.ask(9, 1<<20)
		r.ask(4, 1<<20)
		synctest.Wait()
		if asked := c.rooms.relays.outbox.Asked(); asked != 9 {
			t.Fatalf("asked for %d", asked)
		}
		sayNumbered(t, ann, 3, 4)
		r.expect("9 : line 3") // the numbers before 9 were used, as the relay says
	})
}

// Lines that a relay asks for when they are not held any more are counted.
func TestLostLines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := startRelayedInBubble(t, defaults)
		r := c.connect()
		sayNumbered(t, c.join("/ws"), 0, 10)
		r.ask(8, 1<<20)
		r.expect("8 : line 7", "9 : line 8", "10 : line 9")
		time.Sleep(5 * time.Minute)
		ann := c.join("/ws")
		r.ask(5, 1<<20)
		for range 2 {
			r.expect("8 : line 7", "9 : line 8", "10 : line 9")
			if lost := c.rooms.counters.relayLost.Value(); lost != 3 {
				t.Errorf("%d lines are counted as lost, want 3", lost)
			}
			r.ask(8, 1<<20) // of these none is lost
		}
		ann.Conn.Close()
	})
}

// A relay is no person: no limit for people is one for it, and nobody is told that it is there.
func TestRelayIsNoPerson(t *testing.T) {
	cfg := defaults
	cfg.maxConns, cfg.rate = 1, 1
	synctest.Test(t, func(t *testing.T) {
		c := startRelayedInBubble(t, cfg)
		one, two := c.connect(), c.connect()
		ann := c.join("/ws?events")
		if e := readEvent(t, ann); e.People != 1 {
			t.Errorf("people: %+v", e)
		}
		began := time.Now()
		lines := wstest.Numbered(0, 100)
		for n, line := range lines {
			one.say("other", uint64(n+1), line)
		}
		ann.ExpectLines(lines...)
		if took := time.Since(began); took > 100*time.Millisecond {
			t.Errorf("100 messages took %v", took)
		}
		if relays, people := c.rooms.counters.relays.Value(), c.rooms.counters.connections.Value(); relays != 2 || people != 1 {
			t.Errorf("%d relays and %d people are counted", relays, people)
		}
		for one.receiveAny().People[""] != 1 { // the first count may be from before ann came
		}
		one.hangUp()
		two.hangUp()
		synctest.Wait()
		if relays := c.rooms.counters.relays.Value(); relays != 0 {
			t.Errorf("%d relays are counted when they have gone", relays)
		}
	})
}

// What has not the Origin of a relay is none, and where people come in there is none either: a page in a browser
// could connect to both.
func TestOnlyRelaysConnect(t *testing.T) {
	t.Parallel()
	c := startRelayed(t, defaults)
	people, relays := c.dial().RemoteAddr().String(), c.dialRelay().RemoteAddr().String()
	for _, test := range []struct {
		addr, path string
		origin     []string
		status     int
	}{
		{relays, "/relay", []string{relay.OriginHeader}, 101},
		{relays, "/relay", nil, 403},
		{relays, "/relay", []string{""}, 403},
		{relays, "/relay", []string{"null"}, 403},
		{relays, "/relay", []string{"http://" + relays}, 403},
		{relays, "/relay", []string{"http://localhost"}, 403},
		{relays, "/relay", []string{"relay://relay/"}, 403},
		{relays, "/relay", []string{"RELAY://RELAY"}, 403},
		{relays, "/relay", []string{"http://" + relays, relay.OriginHeader}, 403},
		{relays, "/", []string{relay.OriginHeader}, 404},
		{relays, "/ws", []string{relay.OriginHeader}, 404},
		{people, "/relay", []string{relay.OriginHeader}, 301}, // the room of that name
		{people, "/relay/ws", []string{relay.OriginHeader}, 403},
	} {
		r, err := http.NewRequest("GET", "http://"+test.addr+test.path, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header = http.Header{"Connection": {"Upgrade"}, "Upgrade": {"websocket"}, "Sec-Websocket-Version": {"13"}, "Sec-Websocket-Key": {"dGhlIHNhbXBsZSBub25jZQ=="}}
		if test.origin != nil {
			r.Header["Origin"] = test.origin
		}
		if response := wstest.RoundTrip(t, r); response.StatusCode != test.status {
			t.Errorf("%s%s, Origin %q: %s, want %d", test.addr, test.path, test.origin, response.Status, test.status)
		}
	}
}

// A relay may take its time: it is not dropped, keeps nobody waiting, and gets all.
func TestRelayThatDoesNotRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := startRelayedInBubble(t, defaults)
		r := c.connect()
		r.ask(1, 1<<10)
		talkPast(t, c.join("/ws"), 1000)
		time.Sleep(10 * time.Minute)
		for next := uint64(1); next <= 1000; {
			m := r.receive()
			for i, line := range linesIn(m) {
				if n := next + uint64(i); line != fmt.Sprintf("%d : line %d", n, n-1) {
					t.Fatalf("got %q; want number %d", line, n)
				}
			}
			next = m.Next()
			r.ask(next, 1<<10)
		}
		if lost := c.rooms.counters.relayLost.Value(); lost != 0 {
			t.Errorf("%d lines are lost", lost)
		}
	})
}

// A relay that goes while it is being answered, and has asked again, leaves nothing behind.
func TestRelayGoesWhileItIsAnswered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := startRelayedInBubble(t, defaults)
		sayNumbered(t, c.join("/ws"), 0, 3)
		r := c.connect()
		r.ask(1, 1<<20)
		synctest.Wait() // the answer is being written
		r.ask(1, 1<<20)
		synctest.Wait()
		r.hangUp()
		synctest.Wait()
		if relays := c.rooms.counters.relays.Value(); relays != 0 {
			t.Errorf("%d relays are still connected", relays)
		}
	})
}

// What is no message closes the connection that it comes on, and harms nobody else.
func TestNoMessage(t *testing.T) {
	t.Parallel()
	c := startRelayed(t, defaults)
	ann, other := c.join("/ws"), c.connect()
	for n, message := range []string{
		"",
		"\n",
		"hello",
		"[]",
		`"text"`,
		`{"said":"no list"}`,
		`{"first":-1}`,
		`{"first":1.5}`,
		`{"first":18446744073709551616}`,
		`{"people":[]}`,
		`{"ask":{"from":"1"}}`,
		`{}` + "\nlines of no room\n",
		`{"origin":"x","first":1,"said":[{"room":"","lines":1}]}`,
		`{"origin":"x","first":1,"said":[{"room":"","lines":2}]}` + "\none\n",
		`{"origin":"x","first":1,"said":[{"room":"","lines":1}]}` + "\none\ntwo\n",
		`{"origin":"x","first":1,"said":[{"room":"","lines":1}]}` + "\nno line break",
		`{"origin":"x","first":1,"said":[{"room":"","lines":1}]}` + "\none\nno line break",
		`{"origin":"x","first":1,"said":[{"room":"","lines":0},{"room":"","lines":1}]}` + "\none\n",
		`{"origin":"x","first":1,"said":[{"room":"","lines":2},{"room":"","lines":-1}]}` + "\none\n",
		`{"origin":"x","first":1,"said":[{"room":"","lines":9223372036854775807},{"room":"","lines":-9223372036854775806}]}` + "\none\n",
		`{"origin":"x","said":[{"room":"","lines":1}]}` + "\none\n", // lines are numbered from 1
	} {
		r := c.connect()
		r.sendBytes([]byte(message))
		var b []byte
		for err := error(nil); !errors.Is(err, io.EOF) && !errors.Is(err, syscall.ECONNRESET); err = websocket.Message.Receive(r.Conn, &b) {
			if err != nil {
				t.Errorf("%q: %v; want the end", message, err)
				break
			}
		}
		line := fmt.Sprint("line ", n)
		other.say("other", uint64(n+1), line)
		ann.ExpectLines(line)
	}
}

// What is in the stream and has no lines is skipped.
func TestNoMessageInTheStream(t *testing.T) {
	t.Parallel()
	c := startRelayed(t, defaults)
	ann, r := c.join("/ws"), c.connect()
	for n, message := range []string{
		"hello", "{}", "null", "[]\n", `{"people":{"":5}}`, "{}\nlines of no room\n",
		`{"first":1,"said":[{"room":"","lines":1}]}`,
		`{"first":1,"said":[{"room":"","lines":2}]}` + "\none\n",
		`{"first":1,"said":[{"room":"","lines":1}]}` + "\nno line break",
		`{"said":[{"room":"","lines":1}]}` + "\none\n",
	} {
		r.send(fromStream("strange", []byte(message)))
		line := fmt.Sprint("line ", n)
		r.say("other", uint64(n+1), line)
		ann.ExpectLines(line)
	}
}

// A message that is longer than any from a relay is not read.
func TestHugeMessage(t *testing.T) {
	t.Parallel()
	c := startRelayed(t, defaults)
	r, conn := c.connect(), c.dialRelay()
	r.hangUp()
	p := wstest.NewClient(t, conn)
	io.WriteString(p, strings.Replace(wstest.Request("/relay"), "\r\n\r\n", "\r\nOrigin: "+relay.OriginHeader+"\r\n\r\n", 1))
	if err := p.ReadHandshake(); err != nil {
		t.Fatal(err)
	}
	p.Write([]byte{0x82, 0xff, 0, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff, 1, 2, 3, 4}) // the head of a frame of 2 GiB
	if _, err := io.Copy(io.Discard, p.In); err != nil && !errors.Is(err, syscall.ECONNRESET) {
		t.Error(err)
	}
}

// A message with the strangest numbers and names may end its connection. People who are there notice nothing, and
// another relay goes on.
func TestHostileMessages(t *testing.T) {
	const most, leastInt = 1<<64 - 1, -1 << 63
	strange := func(origin string, first, seq uint64, room string, at int64, lines ...string) relay.Message {
		m := saidAt(at, room, origin, first, lines...)
		m.Position.Seq = seq
		return m
	}
	now := time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC).UnixMilli() // in a bubble
	for name, messages := range map[string][]relay.Message{
		"numbers up to the end":    {strange("x", most-1, 1, "", now, "hostile", "hostile", "hostile"), strange("x", most, 1, "", now, "hostile"), strange("x", 1, 1, "", now, "hostile")},
		"the last number":          {strange("x", most, most, "", now, "hostile"), strange("x", most, most, "", now, "hostile", "hostile")},
		"the middle":               {strange("x", 1<<63-1, 1, "", now, "hostile", "hostile"), strange("x", 1<<63, 1, "", now, "hostile", "hostile")},
		"the highest number":       {strange("x", 1<<62, 1, "", now, "hostile", "hostile"), {Ask: &relay.Ask{From: 1 << 62, Limit: 1}}},
		"backwards":                {strange("x", 1<<40, 1, "", now, "hostile"), strange("x", 1, 1, "", now, "hostile", "hostile")},
		"the chat's own origin":    {strange("OWN", 1<<40, 1, "", now, "hostile")},
		"no origin":                {strange("", 1, 1, "", now, "hostile")},
		"no name of a room":        {strange("x", 1, 1, "../x", now, "hostile"), strange("x", 2, 1, "A\x00\n", now, "hostile"), strange("x", 3, 1, strings.Repeat("x", 1000), now, "hostile")},
		"before all time":          {strange("x", 1, 1, "", leastInt, "hostile"), strange("x", 2, 1, "", -1, "hostile"), strange("x", 3, 1, "", 0, "hostile")},
		"behind all time":          {strange("x", 1, 1, "", 1<<63-1, "hostile")},
		"a backlog without an end": {{Backlog: true, Position: new(relay.Position)}, {Origin: "x", Position: &relay.Position{Seq: most}, Backlog: true}},
		"nothing":                  {{}, {Position: &relay.Position{Seq: most, Time: leastInt}}, {First: most}, {Origin: "x"}, {Hello: &relay.Hello{Origin: "OWN", Asked: most}}},
		"people":                   {{Origin: "x", People: map[string]int{"": -5, "../x": 1}}, {Origin: "y", People: map[string]int{"": 1<<63 - 1}}, {Origin: "z", People: map[string]int{"": leastInt}}},
		"too many people":          {{Origin: "y", People: map[string]int{"": 1<<63 - 1}}, {Origin: "z", People: map[string]int{"": 1<<63 - 1}}, {Origin: "a", People: map[string]int{"": 1<<63 - 1}}},
		"questions":                {{Ask: &relay.Ask{Limit: leastInt}}, {Ask: &relay.Ask{From: 0, Limit: 1<<63 - 1}}, {Ask: &relay.Ask{From: 2, Limit: -1}}},
		"a question far ahead":     {{Ask: &relay.Ask{From: most, Limit: 1}}, {Ask: &relay.Ask{From: most - 1, Limit: 1}}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := startRelayedInBubble(t, keeping(t))
				ann, hostile, other := c.join("/ws?events"), c.connect(), c.connect()
				readEvent(t, ann)
				go io.Copy(io.Discard, hostile.Conn)
				for _, m := range messages {
					m.Origin = strings.Replace(m.Origin, "OWN", other.hello.Origin, 1)
					websocket.Message.Send(hostile.Conn, m.Encode())
				}
				time.Sleep(3 * sweepPeriod)
				expectUnharmed(t, ann, other)
				c.stop()
			})
		})
	}
}

// expectUnharmed expects that p and others hear each other, and that p is told that somebody is there.
func expectUnharmed(t *testing.T, p *wstest.Client, others *fakeRelay) {
	t.Helper()
	go func() {
		others.say("other", 1, "from elsewhere")
		p.Send(websocket.TextFrame, "from here")
	}()
	left := map[string]bool{"from elsewhere": true, "from here": true}
	for len(left) > 0 {
		opcode, message, err := p.ReadFrame()
		if err != nil {
			t.Fatal(err)
		}
		if opcode == websocket.BinaryFrame && !strings.Contains(message, `"people":1,`) {
			t.Errorf("told %s", message)
		}
		for line := range strings.SplitSeq(message, "\n") {
			delete(left, line)
		}
	}
	others.ask(0, 1<<20)
	if got := linesIn(others.receive()); len(got) != 1 || !strings.HasSuffix(got[0], " : from here") {
		t.Fatalf("got %q", got)
	}
}

// When the chat stops, its relay gets the last lines, and says by asking for more that it has them.
func TestStopWaitsForTheRelay(t *testing.T) {
	for _, test := range []struct {
		name  string
		said  int
		asks  bool // for what is behind the last line, a second after the stop
		waits time.Duration
	}{
		{"nothing was said", 0, false, 0},
		{"the relay has all", 3, true, time.Second},
		{"the relay does not ask", 3, false, relayWait},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := startRelayedInBubble(t, defaults)
				r := c.connect()
				ann := c.join("/ws")
				sayNumbered(t, ann, 0, test.said)
				ann.Conn.Close()
				if test.said == 0 {
					go io.Copy(io.Discard, r.Conn)
				}
				began := time.Now()
				stopped := make(chan time.Duration)
				go func() {
					c.stop()
					stopped <- time.Since(began)
				}()
				time.Sleep(time.Second)
				if test.said > 0 {
					r.ask(1, 1<<20)
					r.expect("1 : line 0", "2 : line 1", "3 : line 2")
				}
				if test.asks {
					r.ask(4, 1<<20)
				}
				if test.said > 0 {
					go io.Copy(io.Discard, r.Conn)
				}
				if took := <-stopped; took < test.waits || took > test.waits+500*time.Millisecond {
					t.Errorf("stopped after %v, want %v", took, test.waits)
				}
			})
		})
	}
}

// A relay that reads nothing when the chat stops is cut off.
func TestStopCutsOffAStuckRelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := startRelayedInBubble(t, defaults)
		r := c.connect()
		sayNumbered(t, c.join("/ws"), 0, 3)
		r.ask(1, 1<<20)
		time.Sleep(10 * time.Second) // the answer, or a count of people, is being written
		began := time.Now()
		c.stop()
		if took := time.Since(began); took < relayWait || took > closeWait+relayWait+2*relayCloseWait {
			t.Errorf("stopped after %v", took)
		}
	})
}

// With -state a chat that was stopped goes on as the same one: with its numbers, its position, and the lines that
// no relay has asked for.
func TestRestartWithARelay(t *testing.T) {
	cfg := keeping(t)
	synctest.Test(t, func(t *testing.T) {
		c := startRelayedInBubble(t, cfg)
		r := c.connect()
		origin, said := r.hello.Origin, []string(nil)
		for run := range 3 {
			ann := c.join("/ws")
			sayNumbered(t, ann, 0, 10)
			for n := range 10 {
				said = append(said, fmt.Sprintf("%d : line %d", run*10+n+1, n))
			}
			elsewhere := saidIn("", "other", uint64(3*run+1), "a", "b", "c")
			elsewhere.Position = &relay.Position{Seq: uint64(run + 7), Time: int64(run)}
			r.send(elsewhere)
			ann.ExpectLines("a", "b", "c")
			ann.Conn.Close()
			r.ask(uint64(run*10+6), 1<<20)
			r.expect(said[run*10+5:]...)
			r.hangUp()
			c.stop()

			c = startRelayedInBubble(t, cfg)
			if _, err := os.Stat(filepath.Join(cfg.state, "relay.txt")); !os.IsNotExist(err) {
				t.Errorf("relay.txt is there after it was read: %v", err)
			}
			r = c.connect()
			want := relay.Hello{Origin: origin, Asked: uint64(run*10 + 6), Position: *elsewhere.Position, Backlog: true}
			if !reflect.DeepEqual(r.hello, want) {
				t.Errorf("run %d: hello %+v, want %+v", run, r.hello, want)
			}
			if run < 2 {
				r.send(elsewhere) // ann does not hear it again
			}
			r.ask(0, 1<<20)
			r.expect(said...)
		}
		if missed, lost := c.rooms.counters.relayMissed.Value(), c.rooms.counters.relayLost.Value(); missed+lost != 0 {
			t.Errorf("%d lines missed, %d lost", missed, lost)
		}
		r.say("other", 12, "behind the next two")
		synctest.Wait()
		if missed := c.rooms.counters.relayMissed.Value(); missed != 2 {
			t.Errorf("%d lines missed since the last run, want 2", missed)
		}
	})
}

// After a crash the chat is another one to its relay, which sends it all again. What the files hold is not said
// twice, neither what was said here nor at other chats.
func TestCrashWithARelay(t *testing.T) {
	cfg := keeping(t)
	synctest.Test(t, func(t *testing.T) {
		c := startRelayedInBubble(t, cfg)
		r, ann := c.connect(), c.join("/ws")
		sayNumbered(t, ann, 0, 10)
		r.say("other", 1, "a", "b", "c")
		ann.ExpectLines("a", "b", "c")
		ann.Conn.Close()
		former := r.hello.Origin
		r.hangUp()
		c.stop()
		if err := os.WriteFile(filepath.Join(cfg.state, "lock"), nil, 0o600); err != nil { // as if it had crashed
			t.Fatal(err)
		}

		c = startRelayedInBubble(t, cfg)
		r, ann = c.connect(), c.join("/ws")
		if r.hello.Origin == former || r.hello.Asked != 1 || r.hello.Position != (relay.Position{}) {
			t.Errorf("hello after a crash: %+v, before it the origin was %s", r.hello, former)
		}
		r.say(former, 1, wstest.Numbered(0, 12)...)
		ann.ExpectLines("line 10", "line 11") // which the files lack
		r.say("other", 1, "a", "b", "c", "d")
		ann.ExpectLines("d")
		sayNumbered(t, ann, 20, 21)
		r.ask(0, 1<<20)
		r.expect("1 : line 20")
	})
}

// A damaged relay.txt is not used.
func TestDamagedRelayState(t *testing.T) {
	for name, damage := range map[string]func([]byte) []byte{
		"cut":     func(b []byte) []byte { return b[:len(b)/2] },
		"empty":   func([]byte) []byte { return nil },
		"flipped": func(b []byte) []byte { b[len(b)/2] ^= 1; return b },
	} {
		t.Run(name, func(t *testing.T) {
			cfg := keeping(t)
			path := filepath.Join(cfg.state, "relay.txt")
			synctest.Test(t, func(t *testing.T) {
				c := startRelayedInBubble(t, cfg)
				former := c.connect().hello.Origin
				c.stop()
				content, err := os.ReadFile(path)
				if err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(path, damage(content), 0o600); err != nil {
					t.Fatal(err)
				}
				c = startRelayedInBubble(t, cfg)
				if got := c.connect().hello.Origin; got == former || got == "" {
					t.Errorf("the origin is %q after %q", got, former)
				}
				if _, err := os.Stat(path); !os.IsNotExist(err) {
					t.Errorf("relay.txt is still there: %v", err)
				}
			})
		})
	}
}

// Good values of -relay.
func TestRelayAddress(t *testing.T) {
	for _, address := range []string{"127.0.0.1:0", "127.1.2.3:8090", "[::1]:0", "localhost:0", "localhost:http", "unix:/run/relay.sock", "unix:relay.sock"} {
		if cfg, err := parseFlags([]string{"-relay", address}, io.Discard); err != nil || cfg.relay != address {
			t.Errorf("%s: %q, %v", address, cfg.relay, err)
		}
	}
	if cfg, err := parseFlags(nil, io.Discard); err != nil || cfg.relay != "" {
		t.Errorf("without -relay: %q, %v", cfg.relay, err)
	}
}

// A Unix socket is the owner's. One that a chat has left is replaced, and nothing else is.
func TestUnixSocket(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "relay.sock")
	listen := func() *net.UnixListener {
		t.Helper()
		l, err := listenRelay(unixPrefix + path)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.Close() })
		return l.(*net.UnixListener)
	}
	left := listen()
	left.SetUnlinkOnClose(false) // as if the chat had been killed
	left.Close()
	if _, err := os.Lstat(path); err != nil {
		t.Fatal(err)
	}
	l := listen()
	if info, err := os.Lstat(path); err != nil || info.Mode() != os.ModeSocket|0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if _, err := listenRelay(unixPrefix + path); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("a second chat on the same socket: %v", err)
	}
	go l.Accept() // what the second one connected to
	if conn, err := net.Dial("unix", path); err != nil {
		t.Errorf("the first chat's socket is gone: %v", err)
	} else {
		conn.Close()
	}
	l.Close()
	if _, err := os.Lstat(path); !os.IsNotExist(err) {
		t.Errorf("the socket is there after the chat: %v", err)
	}
	if err := os.WriteFile(path, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := listenRelay(unixPrefix + path); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("in place of a file: %v", err)
	}
	if b, err := os.ReadFile(path); err != nil || string(b) != "mine" {
		t.Errorf("the file is %q, %v", b, err)
	}
}

// A chat that is too busy to take connections has not left its socket.
func TestUnixSocketOfABusyChat(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "relay.sock")
	fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
	err = cmp.Or(err, syscall.Bind(fd, &syscall.SockaddrUnix{Name: path}), syscall.Listen(fd, 0))
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Close(fd)
	for err == nil { // until no more can wait
		var conn net.Conn
		if conn, err = net.Dial("unix", path); err == nil {
			defer conn.Close()
		}
	}
	before, _ := os.Lstat(path)
	l, err := listenRelay(unixPrefix + path)
	if !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("listening where another chat does: %v", err)
	}
	if err == nil {
		l.Close()
	}
	if after, err := os.Lstat(path); err != nil || !os.SameFile(before, after) {
		t.Errorf("the socket was replaced: %v", err)
	}
}

// A relay may come over a Unix socket.
func TestRelayOverAUnixSocket(t *testing.T) {
	t.Parallel()
	cfg := defaults
	path := filepath.Join(t.TempDir(), "relay.sock")
	cfg.relay = unixPrefix + path
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	relays, err := listenRelay(cfg.relay)
	if err != nil {
		t.Fatal(err)
	}
	c := relayedChat{t: t}
	c.dial = func() net.Conn { return wstest.Dial(t, listener.Addr().String()) }
	c.dialRelay = func() net.Conn {
		conn, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		return conn
	}
	c = c.start(listener, relays, cfg)
	ann, r := c.join("/ws"), c.connect()
	r.say("other", 1, "hello")
	ann.ExpectLines("hello")
	sayNumbered(t, ann, 0, 1)
	r.ask(1, 1<<20)
	r.expect("1 : line 0")
}
