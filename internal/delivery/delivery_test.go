package delivery

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/net/websocket"

	"example.com/chat/internal/event"
	"example.com/chat/internal/once"
	"example.com/chat/internal/stream"
)

// room is a stream with one connection, of the sender ann, and the writer's side of its queue.
type room struct {
	*stream.Stream
	session *once.Session
	queue   chan Batch
	out     Delivery
}

// newRoom returns a room with a history of some lines of 8 bytes. The connection gets them if it resumes,
// and events if it subscribes.
func newRoom(history int, resumes, subscribes bool) *room {
	r := &room{Stream: stream.New(1 << 20), queue: make(chan Batch, QueueSize)}
	for range history {
		r.append(8, 0)
	}
	r.session = r.Senders.Join("ann", 0)
	r.out = New(r.queue, r.NewReader())
	if resumes {
		r.out = New(r.queue, r.NewReaderSince(""))
	}
	if subscribes {
		r.out.Subscribe(1, r.session)
	}
	if resumes || subscribes {
		r.out.Begin([]*stream.Frame{event.Event{People: 1}.Frame()}, resumes)
	}
	return r
}

// append appends a line of size bytes to the stream. It ends in the last digits of its number.
func (r *room) append(size int, at int64) *stream.Frame {
	text := bytes.Repeat([]byte("0"), size)
	number := fmt.Sprintf("%07d\n", r.End().Lines)
	copy(text[max(0, size-8):], number[max(0, 8-size):])
	f := stream.TextFrame(text)
	r.Append(f, at)
	return f
}

// do carries out a command of the Hub.
func (r *room) do(command string) {
	var n int
	var at int64
	switch name, arguments, _ := strings.Cut(command, " "); name {
	case "say": // SIZE AT: broadcasts a line
		fmt.Sscan(arguments, &n, &at)
		r.out.Push(r.Stream, []*stream.Frame{r.append(n, at)})
	case "receive": // N messages of the connection, which are pending then
		fmt.Sscan(arguments, &n)
		r.session.Receive(uint64(n))
	case "commit": // these messages
		r.Senders.Commit()
	case "ping": // N
		r.out.Control(r.Stream, stream.NewFrame(websocket.PingFrame, []byte(arguments)))
	case "people": // N
		if fmt.Sscan(arguments, &n); r.out.NeedsCount(n) {
			r.out.Count(r.Stream, n, event.Event{People: n}.Frame())
		}
	case "more": // as the writer has asked for it
		r.out.More(r.Stream)
	case "drop":
		before := r.out.Lag(r.Stream)
		r.out.Finish(r.out.Rest(r.Stream))
		if got := r.out.Lag(r.Stream); got != before {
			panic(fmt.Sprintf("a drop changed the lag from %d to %d", before, got))
		}
	}
}

// show describes a batch: lines by their length, control frames by what they carry, events by their keys.
func show(b Batch) (s string) {
	for _, f := range b.Frames {
		switch e := decode(f); {
		case f.Lines != nil:
			s += fmt.Sprint("line:", len(f.Lines), " ")
		case f.Bytes[0] == 0x80|websocket.PingFrame:
			s += fmt.Sprintf("ping:%s ", f.Bytes[2:])
		default:
			if e.People != 0 {
				s += fmt.Sprint("people:", e.People, " ")
			}
			if e.Times != nil {
				s += fmt.Sprintf("times:%v ", e.Times)
			}
			if e.Acked != nil {
				s += fmt.Sprint("acked:", *e.Acked, " ")
			}
		}
	}
	if b.Last {
		s += "LAST"
	}
	return strings.TrimSpace(s)
}

// decode returns the event in a frame, if it has one.
func decode(f *stream.Frame) (e event.Event) {
	if f.Bytes[0] == 0x80|websocket.BinaryFrame {
		json.Unmarshal(f.Bytes[bytes.IndexByte(f.Bytes, '{'):], &e)
	}
	return e
}

// A connection is behind when 64 KiB or 7 batches are in its queue. The batch that fills the queue is
// marked last, and no frame follows it. There is room for one more batch, that of Finish.
func TestQueueIsBounded(t *testing.T) {
	for _, test := range []struct {
		name   string
		sizes  []int // of the lines, which the writer does not receive
		want   int   // batches
		behind bool
	}{
		{"nothing", nil, 0, false},
		{"6 lines", []int{2, 2, 2, 2, 2, 2}, 6, false},
		{"7 lines", []int{2, 2, 2, 2, 2, 2, 2}, 7, true},
		{"9 lines", []int{2, 2, 2, 2, 2, 2, 2, 2, 2}, 7, true},
		{"a byte less than 64 KiB", []int{64<<10 - 1}, 1, false},
		{"64 KiB", []int{64 << 10, 2}, 1, true},
		{"64 KiB in two lines", []int{32 << 10, 32 << 10, 2}, 2, true},
		{"a long line after others", []int{32 << 10, 2, 1 << 20, 2}, 3, true},
	} {
		r := newRoom(0, false, false)
		for _, size := range test.sizes {
			r.do(fmt.Sprint("say ", size))
		}
		if len(r.queue) != test.want || r.out.Behind() != test.behind || r.out.Idle() != (test.want == 0) || cap(r.queue) != 8 {
			t.Errorf("%s: got %d batches, behind %v, idle %v; want %d, %v", test.name, len(r.queue), r.out.Behind(), r.out.Idle(), test.want, test.behind)
		}
		r.out.Finish([]*stream.Frame{stream.NewFrame(websocket.PingFrame, nil)})
		for i := 1; len(r.queue) > 0; i++ {
			if b, want := <-r.queue, test.behind && i == test.want; b.Last != want {
				t.Errorf("%s: got batch %d marked last: %v, want %v", test.name, i, b.Last, want)
			}
		}
	}
}

