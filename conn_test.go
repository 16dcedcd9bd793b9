package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/websocket"

	"example.com/chat/internal/ws"
	"example.com/chat/internal/wstest"
	"example.com/chat/internal/wstest/rfc6455"
)

func TestTwoPeopleHearEachOther(t *testing.T) {
	addr, _ := startServer(t, 4096)
	ann, bob := wstest.DialWS(t, addr), wstest.DialWS(t, addr)
	annHears, bobHears := wstest.LinesOf(t, ann), wstest.LinesOf(t, bob)
	for _, turn := range []struct {
		who  *websocket.Conn
		text string
	}{
		{ann, "hello"}, {bob, "hello yourself"}, {ann, "häßlich, 漢字, 🙂"}, {bob, ""}, {ann, " spaces stay "},
	} {
		wstest.Say(t, turn.who, turn.text)
		if a, b := annHears(), bobHears(); a != turn.text || b != turn.text {
			t.Errorf("said %q, heard %q and %q", turn.text, a, b)
		}
	}
}

func TestLineBreaksBecomeSpaces(t *testing.T) {
	addr, _ := startServer(t, 4096)
	ws := wstest.DialWS(t, addr)
	wstest.Say(t, ws, "one\ntwo\n\nthree\n")
	if got := wstest.LinesOf(t, ws)(); got != "one two  three " {
		t.Errorf("heard %q", got)
	}
}

// Before the whole of the handshake's answer is even written, the Conn hears.
func TestPeerIsInTheHubBeforeItKnows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, _ := startInBubble(t)
		ann := wstest.Upgrade(t, l.Dial(t), "/ws")

		bob := l.Dial(t)
		bob.Write([]byte(wstest.Request("/ws")))
		first := make([]byte, 1)
		bob.Read(first)
		ann.Send(websocket.TextFrame, "do you hear me?")
		ann.Expect(websocket.TextFrame, "do you hear me?")

		rest := make([]byte, 4096)
		n, _ := bob.Read(rest)
		if answer := string(first) + string(rest[:n]); !strings.HasPrefix(answer, "HTTP/1.1 101 ") || !strings.HasSuffix(answer, "\r\n\r\n") {
			t.Fatalf("handshake answered with %q", answer)
		}
		(wstest.NewClient(t, bob)).Expect(websocket.TextFrame, "do you hear me?")
	})
}

// A client that doesn't wait for the handshake's answer is heard all the same.
func TestFrameRightBehindTheHandshake(t *testing.T) {
	addr, _ := startServer(t, 4096)
	conn := wstest.Dial(t, addr)
	p := wstest.NewClient(t, conn)
	p.Write(append([]byte(wstest.Request("/ws")), wstest.Frame(0x81, "in a hurry")...))
	if err := p.ReadHandshake(); err != nil {
		t.Fatal(err)
	}
	p.Expect(websocket.TextFrame, "in a hurry")
}

// A silent peer is pinged; one that speaks shows by itself that it lives.
func TestServerPings(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := joinInBubble(t)
		for range 5 {
			start := time.Now()
			p.Expect(websocket.PingFrame, "")
			if got := time.Since(start); got < pingPeriod || got > pingPeriod+sweepPeriod {
				t.Fatalf("a ping came after %v", got)
			}
			p.Send(websocket.PongFrame, "")
		}
		for range 10 {
			time.Sleep(pingPeriod / 2)
			p.Send(websocket.TextFrame, "hello")
			if opcode, payload, err := p.ReadFrame(); err != nil || opcode != websocket.TextFrame {
				t.Fatalf("got %s, %v; want the line and no ping", wstest.Show(opcode, payload), err)
			}
		}
	})
}

