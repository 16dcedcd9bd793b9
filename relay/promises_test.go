package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/net/websocket"

	"example.com/chat/internal/wstest"
)

// The tests of this file show the promise of README.md: every listener gets every line of every sender once,
// in that sender's order, at any chat. Most of them break something while people talk, and then check that.

const ms = time.Millisecond

// eachNATS runs a test with each kind of NATS.
func eachNATS(t *testing.T, test func(t *testing.T, kind natsKind)) {
	for _, kind := range []natsKind{currentNATS, debianNATS, embeddedNATS} {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			test(t, kind)
		})
	}
}

// The promise holds if nothing fails, and then relays end with status 0.
func TestNothingBreaks(t *testing.T) {
	eachNATS(t, func(t *testing.T, kind natsKind) {
		w := meet(t, kind, 20)
		w.talk()
		w.listen(longOr(10*time.Second, 1500*ms))
		w.check()
		for _, relay := range slices.Backward(w.relays) { // the first relay is last because it may run NATS
			relay.stop()
		}
	})
}

// The promise holds if relays are killed, alone or together with NATS.
func TestRelaysAndNATSKilled(t *testing.T) {
	eachNATS(t, func(t *testing.T, kind natsKind) {
		w := meet(t, kind, 10)
		w.talk()
		for n := range longOr(30, 5) {
			w.listen(rand.N(500 * ms))
			killed := []*program{w.relays[rand.N(len(w.relays))]}
			if n%longOr(3, 2) == 1 {
				killed = append(killed, w.nats)
			}
			for _, p := range killed {
				p.kill()
			}
			w.listen(rand.N(200 * ms))
			for _, p := range killed {
				if !p.running() {
					p.start()
				}
			}
		}
		w.check()
	})
}

// The promise holds if NATS restarts, stays away for 30 s, or returns with older files.
func TestNATSFails(t *testing.T) {
	for _, test := range []struct {
		name  string
		fail  func(w *world)
		times int
	}{
		{"restarted", func(w *world) { w.nats.stop(); w.startNATS() }, longOr(5, 2)},
		{"killed and away", func(w *world) { w.nats.kill(); w.listen(longOr(30*time.Second, 3*time.Second)); w.startNATS() }, 1},
		{"older files after a stop", func(w *world) { w.setBack((*program).stop) }, longOr(3, 1)},
		{"older files after a crash", func(w *world) { w.setBack((*program).kill) }, longOr(3, 1)},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			w := meet(t, currentNATS, 5)
			w.talk()
			for range test.times {
				w.listen(500 * ms)
				test.fail(w)
				w.listen(500 * ms)
			}
			w.check()
		})
	}
}

// setBack replaces NATS's files by an older copy, so that NATS loses the messages of about two seconds. It
// ends NATS with end before each access to the files.
func (w *world) setBack(end func(*program)) {
	w.t.Helper()
	older := w.t.TempDir()
	end(w.nats)
	if err := os.CopyFS(older, os.DirFS(w.store)); err != nil {
		w.t.Fatal(err)
	}
	w.startNATS()
	w.listen(time.Second)
	w.settle() // the JetStream stream has all lines that were said until now
	w.listen(500 * ms)
	end(w.nats)
	if err := os.RemoveAll(w.store); err != nil {
		w.t.Fatal(err)
	}
	if err := os.CopyFS(w.store, os.DirFS(older)); err != nil {
		w.t.Fatal(err)
	}
	w.startNATS()
}

// The promise holds if a chat with -state stops and starts again, for its own people, too.
func TestChatStopped(t *testing.T) {
	t.Parallel()
	w := meet(t, currentNATS, 5)
	c := w.addChat("-state", t.TempDir())
	w.enter(c, 5)
	w.talk()
	for range longOr(5, 2) {
		w.listen(500 * ms)
		c.ready()
		c.stop()
		w.listen(rand.N(300 * ms))
		c.start()
	}
	c.ready()
	w.check()
}

