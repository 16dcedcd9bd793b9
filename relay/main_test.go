package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// Failed sessions are repeated after pauses that grow from 0.1 to 5 s, and from 0.1 s again after a session
// of more than 5 s. Only a permanent error ends the relay, even if it is wrapped, and only before a session
// has worked.
func TestRetry(t *testing.T) {
	passing, permanent := errors.New("connection refused"), permanentError{errors.New("wrong password")}
	growing := []time.Duration{0, 100 * ms, 300 * ms, 700 * ms, 1500 * ms, 3100 * ms, 6300 * ms, 11300 * ms, 16300 * ms}
	for _, test := range []struct {
		name   string
		err    error // of each session
		lasts  time.Duration
		works  bool
		starts []time.Duration // of the sessions within 20 s
		want   error
	}{
		{"passing", passing, 0, false, growing, nil},
		{"passing, each session 6 s", passing, 6 * time.Second, false, []time.Duration{0, 6100 * ms, 12200 * ms, 18300 * ms}, nil},
		{"permanent", permanent, 0, false, growing[:1], permanent},
		{"permanent and wrapped", fmt.Errorf("session: %w", permanent), 0, false, growing[:1], permanent},
		{"permanent and joined", errors.Join(passing, permanent), 0, false, growing[:1], permanent},
		{"permanent after a session that worked", permanent, 0, true, growing, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
				defer cancel()
				began := time.Now()
				var starts []time.Duration
				err := retry(ctx, func(_ context.Context, up func()) error {
					starts = append(starts, time.Since(began))
					if test.works {
						up()
					}
					time.Sleep(test.lasts)
					return test.err
				})
				if !errors.Is(err, test.want) {
					t.Errorf("got error %v, want %v", err, test.want)
				}
				if !slices.Equal(starts, test.starts) {
					t.Errorf("sessions started after %v, want %v", starts, test.starts)
				}
			})
		})
	}
}

// The log has the reason of a failure once, until the reason changes. Another local port is not another
// reason.
func TestRetryLogs(t *testing.T) {
	var log bytes.Buffer
	defer slog.SetDefault(slog.Default())
	slog.SetDefault(slog.New(slog.NewTextHandler(&log, nil)))
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		port := 40000
		retry(ctx, func(context.Context, func()) error {
			if port++; port > 40004 {
				return errors.New("connection refused")
			}
			return fmt.Errorf("read tcp 127.0.0.1:%d->127.0.0.1:4222: connection reset by peer", port)
		})
	})
	lines := strings.Split(strings.TrimSpace(log.String()), "\n")
	if len(lines) != 2 || !strings.Contains(lines[0], "reset") || !strings.Contains(lines[1], "refused") {
		t.Errorf("got log %q, want one line for each of the two reasons", lines)
	}
}

// A relay whose standard error was closed, as a terminal that is gone has, goes on. SIGHUP stops it with exit
// status 0, even if it comes twice.
func TestHangup(t *testing.T) {
	t.Parallel()
	out, in, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	out.Close()
	chat, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer chat.Close()
	relay := exec.Command(relayPath, "-chat", "ws://"+chat.Addr().String()+"/relay", "-listen", freeAddr(t), "-store", t.TempDir())
	relay.Stderr = in
	if err := relay.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { relay.Process.Kill() })
	in.Close()
	ended := make(chan error, 1)
	go func() { ended <- relay.Wait() }()
	for range 3 { // before the relay comes again, it logs that the chat does not answer
		chat.(*net.TCPListener).SetDeadline(time.Now().Add(30 * time.Second))
		conn, err := chat.Accept()
		if err != nil {
			t.Fatal(err)
		}
		conn.Close()
	}
	relay.Process.Signal(syscall.SIGHUP)
	relay.Process.Signal(syscall.SIGHUP)
	select {
	case err := <-ended:
		if err != nil {
			t.Errorf("got %v, want exit status 0", err)
		}
	case <-time.After(30 * time.Second):
		t.Errorf("the relay still runs 30 s after SIGHUP")
	}
}
