package relayserver

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// A stopping Server waits up to 5 s until a relay has asked for the number after the last line. It cuts off a relay
// that does not read within another second, and does not wait for a Hub.
func TestStop(t *testing.T) {
	for name, test := range map[string]struct {
		said     bool               // a line here, or else one of another chat
		relay    func(r *fakeRelay) // what the relay does during the stop, before it reads what else comes
		from, to time.Duration
	}{
		"a line is being delivered": {false, func(*fakeRelay) {}, 0, 0},
		"the relay has all":         {true, func(r *fakeRelay) { time.Sleep(time.Second); r.ask(2, 1) }, time.Second, 1100 * time.Millisecond},
		"the relay does not ask":    {true, func(r *fakeRelay) { r.ask(1, 1); r.expect("1 : one") }, 5 * time.Second, 5100 * time.Millisecond},
		"the relay does not read":   {true, func(r *fakeRelay) { r.ask(1, 1); time.Sleep(time.Minute) }, 5900 * time.Millisecond, 6100 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, Options{}, func(t *testing.T, h *harness) {
				h.refuse = func(ctx context.Context, _ Part) error {
					<-ctx.Done()
					return ctx.Err()
				}
				r := h.connect()
				if test.said {
					h.publish("", "one")
				} else {
					r.say("other", 1, "hello")
				}
				synctest.Wait()
				began := time.Now()
				var relaying sync.WaitGroup
				relaying.Go(func() { test.relay(r); <-r.discard() })
				h.stop()
				if took := time.Since(began); took < test.from || took > test.to {
					t.Errorf("stopped after %v, want %v to %v", took, test.from, test.to)
				}
				relaying.Wait()
				h.expectSaid("")
			})
		})
	}
}

// Other chats can't flood the log: it gets 10 short records, and then one every 10 s. The counter has all
// lines.
func TestLogIsLimited(t *testing.T) {
	before := slog.Default()
	defer slog.SetDefault(before)
	var log bytes.Buffer
	slog.SetDefault(slog.New(slog.NewTextHandler(&log, nil)))
	inBubble(t, Options{}, func(t *testing.T, h *harness) {
		h.refuse = func(context.Context, Part) error { return ErrNoRoom }
		r := h.connect()
		r.discard()
		room := strings.Repeat("x", 10_000)
		for n := range uint64(1000) {
			r.send(linesAt(0, room, "other", n+1, "hello"))
		}
		time.Sleep(30 * time.Second)
		for n := range uint64(100) {
			r.send(linesAt(0, room, "other", n+1001, "hello"))
		}
		h.expectCount("lines missed", &h.counters.RelayMissed, 1100)
		if records := strings.Count(log.String(), "room can't be opened"); records < 11 || records > 13 || log.Len() > 13*500 {
			t.Errorf("got %d records and %d bytes, want 11 to 13 and at most 500 each", records, log.Len())
		}
	})
}

// Only the owner can connect to a Unix socket. Listen replaces one that a process has left, and nothing else.
func TestListen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "relay.sock")
	listen := func() *net.UnixListener {
		t.Helper()
		l, err := Listen("unix:" + path)
		if err != nil {
			t.Fatal(err)
		}
		return l.(*net.UnixListener)
	}
	left := listen()
	left.SetUnlinkOnClose(false) // as if its process had been killed
	left.Close()
	before, _ := os.Lstat(path)
	h := start(t, Options{}, listen())
	if info, err := os.Lstat(path); err != nil || info.Mode() != os.ModeSocket|0o600 || before == nil {
		t.Errorf("got %v, %v after %v; want a socket with mode 0600 after another one", info, err, before)
	}
	if _, err := Listen("unix:" + path); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("a second Listen: got %v, want EADDRINUSE", err)
	}
	conn, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	greet(t, conn).discard()
	h.stop()
	if _, err := os.Lstat(path); !os.IsNotExist(err) {
		t.Errorf("the socket after the stop: got %v, want none", err)
	}
	if err := os.WriteFile(path, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Listen("unix:" + path); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("Listen on a file: got %v, want EADDRINUSE", err)
	}
	if b, err := os.ReadFile(path); err != nil || string(b) != "mine" {
		t.Errorf("the file: got %q, %v; want it unchanged", b, err)
	}
}

// Listen keeps the socket of a process that is too busy to accept connections.
func TestListenBusyUnix(t *testing.T) {
	path := filepath.Join(t.TempDir(), "relay.sock")
	fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
	err = cmp.Or(err, syscall.Bind(fd, &syscall.SockaddrUnix{Name: path}), syscall.Listen(fd, 0))
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Close(fd)
	for err == nil { // until the queue of the socket is full
		var conn net.Conn
		if conn, err = net.Dial("unix", path); err == nil {
			defer conn.Close()
		}
	}
	before, _ := os.Lstat(path)
	if l, err := Listen("unix:" + path); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("got %v, want EADDRINUSE", err)
		if err == nil {
			l.Close()
		}
	}
	if after, err := os.Lstat(path); err != nil || !os.SameFile(before, after) {
		t.Errorf("the socket was replaced, %v", err)
	}
}
