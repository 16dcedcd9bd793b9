// stop_test.go: how the chat stops: nothing that has been said is lost, and it takes
// bounded time.

package main

import (
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
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
	for range 5 {
		addr, stop := startServer(t, 4096)
		stopWhenSaid(joinMany(t, addr, 20), stop)
	}
}

// The same over TLS, with so many that they are not all awake when they should.
func TestStopOverTLSLosesNothing(t *testing.T) {
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

// That a deadline has passed shows that the reader was late, not that nothing has come: at
// the last call it looks once more. Under TLS each read of a record does so.
func TestLateReaderLooksOnceMore(t *testing.T) {
	hub := newHub(0)
	close(hub.lastCall)
	for name, reader := range map[string]func(net.Conn) io.Reader{
		"TCP":       func(socket net.Conn) io.Reader { return silenceReader{newConn(hub, socket)} },
		"under TLS": func(socket net.Conn) io.Reader { return patientConn{socket, hub} },
	} {
		b := make([]byte, 10)
		if n, err := reader(&lateConn{late: 1}).Read(b); err != nil || string(b[:n]) != "last words" {
			t.Errorf("%s: %q, %v", name, b[:n], err)
		}
		if n, err := reader(&lateConn{late: 2}).Read(b); n != 0 || err == nil {
			t.Errorf("%s: it waits for ever: %d bytes, %v", name, n, err)
		}
	}
}

// lateConn is a connection whose deadline passes so often before something is read.
type lateConn struct {
	net.Conn
	late int
}

func (c *lateConn) SetReadDeadline(time.Time) error { return nil }

func (c *lateConn) Read(b []byte) (int, error) {
	if c.late--; c.late >= 0 {
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
		talkPast(t, ann, 2*sendQueue)
		var others sync.WaitGroup
		defer others.Wait()
		began := time.Now()
		others.Go(stop)
		ann.expectClose(closeGoingAway)
		ann.Conn.Close()
		if took := time.Since(began); took != 2*lastPause {
			t.Errorf("told after %v, want %v", took, 2*lastPause)
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
				time.Sleep(lastPause / 2)
			}
		})
		for at := time.Duration(0); at < lastWords; at += lastPause / 2 {
			bob.expect(websocket.TextFrame, "and another thing")
		}
		if heard := linesUntilClosed(bob); heard > 1 {
			t.Errorf("heard %d lines more", heard)
		}
		if took := time.Since(began); took != lastWords {
			t.Errorf("stopped after %v, want %v", took, lastWords)
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
		if took := time.Since(began); took > 2*lastPause+closeWait {
			t.Errorf("stopped after %v", took)
		}
	})
}

func TestHandshakeWhenTheChatStops(t *testing.T) {
	hub := newHub(0)
	close(hub.lastCall)
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
	for _, signal := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM} {
		t.Run(signal.String(), func(t *testing.T) {
			p := startProgram(t)
			stopWhenSaid(joinMany(t, p.addr, 20), func() { p.Process.Signal(signal) })
			if err := p.Wait(); err != nil {
				t.Error(err)
			}
		})
	}
	t.Run("twice", func(t *testing.T) {
		p := startProgram(t)
		ann := joinRaw(t, p.addr) // who doesn't answer the close frame
		p.Process.Signal(syscall.SIGTERM)
		ann.expectClose(closeGoingAway)
		p.Process.Signal(syscall.SIGTERM)
		err := p.Wait()
		if exit, ok := err.(*exec.ExitError); !ok || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGTERM {
			t.Error(err)
		}
	})
}
