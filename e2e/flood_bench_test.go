package e2e

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/websocket"

	"example.com/chat/internal/wstest"
)

// floodVariable is the environment variable that makes this test program a flood: ADDRESS ROOMS KIND.
const floodVariable = "CHAT_TEST_FLOOD"

// floods are what a client of a flood sends: start, and then the rest again and again.
var floods = map[string]struct{ start, again string }{
	"pongs":     {"", string(wstest.Frames(10_000, 0x8a, ""))},
	"pings":     {"", string(wstest.Frames(1000, 0x89, strings.Repeat("x", 125)))},
	"fragments": {string(wstest.Frame(0x01, "x")), string(wstest.Frames(10_000, 0x00, ""))},
	"mix":       {"", strings.Repeat(string(wstest.Frame(0x8a, ""))+string(wstest.Frame(0x81, "x")), 5000)},
	"text-1":    {"", string(wstest.Frames(10_000, 0x81, "x"))},
	"text-64":   {"", string(wstest.Frames(2000, 0x81, strings.Repeat("x", 64)))},
	"text-4k":   {"", string(wstest.Frames(30, 0x81, strings.Repeat("x", 4096)))},
	"requests":  {"", strings.Repeat("GET /no/such/page HTTP/1.1\r\nHost: chat\r\n\r\n", 100)},
}

// BenchmarkBesideAFlood measures how long a line takes in a quiet room while 100 clients flood other rooms, each its own
// or ten of them one. The flood is a process with the lowest priority, so that it takes only what the chat leaves.
func BenchmarkBesideAFlood(b *testing.B) {
	for _, flood := range []struct {
		kind  string
		rooms int
	}{
		{"none", 0}, {"pongs", 100}, {"pings", 100}, {"fragments", 100}, {"mix", 100}, {"text-1", 100}, {"text-64", 100}, {"text-64", 10}, {"text-64", 1},
		{"text-4k", 100}, {"text-4k", 10}, {"requests", 1},
	} {
		b.Run(fmt.Sprintf("flood=%s/rooms=%d", flood.kind, flood.rooms), func(b *testing.B) {
			addr := startProgram(b).addr
			if flood.rooms > 0 {
				cmd := exec.Command("nice", "-n", "19", os.Args[0])
				cmd.Env = append(os.Environ(), fmt.Sprint(floodVariable, "=", addr, " ", flood.rooms, " ", flood.kind))
				start(b, cmd, syscall.SIGKILL)
				time.Sleep(time.Second)
			}
			took := talk(b, addr, "/quiet/ws")
			slices.Sort(took)
			b.ReportMetric(0, "ns/op") // most of it is the pause between two lines
			b.ReportMetric(float64(took[len(took)/2].Microseconds())/1000, "p50-ms")
			b.ReportMetric(float64(took[len(took)*99/100].Microseconds())/1000, "p99-ms")
		})
	}
}

// flood has 100 clients flood as spec, the value of floodVariable, says. It returns when one of them is refused.
func flood(spec string) error {
	var addr, kind string
	var rooms int
	if _, err := fmt.Sscan(spec, &addr, &rooms, &kind); err != nil {
		return err
	}
	sent := floods[kind]
	ended := make(chan error)
	for n := range 100 {
		conn, err := wstest.SmallBuffers.Dial("tcp", addr)
		if err != nil {
			return err
		}
		go func() {
			_, err := io.Copy(io.Discard, conn)
			ended <- err
		}()
		go func() {
			if kind != "requests" {
				io.WriteString(conn, wstest.Request(fmt.Sprintf("/flooded%d/ws", n%rooms)))
			}
			io.WriteString(conn, sent.start)
			wstest.Flood(conn, []byte(sent.again))
		}()
	}
	return <-ended
}

// talk has one client send a line each 20 ms, and another one receive it. It returns how long each line took.
func talk(b *testing.B, addr, target string) (took []time.Duration) {
	ann, bob := wstest.Upgrade(b, wstest.Dial(b, addr), target), wstest.Upgrade(b, wstest.Dial(b, addr), target)
	for _, c := range []*wstest.Client{ann, bob} {
		c.Conn.SetDeadline(time.Time{})
	}
	go io.Copy(io.Discard, ann.In)
	next := bob.Lines()
	for b.Loop() {
		time.Sleep(20 * time.Millisecond)
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
