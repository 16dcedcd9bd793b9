package relayserver

import (
	"strings"
	"testing"
	"testing/synctest"

	"example.com/chat/internal/metrics"
	"example.com/chat/internal/relay"
	"example.com/chat/internal/wstest"
)

// saved is a snapshot. Earlier versions of the chat can read it, and theirs had the key "backlog", too.
const saved = `{"hello":{"origin":"ORIGIN","asked":2,"position":{"seq":9,"time":1234},"heard":{"other":{"number":7,"heard":946684800000}}},` +
	`"first":1,"said":[{"room":"","lines":2,"at":5},{"room":"lobby","lines":1,"at":9}]}` + "\none\ntwo\nthree\n"

// A Server continues from a snapshot, as the same origin, and its own snapshot has the same bytes.
func TestSnapshotFormat(t *testing.T) {
	for name, snapshot := range map[string]string{
		"a new one":    saved,
		"an older one": strings.Replace(saved, `"heard"`, `"backlog":true,"heard"`, 1),
	} {
		s := New(nil, Options{Saved: []byte(snapshot), Counters: new(metrics.Counters)})
		if got := string(s.Snapshot()); got != saved {
			t.Errorf("%s: got %q, want %q", name, got, saved)
		}
	}
	empty := `{"hello":{"origin":"ORIGIN","asked":1,"position":{"seq":0,"time":0}},"first":1}` + "\n"
	if got := string(New(nil, Options{Saved: []byte(empty)}).Snapshot()); got != empty {
		t.Errorf("without lines: got %q, want %q", got, empty)
	}
}

// A damaged snapshot is not used, so the Server is another origin: it might give a number to two lines
// otherwise.
func TestDamagedSnapshot(t *testing.T) {
	for name, damaged := range map[string]string{
		"none, as after a crash":  "",
		"no JSON":                 "hello\n",
		"cut in the header":       saved[:50],
		"cut in the lines":        saved[:len(saved)-3],
		"more lines":              saved + "four\n",
		"other JSON":              `{"people":{}}`,
		"no origin":               strings.Replace(saved, "ORIGIN", "", 1),
		"no first number":         strings.Replace(saved, `"first":1`, `"first":0`, 1),
		"a number that overflows": strings.Replace(saved, `"first":1`, `"first":18446744073709551615`, 1),
		"a number beyond 64 bits": strings.Replace(saved, `"first":1`, `"first":18446744073709551616`, 1),
		"a later ask":             strings.Replace(saved, `"asked":2`, `"asked":5`, 1),
	} {
		s := New(nil, Options{Saved: []byte(damaged)})
		if origin := s.outbox.Origin(); origin == "ORIGIN" || origin == "" || s.cursor != (relay.Cursor{}) || len(s.delivered) > 0 || s.outbox.Unasked() > 0 {
			t.Errorf("%s: got origin %q, cursor %+v, delivered %v, %d lines; want a new origin and nothing else",
				name, origin, s.cursor, s.delivered, s.outbox.Unasked())
		}
	}
}

// After a stop and a start with the snapshot, a Server has its numbers, cursor, marks, and the lines that no
// relay has asked for. It wants a backlog, and counts lines that are missing since the stop.
func TestRestart(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, h *harness) {
		h.publish("", "one", "two")
		h.publish("lobby", "three")
		r := h.connect()
		origin := r.hello.Origin
		r.discard()
		r.ask(3, 1<<20)
		r.say("third", 1, "x")
		r.say("other", 7, "a", "b", "c")
		synctest.Wait()
		h.stop()

		h = start(t, Options{Saved: h.server.Snapshot()}, wstest.NewListener())
		r = h.connect()
		if want := (relay.Hello{Origin: origin, Asked: 3, Cursor: relay.Cursor{Seq: 7}, Backlog: true}); r.hello != want {
			t.Errorf("hello: got %+v, want %+v", r.hello, want)
		}
		h.publish("", "four")
		r.ask(3, 1<<20)
		r.expect("3 lobby: three", "4 : four")
		r.ask(0, 1<<20)
		r.expect("1 : one", "2 : two", "3 lobby: three", "4 : four")
		r.say("other", 8, "b", "c", "d")
		h.expectSaid("", "d")
		r.say("third", 4, "after two missing lines")
		h.expectCount("lines missed", &h.counters.RelayMissed, 2)
	})
}
