package e2e

import (
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/websocket"

	"example.com/chat/internal/wstest"
)

// regular is a client that stays in a room across restarts. After each loss of the connection it comes back
// with its position.
type regular struct {
	t      *testing.T
	room   string
	number int
	speaks bool
	paused *atomic.Bool  // while it is true, no regular speaks
	heard  *atomic.Int64 // lines that all regulars have received
	epoch  string
	lines  []string
}

// stay receives lines until one of them is "over".
func (r *regular) stay(addr string) {
	for {
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			time.Sleep(10 * time.Millisecond) // the chat is being restarted
			continue
		}
		conn.SetDeadline(time.Now().Add(2 * time.Minute))
		over, err := r.visit(conn)
		conn.Close()
		if err != nil {
			r.t.Errorf("%s, regular %d, after %d lines: %v", r.room, r.number, len(r.lines), err)
		}
		if over || err != nil {
			return
		}
	}
}

// visit receives lines on one connection, until the connection is lost or a line is "over". It returns an error
// if the room does not continue at the position.
func (r *regular) visit(conn net.Conn) (over bool, err error) {
	c, err := wstest.TryUpgrade(r.t, conn, fmt.Sprintf("/%s/ws?since=%s.%d", r.room, r.epoch, len(r.lines)))
	if err != nil {
		return false, nil // the chat is being stopped
	}
	epoch, seq, _, err := readPosition(c)
	if err != nil {
		return false, nil
	}
	if r.epoch != "" && (epoch != r.epoch || seq != len(r.lines)) {
		return false, fmt.Errorf("got position %s.%d, want %s.%d", epoch, seq, r.epoch, len(r.lines))
	}
	r.epoch = epoch
	if r.speaks {
		lost := make(chan struct{})
		defer close(lost)
		go r.speak(c, lost)
	}
	for next := c.Lines(); ; {
		line, err := next()
		if err != nil {
			return false, nil
		}
		r.lines = append(r.lines, line)
		r.heard.Add(1)
		if line == "over" {
			return true, nil
		}
	}
}

// readPosition reads the first message that a client with ?since= gets.
func readPosition(c *wstest.Client) (epoch string, seq, end int, err error) {
	_, message, err := c.ReadFrame()
	if err == nil {
		_, err = fmt.Sscan(message, &epoch, &seq, &end)
	}
	return epoch, seq, end, err
}

// speak sends lines, no two of which are equal, until lost is closed.
func (r *regular) speak(c *wstest.Client, lost chan struct{}) {
	for {
		select {
		case <-lost:
			return
		case <-time.After(rand.N(40 * time.Millisecond)):
			if !r.paused.Load() {
				c.Write(wstest.Frame(0x81, fmt.Sprintf("%s %d %d", r.room, r.number, time.Now().UnixNano())))
			}
		}
	}
}

// While the chat is stopped and started repeatedly, each client in three rooms gets every line once, in one
// order. In a long run nobody pauses at every fourth stop, so that the chat drains for 5 s.
func TestRestartsLoseNothing(t *testing.T) {
	t.Parallel()
	rooms, people, restarts := 3, 10, 3
	if wstest.Long() {
		people, restarts = 50, 20
	}
	addr, dir := freeAddr(t), t.TempDir()
	start := func() program { return startProgram(t, "-addr", addr, "-state", dir, "-history", "100000") }
	p := start()
	var paused atomic.Bool
	var heard atomic.Int64
	var regulars []*regular
	var staying sync.WaitGroup
	for room := range rooms {
		for number := range people {
			r := &regular{t: t, room: fmt.Sprint("room-", room), number: number, speaks: number < 5, paused: &paused, heard: &heard}
			regulars = append(regulars, r)
			staying.Go(func() { r.stay(addr) })
		}
	}
	untilTalking := func() {
		before := heard.Load()
		wstest.Until(t, "people talk", func() bool { return heard.Load() > before+100*int64(len(regulars)) })
	}
	for n := range restarts {
		untilTalking()
		p.Process.Signal(syscall.SIGTERM)
		time.Sleep(rand.N(100 * time.Millisecond))
		paused.Store(!wstest.Long() || n%4 > 0)
		if err := p.Wait(); err != nil {
			t.Fatalf("stop %d: got %v, want exit status 0", n, err)
		}
		paused.Store(false)
		p = start()
	}
	untilTalking()
	for room := range rooms {
		ann := wstest.Upgrade(t, wstest.Dial(t, addr), fmt.Sprintf("/room-%d/ws", room))
		ann.Send(websocket.TextFrame, "over")
		defer ann.Conn.Close()
	}
	staying.Wait()
	for i, r := range regulars {
		first := regulars[i/people*people]
		if !slices.Equal(r.lines, first.lines) {
			t.Errorf("%s: regular %d got %d lines, want the %d lines of regular 0", r.room, r.number, len(r.lines), len(first.lines))
		}
		if unique := slices.Compact(slices.Sorted(slices.Values(r.lines))); len(unique) != len(r.lines) {
			t.Errorf("%s: regular %d got %d lines twice, want none", r.room, r.number, len(r.lines)-len(unique))
		}
	}
	t.Logf("%d lines in a room, %d restarts", len(regulars[0].lines), restarts)
}

