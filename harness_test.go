package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"net"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/websocket"

	"example.com/chat/internal/event"
	"example.com/chat/internal/wstest"
)

// TestMain fails if a goroutine of a chat outlives the tests.
func TestMain(m *testing.M) {
	flag.Parse()
	flag.Set("test.parallel", "16") // most tests wait
	wstest.Main(m)
}

// testChat is a chat that runs until stop, or the end of the test.
type testChat struct {
	t      testing.TB
	chat   *chat
	addr   string           // over TCP, without inMemory
	memory *wstest.Listener // with inMemory
	relays net.Listener     // in memory, with relayed
	stop   func()           // returns when every connection is closed; may be called again
}

// option changes how startChat starts a chat.
type option func(*testChat, *config)

// inMemory has the chat listen in memory, for tests in a synctest bubble.
func inMemory(c *testChat, _ *config) {
	listener := wstest.NewListener()
	c.memory = &listener
}

// connectable has the chat hold its lines for a relay. No relay can connect, so tests deliver lines themselves.
func connectable(_ *testChat, cfg *config) { cfg.relay = "127.0.0.1:0" }

// relayed has the chat wait for a relay, in memory.
func relayed(c *testChat, cfg *config) {
	connectable(c, cfg)
	c.relays = wstest.NewListener()
}

// with changes the config, which has the values without flags.
func with(change func(*config)) option { return func(_ *testChat, cfg *config) { change(cfg) } }

// startChat starts a chat, over TCP on a free port of 127.0.0.1 or in memory.
func startChat(t testing.TB, options ...option) *testChat {
	t.Helper()
	c, cfg := &testChat{t: t}, defaults
	cfg.maxConns = 1 << 20
	for _, set := range options {
		set(c, &cfg)
	}
	var listener net.Listener
	if c.memory != nil {
		listener = *c.memory
	} else {
		var err error
		if listener, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
			t.Fatal(err)
		}
		c.addr = listener.Addr().String()
	}
	var err error
	if c.chat, err = openChat(context.Background(), cfg); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		serve(ctx, listener, c.relays, c.chat)
	}()
	c.stop = func() {
		cancel()
		<-closed
	}
	t.Cleanup(c.stop)
	return c
}

// dial connects to the chat.
func (c *testChat) dial() net.Conn {
	c.t.Helper()
	if c.memory != nil {
		return c.memory.Dial(c.t)
	}
	return wstest.Dial(c.t, c.addr)
}

// join connects to a WebSocket address of the chat, such as /ws.
func (c *testChat) join(target string) *wstest.Client {
	c.t.Helper()
	return wstest.Upgrade(c.t, c.dial(), target)
}

// untilOpen waits until no more than n connections are open.
func (c *testChat) untilOpen(n int64) {
	c.t.Helper()
	wstest.Until(c.t, fmt.Sprint("no more than ", n, " connections are open"), func() bool { return c.chat.shared.counters.Connections.Value() <= n })
}

// resume joins with ?since= at a target such as /lobby/ws?events, and returns the position that the chat announces.
func (c *testChat) resume(target, since string) (*wstest.Client, position) {
	c.t.Helper()
	p, at, err := tryResume(c.t, c.dial(), target, since)
	if err != nil {
		c.t.Fatal(err)
	}
	return p, at
}

// position is the message EPOCH SEQ END.
type position struct {
	epoch    string
	seq, end uint64
}

func (p position) String() string { return fmt.Sprintf("%s.%d", p.epoch, p.seq) }

var positionSyntax = regexp.MustCompile(`^([A-Za-z0-9]+) ([0-9]+) ([0-9]+)$`)

// tryResume is resume on a connection. Any goroutine may call it.
func tryResume(t testing.TB, conn net.Conn, target, since string) (p *wstest.Client, at position, err error) {
	separator := "?"
	if strings.Contains(target, "?") {
		separator = "&"
	}
	if p, err = wstest.TryUpgrade(t, conn, target+separator+"since="+since); err != nil {
		return p, at, err
	}
	opcode, message, err := p.ReadFrame()
	match := positionSyntax.FindStringSubmatch(message)
	if err != nil || opcode != websocket.TextFrame || match == nil {
		return p, at, fmt.Errorf("got %s, %v; want a position", wstest.Show(opcode, message), err)
	}
	at.epoch = match[1]
	at.seq, _ = strconv.ParseUint(match[2], 10, 64)
	at.end, _ = strconv.ParseUint(match[3], 10, 64)
	return p, at, nil
}

// readEvent reads the next message, which must be an event.
func readEvent(t testing.TB, p *wstest.Client) event.Event {
	t.Helper()
	opcode, message, err := p.ReadFrame()
	e, ok := eventIn(t, opcode, message)
	if err != nil || !ok {
		t.Fatalf("got %s, %v; want an event", wstest.Show(opcode, message), err)
	}
	return e
}

// eventIn decodes a message that is an event.
func eventIn(t testing.TB, opcode byte, message string) (e event.Event, ok bool) {
	if opcode != websocket.BinaryFrame {
		return e, false
	}
	if err := json.Unmarshal([]byte(message), &e); err != nil {
		t.Errorf("event %q: %v", message, err)
	}
	return e, true
}

// sayNumbered has p say the lines from to to-1 of wstest.Numbered, and hear each of them.
func sayNumbered(t testing.TB, p *wstest.Client, from, to int) {
	t.Helper()
	for _, line := range wstest.Numbered(from, to) {
		p.Send(websocket.TextFrame, line)
		p.Expect(websocket.TextFrame, line)
	}
}

// sayUntilClosed has p send messages, in a bubble, until the server has closed the connection. That must take d.
func sayUntilClosed(p *wstest.Client, d time.Duration) {
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

// linesUntilClosed counts the lines that p hears until its connection ends.
func linesUntilClosed(p *wstest.Client) (heard int) {
	for {
		opcode, message, err := p.ReadFrame()
		if err != nil || opcode != websocket.TextFrame {
			return heard
		}
		heard += 1 + strings.Count(message, "\n")
	}
}

// pacedConn is a connection of a slow reader: it reads size bytes in each period.
type pacedConn struct {
	net.Conn
	size   int
	period time.Duration
	left   int
	next   time.Time
}

func (c *pacedConn) Read(b []byte) (int, error) {
	if c.left == 0 {
		time.Sleep(time.Until(c.next))
		c.left, c.next = c.size, time.Now().Add(c.period)
	}
	n, err := c.Conn.Read(b[:min(len(b), c.left)])
	c.left -= n
	return n, err
}

// joinSlow joins as a reader of size bytes in each period. Its sockets wait for up to ten minutes.
func (c *testChat) joinSlow(target string, size int, period time.Duration) *wstest.Client {
	c.t.Helper()
	conn := c.dial()
	if c.memory == nil {
		conn.SetDeadline(time.Now().Add(10 * time.Minute))
	}
	return wstest.Upgrade(c.t, &pacedConn{Conn: conn, size: size, period: period}, target)
}
