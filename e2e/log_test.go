package e2e

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/websocket"

	"example.com/chat/internal/wstest"
)

// fullPipe returns both ends of a pipe that takes nothing more.
func fullPipe(t *testing.T) (out, in *os.File) {
	t.Helper()
	out, in, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { out.Close(); in.Close() })
	for _, size := range []int{64 << 10, 1} {
		for err = nil; err == nil; {
			in.SetWriteDeadline(time.Now().Add(100 * time.Millisecond))
			_, err = in.Write(make([]byte, size))
		}
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatal(err)
		}
	}
	return out, in
}

// startWithLog runs the chat until the end of the test, with stderr as its standard error. It returns when the chat
// serves.
func startWithLog(t *testing.T, stderr *os.File, args ...string) program {
	t.Helper()
	addr := freeAddr(t)
	p := program{Cmd: chat(t, append([]string{"-addr", addr}, args...)...), addr: addr}
	p.Stderr = stderr
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		p.Process.Kill()
		p.Wait()
	})
	wstest.Until(t, "the chat serves", func() bool {
		client := http.Client{Timeout: time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
		response, err := client.Get("http://" + p.addr + "/")
		if err == nil {
			response.Body.Close()
		}
		return err == nil
	})
	return p
}

// refuse has the chat refuse n handshakes, each of which it logs.
func (p program) refuse(t *testing.T, n int) {
	t.Helper()
	for range n {
		if got := wstest.Handshake(t, p.addr, http.Header{"Origin": {"http://evil.example"}}).StatusCode; got != 403 {
			t.Fatalf("got status %d, want 403", got)
		}
	}
}

// The chat goes on when the reader of its standard error has closed it, as a log program that crashed does. It
// stops with exit status 0.
func TestStandardErrorIsClosed(t *testing.T) {
	t.Parallel()
	out, in, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	p := startWithLog(t, in)
	in.Close()
	out.Close()
	p.refuse(t, 20)
	p.serves(t)
	p.stops(t)
}

// Nobody waits for a reader of standard error that does not read. The chat starts, refuses 300 handshakes, and
// closes 100 connections, each of which leaves its place of -max-conns to the next. It stops with exit status 0.
func TestStandardErrorIsNotRead(t *testing.T) {
	t.Parallel()
	_, in := fullPipe(t)
	p := startWithLog(t, in, "-max-conns", "2")
	ann := wstest.Join(t, p.addr)
	p.refuse(t, 300)
	for range 100 {
		var bob *wstest.Client
		wstest.Until(t, "the connection before has left", func() (entered bool) {
			var err error
			bob, err = wstest.TryUpgrade(t, wstest.Dial(t, p.addr), "/ws")
			return err == nil
		})
		bob.Send(websocket.BinaryFrame, "refused, and logged")
		bob.ExpectClose(1003)
		bob.Conn.Close()
	}
	ann.Send(websocket.TextFrame, "still here")
	ann.Expect(websocket.TextFrame, "still here")
	ann.Conn.Close()
	p.stops(t)
}

// The log goes on when its reader reads again. Until then the chat keeps the records.
func TestStandardErrorIsReadAgain(t *testing.T) {
	t.Parallel()
	out, in := fullPipe(t)
	p := startWithLog(t, in)
	in.Close()
	p.refuse(t, 3)
	read := new(output)
	reading := make(chan struct{})
	go func() {
		defer close(reading)
		out.WriteTo(read)
	}()
	wstest.Until(t, "the records are read", func() bool { return strings.Count(read.String(), "handshake refused") == 3 })
	p.Process.Signal(syscall.SIGTERM)
	p.Wait()
	<-reading
	if got := read.String(); strings.Count(got, "msg=listening") != 1 || !strings.HasSuffix(got, "msg=stopped\n") {
		t.Errorf("got the log %q, want it from listening to stopped", strings.Trim(got, "\x00"))
	}
}

// A second signal, and an error at the start, end the chat although nobody reads standard error.
func TestExitsWithoutReader(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	_, in := fullPipe(t)
	cmd := chat(t, "-addr", listener.Addr().String())
	cmd.Stderr = in
	expectExit(t, cmd, 1, cmd.Start())

	p := startWithLog(t, in)
	p.refuse(t, 1)
	ann := wstest.Join(t, p.addr) // does not answer the close frame, so the stop lasts 5 s
	p.Process.Signal(syscall.SIGTERM)
	ann.ExpectClose(1001)
	p.Process.Signal(syscall.SIGTERM)
	expectExit(t, p.Cmd, 128+15, nil)
}

// The log is printable, one line for each record, whatever peers and names of files contain. What they contain is
// shown as escapes.
func TestLogIsPrintable(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write(t, dir, "room-\x7f\x1b[2J\u202e\xff.txt", "")
	p := startProgram(t, "-state", dir)
	shown := map[string]string{"a\x80z": `a\x80z`, "a\x9b31mz": `a\x9b31mz`, "a\xe2\x80": `a\xe2\x80`, "a\tz": `a\tz`}
	for _, r := range "\u0080\u0085\u009b\u009f\u00a0\u00ad\u061c\u200b\u200d\u200e\u2028\u2029\u202a\u202e\u2066\u2069\u3164\ufeff\ufe0f\u2800\uff1d\ufffd" {
		shown["a"+string(r)+"z"] = fmt.Sprintf(`a\u%04xz`, r)
	}
	for from := range shown {
		wstest.Handshake(t, p.addr, http.Header{"X-Forwarded-For": {from}, "Origin": {"http://evil.example"}})
	}
	for b := range 0x20 { // net/http refuses these itself
		io.WriteString(wstest.Dial(t, p.addr), "GET /ws HTTP/1.1\r\nHost: chat\r\nX-Forwarded-For: a"+string(rune(b))+"z\r\n\r\n")
	}
	p.Process.Signal(syscall.SIGTERM)
	p.Wait()
	for line := range strings.Lines(p.log.String()) {
		text, ended := strings.CutSuffix(line, "\n")
		if !ended || !strings.HasPrefix(text, "time=") || strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r > '~' }) {
			t.Errorf("got the line %+q, want a record of printable characters", line)
		}
	}
	shown["name of the file"] = `\x7f\x1b[2J\u202e\xff`
	for from, want := range shown {
		if !strings.Contains(p.log.String(), want) {
			t.Errorf("%+q: got no record with %s", from, want)
		}
	}
}

// expectExit waits up to 30 s for the exit of cmd, which was started with the error err.
func expectExit(t *testing.T, cmd *exec.Cmd, status int, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	limit := time.AfterFunc(30*time.Second, func() { cmd.Process.Kill() })
	defer limit.Stop()
	cmd.Wait()
	if got := cmd.ProcessState.ExitCode(); got != status {
		t.Errorf("%q: got %v, want status %d", cmd.Args, cmd.ProcessState, status)
	}
}
