// main_test.go: the command line, and what is served over plain HTTP.

package main

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/websocket"
)

// chat returns a command that runs the chat from an empty directory.
func chat(t *testing.T, args ...string) *exec.Cmd {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self, args...)
	cmd.Dir = t.TempDir()
	cmd.Env = append(os.Environ(), "CHAT_TEST_MAIN=1")
	return cmd
}

func TestCommandLine(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	dir := t.TempDir()
	cert, key, otherKey := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem"), filepath.Join(dir, "other.pem")
	writeCertificate(t, filepath.Join(dir, "unused.pem"), otherKey, "")
	writeCertificate(t, cert, key, "")
	for _, test := range []struct {
		args   []string
		status int
		says   []string
	}{
		{[]string{"-addr", "8080"}, 2, []string{"-addr", `"8080"`, ":8080"}},
		{[]string{"-addr", ":http8"}, 2, []string{"-addr", `":http8"`, ":8080"}},
		{[]string{"-addr", ":70000"}, 2, []string{"-addr", `":70000"`, ":8080"}},
		{[]string{"-max-message", "4k"}, 2, []string{"-max-message", `"4k"`, "from 1 to 1073741824"}},
		{[]string{"-max-message", "0"}, 2, []string{"-max-message", `"0"`, "from 1 to 1073741824"}},
		{[]string{"-max-message", "1073741825"}, 2, []string{"-max-message", "from 1 to 1073741824"}},
		{[]string{"-max-message"}, 2, []string{"-max-message"}},
		{[]string{"-history", "-1"}, 2, []string{"-history", `"-1"`, "from 0 to 1048576"}},
		{[]string{"-history", "all"}, 2, []string{"-history", `"all"`, "from 0 to 1048576"}},
		{[]string{"-origins", "https://a.example,b.example"}, 2, []string{"-origins", `"b.example"`, "https://a.example"}},
		{[]string{"-rate", "0.5"}, 2, []string{"-rate", `"0.5"`, "from 0 to 1048576"}},
		{[]string{"-max-conns", "many"}, 2, []string{"-max-conns", `"many"`, "from 0 to 1073741824"}},
		{[]string{"-debug", "6060"}, 2, []string{"-debug", `"6060"`, ":8080"}},
		{[]string{"-cert", cert}, 2, []string{"-cert", cert, "-key"}},
		{[]string{"-key", key}, 2, []string{"-key", key, "-cert"}},
		{[]string{"-cert", "/none.pem", "-key", key}, 2, []string{"-cert", "/none.pem", "no such file", "PEM"}},
		{[]string{"-cert", key, "-key", key}, 2, []string{"-cert", key, "PEM"}},
		{[]string{"-cert", cert, "-key", cert}, 2, []string{"-key", cert, "PEM"}},
		{[]string{"-cert", cert, "-key", otherKey}, 2, []string{"-key", otherKey, "does not match"}},
		{[]string{"-port", "80"}, 2, []string{"-port"}},
		{[]string{":8080"}, 2, []string{`":8080"`, "chat -h"}},
		{[]string{"-addr", taken.Addr().String()}, 1, []string{taken.Addr().String(), "address already in use"}},
		{[]string{"-addr", "192.0.2.1:80"}, 1, []string{"192.0.2.1:80"}}, // nobody's address
		{[]string{"-addr", "127.0.0.1:0", "-debug", taken.Addr().String()}, 1, []string{taken.Addr().String(), "address already in use"}},
	} {
		t.Run(strings.Join(test.args, " "), func(t *testing.T) {
			var stdout, stderr bytes.Buffer
			cmd := chat(t, test.args...)
			cmd.Stdout, cmd.Stderr = &stdout, &stderr
			err := cmd.Run()
			if exit := new(exec.ExitError); !errors.As(err, &exit) || exit.ExitCode() != test.status {
				t.Errorf("%v, want exit status %d", err, test.status)
			}
			if stdout.Len() > 0 || strings.Count(stderr.String(), "\n") != 1 {
				t.Errorf("not one line on standard error: %q and %q", stdout.String(), stderr.String())
			}
			for _, want := range test.says {
				if !strings.Contains(stderr.String(), want) {
					t.Errorf("%q does not say %q", stderr.String(), want)
				}
			}
		})
	}
}