// Anything that comes counts as life, even a frame that is never finished.
func TestSilentPeerIsDropped(t *testing.T) {
	for name, say := range map[string]func(*wstest.Client){
		"silent":      func(p *wstest.Client) {},
		"pong":        func(p *wstest.Client) { p.Send(websocket.PongFrame, "") },
		"text":        func(p *wstest.Client) { p.Send(websocket.TextFrame, "hello") },
		"half header": func(p *wstest.Client) { p.Write([]byte{0x81}) },
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
					if _, _, err := p.ReadFrame(); err != nil {
						break
					}
				}
				want := pongWait
				if name != "silent" {
					want += 40 * time.Second
				}
				if got := time.Since(start); got < want || got > want+sweepPeriod {
					t.Errorf("dropped after %v, want %v, or up to %v more", got, want, sweepPeriod)
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
		ann, bob := wstest.Upgrade(t, l.Dial(t), "/ws"), wstest.Upgrade(t, l.Dial(t), "/ws")
		sayLong(ann, said)
		start := time.Now()
		for heard := 0; heard < said; time.Sleep(writeWait - sweepPeriod) {
			opcode, message, err := bob.ReadFrame()
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

// startLimited runs the chat with the limit of rfc6455 until the end of the test.
func startLimited(t testing.TB) (addr string) {
	addr, _ = startServer(t, rfc6455.Limit)
	return addr
}

// The chat keeps the protocol as internal/ws does, but for binary messages, which it refuses.
func TestRFC6455(t *testing.T) {
	t.Parallel()
	rfc6455.Server{Start: startLimited, Target: "/ws", TextOnly: true}.Test(t)
}

func TestRFC6455InPieces(t *testing.T) {
	if !wstest.Long() {
		t.Skip("internal/ws has the same; with CHAT_TEST_LONG here, too")
	}
	t.Parallel()
	rfc6455.Server{Start: startLimited, Target: "/ws", TextOnly: true}.TestInPieces(t)
}

// A peer that pings without reading gets pongs in order, the last of them in any case (RFC 6455,
// section 5.5.3), and then the line that it said behind them.
func TestManyPings(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const pings = 1000
		p := joinInBubble(t)
		var frames []byte
		for n := range pings {
			frames = append(frames, wstest.Frame(0x89, fmt.Sprint(n))...)
		}
		p.Write(append(frames, wstest.Frame(0x81, "and a line")...))
		synctest.Wait()
		last := -1
		for last < pings-1 {
			opcode, payload, err := p.ReadFrame()
			n, _ := strconv.Atoi(payload)
			if opcode != websocket.PongFrame || err != nil || n <= last {
				t.Fatalf("got %s, %v, behind pong %d of %d", wstest.Show(opcode, payload), err, last, pings)
			}
			last = n
		}
		p.Expect(websocket.TextFrame, "and a line")
	})
}

// Lines that came with something wrong behind them are heard; what is behind that is not.
func TestLinesBeforeARefusal(t *testing.T) {
	for _, test := range []struct {
		name, frame string
		code        int
	}{
		{"a close frame", string(wstest.Frame(0x88, "\x03\xe8")), ws.CloseNormalClosure},
		{"binary", string(wstest.Frame(0x82, "x")), ws.CloseUnsupportedData},
		{"an unknown opcode", string(wstest.Frame(0x83, "x")), ws.CloseProtocolError},
		{"no mask", "\x81\x01x", ws.CloseProtocolError},
		{"no UTF-8", string(wstest.Frame(0x81, "this is not UTF-8: \xff")), ws.CloseInvalidFramePayloadData},
		{"too long", string(wstest.Frame(0x81, strings.Repeat("x", defaults.maxMessage+1))), ws.CloseMessageTooBig},
	} {
		t.Run(test.name, func(t *testing.T) {
			addr, _ := startServer(t, defaults.maxMessage)
			ann, bob := wstest.Join(t, addr), wstest.Join(t, addr)
			bob.Write(slices.Concat(wstest.Frames(2, 0x81, "a line"), []byte(test.frame), wstest.Frame(0x81, "and what is not heard any more")))
			ann.ExpectLines("a line", "a line")
			bob.ExpectLines("a line", "a line")
			bob.ExpectClose(test.code)
			ann.Send(websocket.TextFrame, "the next line")
			ann.Expect(websocket.TextFrame, "the next line")
		})
	}
}

// x/net's own pong fails when the write deadline of the last message has passed.
func TestPingIsAnsweredLongAfterTheLastMessage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := joinInBubble(t)
		p.Send(websocket.TextFrame, "hello")
		p.Expect(websocket.TextFrame, "hello")
		for i := range 5 {
			time.Sleep(writeWait + 1)
			payload := strings.Repeat("x", i*125/4)
			p.Send(websocket.PingFrame, payload)
			p.Expect(websocket.PongFrame, payload)
		}
	})
}