// The promise holds for people at other chats if a chat is killed. The killed chat's own people come back in
// another epoch, which has every line once, too, but their own lines from before the crash may come late. Its
// people are quiet when it is killed, because it would lose the lines that its relay had not published.
func TestChatKilled(t *testing.T) {
	for _, state := range []bool{true, false} {
		t.Run(fmt.Sprint("state ", state), func(t *testing.T) {
			t.Parallel()
			w := meet(t, currentNATS, 5)
			var args []string
			if state {
				args = []string{"-state", t.TempDir()}
			}
			c := w.addChat(args...)
			w.enter(c, 5)
			for _, p := range w.of(c) {
				p.expectCrash()
			}
			w.talk()
			for range longOr(5, 2) {
				w.listen(700 * ms)
				w.pause(c)
				w.listen(rand.N(200 * ms))
				c.kill()
				w.listen(rand.N(300 * ms))
				c.start()
				w.resume(c)
			}
			c.ready()
			w.check()
		})
	}
}

// The promise holds if a relay, a chat or NATS hangs, even if the relay of a hanging chat is killed
// meanwhile.
func TestFrozen(t *testing.T) {
	d := longOr(20*time.Second, 3*time.Second)
	frozen := func(p *program, during func()) {
		p.freeze()
		during()
		p.thaw()
	}
	for _, test := range []struct {
		name string
		fail func(w *world)
	}{
		{"a relay", func(w *world) { frozen(w.relays[0], func() { w.listen(d) }) }},
		{"a chat", func(w *world) { frozen(w.chats[0].program, func() { w.listen(d) }) }},
		{"NATS", func(w *world) { frozen(w.nats, func() { w.listen(d) }) }},
		{"a chat while its relay is killed", func(w *world) {
			for range longOr(5, 2) {
				w.listen(300 * ms)
				frozen(w.chats[0].program, func() {
					w.listen(rand.N(800 * ms))
					w.relays[0].kill()
					w.relays[0].start()
					w.listen(800 * ms)
				})
			}
		}},
		{"a chat before its relay starts", func(w *world) {
			frozen(w.chats[0].program, func() {
				w.relays[0].kill()
				w.relays[0].start()
				w.listen(longOr(20*time.Second, 7*time.Second))
			})
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			w := meet(t, currentNATS, 5)
			w.talk()
			w.listen(500 * ms)
			test.fail(w)
			w.listen(500 * ms)
			w.check()
		})
	}
}

// The promise holds if relays reach NATS over a slow network, which resets their connections or freezes them
// for a time.
func TestSlowLinkCut(t *testing.T) {
	t.Parallel()
	w := newWorld(t, currentNATS)
	w.linked = true
	w.open(5)
	w.talk()
	for n := range longOr(20, 6) {
		w.listen(rand.N(600 * ms))
		l := w.links[n%len(w.links)]
		if n%2 == 0 {
			l.cut()
		} else {
			l.freeze()
		}
		w.listen(rand.N(600 * ms))
		l.mend()
	}
	w.check()
}

// The promise holds if a chat has two relays.
func TestTwoRelaysOfOneChat(t *testing.T) {
	t.Parallel()
	w := meet(t, currentNATS, 5)
	w.addRelay(w.chats[0])
	pair := []*program{w.relays[0], w.relays[3]}
	w.talk()
	for range longOr(20, 4) {
		w.listen(500*ms + rand.N(500*ms))
		p := pair[rand.N(2)]
		p.kill()
		p.start()
	}
	w.check()
}

