package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/websocket"

	"example.com/chat/internal/ws"
	"example.com/chat/internal/wstest"
)

// Lines that wait for a peer come joined in one message.
func TestWaitingLinesAreJoined(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, _ := startInBubble(t)
		ann, bob := wstest.Upgrade(t, l.Dial(t), "/ws"), wstest.Upgrade(t, l.Dial(t), "/ws")
		for _, line := range []string{"one", "two", "", "four"} {
			ann.Send(websocket.TextFrame, line)
			ann.Expect(websocket.TextFrame, line)
			synctest.Wait()
		}
		bob.Expect(websocket.TextFrame, "one") // the pump was writing it already
		bob.Expect(websocket.TextFrame, "two\n\nfour")
	})
}

// Lines that come while others are written to everyone share the next writes; a line that comes later is
// written at once.
func TestLinesShareWrites(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const people = 200
		fanOutTime := people * writeTime / time.Duration(runtime.GOMAXPROCS(0))
		l, _ := startInBubble(t)
		ann, bob := wstest.Upgrade(t, l.Dial(t), "/ws"), wstest.Upgrade(t, l.Dial(t), "/ws")
		for range people - 2 {
			go io.Copy(io.Discard, wstest.Upgrade(t, l.Dial(t), "/ws").In)
		}
		began := time.Now()
		hear := func(want string, at time.Duration) {
			ann.Expect(websocket.TextFrame, want)
			bob.Expect(websocket.TextFrame, want)
			if after := time.Since(began); after != at {
				t.Errorf("heard %q after %v, want %v", want, after, at)
			}
		}
		ann.Send(websocket.TextFrame, "one")
		hear("one", 0)
		ann.Send(websocket.TextFrame, "two")
		synctest.Wait()
		bob.Send(websocket.TextFrame, "three")
		hear("two\nthree", fanOutTime)
		time.Sleep(fanOutTime)
		bob.Send(websocket.TextFrame, "four")
		hear("four", 2*fanOutTime)
	})
}

// Joined messages stay small, however much waits.
func TestJoiningIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const said = 100
		l, _ := startInBubble(t)
		ann, bob := wstest.Upgrade(t, l.Dial(t), "/ws"), wstest.Upgrade(t, l.Dial(t), "/ws")
		sayLong(ann, said)
		for heard := 0; heard < said; {
			_, message, err := bob.ReadFrame()
			if err != nil || len(message) > 64<<10+4096 {
				t.Fatalf("a message of %d bytes, %v", len(message), err)
			}
			heard += 1 + strings.Count(message, "\n")
		}
	})
}

// A peer that reads nothing, or too little to be waited for, is dropped; the others go on
// as if it had never been there.
func TestStuckPeerIsDropped(t *testing.T) {
	t.Parallel()
	t.Run("and told, if it reads too little", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			cfg := defaults
			cfg.history = 0 // nothing is held any more when it is gone
			l, _ := startInBubbleWith(t, cfg)
			ann, slow := wstest.Upgrade(t, l.Dial(t), "/ws"), wstest.Upgrade(t, l.Dial(t), "/ws")
			go func() { // 4 MB/s
				for line := wstest.Frame(0x81, strings.Repeat("x", 4096)); ; time.Sleep(time.Millisecond) {
					if _, err := ann.Conn.Write(line); err != nil {
						return
					}
				}
			}()
			go io.Copy(io.Discard, ann.In)
			for {
				opcode, payload, err := slow.ReadFrame()
				if opcode == websocket.CloseFrame {
					if want := string(errTooSlow.Frame()[2:]); payload != want {
						t.Errorf("got %s; want the close frame %q", wstest.Show(opcode, payload), want)
					}
					break
				}
				if err != nil {
					t.Fatal(err)
				}
				time.Sleep(time.Duration(len(payload)) * time.Second / (minSpeed / 2))
			}
			ann.Conn.Close()
			time.Sleep(closeWait - time.Second)
			talkUntilClosed(slow, time.Second) // words that come late don't prolong it
		})
	})
	t.Run("and cut off, if it reads nothing", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			l, _ := startInBubble(t)
			ann, stuck := wstest.Upgrade(t, l.Dial(t), "/ws"), wstest.Upgrade(t, l.Dial(t), "/ws")
			talkPast(t, ann, 1000)
			time.Sleep(writeWait + sweepPeriod + time.Nanosecond)
			if _, err := stuck.Conn.Write([]byte{0}); err == nil {
				t.Error("still connected after writeWait")
			}
		})
	})
	t.Run("and cut off, if it reads next to nothing", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			l, _ := startInBubble(t)
			ann, slow := wstest.Upgrade(t, l.Dial(t), "/ws"), wstest.Upgrade(t, l.Dial(t), "/ws")
			sayLong(ann, 200)
			start := time.Now()
			for {
				if _, err := slow.Conn.Read(make([]byte, 1)); err != nil {
					break
				}
				time.Sleep(writeWait / 1000)
			}
			if took := time.Since(start); took < writeWait || took > writeWait+sweepPeriod {
				t.Errorf("cut off after %v", took)
			}
		})
	})
}

