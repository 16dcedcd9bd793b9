package e2e

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/websocket"

	"example.com/chat/internal/wstest"
)

// SIGINT, SIGTERM and SIGHUP stop the chat, with exit status 0. No line that was sent before is lost.
func TestSignals(t *testing.T) {
	t.Parallel()
	for _, signal := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP} {
		p := startProgram(t)
		wstest.StopWhenSaid(wstest.JoinMany(t, p.addr, 10), func() { p.Process.Signal(signal) })
		if err := p.Wait(); err != nil {
			t.Errorf("%v: got %v, want exit status 0", signal, err)
		}
	}
}

// A second SIGINT or SIGTERM ends the chat at once, with status 128 plus the signal's number. So does SIGINT even if it is
// ignored when the chat starts, as scripts do for commands in the background.
func TestSecondSignal(t *testing.T) {
	t.Parallel()
	for first, signal := range map[string]syscall.Signal{":": syscall.SIGTERM, "trap '' INT": syscall.SIGINT} {
		p := startInShell(t, first)
		ann := wstest.Join(t, p.addr) // does not answer the close frame, so the stop lasts 5 s
		p.Process.Signal(signal)
		ann.ExpectClose(1001)
		p.Process.Signal(signal)
		p.Wait()
		if got, want := p.ProcessState.ExitCode(), 128+int(signal); got != want {
			t.Errorf("after %q: got %v, want status %d", first, p.ProcessState, want)
		}
	}
}

// A terminal that is closed stops the chat, although it sends SIGHUP repeatedly, and its session sends SIGTERM. Every
// line that was heard is there after a restart, at the same position.
func TestHangup(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	p := startProgram(t, "-state", dir)
	ann := wstest.Upgrade(t, wstest.Dial(t, p.addr), "/ws?since=")
	epoch, _, _, err := readPosition(ann)
	if err != nil {
		t.Fatal(err)
	}
	ann.Send(websocket.TextFrame, "the last line")
	ann.Expect(websocket.TextFrame, "the last line")
	p.Process.Signal(syscall.SIGHUP)
	p.Process.Signal(syscall.SIGHUP)
	ann.ExpectClose(1001) // ann does not answer, so the stop lasts 5 s
	p.Process.Signal(syscall.SIGHUP)
	p.stops(t)
	p = startProgram(t, "-state", dir)
	bob := wstest.Upgrade(t, wstest.Dial(t, p.addr), "/ws?since="+epoch+".0")
	bob.Expect(websocket.TextFrame, epoch+" 0 1")
	bob.Expect(websocket.TextFrame, "the last line")
}

// SIGHUP stays ignored if it is ignored when the chat starts, as with nohup.
func TestNoHangup(t *testing.T) {
	t.Parallel()
	p := startInShell(t, "trap '' HUP")
	p.Process.Signal(syscall.SIGHUP)
	for range 50 { // a chat that stops refuses who comes next
		p.serves(t)
	}
	p.stops(t)
}

// If the chat stops while many speak without a pause, all listeners get the same lines, and a close frame.
func TestStopAtFullSpeed(t *testing.T) {
	t.Parallel()
	if !wstest.Long() {
		t.Skip("it keeps every processor busy for ten seconds: set CHAT_TEST_LONG")
	}
	const senders, listeners = 30, 20
	p := startProgram(t)
	clients := wstest.JoinMany(t, p.addr, listeners)
	var speaking, listening sync.WaitGroup
	for i := range senders {
		sender := wstest.Join(t, p.addr)
		go io.Copy(io.Discard, sender.In)
		speaking.Go(func() {
			defer sender.Conn.Close()
			for n := 0; ; n++ {
				if _, err := sender.Conn.Write(wstest.Frame(0x81, fmt.Sprint(i, " ", n))); err != nil {
					return
				}
			}
		})
	}
	heard := make([][senders]int, listeners)
	for i, listener := range clients {
		listening.Go(func() {
			defer listener.Conn.Close()
			next := &heard[i] // line of each sender; 0 before the first
			for {
				opcode, message, err := listener.ReadFrame()
				if opcode == websocket.CloseFrame && wstest.CloseCode(message) == 1001 {
					return
				}
				if err != nil || opcode == websocket.CloseFrame {
					t.Errorf("listener %d: got %s, %v; want lines and a close frame with code 1001", i, wstest.Show(opcode, message), err)
					return
				}
				for line := range strings.SplitSeq(message, "\n") {
					sender, n, ok := wstest.Parse(line)
					if ok && next[sender] != 0 && n != next[sender] {
						t.Errorf("listener %d: got line %d of sender %d, want %d", i, n, sender, next[sender])
						return
					}
					next[sender] = n + 1
				}
			}
		})
	}
	time.Sleep(time.Second)
	p.Process.Signal(syscall.SIGTERM)
	listening.Wait()
	if err := p.Wait(); err != nil {
		t.Errorf("got %v, want exit status 0", err)
	}
	speaking.Wait()
	for i := range heard {
		if heard[i] != heard[0] {
			t.Errorf("listener %d: got the lines up to %v, want %v as listener 0", i, heard[i], heard[0])
		}
	}
}
