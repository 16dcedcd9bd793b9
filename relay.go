package main

import (
	"context"
	"crypto/rand"
	"errors"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/net/websocket"

	"example.com/chat/internal/once"
	"example.com/chat/internal/relay"
)

const (
	// How many people there are in each room is told to relays with this period if it has changed, and else each
	// peopleRepeat. What a chat has not repeated for peopleExpire does not count any more.
	peoplePeriod = time.Second
	peopleRepeat = 5 * time.Second
	peopleExpire = 15 * time.Second

	// When the chat stops, time for a relay to ask for the last lines.
	relayWait = 5 * time.Second

	// Then its connections are closed within that time.
	relayCloseWait = time.Second

	// Bytes in a message from a relay: NATS takes up to 64 MiB, and there is a header.
	maxRelayMessage = 65 << 20

	// Clocks of chats may differ by that much.
	clockSkew = time.Minute

	// Bytes of lines that a relay may ask for at once.
	maxAsk = 1 << 20
)

// relayServer is a chat's side towards its relay: what is said here goes out, what is said at other chats in
// the same rooms comes in. Any goroutine may use it.
type relayServer struct {
	rooms  *rooms
	outbox *relay.Outbox
	origin string // names the chat to others until it crashes, or starts without -state
	began  int64  // when, in milliseconds since 1970, less clockSkew

	mu       sync.Mutex          // may be taken while rooms.mu is held, and not the other way round
	position relay.Cursor        // of the last message that came in
	heard    once.Marks          // of all rooms together, with a backlog that is not said yet
	passed   once.Marks          // the same of what the Hubs have
	people   map[string]presence // by origin
	conns    sync.WaitGroup      // waits for the connections to close

	backlogs     sync.Mutex  // held while a backlog is said
	wantsBacklog atomic.Bool // none was said yet; changed with both mutexes held
}

// presence is how many people a chat has, by room, and when it said so.
type presence struct {
	people map[string]int
	at     time.Time
}

// newRelayServer returns the side of a chat that goes on with streams, and with what snapshot returned, if
// kept is that.
func newRelayServer(r *rooms, streams map[string]stream, kept []byte) *relayServer {
	s := &relayServer{
		rooms:  r,
		outbox: relay.NewOutbox(),
		origin: rand.Text(),
		began:  time.Now().Add(-clockSkew).UnixMilli(),
		heard:  make(once.Marks),
		passed: make(once.Marks),
		people: make(map[string]presence),
	}
	s.wantsBacklog.Store(true)
	for _, restored := range streams {
		s.heard.Merge(restored.marks)
	}
	if m, err := relay.Decode(kept); err == nil && m.Hello != nil {
		s.outbox, s.origin, s.position = relay.RestoreOutbox(m, m.Hello.Asked), m.Hello.Origin, m.Hello.Cursor
		s.heard.Merge(m.Hello.Heard)
		s.passed.Merge(m.Hello.Heard)
	}
	return s
}

// snapshot returns what is to be kept so that the chat goes on as the same origin. run has returned.
func (s *relayServer) snapshot() []byte {
	m := s.outbox.Snapshot()
	m.Hello = s.hello()
	m.Hello.Heard = s.passed
	return m.Encode()
}

