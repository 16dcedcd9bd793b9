package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/websocket"

	"example.com/chat/internal/stream"
	"example.com/chat/internal/ws"
	"example.com/chat/internal/wstest"
	"example.com/chat/internal/wstest/rfc6455"
)

func TestTwoPeopleHearEachOther(t *testing.T) {
	c := startChat(t)
	ann, bob := wstest.DialWS(t, c.addr), wstest.DialWS(t, c.addr)
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
	c := startChat(t)
	ws := wstest.DialWS(t, c.addr)
	wstest.Say(t, ws, "one\ntwo\n\nthree\n")
	if got := wstest.LinesOf(t, ws)(); got != "one two  three " {
		t.Errorf("heard %q", got)
	}
}

// The Conn gets lines before the answer to its handshake is written.
func TestPeerIsInTheHubBeforeItKnows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := startChat(t, inMemory)
		ann := c.join("/ws")

		bob := c.dial()
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

// A client may send lines before its handshake is answered.
func TestFrameRightBehindTheHandshake(t *testing.T) {
	c := startChat(t)
	conn := c.dial()
	p := wstest.NewClient(t, conn)
	p.Write(append([]byte(wstest.Request("/ws")), wstest.Frame(0x81, "in a hurry")...))
	if err := p.ReadHandshake(); err != nil {
		t.Fatal(err)
	}
	p.Expect(websocket.TextFrame, "in a hurry")
}

// The Hub pings a silent peer every 20 s, and no other.
func TestServerPings(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := startChat(t, inMemory).join("/ws")
		for range 5 {
			start := time.Now()
			p.Expect(websocket.PingFrame, "")
			if got := time.Since(start); got < 20*time.Second || got > 21*time.Second {
				t.Fatalf("a ping came after %v", got)
			}
			p.Send(websocket.PongFrame, "")
		}
		for range 10 {
			time.Sleep(10 * time.Second)
			p.Send(websocket.TextFrame, "hello")
			if opcode, payload, err := p.ReadFrame(); err != nil || opcode != websocket.TextFrame {
				t.Fatalf("got %s, %v; want the line and no ping", wstest.Show(opcode, payload), err)
			}
		}
	})
}

// A peer is dropped after 60 s of silence. Any byte ends a silence, even of a frame that is never finished.
func TestSilentPeerIsDropped(t *testing.T) {
	for name, say := range map[string]func(*wstest.Client){
		"silent":      func(p *wstest.Client) {},
		"pong":        func(p *wstest.Client) { p.Send(websocket.PongFrame, "") },
		"text":        func(p *wstest.Client) { p.Send(websocket.TextFrame, "hello") },
		"half header": func(p *wstest.Client) { p.Write([]byte{0x81}) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := startChat(t, inMemory).join("/ws")
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
				want := 60 * time.Second
				if name != "silent" {
					want += 40 * time.Second
				}
				if got := time.Since(start); got < want || got > want+time.Second {
					t.Errorf("dropped after %v, want %v or up to 1 s more", got, want)
				}
			})
		})
	}
}

// A ping may be long on its way. While something waits to be written, the peer does not count as silent.
func TestSlowLineIsNotSilence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const said = 200
		c := startChat(t, inMemory)
		ann, bob := c.join("/ws"), c.join("/ws")
		sayLong(ann, said)
		start := time.Now()
		for heard := 0; heard < said; time.Sleep(9 * time.Second) {
			opcode, message, err := bob.ReadFrame()
			if err != nil {
				t.Fatalf("heard %d lines in %v, then %v", heard, time.Since(start), err)
			}
			if opcode == websocket.TextFrame {
				heard += 1 + strings.Count(message, "\n")
			}
		}
		if took := time.Since(start); took <= 61*time.Second {
			t.Errorf("the line was not slow: %v", took)
		}
	})
}

// The chat keeps the rules of internal/wstest/rfc6455, except that it refuses binary messages.
func TestRFC6455(t *testing.T) {
	t.Parallel()
	rfc6455.Server{Start: startLimited, Target: "/ws", TextOnly: true}.Test(t)
}