// A connection that is not behind gets each frame at once. One that is behind gets the rest when its
// writer asks for it.
func TestDelivery(t *testing.T) {
	type step struct{ do, want string } // commands, and all that is in the queue then
	fallBehind := step{"say 65536", "line:65536 LAST"}
	for _, test := range []struct {
		name       string
		resumes    bool // after two lines
		subscribes bool
		steps      []step
	}{
		{"a writer that keeps up is never behind", false, false, []step{
			{"say 40000", "line:40000"}, {"say 40000", "line:40000"}, {"say 40000", "line:40000"},
		}},
		{"64 KiB at a time, but at least a line", false, false, []step{
			fallBehind, {"say 20000, say 20000, say 20000, say 20000, say 100000", ""},
			{"more", "line:20000 line:20000 line:20000 LAST"}, {"more", "line:20000 LAST"}, {"more", "line:100000 LAST"}, {"more", ""},
			{"say 2", "line:2"},
		}},
		{"a client that resumes is behind", true, false, []step{{"say 2", "people:1 LAST"}, {"more", "line:8 line:8 line:2"}, {"say 3", "line:3"}}},
		{"the newest 16 control frames wait", false, false, []step{
			{"ping 1", "ping:1"}, fallBehind,
			{"ping 1, ping 2, ping 3, ping 4, ping 5, ping 6, ping 7, ping 8, ping 9, ping 10", ""},
			{"ping 11, ping 12, ping 13, ping 14, ping 15, ping 16, ping 17, ping 18, say 2", ""},
			{"more", "ping:3 ping:4 ping:5 ping:6 ping:7 ping:8 ping:9 ping:10 " +
				"ping:11 ping:12 ping:13 ping:14 ping:15 ping:16 ping:17 ping:18 line:2"},
			fallBehind, {"ping 1", ""}, {"more", "ping:1"},
		}},
		{"the newest people count waits", false, true, []step{
			{"people 1", "people:1"}, {"people 2", "people:2"}, {"people 2", ""}, fallBehind,
			{"people 3, people 4, say 40000 1, say 40000 2", ""},
			{"more", "people:4 times:[[1 1]] line:40000 LAST"}, {"more", "times:[[1 2]] line:40000"}, {"people 5", "people:5"},
		}},
		{"lines that waited come with their times", false, true, []step{
			{"", "people:1"}, fallBehind, {"say 2 1000, say 2 1999, say 2 5000", ""},
			{"more", "times:[[2 1000] [1 5000]] line:2 line:2 line:2"}, {"say 2 6000", "line:2"},
		}},
		{"without events there is neither", false, false, []step{fallBehind, {"people 3, say 2 1000", ""}, {"more", "line:2"}, {"people 4", ""}}},
		{"messages are acknowledged before their lines", false, true, []step{
			{"", "people:1"}, {"receive 1, commit, say 2", "acked:1 line:2"}, {"say 2", "line:2"}, fallBehind,
			{"receive 2, commit, say 2 7, receive 3, commit", ""}, {"more", "times:[[1 7]] acked:6 line:2"},
			fallBehind, {"receive 1, commit, receive 1", ""}, {"more", "acked:7"}, {"commit, say 2", "acked:8 line:2"},
		}},
		{"a drop of a connection that has all", false, true, []step{{"", "people:1"}, {"drop", ""}}},
		{"a drop acknowledges pending messages", false, true, []step{{"", "people:1"}, {"receive 2, drop", "acked:2"}}},
		{"a drop sends the rest", false, true, []step{
			{"", "people:1"}, fallBehind, {"ping 1, people 3, receive 1, commit, receive 1, say 70000 7, say 70000 7", ""},
			{"drop", "ping:1 people:3 times:[[2 7]] acked:1 line:70000 line:70000 acked:2"},
		}},
	} {
		r := newRoom(2, test.resumes, test.subscribes)
		for i, step := range test.steps {
			for command := range strings.SplitSeq(step.do, ", ") {
				r.do(command)
			}
			var got []string
			for len(r.queue) > 0 {
				got = append(got, show(<-r.queue))
			}
			if got := strings.Join(got, " | "); got != step.want {
				t.Errorf("%s: step %d, %s: got %q, want %q", test.name, i, step.do, got, step.want)
			}
		}
	}
}

