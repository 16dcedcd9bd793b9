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

// One line in five of everyone is the same text.
const common = "hi"

// lineOf returns the n-th line of a person, from 0.
func lineOf(name string, n int) string {
	if n%5 == 4 {
		return common
	}
	return fmt.Sprint(name, " ", n)
}

// person listens to a room, and says lines when told to. After each loss of connection they come back with
// their position, and say again what may not have arrived, as docs/protocol.md says.
type person struct {
	t       testing.TB
	name    string
	room    string
	chat    *chatProgram
	sender  string
	pad     string // behind each line that they say
	ctx     context.Context
	leave   context.CancelFunc
	talking chan struct{} // has an element if there may be something to say

	mu      sync.Mutex
	said    int      // lines that they were told to say
	taken   int      // how many of these the chat has
	epoch   string   // of heard
	crashes bool     // their chat may come back as another run
	quiet   bool     // they say nothing
	heard   []string // all lines of the room, without pads
	people  int      // in the room, as the chat says
}

func newPerson(t testing.TB, c *chatProgram, room string, number int) *person {
	p := &person{t: t, name: fmt.Sprint(c.name, "-person", number), room: room, chat: c, sender: rand.Text(), talking: make(chan struct{}, 1)}
	p.ctx, p.leave = context.WithCancel(t.Context())
	return p
}

// stay comes back again and again, until the person leaves or the test ends.
func (p *person) stay() {
	for p.ctx.Err() == nil {
		if conn, err := net.Dial("tcp", p.chat.addr); err == nil {
			p.visit(conn)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// visit listens and talks on one connection, until it is closed.
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
			taken := p.note(message)
			if !greeted {
				greeted = true
				speaking.Go(func() { p.speak(ctx, c, taken) })
			}
		}
	}
}

// target returns what to ask the chat for.
func (p *person) target() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	path := "/ws"
	if p.room != "" {
		path = "/" + p.room + path
	}
	return fmt.Sprintf("%s?since=%s.%d&events=1&sender=%s.%d", path, p.epoch, len(p.heard), p.sender, p.taken)
}

// arrive reads the first message, the position. It has to be where the person was. Only a chat that crashed may
// go back: to a line that it has kept, or to the first. What was heard behind that was another run's.
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
		p.t.Errorf("%s was at %s.%d, and came back to %.60q", p.name, p.epoch, len(p.heard), message)
		p.leave()
		return false
	}
	p.epoch, p.heard = epoch, p.heard[:seq]
	return true
}

// speak says what was not taken, and then what the person is told to say.
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

// say tells the person to say more lines. While they are quiet they don't.
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

// hushName has the person be quiet, when the last line that they have said has their name.
func (p *person) hushName() {
	for quiet := false; !quiet; {
		p.say(1)
		p.mu.Lock()
		quiet = lineOf(p.name, p.said-1) != common
		p.quiet = quiet
		p.mu.Unlock()
	}
}

// lines returns how many lines the person was told to say.
func (p *person) lines() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.said
}

func (p *person) hear(message string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for line := range strings.SplitSeq(message, "\n") {
		p.heard = append(p.heard, strings.Clone(strings.TrimRight(line, " ")))
	}
}

// note takes an event. It returns how many of the person's lines were taken.
func (p *person) note(message string) (taken int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	event := struct{ Taken, People *int }{&p.taken, &p.people}
	if err := json.Unmarshal([]byte(message), &event); err != nil {
		p.t.Errorf("%s was told %q: %v", p.name, message, err)
	}
	return p.taken
}

// expectCrash has the person know that their chat may come back as another run.
func (p *person) expectCrash() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.crashes = true
}

// resume has the person talk again.
func (p *person) resume() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.quiet = false
}

// hasHeard reports whether the person has heard a line. What was said last is found first.
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

// counted returns how many people there are in the room, as the chat says.
func (p *person) counted() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.people
}

// listened returns how many lines the person has heard.
func (p *person) listened() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.heard)
}

// findings are lines that were not heard as promised, by what is wrong with them.
type findings map[string][]string

func (f findings) add(what, line string, n int) {
	for range n {
		f[what] = append(f[what], line)
	}
}

// String tells how many lines there are of each kind, and the first of them.
func (f findings) String() string {
	var b strings.Builder
	for what, lines := range f {
		fmt.Fprintf(&b, "%d lines %s: %.400q ", len(lines), what, lines[:min(len(lines), 8)])
	}
	return b.String()
}

const lost, disordered = "lost", "out of order"

// excuseOrder forgets lines of the people of a chat that are out of order. After a crash of that chat they talk
// before it has heard from the stream what they said before.
func (f findings) excuseOrder(chat string) {
	f[disordered] = slices.DeleteFunc(f[disordered], func(line string) bool { return strings.HasPrefix(line, chat+"-") })
	if len(f[disordered]) == 0 {
		delete(f, disordered)
	}
}

// audit compares what a person has heard with how many lines each of the others has said, by name.
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

// audit compares what p has heard with what was said.
func (p *person) audit(said map[string]int) findings {
	p.mu.Lock()
	defer p.mu.Unlock()
	return audit(p.heard, said)
}

// A test of tests: each kind of broken promise is found.
func TestAudit(t *testing.T) {
	said := map[string]int{"a": 6, "b": 2}
	for _, test := range []struct{ heard, finds string }{
		{"a 0,b 0,a 1,a 2,b 1,a 3,hi,a 5", ""},
		{"a 0,b 0,a 1,a 2,a 3,hi,a 5", "lost b 1"},
		{"a 0,b 0,a 1,a 2,b 1,a 3,a 5", "lost hi"},
		{"a 0,b 0,a 1,a 2,b 1,a 3,hi,a 5,hi", "doubled hi"},
		{"a 0,b 0,a 1,a 2,b 1,a 3,hi,a 5,b 0", "doubled b 0"},
		{"a 0,b 0,a 2,a 1,b 1,a 3,hi,a 5", "out of order a 1"},
		{"a 0,b 0,a 1,a 2,b 1,a 3,hi,a 5,a 7", "that nobody said a 7"},
		{"a 0,b 0,a 1,a 2,b 1,a 3,hi,a 5,x", "that nobody said x"},
	} {
		finds := ""
		for what, lines := range audit(strings.Split(test.heard, ","), said) {
			finds += what + " " + strings.Join(lines, ",")
		}
		if finds != test.finds {
			t.Errorf("%s: finds %q, want %q", test.heard, finds, test.finds)
		}
	}
}
