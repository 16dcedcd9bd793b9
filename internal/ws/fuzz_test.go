package ws_test

import (
	"math/rand/v2"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"unicode/utf8"

	"golang.org/x/net/websocket"

	"example.com/chat/internal/ws"
	"example.com/chat/internal/wstest"
	"example.com/chat/internal/wstest/rfc6455"
)

// Whatever bytes follow the handshake, the server sends valid frames, then a close
// frame or nothing, and ends the connection; it takes memory in proportion to what
// has come; and nothing of it stays behind. ReadFrame fails on an invalid frame, and the
// bubble on a goroutine that waits forever.
func FuzzAnyBytes(f *testing.F) {
	for _, test := range rfc6455.Cases() {
		if len(test.Send) <= 1<<10 {
			f.Add([]byte(test.Send))
		}
	}
	f.Fuzz(func(t *testing.T, input []byte) {
		synctest.Test(t, func(t *testing.T) {
			l := startEchoInBubble(t)
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			p := wstest.Upgrade(t, l.Dial(t), "/")
			go p.Conn.Write(input)
			for closed := false; ; {
				opcode, payload, err := p.ReadFrame()
				if err != nil {
					break
				}
				if closed {
					t.Fatalf("%s behind a close frame", wstest.Show(opcode, payload))
				}
				closed = opcode == websocket.CloseFrame
			}
			runtime.ReadMemStats(&after)
			if took := after.TotalAlloc - before.TotalAlloc; took > 1<<20+uint64(300*len(input)) {
				t.Errorf("%d bytes of memory for %d bytes of input", took, len(input))
			}
		})
	})
}

// Any text survives any fragmentation, with control frames anywhere between; what
// is not UTF-8 never does. Each ping is answered, in order.
func FuzzFragmentation(f *testing.F) {
	for i, text := range []string{"", "x", "häßlich, 漢字, 🙂", "two\nlines", "\xff", "🙂🙂🙂\xf0\x9f", strings.Repeat("漢", 1000)} {
		f.Add(text, uint64(i))
	}
	for seed := range uint64(10) {
		f.Add(strings.Repeat("x", 4096), seed) // dozens of pings
	}
	f.Fuzz(func(t *testing.T, text string, seed uint64) {
		text = text[:min(len(text), 4096)]
		synctest.Test(t, func(t *testing.T) {
			frames, pings := cutUp(text, rand.New(rand.NewPCG(seed, 0)))
			p := wstest.Upgrade(t, startEchoInBubble(t).Dial(t), "/")
			go p.Conn.Write(frames)
			if !utf8.ValidString(text) {
				p.ExpectClose(ws.CloseInvalidFramePayloadData)
				return
			}
			for i := range pings {
				p.Expect(websocket.PongFrame, strconv.Itoa(i))
			}
			p.Expect(websocket.TextFrame, text)
		})
	})
}

// cutUp returns text as a message in fragments of random sizes, with pings and
// pongs before each, and the number of the pings.
func cutUp(text string, random *rand.Rand) (frames []byte, pings int) {
	opcode := byte(websocket.TextFrame)
	for final := byte(0); final == 0; opcode = websocket.ContinuationFrame {
		switch random.IntN(4) {
		case 0:
			frames = append(frames, wstest.Frame(0x89, strconv.Itoa(pings))...)
			pings++
		case 1:
			frames = append(frames, wstest.Frame(0x8a, "I am")...)
		}
		n := random.IntN(min(len(text), 40) + 1)
		if n == len(text) {
			final = 0x80
		}
		frames = append(frames, wstest.Frame(final|opcode, text[:n])...)
		text = text[n:]
	}
	return frames, pings
}
