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

// BenchmarkBesideAFlood measures how long a line takes in a quiet room while ten clients say what they can:
// nowhere, in another program, in another room, in the same room. The machine is as busy beside another
// program as beside another room, so that is as good as it gets.
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

// flooded has ten clients say what they can in a room, and hear what is said.
func flooded(b *testing.B, addr, target string) {
	for range 10 {
		p := wstest.Upgrade(b, wstest.Dial(b, addr), target)
		p.Conn.SetDeadline(time.Time{})
		go wstest.Flood(p.Conn, wstest.Frames(50, 0x81, strings.Repeat("x", 64)))
		go io.Copy(io.Discard, p.In)
	}
}

// talk has one client say a line when another has heard the one before, and returns how long each took.
func talk(b *testing.B, addr, target string) (took []time.Duration) {
	ann, bob := wstest.Upgrade(b, wstest.Dial(b, addr), target), wstest.Upgrade(b, wstest.Dial(b, addr), target)
	for _, p := range []*wstest.Client{ann, bob} {
		p.Conn.SetDeadline(time.Time{})
	}
	go io.Copy(io.Discard, ann.In)
	next := bob.Lines()
	for b.Loop() {
		said := time.Now()
		want := fmt.Sprint("line ", len(took))
		ann.Send(websocket.TextFrame, want)
		for line := ""; line != want; {
			var err error
			if line, err = next(); err != nil {
				b.Fatal(err)
			}
		}
		took = append(took, time.Since(said))
	}
	return took
}
