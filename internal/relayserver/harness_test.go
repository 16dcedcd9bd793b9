package relayserver

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"golang.org/x/net/websocket"

	"example.com/chat/internal/lines"
	"example.com/chat/internal/metrics"
	"example.com/chat/internal/once"
	"example.com/chat/internal/relay"
	"example.com/chat/internal/wstest"
)

func TestMain(m *testing.M) { wstest.Main(m) }

// fakeChat is a Chat with rooms that drop the lines they have accepted before, as Hubs do.
type fakeChat struct {
	t      *testing.T
	server *Server
	refuse func(context.Context, Part) error // if set, its error is Deliver's

	mu           sync.Mutex
	rooms        map[string]*fakeRoom
	people       map[string]int
	remotePeople map[string]int
}

// fakeRoom is a room of a fakeChat.
type fakeRoom struct {
	marks    once.Marks
	said     []string // lines since the last expectSaid
	repeated uint64   // lines that were dropped
}

// Deliver implements Chat. It would block for ever if the Server held its lock.
func (c *fakeChat) Deliver(ctx context.Context, p Part) error {
	if c.refuse != nil {
		if err := c.refuse(ctx, p); err != nil {
			return err
		}
	}
	marks := c.server.Delivered()
	if p.Text != nil && (uint64(lines.Count(p.Text)) != p.Count || !utf8.Valid(p.Text) || len(p.Text) > 64<<10 && p.Count > 1) {
		c.t.Errorf("got %d bytes, valid: %v, with %d lines; want valid UTF-8 of at most 64 KiB with %d lines", len(p.Text), utf8.Valid(p.Text), lines.Count(p.Text), p.Count)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	room := c.rooms[p.Room]
	if room == nil {
		room = &fakeRoom{marks: marks}
		c.rooms[p.Room] = room
	}
	repeated := room.marks.Accept(p.Origin, p.First, p.Count, time.Now())
	if p.Text != nil {
		room.repeated += repeated
		all := slices.Collect(strings.Lines(string(p.Text)))
		for _, line := range all[repeated:] {
			room.said = append(room.said, strings.TrimSuffix(line, "\n"))
		}
	}
	return nil
}

// People implements Chat.
func (c *fakeChat) People() map[string]int {
	c.server.Delivered() // blocks if the Server holds its lock
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.people
}

// SetRemotePeople implements Chat.
func (c *fakeChat) SetRemotePeople(people map[string]int) {
	c.server.Delivered()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.remotePeople = people
}

func (c *fakeChat) setPeople(people map[string]int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.people = people
}

// harness is a Server in a bubble, with its chat.
type harness struct {
	t        *testing.T
	server   *Server
	chat     *fakeChat
	counters *metrics.Counters
	listener wstest.Listener
	stop     func() // ends Serve and waits for it
}

// inBubble runs a test with a Server that serves until the end of the test.
func inBubble(t *testing.T, o Options, test func(*testing.T, *harness)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { test(t, start(t, o)) })
}

// start runs a Server until stop, or the end of the test.
func start(t *testing.T, o Options) *harness {
	o.Counters = new(metrics.Counters)
	chat := &fakeChat{t: t, rooms: make(map[string]*fakeRoom), people: map[string]int{}}
	chat.server = New(chat, o)
	h := &harness{t: t, server: chat.server, chat: chat, counters: o.Counters, listener: wstest.NewListener()}
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan struct{})
	go func() {
		defer close(served)
		h.server.Serve(ctx, h.listener)
	}()
	h.stop = func() {
		cancel()
		<-served
	}
	t.Cleanup(h.stop)
	return h
}

// publish publishes lines that are said now.
func (h *harness) publish(room string, said ...string) {
	h.server.Publish(room, []byte(strings.Join(said, "\n")+"\n"), time.Now())
}

// expectSaid expects the lines that a room has said since the last call, when nothing else is going on.
func (h *harness) expectSaid(room string, want ...string) {
	h.t.Helper()
	synctest.Wait()
	h.chat.mu.Lock()
	defer h.chat.mu.Unlock()
	var got []string
	if r := h.chat.rooms[room]; r != nil {
		got, r.said = r.said, nil
	}
	if !slices.Equal(got, want) {
		h.t.Errorf("room %q said %.500q, want %.500q", room, got, want)
	}
}

// expectCount expects the value of a counter.
func (h *harness) expectCount(what string, counter interface{ Value() int64 }, want int64) {
	h.t.Helper()
	synctest.Wait()
	if got := counter.Value(); got != want {
		h.t.Errorf("%s: got %d, want %d", what, got, want)
	}
}

// expectHello expects a hello on a new connection.
func (h *harness) expectHello(cursor relay.Cursor, backlog bool) {
	h.t.Helper()
	r := h.connect()
	defer r.hangUp()
	if r.hello.Cursor != cursor || r.hello.Backlog != backlog {
		h.t.Errorf("hello: got cursor %+v, backlog %v; want %+v, %v", r.hello.Cursor, r.hello.Backlog, cursor, backlog)
	}
}

