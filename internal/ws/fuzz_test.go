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

	"example.com/chat/internal/wstest"
	"example.com/chat/internal/wstest/rfc6455"
)

// After any input, the server has sent only valid frames, has sent nothing after a close frame, and has
// closed the connection. It has used memory in proportion to the input, and has left no goroutine.
// (ReadFrame fails the test if a frame is invalid, and synctest if a goroutine is left.)
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
			client := wstest.Upgrade(t, l.Dial(t), "/")
			go client.Conn.Write(input)
			for closed := false; ; {
				opcode, payload, err := client.ReadFrame()
				if err != nil {
					break
				}
				if closed {
					t.Fatalf("got %s after a close frame, want the end", wstest.Show(opcode, payload))
				}
				closed = opcode == websocket.CloseFrame
			}
			runtime.ReadMemStats(&after)
			if got, most := after.TotalAlloc-before.TotalAlloc, 1<<20+uint64(300*len(input)); got > most {
				t.Errorf("%d bytes of input allocated %d bytes, want at most %d", len(input), got, most)
			}
		})
	})
}

// A text arrives whole, however it is cut into fragments and mixed with control frames, and each ping is
// answered in order. A text that is not UTF-8 ends the connection with 1007.
func FuzzFragmentation(f *testing.F) {
	for i, text := range []string{"", "x", "häßlich, 漢字, 🙂", "two\nlines", "\xff", "🙂🙂🙂\xf0\x9f",
		strings.Repeat("漢", 1000)} {
		f.Add(text, uint64(i))
	}
	for seed := range uint64(10) {
		f.Add(strings.Repeat("x", 4096), seed) // dozens of pings
	}
	f.Fuzz(func(t *testing.T, text string, seed uint64) {
		text = text[:min(len(text), 4096)]
		synctest.Test(t, func(t *testing.T) {
			frames, pings := cutUp(text, rand.New(rand.NewPCG(seed, 0)))
			client := wstest.Upgrade(t, startEchoInBubble(t).Dial(t), "/")
			go client.Conn.Write(frames)
			if !utf8.ValidString(text) {
				client.ExpectClose(1007)
				return
			}
			for i := range pings {
				client.Expect(websocket.PongFrame, strconv.Itoa(i))
			}
			client.Expect(websocket.TextFrame, text)
		})
	})
}

// cutUp returns text as a message in fragments of random sizes. Before some of them is a ping, whose
// payload is its number from 0, or a pong. It also returns the number of pings.
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
