package delivery

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"golang.org/x/net/websocket"

	"example.com/chat/internal/event"
	"example.com/chat/internal/stream"
)

// room is a stream with one connection, and the writer's side of its queue.
type room struct {
	*stream.Stream
	queue chan Batch
	out   Delivery
}

// newRoom returns a room with a connection that gets the lines from now on.
func newRoom() *room {
	r := &room{Stream: stream.New(1 << 20), queue: make(chan Batch, QueueSize)}
	r.out = New(r.queue, r.NewReader())
	return r
}

// say appends a line of size bytes to the stream, said at the time at, and pushes it.
func (r *room) say(size int, at int64) *stream.Frame {
	f := stream.TextFrame([]byte(strings.Repeat("x", size-1) + "\n"))
	r.Append(f, at)
	r.out.Push(r.Stream, []*stream.Frame{f})
	return f
}

// fallBehind fills the queue, which the writer then empties.
func (r *room) fallBehind() {
	r.say(64<<10, 0)
	<-r.queue
}

// ping sends a control frame that carries a number.
func (r *room) ping(n int) {
	r.out.Control(r.Stream, stream.NewFrame(websocket.PingFrame, fmt.Append(nil, n)))
}

// count sends a people count if the client needs it.
func (r *room) count(people int) {
	if r.out.NeedsCount(people) {
		r.out.Count(r.Stream, people, event.Event{People: people}.Frame())
	}
}

// shown returns what is in the queue, a batch to a string, and empties it. A batch that is marked last ends
// with "LAST".
func (r *room) shown() (all []string) {
	for len(r.queue) > 0 {
		b := <-r.queue
		s := show(b.Frames)
		if b.Last {
			s += " LAST"
		}
		all = append(all, s)
	}
	return all
}

// show describes frames: a line by its length, a control frame by what it carries, and an event by its keys.
func show(frames []*stream.Frame) string {
	var all []string
	for _, f := range frames {
		switch e := decode(f); {
		case f.Lines != nil:
			all = append(all, fmt.Sprint("line:", len(f.Lines)))
		case f.Bytes[0] == 0x80|websocket.PingFrame:
			all = append(all, "ping:"+string(f.Bytes[2:]))
		case e.Acked != nil:
			all = append(all, fmt.Sprintf("{people:%d said:%v acked:%d}", e.People, e.Said, *e.Acked))
		default:
			all = append(all, fmt.Sprintf("{people:%d said:%v}", e.People, e.Said))
		}
	}
	return strings.ReplaceAll(strings.ReplaceAll(strings.Join(all, " "), "people:0 ", ""), "said:[] ", "")
}

// decode returns the event in a frame, if it has one.
func decode(f *stream.Frame) (e event.Event) {
	if f.Bytes[0] == 0x80|websocket.BinaryFrame {
		if err := json.Unmarshal(f.Bytes[bytes.IndexByte(f.Bytes, '{'):], &e); err != nil {
			panic(err)
		}
	}
	return e
}

// expect checks what is in the queue, and empties it.
func (r *room) expect(t *testing.T, what string, want ...string) {
	t.Helper()
	if got := r.shown(); !slices.Equal(got, want) {
		t.Errorf("%s: got batches %q, want %q", what, got, want)
	}
}

// A connection is behind when 64 KiB or 7 batches are in its queue. The batch that fills the queue is marked
// last, and the frames that follow are not sent. There is room for one more batch, that of Finish.
func TestQueueIsBounded(t *testing.T) {
	for _, test := range []struct {
		name   string
		sizes  []int // of the lines, which the writer does not receive
		want   int   // batches in the queue
		behind bool
	}{
		{"nothing", nil, 0, false},
		{"6 lines", []int{2, 2, 2, 2, 2, 2}, 6, false},
		{"7 lines", []int{2, 2, 2, 2, 2, 2, 2}, 7, true},
		{"9 lines", []int{2, 2, 2, 2, 2, 2, 2, 2, 2}, 7, true},
		{"a byte less than 64 KiB", []int{64<<10 - 1}, 1, false},
		{"64 KiB", []int{64 << 10}, 1, true},
		{"64 KiB in two lines", []int{32 << 10, 32 << 10, 2}, 2, true},
		{"a long line after others", []int{32 << 10, 2, 1 << 20, 2}, 3, true},
	} {
		r := newRoom()
		for _, size := range test.sizes {
			r.say(size, 0)
		}
		r.out.Finish([]*stream.Frame{stream.NewFrame(websocket.PingFrame, nil)})
		if len(r.queue) != test.want+1 || r.out.Behind() != test.behind || cap(r.queue) != 8 {
			t.Fatalf("%s: got %d batches, behind %v; want %d, %v", test.name, len(r.queue), r.out.Behind(), test.want+1, test.behind)
		}
		for i := range test.want + 1 {
			if b, want := <-r.queue, test.behind && i == test.want-1; b.Last != want {
				t.Errorf("%s: got batch %d of %d marked last: %v, want %v", test.name, i, test.want+1, b.Last, want)
			}
		}
	}
}

