package relayserver

import (
	"context"
	"errors"
	"io"
	"maps"
	"sync"
	"time"

	"golang.org/x/net/websocket"

	"example.com/chat/internal/once"
	"example.com/chat/internal/relay"
)

const (
	// maxMessage is the largest message, in bytes, that a relay may send. NATS allows 64 MiB, and a header is
	// added.
	maxMessage = 65 << 20

	// maxConns is the number of connections of relays, each of which has two. One more is closed at once, because
	// each may take maxMessage bytes, and as much again, while a message comes.
	maxConns = 8

	// maxAnswer is the largest number of bytes of lines in an answer, even if the relay asks for more.
	maxAnswer = 1 << 20

	// peoplePeriod is the time between two checks whether this chat's people have changed.
	peoplePeriod = time.Second

	// peopleRepeat is the time after which an unchanged report is repeated.
	peopleRepeat = 5 * time.Second

	// maxPeople is the number of other chats whose people are known. Reports of further ones are ignored.
	maxPeople = 256

	// maxRooms is the number of rooms in a report of people, and in a backlog. A longer report is ignored.
	maxRooms = 10_000

	// peopleExpire is how long another chat's last report counts. It allows two reports to be lost.
	peopleExpire = 15 * time.Second
)

// serveConn serves a relay until it disconnects, sends a message that can't be read, or ctx is done.
func (s *Server) serveConn(ctx context.Context, socket *websocket.Conn) {
	s.mu.Lock()
	if ctx.Err() != nil || s.open == maxConns {
		s.mu.Unlock()
		return
	}
	s.open++
	s.conns.Add(1)
	s.mu.Unlock()
	s.counters.Relays.Add(1)
	defer func() {
		s.counters.Relays.Add(-1)
		s.mu.Lock()
		s.open--
		s.mu.Unlock()
		s.conns.Done()
	}()

	hello := s.hello()
	for !s.isMarked(hello.Origin) {
		if s.markRenamed(ctx) != nil {
			return
		}
		hello = s.hello()
	}

	// The first of read and write to end cancels ctx, which ends the other one. The deadline ends a write to
	// a relay that does not read, for which Close would wait.
	ctx, cancel := context.WithCancel(ctx)
	context.AfterFunc(ctx, func() { socket.SetDeadline(time.Now().Add(closeWait)) })
	asks := make(chan relay.Ask)
	var writing sync.WaitGroup
	writing.Go(func() {
		s.write(ctx, socket, hello, asks)
		cancel()
		socket.Close() // ends read
	})
	if err := s.read(ctx, socket, hello.Origin, asks); ctx.Err() == nil && !errors.Is(err, io.EOF) && err != relay.ErrOrigin {
		s.log.Warn("connection to a relay closed", "err", shorten(err.Error()))
	}
	cancel()
	socket.Close()
	writing.Wait()
}

// read processes the messages of a relay that knows this chat as origin, and passes its asks to write. It
// returns the error that ends the connection.
func (s *Server) read(ctx context.Context, socket *websocket.Conn, origin string, asks chan<- relay.Ask) error {
	socket.MaxPayloadBytes = maxMessage
	held := &backlog{rooms: make(map[string]*roomBacklog)}
	for {
		var b []byte
		if err := websocket.Message.Receive(socket, &b); err != nil {
			return err
		}
		m, err := relay.Decode(b)
		switch {
		case err != nil:
		case m.Ask != nil:
			if err = s.compare(origin, m.Ask.From, "an ask of a relay"); err != nil {
				break
			}
			select {
			case asks <- *m.Ask:
			case <-ctx.Done():
				err = ctx.Err()
			}
		case m.People != nil:
			s.setPeople(m.Origin, m.People)
			err = s.compare(origin, m.Repeated[origin]+1, "a report of another chat") // a number of 1<<64 - 1 is none
		case m.Cursor != nil:
			err = s.receive(ctx, m, held)
		default:
			err = errors.New("relay message has no known field")
		}
		if err != nil {
			return err
		}
	}
}

// write sends the relay hello, its answers, and the people of this chat, until a write fails, ctx is done, or
// this chat has another origin than in hello. At the end of ctx it reports that this chat has no people.
func (s *Server) write(ctx context.Context, socket *websocket.Conn, hello *relay.Hello, asks <-chan relay.Ask) {
	send := func(m relay.Message) error { return websocket.Message.Send(socket, m.Encode()) }
	people := time.NewTicker(peoplePeriod)
	defer people.Stop()
	var (
		ask   relay.Ask       // the last one
		added <-chan struct{} // closed when ask may have an answer; nil while it has one, or there is no ask
		sent  presence        // the last report of people
	)
	for err := send(relay.Message{Hello: hello}); err == nil; {
		select {
		case ask = <-asks:
			ask.Limit = max(0, min(ask.Limit, maxAnswer))
		case <-added:
		case now := <-people.C:
			if counts := s.chat.People(); !maps.Equal(counts, sent.people) || now.Sub(sent.at) >= peopleRepeat {
				sent = presence{counts, now}
				err = send(relay.Message{People: counts, Repeated: s.repeatedMarks(now)})
			}
			continue
		case <-ctx.Done():
			send(relay.Message{People: map[string]int{}})
			return
		}
		m, lost, wait, renamed := s.outbox.Read(hello.Origin, ask)
		if renamed != nil {
			return // the relay connects again, and learns the new origin
		}
		if lost > 0 {
			s.counters.RelayLost.Add(int64(lost))
			s.log.Warn("relay too late: lines dropped from the outbox", "lines", lost)
		}
		if added = wait; added == nil {
			err = send(m)
		}
	}
}

// hello returns the first message to a relay, which tells it where to continue.
func (s *Server) hello() *relay.Hello {
	origin, asked := s.outbox.Asked()
	s.mu.Lock()
	defer s.mu.Unlock()
	return &relay.Hello{Origin: origin, Asked: asked, Cursor: s.cursor, Backlog: s.wantsBacklog}
}

// presence is a chat's report of its people.
type presence struct {
	people map[string]int // connections by room, without empty rooms
	at     time.Time      // when it was sent or received
}

// setPeople records the people of another chat.
func (s *Server) setPeople(origin string, people map[string]int) {
	if origin == s.outbox.Origin() || len(origin) > once.MaxOrigin || len(people) > maxRooms {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, known := s.people[origin]; known || len(s.people) < maxPeople {
		s.people[origin] = presence{people, time.Now()}
	}
}

// repeatedMarks returns the marks of the origins whose last message, in the last peopleExpire, had repeated
// lines.
func (s *Server) repeatedMarks(now time.Time) map[string]uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	marks := make(map[string]uint64)
	for origin, mark := range s.repeated {
		if now.Sub(time.UnixMilli(mark.At)) > peopleExpire {
			delete(s.repeated, origin)
			continue
		}
		marks[origin] = uint64(mark.Number)
	}
	return marks
}

// remotePeople forgets the chats that have been silent for peopleExpire. It returns the number of people at
// all other chats, by room.
func (s *Server) remotePeople(now time.Time) map[string]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	sum := make(map[string]int)
	for origin, p := range s.people {
		if now.Sub(p.at) > peopleExpire {
			delete(s.people, origin)
			continue
		}
		for room, n := range p.people {
			sum[room] += n
		}
	}
	return sum
}
