package main

import (
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"example.com/chat/internal/wstest"
)

const (
	// talkRate is the number of lines a second that all people of a world say together.
	talkRate = 200

	// patience is how long settle waits for the next line. It is generous because test machines are busy, and
	// relays pause up to 5 s between sessions.
	patience = time.Minute
)

// world is a set of connected chats with their relays, a NATS, and people. Only the test's goroutine may use
// it.
type world struct {
	// Set before the first chat.
	t        testing.TB
	kind     natsKind
	natsAddr string
	store    string // directory of NATS
	linked   bool   // each relay reaches NATS through a link

	nats   *program // runs NATS; the first relay if that is embedded
	chats  []*chatProgram
	relays []*program // a relay of each chat, in order, and then further ones
	links  []*link    // of the relays, in order
	people []*person
	here   sync.WaitGroup // waits for people to leave
	hush   func()         // ends talk
	missed int            // lines that each chat must count as missed
}

// newWorld returns a world without chats, in which NATS is not running.
func newWorld(t testing.TB, kind natsKind) *world {
	t.Helper()
	w := &world{t: t, kind: kind, natsAddr: freeAddr(t), store: filepath.Join(t.TempDir(), "store"), hush: func() {}}
	if kind != embeddedNATS {
		w.nats = newNATS(t, kind, w.natsAddr, w.store, "-js")
	}
	return w
}

// meet returns a world of three connected chats, with this number of people at each.
func meet(t testing.TB, kind natsKind, people int) *world {
	t.Helper()
	w := newWorld(t, kind)
	w.open(people)
	return w
}

// open starts NATS, and three chats with this number of people at each.
func (w *world) open(people int) {
	w.t.Helper()
	if w.nats != nil {
		w.startNATS()
	}
	for range 3 {
		w.enter(w.addChat(), people)
	}
	w.connected()
}

// startNATS starts NATS and waits until it answers.
func (w *world) startNATS() {
	w.t.Helper()
	w.nats.start()
	wstest.Until(w.t, "NATS answers", func() bool { return answersNATS(w.natsAddr) })
}

// addChat starts one more chat and its relay. The -relay of the third chat is a Unix socket.
func (w *world) addChat(args ...string) *chatProgram {
	w.t.Helper()
	n := len(w.chats)
	c := newChat(w.t, fmt.Sprint("chat", n), n == 2, args...)
	w.chats = append(w.chats, c)
	c.start()
	c.ready()
	w.addRelay(c)
	return c
}

// addRelay starts one more relay of a chat.
func (w *world) addRelay(c *chatProgram) {
	w.t.Helper()
	args := []string{"-chat", c.relayURL}
	addr := w.natsAddr
	if w.linked {
		l := newLink(w.t, addr)
		w.links = append(w.links, l)
		addr = l.addr
	}
	if w.kind == embeddedNATS && len(w.relays) == 0 {
		args = append(args, "-listen", addr, "-store", w.store)
	} else {
		args = append(args, "-nats", "nats://"+addr)
	}
	relay := newProgram(w.t, fmt.Sprint("relay", len(w.relays), " of ", c.name), relayPath, args...)
	if w.kind == embeddedNATS && len(w.relays) == 0 {
		w.nats = relay
	}
	w.relays = append(w.relays, relay)
	relay.start()
}

// connected waits until each chat has a relay.
func (w *world) connected() {
	w.t.Helper()
	for _, c := range w.chats {
		wstest.Until(w.t, c.name+" has a relay", func() bool { return c.count("relays") > 0 })
	}
}

// enter adds people to a chat. One in four goes to the room "side", the others to the nameless room.
func (w *world) enter(c *chatProgram, people int) {
	if len(w.people) == 0 {
		w.t.Cleanup(w.here.Wait) // people leave because the test's context is done by then
	}
	for n := range people {
		room := ""
		if n%4 == 3 {
			room = "side"
		}
		p := newPerson(w.t, c, room, n)
		w.people = append(w.people, p)
		w.here.Go(p.stay)
	}
}