// A chat holds 64 MiB of lines, which are 1,115 lines of 60,000 bytes and a few more. In a longer outage it
// loses the oldest lines. Both chats count and log the lost lines, and the other lines arrive once.
func TestMoreThanAChatHolds(t *testing.T) {
	t.Parallel()
	w := newWorld(t, currentNATS)
	w.startNATS()
	here, there := w.addChat("-max-message", "65536"), w.addChat()
	w.enter(here, 1)
	w.enter(there, 1)
	speaker, listener := w.people[0], w.people[1]
	speaker.say(1)
	w.settle()
	w.relays[0].kill()
	speaker.pad = strings.Repeat(" ", 60000)
	speaker.say(1500)
	wstest.Until(t, "the speaker has heard all lines", func() bool { return speaker.listened() == speaker.lines() })
	w.relays[0].start()
	speaker.hush()
	last := lineOf(speaker.name, speaker.lines()-1)
	wstest.Until(t, "the listener has heard the last line", func() bool { return listener.hasHeard(last) })
	found := listener.audit(w.said(""))
	missing := len(found[lost])
	delete(found, lost)
	if missing < 380 || missing > 390 {
		t.Errorf("got %d lost lines of %d, want 1500 - 1115 = 385", missing, speaker.lines())
	}
	if len(found) > 0 {
		t.Errorf("got faults besides lost lines, want none: %v", found)
	}
	if out, in := here.count("relay_lost"), there.count("relay_missed"); out != missing || in != missing {
		t.Errorf("got relay_lost %d and relay_missed %d, want %d lines in both", out, in, missing)
	}
	for _, c := range w.chats {
		if !strings.Contains(c.log.String(), fmt.Sprint("lines=", missing)) {
			t.Errorf("%s: got no log with lines=%d, want one", c.name, missing)
		}
	}
}

// A chat that starts later gets the history of each room, even if nobody talks there.
func TestLaterChat(t *testing.T) {
	t.Parallel()
	w := meet(t, currentNATS, 4)
	w.talk()
	w.listen(500 * ms)
	w.hush()
	w.settle()
	later := w.addChat()
	w.enter(later, 4)
	w.check()
}

// Everyone gets the people count of their room at all chats. A chat that is killed counts until 15 s after
// its last report, which it repeats every 5 s.
func TestPeople(t *testing.T) {
	t.Parallel()
	w := meet(t, currentNATS, 8)
	everyoneCounts := func(what string, people []*person, side, others int) {
		t.Helper()
		wstest.Until(t, what, func() bool {
			for _, p := range people {
				if want := map[string]int{"side": side, "": others}[p.room]; p.counted() != want {
					return false
				}
			}
			return true
		})
	}
	everyoneCounts("everyone counts all people", w.people, 6, 18)
	w.people[0].leave()
	everyoneCounts("everyone counts one person less", w.people[1:], 6, 17)
	w.chats[2].stop()
	everyoneCounts("nobody counts the people of the stopped chat", w.people[1:16], 4, 11)
	if wstest.Long() {
		w.chats[1].kill()
		killed := time.Now()
		everyoneCounts("nobody counts the people of the killed chat", w.people[1:8], 2, 5)
		if d := time.Since(killed); d < 9*time.Second || d > 20*time.Second {
			t.Errorf("got the people of the killed chat counted for %v, want 10 to 15 s and a little more", d)
		}
	}
}

