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

	"example.com/chat/internal/ws"
	"example.com/chat/internal/wstest"
)

// A signal stops the program as nothing else does, with exit status 0; another ends it
// at once.
func TestSignals(t *testing.T) {
	t.Parallel()
	for _, signal := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM} {
		t.Run(signal.String(), func(t *testing.T) {
			p := startProgram(t)
			wstest.StopWhenSaid(wstest.JoinMany(t, p.addr, 20), func() { p.Process.Signal(signal) })
			if err := p.Wait(); err != nil {
				t.Error(err)
			}
		})
	}
	// Also one that a script has it ignore, as it does with what it starts in the background.
	for _, test := range []struct {
		name   string
		start  func(*testing.T) program
		signal syscall.Signal
	}{
		{"SIGTERM twice", func(t *testing.T) program { return startProgram(t) }, syscall.SIGTERM},
		{"SIGINT twice", func(t *testing.T) program { return startProgram(t) }, syscall.SIGINT},
		{"ignored SIGINT twice", func(t *testing.T) program { return startInShell(t, "trap '' INT") }, syscall.SIGINT},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := test.start(t)
			ann := wstest.Join(t, p.addr) // who doesn't answer the close frame
			p.Process.Signal(test.signal)
			ann.ExpectClose(ws.CloseGoingAway)
			p.Process.Signal(test.signal)
			if p.Wait(); p.ProcessState.ExitCode() != 128+int(test.signal) {
				t.Error(p.ProcessState)
			}
		})
	}
}

// When the chat stops while many speak without a pause, listeners hear all that it has read,
// and a close frame.
func TestStopAtFullSpeed(t *testing.T) {
	t.Parallel()
	if !wstest.Long() {
		t.Skip("it keeps every processor busy for ten seconds: set CHAT_TEST_LONG")
	}
	const senders, listeners = 30, 20
	p := startProgram(t)
	peers := wstest.JoinMany(t, p.addr, listeners)
	var speaking, listening sync.WaitGroup
	for i := range senders {
		sender := wstest.Join(t, p.addr)
		go io.Copy(io.Discard, sender.In)
		speaking.Go(func() {
			for n := 0; ; n++ {
				if _, err := sender.Conn.Write(wstest.Frame(0x81, fmt.Sprint(i, " ", n))); err != nil {
					sender.Conn.Close()
					return
				}
			}
		})
	}
	heard := make([][senders]int, listeners)
	for i, listener := range peers {
		listening.Go(func() {
			next := &heard[i] // of each sender, from the first that was heard on
			for {
				opcode, message, err := listener.ReadFrame()
				if opcode == websocket.CloseFrame && wstest.CloseCode(message) == ws.CloseGoingAway {
					listener.Conn.Close()
					return
				}
				if err != nil || opcode == websocket.CloseFrame {
					t.Errorf("listener %d: %s, %v", i, wstest.Show(opcode, message), err)
					return
				}
				for line := range strings.SplitSeq(message, "\n") {
					sender, n, ok := wstest.Parse(line)
					if ok && next[sender] != 0 && n != next[sender] {
						t.Errorf("listener %d heard line %d of %d, want %d", i, n, sender, next[sender])
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
		t.Error(err)
	}
	speaking.Wait()
	for i := range heard {
		if heard[i] != heard[0] {
			t.Errorf("listener %d heard up to %v, and the first %v", i, heard[i], heard[0])
		}
	}
}