func TestHelp(t *testing.T) {
	out, err := chat(t, "-h").Output()
	if err != nil {
		t.Error(err)
	}
	for _, flag := range []string{"-addr host:port", "-max-message bytes", "-history lines", "-cert file", "-key file", "-origins origins",
		"-rate messages", "-max-conns connections", "-debug host:port"} {
		if !bytes.Contains(out, []byte("  "+flag+"\n")) {
			t.Errorf("no %s in\n%s", flag, out)
		}
	}
	if lines := bytes.Count(out, []byte{'\n'}); lines != 3+2*9 {
		t.Errorf("%d lines, want two for each flag:\n%s", lines, out)
	}
}

// program is the chat as a process.
type program struct {
	*exec.Cmd
	addr  string // where it listens
	debug string // the same for -debug
	log   *programLog
}

// startProgram runs the chat, on 127.0.0.1 unless args say otherwise, until it is
// stopped, or the end of the test.
func startProgram(t *testing.T, args ...string) program {
	t.Helper()
	return startCommand(t, chat(t, append([]string{"-addr", "127.0.0.1:0"}, args...)...))
}

// startInShell runs the chat in a shell that has run a command first.
func startInShell(t *testing.T, first string, args ...string) program {
	t.Helper()
	cmd := chat(t, append([]string{"-addr", "127.0.0.1:0"}, args...)...)
	shell := exec.Command("/bin/sh", append([]string{"-c", first + `; exec "$0" "$@"`}, cmd.Args...)...)
	shell.Dir, shell.Env = cmd.Dir, cmd.Env
	return startCommand(t, shell)
}

// startCommand runs a command that is the chat.
func startCommand(t *testing.T, cmd *exec.Cmd) program {
	t.Helper()
	p := program{Cmd: cmd, log: &programLog{open: make(chan struct{})}}
	p.Stderr = p.log
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		p.Process.Kill()
		p.Wait()
	})
	select {
	case <-p.log.open:
	case <-time.After(time.Minute):
		t.Fatalf("it doesn't say that it is open, but %q", p.log)
	}
	for _, url := range regexp.MustCompile(`https?://([0-9.]+:[1-9][0-9]*)/(debug)?`).FindAllStringSubmatch(p.log.String(), -1) {
		if url[2] == "" {
			p.addr = url[1]
		} else {
			p.debug = url[1]
		}
	}
	return p
}

// programLog is what a program has written to its standard error so far.
type programLog struct {
	mu   sync.Mutex
	text strings.Builder
	open chan struct{} // closed when it says that the chat is open
}

func (l *programLog) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if bytes.Contains(b, []byte("the chat is open")) {
		close(l.open)
	}
	return l.text.Write(b)
}

func (l *programLog) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// The program needs no file beside it, and says where it is.
func TestProgram(t *testing.T) {
	p := startProgram(t)
	for _, path := range []string{"/", "/assets/jquery.min.js"} {
		if response := getPath(t, p.addr, path); response.StatusCode != 200 {
			t.Errorf("%s: status %s", path, response.Status)
		}
	}
	ann := joinRaw(t, p.addr)
	ann.send(websocket.TextFrame, "hello")
	ann.expect(websocket.TextFrame, "hello")
}

func TestClickable(t *testing.T) {
	bound := &net.TCPAddr{IP: net.IPv6loopback, Port: 8080}
	for addr, want := range map[string]string{
		":8080":             "http://localhost:8080/",
		":0":                "http://localhost:8080/",
		"0.0.0.0:8080":      "http://localhost:8080/",
		"[::]:8080":         "http://localhost:8080/",
		"[::1]:8080":        "http://[::1]:8080/",
		"chat.example:http": "http://chat.example:8080/",
	} {
		if got := clickable("http", addr, bound); got != want {
			t.Errorf("%s: %s, want %s", addr, got, want)
		}
	}
}

// roundTrip makes one request on a connection of its own.
func roundTrip(t *testing.T, r *http.Request) *http.Response {
	t.Helper()
	transport := new(http.Transport)
	t.Cleanup(transport.CloseIdleConnections)
	response, err := transport.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { response.Body.Close() })
	return response
}

