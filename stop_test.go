// stop_test.go: how the chat stops: nothing that has been said is lost, and it takes
// bounded time.

package main

import (
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/websocket"
)

// hearAll has p hear every line of the crowd, and then that the server goes away.
func (c crowd) hearAll(p *rawPeer) {
	c.listen(p)
	opcode, message, err := p.readFrame()
	if err != nil || opcode != websocket.CloseFrame || closeCode(message) != closeGoingAway {
		p.t.Errorf("got %s, %v; want a close frame with %d", show(opcode, message), err, closeGoingAway)
	}
	p.Conn.Close()
}

// What has reached the server before it stops is heard by everyone.
func TestStopLosesNothing(t *testing.T) {
	t.Parallel()
	for range 5 {
		addr, stop := startServer(t, 4096)
		stopWhenSaid(joinMany(t, addr, 20), stop)
	}
}

// The same over TLS, with so many that they are not all awake when they should.
func TestStopOverTLSLosesNothing(t *testing.T) {
	t.Parallel()
	const peers, each = 200, 40
	cfg := defaults
	cfg.tls = newCertificate(t)
	addr, hub, stop := startWith(t, cfg)
	var speaking, listening sync.WaitGroup
	for range peers {
		p := upgrade(t, dialTLS(t, addr))
		listening.Go(func() {
			io.Copy(io.Discard, p.in)
			p.Conn.Close()
		})
		speaking.Go(func() { p.Conn.Write(frames(each, 0x81, strings.Repeat("x", 200))) })
	}
	speaking.Wait()
	stop()
	listening.Wait()
	if heard := hub.counters.linesIn.Value(); heard != peers*each {
		t.Errorf("heard %d lines of %d", heard, peers*each)
	}
}

// That a deadline has passed shows that the reader was late, not that nothing has come: it
// looks again as often as it was late, and once more.
func TestLateReaderLooksOnceMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := newHub(0)
		hub.startDrain()
		b := make([]byte, 10)
		for _, late := range []time.Duration{0, drainIdle} {
			conn := &lateConn{late: late, times: 1}
			if late > 0 {
				conn.times = 10
			}
			reader := socketReader{newConn(hub, conn)}
			if n, err := reader.Read(b); err != nil || string(b[:n]) != "last words" {
				t.Errorf("late by %v: %q, %v", late, b[:n], err)
			}
			conn.times = 1000
			if n, err := reader.Read(b); n != 0 || err != goingAway {
				t.Errorf("late by %v: %d bytes, %v", late, n, err)
			}
		}
	})
}

// lateConn is a connection of which some reads end after their deadline, and so much later.
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
		ann, stuck := upgrade(t, l.dial(t)), upgrade(t, l.dial(t))
		ann.send(websocket.TextFrame, "hello")
		ann.expect(websocket.TextFrame, "hello")
		synctest.Wait()
		var others sync.WaitGroup
		defer others.Wait()
		others.Go(func() { stuck.Conn.Write(append(clientFrame(0x89, ""), clientFrame(0x81, "heard?")...)) })
		synctest.Wait()
		others.Go(stop)
		ann.expect(websocket.TextFrame, "heard?")
		ann.expectClose(closeGoingAway)
		ann.Conn.Close()
		stuck.Conn.Close()
	})
}

// One who has just been let go doesn't hold the others.
func TestStopDoesNotWaitForTheStuck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, stop := startInBubble(t)
		ann := upgrade(t, l.dial(t))
		upgrade(t, l.dial(t))
		talkPast(t, ann, 1000)
		var others sync.WaitGroup
		defer others.Wait()
		began := time.Now()
		others.Go(stop)
		ann.expectClose(closeGoingAway)
		ann.Conn.Close()
		if took := time.Since(began); took != 2*drainIdle {
			t.Errorf("told after %v, want %v", took, 2*drainIdle)
		}
	})
}

