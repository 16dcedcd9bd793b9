package e2e

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/websocket"

	"example.com/chat/internal/wstest"
)

// BenchmarkBesideAFlood measures how long a line takes in a room while ten clients send lines as fast as they
// can. They are nowhere, in another program, in another room, or in the same room. The machine is as busy with
// a flood in another program as with one in another room, so the first of these is the best that the second can
// reach.
func BenchmarkBesideAFlood(b *testing.B) {
	for _, flood := range []string{"nowhere", "another program", "another room", "this room"} {
		b.Run("in="+strings.ReplaceAll(flood, " ", "-"), func(b *testing.B) {
			addr := startProgram(b).addr
			switch flood {
			case "another program":
				flooded(b, startProgram(b).addr, "/quiet/ws")
			case "another room":
				flooded(b, addr, "/flooded/ws")
			case "this room":
				flooded(b, addr, "/quiet/ws")
			}
			took := talk(b, addr, "/quiet/ws")
			slices.Sort(took)
			b.ReportMetric(float64(took[len(took)/2].Microseconds()), "p50-µs")
			b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "p99-µs")
		})
	}
}

// flooded has ten clients send lines as fast as they can in the room of target, and receive them.
func flooded(b *testing.B, addr, target string) {
	for range 10 {
		c := wstest.Upgrade(b, wstest.Dial(b, addr), target)
		c.Conn.SetDeadline(time.Time{})
		go wstest.Flood(c.Conn, wstest.Frames(50, 0x81, strings.Repeat("x", 64)))
		go io.Copy(io.Discard, c.In)
	}
}

// talk has one client send a line when another has received the one before. It returns how long each line took.
func talk(b *testing.B, addr, target string) (took []time.Duration) {
	ann, bob := wstest.Upgrade(b, wstest.Dial(b, addr), target), wstest.Upgrade(b, wstest.Dial(b, addr), target)
	for _, c := range []*wstest.Client{ann, bob} {
		c.Conn.SetDeadline(time.Time{})
	}
	go io.Copy(io.Discard, ann.In)
	next := bob.Lines()
	for b.Loop() {
		sent := time.Now()
		want := fmt.Sprint("line ", len(took))
		ann.Send(websocket.TextFrame, want)
		for line := ""; line != want; {
			var err error
			if line, err = next(); err != nil {
				b.Fatal(err)
			}
		}
		took = append(took, time.Since(sent))
	}
	return took
}
