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
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/websocket"

	"example.com/chat/internal/metrics"
	"example.com/chat/internal/relay"
)

// A stopping Server waits up to 5 s until a relay has asked for the number after the last line.
func TestStopWaitsForTheRelay(t *testing.T) {
	for _, test := range []struct {
		name     string
		said     bool
		asks     bool // for the next line, a second after the stop
		from, to time.Duration
	}{
		{"nothing was said", false, false, 0, 0},
		{"the relay has all", true, true, time.Second, 1100 * time.Millisecond},
		{"the relay does not ask", true, false, 5 * time.Second, 5100 * time.Millisecond},
	} {
		t.Run(test.name, func(t *testing.T) {
			inBubble(t, Options{}, func(t *testing.T, h *harness) {
				r := h.connect()
				if test.said {
					h.publish("", "one", "two")
				}
				began := time.Now()
				stopped := make(chan time.Duration)
				go func() {
					h.stop()
					stopped <- time.Since(began)
				}()
				if test.said {
					time.Sleep(time.Second)
					r.ask(1, 1<<20)
					r.expect("1 : one", "2 : two")
				}
				if test.asks {
					r.ask(3, 1<<20)
				}
				r.discard()
				if took := <-stopped; took < test.from || took > test.to {
					t.Errorf("stopped after %v, want %v to %v", took, test.from, test.to)
				}
			})
		})
	}
}

// A stopping Server cuts off a relay that does not read within another second.
func TestStopCutsOffAStuckRelay(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, h *harness) {
		r := h.connect()
		h.publish("", "hello")
		r.ask(1, 1<<20)
		time.Sleep(10 * time.Second) // the answer is being written
		began := time.Now()
		h.stop()
		if took := time.Since(began); took < 5*time.Second || took > 6100*time.Millisecond {
			t.Errorf("stopped after %v, want 5 s to 6 s", took)
		}
	})
}

// A stopping Server does not wait for a Hub.
func TestStopWhileALineIsDelivered(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, h *harness) {
		h.chat.refuse = func(ctx context.Context, _ Part) error {
			<-ctx.Done()
			return ctx.Err()
		}
		r := h.connect()
		r.discard()
		r.say("other", 1, "hello")
		synctest.Wait()
		began := time.Now()
		h.stop()
		if took := time.Since(began); took > 2*time.Second {
			t.Errorf("stopped after %v, want at most 2 s", took)
		}
		h.expectSaid("")
	})
}

// Other chats can't flood the log: it gets 10 short records, and then one every 10 s. The counter has all
// lines.
func TestLogIsLimited(t *testing.T) {
	before := slog.Default()
	defer slog.SetDefault(before)
	var log bytes.Buffer
	slog.SetDefault(slog.New(slog.NewTextHandler(&log, nil)))
	inBubble(t, Options{}, func(t *testing.T, h *harness) {
		h.chat.refuse = func(context.Context, Part) error { return ErrNoRoom }
		r := h.connect()
		r.discard()
		room := strings.Repeat("x", 10_000)
		for n := range uint64(1000) {
			r.send(linesOf(room, "other", n+1, "hello"))
		}
		time.Sleep(30 * time.Second)
		for n := range uint64(100) {
			r.send(linesOf(room, "other", n+1001, "hello"))
		}
		h.expectCount("lines missed", &h.counters.RelayMissed, 1100)
		if records := strings.Count(log.String(), "room can't be opened"); records < 11 || records > 13 || log.Len() > 13*500 {
			t.Errorf("got %d records and %d bytes, want 11 to 13 and at most 500 each", records, log.Len())
		}
	})
}

// Only the owner can connect to a Unix socket. Listen replaces one that a process has left, and nothing else.
func TestListenUnix(t *testing.T) {
	path := filepath.Join(t.TempDir(), "relay.sock")
	listen := func() *net.UnixListener {
		t.Helper()
		l, err := Listen("unix:" + path)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.Close() })
		return l.(*net.UnixListener)
	}
	left := listen()
	left.SetUnlinkOnClose(false) // as if its process had been killed
	left.Close()
	if _, err := os.Lstat(path); err != nil {
		t.Fatal(err)
	}
	l := listen()
	if info, err := os.Lstat(path); err != nil || info.Mode() != os.ModeSocket|0o600 {
		t.Errorf("got mode %v, %v; want a socket with mode 0600", info.Mode(), err)
	}
	if _, err := Listen("unix:" + path); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("a second Listen: got %v, want EADDRINUSE", err)
	}
	go l.Accept() // the connection of the second Listen
	if conn, err := net.Dial("unix", path); err != nil {
		t.Errorf("the first socket: got %v, want a connection", err)
	} else {
		conn.Close()
	}
	l.Close()
	if _, err := os.Lstat(path); !os.IsNotExist(err) {
		t.Errorf("the socket after Close: got %v, want none", err)
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

// A relay may connect over TCP or a Unix socket.
func TestListen(t *testing.T) {
	for _, address := range []string{"127.0.0.1:0", "unix:" + filepath.Join(t.TempDir(), "relay.sock")} {
		l, err := Listen(address)
		if err != nil {
			t.Fatal(err)
		}
		chat := &fakeChat{t: t}
		server := New(chat, Options{Counters: new(metrics.Counters)})
		chat.server = server
		ctx, stop := context.WithCancel(t.Context())
		served := make(chan struct{})
		go func() {
			defer close(served)
			server.Serve(ctx, l)
		}()
		conn, err := net.Dial(l.Addr().Network(), l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		config, _ := websocket.NewConfig("ws://chat/relay", relay.OriginHeader)
		socket, err := websocket.NewClient(config, conn)
		if err != nil {
			t.Fatal(err)
		}
		var b []byte
		if err := websocket.Message.Receive(socket, &b); err != nil || !bytes.Contains(b, []byte(server.origin)) {
			t.Errorf("%s: got %s, %v; want a hello", address, b, err)
		}
		stop()
		conn.Close()
		<-served
	}
}
