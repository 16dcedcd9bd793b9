package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/websocket"

	"example.com/chat/internal/wstest"
)

func TestCommandLine(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	dir := t.TempDir()
	cert, key, otherKey := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem"), filepath.Join(dir, "other.pem")
	wstest.WriteCertificate(t, filepath.Join(dir, "unused.pem"), otherKey, "")
	wstest.WriteCertificate(t, cert, key, "")
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
		{[]string{"-rooms", "-1"}, 2, []string{"-rooms", `"-1"`, "from 0 to 1048576"}},
		{[]string{"-title", " "}, 2, []string{"-title", `" "`, "1 to 60"}},
		{[]string{"-title", strings.Repeat("x", 61)}, 2, []string{"-title", "1 to 60"}},
		{[]string{"-title", "a\nb"}, 2, []string{"-title", `"a\nb"`, "one line"}},
		{[]string{"-title", "\xff"}, 2, []string{"-title", "1 to 60"}},
		{[]string{"-debug", "6060"}, 2, []string{"-debug", `"6060"`, ":8080"}},
		{[]string{"-relay", ":8090"}, 2, []string{"-relay", `":8090"`, "127.0.0.1:8090", "only this machine"}},
		{[]string{"-relay", "0.0.0.0:1"}, 2, []string{"-relay", `"0.0.0.0:1"`, "only this machine"}},
		{[]string{"-relay", "[::]:1"}, 2, []string{"-relay", `"[::]:1"`, "only this machine"}},
		{[]string{"-relay", "192.0.2.1:1"}, 2, []string{"-relay", `"192.0.2.1:1"`, "only this machine"}},
		{[]string{"-relay", "example.com:1"}, 2, []string{"-relay", `"example.com:1"`, "only this machine"}},
		{[]string{"-relay", "localhost.example.com:1"}, 2, []string{"-relay", "only this machine"}},
		{[]string{"-relay", "127.0.0.1"}, 2, []string{"-relay", `"127.0.0.1"`, "only this machine"}},
		{[]string{"-relay", "127.0.0.1:70000"}, 2, []string{"-relay", `"127.0.0.1:70000"`, "only this machine"}},
		{[]string{"-relay", "unix:"}, 2, []string{"-relay", `"unix:"`, "unix:/run"}},
		{[]string{"-relay", "/run/relay.sock"}, 2, []string{"-relay", `"/run/relay.sock"`, "unix:/run"}},
		{[]string{"-relay", ""}, 2, []string{"-relay", `""`, "only this machine"}},
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
		{[]string{"-addr", "127.0.0.1:0", "-relay", taken.Addr().String()}, 1, []string{taken.Addr().String(), "address already in use"}},
		{[]string{"-addr", "127.0.0.1:0", "-relay", "unix:/none/relay.sock"}, 1, []string{"/none/relay.sock", "no such file"}},
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
		"-rate messages", "-max-conns connections", "-debug host:port", "-rooms rooms", "-state directory", "-title text", "-relay address"} {
		if !bytes.Contains(out, []byte("  "+flag+"\n")) {
			t.Errorf("no %s in\n%s", flag, out)
		}
	}
	if lines := bytes.Count(out, []byte{'\n'}); lines != 3+2*13 {
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

// freeAddr returns an address at which nothing listens. Systems hand out ports from 32768 up, or from
// 49152: below them no other test is given this one.
func freeAddr(t *testing.T) string {
	t.Helper()
	for range 100 {
		if l, err := net.Listen("tcp", fmt.Sprint("127.0.0.1:", 20000+rand.N(12000))); err == nil {
			l.Close()
			return l.Addr().String()
		}
	}
	t.Fatal("no port is free")
	return ""
}

// startProgram runs the chat, on 127.0.0.1 unless args say otherwise, until it is
// stopped, or the end of the test.
func startProgram(t testing.TB, args ...string) program {
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
func startCommand(t testing.TB, cmd *exec.Cmd) program {
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
	if bytes.Contains(b, []byte("msg=listening")) {
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
		if response := wstest.Get(t, p.addr, path); response.StatusCode != 200 {
			t.Errorf("%s: status %s", path, response.Status)
		}
	}
	ann := wstest.Join(t, p.addr)
	ann.Send(websocket.TextFrame, "hello")
	ann.Expect(websocket.TextFrame, "hello")
}
