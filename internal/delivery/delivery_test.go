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
	"example.com/chat/internal/stream"
)

// room is a stream with one connection, of the sender ann, and the writer's side of its queue.
type room struct {
	*stream.Stream
	queue chan Batch
	out   Delivery
}

// newRoom returns a room with a frame of 8 bytes. A client that resumes gets it. One that subscribes gets events.
func newRoom(resumes, subscribes bool) *room {
	r := &room{Stream: stream.New(256), queue: make(chan Batch, QueueSize)}
	r.Append(stream.TextFrame([]byte("history\n")), 0)
	if r.out = New(r.queue, r.NewReader()); resumes {
		r.out = New(r.queue, r.NewReaderSince(""))
	}
	if subscribes {
		r.out.Subscribe(1, r.Senders.Join("ann", 0))
	}
	if resumes || subscribes {
		r.out.Begin([]*stream.Frame{event.Event{People: 1}.Frame()}, resumes)
	}
	return r
}

// do carries out commands of the Hub, with a comma after each but the last.
func (r *room) do(commands string) {
	for command := range strings.SplitSeq(commands, ", ") {
		var n int
		var at int64
		name, arguments, _ := strings.Cut(command, " ")
		fmt.Sscan(arguments, &n, &at)
		switch name {
		case "say": // a line of n bytes to everyone, at a time
			f := stream.TextFrame([]byte(strings.Repeat("x", n-1) + "\n"))
			r.Append(f, at)
			r.out.Push(r.Stream, []*stream.Frame{f})
		case "receive": // n messages of the connection, which are pending then
			r.out.Session().Receive(uint64(n))
		case "commit":
			r.Senders.Commit()
		case "ping":
			r.out.Control(r.Stream, stream.NewFrame(websocket.PingFrame, []byte(arguments)))
		case "beat":
			r.out.Control(r.Stream, event.Event{People: 99}.Frame())
		case "sweep":
			for range n {
				r.out.Sweep(r.Stream, &Beat{event: event.Event{People: 99}.Frame()}, false)
			}
		case "sweep-ping":
			r.out.Sweep(r.Stream, NewBeat(), true)
		case "people":
			if r.out.NeedsCount(n) {
				r.out.Count(r.Stream, n, event.Event{People: n}.Frame())
			}
		case "more": // as the writer has asked for it
			r.out.More(r.Stream)
		case "drop":
			before := r.out.Lag(r.Stream)
			if r.out.Finish(r.out.Rest(r.Stream)); r.out.Lag(r.Stream) != before {
				panic("a drop has changed the lag")
			}
		}
	}
}

// show describes a batch: lines by their length, control frames by what they carry, events by their keys.
func show(b Batch) string {
	var s []string
	add := func(ok bool, a ...any) {
		if ok {
			s = append(s, fmt.Sprint(a...))
		}
	}
	for _, f := range b.Frames {
		var e event.Event
		if i := bytes.IndexByte(f.Bytes, '{'); i > 0 {
			add(json.NewDecoder(bytes.NewReader(f.Bytes[i:])).Decode(&e) == nil && e.IsEmpty(), "beat:", bytes.Count(f.Bytes, []byte("}\x89\x00")))
		}
		add(f.Lines != nil, "line:", len(f.Lines))
		add(f.Bytes[0] == 0x89, "ping:", string(f.Bytes[2:]))
		add(e.People != 0, "people:", e.People)
		add(e.Times != nil, "times:", e.Times)
		if e.Acked != nil {
			add(true, "acked:", *e.Acked)
		}
	}
	add(b.Last, "LAST")
	return strings.Join(s, " ")
}