// The same holds wherever TCP cuts the bytes.
func TestRFC6455InPieces(t *testing.T) {
	if !wstest.Long() {
		t.Skip("internal/ws has the same test; CHAT_TEST_LONG=1 runs it here, too")
	}
	t.Parallel()
	rfc6455.Server{Start: startLimited, Target: "/ws", TextOnly: true}.TestInPieces(t)
}

// startLimited starts a chat with the message limit of package rfc6455.
func startLimited(t testing.TB) (addr string) {
	return startChat(t, with(func(cfg *config) { cfg.maxMessage = rfc6455.Limit })).addr
}

// A peer that pings without reading, with frames or with commands, gets answers in order, the last one in any case
// (RFC 6455, section 5.5.3), and then the line that it said after the pings.
func TestManyPings(t *testing.T) {
	for opcode, form := range map[byte]string{websocket.PingFrame: "%d", websocket.BinaryFrame: `{"ping":%d}`} {
		synctest.Test(t, func(t *testing.T) {
			const pings = 1000
			p := startChat(t, inMemory).join("/ws?events")
			readEvent(t, p)
			var frames []byte
			for n := range pings {
				frames = append(frames, wstest.Frame(0x80|opcode, fmt.Sprintf(form, n))...)
			}
			p.Write(append(frames, wstest.Frame(0x81, "and a line")...))
			time.Sleep(time.Second)
			answers, last := 0, -1
			for ; last < pings-1; answers++ {
				opcode, payload, err := p.ReadFrame()
				n, _ := strconv.Atoi(payload)
				if e, ok := eventIn(t, opcode, payload); ok && e.Pong != nil {
					n = int(*e.Pong)
				}
				if err != nil || n <= last {
					t.Fatalf("got %s, %v, behind answer %d of %d", wstest.Show(opcode, payload), err, last, pings)
				}
				last = n
			}
			if err := p.Hear("and a line"); err != nil {
				t.Error(err)
			}
			if answers > 100 {
				t.Errorf("opcode %d: got %d answers, want few, because most of them are replaced while they wait", opcode, answers)
			}
		})
	}
}

// A client with ?events may send commands, between its lines, in fragments, and longer than -max-message. A ping is
// answered at once, with its number and the time. Keys that the server does not know are ignored. Commands are no
// lines, so a sender does not number them.
func TestCommands(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := startChat(t, inMemory, with(func(cfg *config) { cfg.maxMessage = 12 }))
		other, p := c.join("/ws"), c.join("/ws?events&sender=ann.0")
		readEvent(t, p)
		for _, test := range []struct {
			frames string
			pong   float64
		}{
			{string(wstest.Frame(0x82, `{"ping":7}`)), 7},
			{string(wstest.Frame(0x02, `{"pi`)) + string(wstest.Frame(0x89, "")) + string(wstest.Frame(0x80, `ng":-0.5}`)), -0.5},
			{string(wstest.Frame(0x82, `{"other":"`+strings.Repeat("x", 4096-21)+`","ping":8}`)), 8},
			{string(wstest.Frame(0x82, `{"other":{}}`)) + string(wstest.Frame(0x82, `{"ping":9}`)), 9},
		} {
			time.Sleep(time.Second)
			began := time.Now()
			p.Write([]byte(test.frames))
			opcode, message, err := p.ReadFrame()
			if opcode == websocket.PongFrame {
				opcode, message, err = p.ReadFrame()
			}
			e, _ := eventIn(t, opcode, message)
			if err != nil || e.Pong == nil || *e.Pong != test.pong || e.Now != began.UnixMilli() || time.Since(began) > time.Millisecond || e.Page != "" {
				t.Errorf("%.60q: got %s, %v after %v; want pong %v and the time, at once", test.frames, message, err, time.Since(began), test.pong)
			}
		}
		p.Write(slices.Concat(wstest.Frame(0x81, "one"), wstest.Frame(0x82, "{}"), wstest.Frame(0x81, "two")))
		other.ExpectLines("one", "two")
		if acked := readAck(t, p); acked > 2 {
			t.Errorf("acknowledged %d messages, want at most the two lines", acked)
		}
	})
}