// stopWhenSaid has peers listen and speak, and calls stop as soon as everything is sent.
func stopWhenSaid(peers []*rawPeer, stop func()) {
	c := crowd{len(peers), 1000, 0}
	var speaking, listening sync.WaitGroup
	for i, p := range peers {
		listening.Go(func() { c.hearAll(p) })
		speaking.Go(func() { c.speak(p, i) })
	}
	speaking.Wait()
	stop()
	listening.Wait()
}

// Who never pauses is heard for a while, and then no more.
func TestStopInTheMiddleOfASpeech(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, stop := startInBubble(t)
		ann, bob := upgrade(t, l.dial(t)), upgrade(t, l.dial(t))
		began := time.Now()
		go io.Copy(io.Discard, ann.in)
		var others sync.WaitGroup
		defer others.Wait()
		others.Go(stop)
		others.Go(func() {
			for {
				if _, err := ann.Conn.Write(clientFrame(0x81, "and another thing")); err != nil {
					return
				}
				time.Sleep(drainIdle / 2)
			}
		})
		for at := time.Duration(0); at < drainTimeout; at += drainIdle / 2 {
			bob.expect(websocket.TextFrame, "and another thing")
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

// Those who are silent, stuck, half connected or in the middle of a frame don't hold
// the chat for long.
func TestStopTakesBoundedTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, stop := startInBubble(t)
		upgrade(t, l.dial(t))
		upgrade(t, l.dial(t)).write([]byte{0x81})
		l.dial(t)
		half := l.dial(t)
		half.Write([]byte("GET /ws HTTP/1.1\r\n"))
		ann := upgrade(t, l.dial(t))
		for range 10 {
			ann.send(websocket.TextFrame, "to those who don't read")
		}
		began := time.Now()
		stop()
		if took := time.Since(began); took > 2*drainIdle+writeWait {
			t.Errorf("stopped after %v", took)
		}
	})
}

func TestHandshakeWhenTheChatStops(t *testing.T) {
	hub := newHub(0)
	hub.startDrain()
	r := httptest.NewRequest("GET", "/ws", nil)
	r.Header = http.Header{"Connection": {"Upgrade"}, "Upgrade": {"websocket"},
		"Sec-Websocket-Version": {"13"}, "Sec-Websocket-Key": {"dGhlIHNhbXBsZSBub25jZQ=="}}
	w := httptest.NewRecorder()
	wsHandler{hub, defaults}.ServeHTTP(w, r)
	if w.Code != 503 || w.Header().Get("Retry-After") != retryAfter || !strings.Contains(w.Body.String(), "shutting down") {
		t.Error(w.Code, w.Header(), w.Body)
	}
	if hub.counters.connections.Load() != 0 {
		t.Error("it is counted as a connection")
	}
}

// A signal stops the program as nothing else does, with exit status 0; another ends it
// at once.
func TestSignals(t *testing.T) {
	t.Parallel()
	for _, signal := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM} {
		t.Run(signal.String(), func(t *testing.T) {
			p := startProgram(t)
			stopWhenSaid(joinMany(t, p.addr, 20), func() { p.Process.Signal(signal) })
			if err := p.Wait(); err != nil {
				t.Error(err)
			}
		})
	}
	// Also one that a script has it ignore, as it does with what it starts in the background.
	for _, test := range []struct {
		name   string
		start  func(*testing.T) program
		signal syscall.Signal
	}{
		{"SIGTERM twice", func(t *testing.T) program { return startProgram(t) }, syscall.SIGTERM},
		{"SIGINT twice", func(t *testing.T) program { return startProgram(t) }, syscall.SIGINT},
		{"ignored SIGINT twice", func(t *testing.T) program { return startInShell(t, "trap '' INT") }, syscall.SIGINT},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := test.start(t)
			ann := joinRaw(t, p.addr) // who doesn't answer the close frame
			p.Process.Signal(test.signal)
			ann.expectClose(closeGoingAway)
			p.Process.Signal(test.signal)
			if p.Wait(); p.ProcessState.ExitCode() != 128+int(test.signal) {
				t.Error(p.ProcessState)
			}
		})
	}
}
