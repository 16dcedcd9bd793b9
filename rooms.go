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
	c := &chat{cfg: cfg, counters: new(metrics.Counters), peerLog: metrics.NewPeerLog(), rooms: make(map[string]*room), empty: list.New()}
	records, relayState, err := c.openStore()
	if err != nil {
		return nil, fmt.Errorf("-state %q: %w", cfg.state, err)
	}
	if cfg.relay != "" {
		seen := make(once.Marks)
		for _, record := range records {
			seen.Merge(record.Marks)
		}
		c.relay = relayserver.New(c, relayserver.Options{History: cfg.history, Seen: seen, Saved: relayState, Counters: c.counters})
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := records[""]; !ok {
		c.openLocked("")
	}
	for name, record := range records {
		hub := newHub(name, stream.Restore(cfg.history, record, c.store.Complete()), c.counters, c.peerLog)
		hub.stored = c.store.Room(name, c.store.Complete())
		c.startLocked(hub)
	}
	return c, nil
}

// openStore opens -state, and returns what it holds of each room and of the relay. After an error the directory
// is as it was.
func (c *chat) openStore() (records map[string]stream.Record, relayState []byte, err error) {
	if c.cfg.state == "" {
		return nil, nil, nil
	}
	if c.store, err = store.Open(c.cfg.state, c.cfg.history); err != nil {
		return nil, nil, err
	}
	records, err = c.store.Read(isRoom)
	if err == nil && c.cfg.relay != "" {
		relayState, err = c.store.TakeRelay()
	}
	if err != nil {
		return nil, nil, errors.Join(err, c.store.Abandon())
	}
	return records, relayState, nil
}

// openLocked opens a new room. While there are too many, it ends those that have been empty for longest. Many
// may be too many after a restart with a smaller -rooms.
func (c *chat) openLocked(name string) *room {
	for c.crowdedLocked() && c.longestEmptyLocked() != nil {
		c.endLocked(c.longestEmptyLocked())
	}
	hub := newHub(name, stream.New(c.cfg.history), c.counters, c.peerLog)
	hub.stored = c.store.Room(name, false)
	return c.startLocked(hub)
}

// startLocked starts a Hub, whose room may end until somebody enters it.
func (c *chat) startLocked(hub *Hub) *room {
	if c.relay != nil {
		hub.publish = c.relay.Publish
		hub.delivered = c.relay.Delivered
	}
	ctx, stop := context.WithCancel(context.Background())
	started := &room{hub: hub, stop: stop}
	c.rooms[hub.name] = started
	c.vacateLocked(started)
	c.counters.Rooms.Set(int64(len(c.rooms)))
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
	case c.cfg.maxConns > 0 && c.conns >= c.cfg.maxConns:
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
	c.counters.Connections.Set(int64(c.conns))
	return entered.hub, nil
}

// leave ends what enter began.
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
	c.counters.Connections.Set(int64(c.conns))
}

// vacateLocked makes a named room without connections one that may end.
func (c *chat) vacateLocked(left *room) {
	if left.hub.name != "" {
		left.emptySince = time.Now()
		left.elem = c.empty.PushBack(left)
	}
}

// endLocked ends an empty room.
func (c *chat) endLocked(ended *room) {
	ended.stop()
	ended.hub.stored.End()
	c.empty.Remove(ended.elem)
	delete(c.rooms, ended.hub.name)
	c.counters.Rooms.Set(int64(len(c.rooms)))
}

// crowdedLocked reports whether there are as many named rooms as there may be, or more.
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

// expire ends the rooms that have been empty for emptyRoomWait, here and at other chats.
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

// Deliver hands lines of another chat to the Hub of their room. The room opens as if somebody had entered and
// left it. It implements relayserver.Chat.
func (c *chat) Deliver(ctx context.Context, b relayserver.Batch) error {
	lines := pending.Remote{Origin: b.Origin, First: b.First, Count: b.Count}
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
		case <-hub.done: // the room was empty and has ended; another one may take its place
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

// run ends rooms that have been empty for long, runs the store, and serves the relay on relays unless that is
// nil, until ctx is done. Then it stops, and returns when all connections are closed.
//
// A stop goes from people to the disk. The Hubs drain and stop, the relay fetches the last lines, and the store
// writes both, so that each step has all that the step before it left.
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

// drain lets nobody in any more, and has all Hubs drain and stop.
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

// closeStore writes what the store does not have yet of the Hubs, which have stopped, and of the relay.
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