// Only what the writer has not received counts.
func TestWriterThatKeepsUp(t *testing.T) {
	r := newRoom()
	for n := range 100 {
		if r.say(40<<10, 0); r.out.Idle() || r.out.Behind() {
			t.Fatalf("line %d: got idle %v and behind %v, want neither", n, r.out.Idle(), r.out.Behind())
		}
		if r.expect(t, fmt.Sprint("line ", n), "line:40960"); !r.out.Idle() {
			t.Errorf("line %d is received: got idle false", n)
		}
	}
}

// A connection that is behind gets what follows when its writer asks for more: at most 64 KiB at a time, but at
// least a frame. It is no longer behind when that was all.
func TestMore(t *testing.T) {
	r := newRoom()
	r.fallBehind()
	first := r.Stream.End()
	for range 5 {
		r.say(20_000, 0)
	}
	r.say(1<<20, 0)
	r.expect(t, "behind")
	if lag := r.out.Lag(r.Stream); lag != 100_000+1<<20 || r.out.Line() != first.Lines || r.out.Idle() {
		t.Errorf("got %d bytes from line %d on left, idle %v; want %d from %d on", lag, r.out.Line(), r.out.Idle(), 100_000+1<<20, first.Lines)
	}
	for _, want := range []string{"line:20000 line:20000 line:20000 LAST", "line:20000 line:20000 LAST", "line:1048576 LAST"} {
		r.out.More(r.Stream)
		r.expect(t, "more", want)
	}
	if !r.out.Behind() || r.out.Lag(r.Stream) != 0 {
		t.Errorf("got behind %v with a lag of %d, want true until the writer asks", r.out.Behind(), r.out.Lag(r.Stream))
	}
	r.out.More(r.Stream)
	r.expect(t, "nothing more")
	r.say(3, 0)
	r.expect(t, "a new line", "line:3")
}

// The first batch of a client that resumes is marked last, so that the history follows when its writer asks.
func TestBegin(t *testing.T) {
	r := newRoom()
	r.say(5, 0)
	r.shown()
	ping := []*stream.Frame{stream.NewFrame(websocket.PingFrame, nil)}
	r.out = New(r.queue, r.NewReaderSince(""))
	r.out.Begin(ping, true)
	r.say(6, 0)
	r.expect(t, "resumes", "ping: LAST")
	r.out.More(r.Stream)
	r.expect(t, "the history", "line:5 line:6")
	r.out = New(r.queue, r.NewReader())
	r.out.Begin(ping, false)
	r.say(7, 0)
	r.expect(t, "does not resume", "ping:", "line:7")
}

// Control frames are sent at once. If the connection is behind, the newest 16 are sent before the next lines.
func TestControl(t *testing.T) {
	r := newRoom()
	r.ping(0)
	r.expect(t, "at once", "ping:0")
	r.fallBehind()
	want := ""
	for n := range 20 {
		r.ping(n)
		if n >= 4 {
			want += fmt.Sprint("ping:", n, " ")
		}
	}
	r.say(3, 0)
	r.expect(t, "behind")
	r.out.More(r.Stream)
	r.expect(t, "more", want+"line:3")
	r.fallBehind()
	r.ping(1)
	r.out.More(r.Stream)
	r.expect(t, "no line follows", "ping:1")
}