// of returns the people of a chat.
func (w *world) of(c *chatProgram) (people []*person) {
	for _, p := range w.people {
		if p.chat == c {
			people = append(people, p)
		}
	}
	return people
}

// talk has all people who are not quiet talk until hush is called.
func (w *world) talk() {
	w.hush()
	done := make(chan struct{})
	var talking sync.WaitGroup
	talking.Go(func() {
		ticks := time.NewTicker(2 * time.Second / talkRate) // two lines on average
		defer ticks.Stop()
		for {
			select {
			case <-ticks.C:
				w.people[rand.N(len(w.people))].say(1 + rand.N(3))
			case <-done:
				return
			}
		}
	})
	w.hush = sync.OnceFunc(func() {
		close(done)
		talking.Wait()
	})
	w.t.Cleanup(w.hush)
}

// listen lets d pass, in which people talk.
func (w *world) listen(d time.Duration) { time.Sleep(d) }

// said returns the number of lines of each person in a room, by name.
func (w *world) said(room string) map[string]int {
	said := make(map[string]int)
	for _, p := range w.people {
		if p.room == room {
			said[p.name] = p.lines()
		}
	}
	return said
}

// heard returns the number of lines that all people have heard together.
func (w *world) heard() (lines int) {
	for _, p := range w.people {
		lines += p.listened()
	}
	return lines
}

// complete reports whether everyone has heard every line of their room.
func (w *world) complete() bool {
	for _, p := range w.people {
		said, lines := w.said(p.room), 0
		for _, n := range said {
			lines += n
		}
		if p.listened() < lines || len(p.audit(said)[lost]) > 0 {
			return false
		}
	}
	return true
}

// settle waits until everyone has heard every line of their room, or nobody has heard a line for patience.
func (w *world) settle() {
	for before, since := -1, time.Now(); !w.complete() && time.Since(since) < patience; time.Sleep(20 * time.Millisecond) {
		if now := w.heard(); now != before {
			before, since = now, time.Now()
		}
	}
}

// check checks the promise. It has people stop talking, and waits until everyone has heard every line. Each
// person then says one more line, because repeated lines come before it. The test fails unless everyone has
// heard every line of their room once and in the speaker's order, and no chat has counted a gap.
func (w *world) check() {
	w.t.Helper()
	w.hush()
	w.settle()
	for _, p := range w.people {
		p.say(1)
	}
	w.settle()
	for _, p := range w.people {
		found := p.audit(w.said(p.room))
		if p.crashes {
			found.excuseOrder(p.chat.name)
		}
		if len(found) > 0 {
			w.t.Errorf("%s in room %q: got %d lines with faults, want none: %v", p.name, p.room, p.listened(), found)
		}
	}
	w.noGap()
	w.t.Logf("people heard %d lines, chats dropped %d repeated ones", w.heard(), w.sum("relay_known"))
}

// noGap checks that each chat has counted no lost lines, and w.missed missed ones.
func (w *world) noGap() {
	w.t.Helper()
	for _, c := range w.chats {
		for counter, want := range map[string]int{"relay_missed": w.missed, "relay_lost": 0} {
			if n := c.count(counter); n != want {
				w.t.Errorf("%s: got %s %d, want %d", c.name, counter, n, want)
			}
		}
	}
}

// sum returns the sum of a counter of all chats.
func (w *world) sum(counter string) (n int) {
	w.t.Helper()
	for _, c := range w.chats {
		n += c.count(counter)
	}
	return n
}

// pause makes the people of a chat quiet, and waits until everyone in their rooms has heard all of their
// lines.
func (w *world) pause(c *chatProgram) {
	w.t.Helper()
	for _, p := range w.of(c) {
		p.hush()
	}
	wstest.Until(w.t, "everyone has heard the last lines of "+c.name, func() bool {
		for _, p := range w.of(c) {
			last := lineOf(p.name, p.lines()-1)
			for _, other := range w.people {
				if other.room == p.room && !other.hasHeard(last) {
					return false
				}
			}
		}
		return true
	})
}

// resume ends pause.
func (w *world) resume(c *chatProgram) {
	for _, p := range w.of(c) {
		p.resume()
	}
}
