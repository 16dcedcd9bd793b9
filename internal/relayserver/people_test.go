package relayserver

import (
	"io"
	"maps"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/websocket"

	"example.com/chat/internal/relay"
)

// The chat gets the sum of the people at all other chats within a second. A chat that is silent for 15 s has
// none.
func TestRemotePeople(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, h *harness) {
		r := h.connect()
		r.discard()
		report := func(origin string, people map[string]int) {
			r.send(relay.Message{Origin: origin, People: people})
		}
		expect := func(after time.Duration, want map[string]int) {
			t.Helper()
			time.Sleep(after)
			synctest.Wait()
			h.chat.mu.Lock()
			defer h.chat.mu.Unlock()
			if !maps.Equal(h.chat.remotePeople, want) {
				t.Errorf("got %v, want %v", h.chat.remotePeople, want)
			}
		}
		report("other", map[string]int{"": 3, "lobby": 5})
		report(r.hello.Origin, map[string]int{"": 1000})
		expect(time.Second, map[string]int{"": 3, "lobby": 5})
		report("third", map[string]int{"": 100, "third": 1})
		expect(time.Second, map[string]int{"": 103, "lobby": 5, "third": 1})
		report("other", map[string]int{"": 2})
		expect(time.Second, map[string]int{"": 102, "third": 1})
		report("third", map[string]int{})
		expect(time.Second, map[string]int{"": 2})
		expect(13*time.Second, map[string]int{"": 2}) // 14 s after the report
		report("third", map[string]int{"": 1})
		expect(3*time.Second, map[string]int{"": 1}) // the other chat is silent
		expect(14*time.Second, map[string]int{})
	})
}

// A relay gets the people of this chat within a second after a change, and every 5 s. At the stop nobody is
// left.
func TestPeopleAreReported(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, h *harness) {
		r := h.connect()
		expect := func(want map[string]int, from, to time.Duration) {
			t.Helper()
			began := time.Now()
			m := r.receiveAny()
			if took := time.Since(began); m.People == nil || !maps.Equal(m.People, want) || took < from || took > to {
				t.Errorf("got %+v after %v, want %v after %v to %v", m, took, want, from, to)
			}
		}
		expect(map[string]int{}, 0, time.Second)
		h.chat.setPeople(map[string]int{"": 1, "lobby": 2})
		expect(map[string]int{"": 1, "lobby": 2}, 0, time.Second)
		expect(map[string]int{"": 1, "lobby": 2}, 5*time.Second, 5*time.Second)
		expect(map[string]int{"": 1, "lobby": 2}, 5*time.Second, 5*time.Second)
		h.chat.setPeople(map[string]int{"lobby": 1})
		expect(map[string]int{"lobby": 1}, 0, time.Second)
		r.send(relay.Message{Origin: "other", People: map[string]int{"lobby": 5}}) // who are not here
		expect(map[string]int{"lobby": 1}, 5*time.Second, 5*time.Second)
		go h.stop()
		expect(map[string]int{}, 0, 0)
		var b []byte
		if err := websocket.Message.Receive(r.socket, &b); err != io.EOF {
			t.Errorf("got %v, want EOF", err)
		}
	})
}
