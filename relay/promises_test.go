package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/net/websocket"

	"example.com/chat/internal/wstest"
)

// Every listener hears every line of every speaker exactly once, in the speaker's order, wherever both are
// connected. Each test breaks something while people talk, and then checks that.

const ms = time.Millisecond

// eachNATS runs a test with each server of NATS.
func eachNATS(t *testing.T, test func(t *testing.T, kind natsKind)) {
	for _, kind := range []natsKind{currentNATS, debianNATS, embeddedNATS} {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			test(t, kind)
		})
	}
}

func TestNothingBreaks(t *testing.T) {
	eachNATS(t, func(t *testing.T, kind natsKind) {
		w := meet(t, kind, 20)
		w.talk()
		w.listen(longOr(10*time.Second, 1500*ms))
		w.check()
		for i := range w.relays { // the last one first: the first one may run NATS
			w.relays[len(w.relays)-1-i].stop()
		}
	})
}

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

// What NATS goes through.
func TestNATSGoes(t *testing.T) {
	for _, test := range []struct {
		name  string
		goes  func(w *world)
		times int
	}{
		{"restarted", func(w *world) { w.nats.stop(); w.startNATS() }, longOr(5, 2)},
		{"killed", func(w *world) { w.nats.kill(); w.startNATS() }, longOr(5, 2)},
		{"away", func(w *world) { w.nats.kill(); w.listen(longOr(30*time.Second, 3*time.Second)); w.startNATS() }, 1},
		{"set back after a stop", func(w *world) { w.setBack((*program).stop) }, longOr(3, 1)},
		{"set back after a crash", func(w *world) { w.setBack((*program).kill) }, longOr(3, 1)},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			w := meet(t, currentNATS, 5)
			w.talk()
			for range test.times {
				w.listen(500 * ms)
				test.goes(w)
				w.listen(500 * ms)
			}
			w.check()
		})
	}
}

