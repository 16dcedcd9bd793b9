package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"golang.org/x/net/websocket"

	"example.com/chat/internal/state"
	"example.com/chat/internal/wstest"
)

// joinAs joins a room as a sender, and returns the number of its last message that the room has.
func joinAs(t *testing.T, addr, id string, taken int) (*wstest.Client, uint64) {
	t.Helper()
	p := wstest.Upgrade(t, wstest.Dial(t, addr), fmt.Sprintf("/ws?events&sender=%s.%d", id, taken))
	return p, readTaken(t, p)
}

// readTaken passes over lines and other events, up to the next that says what was taken.
func readTaken(t *testing.T, p *wstest.Client) uint64 {
	t.Helper()
	for {
		opcode, message, err := p.ReadFrame()
		if err != nil {
			t.Fatal(err)
		}
		if taken := takenIn(t, opcode, message); taken != nil {
			return *taken
		}
	}
}

// takenIn returns what a frame says was taken, or nil.
func takenIn(t *testing.T, opcode byte, message string) *uint64 {
	var e event
	if opcode == websocket.BinaryFrame {
		if err := json.Unmarshal([]byte(message), &e); err != nil {
			t.Error(err)
		}
	}
	return e.Taken
}

// expectTaken expects lines, each behind the event that says it was taken.
func expectTaken(t *testing.T, p *wstest.Client, first uint64, lines ...string) {
	t.Helper()
	for i, line := range lines {
		if got := readTaken(t, p); got != first+uint64(i) {
			t.Fatalf("%d were taken, want %d", got, first+uint64(i))
		}
		p.Expect(websocket.TextFrame, line)
	}
}

// A sender learns that its messages were taken before it hears them. What it sends again is not said
// again, on whichever connection, and however many it has.
func TestMessagesAreTakenOnce(t *testing.T) {
	addr, _ := startServer(t, 4096)
	other := wstest.Join(t, addr)
	first, taken := joinAs(t, addr, "ann", 0)
	if taken != 0 {
		t.Errorf("%d were taken before the first", taken)
	}
	first.Send(websocket.TextFrame, "one")
	expectTaken(t, first, 1, "one")
	first.Send(websocket.TextFrame, "two")
	expectTaken(t, first, 2, "two")

	// A connection that knows of one message learns that the second was taken, and sends a third.
	second := wstest.Upgrade(t, wstest.Dial(t, addr), "/ws?events&sender=ann.1")
	if taken := readTaken(t, second); taken != 2 {
		t.Errorf("%d were taken, want 2", taken)
	}
	second.Send(websocket.TextFrame, "three")
	expectTaken(t, second, 3, "three")

	// The first connection is still there, and its next message has the same number.
	first.Send(websocket.TextFrame, "three")
	if taken := readTaken(t, first); taken != 3 {
		t.Errorf("%d were taken, want 3", taken)
	}
	first.Send(websocket.TextFrame, "four")
	if taken := readTaken(t, first); taken != 4 {
		t.Errorf("%d were taken, want 4", taken)
	}
	other.ExpectLines("one", "two", "three", "four")
	other.Send(websocket.TextFrame, "the end")
	other.ExpectLines("the end")
}

// Of messages that come together, only those are left out that were sent before.
func TestSomeMessagesWereTaken(t *testing.T) {
	h := newTestHub(256)
	send := func(text string) {
		c := newConn(h, nil)
		c.senderQuery, c.events = senderQuery{id: "ann"}, true
		h.add(c)
		c.sent = 0 // as if it had been there from the beginning
		h.coalesce(connFrame{c, textFrame([]byte(text))})
		h.flush()
	}
	send("one\ntwo\n")
	send("one\ntwo\nthree\n")
	send("one\n")
	var lines strings.Builder
	for _, f := range h.stream.frames {
		lines.Write(f.frame.lines)
	}
	if got := lines.String(); got != "one\ntwo\nthree\n" {
		t.Errorf("said %q", got)
	}
}

// Where a room does not know a sender any more, it believes what that says; it never goes back.
func TestUnknownSender(t *testing.T) {
	addr, _ := startServer(t, 4096)
	for _, test := range []struct {
		says int
		want uint64
	}{{7, 7}, {5, 7}, {9, 9}} {
		if _, taken := joinAs(t, addr, "bob", test.says); taken != test.want {
			t.Errorf("who says %d is told %d, want %d", test.says, taken, test.want)
		}
	}
}

