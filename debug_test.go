// debug_test.go: what the operator gets to see.

package main

import (
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/websocket"
)

// vars are the counters that /debug/vars shows.
type vars struct {
	Chat struct {
		Connections    int            `json:"connections"`
		Ever           int            `json:"connections_ever"`
		LinesReceived  int            `json:"lines_received"`
		LinesDelivered int            `json:"lines_delivered"`
		BytesReceived  int            `json:"bytes_received"`
		BytesDelivered int            `json:"bytes_delivered"`
		TooSlow        int            `json:"let_go_as_too_slow"`
		Silent         int            `json:"let_go_as_silent"`
		Refused        map[string]int `json:"handshakes_refused"`
	} `json:"chat"`
	Memstats struct {
		HeapAlloc, HeapInuse, Sys uint64
	} `json:"memstats"`
}

// counted reads the counters of a program.
func (p program) counted(t *testing.T) (v vars) {
	t.Helper()
	if err := json.NewDecoder(getPath(t, p.debug, "/debug/vars").Body).Decode(&v); err != nil {
		t.Fatal(err)
	}
	return v
}

func TestCounters(t *testing.T) {
	p := startProgram(t, "-debug", "127.0.0.1:0")
	ann, bob := joinRaw(t, p.addr), joinRaw(t, p.addr)
	for _, line := range []string{"one", "häuser", ""} {
		ann.send(websocket.TextFrame, line)
		ann.expect(websocket.TextFrame, line)
		bob.expect(websocket.TextFrame, line)
	}
	for range 3 {
		getPath(t, p.addr, "/ws")
	}
	handshake(t, p.addr, http.Header{"Origin": {"http://evil.example"}})
	bob.send(websocket.CloseFrame, "")
	bob.expectClose(noCode)
	bob.Conn.Close()
	var got vars
	for got = p.counted(t); got.Chat.Connections == 2; {
		got = p.counted(t)
	}
	want := vars{}.Chat
	want.Connections, want.Ever = 1, 2
	want.LinesReceived, want.LinesDelivered = 3, 6
	want.BytesReceived, want.BytesDelivered = 3+7, 2*(3+7)
	want.Refused = map[string]int{"no upgrade": 3, "other origin": 1}
	if fmt.Sprint(got.Chat) != fmt.Sprint(want) {
		t.Errorf("counted %+v, want %+v", got.Chat, want)
	}
}

// A peer that reads nothing, or says nothing, is counted when it is let go, once.
func TestLettingGoIsCounted(t *testing.T) {
	for _, test := range []struct {
		name            string
		said            int // lines, to the one who doesn't read
		then            time.Duration
		tooSlow, silent int64
	}{
		{"a write takes too long", 1, 2 * writeWait, 1, 0},
		{"nothing comes", 0, pongWait + 2*sweepPeriod, 0, 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := newPipeListener()
				hub, stop := start(l, defaults)
				t.Cleanup(stop)
				ann, bob := upgrade(t, l.dial(t)), upgrade(t, l.dial(t))
				if test.said == 0 {
					go io.Copy(io.Discard, bob.in)
				}
				talkPast(t, ann, test.said)
				go io.Copy(io.Discard, ann.in)
				time.Sleep(test.then / 2)
				ann.send(websocket.PongFrame, "")
				time.Sleep(test.then / 2)
				tooSlow, silent := hub.counters.tooSlow.Value(), hub.counters.silent.Value()
				if tooSlow != test.tooSlow || silent != test.silent {
					t.Errorf("counted %d as too slow and %d as silent", tooSlow, silent)
				}
				if got := hub.counters.connections.Load(); got != 1 {
					t.Errorf("%d connections are left", got)
				}
			})
		})
	}
}

// Profiles and counters are at -debug's address, and nowhere else.
func TestDebugHasItsOwnAddress(t *testing.T) {
	p := startProgram(t, "-debug", "127.0.0.1:0")
	for path, status := range map[string]int{"/debug/vars": 200, "/debug/pprof/": 200, "/debug/pprof/goroutine": 200, "/": 404, "/ws": 404} {
		if got := getPath(t, p.debug, path); got.StatusCode != status {
			t.Errorf("-debug %s: status %s, want %d", path, got.Status, status)
		}
	}
	for _, path := range []string{"/debug/vars", "/debug/pprof/"} {
		if got := getPath(t, p.addr, path); got.StatusCode != 404 {
			t.Errorf("-addr %s: status %s, want 404", path, got.Status)
		}
	}
}

// Whatever peers do, the log grows slowly, and says how much it leaves out.
func TestLogIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out strings.Builder
		log := slog.New(newSparing(slog.NewTextHandler(&out, nil)))
		for range 10 * logBurst {
			log.With("a", 1).WithGroup("g").Info("attack")
		}
		if got := strings.Count(out.String(), "\n"); got != logBurst {
			t.Errorf("%d lines at once, want %d", got, logBurst)
		}
		out.Reset()
		time.Sleep(logPeriod)
		log.Info("later")
		log.Info("at once again")
		if got := out.String(); strings.Count(got, "\n") != 1 || !strings.Contains(got, fmt.Sprint("msg=later left_out=", 9*logBurst)) {
			t.Errorf("%q", got)
		}
		out.Reset()
		time.Sleep(2 * logPeriod)
		log.Info("and later")
		if got := out.String(); !strings.HasSuffix(got, "msg=\"and later\" left_out=1\n") {
			t.Errorf("%q", got)
		}
	})
}

