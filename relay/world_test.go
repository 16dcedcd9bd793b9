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
	// Lines a second that all people together say.
	perSecond = 200

	// So long may nothing come of what is missing: machines are busy, and relays wait before they try again.
	patience = time.Minute
)

// world is one chat on several machines: chats, a relay for each, NATS, and people. Only the test's goroutine
// uses it.
type world struct {
	t        testing.TB
	kind     natsKind
	nats     *program // what NATS runs in
	natsAddr string
	store    string // NATS' files
	linked   bool   // relays dial NATS through links

	chats  []*chatProgram
	relays []*program // the first ones are of the chats, in order
	links  []*link    // of the relays
	people []*person
	here   sync.WaitGroup // waits for people to leave
	hush   func()         // has people stop talking
}

// newWorld returns a world without anybody, in which NATS is not running.
func newWorld(t testing.TB, kind natsKind) *world {
	t.Helper()
	w := &world{t: t, kind: kind, natsAddr: freeAddr(t), store: filepath.Join(t.TempDir(), "store"), hush: func() {}}
	if kind != embeddedNATS {
		w.nats = newNATS(t, kind, w.natsAddr, w.store, "-js")
	}
	return w
}

// meet returns a world that works: three chats with so many people each.
func meet(t testing.TB, kind natsKind, people int) *world {
	t.Helper()
	w := newWorld(t, kind)
	w.open(people)
	return w
}

// open starts NATS, and three chats with so many people each.
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

func (w *world) startNATS() {
	w.t.Helper()
	w.nats.start()
	wstest.Until(w.t, "NATS answers", func() bool { return answersNATS(w.natsAddr) })
}

// addChat starts one more chat and its relay. The third chat listens on a Unix socket.
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

// enter has so many people come to a chat, every fourth into another room.
func (w *world) enter(c *chatProgram, people int) {
	if len(w.people) == 0 {
		w.t.Cleanup(w.here.Wait) // the test's context is done by then
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

// talk has people talk, all but the quiet, until hush is called.
func (w *world) talk() {
	w.hush()
	done := make(chan struct{})
	var talking sync.WaitGroup
	talking.Go(func() {
		ticks := time.NewTicker(2 * time.Second / perSecond) // for one to three lines
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

// listen lets so much time pass, while people talk.
func (w *world) listen(d time.Duration) { time.Sleep(d) }

// said returns how many lines each person of a room has said, by name.
func (w *world) said(room string) map[string]int {
	said := make(map[string]int)
	for _, p := range w.people {
		if p.room == room {
			said[p.name] = p.lines()
		}
	}
	return said
}

// heard returns how many lines all people have heard, together.
func (w *world) heard() (lines int) {
	for _, p := range w.people {
		lines += p.listened()
	}
	return lines
}

// complete reports whether everyone has heard everything.
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

// settle waits until everyone has heard everything, or nobody has heard anything new for patience.
func (w *world) settle() {
	for before, since := -1, time.Now(); !w.complete() && time.Since(since) < patience; time.Sleep(20 * time.Millisecond) {
		if now := w.heard(); now != before {
			before, since = now, time.Now()
		}
	}
}

// check has people stop talking, and waits until everyone has heard everything. Then each says a last word:
// what is said twice comes before it. In the end everyone has heard every line of their room once, in each
// speaker's order, and no chat has counted a gap.
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
			w.t.Errorf("%s, in room %q, heard %d lines: %v", p.name, p.room, p.listened(), found)
		}
	}
	w.noGap()
	w.t.Logf("%d lines were heard, %d were repeated and dropped", w.heard(), w.sum("relay_known"))
}

// noGap checks that no chat has counted lines that did not come, or did not go.
func (w *world) noGap() {
	w.t.Helper()
	for _, c := range w.chats {
		for _, counter := range []string{"relay_missed", "relay_lost"} {
			if n := c.count(counter); n > 0 {
				w.t.Errorf("%s has %s %d", c.name, counter, n)
			}
		}
	}
}

// sum returns a counter of all chats together.
func (w *world) sum(counter string) (n int) {
	w.t.Helper()
	for _, c := range w.chats {
		n += c.count(counter)
	}
	return n
}

// pause has the people of a chat fall silent, and waits until everyone elsewhere has heard all that they said.
func (w *world) pause(c *chatProgram) {
	w.t.Helper()
	for _, p := range w.of(c) {
		p.hushName()
	}
	wstest.Until(w.t, "all that was said at "+c.name+" is heard", func() bool {
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

// resume has the people of a chat talk again.
func (w *world) resume(c *chatProgram) {
	for _, p := range w.of(c) {
		p.resume()
	}
}