// A connection that is not behind gets each frame at once. It is behind when 64 KiB or 7 batches are in its
// queue. The batch that fills the queue is marked last, and the rest follows when the writer asks for it.
func TestDelivery(t *testing.T) {
	type step struct{ do, want string } // commands, and all that is in the queue then
	const fill, filled = "say 65536", "line:65536 LAST"
	for _, test := range []struct {
		name                string
		resumes, subscribes bool
		steps               []step
	}{
		{"a writer that keeps up is never behind", false, false, []step{{"say 40000", "line:40000"}, {"say 40000", "line:40000"}}},
		{"7 batches fill the queue", false, false, []step{
			{"say 2, say 2, say 2, say 2, say 2, say 2, say 3", strings.Repeat("line:2 | ", 6) + "line:3 LAST"}, {"say 2", ""},
		}},
		{"64 KiB fill the queue", false, false, []step{{"say 65535", "line:65535"}, {"say 32768, say 32768, say 2", "line:32768 | line:32768 LAST"}}},
		{"64 KiB at a time, but at least a line", false, false, []step{
			{fill, filled}, {"say 20000, say 20000, say 20000, say 100000", ""},
			{"more", "line:20000 line:20000 line:20000 LAST"}, {"more", "line:100000 LAST"}, {"more", ""}, {"say 2", "line:2"},
		}},
		{"a client that resumes is behind", true, false, []step{{"say 2", "people:1 LAST"}, {"more", "line:8 line:2"}, {"say 3", "line:3"}}},
		{"the newest 16 control frames wait", false, false, []step{
			{"ping 1", "ping:1"}, {fill, filled},
			{"ping 1, ping 2, ping 3, ping 4, ping 5, ping 6, ping 7, ping 8, ping 9", ""},
			{"ping 10, ping 11, ping 12, ping 13, ping 14, ping 15, ping 16, ping 17, say 2", ""},
			{"more", "ping:2 ping:3 ping:4 ping:5 ping:6 ping:7 ping:8 ping:9 " +
				"ping:10 ping:11 ping:12 ping:13 ping:14 ping:15 ping:16 ping:17 line:2"},
			{fill, filled}, {"ping 1", ""}, {"more", "ping:1"},
		}},
		{"a heartbeat waits, too", false, true, []step{
			{"", "people:1"}, {fill, filled}, {"beat, ping 1", ""}, {"more", "people:99 ping:1"}, {"beat", "people:99"},
		}},
		{"a heartbeat after 24 sweeps without a line or an event", false, true, []step{
			{"", "people:1"}, {"sweep 23", ""}, {"sweep 1", "people:99"}, {"sweep 23, ping 1", "ping:1"}, {"sweep 1", "people:99"},
			{"sweep 23, say 2, sweep 23", "line:2"}, {"people 2, sweep 23", "people:2"}, {"beat, sweep 23", "people:99"},
			{"sweep-ping, sweep 23", "beat:1"}, {"sweep 1", "people:99"},
		}},
		{"a heartbeat while the connection is behind", false, true, []step{
			{"", "people:1"}, {fill, filled}, {"sweep 24, say 2", ""}, {"more", "people:99 times:[[1 0]] line:2"}, {"sweep 23", ""}, {"sweep 1", "people:99"},
			{fill, filled}, {"sweep 23, say 2", ""}, {"more", "times:[[1 0]] line:2"}, {"sweep 23", ""},
		}},
		{"without events only pings come", false, false, []step{{"sweep 100, say 2, sweep 100", "line:2"}, {"sweep-ping", "ping:"}}},
		{"the newest people count waits", false, true, []step{
			{"people 1", "people:1"}, {"people 2", "people:2"}, {"people 2", ""}, {fill, filled},
			{"people 3, people 4, say 40000 1, say 40000 2", ""},
			{"more", "people:4 times:[[1 1]] line:40000 LAST"}, {"more", "times:[[1 2]] line:40000"}, {"people 5", "people:5"},
		}},
		{"without events there are neither counts nor times", false, false, []step{{fill, filled}, {"people 3, say 2 1000", ""}, {"more", "line:2"}, {"people 4", ""}}},
		{"messages are acknowledged before their lines", false, true, []step{
			{"", "people:1"}, {"receive 1, commit, say 2", "acked:1 line:2"}, {"say 2", "line:2"}, {fill, filled},
			{"receive 2, commit, say 2 7, receive 3, commit", ""}, {"more", "times:[[1 7]] acked:6 line:2"},
			{fill, filled}, {"receive 1, commit, receive 1", ""}, {"more", "acked:7"}, {"commit, say 2", "acked:8 line:2"},
		}},
		{"a drop acknowledges pending messages", false, true, []step{{"", "people:1"}, {"receive 2, drop", "acked:2"}}},
		{"a drop of a connection that has all", false, true, []step{{"drop", "people:1"}}},
		{"a drop sends the rest", false, true, []step{
			{"", "people:1"}, {fill, filled}, {"ping 1, people 3, receive 1, commit, receive 1, say 70000 7, say 70000 7", ""},
			{"drop", "ping:1 people:3 times:[[2 7]] acked:1 line:70000 line:70000 acked:2"},
		}},
	} {
		r := newRoom(test.resumes, test.subscribes)
		for i, step := range test.steps {
			r.do(step.do)
			var got []string
			idle := r.out.Idle()
			for len(r.queue) > 0 {
				got = append(got, show(<-r.queue))
			}
			if got, want := strings.Join(got, " | "), step.want == "" && !r.out.Behind(); got != step.want || idle != want {
				t.Errorf("%s: step %d, %s: got %q, idle %v; want %q, %v", test.name, i, step.do, got, idle, step.want, want)
			}
		}
	}
}