// fakeRelay is a relay as a Server sees it.
type fakeRelay struct {
	t      *testing.T
	socket *websocket.Conn
	hello  relay.Hello
	hangUp func() // closes the connection without a close frame
}

// connect connects a relay and reads the hello.
func (h *harness) connect() *fakeRelay {
	h.t.Helper()
	config, err := websocket.NewConfig("ws://chat/relay", relay.OriginHeader)
	if err != nil {
		h.t.Fatal(err)
	}
	conn := h.listener.Dial(h.t)
	socket, err := websocket.NewClient(config, conn)
	if err != nil {
		h.t.Fatal(err)
	}
	r := &fakeRelay{t: h.t, socket: socket, hangUp: func() { conn.Close() }}
	m := r.receive()
	if m.Hello == nil {
		h.t.Fatalf("got %+v, want a hello", m)
	}
	r.hello = *m.Hello
	return r
}

// receiveAny returns the next message.
func (r *fakeRelay) receiveAny() relay.Message {
	r.t.Helper()
	var b []byte
	if err := websocket.Message.Receive(r.socket, &b); err != nil {
		r.t.Fatal(err)
	}
	m, err := relay.Decode(b)
	if err != nil {
		r.t.Fatal(err)
	}
	return m
}

// receive returns the next message that is not a report of people. It waits up to a minute.
func (r *fakeRelay) receive() relay.Message {
	r.t.Helper()
	r.socket.SetReadDeadline(time.Now().Add(time.Minute))
	m := r.receiveAny()
	for m.People != nil {
		m = r.receiveAny()
	}
	return m
}

// discard reads and ignores all further messages, and returns a channel that is closed at the end of the
// connection.
func (r *fakeRelay) discard() (end <-chan struct{}) {
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		var b []byte
		for websocket.Message.Receive(r.socket, &b) == nil {
		}
	}()
	return ended
}

func (r *fakeRelay) send(m relay.Message) {
	r.t.Helper()
	if err := websocket.Message.Send(r.socket, m.Encode()); err != nil {
		r.t.Error(err)
	}
}

// ask asks for lines.
func (r *fakeRelay) ask(from uint64, limit int) {
	r.t.Helper()
	r.send(relay.Message{Ask: &relay.Ask{From: from, Limit: limit}})
}

// expect expects lines, each with its number and room, such as "7 lobby: hello", in any number of messages.
func (r *fakeRelay) expect(want ...string) {
	r.t.Helper()
	for len(want) > 0 {
		got := linesIn(r.receive())
		if len(got) > len(want) || !slices.Equal(got, want[:len(got)]) {
			r.t.Fatalf("got %.500q, want %.500q", got, want)
		}
		want = want[len(got):]
	}
}

// say sends lines that another chat says now in the nameless room, in a message whose sequence is first.
func (r *fakeRelay) say(origin string, first uint64, said ...string) {
	r.t.Helper()
	r.send(linesOf("", origin, first, said...))
}

// sayBacklog is say for a message of a backlog.
func (r *fakeRelay) sayBacklog(room string, at int64, origin string, first uint64, said ...string) {
	r.t.Helper()
	m := linesAt(at, room, origin, first, said...)
	m.Backlog = true
	r.send(m)
}

// linesIn returns the lines of m, each with its number and room.
func linesIn(m relay.Message) (all []string) {
	text, number := m.Body, m.First
	for _, segment := range m.Segments {
		var part []byte
		part, text = lines.Cut(text, segment.Lines)
		for line := range bytes.Lines(part) {
			all = append(all, fmt.Sprintf("%d %s: %s", number, segment.Room, bytes.TrimSuffix(line, []byte{'\n'})))
			number++
		}
	}
	return all
}

// linesOf returns a relay's message with lines that another chat says now. Its sequence is first.
func linesOf(room, origin string, first uint64, said ...string) relay.Message {
	return linesAt(time.Now().UnixMilli(), room, origin, first, said...)
}

// linesAt is linesOf for lines that were said at another time.
func linesAt(at int64, room, origin string, first uint64, said ...string) relay.Message {
	return inStream(origin, first, relay.Message{
		First:    first,
		Segments: []relay.Segment{{Room: room, Lines: len(said), At: at}},
		Body:     []byte(strings.Join(said, "\n") + "\n"),
	}.Encode())
}

// inStream returns a relay's message with a message of the JetStream stream.
func inStream(origin string, seq uint64, message []byte) relay.Message {
	return relay.Message{Origin: origin, Cursor: &relay.Cursor{Seq: seq}, Body: message}
}

// hourAgo returns a time before the Server started.
func hourAgo() int64 { return time.Now().Add(-time.Hour).UnixMilli() }