// sayLong has p say n lines of 4 KiB and hear each of them.
func sayLong(p *wstest.Client, n int) {
	p.T.Helper()
	long := strings.Repeat("x", 4096)
	for range n {
		p.Send(websocket.TextFrame, long)
		p.Expect(websocket.TextFrame, long)
	}
}

// talkPast has p say n lines and hear each of them, without waiting longer for any
// than it would have to if everyone were just busy.
func talkPast(t *testing.T, p *wstest.Client, n int) {
	t.Helper()
	for n := range n {
		said := time.Now()
		line := fmt.Sprint("line ", n)
		p.Send(websocket.TextFrame, line)
		p.Expect(websocket.TextFrame, line)
		synctest.Wait()
		if waited := time.Since(said); waited > lagPeriod {
			t.Errorf("waited %v for a stuck peer", waited)
		}
	}
}

// The same over TCP, whose buffers take some megabytes before a peer is stuck.
func TestStuckPeerOverTCP(t *testing.T) {
	t.Parallel()
	const said = 2000
	addr, rooms, _ := startWith(t, defaults)
	stuck := wstest.Upgrade(t, wstest.DialWith(t, addr, wstest.SmallBuffers), "/ws")

	ann, bob := wstest.Join(t, addr), wstest.Join(t, addr)
	line := func(n int) string { return fmt.Sprintf("%04096d", n) }
	for n := range said {
		ann.Send(websocket.TextFrame, line(n))
		ann.Expect(websocket.TextFrame, line(n))
		bob.Expect(websocket.TextFrame, line(n))
	}

	untilOpen(t, rooms, 2)

	// What it got before it was dropped is whole and in order.
	heard := 0
	for {
		opcode, message, err := stuck.ReadFrame()
		if err != nil || opcode != websocket.TextFrame {
			break
		}
		for text := range strings.SplitSeq(message, "\n") {
			if text != line(heard) {
				t.Fatalf("line %d is %.50q", heard, text)
			}
			heard++
		}
	}
	if heard == said {
		t.Error("it heard everything, so it was never stuck")
	}
}

// What has reached the server before it stops is heard by everyone.
func TestStopLosesNothing(t *testing.T) {
	t.Parallel()
	for range 5 {
		addr, stop := startServer(t, 4096)
		wstest.StopWhenSaid(wstest.JoinMany(t, addr, 20), stop)
	}
}

// The same over TLS, with more readPumps than can run at once when the chat stops.
func TestStopOverTLSLosesNothing(t *testing.T) {
	t.Parallel()
	const peers, each = 200, 40
	cfg := defaults
	cfg.tls = newCertificate(t)
	addr, rooms, stop := startWith(t, cfg)
	var speaking, listening sync.WaitGroup
	for range peers {
		p := wstest.Upgrade(t, wstest.DialTLS(t, addr), "/ws")
		listening.Go(func() {
			io.Copy(io.Discard, p.In)
			p.Conn.Close()
		})
		speaking.Go(func() { p.Conn.Write(wstest.Frames(each, 0x81, strings.Repeat("x", 200))) })
	}
	speaking.Wait()
	stop()
	listening.Wait()
	if heard := rooms.counters.linesIn.Value(); heard != peers*each {
		t.Errorf("heard %d lines of %d", heard, peers*each)
	}
}