// net/http logs what crypto/tls says of a handshake, and that may have been said by a peer,
// at length.
func TestRecordsAreShort(t *testing.T) {
	c := newCertificate(t)
	p := startProgram(t, "-cert", c.certFile, "-key", c.keyFile)
	unknown := slices.Repeat([]string{strings.Repeat("\xff", 250)}, 250)
	for range 10 {
		tls.Client(dial(t, p.addr), &tls.Config{InsecureSkipVerify: true, NextProtos: unknown}).Handshake()
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
	claim := `1.2.3.4" level=ERROR msg="hacked ` + "\u202e\xff" + strings.Repeat("x", 1000)
	handshake(t, p.addr, http.Header{"X-Forwarded-For": {claim}, "Origin": {"http://evil.example/\u202e"}})
	ann := joinRaw(t, p.addr)
	ann.send(websocket.BinaryFrame, "\x1b[31m secret words")
	ann.expectClose(closeUnsupportedData)
	ann.Conn.Close()
	bob := joinRaw(t, p.addr)
	bob.send(websocket.CloseFrame, "\x0f\xa0secret reason")
	bob.expectClose(4000)
	bob.Conn.Close()
	p.Process.Signal(syscall.SIGTERM)
	if err := p.Wait(); err != nil {
		t.Error(err)
	}
	var shape strings.Builder
	for _, line := range strings.SplitAfter(p.log.String(), "\n") {
		shape.WriteString(regexp.MustCompile(`^time=\S+ |127.0.0.1:\d+`).ReplaceAllString(line, ""))
	}
	want := `level=INFO msg="the chat is open" url=http:///
level=INFO msg=refused reason="other origin" peer= claim="1.2.3.4\" level=ERROR msg=\"hacked \u202e\xff` + strings.Repeat("x", 100-len("1.2.3.4\" level=ERROR msg=\"hacked \u202e\xff")) + `"
level=INFO msg="let go" code=1003 reason="this is a text chat" peer= claim=""
level=INFO msg="the chat is closed"
`
	if shape.String() != want {
		t.Errorf("logged\n%s\nwant\n%s", shape.String(), want)
	}
}

// Without file descriptors nobody new gets in, nobody loses anything, and with the next
// free one all is well.
func TestOutOfFileDescriptors(t *testing.T) {
	t.Parallel()
	p := startInShell(t, "ulimit -n 40")
	ann, bob := joinRaw(t, p.addr), joinRaw(t, p.addr)
	var crowding []*rawPeer
	for range 60 {
		conn := dial(t, p.addr)
		conn.Write([]byte(upgradeRequest))
		crowding = append(crowding, &rawPeer{Conn: conn, t: t})
	}
	for deadline := time.Now().Add(time.Minute); !strings.Contains(p.log.String(), "too many open files"); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("there are enough: %s", p.log)
		}
	}
	for _, line := range numbered(0, 100) {
		ann.send(websocket.TextFrame, line)
		ann.expect(websocket.TextFrame, line)
		bob.expect(websocket.TextFrame, line)
	}
	for _, c := range crowding {
		c.Conn.Close()
	}
	carol := joinRaw(t, p.addr)
	carol.send(websocket.TextFrame, "there is room again")
	for _, hears := range []*rawPeer{ann, bob, carol} {
		hears.expect(websocket.TextFrame, "there is room again")
	}
}

// Connections that are no WebSockets don't take the file descriptors of those that are.
func TestIdleHTTPConnections(t *testing.T) {
	t.Parallel()
	requests := map[string]string{
		"kept alive": "GET / HTTP/1.1\r\nHost: chat\r\n\r\n",
		"half open":  "GET / HTTP/1.1\r\n",
	}
	if long {
		requests["not read"] = strings.Repeat("GET /assets/jquery.min.js HTTP/1.1\r\nHost: chat\r\n\r\n", 100)
	}
	for name, request := range requests {
		t.Run(name, func(t *testing.T) {
			p := startInShell(t, "ulimit -n 1024", "-max-conns", "500")
			ann := joinRaw(t, p.addr)
			for range 1100 {
				conn := dialWith(t, p.addr, smallBuffers)
				io.WriteString(conn, request)
			}
			began := time.Now()
			bob := joinRaw(t, p.addr)
			t.Logf("a WebSocket gets in after %v", time.Since(began))
			bob.Conn.SetDeadline(time.Now().Add(20 * time.Second)) // others last for a minute
			bob.send(websocket.TextFrame, "here I am")
			bob.expect(websocket.TextFrame, "here I am")
			ann.expect(websocket.TextFrame, "here I am")
		})
	}
}
