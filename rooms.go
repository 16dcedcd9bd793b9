package main

import (
	"container/list"
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"time"

	"example.com/chat/internal/ws"
)

const (
	// A named room ends when it has been empty for that long, or when another needs its place: people
	// who come back before then find their position.
	emptyRoomWait = 5 * time.Minute

	// Rooms that have been empty for that long are looked for with this period.
	expirePeriod = 10 * time.Second
)

var (
	errFull     = &ws.HandshakeError{Status: http.StatusServiceUnavailable, Reason: "full", Text: "The chat is full. Try again later."}
	errRooms    = &ws.HandshakeError{Status: http.StatusServiceUnavailable, Reason: "too many rooms", Text: "There are too many rooms. Try again later."}
	errDraining = &ws.HandshakeError{Status: http.StatusServiceUnavailable, Reason: "draining", Text: "The chat is shutting down."}
)

// roomName is the syntax of a room's name. The room without a name is "".
var roomName = regexp.MustCompile(`^[a-z0-9_-]{1,64}$`)

// named passes requests with the name of a room on to h. Without h, and where letters of the name are
// in upper case, it redirects to the right address, which is relative: a proxy may serve the chat below
// a path. up leads from the address to where rooms are.
func named(up string, h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked := r.PathValue("room")
		name := strings.ToLower(asked)
		switch {
		case !roomName.MatchString(name):
			http.NotFound(w, r)
		case h != nil && name == asked:
			h.ServeHTTP(w, r)
		default:
			_, rest, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
			to := url.URL{Path: up + name + "/" + rest, RawQuery: r.URL.RawQuery}
			w.Header().Set("Location", to.String())
			w.WriteHeader(http.StatusMovedPermanently)
		}
	})
}

// rooms is a chat: a Hub for each room, and what they share. Any goroutine may use it.
type rooms struct {
	cfg      config
	counters counters
	peerLog  *slog.Logger // of what peers do; limited
	keeper   keeper
	relays   *relayServer // nil without -relay

	mu       sync.Mutex
	rooms    map[string]*room // by name; the room without a name is always there
	empty    *list.List       // named rooms without connections; the one that has been empty longest first
	conns    int              // connections in all rooms
	draining bool             // there will be no more connections

	hubs    sync.WaitGroup // waits for the Hubs to stop
	sockets sync.WaitGroup // waits for the connections to close
}

// room is a Hub and, guarded by rooms.mu, what it is needed for.
type room struct {
	hub   *Hub
	stop  context.CancelFunc
	conns int // connections that entered and did not leave

	// While it is named and empty.
	place      *list.Element // in rooms.empty
	emptySince time.Time
}

// openRooms returns a chat with the rooms that were kept in -state. Its Hubs run; it is to be run,
// too. An error is about -state.
func openRooms(cfg config) (*rooms, error) {
	keeper, streams, outbox, err := openKeeper(cfg)
	if err != nil {
		return nil, fmt.Errorf("-state %q: %w", cfg.state, err)
	}
	r := &rooms{cfg: cfg, peerLog: newPeerLog(), keeper: keeper, rooms: make(map[string]*room), empty: list.New()}
	if _, ok := streams[""]; !ok {
		streams[""] = newStream(cfg.history)
	}
	if cfg.relay != "" {
		r.relays = newRelayServer(r, streams, outbox)
	}
	for name, s := range streams {
		r.open(name, s)
	}
	return r, nil
}

// open makes a room and runs its Hub. r.mu is locked, or nobody else knows r.
func (r *rooms) open(name string, s stream) *room {
	ctx, stop := context.WithCancel(context.Background())
	opened := &room{hub: newHub(r, name, s), stop: stop}
	r.rooms[name] = opened
	r.vacate(opened)
	r.counters.rooms.Set(int64(len(r.rooms)))
	r.hubs.Go(func() { opened.hub.run(ctx) })
	return opened
}

// check returns why nobody can enter a room, or nil.
func (r *rooms) check(name string) *ws.HandshakeError {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.refusal(name)
}

// refusal is check with r.mu locked.
func (r *rooms) refusal(name string) *ws.HandshakeError {
	_, exists := r.rooms[name]
	switch {
	case r.draining:
		return errDraining
	case r.cfg.maxConns > 0 && r.conns >= r.cfg.maxConns:
		return errFull
	case !exists && !r.hasPlace():
		return errRooms
	}
	return nil
}

// enter returns the Hub of a room for one more connection, which must leave it. It makes the room
// if there is none of that name.
func (r *rooms) enter(name string) (*Hub, *ws.HandshakeError) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if refused := r.refusal(name); refused != nil {
		return nil, refused
	}
	entered := r.rooms[name]
	if entered == nil {
		entered = r.openInstead(name)
	}
	if entered.place != nil {
		r.empty.Remove(entered.place)
		entered.place = nil
	}
	entered.conns++
	r.conns++
	r.sockets.Add(1)
	r.counters.connections.Set(int64(r.conns))
	return entered.hub, nil
}

