// hub_test.go: what the Hub promises to everyone together.

package main

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/websocket"
)

// What one sender says arrives at everyone in the order it was said, once.
func TestOrder(t *testing.T) {
	const senders, each = 5, 40
	addr, _ := startServer(t, 4096)
	var peers []*websocket.Conn
	for range senders + 1 {
		peers = append(peers, join(t, addr))
	}

	var wg sync.WaitGroup
	for sender := range senders {
		wg.Go(func() {
			for n := range each {
				if err := websocket.Message.Send(peers[sender], fmt.Sprintf("%d says %d", sender, n)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for _, peer := range peers {
		hears := lines(t, peer)
		var next [senders]int
		for range senders * each {
			var sender, n int
			line := hears()
			if _, err := fmt.Sscanf(line, "%d says %d", &sender, &n); err != nil || n != next[sender] {
				t.Fatalf("heard %q; want them to say %d", line, next)
			}
			next[sender]++
		}
	}
	wg.Wait()
}

// Lines that wait for a peer come joined in one message.
func TestWaitingLinesAreJoined(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, _ := startInBubble(t)
		ann, bob := upgrade(t, l.dial(t)), upgrade(t, l.dial(t))
		for _, line := range []string{"one", "two", "", "four"} {
			ann.send(websocket.TextFrame, line)
			ann.expect(websocket.TextFrame, line)
			synctest.Wait()
		}
		bob.expect(websocket.TextFrame, "one") // the pump was writing it already
		bob.expect(websocket.TextFrame, "two\n\nfour")
	})
}

// Joined messages stay small, however much waits.
func TestJoiningIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const said = 100
		l, _ := startInBubble(t)
		ann, bob := upgrade(t, l.dial(t)), upgrade(t, l.dial(t))
		sayLong(ann, said)
		for heard := 0; heard < said; {
			_, message, err := bob.readFrame()
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
	t.Run("and told, if it reads too little", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			l, _ := startInBubble(t)
			ann, slow := upgrade(t, l.dial(t)), upgrade(t, l.dial(t))
			go func() { // 4 MB/s
				for line := clientFrame(0x81, strings.Repeat("x", 4096)); ; time.Sleep(time.Millisecond) {
					if _, err := ann.Conn.Write(line); err != nil {
						return
					}
				}
			}()
			go io.Copy(io.Discard, ann.in)
			for {
				opcode, payload, err := slow.readFrame()
				if opcode == websocket.CloseFrame {
					if want := string(tooSlow.frame().whole[2:]); payload != want {
						t.Errorf("got %s; want the close frame %q", show(opcode, payload), want)
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
			slow.talksUntilClosed(time.Second) // words that come late don't prolong it
		})
	})
	t.Run("and cut off, if it reads nothing", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			l, _ := startInBubble(t)
			ann, stuck := upgrade(t, l.dial(t)), upgrade(t, l.dial(t))
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
			ann, slow := upgrade(t, l.dial(t)), upgrade(t, l.dial(t))
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
func sayLong(p *rawPeer, n int) {
	p.t.Helper()
	long := strings.Repeat("x", 4096)
	for range n {
		p.send(websocket.TextFrame, long)
		p.expect(websocket.TextFrame, long)
	}
}

// talkPast has p say n lines and hear each of them, without waiting longer for any
// than it would have to if everyone were just busy.
func talkPast(t *testing.T, p *rawPeer, n int) {
	t.Helper()
	for n := range n {
		said := time.Now()
		line := fmt.Sprint("line ", n)
		p.send(websocket.TextFrame, line)
		p.expect(websocket.TextFrame, line)
		synctest.Wait()
		if waited := time.Since(said); waited > gatherPause {
			t.Errorf("waited %v for a stuck peer", waited)
		}
	}
}

// The same over TCP, whose buffers take some megabytes before a peer is stuck.
func TestStuckPeerOverTCP(t *testing.T) {
	t.Parallel()
	const said = 2000
	addr, _ := startServer(t, 4096)
	stuck := upgrade(t, dialWith(t, addr, smallBuffers))

	ann, bob := joinRaw(t, addr), joinRaw(t, addr)
	line := func(n int) string { return fmt.Sprintf("%04096d", n) }
	for n := range said {
		ann.send(websocket.TextFrame, line(n))
		ann.expect(websocket.TextFrame, line(n))
		bob.expect(websocket.TextFrame, line(n))
	}

	// What it got before it was let go is whole and in order.
	heard := 0
	for {
		opcode, message, err := stuck.readFrame()
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