// What is no command is refused, and lines before it are broadcast. Only clients with ?events may send commands, of
// at most 4 KiB whatever -max-message is. The limit of lines is another one.
func TestRefusedCommands(t *testing.T) {
	for _, test := range []struct {
		target, frames string
		maxMessage     int
		code           int
	}{
		{"/ws?events", string(wstest.Frame(0x82, "")), 4096, 1007},
		{"/ws?events", string(wstest.Frame(0x82, "null")), 4096, 1007},
		{"/ws?events", string(wstest.Frame(0x82, "[]")), 4096, 1007},
		{"/ws?events", string(wstest.Frame(0x82, `{"ping":"1"}`)), 4096, 1007},
		{"/ws?events", string(wstest.Frame(0x82, "{\"\xff\":1}")), 4096, 1007},
		{"/ws?events", string(wstest.Frame(0x82, strings.Repeat(" ", 4097))), 4096, 1009},
		{"/ws?events", string(wstest.Frame(0x82, strings.Repeat(" ", 4097))), 1 << 20, 1009},
		{"/ws?events", string(wstest.Frame(0x82, strings.Repeat(" ", 4097))), 12, 1009},
		{"/ws?events", string(wstest.Frame(0x02, strings.Repeat(" ", 4000))) + string(wstest.Frame(0x80, strings.Repeat(" ", 97))), 4096, 1009},
		{"/ws?events", string(wstest.Frame(0x81, strings.Repeat("x", 13))), 12, 1009},
		{"/ws", string(wstest.Frame(0x82, `{"ping":1}`)), 4096, 1003},
		{"/ws?since", string(wstest.Frame(0x82, `{}`)), 4096, 1003},
		{"/ws?event", string(wstest.Frame(0x82, ``)), 4096, 1003},
	} {
		c := startChat(t, with(func(cfg *config) { cfg.maxMessage = test.maxMessage }))
		ann, p := c.join("/ws"), c.join(test.target)
		p.Write(append(wstest.Frame(0x81, "a line"), test.frames...))
		ann.ExpectLines("a line")
		for code := 0; code == 0; {
			opcode, message, err := p.ReadFrame()
			if code = 0; err != nil || opcode == websocket.CloseFrame {
				code = wstest.CloseCode(message)
				if code != test.code {
					t.Errorf("%s, %.60q: got close code %d, %v; want %d", test.target, test.frames, code, err, test.code)
				}
			}
		}
		p.Conn.Close()
		ann.Conn.Close() // otherwise the chat waits for it for 5 s
		c.stop()
	}
}

// Lines before a broken frame are broadcast, and those after it are not.
func TestLinesBeforeARefusal(t *testing.T) {
	for _, test := range []struct {
		name, frame string
		code        int
	}{
		{"a close frame", string(wstest.Frame(0x88, "\x03\xe8")), 1000},
		{"binary", string(wstest.Frame(0x82, "x")), 1003},
		{"an unknown opcode", string(wstest.Frame(0x83, "x")), 1002},
		{"no mask", "\x81\x01x", 1002},
		{"no UTF-8", string(wstest.Frame(0x81, "this is not UTF-8: \xff")), 1007},
		{"too long", string(wstest.Frame(0x81, strings.Repeat("x", defaults.maxMessage+1))), 1009},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := startChat(t)
			ann, bob := c.join("/ws"), c.join("/ws")
			bob.Write(slices.Concat(wstest.Frames(2, 0x81, "a line"), []byte(test.frame), wstest.Frame(0x81, "after the broken frame")))
			ann.ExpectLines("a line", "a line")
			bob.ExpectLines("a line", "a line")
			bob.ExpectClose(test.code)
			ann.Send(websocket.TextFrame, "the next line")
			ann.Expect(websocket.TextFrame, "the next line")
		})
	}
}

// A ping is answered long after the last message. A pong of x/net itself would fail then, because the write
// deadline of that message has passed.
func TestPingIsAnsweredLongAfterTheLastMessage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := startChat(t, inMemory).join("/ws")
		p.Send(websocket.TextFrame, "hello")
		p.Expect(websocket.TextFrame, "hello")
		for i := range 5 {
			time.Sleep(10*time.Second + 1)
			payload := strings.Repeat("x", i*125/4)
			p.Send(websocket.PingFrame, payload)
			p.Expect(websocket.PongFrame, payload)
		}
	})
}

