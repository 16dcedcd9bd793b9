package relayserver

import (
	"bytes"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/websocket"

	"example.com/chat/internal/metrics"
	"example.com/chat/internal/relay"
	"example.com/chat/internal/wstest"
)

// The tests of this file show what forged numbers can do: a few lines may be lost or come twice, but no chat is
// ignored for long.

// logged returns the log of everything that is logged until the end of the test.
func logged(t *testing.T) *bytes.Buffer {
	before, log := slog.Default(), new(bytes.Buffer)
	t.Cleanup(func() { slog.SetDefault(before) })
	slog.SetDefault(slog.New(slog.NewTextHandler(log, nil)))
	return log
}

// expectEnd waits for the end of a connection.
func expectEnd(t *testing.T, end <-chan struct{}) {
	t.Helper()
	select {
	case <-end:
	case <-time.After(time.Minute):
		t.Fatal("the connection is still open after a minute")
	}
}

// A message with numbers that no chat has is skipped and logged. It changes no mark, so the next lines of its
// origin are said.
func TestForgedNumbersAreRefused(t *testing.T) {
	log := logged(t)
	inBubble(t, Options{}, func(t *testing.T, h *harness) {
		r := h.connect()
		r.say("other", 7, "seven")
		for n, first := range []uint64{1 << 40, 1<<52 - 1, 1 << 52, 1<<52 + 1, 1 << 62, 1 << 63, 1<<64 - 1} {
			m := linesAt(time.Now().UnixMilli(), "", "other", first, "forged")
			m.Cursor.Seq = uint64(n + 100)
			r.send(m)
			h.expectHello(relay.Cursor{Seq: uint64(n + 100)}, false)
		}
		r.say("other", 8, "eight")
		h.expectSaid("", "seven", "eight")
		h.expectCount("lines missed", &h.counters.RelayMissed, 0)
		if got := h.server.Delivered()["other"].Number; got != 8 {
			t.Errorf("delivered: got %d, want 8", got)
		}
		if got := strings.Count(log.String(), "message in the JetStream stream skipped"); got != 7 {
			t.Errorf("got %d messages logged, want 7: %s", got, log)
		}
	})
}

// A chat takes a new origin when it finds that others have seen a number which it has not given out: if a
// relay asks for the line after it, if a relay sends a message of the JetStream stream, or if another chat
// reports that it ignores lines. The connection ends. The next one learns the new origin, and gets all lines
// that no relay has asked for under it, in order. By then their rooms have marked them. That is logged.
func TestNewOrigin(t *testing.T) {
	for name, forge := range map[string]func(r *fakeRelay){
		"an ask":                func(r *fakeRelay) { r.ask(1<<52, 1) },
		"an ask for one more":   func(r *fakeRelay) { r.ask(6, 1) },
		"a message":             func(r *fakeRelay) { r.say(r.hello.Origin, 1<<40, "forged") },
		"a message of the next": func(r *fakeRelay) { r.say(r.hello.Origin, 5, "forged") },
		"a message of backlog":  func(r *fakeRelay) { r.sayBacklog("", r.hello.Origin, 4, "four", "forged") },
		"a report of another chat": func(r *fakeRelay) {
			r.send(relay.Message{Origin: "other", People: map[string]int{}, Repeated: map[string]uint64{r.hello.Origin: 5}})
		},
	} {
		t.Run(name, func(t *testing.T) {
			log := logged(t)
			inBubble(t, Options{}, func(t *testing.T, h *harness) {
				h.publish("", "one", "two")
				h.publish("lobby", "three")
				h.publish("", "four")
				r := h.connect()
				former := r.hello.Origin
				r.ask(2, 1)
				r.expect("2 : two")
				end := r.discard()
				forge(r)
				expectEnd(t, end)
				synctest.Wait()
				h.mu.Lock()
				if len(h.marks) > 0 {
					t.Errorf("got marks %v before a relay has connected, want none", h.marks)
				}
				h.mu.Unlock()

				r = h.connect()
				if r.hello.Origin == former || r.hello.Asked != 1 {
					t.Errorf("hello: got origin %s, %d asked; want another one than %s, 1", r.hello.Origin, r.hello.Asked, former)
				}
				h.mu.Lock()
				if got := fmt.Sprint(h.marks[""][r.hello.Origin].Number, h.marks["lobby"][r.hello.Origin].Number); got != "3 2" {
					t.Errorf("got marks %s of the rooms, want 3 2", got)
				}
				h.mu.Unlock()
				delivered := h.server.Delivered() // for rooms that open now
				if got := fmt.Sprint(delivered[former].Number, delivered[r.hello.Origin].Number); got != "4 3" {
					t.Errorf("delivered: got %s of the former and the new origin, want 4 3", got)
				}
				h.publish("", "five")
				r.ask(0, 1<<20)
				r.expect("1 : two", "2 lobby: three", "3 : four", "4 : five")
				r.ask(5, 1<<20)
				h.publish("", "six")
				r.expect("5 : six")
				h.expectSaid("")
				h.expectCount("lines lost", &h.counters.RelayLost, 0)
				for _, want := range []string{"former=" + former, "origin=" + r.hello.Origin, "last=4"} {
					if !strings.Contains(log.String(), want) {
						t.Errorf("got log %q, want %s in it", log, want)
					}
				}
				h.stop()
				if restored := New(nil, Options{Saved: h.server.Snapshot()}); restored.outbox.Origin() != r.hello.Origin {
					t.Errorf("restored: got origin %s, want %s", restored.outbox.Origin(), r.hello.Origin)
				}
			})
		})
	}
}