// A chat that is killed starts again. It then has the lines that were stored before, whole and in order.
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
		if last := lastRun(t, ann); last != run-1 {
			t.Fatalf("after kill %d: the last line is of run %d, want run %d", run, last, run-1)
		}
		began := time.Now()
		isStored := false
		for n, end := 0, began.Add(time.Minute); time.Now().Before(end); n++ {
			ann.Send(websocket.TextFrame, fmt.Sprint(run, " ", n))
			time.Sleep(5 * time.Millisecond)
			if !isStored && fileContains(filepath.Join(dir, "room-lobby.txt"), fmt.Sprintf("\n%d ", run)) {
				t.Logf("run %d: a line was stored after %v", run, time.Since(began))
				isStored, end = true, time.Now().Add(rand.N(time.Second))
			}
		}
		if !isStored {
			t.Fatalf("run %d: no line was stored within a minute", run)
		}
		p.Process.Kill()
		p.Wait()
		ann.Conn.Close()
	}
}

// fileContains reports whether a file exists, and contains text.
func fileContains(path, text string) bool {
	content, _ := os.ReadFile(path)
	return strings.Contains(string(content), text)
}

// lastRun reads the lines that c gets on joining, each of them "RUN N". It fails the test unless N counts from
// 0 in each RUN after the first. It returns the last RUN, or -1 if there is no line.
func lastRun(t *testing.T, c *wstest.Client) int {
	t.Helper()
	_, seq, end, err := readPosition(c)
	if err != nil {
		t.Fatal(err)
	}
	last := [2]int{-1, -1}
	next := c.Lines()
	for range end - seq {
		line, err := next()
		run, n, ok := wstest.Parse(line)
		if err != nil || !ok || last[0] >= 0 && (run != last[0] || n != last[1]+1) && (run <= last[0] || n != 0) {
			t.Fatalf("got line %q, %v after %v; want the next line, or the first of a later run", line, err, last)
		}
		last = [2]int{run, n}
	}
	return last[0]
}

// homecomer is a client that comes back to a room after each loss of the connection, with its last position. It does
// not number its messages.
type homecomer struct {
	t     *testing.T
	name  string // of a speaker, or ""
	said  int
	since string   // EPOCH.SEQ
	heard []string // all lines that came, in order
}

// stay receives lines until one of them is "over".
func (h *homecomer) stay(addr string) {
	for over := false; !over; {
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			time.Sleep(5 * time.Millisecond) // the chat is being restarted
			continue
		}
		conn.SetDeadline(time.Now().Add(2 * time.Minute))
		over = h.visit(conn)
		conn.Close()
	}
}

// visit receives lines on one connection, until the connection is lost or a line is "over".
func (h *homecomer) visit(conn net.Conn) (over bool) {
	c, err := wstest.TryUpgrade(h.t, conn, "/lobby/ws?since="+h.since)
	if err != nil {
		return false
	}
	epoch, seq, _, err := readPosition(c)
	if err != nil {
		return false
	}
	h.since = fmt.Sprintf("%s.%d", epoch, seq)
	lost := make(chan struct{})
	var speaking sync.WaitGroup
	defer speaking.Wait()
	defer close(lost)
	if h.name != "" {
		speaking.Go(func() { h.speak(c, lost) })
	}
	for next := c.Lines(); ; {
		line, err := next()
		if err != nil {
			return false
		}
		seq++
		h.since = fmt.Sprintf("%s.%d", epoch, seq)
		h.heard = append(h.heard, line)
		if line == "over" {
			return true
		}
	}
}

