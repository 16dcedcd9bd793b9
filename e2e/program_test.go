package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"golang.org/x/net/websocket"

	"example.com/chat/internal/wstest"
)

// A command line with which the chat can't run ends it with one line on standard error. The status is 2 for a mistake,
// and 1 for an address that is in use.
func TestCommandLine(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	inUse := listener.Addr().String()
	for _, test := range []struct {
		args   []string
		status int
		want   string
	}{
		{[]string{"-max-message", "4k"}, 2, `chat: invalid value "4k" for flag -max-message: want a number from 1 to 1073741824`},
		{[]string{"-addr", inUse}, 1, "chat: listen tcp " + inUse + ": bind: address already in use"},
		{[]string{"-addr", "127.0.0.1:0", "-relay", inUse}, 1, "chat: listen tcp " + inUse + ": bind: address already in use"},
		{[]string{"-addr", "127.0.0.1:0", "-debug", inUse}, 1, "chat: listen tcp " + inUse + ": bind: address already in use"},
	} {
		cmd := chat(t, test.args...)
		var stdout, stderr strings.Builder
		cmd.Stdout, cmd.Stderr = &stdout, &stderr
		cmd.Run()
		if got := cmd.ProcessState.ExitCode(); got != test.status || stderr.String() != test.want+"\n" || stdout.Len() > 0 {
			t.Errorf("%q: got status %d, %q and %q; want %d, nothing and %q", test.args, got, stdout.String(), stderr.String(), test.status, test.want)
		}
	}
}

// Help is on standard output, with status 0.
func TestHelp(t *testing.T) {
	out, err := chat(t, "-h").Output()
	if err != nil || !bytes.Contains(out, []byte("Usage: chat [flags]")) {
		t.Errorf("got %q, %v; want the usage", out, err)
	}
}

// The heap grows to 32 MiB before garbage is collected, unless GOGC is set.
func TestHeapGrows(t *testing.T) {
	for gogc, want := range map[string][2]int{"": {32, 48}, "100": {4, 16}} {
		cmd := chat(t, "-addr", "127.0.0.1:0", "-debug", "127.0.0.1:0")
		cmd.Env = append(os.Environ(), "GOGC="+gogc)
		var vars struct{ Memstats struct{ NextGC int } }
		err := json.NewDecoder(wstest.Get(t, startCommand(t, cmd).debug, "/debug/vars").Body).Decode(&vars)
		if got := vars.Memstats.NextGC; err != nil || got < want[0]<<20 || got > want[1]<<20 {
			t.Errorf("GOGC=%s: got the next collection at %d bytes, %v; want %d to %d MiB", gogc, got, err, want[0], want[1])
		}
	}
}

// program is the chat as a process.
type program struct {
	*exec.Cmd
	addr  string // where it listens
	debug string // the same for -debug
	log   *output
}

// freeAddr returns an address at which nothing listens. Systems assign ports from 32768 up, or from 49152, so no
// other test gets this one.
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

// startProgram runs the chat until the end of the test, on 127.0.0.1 unless args have another address.
func startProgram(t testing.TB, args ...string) program {
	t.Helper()
	return startCommand(t, chat(t, append([]string{"-addr", "127.0.0.1:0"}, args...)...))
}

// startInShell is startProgram in a shell that first runs a command.
func startInShell(t *testing.T, first string, args ...string) program {
	t.Helper()
	cmd := chat(t, append([]string{"-addr", "127.0.0.1:0"}, args...)...)
	shell := exec.Command("/bin/sh", append([]string{"-c", first + `; exec "$0" "$@"`}, cmd.Args...)...)
	shell.Dir, shell.Env = cmd.Dir, cmd.Env
	return startCommand(t, shell)
}

// startCommand runs the command, which must be the chat, until the end of the test.
func startCommand(t testing.TB, cmd *exec.Cmd) program {
	t.Helper()
	p := program{Cmd: cmd, log: new(output)}
	p.Stderr = p.log
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		p.Process.Kill()
		p.Wait()
		if t.Failed() {
			t.Logf("%s logged\n%.10000s", cmd, p.log)
		}
	})
	wstest.Until(t, "the chat listens", func() bool { return strings.Contains(p.log.String(), "msg=listening") })
	for _, url := range regexp.MustCompile(`https?://([0-9.]+:[1-9][0-9]*)/(debug)?`).FindAllStringSubmatch(p.log.String(), -1) {
		if url[2] == "" {
			p.addr = url[1]
		} else {
			p.debug = url[1]
		}
	}
	return p
}

// The program needs no file beside it, and logs where it listens.
func TestProgram(t *testing.T) {
	p := startProgram(t)
	for _, path := range []string{"/", "/assets/jquery.min.js"} {
		if got := wstest.Get(t, p.addr, path); got.StatusCode != 200 {
			t.Errorf("%s: got status %s, want 200", path, got.Status)
		}
	}
	ann := wstest.Join(t, p.addr)
	ann.Send(websocket.TextFrame, "hello")
	ann.Expect(websocket.TextFrame, "hello")
}
