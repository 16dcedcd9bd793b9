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

	"example.com/chat/internal/once"
	"example.com/chat/internal/pending"
	"example.com/chat/internal/relayserver"
	"example.com/chat/internal/store"
	"example.com/chat/internal/stream"
	"example.com/chat/internal/ws"
)

const (
	// emptyRoomWait is how long a named room without connections stays, if no new room replaces it. Until it
	// ends, people who come back find their position.
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

// isRoom reports whether name is "" or valid.
func isRoom(name string) bool { return name == "" || roomName.MatchString(name) }

// chat is all rooms of this process, with a Hub for each. Any goroutine may use it.
type chat struct {
	// Set at construction.
	cfg    config
	shared *shared
	store  *store.Store        // nil without -state
	relay  *relayserver.Server // nil without -relay

	hubs    sync.WaitGroup // the goroutines of Hubs
	sockets sync.WaitGroup // connections that have entered and not left

	// Guarded by mu.
	mu       sync.Mutex
	rooms    map[string]*room // by name; the nameless room is always there
	empty    *list.List       // of *room: the named rooms without connections, the longest-empty first
	conns    int              // connections in all rooms
	draining bool             // no connection may enter
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

// openChat restores the rooms in cfg.state and starts their Hubs. The caller must call run. An error is about the
// state directory, or that of ctx. After it the directory has everything that can be read.
func openChat(ctx context.Context, cfg config) (*chat, error) {
	c := &chat{cfg: cfg, shared: newShared(&cfg), rooms: make(map[string]*room), empty: list.New()}
	seen, relayState := make(once.Marks), []byte(nil)
	hubs, err := c.restore(ctx, seen)
	if err == nil && cfg.relay != "" {
		relayState, err = c.store.TakeRelay() // last, because it removes what it returns
	}
	if err != nil {
		return nil, fmt.Errorf("-state %q: %w", cfg.state, errors.Join(err, c.store.Abandon()))
	}
	if cfg.relay != "" {
		c.relay = relayserver.New(c, relayserver.Options{History: cfg.history, Seen: seen, Saved: relayState, Counters: c.shared.counters})
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, hub := range hubs {
		c.startLocked(hub)
	}
	if c.rooms[""] == nil {
		c.openLocked("")
	}
	return c, nil
}

// restore opens -state, and returns Hubs of the rooms in it. It merges their marks into seen.
func (c *chat) restore(ctx context.Context, seen once.Marks) (hubs []*Hub, err error) {
	if c.cfg.state == "" {
		return nil, nil
	}
	// A room alone may hold half of the memory for lines, and with a store each line counts twice.
	options := store.Options{History: c.cfg.history, MaxRooms: c.cfg.rooms, FileLimit: c.cfg.lineMemory() / 4}
	if c.store, err = store.Open(ctx, c.cfg.state, options); err != nil {
		return nil, err
	}
	records, err := c.store.Read(isRoom)
	if err != nil {
		return nil, err
	}
	for name, record := range records {
		hub := newHub(name, stream.Restore(c.cfg.history, record), c.shared)
		hub.stored = c.store.Room(name, true)
		hubs = append(hubs, hub)
		if refused := seen.Merge(record.Marks); refused > 0 {
			slog.Warn("marks of other chats in -state are too high: not used", "room", name, "marks", refused)
		}
	}
	return hubs, ctx.Err()
}

// openLocked opens a new room. At the limit it first ends the room that has been empty for longest. hasPlaceLocked
// must be true.
func (c *chat) openLocked(name string) *room {
	if longest := c.longestEmptyLocked(); longest != nil && c.crowdedLocked() {
		c.endLocked(longest)
	}
	hub := newHub(name, stream.New(c.cfg.history), c.shared)
	hub.stored = c.store.Room(name, false)
	if c.relay != nil {
		hub.delivered = c.relay.Delivered
	}
	return c.startLocked(hub)
}

// startLocked starts hub and adds its room, which counts as empty until a connection enters.
func (c *chat) startLocked(hub *Hub) *room {
	if c.relay != nil {
		hub.publish = c.relay.Publish
	}
	ctx, stop := context.WithCancel(context.Background())
	started := &room{hub: hub, stop: stop}
	c.rooms[hub.name] = started
	c.vacateLocked(started)
	c.shared.counters.Rooms.Set(int64(len(c.rooms)))
	c.hubs.Go(func() { hub.run(ctx) })
	return started
}

// check returns why nobody may enter a room now, or nil.
func (c *chat) check(name string) *ws.HandshakeError {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.checkLocked(name)
}

func (c *chat) checkLocked(name string) *ws.HandshakeError {
	switch {
	case c.draining:
		return errDraining
	case c.conns >= c.cfg.maxConns:
		return errFull
	case c.rooms[name] == nil && !c.hasPlaceLocked():
		return errRooms
	}
	return nil
}

// enter returns the Hub of a room for one more connection, and opens the room if needed. The connection must leave
// the room when it is closed, and until then the room does not end.
func (c *chat) enter(name string) (*Hub, *ws.HandshakeError) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if refused := c.checkLocked(name); refused != nil {
		return nil, refused
	}
	entered := c.rooms[name]
	if entered == nil {
		entered = c.openLocked(name)
	}
	if entered.elem != nil {
		c.empty.Remove(entered.elem)
		entered.elem = nil
	}
	entered.conns++
	c.conns++
	c.sockets.Add(1)
	c.shared.counters.Connections.Set(int64(c.conns))
	return entered.hub, nil
}

// last returns the last lines of a room, or false if the room is not open.
func (c *chat) last(name string) (r stream.Record, ok bool) {
	c.mu.Lock()
	found := c.rooms[name]
	c.mu.Unlock()
	if found == nil {
		return r, false
	}
	answer := make(chan stream.Record, 1)
	select {
	case found.hub.reads <- answer:
		return <-answer, true
	case <-found.hub.done: // the room has just ended
		return r, false
	}
}

// leave releases one connection that has entered h's room. It must be called once for each enter.
func (c *chat) leave(h *Hub) {
	c.mu.Lock()
	defer c.mu.Unlock()
	left := c.rooms[h.name]
	left.conns--
	if left.conns == 0 {
		c.vacateLocked(left)
	}
	c.conns--
	c.sockets.Done()
	c.shared.counters.Connections.Set(int64(c.conns))
}

// vacateLocked puts a room without connections at the end of c.empty, unless it is the nameless room.
func (c *chat) vacateLocked(left *room) {
	if left.hub.name != "" {
		left.emptySince = time.Now()
		left.elem = c.empty.PushBack(left)
	}
}

// endLocked ends a room in c.empty. Its Hub stops, and its stored lines are removed.
func (c *chat) endLocked(ended *room) {
	ended.stop()
	ended.hub.stored.End()
	c.empty.Remove(ended.elem)
	delete(c.rooms, ended.hub.name)
	c.shared.counters.Rooms.Set(int64(len(c.rooms)))
}

// crowdedLocked reports whether the limit of named rooms is reached.
func (c *chat) crowdedLocked() bool { return len(c.rooms)-1 >= c.cfg.rooms }

// hasPlaceLocked reports whether one more room can be opened.
func (c *chat) hasPlaceLocked() bool { return !c.crowdedLocked() || c.longestEmptyLocked() != nil }

// longestEmptyLocked returns the room that has been empty for longest, or nil.
func (c *chat) longestEmptyLocked() *room {
	if first := c.empty.Front(); first != nil {
		return first.Value.(*room)
	}
	return nil
}

// expire ends the rooms that have been empty for emptyRoomWait, unless people at other chats are in them.
func (c *chat) expire() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for room := c.longestEmptyLocked(); room != nil && time.Since(room.emptySince) >= emptyRoomWait; room = c.longestEmptyLocked() {
		if room.hub.remotePeople.Load() > 0 {
			c.empty.Remove(room.elem)
			c.vacateLocked(room)
		} else {
			c.endLocked(room)
		}
	}
}

// Deliver hands lines of another chat to the Hub of their room, and waits until the Hub has received them. It
// opens the room if needed, and restarts its expiry. It copies the text. It implements relayserver.Chat.
func (c *chat) Deliver(ctx context.Context, b relayserver.Part) error {
	lines := pending.Part{Origin: b.Origin, First: b.First, Count: b.Count}
	if b.Text != nil {
		lines.Frame = stream.TextFrame(b.Text)
		lines.Frame.At = b.At
	}
	for {
		hub, err := c.hubForRemote(b.Room)
		if err != nil {
			return err
		}
		select {
		case hub.remote <- lines:
			return nil
		case <-hub.done: // the empty room has ended; the next round opens it again
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// hubForRemote returns the Hub for lines of other chats. It opens the room if needed, and restarts its expiry.
func (c *chat) hubForRemote(name string) (*Hub, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	found := c.rooms[name]
	switch {
	case c.draining:
		return nil, relayserver.ErrStopping
	case found == nil && (!isRoom(name) || !c.hasPlaceLocked()):
		return nil, relayserver.ErrNoRoom
	case found == nil:
		found = c.openLocked(name)
	case found.elem != nil:
		c.empty.Remove(found.elem)
		c.vacateLocked(found)
	}
	return found.hub, nil
}

// People returns the number of connections in each room that has any. It implements relayserver.Chat.
func (c *chat) People() map[string]int {
	c.mu.Lock()
	defer c.mu.Unlock()
	people := make(map[string]int)
	for name, room := range c.rooms {
		if n := room.hub.localPeople.Load(); n > 0 {
			people[name] = int(n)
		}
	}
	return people
}

// SetRemotePeople sets the number of connections in each room at other chats. It implements relayserver.Chat.
func (c *chat) SetRemotePeople(people map[string]int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for name, room := range c.rooms {
		room.hub.remotePeople.Store(int64(people[name]))
	}
}

// run serves the relay on relays, unless that is nil, runs the store, and expires rooms, until ctx is done.
// Then it stops the chat, and returns when all connections are closed.
//
// A stop has an order: the Hubs drain, the relay fetches the last lines, the store writes both. So each step has
// everything that the step before left.
func (c *chat) run(ctx context.Context, relays net.Listener) {
	var storing, relaying sync.WaitGroup
	storing.Go(func() { c.store.Run(ctx) })
	drained, stopRelaying := context.WithCancel(context.Background())
	if relays != nil {
		relaying.Go(func() { c.relay.Serve(drained, relays) })
	}
	expire := time.NewTicker(expirePeriod)
	defer expire.Stop()
	for ctx.Err() == nil {
		select {
		case <-expire.C:
			c.expire()
		case <-ctx.Done():
		}
	}
	hubs := c.drain()
	c.hubs.Wait()
	storing.Wait()
	stopRelaying()
	relaying.Wait()
	c.closeStore(hubs)
	c.sockets.Wait()
}

// drain makes enter fail and stops all Hubs. It returns them.
func (c *chat) drain() (hubs []*Hub) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.draining = true
	for _, room := range c.rooms {
		hubs = append(hubs, room.hub)
		room.stop()
	}
	return hubs
}

// closeStore writes the lines that the store lacks, and the relay's snapshot. The Hubs must have stopped.
func (c *chat) closeStore(hubs []*Hub) {
	for _, h := range hubs {
		h.stored.Finish(h.stream.Since)
	}
	var relayState []byte
	if c.relay != nil {
		relayState = c.relay.Snapshot()
	}
	c.store.Close(relayState)
}
