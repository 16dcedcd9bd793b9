package e2e

import (
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/websocket"

	"example.com/chat/internal/wstest"
)

// vars decodes what /debug/vars shows.
func (p program) vars(t *testing.T, into any) {
	t.Helper()
	if err := json.NewDecoder(wstest.Get(t, p.debug, "/debug/vars").Body).Decode(into); err != nil {
		t.Fatal(err)
	}
}

// The counters have the names that docs/operations.md lists. They count all rooms together.
func TestCounters(t *testing.T) {
	p := startProgram(t, "-debug", "127.0.0.1:0")
	for _, target := range []string{"/ws", "/lobby/ws"} {
		ann := wstest.Upgrade(t, wstest.Dial(t, p.addr), target)
		ann.Send(websocket.TextFrame, "häuser")
		ann.Expect(websocket.TextFrame, "häuser")
	}
	wstest.Get(t, p.addr, "/lobby/ws")
	var vars struct{ Chat map[string]any }
	wstest.Until(t, "both lines are counted", func() bool {
		p.vars(t, &vars)
		return vars.Chat["bytes_sent"] == 14.
	})
	for name, want := range map[string]any{"rooms": 2., "connections": 2., "connections_ever": 2., "lines_received": 2., "lines_sent": 2.,
		"bytes_received": 14., "bytes_sent": 14., "handshakes_refused": map[string]any{"no upgrade": 1.}} {
		if got := vars.Chat[name]; fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%s: got %v, want %v", name, got, want)
		}
	}
	docs, err := os.ReadFile("../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(docs), "\n## Counters\n")
	section, _, _ = strings.Cut(section, "\n## ")
	var documented []string
	for _, row := range regexp.MustCompile("(?m)^\\| (`.*?) \\|").FindAllStringSubmatch(section, -1) {
		documented = append(documented, strings.Split(strings.Trim(row[1], "`"), "`, `")...)
	}
	slices.Sort(documented)
	if got := slices.Sorted(maps.Keys(vars.Chat)); !slices.Equal(got, documented) {
		t.Errorf("got counters %q, want %q as in docs/operations.md", got, documented)
	}
}

// Profiles and counters are at -debug's address, and nowhere else.
func TestDebugAddress(t *testing.T) {
	p := startProgram(t, "-debug", "127.0.0.1:0")
	for url, want := range map[[2]string]int{
		{p.debug, "/debug/vars"}: 200, {p.debug, "/debug/pprof/goroutine"}: 200, {p.debug, "/"}: 404, {p.debug, "/ws"}: 404,
		{p.addr, "/debug/vars"}: 404, {p.addr, "/debug/pprof/"}: 404,
	} {
		if got := wstest.Get(t, url[0], url[1]).StatusCode; got != want {
			t.Errorf("%s: got status %d, want %d", url, got, want)
		}
	}
}

// The record of a failed TLS handshake is short, although net/http's message quotes up to 64 KiB of what the
// peer sent.
func TestRecordsAreShort(t *testing.T) {
	certFile, keyFile := wstest.NewCertificate(t)
	p := startProgram(t, "-cert", certFile, "-key", keyFile)
	unknown := slices.Repeat([]string{strings.Repeat("\xff", 250)}, 250)
	tls.Client(wstest.Dial(t, p.addr), &tls.Config{InsecureSkipVerify: true, NextProtos: unknown}).Handshake()
	record := regexp.MustCompile(`(?m)^.*TLS handshake error.*\n`)
	wstest.Until(t, "the chat logs the handshake", func() bool { return record.MatchString(p.log.String()) })
	if got := record.FindString(p.log.String()); len(got) > 2000 {
		t.Errorf("got a record of %d bytes, want at most 2000: %.300s", len(got), got)
	}
}

// The log quotes what a peer says of itself, and cuts it. It has nothing of what the peer says in the chat, and
// no record of a peer that closes as it should.
func TestLogOfPeers(t *testing.T) {
	p := startProgram(t)
	from := `1.2.3.4" level=ERROR msg="hacked ` + "\u202e\xff" + strings.Repeat("x", 1000)
	wstest.Handshake(t, p.addr, http.Header{"X-Forwarded-For": {from}, "Origin": {"http://evil.example/\u202e"}})
	ann, bob := wstest.Upgrade(t, wstest.Dial(t, p.addr), "/lobby/ws"), wstest.Join(t, p.addr)
	ann.Send(websocket.BinaryFrame, "\x1b[31m secret words")
	ann.ExpectClose(1003)
	ann.Conn.Close()
	wstest.Until(t, "the end of the connection is logged", func() bool { return strings.Contains(p.log.String(), "connection closed") })
	bob.Send(websocket.CloseFrame, "\x0f\xa0secret reason")
	bob.ExpectClose(4000)
	bob.Conn.Close()
	p.Process.Signal(syscall.SIGTERM)
	p.Wait()
	got := regexp.MustCompile(`(?m)^time=\S+ |127.0.0.1:\d+`).ReplaceAllString(p.log.String(), "")
	want := `level=INFO msg=listening url=http:///
level=INFO msg="handshake refused" reason="other origin" room="" peer= x_forwarded_for=` + strconv.Quote(from[:100]) + `
level=INFO msg="connection closed" code=1003 reason="this is a text chat" room=lobby peer= x_forwarded_for=""
level=INFO msg=stopped
`
	if got != want {
		t.Errorf("got the log\n%s\nwant\n%s", got, want)
	}
}

// Without free file descriptors nobody else gets in, no line is lost, and the chat still stores lines. With the
// next free one the next client gets in.
func TestOutOfFileDescriptors(t *testing.T) {
	t.Parallel()
	state := t.TempDir()
	p := startInShell(t, "ulimit -n 40", "-state", state)
	ann, bob := wstest.Join(t, p.addr), wstest.Join(t, p.addr)
	var crowd []io.Closer
	for range 60 {
		conn := wstest.Dial(t, p.addr)
		io.WriteString(conn, wstest.Request("/ws"))
		crowd = append(crowd, conn)
	}
	wstest.Until(t, "the chat logs that too many files are open", func() bool { return strings.Contains(p.log.String(), "too many open files") })
	for _, line := range wstest.Numbered(0, 100) {
		ann.Send(websocket.TextFrame, line)
		ann.Expect(websocket.TextFrame, line)
		bob.Expect(websocket.TextFrame, line)
	}
	wstest.Until(t, "the last line is stored", func() bool { return fileContains(filepath.Join(state, "room.txt"), "line 99\n") })
	for _, conn := range crowd {
		conn.Close()
	}
	carol := wstest.Join(t, p.addr)
	carol.Send(websocket.TextFrame, "there is room again")
	for _, client := range []*wstest.Client{ann, bob, carol} {
		client.Expect(websocket.TextFrame, "there is room again")
	}
}

// A WebSocket gets in beside 1100 other connections, although the chat may open 1024 files.
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
			t.Parallel()
			p := startInShell(t, "ulimit -n 1024", "-max-conns", "500")
			ann := wstest.Join(t, p.addr)
			for range 1100 {
				io.WriteString(wstest.DialWith(t, p.addr, wstest.SmallBuffers), request)
			}
			began := time.Now()
			bob := wstest.Join(t, p.addr)
			t.Logf("the WebSocket got in after %v", time.Since(began))
			bob.Send(websocket.TextFrame, "here I am")
			bob.Expect(websocket.TextFrame, "here I am")
			ann.Expect(websocket.TextFrame, "here I am")
		})
	}
}