// A read that ends late shows that the reader was late, not that nothing has come: it reads again
// as often as it was late, and once more.
func TestLateReaderLooksOnceMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := newTestHub(0)
		hub.startDrain()
		b := make([]byte, 10)
		for _, late := range []time.Duration{0, drainIdle} {
			conn := &lateConn{late: late, times: 1}
			if late > 0 {
				conn.times = 10
			}
			reader := socketReader{newConn(hub, conn), conn}
			if n, err := reader.Read(b); err != nil || string(b[:n]) != "last words" {
				t.Errorf("late by %v: %q, %v", late, b[:n], err)
			}
			conn.times = 1000
			if n, err := reader.Read(b); n != 0 || err != errGoingAway {
				t.Errorf("late by %v: %d bytes, %v", late, n, err)
			}
		}
	})
}

// lateConn is a connection of which some reads end that late after their deadline.
type lateConn struct {
	net.Conn
	late     time.Duration
	times    int
	deadline time.Time
}

func (c *lateConn) SetReadDeadline(t time.Time) error {
	c.deadline = t
	return nil
}

func (c *lateConn) Read(b []byte) (int, error) {
	if c.times--; c.times >= 0 {
		time.Sleep(time.Until(c.deadline) + c.late)
		return 0, os.ErrDeadlineExceeded
	}
	return copy(b, "last words"), nil
}

// A peer that doesn't read may have said something, too, behind a ping even.
func TestStopHearsThoseWhoDoNotRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, stop := startInBubble(t)
		ann, stuck := wstest.Upgrade(t, l.Dial(t), "/ws"), wstest.Upgrade(t, l.Dial(t), "/ws")
		ann.Send(websocket.TextFrame, "hello")
		ann.Expect(websocket.TextFrame, "hello")
		synctest.Wait()
		var others sync.WaitGroup
		defer others.Wait()
		others.Go(func() { stuck.Conn.Write(append(wstest.Frame(0x89, ""), wstest.Frame(0x81, "heard?")...)) })
		synctest.Wait()
		others.Go(stop)
		ann.Expect(websocket.TextFrame, "heard?")
		ann.ExpectClose(ws.CloseGoingAway)
		ann.Conn.Close()
		stuck.Conn.Close()
	})
}

// A peer that has just been dropped doesn't hold the others.
func TestStopDoesNotWaitForTheStuck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, stop := startInBubble(t)
		ann := wstest.Upgrade(t, l.Dial(t), "/ws")
		wstest.Upgrade(t, l.Dial(t), "/ws")
		talkPast(t, ann, 1000)
		var others sync.WaitGroup
		defer others.Wait()
		began := time.Now()
		others.Go(stop)
		ann.ExpectClose(ws.CloseGoingAway)
		ann.Conn.Close()
		if took := time.Since(began); took != 2*drainIdle {
			t.Errorf("told after %v, want %v", took, 2*drainIdle)
		}
	})
}

// A peer that never pauses is heard for drainTimeout, and then no more.
func TestStopInTheMiddleOfASpeech(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, stop := startInBubble(t)
		ann, bob := wstest.Upgrade(t, l.Dial(t), "/ws"), wstest.Upgrade(t, l.Dial(t), "/ws")
		began := time.Now()
		go io.Copy(io.Discard, ann.In)
		var others sync.WaitGroup
		defer others.Wait()
		others.Go(stop)
		others.Go(func() {
			for {
				if _, err := ann.Conn.Write(wstest.Frame(0x81, "and another thing")); err != nil {
					return
				}
				time.Sleep(drainIdle / 2)
			}
		})
		for at := time.Duration(0); at < drainTimeout; at += drainIdle / 2 {
			bob.Expect(websocket.TextFrame, "and another thing")
		}
		if heard := linesUntilClosed(bob); heard > 1 {
			t.Errorf("heard %d lines more", heard)
		}
		if took := time.Since(began); took != drainTimeout {
			t.Errorf("stopped after %v, want %v", took, drainTimeout)
		}
		bob.Conn.Close()
	})
}

