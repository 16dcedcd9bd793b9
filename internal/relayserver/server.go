// Package relayserver connects a chat with other chats: it is the chat's side towards its relays.
//
// Outward, a [Server] numbers the lines that are said here and holds them until a relay has put them into the
// JetStream stream. Inward, it delivers lines of other chats to the Hubs of their rooms, in the order of
// their numbers on each connection. A relay may send any line again. So a Hub must drop lines whose numbers
// it has accepted before (see package once), and then everybody hears each line once. docs/relay.md describes
// the protocol.
//
// The Server's cursor names a message of the JetStream stream. The Hubs have all lines up to it, so a relay
// that connects, even after a restart of the chat, continues from there.
package relayserver

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/net/websocket"

	"example.com/chat/internal/metrics"
	"example.com/chat/internal/once"
	"example.com/chat/internal/ratelimit"
	"example.com/chat/internal/relay"
)

// UnixPrefix begins an address of a Unix socket. The path follows it.
const UnixPrefix = "unix:"

const (
	// relayWait is how long a stopping Server waits until a relay has asked for the last lines.
	relayWait = 5 * time.Second

	// closeWait is how long a stopping Server writes to a relay that does not read.
	closeWait = time.Second

	// clockSkew is the largest difference between two chats' clocks that a backlog allows for. With a larger
	// one it may leave out lines that were said after this chat started.
	clockSkew = time.Minute

	// logBurst is the number of records that a Server logs at once after a quiet time. Then there is one every
	// logPeriod, and strings in it have at most maxLogged bytes, because another chat could fill the log. The
	// counters count everything.
	logBurst  = 10
	logPeriod = 10 * time.Second
	maxLogged = 200
)

// Errors that Chat.Deliver returns.
var (
	ErrStopping = errors.New("the chat is stopping")
	ErrNoRoom   = errors.New("the room can't be opened")
)

// Chat is the chat that a Server connects with other chats. Several goroutines call its methods at the same
// time, but only one of them calls Deliver. The methods may call Publish and Delivered.
type Chat interface {
	// Deliver hands p to the Hub of its room, opening the room if needed, and waits until the Hub has it. It
	// returns nil, ErrStopping, ErrNoRoom or ctx.Err(). After ErrStopping the Server delivers nothing else.
	Deliver(ctx context.Context, p Part) error

	// People returns the number of connections here, by room, without empty rooms. The Chat must not change the
	// map afterwards.
	People() map[string]int

	// SetRemotePeople receives the number of connections at all other chats, by room, once a second. The Chat
	// owns the map.
	SetRemotePeople(people map[string]int)
}

// Part is consecutive lines of one origin, said in one room.
type Part struct {
	Room   string
	Origin string
	First  uint64 // number of the first line
	Count  uint64 // number of lines

	// Text is the lines, valid UTF-8 and each ended by '\n', with at most 64 KiB or one line. It is nil if
	// the room must not say the lines and only mark them as accepted. The Chat may keep it and must not
	// change it.
	Text []byte

	At int64 // when they were said, in milliseconds since 1970; 0 for now
}

// Options configure a Server.
type Options struct {
	// History is the number of lines, for each room, that the Server delivers of lines older than this chat.
	History int

	// Seen is the merged marks of the restored rooms. The Server owns it, and uses it to count missing lines.
	// Rooms that open later do not get these marks, because they may lack lines that other rooms have.
	Seen once.Marks

	// Saved is the result of Snapshot before the last stop, or nil. With it the Server continues as the same
	// origin, at the same cursor, with the lines that no relay has asked for. A damaged one is not used.
	Saved []byte

	Counters *metrics.Counters
}

// Server serves the relays of a chat. Any goroutine may use it.
type Server struct {
	// Set at construction.
	chat     Chat
	counters *metrics.Counters
	log      *slog.Logger // limited
	history  uint64
	began    int64 // start of this chat less clockSkew, in milliseconds since 1970

	// outbox has the origin, which names this chat to other chats until it crashes, starts without Saved, or
	// finds that somebody else has numbered lines of it.
	outbox *relay.Outbox

	conns sync.WaitGroup // of relays

	// turn holds a value while a connection processes a message of the JetStream stream. It is a channel
	// because a connection that ends must not wait for it.
	turn chan struct{}

	// Guarded by turn.
	stopping bool       // Deliver has returned ErrStopping, so cursor and delivered are final
	seen     once.Marks // last line received from each origin
	dropped  once.Marks // last line dropped because its room can't be opened, by origin

	mu sync.Mutex // never held during a call of chat

	// Guarded by mu. Only the connection with the turn changes the first three.
	wantsBacklog bool                // no backlog has been delivered
	cursor       relay.Cursor        // the Hubs have all lines up to this message of the JetStream stream
	delivered    once.Marks          // last line handed to a Hub, by origin
	marked       string              // the origin whose lines the Hubs that said them have marked
	repeated     once.Marks          // by origin, its mark in seen, if its last message had repeated lines
	people       map[string]presence // at other chats, by origin
	open         int                 // connections of relays
}