// A batch has at most 64 KiB with the event that belongs to it, even if each line is short and has its own
// time.
func TestBatchOfShortLines(t *testing.T) {
	r := newRoom(0, true, true)
	<-r.queue
	for n := range 10_000 {
		r.do(fmt.Sprint("say 2 ", 1_000_000_000_000+n*2000))
	}
	r.do("more")
	size := 0
	for _, f := range (<-r.queue).Frames {
		size += len(f.Bytes)
	}
	if size < 48<<10 || size > 64<<10 {
		t.Errorf("got %d bytes, want up to 64 KiB", size)
	}
}

// A send that would block the room panics.
func TestFullQueue(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("got no panic")
		}
	}()
	r := newRoom(0, false, false)
	for range 9 {
		r.out.Finish([]*stream.Frame{stream.NewFrame(websocket.PingFrame, nil)})
	}
}

// In any order of events, and however soon the connection is dropped, no send blocks. The queue has at
// most 7 batches, and 64 KiB without its last line. No batch follows one that is marked last. The client
// gets each line once and in order, each message acknowledged before its line, control frames in order,
// and the newest people count.
func TestAnyOrder(t *testing.T) {
	for seed := range uint64(300) {
		random := rand.New(rand.NewPCG(seed, 0))
		c := &client{t: t, room: newRoom(random.IntN(20), random.IntN(2) == 0, true), messages: make(map[uint64]int), people: 1}
		c.next = c.out.Line()
		for range seed % 100 {
			c.step(random)
		}
		c.do("receive 3")
		c.do("drop")
		for len(c.queue) > 0 {
			c.receive()
		}
		if c.next != c.End().Lines || c.acked != c.sent+3 || c.gotPing != c.pings || c.gotPeople != c.people {
			t.Fatalf("seed %d: got %d lines, %d acknowledged, ping %d, %d people; want %d, %d, %d, %d",
				seed, c.next, c.acked, c.gotPing, c.gotPeople, c.End().Lines, c.sent+3, c.pings, c.people)
		}
	}
}

// client is a client of the room, with the writer of its connection.
type client struct {
	*room
	t        *testing.T
	asks     bool           // the writer has received a batch that is marked last
	sent     int            // messages
	messages map[uint64]int // the number of messages that were sent before a line
	pings    int
	people   int

	// What the client has got.
	next                      uint64 // line
	acked, gotPing, gotPeople int
}

// step does one thing, and checks the queue.
func (c *client) step(random *rand.Rand) {
	before, grows := len(c.queue), !c.out.Behind()
	switch random.IntN(8) {
	case 0, 1, 2:
		n := random.IntN(3)
		c.sent += n
		c.messages[c.End().Lines] = c.sent
		if n > 0 {
			c.do(fmt.Sprint("receive ", n))
			c.do("commit")
		}
		c.do(fmt.Sprint("say ", 8+random.IntN([]int{100, 20_000, 80_000}[random.IntN(3)])))
	case 3, 4:
		if len(c.queue) > 0 {
			c.receive()
		}
	case 5:
		if c.asks {
			c.asks, grows = false, true
			c.do("more")
		}
	case 6:
		c.pings++
		c.do(fmt.Sprint("ping ", c.pings))
	case 7:
		c.people = 1 + random.IntN(100)
		c.do(fmt.Sprint("people ", c.people))
	}
	size, last := 0, 0
	for range len(c.queue) {
		b := <-c.queue
		for _, f := range b.Frames {
			size, last = size+last, len(f.Lines)
		}
		c.queue <- b
	}
	if len(c.queue) > 7 || size >= 64<<10 || len(c.queue) > before && !grows {
		c.t.Fatalf("got %d batches, of %d bytes without the last line, after %d; it may grow: %v", len(c.queue), size, before, grows)
	}
}

// receive has the writer receive a batch, and checks its frames.
func (c *client) receive() {
	b := <-c.queue
	c.asks = c.asks || b.Last
	for _, f := range b.Frames {
		e := decode(f)
		if e.Acked != nil {
			c.acked = int(*e.Acked)
		}
		if e.People != 0 {
			c.gotPeople = e.People
		}
		if f.Lines != nil {
			if n, _ := strconv.Atoi(string(f.Lines[len(f.Lines)-8 : len(f.Lines)-1])); uint64(n) != c.next || c.acked < c.messages[c.next] {
				c.t.Fatalf("got line %d with %d messages acknowledged, want %d with %d", n, c.acked, c.next, c.messages[c.next])
			}
			c.next++
		}
		if f.Bytes[0] == 0x80|websocket.PingFrame {
			if n, _ := strconv.Atoi(string(f.Bytes[2:])); n > c.gotPing {
				c.gotPing = n
			} else {
				c.t.Fatalf("got ping %d after %d", n, c.gotPing)
			}
		}
	}
}
