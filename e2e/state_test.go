package e2e

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/websocket"

	"example.com/chat/internal/wstest"
)

// regular is a person in a room who comes back with the position after each loss of connection.
type regular struct {
	t      *testing.T
	room   string
	number int
	speaks bool
	epoch  string
	lines  []string
}

// stay listens until somebody says "over".
func (r *regular) stay(addr string) {
	for {
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			time.Sleep(10 * time.Millisecond) // it is being restarted
			continue
		}
		conn.SetDeadline(time.Now().Add(2 * time.Minute))
		over, err := r.visit(conn)
		conn.Close()
		if err != nil {
			r.t.Errorf("%s, person %d, after %d lines: %v", r.room, r.number, len(r.lines), err)
		}
		if over || err != nil {
			return
		}
	}
}

// visit listens on one connection. An error is a broken promise.
func (r *regular) visit(conn net.Conn) (over bool, err error) {
	p, err := wstest.TryUpgrade(r.t, conn, fmt.Sprintf("/%s/ws?since=%s.%d", r.room, r.epoch, len(r.lines)))
	if err != nil {
		return false, nil // it is being stopped
	}
	epoch, seq, _, err := readPosition(p)
	if err != nil {
		return false, nil
	}
	if r.epoch != "" && (epoch != r.epoch || seq != len(r.lines)) {
		return false, fmt.Errorf("was at %s.%d, and came back at %s.%d", r.epoch, len(r.lines), epoch, seq)
	}
	r.epoch = epoch
	if r.speaks {
		done := make(chan struct{})
		defer close(done)
		go r.speak(p, done)
	}
	for next := p.Lines(); ; {
		line, err := next()
		if err != nil {
			return false, nil // closed
		}
		r.lines = append(r.lines, line)
		if line == "over" {
			return true, nil
		}
	}
}

// readPosition reads the first message that a client with ?since= gets.
func readPosition(p *wstest.Client) (epoch string, seq, end int, err error) {
	_, message, err := p.ReadFrame()
	if err == nil {
		_, err = fmt.Sscan(message, &epoch, &seq, &end)
	}
	return epoch, seq, end, err
}

// speak says lines of which each is another, until done is closed.
func (r *regular) speak(p *wstest.Client, done chan struct{}) {
	for {
		select {
		case <-done:
			return
		case <-time.After(rand.N(40 * time.Millisecond)):
			p.Write(wstest.Frame(0x81, fmt.Sprintf("%s %d %d", r.room, r.number, time.Now().UnixNano())))
		}
	}
}

// Three rooms of people talk while the program is stopped and started again and again. Nobody misses a
// line, or hears one twice, or in another order than others.
func TestRestartsNobodyNotices(t *testing.T) {
	t.Parallel()
	rooms, people, restarts := 3, 10, 3
	if wstest.Long() {
		people, restarts = 50, 20
	}
	addr, dir := freeAddr(t), t.TempDir()
	start := func() program { return startProgram(t, "-addr", addr, "-state", dir, "-history", "100000") }
	p := start()
	var regulars []*regular
	var staying sync.WaitGroup
	for room := range rooms {
		for number := range people {
			r := &regular{t: t, room: fmt.Sprint("room-", room), number: number, speaks: number < 5}
			regulars = append(regulars, r)
			staying.Go(func() { r.stay(addr) })
		}
	}
	for range restarts {
		time.Sleep(300*time.Millisecond + rand.N(300*time.Millisecond))
		p.Process.Signal(syscall.SIGTERM)
		if err := p.Wait(); err != nil {
			t.Fatalf("%v: %s", err, p.log)
		}
		p = start()
	}
	time.Sleep(300 * time.Millisecond)
	for room := range rooms {
		ann := wstest.Upgrade(t, wstest.Dial(t, addr), fmt.Sprintf("/room-%d/ws", room))
		ann.Send(websocket.TextFrame, "over")
		defer ann.Conn.Close()
	}
	staying.Wait()
	for i, r := range regulars {
		first := regulars[i/people*people]
		if len(r.lines) < 100*restarts {
			t.Errorf("%s: person %d heard only %d lines", r.room, r.number, len(r.lines))
		}
		if !slices.Equal(r.lines, first.lines) {
			t.Errorf("%s: person %d heard %d lines, person 0 %d, and others", r.room, r.number, len(r.lines), len(first.lines))
		}
		if unique := slices.Compact(slices.Sorted(slices.Values(r.lines))); len(unique) != len(r.lines) {
			t.Errorf("%s, person %d: %d lines came twice", r.room, r.number, len(r.lines)-len(unique))
		}
	}
	t.Logf("%d lines in a room, %d restarts", len(regulars[0].lines), restarts)
}