// A write that takes longer than 10 s, even of a pong, ends the connection.
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
				c := startChat(t, inMemory)
				ann, bob := c.join("/ws"), c.join("/ws")
				write(ann, bob)
				time.Sleep(10 * time.Second)
				bob.Send(websocket.PongFrame, "")
				time.Sleep(time.Second + 1)
				if _, err := bob.Conn.Write(wstest.Frame(0x8a, "")); err == nil {
					t.Error("still connected 11 s after the write began, want closed")
				}
			})
		})
	}
}

// A peer that is refused while it sends reads the close code, and no reset.
func TestRefusedPeerReadsWhy(t *testing.T) {
	c := startChat(t)
	p := c.join("/ws")
	p.Send(websocket.TextFrame, strings.Repeat("x", 8<<20))
	p.ExpectClose(1009)
}

// The server half-closes the connection after its close frame, which it sends at once, or 0.2 s after a stop
// began. It closes the rest when the peer does, or after 5 s.
func TestClosingTakesFiveSecondsAtMost(t *testing.T) {
	for _, test := range []struct {
		name  string
		after time.Duration
		start func(p *wstest.Client, stop func())
	}{
		{"peer closes", 0, func(p *wstest.Client, _ func()) { p.Send(websocket.CloseFrame, "\x03\xe8") }},
		{"peer is refused", 0, func(p *wstest.Client, _ func()) { p.Send(websocket.BinaryFrame, "") }},
		{"server stops", 200 * time.Millisecond, func(_ *wstest.Client, stop func()) { go stop() }},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := startChat(t, inMemory)
				p := c.join("/ws")
				began := time.Now()
				test.start(p, c.stop)
				if opcode, payload, err := p.ReadFrame(); err != nil || opcode != websocket.CloseFrame {
					t.Fatalf("got %s, %v; want a close frame", wstest.Show(opcode, payload), err)
				}
				if _, err := p.In.ReadByte(); err != io.EOF || time.Since(began) != test.after {
					t.Errorf("%v after %v; want EOF after %v", err, time.Since(began), test.after)
				}
				sayUntilClosed(p, 5*time.Second)
			})
		})
	}
}