func TestHTTP(t *testing.T) {
	addr, _ := startServer(t, 4096)
	const html, js = "text/html; charset=utf-8", "text/javascript; charset=utf-8"
	for _, test := range []struct {
		method, path string
		status       int
		contentType  string
	}{
		{"GET", "/", 200, html},
		{"HEAD", "/", 200, html},
		{"GET", "/?anything", 200, html},
		{"GET", "/assets/jquery.min.js", 200, js},
		{"HEAD", "/assets/jquery.min.js", 200, js},
		{"GET", "/assets/", 404, ""},
		{"GET", "/assets/home.html", 404, ""},
		{"GET", "/main.go", 404, ""},
		{"GET", "/ws/", 404, ""},
		{"POST", "/nothing", 404, ""},
		{"POST", "/", 405, ""},
		{"DELETE", "/assets/jquery.min.js", 405, ""},
		{"PUT", "/ws", 405, ""},
	} {
		t.Run(test.method+" "+test.path, func(t *testing.T) {
			r, err := http.NewRequest(test.method, "http://"+addr+test.path, nil)
			if err != nil {
				t.Fatal(err)
			}
			response := roundTrip(t, r)
			if response.StatusCode != test.status {
				t.Fatalf("status %s, want %d", response.Status, test.status)
			}
			body, err := io.ReadAll(response.Body)
			if err != nil || (len(body) == 0) != (test.method == "HEAD") {
				t.Errorf("a body of %d bytes, %v", len(body), err)
			}
			h := response.Header
			if got := h.Get("Allow"); (test.status == 405) != (got == "GET, HEAD") {
				t.Errorf("Allow: %q", got)
			}
			if got := h.Get("Content-Type"); test.contentType != "" && got != test.contentType {
				t.Errorf("Content-Type: %q, want %q", got, test.contentType)
			}
			if got := h.Get("X-Content-Type-Options"); got != "nosniff" {
				t.Errorf("X-Content-Type-Options: %q", got)
			}
			if got := h.Get("Referrer-Policy"); got != "no-referrer" {
				t.Errorf("Referrer-Policy: %q", got)
			}
			policy := h.Get("Content-Security-Policy")
			if !strings.HasPrefix(policy, "default-src 'none';") || strings.Contains(policy, "unsafe") {
				t.Errorf("Content-Security-Policy: %q", policy)
			}
			if test.status == 200 {
				checkETag(t, r, h.Get("ETag"))
			}
		})
	}
}

// checkETag makes r again as a browser does that has kept the answer.
func checkETag(t *testing.T, r *http.Request, etag string) {
	t.Helper()
	for kept, status := range map[string]int{etag: 304, `"another"`: 200} {
		r = r.Clone(t.Context())
		r.Header.Set("If-None-Match", kept)
		if response := roundTrip(t, r); response.StatusCode != status || response.Header.Get("ETag") != etag {
			t.Errorf("If-None-Match: %s: %s, ETag %s", kept, response.Status, response.Header.Get("ETag"))
		}
	}
}

// jQuery is the file of its npm package, to the byte.
func TestJQueryIsGenuine(t *testing.T) {
	const want = "39a546ea9ad97f8bfaf5d3e0e8f8556adb415e470e59007ada9759dce472adaa"
	if got := fmt.Sprintf("%x", sha256.Sum256(mustRead("jquery.min.js"))); got != want {
		t.Errorf("sha256 %s, want %s", got, want)
	}
}

// A proxy may serve the page below any path, so nothing in it is absolute.
func TestPageHasNoAbsoluteAddress(t *testing.T) {
	page := string(mustRead("home.html"))
	if bad := regexp.MustCompile(`(?:src|href|action)="(?:/|[a-z]+:)[^"]*"`).FindAllString(page, -1); bad != nil {
		t.Errorf("%q", bad)
	}
}

func TestUnfinishedRequestIsCutOff(t *testing.T) {
	for name, start := range map[string]string{
		"nothing":      "",
		"half a line":  "GET / HT",
		"half a head":  "GET / HTTP/1.1\r\nHost: chat\r\n",
		"half a body":  "POST / HTTP/1.1\r\nHost: chat\r\nContent-Length: 100\r\n\r\nhalf",
		"half a chunk": "POST /ws HTTP/1.1\r\nHost: chat\r\nTransfer-Encoding: chunked\r\n\r\n64\r\nhalf",
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l, _ := startInBubble(t)
				conn := l.dial(t)
				began := time.Now()
				go io.WriteString(conn, start)
				io.Copy(io.Discard, conn)
				if took := time.Since(began); took != 10*time.Second {
					t.Errorf("cut off after %v", took)
				}
			})
		})
	}
}

func TestHeadTooLarge(t *testing.T) {
	addr, _ := startServer(t, 4096)
	r, err := http.NewRequest("GET", "http://"+addr+"/", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Cookie", strings.Repeat("x", 64<<10))
	if response := roundTrip(t, r); response.StatusCode != 431 {
		t.Errorf("status %s", response.Status)
	}
}