// A client that gets events gets a new people count at once. If it is behind, it gets the newest count with its
// next batch.
func TestPeople(t *testing.T) {
	r := newRoom()
	r.count(7)
	r.expect(t, "no events")
	r.out.Subscribe(2, nil)
	r.count(2)
	r.expect(t, "the count is known")
	r.count(3)
	r.expect(t, "another count", "{people:3 said:[]}")
	r.fallBehind()
	r.count(4)
	r.count(5)
	r.expect(t, "behind")
	r.say(40_000, 1)
	r.say(40_000, 2)
	r.out.More(r.Stream)
	r.expect(t, "with the next batch", "{people:5 said:[[1 1]]} line:40000 LAST")
	r.count(5)
	r.out.More(r.Stream)
	r.expect(t, "once", "{said:[[1 2]]} line:40000")
	r.count(6)
	r.expect(t, "another count", "{people:6 said:[]}")
}

// Lines that a client did not get at once come after an event with their times. A live line has none, and
// neither does any line of a client without events.
func TestTimes(t *testing.T) {
	for _, events := range []bool{true, false} {
		r := newRoom()
		if events {
			r.out.Subscribe(1, nil)
		}
		r.fallBehind()
		r.say(3, 1000)
		r.say(3, 1999)
		r.say(3, 5000)
		r.out.More(r.Stream)
		r.expect(t, "held", map[bool]string{true: "{said:[[2 1000] [1 5000]]} ", false: ""}[events]+"line:3 line:3 line:3")
		r.say(4, 9000)
		r.expect(t, "live", "line:4")
	}
}

// A batch has at most 64 KiB with the event that belongs to it, even if each line is short and has its own time.
func TestBatchOfShortLines(t *testing.T) {
	r := newRoom()
	r.out.Subscribe(1, nil)
	r.fallBehind()
	for n := range int64(20_000) {
		r.say(1, 1e12+n*2000)
	}
	r.out.More(r.Stream)
	size := 0
	for _, f := range (<-r.queue).Frames {
		size += len(f.Bytes)
	}
	if size < 32<<10 || size > 64<<10 {
		t.Errorf("got %d bytes, want up to 64 KiB", size)
	}
}

// A sender learns that its messages are in the stream before it gets their lines: on each of its connections,
// and once.
func TestAcknowledgements(t *testing.T) {
	r := newRoom()
	session := r.Senders.Join("ann", 0)
	r.out.Subscribe(1, session)
	receive := func(n uint64) {
		session.Receive(n)
		r.Senders.Commit()
	}
	receive(1)
	r.say(3, 0)
	r.expect(t, "live", "{acked:1} line:3")
	r.say(3, 0)
	r.expect(t, "of another", "line:3")
	r.fallBehind()
	receive(2)
	r.say(3, 7)
	receive(3)
	r.out.More(r.Stream)
	r.expect(t, "held", "{said:[[1 7]] acked:6} line:3")
	r.fallBehind()
	receive(1)
	r.out.More(r.Stream)
	r.expect(t, "no line follows", "{acked:7}")
}

// A connection that is dropped gets all that it was not sent, and the acknowledgement of all messages that came
// from it, even of those that are pending.
func TestRest(t *testing.T) {
	for _, test := range []struct {
		behind, sends bool
		want          string
	}{
		{false, false, ""},
		{false, true, "{acked:2}"},
		{true, false, "ping:1 {people:5 said:[[2 7]]} line:70000 line:70000"},
		{true, true, "ping:1 {people:5 said:[[2 7]] acked:1} line:70000 line:70000 {acked:2}"},
	} {
		r := newRoom()
		session := r.Senders.Join("ann", 0)
		r.out.Subscribe(4, session)
		if test.behind {
			r.fallBehind()
			r.ping(1)
			r.count(5)
			r.say(70_000, 7)
			r.say(70_000, 7)
		}
		if test.sends {
			session.Receive(1)
			r.Senders.Commit()
			session.Receive(1)
		}
		if got := show(r.out.Rest(r.Stream)); got != test.want {
			t.Errorf("behind %v, sends %v: got %q, want %q", test.behind, test.sends, got, test.want)
		}
	}
}

// Finish sends nothing if there is nothing. A second one would block the room, so it panics.
func TestFinish(t *testing.T) {
	r := newRoom()
	r.out.Finish(nil)
	r.expect(t, "nothing")
	for range 7 {
		r.say(2, 0)
	}
	last := []*stream.Frame{stream.NewFrame(websocket.PingFrame, nil)}
	r.out.Finish(last)
	defer func() {
		if recover() == nil {
			t.Error("a send to a full queue: got no panic")
		}
	}()
	r.out.Finish(last)
}
