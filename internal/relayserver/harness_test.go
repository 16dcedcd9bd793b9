package relayserver

import (
	"context"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/websocket"

	"example.com/chat/internal/lines"
	"example.com/chat/internal/metrics"
	"example.com/chat/internal/once"
	"example.com/chat/internal/relay"
	"example.com/chat/internal/wstest"
)

func TestMain(m *testing.M) { wstest.Main(m) }

// harness is a Server in a bubble, and its Chat. The rooms drop the lines they have accepted before, as Hubs do.
type harness struct {
	t        *testing.T
	server   *Server
	counters *metrics.Counters
	listener net.Listener
	stop     func()                            // ends Serve and waits for it
	refuse   func(context.Context, Part) error // if set, its error is Deliver's

	people, remotePeople atomic.Value // of map[string]int

	// Guarded by mu.
	mu    sync.Mutex
	marks map[string]once.Marks // of the rooms
	said  map[string][]string   // lines since the last expectSaid, by room
}

// inBubble runs a test with a Server that serves until the end of the test.
func inBubble(t *testing.T, o Options, test func(*testing.T, *harness)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { test(t, start(t, o, wstest.NewListener())) })
}

// start runs a Server until stop, or the end of the test.
func start(t *testing.T, o Options, l net.Listener) *harness {
	o.Counters = new(metrics.Counters)
	h := &harness{t: t, counters: o.Counters, listener: l, marks: make(map[string]once.Marks), said: make(map[string][]string)}
	h.people.Store(map[string]int{})
	h.server = New(h, o)
	ctx, cancel := context.WithCancel(context.Background())
	var serving sync.WaitGroup
	serving.Go(func() { h.server.Serve(ctx, l) })
	h.stop = func() {
		cancel()
		serving.Wait()
	}
	t.Cleanup(h.stop)
	return h
}

// Deliver implements Chat. The room "full" can't be opened. Deliver blocks for ever if the Server holds its lock.
func (h *harness) Deliver(ctx context.Context, p Part) error {
	if p.Room == "full" {
		return fmt.Errorf("no: %w", ErrNoRoom)
	}
	if h.refuse != nil {
		if err := h.refuse(ctx, p); err != nil {
			return err
		}
	}
	marks := h.server.Delivered()
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.marks[p.Room] == nil {
		h.marks[p.Room] = marks
	}
	repeated, ok := h.marks[p.Room].Accept(p.Origin, p.First, p.Count, time.Now())
	if p.Text != nil && ok {
		said := strings.Split(strings.TrimSuffix(string(p.Text), "\n"), "\n")
		h.said[p.Room] = append(h.said[p.Room], said[repeated:]...)
	}
	return nil
}

// People implements Chat.
func (h *harness) People() map[string]int {
	h.server.Delivered() // blocks if the Server holds its lock
	return h.people.Load().(map[string]int)
}

// SetRemotePeople implements Chat.
func (h *harness) SetRemotePeople(people map[string]int) {
	h.server.Delivered()
	h.remotePeople.Store(people)
}

// publish publishes lines that are said now.
func (h *harness) publish(room string, said ...string) {
	h.server.Publish(room, []byte(strings.Join(said, "\n")+"\n"), time.Now())
}

// expectSaid expects the lines that a room has said since the last call, when nothing else is going on.
func (h *harness) expectSaid(room string, want ...string) {
	h.t.Helper()
	synctest.Wait()
	h.mu.Lock()
	defer h.mu.Unlock()
	if got := h.said[room]; !slices.Equal(got, want) {
		h.t.Errorf("room %q said %.500q, want %.500q", room, got, want)
	}
	delete(h.said, room)
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
	synctest.Wait()
	r := h.connect()
	defer r.conn.Close()
	if r.hello.Cursor != cursor || r.hello.Backlog != backlog {
		h.t.Errorf("hello: got cursor %+v, backlog %v; want %+v, %v", r.hello.Cursor, r.hello.Backlog, cursor, backlog)
	}
}

// fakeRelay is a relay as a Server sees it.
type fakeRelay struct {
	t      *testing.T
	conn   net.Conn // its Close sends no close frame
	socket *websocket.Conn
	hello  relay.Hello
}

// connect connects a relay.
func (h *harness) connect() *fakeRelay {
	h.t.Helper()
	return greet(h.t, h.listener.(wstest.Listener).Dial(h.t))
}

// greet does a relay's handshake on conn and reads the hello.
func greet(t *testing.T, conn net.Conn) *fakeRelay {
	t.Helper()
	config, _ := websocket.NewConfig("ws://chat/relay", relay.OriginHeader)
	socket, err := websocket.NewClient(config, conn)
	if err != nil {
		t.Fatal(err)
	}
	r := &fakeRelay{t: t, conn: conn, socket: socket}
	m := r.receiveAny()
	if m.Hello == nil {
		t.Fatalf("got %+v, want a hello", m)
	}
	r.hello = *m.Hello
	return r
}

// receiveAny returns the next message. It waits up to a minute.
func (r *fakeRelay) receiveAny() (m relay.Message) {
	r.t.Helper()
	r.socket.SetReadDeadline(time.Now().Add(time.Minute))
	var b []byte
	err := websocket.Message.Receive(r.socket, &b)
	if err == nil {
		m, err = relay.Decode(b)
	}
	if err != nil {
		r.t.Fatal(err)
	}
	return m
}

// receive returns the next message that is not a report of people.
func (r *fakeRelay) receive() (m relay.Message) {
	r.t.Helper()
	for m = r.receiveAny(); m.People != nil; m = r.receiveAny() {
	}
	return m
}

// discard ignores all further messages, and returns a channel that is closed at the end of the connection.
func (r *fakeRelay) discard() (end <-chan struct{}) {
	ended := make(chan struct{})
	r.conn.SetDeadline(time.Time{})
	go func() {
		io.Copy(io.Discard, r.conn)
		close(ended)
	}()
	return ended
}

func (r *fakeRelay) send(m relay.Message) {
	r.t.Helper()
	if err := websocket.Message.Send(r.socket, m.Encode()); err != nil {
		r.t.Error(err)
	}
}

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
	r.send(linesAt(time.Now().UnixMilli(), "", origin, first, said...))
}

// sayBacklog sends lines of a backlog that were said long ago.
func (r *fakeRelay) sayBacklog(room, origin string, first uint64, said ...string) {
	r.t.Helper()
	m := linesAt(1, room, origin, first, said...)
	m.Backlog = true
	r.send(m)
}

// linesIn returns the lines of m, each with its number and room.
func linesIn(m relay.Message) (all []string) {
	line, rest := []byte(nil), m.Body
	for _, segment := range m.Segments {
		for range segment.Lines {
			line, rest = lines.Cut(rest, 1)
			all = append(all, fmt.Sprintf("%d %s: %s", m.First+uint64(len(all)), segment.Room, line[:len(line)-1]))
		}
	}
	return all
}

// linesAt returns a relay's message with lines that another chat said at a time. Its sequence is first.
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