// A write that takes longer than writeWait, be it of a pong, breaks the connection off.
func TestWriteTakesTenSecondsAtMost(t *testing.T) {
	for name, write := range map[string]func(ann, bob *wstest.Client){
		"line": func(ann, bob *wstest.Client) {
			ann.Send(websocket.TextFrame, "bob does not read this")
			ann.Expect(websocket.TextFrame, "bob does not read this")
		},
		"pong": func(ann, bob *wstest.Client) { bob.Send(websocket.PingFrame, "bob does not read the answer") },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l, _ := startInBubble(t)
				ann, bob := wstest.Upgrade(t, l.Dial(t), "/ws"), wstest.Upgrade(t, l.Dial(t), "/ws")
				write(ann, bob)
				time.Sleep(writeWait)
				bob.Send(websocket.PongFrame, "")
				time.Sleep(sweepPeriod + time.Nanosecond)
				if _, err := bob.Conn.Write(wstest.Frame(0x8a, "")); err == nil {
					t.Error("still connected after writeWait")
				}
			})
		})
	}
}

// A peer that is refused while it sends reads the close code, not a reset.
func TestRefusedPeerReadsWhy(t *testing.T) {
	addr, _ := startServer(t, 4096)
	p := wstest.Join(t, addr)
	p.Send(websocket.TextFrame, strings.Repeat("x", 8<<20))
	p.ExpectClose(ws.CloseMessageTooBig)
}

// After its close frame, which it sends at once, or when it stops after a pause, the
// server closes its half, and the other half when the peer does, or after closeWait.
func TestClosingTakesFiveSecondsAtMost(t *testing.T) {
	for _, test := range []struct {
		name  string
		after time.Duration
		start func(p *wstest.Client, stop func())
	}{
		{"peer closes", 0, func(p *wstest.Client, _ func()) { p.Send(websocket.CloseFrame, "\x03\xe8") }},
		{"peer is refused", 0, func(p *wstest.Client, _ func()) { p.Send(websocket.BinaryFrame, "") }},
		{"server stops", 2 * drainIdle, func(_ *wstest.Client, stop func()) { go stop() }},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l, stop := startInBubble(t)
				p := wstest.Upgrade(t, l.Dial(t), "/ws")
				began := time.Now()
				test.start(p, stop)
				if opcode, payload, err := p.ReadFrame(); err != nil || opcode != websocket.CloseFrame {
					t.Fatalf("got %s, %v; want a close frame", wstest.Show(opcode, payload), err)
				}
				if _, err := p.In.ReadByte(); err != io.EOF || time.Since(began) != test.after {
					t.Errorf("%v after %v; want EOF after %v", err, time.Since(began), test.after)
				}
				talkUntilClosed(p, closeWait)
			})
		})
	}
}

// A peer that says much and hangs up at once, without reading, is heard to the end, even with -rate.
func TestSaidAndGone(t *testing.T) {
	t.Parallel()
	for _, rate := range []int{0, 2000} {
		t.Run(fmt.Sprint("rate ", rate), func(t *testing.T) {
			const said = 3000
			cfg := defaults
			cfg.rate = rate
			addr, _, _ := startWith(t, cfg)
			ann, bob := wstest.Join(t, addr), wstest.Dial(t, addr)
			var packet []byte
			for _, line := range wstest.Numbered(0, said) {
				packet = append(packet, wstest.Frame(0x81, line)...)
			}
			wstest.Upgrade(t, bob, "/ws").Write(packet)
			bob.Close()
			ann.ExpectLines(wstest.Numbered(0, said)...)
		})
	}
}

