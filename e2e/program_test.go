package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"strings"
	"testing"

	"golang.org/x/net/websocket"

	"example.com/chat/internal/wstest"
)

// The program needs no files beside it.
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

// If the chat can't run, it ends with one line on standard error. The status is 2 for a mistake on the command
// line, and 1 for a failure.
func TestCommandLine(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	inUse := listener.Addr().String()
	file := write(t, t.TempDir(), "file", "")
	for _, test := range []struct {
		args   []string
		status int
		want   string
	}{
		{[]string{"-max-message", "4k"}, 2, `chat: invalid value "4k" for flag -max-message: want a number from 1 to 1073741824`},
		{[]string{"-addr", inUse}, 1, "chat: listen tcp " + inUse + ": bind: address already in use"},
		{[]string{"-relay", inUse}, 1, "chat: listen tcp " + inUse + ": bind: address already in use"},
		{[]string{"-debug", inUse}, 1, "chat: listen tcp " + inUse + ": bind: address already in use"},
		{[]string{"-state", file}, 1, fmt.Sprintf("chat: -state %[1]q: mkdir %[1]s: not a directory", file)},
	} {
		cmd := chat(t, append([]string{"-addr", "127.0.0.1:0"}, test.args...)...)
		var stdout, stderr strings.Builder
		cmd.Stdout, cmd.Stderr = &stdout, &stderr
		cmd.Run()
		if got := cmd.ProcessState.ExitCode(); got != test.status || stderr.String() != test.want+"\n" || stdout.Len() > 0 {
			t.Errorf("%q: got status %d, %q and %q; want %d, nothing and %q", test.args, got, stdout.String(), stderr.String(), test.status, test.want)
		}
	}
}

// The help is on standard output, with status 0.
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
		err := json.NewDecoder(wstest.Get(t, startChat(t, cmd).debug, "/debug/vars").Body).Decode(&vars)
		if got := vars.Memstats.NextGC; err != nil || got < want[0]<<20 || got > want[1]<<20 {
			t.Errorf("GOGC=%s: got the next collection at %d bytes, %v; want %d to %d MiB", gogc, got, err, want[0], want[1])
		}
	}
}
