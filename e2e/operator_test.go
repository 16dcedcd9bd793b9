package e2e

import (
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/websocket"

	"example.com/chat/internal/ws"
	"example.com/chat/internal/wstest"
)

// vars are the counters that /debug/vars shows.
type vars struct {
	Chat struct {
		Rooms         int            `json:"rooms"`
		Connections   int            `json:"connections"`
		Ever          int            `json:"connections_ever"`
		LinesReceived int            `json:"lines_received"`
		LinesSent     int            `json:"lines_sent"`
		BytesReceived int            `json:"bytes_received"`
		BytesSent     int            `json:"bytes_sent"`
		DroppedSlow   int            `json:"dropped_slow"`
		DroppedIdle   int            `json:"dropped_idle"`
		Refused       map[string]int `json:"handshakes_refused"`
	} `json:"chat"`
	Memstats struct {
		HeapAlloc, HeapInuse, Sys uint64
	} `json:"memstats"`
}

// counted reads the counters of a program.
func (p program) counted(t *testing.T) (v vars) {
	t.Helper()
	if err := json.NewDecoder(wstest.Get(t, p.debug, "/debug/vars").Body).Decode(&v); err != nil {
		t.Fatal(err)
	}
	return v
}

// Counters and the log are of all rooms together.
func TestCounters(t *testing.T) {
	p := startProgram(t, "-debug", "127.0.0.1:0")
	ann, bob := wstest.Join(t, p.addr), wstest.Join(t, p.addr)
	for _, line := range []string{"one", "häuser", ""} {
		ann.Send(websocket.TextFrame, line)
		ann.Expect(websocket.TextFrame, line)
		bob.Expect(websocket.TextFrame, line)
	}
	carl := wstest.Upgrade(t, wstest.Dial(t, p.addr), "/lobby/ws")
	carl.Send(websocket.TextFrame, "four")
	carl.Expect(websocket.TextFrame, "four")
	for range 3 {
		wstest.Get(t, p.addr, "/lobby/ws")
	}
	wstest.Handshake(t, p.addr, http.Header{"Origin": {"http://evil.example"}})
	bob.Send(websocket.CloseFrame, "")
	bob.ExpectClose(ws.CloseNoStatusReceived)
	bob.Conn.Close()
	var got vars
	wstest.Until(t, "one connection is closed", func() bool {
		got = p.counted(t)
		return got.Chat.Connections == 2
	})
	want := vars{}.Chat
	want.Rooms, want.Connections, want.Ever = 2, 2, 3
	want.LinesReceived, want.LinesSent = 4, 7
	want.BytesReceived, want.BytesSent = 3+7+4, 2*(3+7)+4
	want.Refused = map[string]int{"no upgrade": 3, "other origin": 1}
	if fmt.Sprint(got.Chat) != fmt.Sprint(want) {
		t.Errorf("counted %+v, want %+v", got.Chat, want)
	}
	if n := strings.Count(p.log.String(), "room=lobby"); n != 3 {
		t.Errorf("three refusals are logged with their room %d times: %s", n, p.log)
	}
}

// Profiles and counters are at -debug's address, and nowhere else.
func TestDebugHasItsOwnAddress(t *testing.T) {
	p := startProgram(t, "-debug", "127.0.0.1:0")
	for path, status := range map[string]int{"/debug/vars": 200, "/debug/pprof/": 200, "/debug/pprof/goroutine": 200, "/": 404, "/ws": 404} {
		if got := wstest.Get(t, p.debug, path); got.StatusCode != status {
			t.Errorf("-debug %s: status %s, want %d", path, got.Status, status)
		}
	}
	for _, path := range []string{"/debug/vars", "/debug/pprof/"} {
		if got := wstest.Get(t, p.addr, path); got.StatusCode != 404 {
			t.Errorf("-addr %s: status %s, want 404", path, got.Status)
		}
	}
}

// net/http logs what crypto/tls says of a handshake, and that may have been said by a peer,
// at length.
func TestRecordsAreShort(t *testing.T) {
	certFile, keyFile := wstest.NewCertificate(t)
	p := startProgram(t, "-cert", certFile, "-key", keyFile)
	unknown := slices.Repeat([]string{strings.Repeat("\xff", 250)}, 250)
	for range 10 {
		tls.Client(wstest.Dial(t, p.addr), &tls.Config{InsecureSkipVerify: true, NextProtos: unknown}).Handshake()
	}
	p.Process.Signal(syscall.SIGTERM)
	p.Wait()
	records := strings.SplitAfter(p.log.String(), "\n")
	if len(records) != 1+10+1+1 {
		t.Errorf("%d records: %.1000q", len(records), records)
	}
	for _, record := range records {
		if len(record) > 2000 {
			t.Errorf("a record of %d bytes: %.300s", len(record), record)
		}
	}
}