// A peer that says more than -rate and hangs up is heard at that rate, for closeWait and
// no longer; then others find room.
func TestSaidTooMuchAndGone(t *testing.T) {
	t.Parallel()
	const rate, said = 20, 5000
	cfg := defaults
	cfg.rate, cfg.maxConns = rate, 4
	addr, rooms, _ := startWith(t, cfg)
	ann := wstest.Join(t, addr)
	go io.Copy(io.Discard, ann.In)
	for range 3 {
		bob := wstest.Join(t, addr)
		bob.Write(wstest.Frames(said, 0x81, "x"))
		bob.Conn.Close()
	}
	untilOpen(t, rooms, 1)
	heard := int(rooms.counters.linesIn.Value())
	most := 3 * rate * int(1+closeWait/time.Second)
	if heard < most/2 || heard > most+3*rate {
		t.Errorf("heard %d messages of %d, want up to %d", heard, 3*said, most)
	}
	wstest.Join(t, addr)
}

// A peer may close its half of the connection right behind its close frame.
func TestPeerClosesItsHalf(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := joinInBubble(t)
		p.Send(websocket.TextFrame, "last words")
		p.Send(websocket.CloseFrame, "\x03\xe8")
		p.Conn.(interface{ CloseWrite() error }).CloseWrite()
		synctest.Wait()
		p.Expect(websocket.TextFrame, "last words")
		p.ExpectClose(1000)
	})
}

// A peer that breaks off in the middle of a frame harms no other.
func TestPeerVanishesInTheMiddleOfAFrame(t *testing.T) {
	addr, _ := startServer(t, 4096)
	ann := wstest.DialWS(t, addr)
	annHears := wstest.LinesOf(t, ann)
	for _, linger := range []int{-1, 0} { // with a FIN, with a reset
		frame := wstest.Frame(0x81, "never finished")
		for cut := 1; cut < len(frame); cut++ {
			p := wstest.Join(t, addr)
			p.Write(frame[:cut])
			p.Conn.(*net.TCPConn).SetLinger(linger)
			p.Conn.Close()
			text := fmt.Sprint("still here ", linger, cut)
			wstest.Say(t, ann, text)
			if got := annHears(); got != text {
				t.Fatalf("heard %q, want %q", got, text)
			}
		}
	}
}

// Beside its own, pages of these origins may connect.
func TestFurtherOrigins(t *testing.T) {
	cfg := defaults
	cfg.origins, _ = ws.ParseOrigins("https://a.example")
	addr, rooms, _ := startWith(t, cfg)
	for origin, status := range map[string]int{"https://a.example": 101, "https://b.example": 403, "http://" + addr: 101} {
		if got := wstest.Handshake(t, addr, http.Header{"Origin": {origin}}); got.StatusCode != status {
			t.Errorf("%s: status %s, want %d", origin, got.Status, status)
		}
	}
	if got := rooms.counters.refused.Get("other origin").String(); got != "1" {
		t.Errorf("%s refusals are counted", got)
	}
}

// A full room is closed to everyone else, until someone leaves. The page is still there,
// and may ask with a plain request.
func TestFullRoom(t *testing.T) {
	cfg := defaults
	cfg.maxConns = 3
	addr, rooms, _ := startWith(t, cfg)
	peers := wstest.JoinMany(t, addr, cfg.maxConns)
	for range 3 {
		response := wstest.Handshake(t, addr, nil)
		if response.StatusCode != 503 || response.Header.Get("Retry-After") != retryAfter {
			t.Errorf("status %s, Retry-After %q", response.Status, response.Header.Get("Retry-After"))
		}
	}
	for path, status := range map[string]int{"/": 200, "/ws": 503} {
		if response := wstest.Get(t, addr, path); response.StatusCode != status {
			t.Errorf("%s: status %s, want %d", path, response.Status, status)
		}
	}
	peers[0].Send(websocket.CloseFrame, "")
	peers[0].ExpectClose(ws.CloseNoStatusReceived)
	peers[0].Conn.Close()
	untilOpen(t, rooms, int64(cfg.maxConns)-1)
	peers[0] = wstest.Join(t, addr)
	peers[0].Send(websocket.TextFrame, "here we are")
	for _, p := range peers {
		p.Expect(websocket.TextFrame, "here we are")
	}
	if response := wstest.Get(t, addr, "/ws"); response.StatusCode != 503 {
		t.Errorf("status %s", response.Status)
	}
}

