package main

import (
	"fmt"
	"strings"
	"testing"

	"golang.org/x/net/websocket"

	"example.com/chat/internal/relay"
	"example.com/chat/internal/wstest"
)

// pair is two connected chats, and a person at each. Only the person here speaks.
type pair struct {
	*world
	here, there *chatProgram
	ann, ben    *wstest.Client
	hears       func() (string, error) // returns ben's next line
}

// newPair returns a pair after a first line.
func newPair(t *testing.T) *pair {
	w := newWorld(t, currentNATS)
	w.startNATS()
	p := &pair{world: w, here: w.addChat(), there: w.addChat()}
	w.connected()
	p.ann, p.ben = wstest.Join(t, p.here.addr), wstest.Join(t, p.there.addr)
	p.hears = p.ben.Lines()
	p.say("hello")
	p.until("hello")
	return p
}

func (p *pair) say(line string) { p.ann.Send(websocket.TextFrame, line) }

// until reads ben's lines up to that line, and returns those before it.
func (p *pair) until(line string) (before []string) {
	p.t.Helper()
	for {
		heard, err := p.hears()
		if err != nil {
			p.t.Fatalf("waiting for %q after %q: %v", line, before, err)
		}
		if heard == line {
			return before
		}
		before = append(before, heard)
	}
}

// origin returns the origin of the last line in the JetStream stream.
func (p *pair) origin() string {
	p.t.Helper()
	stream, err := p.jetStream().Stream(p.t.Context(), "chat")
	if err != nil {
		p.t.Fatal(err)
	}
	msg, err := stream.GetMsg(p.t.Context(), stream.CachedInfo().State.LastSeq)
	if err != nil {
		p.t.Fatal(err)
	}
	return originOf(msg.Subject)
}

// forged returns a message with one line.
func forged(first uint64) relay.Message {
	return relay.Message{First: first, Segments: []relay.Segment{{Room: "", Lines: 1, At: 1}}, Body: []byte("forged\n")}
}

// Somebody publishes a line under a chat's origin, with a number that the chat has not given out. Everyone
// gets the chat's next lines nevertheless, once, because the chat takes a new origin.
func TestForgedLines(t *testing.T) {
	for name, test := range map[string]struct {
		first         uint64
		frozen        bool // the relay sees the forged line only when it publishes the next one
		said, renamed bool
	}{
		"the next number":                    {2, false, true, true},
		"a number that is far ahead":         {1_000_000_000, false, true, true},
		"while the relay is away":            {1_000_000_000, true, true, true},
		"the highest number":                 {1<<52 - 1, false, false, true},
		"a number after which there is none": {1 << 52, false, false, false},
		"a number that no chat can have":     {1 << 62, false, false, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPair(t)
			origin := p.origin()
			if test.frozen {
				p.relays[0].kill()
			}
			if _, err := p.jetStream().Publish(t.Context(), "chat.lines."+origin, forged(test.first).Encode()); err != nil {
				t.Fatal(err)
			}
			if test.said {
				p.until("forged")
			}
			if test.frozen {
				p.say("one")
				p.relays[0].start()
			}
			if test.renamed {
				wstest.Until(t, "the chat has a new origin", func() bool { return strings.Contains(p.here.log.String(), "has a new origin") })
			}
			var want []string
			if test.frozen {
				want = []string{"one"}
			}
			p.say("two")
			p.say("three")
			if got := fmt.Sprint(p.until("three")); got != fmt.Sprint(append(want, "two")) {
				t.Errorf("got %s before the last line, want %s", got, append(want, "two"))
			}
			if got := p.origin() != origin; got != test.renamed {
				t.Errorf("got a new origin: %v, want %v", got, test.renamed)
			}
			p.relays[1].kill() // the next one reads the JetStream stream again
			p.relays[1].start()
			p.say("four")
			if got := p.until("four"); len(got) > 0 {
				t.Errorf("got %q between two lines, want nothing", got)
			}
		})
	}
}

// A local process that connects to a chat's -relay makes that chat ignore another one, and sets its cursor
// beyond the JetStream stream. The other chat hears of it from this chat's reports, and its lines arrive
// again.
func TestForgedRelay(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	origin := p.origin()
	hostile, err := dialChat(t.Context(), p.there.relayURL)
	if err != nil {
		t.Fatal(err)
	}
	defer hostile.close()
	m := relay.Message{Origin: origin, Cursor: &relay.Cursor{Seq: 1<<64 - 1, Time: 1}, Body: forged(1_000_000_000).Encode()}
	if err := hostile.send(m); err != nil {
		t.Fatal(err)
	}
	p.until("forged")
	p.relays[1].kill()
	p.relays[1].start()
	wstest.Until(t, "the other relay does not find the cursor", func() bool { return strings.Contains(p.relays[1].log.String(), "does not hold") })
	p.say("ignored, or said under the new origin")
	wstest.Until(t, "the chat has a new origin", func() bool { return strings.Contains(p.here.log.String(), "has a new origin") })
	p.say("two")
	p.until("two")
	p.say("three")
	if got := p.until("three"); len(got) > 0 {
		t.Errorf("got %q between two lines, want nothing", got)
	}
}