// speak sends lines, no two of which are equal, until lost is closed.
func (h *homecomer) speak(c *wstest.Client, lost chan struct{}) {
	for {
		select {
		case <-lost:
			return
		case <-time.After(rand.N(10 * time.Millisecond)):
			h.said++
			c.Write(wstest.Frame(0x81, fmt.Sprint(h.name, " ", h.said)))
		}
	}
}

// While the chat is killed again and again, also before it has written anything and while it starts, four clients that
// come back get every line that is left once, and in order.
func TestKillsInARow(t *testing.T) {
	t.Parallel()
	kills := 6
	if wstest.Long() {
		kills = 150
	}
	random := rand.New(rand.NewPCG(1, 2))
	addr, dir := freeAddr(t), t.TempDir()
	start := func() program { return startProgram(t, "-addr", addr, "-state", dir, "-history", "100000") }
	stored := func(room, text string) func() bool {
		return func() bool { return fileContains(filepath.Join(dir, "room-"+room+".txt"), text) }
	}
	p := start()
	for n := range 20 { // so that a start takes a while to read them
		ann := wstest.Upgrade(t, wstest.Dial(t, addr), fmt.Sprintf("/room%d/ws", n))
		ann.Send(websocket.TextFrame, "hello")
		defer ann.Conn.Close()
	}
	homecomers := []*homecomer{{t: t, name: "ann"}, {t: t, name: "bob"}, {t: t}, {t: t}}
	var staying sync.WaitGroup
	for _, h := range homecomers {
		staying.Go(func() { h.stay(addr) })
	}
	wstest.Until(t, "lines are stored", func() bool { return stored("lobby", "\nann 100\n")() && stored("room19", "hello")() })
	p.Process.Kill()
	p.Wait()
	for n := range kills {
		if n%4 == 3 { // while it starts
			cmd := chat(t, "-addr", addr, "-state", dir, "-history", "100000")
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Duration(random.IntN(30)) * time.Millisecond)
			cmd.Process.Kill()
			cmd.Wait()
			continue
		}
		p := start()
		switch {
		case n%4 == 2: // after it has written
			time.Sleep(time.Duration(1000+random.IntN(3000)) * time.Millisecond)
		default:
			time.Sleep(time.Duration(50+random.IntN(250)) * time.Millisecond)
		}
		p.Process.Kill()
		p.Wait()
	}
	start()
	over := wstest.Upgrade(t, wstest.Dial(t, addr), "/lobby/ws")
	over.Send(websocket.TextFrame, "over")
	defer over.Conn.Close()
	staying.Wait()
	late := &homecomer{t: t}
	late.stay(addr)
	for i, h := range homecomers {
		if unique := slices.Compact(slices.Sorted(slices.Values(h.heard))); len(unique) != len(h.heard) {
			t.Errorf("client %d: got %d lines, %d of them twice, want none", i, len(h.heard), len(h.heard)-len(unique))
		}
		rest := h.heard
		for n, line := range late.heard {
			at := slices.Index(rest, line)
			if at < 0 {
				t.Fatalf("client %d: line %d, %q, did not come after line %q, want all lines in order", i, n, line, late.heard[max(0, n-1)])
			}
			rest = rest[at+1:]
		}
	}
	t.Logf("%d lines are left of at least %d", len(late.heard), len(homecomers[0].heard))
}

// The chat does not start with a directory to which other users can write, and says how to mend that.
func TestStateOfOthers(t *testing.T) {
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o775); err != nil {
		t.Fatal(err)
	}
	out, err := chat(t, "-addr", "127.0.0.1:0", "-state", dir).CombinedOutput()
	if want := fmt.Sprintf("chat: -state %q: the mode of this directory lets other users write to it; run chmod go-w %[1]s\n", dir); err == nil || string(out) != want {
		t.Errorf("got %q, %v; want %q", out, err, want)
	}
}