// What a peer says of itself is logged as what it says, in quotes, and not at length.
func TestLogOfPeers(t *testing.T) {
	p := startProgram(t)
	from := `1.2.3.4" level=ERROR msg="hacked ` + "\u202e\xff" + strings.Repeat("x", 1000)
	wstest.Handshake(t, p.addr, http.Header{"X-Forwarded-For": {from}, "Origin": {"http://evil.example/\u202e"}})
	ann := wstest.Join(t, p.addr)
	ann.Send(websocket.BinaryFrame, "\x1b[31m secret words")
	ann.ExpectClose(ws.CloseUnsupportedData)
	ann.Conn.Close()
	bob := wstest.Join(t, p.addr)
	bob.Send(websocket.CloseFrame, "\x0f\xa0secret reason")
	bob.ExpectClose(4000)
	bob.Conn.Close()
	p.Process.Signal(syscall.SIGTERM)
	if err := p.Wait(); err != nil {
		t.Error(err)
	}
	var shape strings.Builder
	for _, line := range strings.SplitAfter(p.log.String(), "\n") {
		shape.WriteString(regexp.MustCompile(`^time=\S+ |127.0.0.1:\d+`).ReplaceAllString(line, ""))
	}
	want := `level=INFO msg=listening url=http:///
level=INFO msg="handshake refused" reason="other origin" room="" peer= x_forwarded_for="1.2.3.4\" level=ERROR msg=\"hacked \u202e\xff` + strings.Repeat("x", 100-len("1.2.3.4\" level=ERROR msg=\"hacked \u202e\xff")) + `"
level=INFO msg="connection closed" code=1003 reason="this is a text chat" room="" peer= x_forwarded_for=""
level=INFO msg=stopped
`
	if shape.String() != want {
		t.Errorf("logged\n%s\nwant\n%s", shape.String(), want)
	}
}

// Without free file descriptors no one else gets in, no line is lost, and what is said is kept; with the
// next free one the next peer gets in.
func TestOutOfFileDescriptors(t *testing.T) {
	t.Parallel()
	state := t.TempDir()
	p := startInShell(t, "ulimit -n 40", "-state", state)
	ann, bob := wstest.Join(t, p.addr), wstest.Join(t, p.addr)
	var crowding []*wstest.Client
	for range 60 {
		conn := wstest.Dial(t, p.addr)
		conn.Write([]byte(wstest.Request("/ws")))
		crowding = append(crowding, wstest.NewClient(t, conn))
	}
	for deadline := time.Now().Add(time.Minute); !strings.Contains(p.log.String(), "too many open files"); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("there are enough: %s", p.log)
		}
	}
	for _, line := range wstest.Numbered(0, 100) {
		ann.Send(websocket.TextFrame, line)
		ann.Expect(websocket.TextFrame, line)
		bob.Expect(websocket.TextFrame, line)
	}
	wstest.Until(t, "the last line is kept", func() bool {
		kept, _ := os.ReadFile(filepath.Join(state, "room.txt"))
		return strings.Contains(string(kept), "line 99\n")
	})
	for _, c := range crowding {
		c.Conn.Close()
	}
	carol := wstest.Join(t, p.addr)
	carol.Send(websocket.TextFrame, "there is room again")
	for _, hears := range []*wstest.Client{ann, bob, carol} {
		hears.Expect(websocket.TextFrame, "there is room again")
	}
}

// Connections that are no WebSockets don't take the file descriptors of those that are.
func TestIdleHTTPConnections(t *testing.T) {
	t.Parallel()
	requests := map[string]string{
		"kept alive": "GET / HTTP/1.1\r\nHost: chat\r\n\r\n",
		"half open":  "GET / HTTP/1.1\r\n",
	}
	if wstest.Long() {
		requests["not read"] = strings.Repeat("GET /assets/jquery.min.js HTTP/1.1\r\nHost: chat\r\n\r\n", 100)
	}
	for name, request := range requests {
		t.Run(name, func(t *testing.T) {
			p := startInShell(t, "ulimit -n 1024", "-max-conns", "500")
			ann := wstest.Join(t, p.addr)
			for range 1100 {
				conn := wstest.DialWith(t, p.addr, wstest.SmallBuffers)
				io.WriteString(conn, request)
			}
			began := time.Now()
			bob := wstest.Join(t, p.addr)
			t.Logf("a WebSocket gets in after %v", time.Since(began))
			bob.Conn.SetDeadline(time.Now().Add(20 * time.Second)) // others last for a minute
			bob.Send(websocket.TextFrame, "here I am")
			bob.Expect(websocket.TextFrame, "here I am")
			ann.Expect(websocket.TextFrame, "here I am")
		})
	}
}