// setBack has NATS lose what has come in the last second: it gets an older copy of its files.
func (w *world) setBack(end func(*program)) {
	w.t.Helper()
	older := w.t.TempDir()
	end(w.nats)
	if err := os.CopyFS(older, os.DirFS(w.store)); err != nil {
		w.t.Fatal(err)
	}
	w.startNATS()
	w.listen(time.Second)
	w.settle() // all of it is in the stream
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

// A chat that keeps its state goes on where it was, its people included.
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

// After a crash of a chat people elsewhere miss nothing, and hear nothing twice. Its own people come back to another
// run of it, which begins with what was kept, or with the stream: that has everything once, too, but what they said
// before the crash may come behind what they say at once. What the chat had not passed on is lost with it, so its
// people are silent when it crashes.
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

func TestFrozen(t *testing.T) {
	d := longOr(20*time.Second, 3*time.Second)
	frozen := func(p *program, during func()) {
		p.freeze()
		during()
		p.thaw()
	}
	for _, test := range []struct {
		name string
		goes func(w *world)
	}{
		{"a relay", func(w *world) { frozen(w.relays[0], func() { w.listen(d) }) }},
		{"a chat", func(w *world) { frozen(w.chats[0].program, func() { w.listen(d) }) }},
		{"NATS", func(w *world) { frozen(w.nats, func() { w.listen(d) }) }},
		{"a chat around kills of its relay", func(w *world) {
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
		{"a chat that its relay finds so", func(w *world) {
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
			test.goes(w)
			w.listen(500 * ms)
			w.check()
		})
	}
}

// Relays reach NATS over a slow network that fails in two ways: connections are reset, or nothing comes through
// for some time.
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

// While one relay takes the place of another, there may be two of them.
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

// An outage that is too long: a chat holds 64 MiB. What does not go out then is counted where it was said and where
// it does not come, and the rest is heard once.
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
	wstest.Until(t, "the speaker hears all of it", func() bool { return speaker.listened() == speaker.lines() })
	w.relays[0].start()
	speaker.hushName()
	last := lineOf(speaker.name, speaker.lines()-1)
	wstest.Until(t, "the listener hears the end", func() bool { return listener.hasHeard(last) })
	found := listener.audit(w.said(""))
	missing := len(found[lost])
	delete(found, lost)
	if len(found) > 0 || missing < 300 || missing > 600 {
		t.Errorf("of %d lines of 60 kB %d were lost, and %v", speaker.lines(), missing, found)
	}
	if out, in := here.count("relay_lost"), there.count("relay_missed"); out != missing || in != missing {
		t.Errorf("%d lines were lost; relay_lost is %d, relay_missed %d", missing, out, in)
	}
	for _, c := range w.chats {
		if !strings.Contains(c.log.String(), fmt.Sprint("lines=", missing)) {
			t.Errorf("%s does not log that %d lines are lost", c.name, missing)
		}
	}
}

// A chat that comes later has the last lines of each room, also of those in which nobody talks any more.
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

// Everyone is told how many people are in their room, wherever they are.
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
	everyoneCounts("everyone counts one less", w.people[1:], 6, 17)
	w.chats[2].stop()
	everyoneCounts("nobody counts people of a chat that was stopped", w.people[1:16], 4, 11)
	if wstest.Long() {
		w.chats[1].kill()
		everyoneCounts("nobody counts people of a chat that was killed", w.people[1:8], 2, 5)
	}
}

// Chats may differ in -max-message. A line that NATS does not take is counted as missing, and others go on.
func TestLongLines(t *testing.T) {
	t.Parallel()
	w := newWorld(t, currentNATS)
	w.startNATS()
	here, there := w.addChat("-max-message", "4000000"), w.addChat()
	w.connected()
	ann, ben := wstest.Join(t, here.addr), wstest.Join(t, there.addr)
	long := strings.Repeat("long ", 100_000)
	ann.Send(websocket.TextFrame, long)
	ann.Send(websocket.TextFrame, "behind it")
	ben.ExpectLines(long, "behind it")
	ann.Send(websocket.TextFrame, strings.Repeat("too long", 400_000))
	ann.Send(websocket.TextFrame, "behind that")
	ben.ExpectLines("behind that")
	if n := there.count("relay_missed"); n != 1 {
		t.Errorf("relay_missed is %d after a line that NATS does not take", n)
	}
}

// A stream may have been made before, with a limit for messages of its own.
func TestStreamWithALimit(t *testing.T) {
	t.Parallel()
	w := newWorld(t, currentNATS)
	w.startNATS()
	js := w.jetStream()
	config := jetstream.StreamConfig{Name: "chat", Subjects: []string{"chat.lines.*"}, MaxMsgSize: 3000}
	if _, err := js.CreateStream(t.Context(), config); err != nil {
		t.Fatal(err)
	}
	here, there := w.addChat(), w.addChat()
	w.connected()
	ann, ben := wstest.Join(t, here.addr), wstest.Join(t, there.addr)
	for n := range 3000 { // around the limit, and above it
		if n%7 == 0 || n > 2000 {
			ann.Send(websocket.TextFrame, strings.Repeat("x", n))
		}
	}
	ann.Send(websocket.TextFrame, "behind all")
	for next := ben.Lines(); ; {
		line, err := next()
		if err != nil {
			t.Fatal(err)
		}
		if line == "behind all" {
			break
		}
	}
}

// A stream that is full, and discards nothing, refuses lines: they wait at the chat until there is room.
func TestFullStream(t *testing.T) {
	t.Parallel()
	w := newWorld(t, currentNATS)
	w.startNATS()
	js := w.jetStream()
	config := jetstream.StreamConfig{Name: "chat", Subjects: []string{"chat.lines.*"}, MaxBytes: 20_000, Discard: jetstream.DiscardNew}
	if _, err := js.CreateStream(t.Context(), config); err != nil {
		t.Fatal(err)
	}
	here, there := w.addChat(), w.addChat()
	w.connected()
	ann, ben := wstest.Join(t, here.addr), wstest.Join(t, there.addr)
	lines := wstest.Numbered(0, 10_000)
	for _, line := range lines {
		ann.Send(websocket.TextFrame, line)
	}
	ann.ExpectLines(lines...)
	wstest.Until(t, "the relay says that the stream is full", func() bool { return strings.Contains(w.relays[0].log.String(), "maximum bytes") })
	config.MaxBytes = 1 << 20
	if _, err := js.UpdateStream(t.Context(), config); err != nil {
		t.Fatal(err)
	}
	ben.ExpectLines(lines...)
	w.noGap()
}

// A stream is deleted and made again, while the relays run.
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

// jetStream returns a client of the NATS.
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

// Whoever is at a chat before its relay is connected hears all that is said from then on, also with a short -history.
func TestRelayComesLate(t *testing.T) {
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

// A relay ends when it is told to, also beside a chat that takes nothing.
func TestStopBesideAFrozenChat(t *testing.T) {
	t.Parallel()
	w := newWorld(t, currentNATS)
	w.startNATS()
	here, there := w.addChat("-max-message", "65536"), w.addChat()
	w.connected()
	there.freeze()
	ann, long := wstest.Join(t, here.addr), strings.Repeat("x", 60_000)
	for range 500 { // more than sockets hold
		ann.Send(websocket.TextFrame, long)
		ann.ExpectLines(long)
	}
	w.relays[1].stop()
	there.thaw()
}

// What others put into the stream does no harm.
func TestGarbageInTheStream(t *testing.T) {
	t.Parallel()
	w := meet(t, currentNATS, 5)
	w.talk()
	conn, err := nats.Connect("nats://" + w.natsAddr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	wstest.Until(t, "there is a stream", func() bool { return publishGarbage(t.Context(), conn) == nil })
	w.listen(500 * ms)
	w.relays[1].kill()
	w.relays[1].start()
	for range 20 {
		if err := publishGarbage(t.Context(), conn); err != nil {
			t.Fatal(err)
		}
	}
	w.check()
}

// publishGarbage puts messages into the stream that are no lines of a chat, and others into the subjects beside it.
func publishGarbage(ctx context.Context, conn *nats.Conn) error {
	js, err := jetstream.New(conn)
	if err != nil {
		return err
	}
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
		if err := conn.Publish("chat.people.GARBAGE", []byte(garbage)); err != nil {
			return err
		}
	}
	return conn.Flush()
}
