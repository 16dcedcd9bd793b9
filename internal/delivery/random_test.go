package delivery

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"golang.org/x/net/websocket"

	"example.com/chat/internal/event"
	"example.com/chat/internal/once"
	"example.com/chat/internal/stream"
)

// In any order of events, and however soon the connection is dropped, no send blocks. The queue has at most 7
// batches and 64 KiB, not counting the last line, and nothing follows a batch that is marked last. The client
// gets each line once and in order, each message acknowledged before its line, control frames in order, and the
// newest people count.
func TestAnyOrder(t *testing.T) {
	for seed := range uint64(1000) {
		random := rand.New(rand.NewPCG(seed, 0))
		c := newClient(t, random)
		for range seed % 100 {
			c.step()
		}
		c.finish()
	}
}

// client is the writer of a connection, with all that its client has sent, and got.
type client struct {
	*room
	t       *testing.T
	random  *rand.Rand
	session *once.Session
	asks    bool                     // the writer has received a batch that is marked last
	sent    uint64                   // messages
	numbers map[*stream.Frame]uint64 // the number of messages sent, when a frame was said
	want    []*stream.Frame          // lines
	pings   int
	people  int
	got     struct {
		lines       []*stream.Frame
		acked       uint64
		ping, count int
	}
}

// newClient returns a client that joins, with or without a history.
func newClient(t *testing.T, random *rand.Rand) *client {
	c := &client{room: newRoom(), t: t, random: random, numbers: make(map[*stream.Frame]uint64), people: 1}
	c.Senders.Join("another", 0)
	resumes := random.IntN(2) == 0
	for range random.IntN(20) {
		f := stream.TextFrame([]byte("history\n"))
		c.Append(f, 0)
		if resumes {
			c.want = append(c.want, f)
		}
	}
	c.out = New(c.queue, c.NewReader())
	if resumes {
		c.out = New(c.queue, c.NewReaderSince(""))
	}
	c.session = c.Senders.Join("ann", 0)
	c.out.Subscribe(c.people, c.session)
	c.out.Begin([]*stream.Frame{event.Event{People: c.people}.Frame()}, resumes)
	return c
}

// step does one thing, and checks the queue.
func (c *client) step() {
	before := len(c.queue)
	mayGrow := !c.out.Behind()
	last := 0
	switch c.random.IntN(8) {
	case 0, 1, 2:
		messages := c.random.Uint64N(3)
		c.session.Receive(messages)
		c.Senders.Commit()
		c.sent += messages
		last = 1 + c.random.IntN([]int{100, 20_000, 80_000}[c.random.IntN(3)])
		f := c.say(last, 0)
		c.want, c.numbers[f] = append(c.want, f), c.sent
	case 3, 4:
		if len(c.queue) > 0 {
			c.receive(<-c.queue)
		}
	case 5:
		if c.asks {
			c.asks, mayGrow = false, true
			c.out.More(c.Stream)
		}
	case 6:
		c.pings++
		c.ping(c.pings)
	case 7:
		c.people = 1 + c.random.IntN(100)
		c.count(c.people)
	}
	var sizes []int
	for range len(c.queue) {
		b := <-c.queue
		for _, f := range b.Frames {
			sizes = append(sizes, len(f.Lines))
		}
		c.queue <- b
	}
	size := 0
	for _, n := range sizes[:max(0, len(sizes)-1)] {
		size += n
	}
	if len(c.queue) > 7 || size >= 64<<10 || len(c.queue) > before && !mayGrow {
		c.t.Fatalf("got %d batches, of %d bytes without the last line, after %d batches that may grow: %v", len(c.queue), size, before, mayGrow)
	}
}

// receive checks a batch that the writer receives.
func (c *client) receive(b Batch) {
	c.asks = c.asks || b.Last
	for _, f := range b.Frames {
		e := decode(f)
		if e.Acked != nil {
			c.got.acked = *e.Acked
		}
		if e.People != 0 {
			c.got.count = e.People
		}
		if f.Lines != nil {
			c.got.lines = append(c.got.lines, f)
		}
		if f.Lines != nil && c.got.acked < c.numbers[f] {
			c.t.Fatalf("got a line when %d messages were acknowledged, want %d", c.got.acked, c.numbers[f])
		}
		if f.Bytes[0] == 0x80|websocket.PingFrame {
			before := c.got.ping
			if fmt.Sscan(string(f.Bytes[2:]), &c.got.ping); c.got.ping <= before {
				c.t.Fatalf("got ping %d after %d", c.got.ping, before)
			}
		}
	}
}

// finish drops the connection, and checks what the client has got by then.
func (c *client) finish() {
	c.session.Receive(3) // these are pending
	c.out.Finish(c.out.Rest(c.Stream))
	for len(c.queue) > 0 {
		c.receive(<-c.queue)
	}
	if !slices.Equal(c.got.lines, c.want) || c.got.acked != c.sent+3 || c.got.ping != c.pings || c.got.count != c.people {
		c.t.Fatalf("got %d lines, %d acknowledged, ping %d, %d people; want %d, %d, %d, %d",
			len(c.got.lines), c.got.acked, c.got.ping, c.got.count, len(c.want), c.sent+3, c.pings, c.people)
	}
}