// listenRelay listens on -relay. A socket that another chat has left is removed.
func listenRelay(address string) (net.Listener, error) {
	path, isPath := strings.CutPrefix(address, unixPrefix)
	if !isPath {
		return net.Listen("tcp", address)
	}
	conn, err := net.Dial("unix", path)
	if err == nil {
		conn.Close()
	} else if info, statErr := os.Lstat(path); errors.Is(err, syscall.ECONNREFUSED) && statErr == nil && info.Mode().Type() == os.ModeSocket {
		os.Remove(path) // nobody listens; another error may say that somebody is busy
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(path, 0o600); err != nil {
		l.Close()
		return nil, err
	}
	return l, nil
}

// run serves relays on listener until ctx is done, when the rooms have stopped. Then it waits up to relayWait
// until a relay has the last lines, and closes the connections.
func (s *relayServer) run(ctx context.Context, listener net.Listener) {
	serving, stop := context.WithCancel(context.WithoutCancel(ctx))
	mux := http.NewServeMux()
	mux.Handle("GET /relay", websocket.Server{Handshake: checkRelay, Handler: func(conn *websocket.Conn) { s.serve(serving, conn) }})
	server := &http.Server{Handler: mux, ReadTimeout: 10 * time.Second}
	var running sync.WaitGroup
	running.Go(func() { server.Serve(listener) })
	ticks := time.NewTicker(peoplePeriod)
	defer ticks.Stop()
	for ctx.Err() == nil {
		select {
		case now := <-ticks.C:
			s.outbox.Trim(now)
			s.rooms.setElsewhere(s.countPeople(now))
		case <-ctx.Done():
		}
	}
	s.waitForRelay()
	s.mu.Lock()
	stop() // nobody enters any more
	s.mu.Unlock()
	server.Close()
	running.Wait()
	s.conns.Wait()
}

// checkRelay refuses whatever is not a relay.
func checkRelay(_ *websocket.Config, r *http.Request) error {
	if r.Header.Get("Origin") != relay.OriginHeader {
		return errors.New("not a relay")
	}
	return nil
}

// waitForRelay waits until a relay has all lines, up to relayWait.
func (s *relayServer) waitForRelay() {
	for began := time.Now(); s.outbox.Unasked() > 0 && time.Since(began) < relayWait; {
		time.Sleep(10 * time.Millisecond)
	}
	if n := s.outbox.Unasked(); n > 0 {
		slog.Warn("the chat stops before a relay has asked for the last lines: others hear them when it starts again with the same -state", "lines", n)
	}
}

// enter counts a connection, unless there are to be no more.
func (s *relayServer) enter(ctx context.Context) (ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if ctx.Err() != nil {
		return false
	}
	s.conns.Add(1)
	s.rooms.counters.relays.Add(1)
	return true
}

// leave is called when a connection is closed.
func (s *relayServer) leave() {
	s.rooms.counters.relays.Add(-1)
	s.conns.Done()
}

// relayConn is a connection of a relay.
type relayConn struct {
	*websocket.Conn
	server  *relayServer
	asks    chan relay.Ask // from read to write
	backlog backlog        // only read uses it
}

// serve serves a relay until its connection is closed, by the relay or because ctx is done. What can't be read
// closes it.
func (s *relayServer) serve(ctx context.Context, conn *websocket.Conn) {
	if !s.enter(ctx) {
		return
	}
	defer s.leave()
	ctx, stop := context.WithCancel(ctx)
	context.AfterFunc(ctx, func() { conn.SetDeadline(time.Now().Add(relayCloseWait)) })
	conn.MaxPayloadBytes = maxRelayMessage
	c := &relayConn{conn, s, make(chan relay.Ask), newBacklog(s.rooms.cfg.history, s.began)}
	var writing sync.WaitGroup
	writing.Go(func() {
		defer conn.Close() // ends read
		defer stop()       // read may wait for write to take an ask
		c.write(ctx)
	})
	if err := c.read(ctx); err != nil && ctx.Err() == nil && !errors.Is(err, io.EOF) {
		slog.Warn("connection to a relay closed", "err", err)
	}
	stop()
	conn.Close()
	writing.Wait()
}

// read takes what a relay sends.
func (c *relayConn) read(ctx context.Context) error {
	for {
		var b []byte
		if err := websocket.Message.Receive(c.Conn, &b); err != nil {
			return err
		}
		m, err := relay.Decode(b)
		switch {
		case err != nil:
			return err
		case m.Ask != nil:
			select {
			case c.asks <- *m.Ask:
			case <-ctx.Done():
				return ctx.Err()
			}
		case m.People != nil:
			c.server.hearPeople(m.Origin, m.People)
		case m.Cursor != nil:
			if err := c.hear(ctx, m); err != nil {
				return err
			}
		default:
			return errors.New("a message from the relay says nothing")
		}
	}
}

// write sends a relay what it asks for, and how many people there are.
func (c *relayConn) write(ctx context.Context) {
	people := time.NewTicker(peoplePeriod)
	defer people.Stop()
	var (
		ask   *relay.Ask      // not answered
		added <-chan struct{} // until there are lines for the answer
		told  presence
		err   = c.send(relay.Message{Hello: c.server.hello()})
	)
	for err == nil {
		select {
		case asked := <-c.asks:
			ask = &asked
		case <-added:
		case now := <-people.C:
			if counts := c.server.rooms.people(); !maps.Equal(counts, told.people) || now.Sub(told.at) >= peopleRepeat {
				told = presence{counts, now}
				err = c.send(relay.Message{People: counts})
			}
			continue
		case <-ctx.Done():
			c.send(relay.Message{People: map[string]int{}}) // nobody is here any more
			return
		}
		var m relay.Message
		if m, added = c.server.read(*ask); added == nil {
			ask = nil
			err = c.send(m)
		}
	}
}

// send sends m, on the goroutine of write.
func (c *relayConn) send(m relay.Message) error {
	return websocket.Message.Send(c.Conn, m.Encode())
}

// hello returns the first message for a relay.
func (s *relayServer) hello() *relay.Hello {
	s.mu.Lock()
	defer s.mu.Unlock()
	return &relay.Hello{Origin: s.origin, Asked: s.outbox.Asked(), Cursor: s.position, Backlog: s.wantsBacklog.Load()}
}

// read returns the lines that a relay asks for, or a channel that is closed when there may be some. It counts
// those that are not held any more.
func (s *relayServer) read(ask relay.Ask) (m relay.Message, added <-chan struct{}) {
	ask.Limit = max(0, min(ask.Limit, maxAsk))
	m, lost, added := s.outbox.Read(ask)
	if lost > 0 {
		s.rooms.counters.relayLost.Add(int64(lost))
		slog.Warn("lines were not passed on: no relay asked for them as long as they were held", "lines", lost)
	}
	return m, added
}

// hearPeople takes how many people another chat has, by room.
func (s *relayServer) hearPeople(origin string, people map[string]int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if origin != s.origin {
		s.people[origin] = presence{people, time.Now()}
	}
}

// countPeople returns how many people there are in each room at other chats.
func (s *relayServer) countPeople(now time.Time) (elsewhere map[string]int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	elsewhere = make(map[string]int)
	for origin, p := range s.people {
		if now.Sub(p.at) > peopleExpire {
			delete(s.people, origin)
			continue
		}
		for room, n := range p.people {
			elsewhere[room] += n
		}
	}
	return elsewhere
}