// A program that is killed starts again, with the lines up to some seconds before, whole and in order.
func TestKills(t *testing.T) {
	t.Parallel()
	kills := 3
	if wstest.Long() {
		kills = 40
	}
	addr, dir := freeAddr(t), t.TempDir()
	for run := range kills {
		p := startProgram(t, "-addr", addr, "-state", dir)
		ann := wstest.Upgrade(t, wstest.Dial(t, addr), "/lobby/ws?since=")
		if held := numberedBy(t, ann); run > 0 && (len(held) == 0 || held[len(held)-1][0] != run-1) {
			t.Fatalf("kill %d: of the 3 s before it no line is left", run)
		}
		for n, deadline := 0, time.Now().Add(3*time.Second+rand.N(time.Second)); time.Now().Before(deadline); n++ {
			ann.Send(websocket.TextFrame, fmt.Sprintf("%d %d", run, n))
			time.Sleep(5 * time.Millisecond)
		}
		p.Process.Kill()
		p.Wait()
		ann.Conn.Close()
	}
}

// numberedBy reads the lines that p gets on joining, "RUN N" each, in which each run counts from 0. It
// returns them.
func numberedBy(t *testing.T, p *wstest.Client) (lines [][2]int) {
	_, seq, end, err := readPosition(p)
	if err != nil {
		t.Fatal(err)
	}
	next := p.Lines()
	for range end - seq {
		line, err := next()
		run, n, ok := wstest.Parse(line)
		if err != nil || !ok {
			t.Fatalf("%v, %q", err, line)
		}
		if last := len(lines) - 1; last >= 0 && lines[last] != [2]int{run, n - 1} && (run <= lines[last][0] || n != 0) {
			t.Fatalf("line %q after %v", line, lines[last])
		}
		lines = append(lines, [2]int{run, n})
	}
	return lines
}

// A directory that can't be used ends the program, with a line that says why.
func TestStateThatCanNotBeUsed(t *testing.T) {
	t.Parallel()
	file := write(t, t.TempDir(), "file", "")
	used := t.TempDir()
	startProgram(t, "-state", used)
	for dir, why := range map[string]string{
		file:                         "not a directory",
		filepath.Join(file, "below"): "not a directory",
		"/proc/chat":                 "no such file",
		used:                         "another program uses this directory",
	} {
		var stderr bytes.Buffer
		cmd := chat(t, "-addr", "127.0.0.1:0", "-state", dir)
		cmd.Stderr = &stderr
		err := cmd.Run()
		if cmd.ProcessState.ExitCode() != 1 || !strings.Contains(stderr.String(), dir) || !strings.Contains(stderr.String(), why) || strings.Count(stderr.String(), "\n") != 1 {
			t.Errorf("%s: %v, %q; want status 1 and a line that says %q", dir, err, stderr.String(), why)
		}
	}
}

// The header of a file is JSON, and the rest of it the lines, for whoever has to look.
func TestStateCanBeRead(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	p := startProgram(t, "-state", dir)
	ann := wstest.Upgrade(t, wstest.Dial(t, p.addr), "/lobby/ws")
	for _, line := range []string{"one", "two"} {
		ann.Send(websocket.TextFrame, line)
		ann.Expect(websocket.TextFrame, line)
	}
	ann.Conn.Close()
	p.Process.Signal(syscall.SIGTERM)
	p.Wait()
	file, err := os.Open(filepath.Join(dir, "room-lobby.txt"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	scanner := bufio.NewScanner(file)
	scanner.Scan()
	var header struct{ Lines int }
	if err := json.Unmarshal(scanner.Bytes(), &header); err != nil || header.Lines != 2 {
		t.Errorf("%v, %s", err, scanner.Bytes())
	}
	for _, want := range []string{"one", "two"} {
		if scanner.Scan(); scanner.Text() != want {
			t.Errorf("%q, want %q", scanner.Text(), want)
		}
	}
}
