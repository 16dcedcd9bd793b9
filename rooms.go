package main

import (
	"container/list"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"regexp"
	"sync"
	"time"

	"example.com/chat/internal/metrics"
	"example.com/chat/internal/once"
	"example.com/chat/internal/pending"
	"example.com/chat/internal/relayserver"
	"example.com/chat/internal/store"
	"example.com/chat/internal/stream"
	"example.com/chat/internal/ws"
)

const (
	// emptyRoomWait is how long a named room without connections stays, unless another room needs its place. People
	// who come back before then find their position.
	emptyRoomWait = 5 * time.Minute

	// expirePeriod is the time between two looks for rooms that have been empty for emptyRoomWait.
	expirePeriod = 10 * time.Second
)

var (
	errFull     = &ws.HandshakeError{Status: http.StatusServiceUnavailable, Reason: "full", Text: "The chat is full. Try again later."}
	errRooms    = &ws.HandshakeError{Status: http.StatusServiceUnavailable, Reason: "too many rooms", Text: "There are too many rooms. Try again later."}
	errDraining = &ws.HandshakeError{Status: http.StatusServiceUnavailable, Reason: "draining", Text: "The chat is shutting down."}
)

// roomName is the syntax of a room's name. The name of the nameless room is "".
var roomName = regexp.MustCompile(`^[a-z0-9_-]{1,64}$`)

func isRoom(name string) bool { return name == "" || roomName.MatchString(name) }

// chat is all rooms of this process: a Hub for each, and what they share. Any goroutine may use it.
type chat struct {
	// Set at construction.
	cfg      config
	counters *metrics.Counters
	peerLog  *slog.Logger        // of what peers cause; limited
	store    *store.Store        // nil without -state
	relay    *relayserver.Server // nil without -relay

	hubs    sync.WaitGroup // the goroutines of Hubs
	sockets sync.WaitGroup // connections that have entered and not left

	mu       sync.Mutex
	rooms    map[string]*room // by name; the nameless room is always there
	empty    *list.List       // of *room: the named rooms without connections, the longest-empty first
	conns    int              // connections in all rooms
	draining bool             // nobody may enter any more
}

// room is a Hub with its reference count. chat.mu guards it.
type room struct {
	hub   *Hub
	stop  context.CancelFunc // ends the Hub
	conns int                // connections that have entered and not left

	// While the room is named and conns is 0.
	elem       *list.Element // in chat.empty
	emptySince time.Time
}

// openChat restores the rooms in cfg.state and starts their Hubs. The caller must call run. Any error is about
// the state directory.
func openChat(cfg config) (*chat, error) {
	r := &chat{cfg: cfg, counters: new(metrics.Counters), peerLog: metrics.NewPeerLog(), rooms: make(map[string]*room), empty: list.New()}
	records, relayState, err := r.openStore()
	if err != nil {
		return nil, fmt.Errorf("-state %q: %w", cfg.state, err)
	}
	if cfg.relay != "" {
		seen := make(once.Marks)
		for _, record := range records {
			seen.Merge(record.Marks)
		}
		r.relay = relayserver.New(r, relayserver.Options{History: cfg.history, Seen: seen, Saved: relayState, Counters: r.counters})
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, ok := records[""]; !ok {
		r.openLocked("")
	}
	for name, record := range records {
		hub := newHub(name, stream.Restore(cfg.history, record, r.store.Complete()), r.counters, r.peerLog)
		hub.kept = r.store.Room(name, r.store.Complete())
		r.startLocked(hub)
	}
	return r, nil
}

// openStore opens -state, and returns what it holds of each room and of the relay. After an error the directory
// is as it was.
func (r *chat) openStore() (records map[string]stream.Record, relayState []byte, err error) {
	if r.cfg.state == "" {
		return nil, nil, nil
	}
	if r.store, err = store.Open(r.cfg.state, r.cfg.history); err != nil {
		return nil, nil, err
	}
	records, err = r.store.Read(isRoom)
	if err == nil && r.cfg.relay != "" {
		relayState, err = r.store.TakeRelay()
	}
	if err != nil {
		return nil, nil, errors.Join(err, r.store.Abandon())
	}
	return records, relayState, nil
}

// openLocked opens a new room. While there are too many, it ends those that have been empty for longest. Many
// may be too many after a restart with a smaller -rooms.
func (r *chat) openLocked(name string) *room {
	for r.crowdedLocked() && r.longestEmptyLocked() != nil {
		r.endLocked(r.longestEmptyLocked())
	}
	hub := newHub(name, stream.New(r.cfg.history), r.counters, r.peerLog)
	hub.kept = r.store.Room(name, false)
	return r.startLocked(hub)
}

// startLocked starts a Hub, whose room may end until somebody enters it.
func (r *chat) startLocked(hub *Hub) *room {
	if r.relay != nil {
		hub.publish = r.relay.Publish
		hub.delivered = r.relay.Delivered
	}
	ctx, stop := context.WithCancel(context.Background())
	started := &room{hub: hub, stop: stop}
	r.rooms[hub.name] = started
	r.vacateLocked(started)
	r.counters.Rooms.Set(int64(len(r.rooms)))
	r.hubs.Go(func() { hub.run(ctx) })
	return started
}

// check returns why nobody may enter a room now, or nil.
func (r *chat) check(name string) *ws.HandshakeError {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.checkLocked(name)
}

func (r *chat) checkLocked(name string) *ws.HandshakeError {
	switch {
	case r.draining:
		return errDraining
	case r.cfg.maxConns > 0 && r.conns >= r.cfg.maxConns:
		return errFull
	case r.rooms[name] == nil && !r.hasPlaceLocked():
		return errRooms
	}
	return nil
}

// enter returns the Hub of a room for one more connection, and opens the room if needed. The connection must leave
// the room when it is closed, and until then the room does not end.
func (r *chat) enter(name string) (*Hub, *ws.HandshakeError) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if refused := r.checkLocked(name); refused != nil {
		return nil, refused
	}
	entered := r.rooms[name]
	if entered == nil {
		entered = r.openLocked(name)
	}
	if entered.elem != nil {
		r.empty.Remove(entered.elem)
		entered.elem = nil
	}
	entered.conns++
	r.conns++
	r.sockets.Add(1)
	r.counters.Connections.Set(int64(r.conns))
	return entered.hub, nil
}