// Numbers that this chat has given out, and those of other origins, change nothing.
func TestSameOrigin(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, h *harness) {
		h.publish("", "one", "two")
		r := h.connect()
		r.ask(3, 1)
		r.say(r.hello.Origin, 1, "one", "two")
		r.say("other", 1<<40, "hello")
		for n := range uint64(3) {
			r.send(relay.Message{Origin: "other", People: map[string]int{}, Repeated: map[string]uint64{r.hello.Origin: n, "other": 1 << 50}})
		}
		h.publish("", "three")
		r.expect("3 : three")
		h.expectHello(relay.Cursor{Seq: 1 << 40}, false)
		h.expectSaid("", "hello")
	})
}

// A relay that asks with numbers of a former origin acknowledges nothing.
func TestAskOfFormerOrigin(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, h *harness) {
		h.publish("", "one", "two")
		late, hostile := h.connect(), h.connect()
		hostile.discard()
		hostile.ask(100, 1)
		synctest.Wait()
		end := late.discard()
		late.ask(3, 1)
		expectEnd(t, end)
		r := h.connect()
		r.ask(0, 1<<20)
		r.expect("1 : one", "2 : two")
	})
}

// A chat reports, for 15 s, the mark of an origin whose last message had repeated lines.
func TestRepetitionsAreReported(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, h *harness) {
		r := h.connect()
		expect := func(want map[string]uint64) {
			t.Helper()
			if m := r.receiveAny(); m.People == nil || !maps.Equal(m.Repeated, want) {
				t.Errorf("got %+v, want a report with the repetitions %v", m, want)
			}
		}
		expect(nil)
		r.say("other", 1, "a", "b")
		r.say("third", 1, "a", "b")
		expect(nil)
		r.say("other", 1, "a", "b")
		r.say("third", 2, "b", "c")
		expect(map[string]uint64{"other": 2, "third": 3})
		r.say("third", 4, "d")
		expect(map[string]uint64{"other": 2})
		r.receiveAny() // when the 15 s end
		expect(nil)
		for n := range 300 { // more origins than fit into a report
			for range 2 {
				r.say(fmt.Sprint("origin ", n), 1, "x")
			}
		}
		if m := r.receiveAny(); len(m.Repeated) != 256 {
			t.Errorf("got a report of %d origins that repeat lines, want 256", len(m.Repeated))
		}
		synctest.Wait()
		h.mu.Lock()
		h.said[""] = h.said[""][:6]
		h.mu.Unlock()
		r.say("other", 3, "c")
		h.expectSaid("", "a", "b", "a", "b", "c", "d", "c")
	})
}

// A forged message makes one chat ignore another one. With the next report of the first chat, the other one
// takes a new origin, and its lines are said again.
func TestForgeryDoesNotLast(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, here *harness) {
		there := start(t, Options{}, wstest.NewListener())
		out, in := here.connect(), there.connect()
		// pass says a line here and passes it on.
		next := uint64(1)
		pass := func(text string) {
			here.publish("", text)
			out.ask(next, 1)
			m := out.receive()
			next = m.Next()
			in.send(inStream(out.hello.Origin, next, m.Encode()))
		}
		pass("one")
		in.say(out.hello.Origin, 2+1_000_000_000, "forged")
		there.expectSaid("", "one", "forged")
		pass("ignored")
		end := out.discard()
		report := in.receiveAny()
		report.Origin = "there"
		out.send(report)
		expectEnd(t, end)
		out = here.connect()
		here.publish("", "two")
		out.ask(0, 1<<20)
		m := out.receive()
		in.send(inStream(out.hello.Origin, 99, m.Encode()))
		if got := linesIn(m); !slices.Equal(got, []string{"1 : ignored", "2 : two"}) {
			t.Errorf("under the new origin: got %q, want the ignored line and the next one", got)
		}
		there.expectSaid("", "ignored", "two")
	})
}