// Peers that are silent, stuck, half connected or in the middle of a frame don't hold
// the chat for long.
func TestStopTakesBoundedTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, stop := startInBubble(t)
		wstest.Upgrade(t, l.Dial(t), "/ws")
		wstest.Upgrade(t, l.Dial(t), "/ws").Write([]byte{0x81})
		l.Dial(t)
		half := l.Dial(t)
		half.Write([]byte("GET /ws HTTP/1.1\r\n"))
		ann := wstest.Upgrade(t, l.Dial(t), "/ws")
		for range 10 {
			ann.Send(websocket.TextFrame, "to those who don't read")
		}
		began := time.Now()
		stop()
		if took := time.Since(began); took > 2*drainIdle+writeWait {
			t.Errorf("stopped after %v", took)
		}
	})
}

func TestHandshakeWhenTheChatStops(t *testing.T) {
	_, rooms, stop := startWith(t, defaults)
	stop()
	r := httptest.NewRequest("GET", "/ws", nil)
	r.Header = http.Header{"Connection": {"Upgrade"}, "Upgrade": {"websocket"},
		"Sec-Websocket-Version": {"13"}, "Sec-Websocket-Key": {"dGhlIHNhbXBsZSBub25jZQ=="}}
	w := httptest.NewRecorder()
	wsHandler{rooms}.ServeHTTP(w, r)
	if w.Code != 503 || w.Header().Get("Retry-After") != retryAfter || !strings.Contains(w.Body.String(), "shutting down") {
		t.Error(w.Code, w.Header(), w.Body)
	}
	if rooms.counters.connections.Value() != 0 {
		t.Error("it is counted as a connection")
	}
}

// A stop waits writeWait at most for a close frame that can't be written, also where nothing else was.
func TestStopWhereNobodyReads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, stop := startInBubble(t)
		wstest.Upgrade(t, l.Dial(t), "/ws")
		began := time.Now()
		stop()
		if took := time.Since(began); took > 2*drainIdle+writeWait {
			t.Errorf("stopped after %v", took)
		}
	})
}

// A peer that a sweep finds too far behind, and blocked as well, is counted once.
func TestSlowAndBlockedPeerIsCountedOnce(t *testing.T) {
	h := newTestHub(0)
	socket, peer := net.Pipe()
	defer peer.Close()
	c := newConn(h, socket)
	h.connections[c] = true
	c.behind = true
	h.stream.end.bytes = maxHeld + 1
	c.writes.begin()
	c.writeWatch = watch{last: c.writes.Load(), same: writeWait - sweepPeriod}
	h.sweep()
	if n := h.rooms.counters.droppedSlow.Value(); n != 1 || h.connections[c] {
		t.Errorf("counted %d times; it is there: %v", n, h.connections[c])
	}
}

// A peer that reads nothing, or says nothing, is counted when it is dropped, once.
func TestDroppedPeersAreCounted(t *testing.T) {
	for _, test := range []struct {
		name       string
		said       int // lines, to the peer that doesn't read
		then       time.Duration
		slow, idle int64
	}{
		{"a write takes too long", 1, 2 * writeWait, 1, 0},
		{"nothing comes", 0, pongWait + 2*sweepPeriod, 0, 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := wstest.NewListener()
				rooms, stop := start(t, l, defaults)
				t.Cleanup(stop)
				ann, bob := wstest.Upgrade(t, l.Dial(t), "/ws"), wstest.Upgrade(t, l.Dial(t), "/ws")
				if test.said == 0 {
					go io.Copy(io.Discard, bob.In)
				}
				talkPast(t, ann, test.said)
				go io.Copy(io.Discard, ann.In)
				time.Sleep(test.then / 2)
				ann.Send(websocket.PongFrame, "")
				time.Sleep(test.then / 2)
				slow, idle := rooms.counters.droppedSlow.Value(), rooms.counters.droppedIdle.Value()
				if slow != test.slow || idle != test.idle {
					t.Errorf("counted %d as slow and %d as idle", slow, idle)
				}
				if got := rooms.counters.connections.Value(); got != 1 {
					t.Errorf("%d connections are left", got)
				}
			})
		})
	}
}