// All lines of a peer that hangs up without reading are broadcast, even with -rate.
func TestSaidAndGone(t *testing.T) {
	t.Parallel()
	for _, rate := range []int{0, 2000} {
		t.Run(fmt.Sprint("rate ", rate), func(t *testing.T) {
			const said = 3000
			c := startChat(t, with(func(cfg *config) { cfg.rate = rate }))
			ann, bob := c.join("/ws"), c.dial()
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

// With -rate, lines of a peer that hung up are broadcast at that rate for 5 s. Then its place is free.
func TestSaidTooMuchAndGone(t *testing.T) {
	t.Parallel()
	const rate, said = 20, 5000
	c := startChat(t, with(func(cfg *config) { cfg.rate, cfg.maxConns = rate, 4 }))
	ann := c.join("/ws")
	go io.Copy(io.Discard, ann.In)
	for range 3 {
		bob := c.join("/ws")
		bob.Write(wstest.Frames(said, 0x81, "x"))
		bob.Conn.Close()
	}
	c.untilOpen(1)
	heard := int(c.chat.shared.counters.LinesReceived.Value())
	most := 3 * rate * (1 + 5)
	if heard < most/2 || heard > most+3*rate {
		t.Errorf("heard %d messages of %d, want up to %d", heard, 3*said, most)
	}
	c.join("/ws")
}

// A peer may half-close the connection right after its close frame.
func TestPeerClosesItsHalf(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := startChat(t, inMemory).join("/ws")
		p.Send(websocket.TextFrame, "last words")
		p.Send(websocket.CloseFrame, "\x03\xe8")
		p.Conn.(interface{ CloseWrite() error }).CloseWrite()
		synctest.Wait()
		p.Expect(websocket.TextFrame, "last words")
		p.ExpectClose(1000)
	})
}

// A peer that hangs up within a frame harms no other.
func TestPeerVanishesInTheMiddleOfAFrame(t *testing.T) {
	c := startChat(t)
	ann := wstest.DialWS(t, c.addr)
	annHears := wstest.LinesOf(t, ann)
	for _, linger := range []int{-1, 0} { // with a FIN, with a reset
		frame := wstest.Frame(0x81, "never finished")
		for cut := 1; cut < len(frame); cut++ {
			p := c.join("/ws")
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

// Pages of -origins may connect beside the chat's own.
func TestFurtherOrigins(t *testing.T) {
	c := startChat(t, with(func(cfg *config) { cfg.origins, _ = ws.ParseOrigins("https://a.example") }))
	for origin, status := range map[string]int{"https://a.example": 101, "https://b.example": 403, "http://" + c.addr: 101} {
		if got := wstest.Handshake(t, c.addr, http.Header{"Origin": {origin}}); got.StatusCode != status {
			t.Errorf("%s: status %s, want %d", origin, got.Status, status)
		}
	}
	if got := c.chat.shared.counters.Refused.Get("other origin").String(); got != "1" {
		t.Errorf("%s refusals are counted", got)
	}
}

// A peer that sends faster than -rate is read at that rate, and loses nothing.
func TestRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const rate, said = 10, 100
		c := startChat(t, inMemory, with(func(cfg *config) { cfg.rate = rate }))
		ann, bob := c.join("/ws"), c.join("/ws")
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
			if at < want || at > want+time.Millisecond {
				t.Fatalf("heard %q after %v, want %v", line, at, want)
			}
		}
	})
}

// With -rate, frames that carry no line count as messages, so that a line after 100 of them waits as long as after 100
// lines.
func TestRateCountsFrames(t *testing.T) {
	for name, frames := range map[string]string{
		"pings":               string(wstest.Frames(100, 0x89, "")),
		"pongs":               string(wstest.Frames(100, 0x8a, "pong")),
		"fragments":           string(wstest.Frame(0x01, "")) + string(wstest.Frames(98, 0x00, "x")) + string(wstest.Frame(0x80, "")),
		"pings in a fragment": string(wstest.Frame(0x01, "")) + string(wstest.Frames(98, 0x89, "x")) + string(wstest.Frame(0x80, "")),
		"commands":            string(wstest.Frames(100, 0x82, "{}")),
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				const rate = 10
				c := startChat(t, inMemory, with(func(cfg *config) { cfg.rate = rate }))
				ann, bob := c.join("/ws?events"), c.join("/ws")
				go io.Copy(io.Discard, ann.In)
				began := time.Now()
				go ann.Conn.Write([]byte(frames + string(wstest.Frame(0x81, "line"))))
				for next := bob.Lines(); ; {
					line, err := next()
					if err != nil {
						t.Fatal(err)
					}
					if line == "line" {
						break
					}
				}
				if took, want := time.Since(began), (100+1-rate)*time.Second/rate; took < want || took > want+10*time.Millisecond {
					t.Errorf("heard the line after %v, want %v", took, want)
				}
			})
		})
	}
}

// Each kind of frame has its price without -rate, too: a line behind many frames waits until the reader has paid for
// them. internal/cpushare has the prices.
func TestEveryFrameHasItsPrice(t *testing.T) {
	const least, most = 40 * time.Millisecond, 68 * time.Millisecond // for 26 to 38 ms of work
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(2))
	for name, test := range map[string]struct {
		before string // frames before the others
		number int
		frame  []byte
	}{
		"empty pongs":           {"", 20_000, wstest.Frame(0x8a, "")},
		"long pongs":            {"", 20_000, wstest.Frame(0x8a, strings.Repeat("x", 125))},
		"pings":                 {"", 6_000, wstest.Frame(0x89, "")},
		"empty fragments":       {string(wstest.Frame(0x01, "")), 20_000, wstest.Frame(0x00, "")},
		"lines":                 {"", 10_000, wstest.Frame(0x81, strings.Repeat("x", 64))},
		"commands":              {"", 3_000, wstest.Frame(0x82, `{"ping":1}`)},
		"long commands":         {"", 80, wstest.Frame(0x82, `{"other":"`+strings.Repeat("x", 4000)+`"}`)},
		"bytes after a refusal": {string(wstest.Frame(0x82, "binary")), 20_000, wstest.Frame(0x8a, strings.Repeat("x", 125))},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := startChat(t, inMemory).join("/ws?events")
				go io.Copy(io.Discard, p.In)
				began := time.Now()
				for range test.number {
					if _, err := p.Conn.Write(append([]byte(test.before), test.frame...)); err != nil {
						t.Fatal(err)
					}
					test.before = ""
				}
				if took := time.Since(began); took < least || took > most {
					t.Errorf("the chat read %d frames in %v, want %v to %v", test.number, took, least, most)
				}
			})
		})
	}
}