// What is no sender is refused in words.
func TestBadSender(t *testing.T) {
	addr, _ := startServer(t, 4096)
	for _, query := range []string{"sender=ann.1", "events&sender", "events&sender=ann", "events&sender=.1", "events&sender=ann.", "events&sender=ann.-1",
		"events&sender=a%20b.1", "events&sender=ann.4503599627370496", "events&sender=ann.1.2", "events&sender=" + strings.Repeat("x", 65) + ".1"} {
		r, err := http.NewRequest("GET", "http://"+addr+"/ws?"+query, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header = http.Header{"Connection": {"Upgrade"}, "Upgrade": {"websocket"}, "Sec-Websocket-Version": {"13"}, "Sec-Websocket-Key": {"dGhlIHNhbXBsZSBub25jZQ=="}}
		if response := wstest.RoundTrip(t, r); response.StatusCode != http.StatusBadRequest {
			t.Errorf("%s: status %s", query, response.Status)
		}
	}
}

// With -state a sender is known after a restart.
func TestSendersSurviveARestart(t *testing.T) {
	cfg := defaults
	cfg.state = t.TempDir()
	addr, _, stop := startWith(t, cfg)
	p, _ := joinAs(t, addr, "ann", 0)
	p.Send(websocket.TextFrame, "one")
	expectTaken(t, p, 1, "one")
	p.Conn.Close()
	stop()
	addr, _, _ = startWith(t, cfg)
	if _, taken := joinAs(t, addr, "ann", 0); taken != 1 {
		t.Errorf("%d were taken, want 1", taken)
	}
}

// What is pending is not taken: it is not in a snapshot either.
func TestPendingIsNotTaken(t *testing.T) {
	h := newTestHub(256)
	c := newConn(h, nil)
	c.senderQuery, c.events = senderQuery{id: "ann"}, true
	h.add(c)
	h.flush()
	h.coalesce(connFrame{c, textFrame([]byte("one\n"))})
	if s := h.stream.snapshot(); !slices.Equal(s.Senders, []state.Sender{{ID: "ann", Taken: 0}}) || len(s.Frames) != 0 {
		t.Errorf("in the snapshot: %+v", s)
	}
	h.flush()
	if s := h.stream.snapshot(); !slices.Equal(s.Senders, []state.Sender{{ID: "ann", Taken: 1}}) || len(s.Frames) != 1 {
		t.Errorf("in the snapshot: %+v", s)
	}
}

// A sender whose connection ends learns what is pending, too: it must not take a message for refused that was
// taken.
func TestLastWordToASender(t *testing.T) {
	for _, behind := range []bool{false, true} {
		h := newTestHub(256)
		socket, peer := net.Pipe()
		defer socket.Close()
		defer peer.Close()
		c := newConn(h, socket)
		c.senderQuery, c.events = senderQuery{id: "ann"}, true
		h.add(c)
		h.flush()
		for len(c.send) > 0 {
			<-c.send
		}
		c.behind = behind
		h.coalesce(connFrame{c, textFrame([]byte("one\n"))})
		h.remove(c)
		last := <-c.send
		if len(last.frames) != 2 || !strings.Contains(string(last.frames[0].bytes), `"taken":1`) || string(last.frames[1].lines) != "one\n" {
			t.Errorf("behind: %v: %d frames", behind, len(last.frames))
		}
	}
}

// What is sent again is acknowledged to nobody once more: the first time told all connections.
func TestRepeatsAreNotAcknowledged(t *testing.T) {
	h := newTestHub(256)
	var conns []*Conn
	for range 3 {
		c := newConn(h, nil)
		c.senderQuery, c.events = senderQuery{id: "ann"}, true
		h.add(c)
		<-c.send // the greeting
		conns = append(conns, c)
	}
	for i, c := range conns {
		h.coalesce(connFrame{c, textFrame([]byte("one\n"))})
		if i > 0 && len(h.unacknowledged) > 0 {
			t.Errorf("message %d is to be acknowledged again", i)
		}
		h.flush()
		for j, c := range conns {
			if want := map[bool]int{true: 2, false: 0}[i == 0]; len(c.send) != want {
				t.Errorf("message %d: %d batches for connection %d, want %d", i, len(c.send), j, want)
			}
			for len(c.send) > 0 {
				<-c.send
			}
		}
	}
}

// A room remembers maxAbsent senders that have gone, and all that are there. It forgets at once those
// that said nothing. What is written of it has the same order: those are forgotten first that left first.
func TestSendersAreBounded(t *testing.T) {
	s := newSenders()
	join := func(id string, speaks bool) func() {
		c := &Conn{}
		c.sender = s.join(c, id, 0)
		c.sent = c.sender.taken
		if speaks {
			c.sender.receive(c, 1)
		}
		return func() { s.leave(c, c.sender) }
	}
	join("staying", true)
	for n := range maxAbsent + 10 {
		join(fmt.Sprint(n), true)()
		join(fmt.Sprint("silent ", n), false)()
	}
	restored := newSenders()
	restored.restore(s.snapshot())
	for what, s := range map[string]senders{"before": s, "restored": restored} {
		if s.byID["staying"] == nil || s.byID["9"] != nil || s.byID["silent 1000"] != nil || s.byID[fmt.Sprint(maxAbsent+9)] == nil {
			t.Errorf("%s: not those who left last, and those who are there", what)
		}
	}
	join("last", true)()
	if len(s.byID) != maxAbsent+1 || len(restored.byID) != maxAbsent+1 || restored.absent.Len() != maxAbsent+1 {
		t.Errorf("%d senders, and %d restored", len(s.byID), len(restored.byID))
	}
}

// A message that comes late, on the connection before, is acknowledged on the one that took its place,
// before its line.
func TestLateMessage(t *testing.T) {
	addr, _ := startServer(t, 4096)
	old, _ := joinAs(t, addr, "ann", 0)
	current, _ := joinAs(t, addr, "ann", 0)
	old.Send(websocket.TextFrame, "late")
	expectTaken(t, current, 1, "late")
	current.Send(websocket.TextFrame, "late") // it did not know
	current.Send(websocket.TextFrame, "next")
	expectTaken(t, current, 2, "next")
}

// What is sent again counts against the limit of one fan-out, so that the Hub does not read it for ever.
func TestRepeatsAreLimited(t *testing.T) {
	h := newTestHub(256)
	c := newConn(h, nil)
	c.senderQuery, c.events = senderQuery{id: "ann"}, true
	h.add(c)
	c.sender.received = 1 << 40
	h.coalesce(connFrame{c, textFrame(bytes.Repeat([]byte("again\n"), coalesceLimit))})
	if !h.full() || len(h.pending) > 0 {
		t.Errorf("full: %v, %d frames pending", h.full(), len(h.pending))
	}
	h.flush()
	if h.full() {
		t.Error("still full after the flush")
	}
}

// Senders flood a room over connections that are cut again and again: each message is said once, in order.
func TestSendersWhoAreCutOff(t *testing.T) {
	addr, _ := startServer(t, 4096)
	const senders, messages = 8, 4000
	crowd := wstest.Join(t, addr)
	var sending sync.WaitGroup
	defer sending.Wait()
	for n := range senders {
		sending.Go(func() { sendAll(t, addr, fmt.Sprint("sender", n), messages) })
	}
	next := crowd.Lines()
	said := make(map[string]int)
	for range senders * messages {
		line, err := next()
		if err != nil {
			t.Fatal(err)
		}
		var id string
		var number int
		fmt.Sscan(line, &id, &number)
		if number != said[id]+1 {
			t.Fatalf("%s said %d after %d", id, number, said[id])
		}
		said[id] = number
	}
	crowd.Send(websocket.TextFrame, "nothing more")
	if line, err := next(); line != "nothing more" {
		t.Errorf("heard %q, %v", line, err)
	}
}

// sendAll sends numbered messages, over as many connections as it takes.
func sendAll(t *testing.T, addr, id string, messages int) {
	for taken := 0; taken < messages && !t.Failed(); {
		taken = sendSome(t, addr, id, taken, messages)
	}
}

// sendSome sends messages on one connection, up to ten of which it has not heard that they were taken, and
// cuts it after some time.
func sendSome(t *testing.T, addr, id string, taken, messages int) int {
	p, err := wstest.TryUpgrade(t, wstest.Dial(t, addr), fmt.Sprintf("/ws?events&sender=%s.%d", id, taken))
	if err != nil {
		t.Error(err)
		return messages
	}
	defer p.Conn.Close()
	for cut, sent := 20+taken%7, -1; cut > 0 && taken < messages; cut-- {
		opcode, message, err := p.ReadFrame()
		if err != nil {
			t.Error(err)
			return messages
		}
		if told := takenIn(t, opcode, message); told != nil {
			taken = int(*told)
			sent = max(sent, taken)
			for ; sent < min(taken+10, messages); sent++ {
				p.Send(websocket.TextFrame, fmt.Sprint(id, " ", sent+1))
			}
		}
	}
	return taken
}
