package main

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"example.com/chat/internal/wstest"
)

// TestMain fails if a goroutine of a chat outlives the tests.
func TestMain(m *testing.M) {
	slog.SetDefault(slog.New(slog.DiscardHandler))
	flag.Parse()
	flag.Set("test.parallel", "16") // most of them wait
	status := m.Run()
	if stacks := leftBehind(); status == 0 && stacks != "" {
		fmt.Printf("goroutines are left behind:\n%s\n", stacks)
		status = 1
	}
	os.Exit(status)
}

// leftBehind returns the stacks of the goroutines of chats that have ended, if any remain. It
// waits for those that are about to return.
func leftBehind() (stacks string) {
	all := make([]byte, 16<<20)
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		stacks = ""
		for stack := range strings.SplitSeq(string(all[:runtime.Stack(all, true)]), "\n\n") {
			if strings.Contains(stack, "created by chat.") && !strings.Contains(stack, "_test.go") {
				stacks += stack + "\n\n"
			}
		}
		if stacks == "" {
			break
		}
	}
	return stacks
}

// startServer runs the chat on a free port of 127.0.0.1 and returns its address.
// stop ends it; so does the end of the test.
func startServer(t testing.TB, maxMessage int) (addr string, stop func()) {
	t.Helper()
	cfg := defaults
	cfg.maxMessage = maxMessage
	addr, _, stop = startWith(t, cfg)
	return addr, stop
}

// startWith runs the chat with cfg, but on a free port.
func startWith(t testing.TB, cfg config) (addr string, rooms *rooms, stop func()) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	rooms, stop = start(t, listener, cfg)
	t.Cleanup(stop)
	return listener.Addr().String(), rooms, stop
}

// start runs the chat on listener. The function it returns stops it and waits
// until every connection is closed; it may be called again.
func start(t testing.TB, listener net.Listener, cfg config) (rooms *rooms, stop func()) {
	t.Helper()
	return startBoth(t, listener, nil, cfg)
}

// startBoth is start with a listener for relays, too, unless that is nil.
func startBoth(t testing.TB, listener, relays net.Listener, cfg config) (rooms *rooms, stop func()) {
	t.Helper()
	rooms, err := openRooms(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		serve(ctx, listener, relays, rooms)
	}()
	return rooms, func() {
		cancel()
		<-closed
	}
}

// newTestHub returns a Hub that does not run.
func newTestHub(history int) *Hub {
	return newHub(&rooms{cfg: defaults, peerLog: newPeerLog()}, "", newStream(history))
}

// untilOpen waits until no more than n connections are open.
func untilOpen(t testing.TB, rooms *rooms, n int64) {
	t.Helper()
	wstest.Until(t, fmt.Sprint("no more than ", n, " connections are open"), func() bool { return rooms.counters.connections.Value() <= n })
}

// startInBubble runs the chat in memory until stop, or the end of the test.
func startInBubble(t *testing.T) (l wstest.Listener, stop func()) {
	return startInBubbleWith(t, defaults)
}

// startInBubbleWith runs the chat with cfg, in memory.
func startInBubbleWith(t *testing.T, cfg config) (l wstest.Listener, stop func()) {
	l = wstest.NewListener()
	_, stop = start(t, l, cfg)
	t.Cleanup(stop)
	return l, stop
}

// joinInBubble starts a chat in memory and connects to it.
func joinInBubble(t *testing.T) *wstest.Client {
	l, _ := startInBubble(t)
	return wstest.Upgrade(t, l.Dial(t), "/ws")
}

// talkUntilClosed has p send messages that nobody wants any more, in a bubble, and
// expects that they can't be sent after d.
func talkUntilClosed(p *wstest.Client, d time.Duration) {
	p.T.Helper()
	const pause = 100 * time.Millisecond
	began := time.Now()
	for {
		if _, err := p.Conn.Write(wstest.Frame(0x81, "are you still there?")); err != nil {
			break
		}
		time.Sleep(pause)
	}
	if took := time.Since(began); took < d || took > d+pause {
		p.T.Errorf("closed after %v, want %v", took, d)
	}
}