// A wait for -rate ends when the chat stops, and the line that waited is broadcast.
func TestRateWhenTheChatStops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := startChat(t, inMemory, with(func(cfg *config) { cfg.rate = 1 }))
		ann := c.join("/ws")
		go func() {
			for _, line := range wstest.Numbered(0, 50) {
				if _, err := ann.Conn.Write(wstest.Frame(0x81, line)); err != nil {
					return
				}
			}
		}()
		ann.Expect(websocket.TextFrame, "line 0")
		go c.stop()
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
		ann.ExpectClose(1001)
	})
}

// A long ?since= is not in memory while its client is connected.
func TestLongSinceIsNotKept(t *testing.T) {
	const conns, length = 200, 6 << 10
	c := startChat(t)
	join := func(since string) (heap uint64) {
		for range conns {
			c.join("/ws?since=" + since)
		}
		c.untilOpen(c.chat.shared.counters.Connections.Value())
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

// A client that hangs up before it gets the answer to its handshake leaves nothing behind, whatever it asked for.
func TestHangsUpInTheHandshake(t *testing.T) {
	for _, target := range []string{"/ws", "/ws?events", "/ws?since=E.0", "/ws?events&since=E.0&sender=ann.0"} {
		synctest.Test(t, func(t *testing.T) {
			c := startChat(t, inMemory)
			ann := c.join("/ws")
			sayNumbered(t, ann, 0, 10)
			ann.Conn.Close()
			for range 3 {
				conn := c.dial()
				io.WriteString(conn, wstest.Request(target))
				conn.Close()
			}
			time.Sleep(10 * time.Second)
			hub := c.chat.rooms[""].hub
			if people, leaving, open := hub.localPeople.Load(), hub.leaving.Load(), c.chat.shared.counters.Connections.Value(); people != 0 || leaving != 0 || open != 0 {
				t.Errorf("%s: got %d people, %d who leave and %d connections, want none", target, people, leaving, open)
			}
		})
	}
}

// While the Hub drains, a read that ends late does not count as silence. The reader reads once more for each of
// them.
func TestLateReaderLooksOnceMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := newHub("", stream.New(0), newShared(&defaults))
		hub.startDrain()
		b := make([]byte, 10)
		for _, late := range []time.Duration{0, 100 * time.Millisecond} {
			conn := &lateConn{late: late, times: 1}
			if late > 0 {
				conn.times = 10
			}
			reader := socketReader{newConn(hub, hub.shared.readers.Conn(conn), nil), conn}
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

// lateConn is a connection whose first reads end late after their deadline.
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

// A connection leaves its room before its end is logged, so a log that waits costs no place of -max-conns.
func TestLeavesBeforeTheLog(t *testing.T) {
	defer slog.SetDefault(slog.Default())
	synctest.Test(t, func(t *testing.T) {
		log := make(stalledLog)
		slog.SetDefault(slog.New(log))
		c := startChat(t, inMemory)
		ann := c.join("/ws")
		ann.Send(websocket.BinaryFrame, "refused")
		ann.ExpectClose(1003)
		ann.Conn.Close()
		synctest.Wait()
		if got := c.chat.shared.counters.Connections.Value(); got != 0 {
			t.Errorf("got %d connections while the end of one is logged, want 0", got)
		}
		<-log
	})
}

// stalledLog is a slog.Handler that waits for somebody who receives from it.
type stalledLog chan struct{}

func (l stalledLog) Enabled(context.Context, slog.Level) bool  { return true }
func (l stalledLog) Handle(context.Context, slog.Record) error { l <- struct{}{}; return nil }
func (l stalledLog) WithAttrs([]slog.Attr) slog.Handler        { return l }
func (l stalledLog) WithGroup(string) slog.Handler             { return l }