// openInstead makes a room; if there are too many, instead of those that have been empty longest: more than
// one if more were restored than there may be. r.mu is locked.
func (r *rooms) openInstead(name string) *room {
	for r.crowded() && r.longestEmpty() != nil {
		r.remove(r.longestEmpty())
	}
	s := newStream(r.cfg.history)
	if r.relays != nil {
		s.marks = r.relays.marks()
	}
	return r.open(name, s)
}

// hear returns the Hub of a room in which something was said at another chat, as if somebody had entered
// and left it; or nil where there can be no such room.
func (r *rooms) hear(name string) *Hub {
	r.mu.Lock()
	defer r.mu.Unlock()
	heard := r.rooms[name]
	switch {
	case r.draining:
		return nil
	case heard == nil && (!roomName.MatchString(name) || !r.hasPlace()):
		return nil
	case heard == nil:
		heard = r.openInstead(name)
	case heard.place != nil:
		r.empty.Remove(heard.place)
		r.vacate(heard)
	}
	return heard.hub
}

// people returns how many people there are in each room, without those that have none.
func (r *rooms) people() map[string]int {
	r.mu.Lock()
	defer r.mu.Unlock()
	people := make(map[string]int)
	for name, room := range r.rooms {
		if n := room.hub.here.Load(); n > 0 {
			people[name] = int(n)
		}
	}
	return people
}

// setElsewhere says how many people there are in each room at other chats.
func (r *rooms) setElsewhere(people map[string]int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for name, room := range r.rooms {
		room.hub.elsewhere.Store(int64(people[name]))
	}
}

// leave is called when a connection is closed.
func (r *rooms) leave(h *Hub) {
	r.mu.Lock()
	defer r.mu.Unlock()
	left := r.rooms[h.name]
	left.conns--
	if left.conns == 0 {
		r.vacate(left)
	}
	r.conns--
	r.sockets.Done()
	r.counters.connections.Set(int64(r.conns))
}

// vacate makes a room without connections one that may be removed. r.mu is locked, or nobody else
// knows r.
func (r *rooms) vacate(left *room) {
	if left.hub.name != "" {
		left.emptySince = time.Now()
		left.place = r.empty.PushBack(left)
	}
}

// isDraining reports whether nobody is let in any more.
func (r *rooms) isDraining() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.draining
}

// exists reports whether there is a room of that name.
func (r *rooms) exists(name string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.rooms[name] != nil
}

// crowded reports whether there are as many named rooms as there may be. r.mu is locked.
func (r *rooms) crowded() bool { return len(r.rooms)-1 >= r.cfg.rooms }

// hasPlace reports whether one more room can be opened. r.mu is locked.
func (r *rooms) hasPlace() bool { return !r.crowded() || r.longestEmpty() != nil }

// longestEmpty returns the room that has been empty longest, or nil. r.mu is locked.
func (r *rooms) longestEmpty() *room {
	first := r.empty.Front()
	if first == nil {
		return nil
	}
	return first.Value.(*room)
}

// remove ends an empty room. r.mu is locked.
func (r *rooms) remove(removed *room) {
	removed.stop()
	r.empty.Remove(removed.place)
	delete(r.rooms, removed.hub.name)
	r.counters.rooms.Set(int64(len(r.rooms)))
}

// expire removes the rooms that have been empty for emptyRoomWait, at other chats, too.
func (r *rooms) expire() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for room := r.longestEmpty(); room != nil && time.Since(room.emptySince) >= emptyRoomWait; room = r.longestEmpty() {
		if room.hub.elsewhere.Load() > 0 {
			r.empty.Remove(room.place)
			r.vacate(room)
		} else {
			r.remove(room)
		}
	}
}

// run ends rooms that have been empty for long, runs the keeper, and serves the relay on relays unless that
// is nil, until ctx is done. Then it drains all rooms, waits for the relay to have the last lines, and
// returns when all connections are closed.
func (r *rooms) run(ctx context.Context, relays net.Listener) {
	var keeping, relaying sync.WaitGroup
	keeping.Go(func() { r.keeper.run(ctx, r.exists) })
	drained, stopRelaying := context.WithCancel(context.Background())
	if relays != nil {
		relaying.Go(func() { r.relays.run(drained, relays) })
	}
	expire := time.NewTicker(expirePeriod)
	defer expire.Stop()
	for ctx.Err() == nil {
		select {
		case <-expire.C:
			r.expire()
		case <-ctx.Done():
		}
	}
	hubs := r.drain()
	r.hubs.Wait()
	keeping.Wait()
	stopRelaying()
	relaying.Wait()
	r.keeper.close(hubs, r.exists, r.relays)
	r.sockets.Wait()
}

// drain lets nobody in any more, and has all Hubs drain and stop.
func (r *rooms) drain() (hubs []*Hub) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.draining = true
	for _, room := range r.rooms {
		hubs = append(hubs, room.hub)
		room.stop()
	}
	return hubs
}
