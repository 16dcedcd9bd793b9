package relayserver

import (
	"context"
	"errors"
	"io"
	"maps"
	"sync"
	"time"

	"golang.org/x/net/websocket"

	"example.com/chat/internal/relay"
)

const (
	// maxMessage is the largest message, in bytes, that a relay may send. NATS allows 64 MiB, and a header is
	// added.
	maxMessage = 65 << 20

	// maxAnswer is the largest number of bytes of lines in an answer, even if the relay asks for more.
	maxAnswer = 1 << 20
)

// conn is the connection of a relay.
type conn struct {
	// Set at construction.
	server *Server
	socket *websocket.Conn
	asks   chan relay.Ask // from read to write

	// Owned by read.
	backlog backlog
}

// serveConn serves a relay until it disconnects, sends a message that can't be read, or ctx is done.
func (s *Server) serveConn(ctx context.Context, socket *websocket.Conn) {
	if !s.enter() {
		return
	}
	defer s.leave()
	socket.MaxPayloadBytes = maxMessage
	c := &conn{server: s, socket: socket, asks: make(chan relay.Ask), backlog: newBacklog(s.history, s.began)}

	// The first of read and write to end cancels ctx, which ends the other one. The deadline ends a write to
	// a relay that does not read, for which Close would wait.
	ctx, cancel := context.WithCancel(ctx)
	context.AfterFunc(ctx, func() { socket.SetDeadline(time.Now().Add(closeWait)) })
	var writing sync.WaitGroup
	writing.Go(func() {
		c.write(ctx)
		cancel()
		socket.Close() // ends read
	})
	if err := c.read(ctx); ctx.Err() == nil && !errors.Is(err, io.EOF) {
		s.log.Warn("connection to a relay closed", "err", shorten(err.Error()))
	}
	cancel()
	socket.Close()
	writing.Wait()
}

// read processes the relay's messages. It returns the error that ends the connection.
func (c *conn) read(ctx context.Context) error {
	for {
		var b []byte
		if err := websocket.Message.Receive(c.socket, &b); err != nil {
			return err
		}
		m, err := relay.Decode(b)
		if err == nil {
			err = c.handle(ctx, m)
		}
		if err != nil {
			return err
		}
	}
}

func (c *conn) handle(ctx context.Context, m relay.Message) error {
	switch {
	case m.Ask != nil:
		select {
		case c.asks <- *m.Ask:
		case <-ctx.Done():
		}
	case m.People != nil:
		c.server.setPeople(m.Origin, m.People)
	case m.Cursor != nil:
		return c.receive(ctx, m)
	default:
		return errors.New("relay message has no known field")
	}
	return ctx.Err()
}

// write sends the relay its answers, and the people of this chat, until a write fails or ctx is done. At the end
// of ctx it reports that this chat has no people.
func (c *conn) write(ctx context.Context) {
	people := time.NewTicker(peoplePeriod)
	defer people.Stop()
	var (
		ask   *relay.Ask      // the last one, while it has no answer
		added <-chan struct{} // closed when there may be an answer; nil unless the outbox has none
		sent  presence        // the last report of people
	)
	for err := c.sendHello(); err == nil; {
		select {
		case next := <-c.asks:
			ask = &next
		case <-added:
		case now := <-people.C:
			if counts := c.server.chat.People(); !maps.Equal(counts, sent.people) || now.Sub(sent.at) >= peopleRepeat {
				sent = presence{counts, now}
				err = c.send(relay.Message{People: counts})
			}
			continue
		case <-ctx.Done():
			c.send(relay.Message{People: map[string]int{}})
			return
		}
		var m relay.Message
		if m, added = c.server.answer(*ask); added == nil {
			ask = nil
			err = c.send(m)
		}
	}
}

// send sends m. Only write calls it.
func (c *conn) send(m relay.Message) error {
	return websocket.Message.Send(c.socket, m.Encode())
}

// sendHello sends the first message, which tells the relay where to continue.
func (c *conn) sendHello() error {
	s := c.server
	hello := relay.Hello{Origin: s.origin, Asked: s.outbox.Asked()}
	s.mu.Lock()
	hello.Cursor, hello.Backlog = s.cursor, s.wantsBacklog
	s.mu.Unlock()
	return c.send(relay.Message{Hello: &hello})
}

// answer returns the local lines that ask asks for, or a channel that is closed when there may be some. It
// counts the lines that the outbox no longer has.
func (s *Server) answer(ask relay.Ask) (m relay.Message, added <-chan struct{}) {
	ask.Limit = max(0, min(ask.Limit, maxAnswer))
	m, lost, added := s.outbox.Read(ask)
	if lost > 0 {
		s.counters.RelayLost.Add(int64(lost))
		s.log.Warn("relay too late: lines dropped from the outbox", "lines", lost)
	}
	return m, added
}