// A message that is too long for NATS or for the JetStream stream is left out. The relay logs each of its
// lines, the other chats count them as missed, and all other lines arrive in order. NATS accepts 1 MiB by
// default.
func TestTooLongLines(t *testing.T) {
	ascending := func(from, to, step int) (lengths []int) {
		for n := from; n < to; n += step {
			lengths = append(lengths, n)
		}
		return lengths
	}
	for _, test := range []struct {
		name          string
		maxMsgSize    int32 // of the JetStream stream, in bytes; 0 means no limit
		lengths       []int // of the lines that are said
		fits, tooLong int   // lines up to fits must arrive, and lines from tooLong on must not
	}{
		{"max_payload of NATS", 0, []int{500_000, 3_200_000, 1_040_000, 1 << 20, 100}, 1_040_000, 1 << 20},
		{"max_msg_size of the JetStream stream", 3000, slices.Concat(ascending(0, 2000, 7), ascending(2000, 3000, 1), []int{3000, 4000}), 2400, 3000},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, currentNATS)
			w.startNATS()
			if test.maxMsgSize > 0 {
				w.createStream(jetstream.StreamConfig{MaxMsgSize: test.maxMsgSize})
			}
			here, there := w.addChat("-max-message", "4000000"), w.addChat()
			w.connected()
			ann, ben := wstest.Join(t, here.addr), wstest.Join(t, there.addr)
			say := func(line string) {
				ann.Send(websocket.TextFrame, line)
				ann.ExpectLines(line)
			}
			for _, length := range test.lengths {
				say(strings.Repeat("x", length))
			}
			say("last")
			var heard []int // lengths of lines
			for next := ben.Lines(); ; {
				line, err := next()
				if err != nil {
					t.Fatal(err)
				}
				if line == "last" {
					break
				}
				heard = append(heard, len(line))
			}
			missing := 0
			for _, length := range test.lengths {
				arrived := len(heard) > 0 && heard[0] == length
				if arrived {
					heard = heard[1:]
				} else {
					missing++
				}
				if arrived && length >= test.tooLong || !arrived && length <= test.fits {
					t.Errorf("line of %d bytes: arrived %v, want %v", length, arrived, !arrived)
				}
			}
			if len(heard) > 0 {
				t.Errorf("got %d further lines, the first one of %d bytes, want none", len(heard), heard[0])
			}
			if n := there.count("relay_missed"); n != missing {
				t.Errorf("got relay_missed %d, want %d", n, missing)
			}
			if n := strings.Count(w.relays[0].log.String(), "line too long"); n != missing {
				t.Errorf("got %d lines logged as too long, want %d", n, missing)
			}
		})
	}
}

// Lines wait at their chat while the JetStream stream is full and configured to refuse new messages.
func TestFullStream(t *testing.T) {
	t.Parallel()
	w := newWorld(t, currentNATS)
	w.startNATS()
	config := w.createStream(jetstream.StreamConfig{MaxBytes: 20_000, Discard: jetstream.DiscardNew})
	here, there := w.addChat(), w.addChat()
	w.connected()
	ann, ben := wstest.Join(t, here.addr), wstest.Join(t, there.addr)
	lines := wstest.Numbered(0, 10_000)
	for _, line := range lines {
		ann.Send(websocket.TextFrame, line)
	}
	ann.ExpectLines(lines...)
	wstest.Until(t, "the relay logs that the JetStream stream is full", func() bool { return strings.Contains(w.relays[0].log.String(), "maximum bytes") })
	config.MaxBytes = 1 << 20
	if _, err := w.jetStream().UpdateStream(t.Context(), config); err != nil {
		t.Fatal(err)
	}
	ben.ExpectLines(lines...)
	w.noGap()
}

// The promise holds if the JetStream stream is deleted and created again while relays run.
func TestStreamMadeAgain(t *testing.T) {
	t.Parallel()
	w := meet(t, currentNATS, 5)
	w.talk()
	js := w.jetStream()
	for range longOr(5, 2) {
		w.listen(500 * ms)
		stream, err := js.Stream(t.Context(), "chat")
		if err != nil {
			t.Fatal(err)
		}
		if err := js.DeleteStream(t.Context(), "chat"); err != nil {
			t.Fatal(err)
		}
		w.listen(rand.N(300 * ms))
		if _, err := js.CreateOrUpdateStream(t.Context(), stream.CachedInfo().Config); err != nil {
			t.Fatal(err)
		}
	}
	w.check()
}

// createStream creates the JetStream stream of the world with the given limits. It returns the whole
// configuration.
func (w *world) createStream(config jetstream.StreamConfig) jetstream.StreamConfig {
	w.t.Helper()
	config.Name, config.Subjects = "chat", []string{"chat.lines.*"}
	if _, err := w.jetStream().CreateStream(w.t.Context(), config); err != nil {
		w.t.Fatal(err)
	}
	return config
}