// A batch has at most 64 KiB with its event, even if each line is short and has its own time.
func TestBatchOfShortLines(t *testing.T) {
	r, size := newRoom(true, true), 0
	<-r.queue
	for n := range 10_000 {
		r.do(fmt.Sprint("say 2 ", 1_000_000_000_000+n*2000))
	}
	r.do("more")
	for _, f := range (<-r.queue).Frames {
		size += len(f.Bytes)
	}
	if size < 48<<10 || size > 64<<10 {
		t.Errorf("got %d bytes, want 48 KiB to 64 KiB", size)
	}
}

// A queue holds 8 batches. A send that would block the room panics.
func TestFullQueue(t *testing.T) {
	r, sent := newRoom(false, false), 0
	defer func() {
		if panicked := recover() != nil; !panicked || sent != 8 {
			t.Errorf("got a panic: %v after %d batches, want true after 8", panicked, sent)
		}
	}()
	for ; sent < 10; sent++ {
		r.out.Finish([]*stream.Frame{stream.NewFrame(websocket.PingFrame, nil)})
	}
}

// In any order of events, and however soon the connection is dropped, no send blocks, and no batch follows one
// that is marked last. The client gets each line once and in order, each message acknowledged before its line,
// and at last the newest ping and people count.
func TestAnyOrder(t *testing.T) {
	type line struct{ size, sent int } // sent is the number of messages up to this line
	for seed := range uint64(300) {
		random := rand.New(rand.NewPCG(seed, 0))
		r, said := newRoom(false, true), []line{}
		if seed%2 == 0 {
			r, said = newRoom(true, true), []line{{8, 0}}
		}
		sent, pings, people := 0, 0, 1
		got, asks := "", false // what the client has got; whether its writer has received a batch marked last
		for range seed / 3 {
			switch random.IntN(8) {
			case 0, 1, 2:
				n, size := 1+random.IntN(3), 8+random.IntN([]int{100, 20_000, 80_000}[random.IntN(3)])
				sent += n
				said = append(said, line{size, sent})
				r.do(fmt.Sprintf("receive %d, commit, say %d", n, size))
			case 3, 4:
				if len(r.queue) > 0 {
					if got += show(<-r.queue) + " "; asks {
						t.Fatalf("seed %d: got a batch after the last one: %s", seed, got)
					}
					asks = strings.HasSuffix(got, "LAST ")
				}
			case 5:
				if asks {
					r.do("more")
				}
				asks = false
			case 6:
				pings++
				r.do(fmt.Sprint("ping ", pings))
			case 7:
				people = 1 + random.IntN(100)
				r.do(fmt.Sprint("people ", people))
			}
		}
		for r.do("receive 3, drop"); len(r.queue) > 0; {
			got += show(<-r.queue) + " "
		}
		last := make(map[string]int)
		for token := range strings.FieldsSeq(got) {
			name, number, _ := strings.Cut(token, ":")
			n, _ := strconv.Atoi(number)
			if last[name] = n; name == "line" {
				if len(said) == 0 || n != said[0].size || last["acked"] < said[0].sent {
					t.Fatalf("seed %d: got a line of %d bytes with %d messages acknowledged, want %v", seed, n, last["acked"], said)
				}
				said = said[1:]
			}
		}
		if len(said) > 0 || last["acked"] != sent+3 || last["ping"] != pings || last["people"] != people {
			t.Errorf("seed %d: got all lines but %v, and at last %v; want all, and acked:%d ping:%d people:%d", seed, said, last, sent+3, pings, people)
		}
	}
}