// However many come at the same time, no more than -max-conns get in.
func TestRushForAFullRoom(t *testing.T) {
	cfg := defaults
	cfg.maxConns = 5
	addr, rooms, _ := startWith(t, cfg)
	statuses := make(chan int)
	for range 50 {
		p := wstest.NewClient(t, wstest.Dial(t, addr))
		go func() {
			p.Write([]byte(wstest.Request("/ws")))
			response, err := http.ReadResponse(p.In, nil)
			if err != nil {
				t.Error(err)
				response = new(http.Response)
			}
			statuses <- response.StatusCode
		}()
	}
	answers := map[int]int{}
	for range 50 {
		answers[<-statuses]++
	}
	if answers[101] != 5 || answers[503] != 45 {
		t.Errorf("answered with %v", answers)
	}
	if got := rooms.counters.connections.Value(); got != 5 {
		t.Errorf("%d are counted", got)
	}
}

// A peer that speaks faster than -rate is heard at that rate, and whole.
func TestRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const rate, said = 10, 100
		cfg := defaults
		cfg.rate = rate
		l, _ := startInBubbleWith(t, cfg)
		ann, bob := wstest.Upgrade(t, l.Dial(t), "/ws"), wstest.Upgrade(t, l.Dial(t), "/ws")
		began := time.Now()
		go func() {
			for _, line := range wstest.Numbered(0, said) {
				ann.Send(websocket.TextFrame, line)
			}
		}()
		go io.Copy(io.Discard, ann.In)
		next := bob.Lines()
		for i, line := range wstest.Numbered(0, said) {
			if got, err := next(); err != nil || got != line {
				t.Fatalf("heard %q, %v; want %q", got, err, line)
			}
			at, want := time.Since(began), time.Duration(max(0, i-rate+1))*time.Second/rate
			if at < want || at > want+lagPeriod {
				t.Fatalf("heard %q after %v, want %v", line, at, want)
			}
		}
	})
}

// A rest ends when the chat stops, and what was waiting then is handed on.
func TestRateWhenTheChatStops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := defaults
		cfg.rate = 1
		l, stop := startInBubbleWith(t, cfg)
		ann := wstest.Upgrade(t, l.Dial(t), "/ws")
		go func() {
			for _, line := range wstest.Numbered(0, 50) {
				if _, err := ann.Conn.Write(wstest.Frame(0x81, line)); err != nil {
					return
				}
			}
		}()
		ann.Expect(websocket.TextFrame, "line 0")
		go stop()
		var heard []string
		for next := ann.Lines(); len(heard) < 49; {
			line, err := next()
			if err != nil {
				t.Fatal(err)
			}
			heard = append(heard, line)
		}
		if !slices.Equal(heard, wstest.Numbered(1, 50)) {
			t.Errorf("heard %q", heard)
		}
		ann.ExpectClose(ws.CloseGoingAway)
	})
}

// What a peer asks for with ?since= is not kept while it is connected.
func TestLongSinceIsNotKept(t *testing.T) {
	const conns, length = 200, 12 << 10
	addr, rooms, _ := startWith(t, defaults)
	join := func(since string) (heap uint64) {
		for range conns {
			wstest.Upgrade(t, wstest.Dial(t, addr), "/ws?since="+since)
		}
		untilOpen(t, rooms, rooms.counters.connections.Value())
		var memory runtime.MemStats
		runtime.GC()
		runtime.GC() // what was in a sync.Pool
		runtime.ReadMemStats(&memory)
		return memory.HeapAlloc
	}
	none := join("x")
	short := join("x") - none
	if long := join(strings.Repeat("x", length)) - none - short; int64(long)-int64(short) > conns*length/2 {
		t.Errorf("%d connections take %d bytes, and %d with a long since", conns, short, long)
	}
}
