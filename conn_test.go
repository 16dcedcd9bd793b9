// conn_test.go: what a connection promises to its peer.

package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/websocket"
)

func TestTwoPeopleHearEachOther(t *testing.T) {
	addr, _ := startServer(t, 4096)
	ann, bob := join(t, addr), join(t, addr)
	annHears, bobHears := lines(t, ann), lines(t, bob)
	for _, turn := range []struct {
		who  *websocket.Conn
		text string
	}{
		{ann, "hello"}, {bob, "hello yourself"}, {ann, "häßlich, 漢字, 🙂"}, {bob, ""}, {ann, " spaces stay "},
	} {
		say(t, turn.who, turn.text)
		if a, b := annHears(), bobHears(); a != turn.text || b != turn.text {
			t.Errorf("said %q, heard %q and %q", turn.text, a, b)
		}
	}
}

func TestLineBreaksBecomeSpaces(t *testing.T) {
	addr, _ := startServer(t, 4096)
	ws := join(t, addr)
	say(t, ws, "one\ntwo\n\nthree\n")
	if got := lines(t, ws)(); got != "one two  three " {
		t.Errorf("heard %q", got)
	}
}

// Before the whole of the handshake's answer is even written, the Conn hears.
func TestPeerIsInTheHubBeforeItKnows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, _ := startInBubble(t)
		ann := upgrade(t, l.dial(t))

		bob := l.dial(t)
		bob.Write([]byte(upgradeRequest))
		first := make([]byte, 1)
		bob.Read(first)
		ann.send(websocket.TextFrame, "do you hear me?")
		ann.expect(websocket.TextFrame, "do you hear me?")

		rest := make([]byte, 4096)
		n, _ := bob.Read(rest)
		if answer := string(first) + string(rest[:n]); !strings.HasPrefix(answer, "HTTP/1.1 101 ") || !strings.HasSuffix(answer, "\r\n\r\n") {
			t.Fatalf("handshake answered with %q", answer)
		}
		(&rawPeer{bob, t, bufio.NewReader(bob)}).expect(websocket.TextFrame, "do you hear me?")
	})
}

// A client that doesn't wait for the handshake's answer is heard all the same.
func TestFrameRightBehindTheHandshake(t *testing.T) {
	addr, _ := startServer(t, 4096)
	conn := dial(t, addr)
	p := &rawPeer{conn, t, bufio.NewReader(conn)}
	p.write(append([]byte(upgradeRequest), clientFrame(0x81, "in a hurry")...))
	p.readHandshake()
	p.expect(websocket.TextFrame, "in a hurry")
}

// A silent peer is pinged; one that speaks shows by itself that it lives.
func TestServerPings(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := joinInBubble(t)
		for range 5 {
			start := time.Now()
			p.expect(websocket.PingFrame, "")
			if got := time.Since(start); got < pingPeriod || got > pingPeriod+sweepPeriod {
				t.Fatalf("a ping came after %v", got)
			}
			p.send(websocket.PongFrame, "")
		}
		for range 10 {
			time.Sleep(pingPeriod / 2)
			p.send(websocket.TextFrame, "hello")
			p.expect(websocket.TextFrame, "hello")
		}
	})
}

// Anything that comes counts as life, even a frame that is never finished.
func TestSilentPeerIsLetGo(t *testing.T) {
	for name, say := range map[string]func(*rawPeer){
		"silent":      func(p *rawPeer) {},
		"pong":        func(p *rawPeer) { p.send(websocket.PongFrame, "") },
		"text":        func(p *rawPeer) { p.send(websocket.TextFrame, "hello") },
		"half header": func(p *rawPeer) { p.write([]byte{0x81}) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := joinInBubble(t)
				go func() {
					time.Sleep(40 * time.Second)
					say(p)
				}()
				start := time.Now()
				for {
					if _, _, err := p.readFrame(); err != nil {
						break
					}
				}
				want := pongWait
				if name != "silent" {
					want += 40 * time.Second
				}
				if got := time.Since(start); got < want || got > want+sweepPeriod {
					t.Errorf("let go after %v, want %v, or up to %v more", got, want, sweepPeriod)
				}
			})
		})
	}
}

// A ping may be long on its way, and that is no silence of the peer's: as long as
// something waits to be written it is not held against it that nothing comes.
func TestSlowLineIsNotSilence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const said = 200
		l, _ := startInBubble(t)
		ann, bob := upgrade(t, l.dial(t)), upgrade(t, l.dial(t))
		sayLong(ann, said)
		start := time.Now()
		for heard := 0; heard < said; time.Sleep(writeWait - sweepPeriod) {
			opcode, message, err := bob.readFrame()
			if err != nil {
				t.Fatalf("heard %d lines in %v, then %v", heard, time.Since(start), err)
			}
			if opcode == websocket.TextFrame {
				heard += 1 + strings.Count(message, "\n")
			}
		}
		if took := time.Since(start); took <= pongWait+sweepPeriod {
			t.Errorf("the line was not slow: %v", took)
		}
	})
}

// x/net's own pong fails when the write deadline of the last message has passed.
func TestPingIsAnsweredLongAfterTheLastMessage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := joinInBubble(t)
		p.send(websocket.TextFrame, "hello")
		p.expect(websocket.TextFrame, "hello")
		for i := range 5 {
			time.Sleep(writeWait + 1)
			payload := strings.Repeat("x", i*125/4)
			p.send(websocket.PingFrame, payload)
			p.expect(websocket.PongFrame, payload)
		}
	})
}