// After a stop, a chat whose numbers are too high continues as a new origin with its lines. Marks that are
// too high are not used. Both are logged.
func TestForgedSnapshot(t *testing.T) {
	const mark = `"heard":{"other":{"number":7`
	for _, test := range []struct {
		name, from, to string
		want           string // lines, or "" for none
		origin         bool   // is kept
		marks          string
		log            string
	}{
		{"as saved", "", "", "one two three", true, "map[other:7]", ""},
		{"a high number", `"first":1`, `"first":4503599627370493`, "one two three", true, "map[other:7]", ""},
		{"a number that is too high", `"first":1`, `"first":4503599627370494`, "one two three", false, "map[other:7]", "too high"},
		{"a higher one", `"first":1`, `"first":4611686018427387904`, "one two three", false, "map[other:7]", "too high"},
		{"a high mark", mark, `"heard":{"other":{"number":4503599627370496`, "one two three", true, "map[other:4503599627370496]", ""},
		{"a mark that is too high", mark, `"heard":{"other":{"number":4503599627370497`, "one two three", true, "map[]", "marks=1"},
		{"a mark of 2^62", mark, `"heard":{"other":{"number":4611686018427387904`, "one two three", true, "map[]", "marks=1"},
		{"a mark of 0", mark, `"heard":{"other":{"number":0`, "one two three", true, "map[]", ""},
	} {
		log := logged(t)
		asked := strings.Replace(saved, `"asked":2`, `"asked":1`, 1)
		forged := strings.Replace(asked, test.from, test.to, 1)
		s := New(nil, Options{Saved: []byte(forged), Counters: new(metrics.Counters)})
		m, _, _, err := s.outbox.Read(s.outbox.Origin(), relay.Ask{Limit: 1 << 20})
		if got := strings.Join(strings.Fields(string(m.Body)), " "); got != test.want || err != nil {
			t.Errorf("%s: got lines %q, %v; want %q", test.name, got, err, test.want)
		}
		if got := s.outbox.Origin() == "ORIGIN"; got != test.origin {
			t.Errorf("%s: got origin %s, want the saved one: %v", test.name, s.outbox.Origin(), test.origin)
		}
		marks := make(map[string]uint64)
		for origin, mark := range s.Delivered() {
			marks[origin] = uint64(mark.Number)
		}
		if got := fmt.Sprint(marks); got != test.marks || !maps.Equal(s.seen, s.Delivered()) {
			t.Errorf("%s: got marks %s, seen %v; want %s in both", test.name, got, s.seen, test.marks)
		}
		if !strings.Contains(log.String(), test.log) || test.log == "" && log.Len() > 0 {
			t.Errorf("%s: got log %q, want %q in it", test.name, log, test.log)
		}
	}
}

// A cursor beyond the JetStream stream moves back with the next message, and the chat drops nothing.
func TestForgedCursor(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, h *harness) {
		r, hostile := h.connect(), h.connect()
		r.say("other", 1, "one")
		h.expectSaid("", "one")
		hostile.send(relay.Message{Cursor: &relay.Cursor{Seq: 1<<64 - 1, Time: 1<<63 - 1}})
		h.expectHello(relay.Cursor{Seq: 1<<64 - 1, Time: 1<<63 - 1}, false)
		r.say("other", 2, "two")
		h.expectSaid("", "two")
		h.expectHello(relay.Cursor{Seq: 2}, false)
	})
}

// What a hostile relay sends takes little memory for long: an origin has at most 64 bytes, 256 chats can report
// people, each in 10,000 rooms, a backlog has 10,000 rooms, and there are 8 connections.
func TestHostileRelay(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, h *harness) {
		r := h.connect()
		long := strings.Repeat("x", 65)
		r.say(long, 1, "of a long origin")
		r.say(long[:64], 1, "of a shorter one")
		h.expectSaid("", "of a shorter one")
		if n := len(h.server.Delivered()); n != 1 {
			t.Errorf("got marks of %d origins, want 1", n)
		}

		crowd := make(map[string]int)
		for n := range 10_001 {
			crowd[fmt.Sprint(n)] = 1
		}
		r.send(relay.Message{Origin: "crowd", People: maps.Clone(crowd)})
		delete(crowd, "0")
		r.send(relay.Message{Origin: long, People: crowd})
		for n := range 257 {
			r.send(relay.Message{Origin: fmt.Sprint(n), People: map[string]int{"lobby": 1}})
		}
		time.Sleep(2 * time.Second)
		if got := h.remotePeople.Load().(map[string]int); !maps.Equal(got, map[string]int{"lobby": 256}) {
			t.Errorf("got people in %d rooms, %d in the lobby; want 256 in the lobby alone", len(got), got["lobby"])
		}

		b := &backlog{rooms: make(map[string]*roomBacklog)}
		for n := range 10_001 {
			if lost := b.add(Part{Room: fmt.Sprint(n), Origin: "a", First: uint64(n + 1), Count: 1}, 1, 1); (lost > 0) != (n == 10_000) {
				t.Errorf("room %d of a backlog: got %d lines lost", n, lost)
			}
		}

		for range 7 {
			h.connect()
		}
		config, _ := websocket.NewConfig("ws://chat/relay", relay.OriginHeader)
		socket, err := websocket.NewClient(config, h.listener.(wstest.Listener).Dial(t))
		if err != nil {
			t.Fatal(err)
		}
		if n, err := socket.Read(make([]byte, 1)); err == nil {
			t.Errorf("got %d bytes on a ninth connection, want its end", n)
		}
		r.conn.Close()
		synctest.Wait()
		h.connect()
	})
}
