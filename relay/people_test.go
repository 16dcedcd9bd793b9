package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/websocket"

	"example.com/chat/internal/wstest"
)

// common is the text of one line in five, for all people. A chat that takes equal texts for repetitions loses
// some of them.
const common = "hi"

// lineOf returns the line with index n of a person, without the pad.
func lineOf(name string, n int) string {
	if n%5 == 4 {
		return common
	}
	return fmt.Sprint(name, " ", n)
}

// person is a client in a room that listens, and says lines when the test wants it to. After each loss of its
// connection it comes back with its position and repeats unacknowledged lines, as docs/protocol.md describes.
type person struct {
	// Set at construction, pad by the test before the first line.
	t      testing.TB
	name   string
	room   string
	chat   *chatProgram
	sender string
	pad    string // added to each line, for its length
	ctx    context.Context
	leave  context.CancelFunc

	// Any goroutine.
	talking chan struct{} // has an element if there may be lines to say

	// Guarded by mu.
	mu      sync.Mutex
	said    int      // lines to say so far, sent or not
	acked   int      // lines that the room has acknowledged
	epoch   string   // of the lines in heard
	crashes bool     // the chat may come back in another epoch
	quiet   bool     // say does nothing
	heard   []string // lines of the room from position 0, without pads
	people  int      // latest people count
}

// newPerson returns a person in a room of c, who is not connected. The number tells the people of c apart.
func newPerson(t testing.TB, c *chatProgram, room string, number int) *person {
	p := &person{t: t, name: fmt.Sprint(c.name, "-person", number), room: room, chat: c, sender: rand.Text(), talking: make(chan struct{}, 1)}
	p.ctx, p.leave = context.WithCancel(t.Context())
	return p
}

// stay connects again after each visit, until the person leaves or the test ends.
func (p *person) stay() {
	for p.ctx.Err() == nil {
		if conn, err := net.Dial("tcp", p.chat.addr); err == nil {
			p.visit(conn)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// visit listens and speaks on one connection until it is closed. It closes conn.
func (p *person) visit(conn net.Conn) {
	ctx, leave := context.WithCancel(p.ctx)
	var speaking sync.WaitGroup
	defer speaking.Wait()
	defer leave()
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	c, err := wstest.TryUpgrade(p.t, conn, p.target())
	if err != nil || !p.arrive(c) {
		return
	}
	for greeted := false; ; {
		opcode, message, err := c.ReadFrame()
		switch {
		case err != nil || opcode == websocket.CloseFrame:
			return
		case opcode == websocket.PingFrame:
			c.Write(wstest.Frame(0x80|websocket.PongFrame, message))
		case opcode == websocket.TextFrame:
			p.hear(message)
		case opcode == websocket.BinaryFrame:
			acked := p.noteEvent(message)
			if !greeted {
				greeted = true
				speaking.Go(func() { p.speak(ctx, c, acked) })
			}
		}
	}
}

// target returns the request target for the next connection.
func (p *person) target() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	path := "/ws"
	if p.room != "" {
		path = "/" + p.room + path
	}
	return fmt.Sprintf("%s?since=%s.%d&events=1&sender=%s.%d", path, p.epoch, len(p.heard), p.sender, p.acked)
}

// arrive reads the first message, which must have the person's own position. Only a chat that has crashed may
// begin earlier, in another epoch, and then arrive forgets the lines after that position. It reports whether
// the visit can go on.
func (p *person) arrive(c *wstest.Client) (ok bool) {
	_, message, err := c.ReadFrame()
	if err != nil {
		return false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	var epoch string
	var seq, end int
	_, err = fmt.Sscan(message, &epoch, &seq, &end)
	same := epoch == p.epoch || p.epoch == ""
	if err != nil || same && seq != len(p.heard) || !same && (!p.crashes || seq > len(p.heard)) {
		p.t.Errorf("%s came back: got first message %.60q, want position %s.%d", p.name, message, p.epoch, len(p.heard))
		p.leave()
		return false
	}
	p.epoch, p.heard = epoch, p.heard[:seq]
	return true
}

// speak sends the person's lines from index next on, as say adds them, until ctx is done or c fails.
func (p *person) speak(ctx context.Context, c *wstest.Client, next int) {
	for {
		p.mu.Lock()
		said := p.said
		p.mu.Unlock()
		for next < said {
			var lines []byte
			for ; next < said && len(lines) < 1<<20; next++ {
				lines = append(lines, wstest.Frame(0x80|websocket.TextFrame, lineOf(p.name, next)+p.pad)...)
			}
			if _, err := c.Write(lines); err != nil {
				return
			}
		}
		select {
		case <-p.talking:
		case <-ctx.Done():
			return
		}
	}
}

// say has the person say more lines, unless the person is quiet.
func (p *person) say(lines int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.quiet {
		return
	}
	p.said += lines
	select {
	case p.talking <- struct{}{}:
	default:
	}
}

// hush makes the person quiet after a line that nobody else says, so that a test can wait for that line.
func (p *person) hush() {
	for quiet := false; !quiet; {
		p.say(1)
		p.mu.Lock()
		quiet = lineOf(p.name, p.said-1) != common
		p.quiet = quiet
		p.mu.Unlock()
	}
}

// lines returns the number of lines that the person has to say so far.
func (p *person) lines() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.said
}

// hear adds the lines of a text message to p.heard.
func (p *person) hear(message string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for line := range strings.SplitSeq(message, "\n") {
		p.heard = append(p.heard, strings.Clone(strings.TrimRight(line, " ")))
	}
}

// noteEvent reads an event. It returns the number of the person's lines that are acknowledged.
func (p *person) noteEvent(message string) (acked int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	event := struct{ Taken, People *int }{&p.acked, &p.people}
	if err := json.Unmarshal([]byte(message), &event); err != nil {
		p.t.Errorf("%s: got event %q with %v, want valid JSON", p.name, message, err)
	}
	return p.acked
}

// expectCrash allows the person's chat to come back in another epoch.
func (p *person) expectCrash() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.crashes = true
}

// resume ends hush.
func (p *person) resume() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.quiet = false
}