// jetStream returns a JetStream client of the world's NATS.
func (w *world) jetStream() jetstream.JetStream {
	w.t.Helper()
	conn, err := nats.Connect("nats://" + w.natsAddr)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(conn.Close)
	js, err := jetstream.New(conn)
	if err != nil {
		w.t.Fatal(err)
	}
	return js
}

// A person who joins a chat before its relay starts gets all lines of other chats since then, even beyond
// -history.
func TestRelayStartsLate(t *testing.T) {
	t.Parallel()
	w := newWorld(t, currentNATS)
	w.startNATS()
	here := w.addChat()
	w.connected()
	there := newChat(t, "late", false, "-history", "3")
	there.start()
	there.ready()
	ann, ben := wstest.Join(t, here.addr), wstest.Join(t, there.addr)
	lines := wstest.Numbered(0, 1000)
	for _, line := range lines {
		ann.Send(websocket.TextFrame, line)
	}
	ann.ExpectLines(lines...)
	w.addRelay(there)
	ben.ExpectLines(lines...)
}

// SIGTERM ends a relay even while its chat hangs.
func TestStopWithAFrozenChat(t *testing.T) {
	t.Parallel()
	w := newWorld(t, currentNATS)
	w.startNATS()
	here, there := w.addChat("-max-message", "65536"), w.addChat()
	w.connected()
	there.freeze()
	ann, long := wstest.Join(t, here.addr), strings.Repeat("x", 60_000)
	for range 500 { // 30 MB, more than the sockets buffer
		ann.Send(websocket.TextFrame, long)
		ann.ExpectLines(long)
	}
	w.relays[1].stop()
	there.thaw()
}

// The promise holds if other programs put garbage into the JetStream stream and the subjects of people
// counts. A chat counts lines for a room that can't exist as missed.
func TestGarbage(t *testing.T) {
	t.Parallel()
	w := meet(t, currentNATS, 5)
	w.talk()
	js := w.jetStream()
	wstest.Until(t, "the JetStream stream exists", func() bool { return publishGarbage(t.Context(), js) == nil })
	w.listen(500 * ms)
	w.relays[1].kill()
	w.relays[1].start()
	for range 20 {
		if err := publishGarbage(t.Context(), js); err != nil {
			t.Fatal(err)
		}
	}
	w.missed = 1 // all calls publish the same line number
	w.check()
}

// publishGarbage publishes messages that no chat sends, as lines and as people counts. One of them is a line
// for a room that can't exist.
func publishGarbage(ctx context.Context, js jetstream.JetStream) error {
	for _, garbage := range []string{
		"", "x", "\n\n\n", "{}", "{}\nx\n", "null", `{"first":1}`, "\xff\xfe\x00", "[1]\n", strings.Repeat("x", 500_000),
		`{"first":1,"said":[{"room":"","lines":2,"at":1}]}` + "\nx\n",
		`{"first":1,"said":[{"room":"","lines":-1,"at":1}]}` + "\nx\n",
		`{"first":1,"said":[{"room":"../x","lines":1,"at":1}]}` + "\nx\n",
		`{"first":0,"said":[{"room":"","lines":1,"at":1}]}` + "\nx\n",
		`{"first":18446744073709551615,"said":[{"room":"nobody","lines":2,"at":1}]}` + "\nx\ny\n",
		`{"hello":{"origin":"x","asked":9,"position":{"seq":9}}}`, `{"ask":{"from":99,"limit":9}}`, `{"people":{"":-5,"side":1}}`,
	} {
		if _, err := js.Publish(ctx, "chat.lines.GARBAGE", []byte(garbage)); err != nil {
			return err
		}
		if err := js.Conn().Publish("chat.people.GARBAGE", []byte(garbage)); err != nil {
			return err
		}
	}
	return js.Conn().Flush()
}