// New returns a Server for chat. The caller must call Serve, and may call the other methods before.
func New(chat Chat, o Options) *Server {
	s := &Server{
		chat:         chat,
		counters:     o.Counters,
		log:          slog.New(ratelimit.NewHandler(slog.Default().Handler(), ratelimit.New(logBurst, logPeriod), maxLogged)),
		history:      uint64(o.History),
		began:        time.Now().Add(-clockSkew).UnixMilli(),
		outbox:       relay.NewOutbox(),
		turn:         make(chan struct{}, 1),
		wantsBacklog: true,
		seen:         make(once.Marks),
		delivered:    make(once.Marks),
		dropped:      make(once.Marks),
		repeated:     make(once.Marks),
		people:       make(map[string]presence),
	}
	s.marked = s.outbox.Origin()
	s.seen.Merge(o.Seen)
	if err := s.restore(o.Saved); err != nil && len(o.Saved) > 0 {
		slog.Warn("saved state of the relay is not used", "err", err)
	}
	return s
}

// Listen listens for relays on an address, host:port or UnixPrefix and a path. Only the owner can connect to
// a Unix socket. Listen replaces a socket on which nobody listens, and no other file.
func Listen(address string) (net.Listener, error) {
	path, isUnix := strings.CutPrefix(address, UnixPrefix)
	if !isUnix {
		return net.Listen("tcp", address)
	}
	// Only ECONNREFUSED shows that nobody listens. A process that is too busy to accept connections causes
	// another error.
	if conn, err := net.Dial("unix", path); err == nil {
		conn.Close()
	} else if info, statErr := os.Lstat(path); errors.Is(err, syscall.ECONNREFUSED) && statErr == nil && info.Mode().Type() == os.ModeSocket {
		os.Remove(path)
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

// Serve serves relays on l, which it closes, until ctx is done. The caller must cancel ctx only after all
// Hubs have stopped. Serve then waits up to relayWait until a relay has asked for the last lines, and closes
// the connections.
func (s *Server) Serve(ctx context.Context, l net.Listener) {
	connected, disconnect := context.WithCancel(context.WithoutCancel(ctx))
	mux := http.NewServeMux()
	mux.Handle("GET /relay", websocket.Server{
		Handshake: func(_ *websocket.Config, r *http.Request) error {
			if r.Header.Get("Origin") != relay.OriginHeader {
				return errors.New("not a relay")
			}
			if r.ContentLength != 0 { // -1 with Transfer-Encoding; x/net would read the body as frames
				return errors.New("a handshake has no body")
			}
			return nil
		},
		Handler: func(socket *websocket.Conn) { s.serveConn(connected, socket) },
	})
	server := &http.Server{Handler: mux, ReadTimeout: 10 * time.Second}
	var serving sync.WaitGroup
	serving.Go(func() { server.Serve(l) })

	ticks := time.NewTicker(time.Second)
	defer ticks.Stop()
	for ctx.Err() == nil {
		select {
		case now := <-ticks.C:
			s.outbox.Trim(now)
			s.chat.SetRemotePeople(s.remotePeople(now))
		case <-ctx.Done():
		}
	}
	s.waitForRelay()
	s.mu.Lock()
	disconnect() // from now on serveConn adds nothing to conns
	s.mu.Unlock()
	server.Close()
	serving.Wait()
	s.conns.Wait()
}

// waitForRelay waits up to relayWait until a relay has asked for all lines. By asking for the next line, a
// relay acknowledges those before.
func (s *Server) waitForRelay() {
	for began := time.Now(); s.outbox.Unasked() > 0 && time.Since(began) < relayWait; {
		time.Sleep(10 * time.Millisecond)
	}
	if n := s.outbox.Unasked(); n > 0 {
		slog.Warn("no relay has asked for the last lines: they go out after a restart with the same -state", "lines", n)
	}
}

// Publish adds local lines of a room, each ended by '\n', to the outbox, which owns text. It returns this
// chat's origin and the number of the first line, so that the room can accept them in its marks. They may
// change later, and then the Server delivers parts without text that have the room mark the lines again.
func (s *Server) Publish(room string, text []byte, at time.Time) (origin string, first uint64) {
	return s.outbox.Add(room, text, at)
}

// Delivered returns a copy of the marks for a room that is opened now. Lines that were delivered before are not
// repeated in it.
func (s *Server) Delivered() once.Marks {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.delivered)
}

// shorten returns text as it may be logged.
func shorten(text string) string { return ratelimit.Cut(text, maxLogged) }