// hasHeard reports whether the person has heard a line. It is fast for recent ones.
func (p *person) hasHeard(line string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, heard := range slices.Backward(p.heard) {
		if heard == line {
			return true
		}
	}
	return false
}

// counted returns the people count of the last event that had one.
func (p *person) counted() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.people
}

// listened returns the number of lines that the person has heard.
func (p *person) listened() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.heard)
}

// findings holds the lines that break the promise, by what is wrong with them.
type findings map[string][]string

func (f findings) add(what, line string, n int) {
	for range n {
		f[what] = append(f[what], line)
	}
}

// String returns the number of lines of each kind, and the first eight of them.
func (f findings) String() string {
	var b strings.Builder
	for what, lines := range f {
		fmt.Fprintf(&b, "%d lines %s: %.400q ", len(lines), what, lines[:min(len(lines), 8)])
	}
	return b.String()
}

const lost, disordered = "lost", "out of order"

// excuseOrder forgets lines of a chat's own people that are out of order. After a crash of that chat its
// people may talk before it has read their earlier lines from the JetStream stream.
func (f findings) excuseOrder(chat string) {
	f[disordered] = slices.DeleteFunc(f[disordered], func(line string) bool { return strings.HasPrefix(line, chat+"-") })
	if len(f[disordered]) == 0 {
		delete(f, disordered)
	}
}

// audit checks that heard has every line of everyone once and in the speaker's order. The map said has the
// number of lines of each person, by name.
func audit(heard []string, said map[string]int) findings {
	found, times, last := make(findings), make(map[string]int), make(map[string]int)
	for _, line := range heard {
		times[line]++
		name, number, _ := strings.Cut(line, " ")
		n, err := strconv.Atoi(number)
		switch {
		case line == common:
			continue
		case err != nil || n >= said[name] || line != lineOf(name, n):
			found.add("that nobody said", line, 1)
		case times[line] > 1:
			found.add("doubled", line, 1)
		case n < last[name]:
			found.add(disordered, line, 1)
		}
		last[name] = max(last[name], n)
	}
	commons := 0
	for name, lines := range said {
		for n := range lines {
			if line := lineOf(name, n); line == common {
				commons++
			} else if times[line] == 0 {
				found.add(lost, line, 1)
			}
		}
	}
	found.add(lost, common, max(0, commons-times[common]))
	found.add("doubled", common, max(0, times[common]-commons))
	return found
}

// audit checks the lines that p has heard.
func (p *person) audit(said map[string]int) findings {
	p.mu.Lock()
	defer p.mu.Unlock()
	return audit(p.heard, said)
}

// audit finds each kind of broken promise.
func TestAudit(t *testing.T) {
	said := map[string]int{"a": 6, "b": 2}
	for _, test := range []struct{ heard, want string }{
		{"a 0,b 0,a 1,a 2,b 1,a 3,hi,a 5", ""},
		{"a 0,b 0,a 1,a 2,a 3,hi,a 5", "lost b 1"},
		{"a 0,b 0,a 1,a 2,b 1,a 3,a 5", "lost hi"},
		{"a 0,b 0,a 1,a 2,b 1,a 3,hi,a 5,hi", "doubled hi"},
		{"a 0,b 0,a 1,a 2,b 1,a 3,hi,a 5,b 0", "doubled b 0"},
		{"a 0,b 0,a 2,a 1,b 1,a 3,hi,a 5", "out of order a 1"},
		{"a 0,b 0,a 1,a 2,b 1,a 3,hi,a 5,a 7", "that nobody said a 7"},
		{"a 0,b 0,a 1,a 2,b 1,a 3,hi,a 5,x", "that nobody said x"},
	} {
		got := ""
		for what, lines := range audit(strings.Split(test.heard, ","), said) {
			got += what + " " + strings.Join(lines, ",")
		}
		if got != test.want {
			t.Errorf("%s: got %q, want %q", test.heard, got, test.want)
		}
	}
}