// leave ends what enter began.
func (r *chat) leave(h *Hub) {
	r.mu.Lock()
	defer r.mu.Unlock()
	left := r.rooms[h.name]
	left.conns--
	if left.conns == 0 {
		r.vacateLocked(left)
	}
	r.conns--
	r.sockets.Done()
	r.counters.Connections.Set(int64(r.conns))
}

// vacateLocked makes a named room without connections one that may end.
func (r *chat) vacateLocked(left *room) {
	if left.hub.name != "" {
		left.emptySince = time.Now()
		left.elem = r.empty.PushBack(left)
	}
}

// endLocked ends an empty room.
func (r *chat) endLocked(ended *room) {
	ended.stop()
	ended.hub.kept.End()
	r.empty.Remove(ended.elem)
	delete(r.rooms, ended.hub.name)
	r.counters.Rooms.Set(int64(len(r.rooms)))
}

// crowdedLocked reports whether there are as many named rooms as there may be, or more.
func (r *chat) crowdedLocked() bool { return len(r.rooms)-1 >= r.cfg.rooms }

// hasPlaceLocked reports whether one more room can be opened.
func (r *chat) hasPlaceLocked() bool { return !r.crowdedLocked() || r.longestEmptyLocked() != nil }

// longestEmptyLocked returns the room that has been empty for longest, or nil.
func (r *chat) longestEmptyLocked() *room {
	if first := r.empty.Front(); first != nil {
		return first.Value.(*room)
	}
	return nil
}

// expire ends the rooms that have been empty for emptyRoomWait, here and at other chats.
func (r *chat) expire() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for room := r.longestEmptyLocked(); room != nil && time.Since(room.emptySince) >= emptyRoomWait; room = r.longestEmptyLocked() {
		if room.hub.remotePeople.Load() > 0 {
			r.empty.Remove(room.elem)
			r.vacateLocked(room)
		} else {
			r.endLocked(room)
		}
	}
}

// Deliver hands lines of another chat to the Hub of their room. The room opens as if somebody had entered and
// left it. It implements relayserver.Chat.
func (r *chat) Deliver(ctx context.Context, b relayserver.Batch) error {
	lines := pending.Remote{Origin: b.Origin, First: b.First, Count: b.Count}
	if b.Text != nil {
		lines.Frame = stream.TextFrame(b.Text)
		lines.Frame.At = b.At
	}
	for {
		hub, err := r.hubForRemote(b.Room)
		if err != nil {
			return err
		}
		select {
		case hub.remote <- lines:
			return nil
		case <-hub.done: // the room was empty and has ended; another one may take its place
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// hubForRemote returns the Hub for lines of other chats. It opens the room if needed, and restarts its expiry.
func (r *chat) hubForRemote(name string) (*Hub, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	found := r.rooms[name]
	switch {
	case r.draining:
		return nil, relayserver.ErrStopping
	case found == nil && (!isRoom(name) || !r.hasPlaceLocked()):
		return nil, relayserver.ErrNoRoom
	case found == nil:
		found = r.openLocked(name)
	case found.elem != nil:
		r.empty.Remove(found.elem)
		r.vacateLocked(found)
	}
	return found.hub, nil
}

// People returns the number of connections in each room that has any. It implements relayserver.Chat.
func (r *chat) People() map[string]int {
	r.mu.Lock()
	defer r.mu.Unlock()
	people := make(map[string]int)
	for name, room := range r.rooms {
		if n := room.hub.localPeople.Load(); n > 0 {
			people[name] = int(n)
		}
	}
	return people
}

// SetRemotePeople sets the number of connections in each room at other chats. It implements relayserver.Chat.
func (r *chat) SetRemotePeople(people map[string]int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for name, room := range r.rooms {
		room.hub.remotePeople.Store(int64(people[name]))
	}
}

// run ends rooms that have been empty for long, runs the store, and serves the relay on relays unless that is
// nil, until ctx is done. Then it stops, and returns when all connections are closed.
//
// A stop goes from people to the disk. The Hubs drain and stop, the relay fetches the last lines, and the store
// writes both, so that each step has all that the step before it left.
func (r *chat) run(ctx context.Context, relays net.Listener) {
	var storing, relaying sync.WaitGroup
	storing.Go(func() { r.store.Run(ctx) })
	drained, stopRelaying := context.WithCancel(context.Background())
	if relays != nil {
		relaying.Go(func() { r.relay.Serve(drained, relays) })
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
	storing.Wait()
	stopRelaying()
	relaying.Wait()
	r.closeStore(hubs)
	r.sockets.Wait()
}

// drain lets nobody in any more, and has all Hubs drain and stop.
func (r *chat) drain() (hubs []*Hub) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.draining = true
	for _, room := range r.rooms {
		hubs = append(hubs, room.hub)
		room.stop()
	}
	return hubs
}

// closeStore writes what the store does not have yet of the Hubs, which have stopped, and of the relay.
func (r *chat) closeStore(hubs []*Hub) {
	for _, h := range hubs {
		h.kept.Finish(h.stream.Since)
	}
	var relayState []byte
	if r.relay != nil {
		relayState = r.relay.Snapshot()
	}
	r.store.Close(relayState)
}