// A write that takes longer than writeWait, be it of a pong, breaks the connection off.
func TestWriteTakesTenSecondsAtMost(t *testing.T) {
	for name, write := range map[string]func(ann, bob *rawPeer){
		"line": func(ann, bob *rawPeer) {
			ann.send(websocket.TextFrame, "bob does not read this")
			ann.expect(websocket.TextFrame, "bob does not read this")
		},
		"pong": func(ann, bob *rawPeer) { bob.send(websocket.PingFrame, "bob does not read the answer") },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l, _ := startInBubble(t)
				ann, bob := upgrade(t, l.dial(t)), upgrade(t, l.dial(t))
				write(ann, bob)
				time.Sleep(writeWait)
				bob.send(websocket.PongFrame, "")
				time.Sleep(sweepPeriod + time.Nanosecond)
				if _, err := bob.Conn.Write(clientFrame(0x8a, "")); err == nil {
					t.Error("still connected after writeWait")
				}
			})
		})
	}
}

// A peer that is refused while it sends reads the close code, not a reset.
func TestRefusedPeerReadsWhy(t *testing.T) {
	addr, _ := startServer(t, 4096)
	p := joinRaw(t, addr)
	p.send(websocket.TextFrame, strings.Repeat("x", 8<<20))
	p.expectClose(closeTooBig)
}

// After its close frame, which it sends at once, or when it stops after a pause, the
// server closes its half, and the other half when the peer does, or after closeWait.
func TestClosingTakesFiveSecondsAtMost(t *testing.T) {
	for _, test := range []struct {
		name  string
		after time.Duration
		start func(p *rawPeer, stop func())
	}{
		{"peer closes", 0, func(p *rawPeer, _ func()) { p.send(websocket.CloseFrame, "\x03\xe8") }},
		{"peer is refused", 0, func(p *rawPeer, _ func()) { p.send(websocket.BinaryFrame, "") }},
		{"server stops", 2 * drainIdle, func(_ *rawPeer, stop func()) { go stop() }},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l, stop := startInBubble(t)
				p := upgrade(t, l.dial(t))
				began := time.Now()
				test.start(p, stop)
				if opcode, payload, err := p.readFrame(); err != nil || opcode != websocket.CloseFrame {
					t.Fatalf("got %s, %v; want a close frame", show(opcode, payload), err)
				}
				if _, err := p.in.ReadByte(); err != io.EOF || time.Since(began) != test.after {
					t.Errorf("%v after %v; want EOF after %v", err, time.Since(began), test.after)
				}
				p.talksUntilClosed(closeWait)
			})
		})
	}
}

// Who says much, and hangs up at once without reading, is heard to the end, be it slowly.
func TestSaidAndGone(t *testing.T) {
	t.Parallel()
	for _, rate := range []int{0, 2000} {
		t.Run(fmt.Sprint("rate ", rate), func(t *testing.T) {
			const said = 3000
			cfg := defaults
			cfg.rate = rate
			addr, _, _ := startWith(t, cfg)
			ann, bob := joinRaw(t, addr), dial(t, addr)
			var packet []byte
			for _, line := range numbered(0, said) {
				packet = append(packet, clientFrame(0x81, line)...)
			}
			upgrade(t, bob).write(packet)
			bob.Close()
			expectLines(t, ann, numbered(0, said)...)
		})
	}
}

// Who says more than is allowed and hangs up is heard at the allowed pace, for closeWait and
// no longer; then others find room.
func TestSaidTooMuchAndGone(t *testing.T) {
	t.Parallel()
	const rate, said = 20, 5000
	cfg := defaults
	cfg.rate, cfg.maxConns = rate, 4
	addr, hub, _ := startWith(t, cfg)
	ann := joinRaw(t, addr)
	go io.Copy(io.Discard, ann.in)
	for range 3 {
		bob := joinRaw(t, addr)
		bob.write(frames(said, 0x81, "x"))
		bob.Conn.Close()
	}
	for hub.counters.connections.Load() > 1 {
		time.Sleep(10 * time.Millisecond)
	}
	heard := int(hub.counters.linesIn.Value())
	most := 3 * rate * int(1+closeWait/time.Second)
	if heard < most/2 || heard > most+3*rate {
		t.Errorf("heard %d messages of %d, want up to %d", heard, 3*said, most)
	}
	joinRaw(t, addr)
}

// A peer may close its half of the connection right behind its close frame.
func TestPeerClosesItsHalf(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := joinInBubble(t)
		p.send(websocket.TextFrame, "last words")
		p.send(websocket.CloseFrame, "\x03\xe8")
		p.Conn.(duplex).CloseWrite()
		synctest.Wait()
		p.expect(websocket.TextFrame, "last words")
		p.expectClose(1000)
	})
}

// A peer that breaks off in the middle of a frame harms nobody.
func TestPeerVanishesInTheMiddleOfAFrame(t *testing.T) {
	addr, _ := startServer(t, 4096)
	ann := join(t, addr)
	annHears := lines(t, ann)
	for _, linger := range []int{-1, 0} { // with a FIN, with a reset
		frame := clientFrame(0x81, "never finished")
		for cut := 1; cut < len(frame); cut++ {
			p := joinRaw(t, addr)
			p.write(frame[:cut])
			p.Conn.(*net.TCPConn).SetLinger(linger)
			p.Conn.Close()
			text := fmt.Sprint("still here ", linger, cut)
			say(t, ann, text)
			if got := annHears(); got != text {
				t.Fatalf("heard %q, want %q", got, text)
			}
		}
	}
}
