package main

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"time"

	"example.com/chat/internal/state"
)

const (
	// After a write the keeper rests for that many times as long: it takes up to a quarter of the time, and
	// of what the disk can do.
	writeRest = 3

	// Files of rooms that ended are removed with this period.
	forgetPeriod = 10 * time.Second
)

// keeper keeps the streams of rooms in a directory, so that they go on after a restart. One goroutine,
// run, owns it, and close when run has returned; Hubs use wants and offer. The zero keeper keeps
// nothing.
type keeper struct {
	dir     *state.Dir      // nil without -state
	files   map[string]bool // rooms of which there is a file
	failing map[string]bool // rooms whose stream could not be written
	due     chan *Hub       // Hubs whose streams are to be written, each once
}

// openKeeper opens -state, and returns the streams of the rooms that were kept there, and the relayServer's
// snapshot if the chat was stopped and did not crash. An error says why the directory can't be used; it is
// left as it was then.
func openKeeper(cfg config) (k keeper, streams map[string]stream, relayState []byte, err error) {
	if cfg.state == "" {
		return k, make(map[string]stream), nil, nil
	}
	dir, complete, err := state.Open(cfg.state)
	if err != nil {
		return k, nil, nil, err
	}
	k = keeper{dir: dir, files: make(map[string]bool), failing: make(map[string]bool)}
	streams, err = k.restore(cfg.history, complete)
	if err == nil && cfg.relay != "" {
		relayState, err = dir.TakeRelay()
	}
	if err != nil {
		return keeper{}, nil, nil, errors.Join(err, dir.Close(complete))
	}
	if !complete {
		relayState = nil
	}
	k.due = make(chan *Hub, 1+cfg.rooms+len(streams))
	return k, streams, relayState, nil
}

// restore reads what is kept of each room. It logs what it can't read.
func (k *keeper) restore(history int, complete bool) (map[string]stream, error) {
	streams := make(map[string]stream)
	rooms, err := k.dir.Rooms()
	for _, room := range rooms {
		if room != "" && !roomName.MatchString(room) {
			slog.Warn("a file in -state has no name of a room", "name", room)
			continue
		}
		s, err := k.dir.Load(room)
		if err != nil {
			slog.Warn("room not restored: file set aside", "err", err)
			continue
		}
		k.files[room] = true
		streams[room] = restoreStream(history, s, complete)
	}
	return streams, err
}

// run writes the streams of Hubs that are due, and removes the files of rooms that are no more, until
// ctx is done.
func (k *keeper) run(ctx context.Context, exists func(name string) bool) {
	forget := time.NewTicker(forgetPeriod)
	defer forget.Stop()
	due, rested := k.due, (<-chan time.Time)(nil)
	for ctx.Err() == nil {
		select {
		case h := <-due:
			began := time.Now()
			if s, ok := h.snapshot(); ok {
				k.save(h, s)
			}
			due, rested = nil, time.After(writeRest*time.Since(began))
		case <-rested:
			due, rested = k.due, nil
		case <-forget.C:
			k.forget(exists)
		case <-ctx.Done():
		}
	}
}

// save writes a stream of h. It reports whether that worked.
func (k *keeper) save(h *Hub, s state.Stream) (ok bool) {
	err := k.dir.Save(h.name, s)
	if err == nil {
		k.files[h.name] = true
		h.saved.Store(int64(s.Lines))
	}
	k.noteFailure(h.name, err)
	return err == nil
}

// noteFailure takes the result of writing a room's stream. It logs when the first room fails, and when
// none does any more.
func (k *keeper) noteFailure(room string, err error) {
	before := len(k.failing)
	if err != nil {
		k.failing[room] = true
	} else {
		delete(k.failing, room)
	}
	switch after := len(k.failing); {
	case before == 0 && after > 0:
		slog.Error("state can't be written", "err", err)
	case before > 0 && after == 0:
		slog.Info("state can be written again")
	}
}

// forget removes the files of rooms that are no more. It reports whether that worked.
func (k *keeper) forget(exists func(name string) bool) (ok bool) {
	ok = true
	for name := range k.files {
		if exists(name) {
			continue
		}
		if err := k.dir.Remove(name); err != nil {
			ok = false
			continue
		}
		delete(k.files, name)
	}
	for name := range maps.Clone(k.failing) {
		if !exists(name) {
			k.noteFailure(name, nil)
		}
	}
	return ok
}

// close writes the streams of Hubs that have stopped, and of relays unless that is nil, and closes the directory. The
// files of rooms that are no more are removed before. It says in the directory whether all that worked.
func (k *keeper) close(hubs []*Hub, exists func(name string) bool, relays *relayServer) {
	if k.dir == nil {
		return
	}
	complete := k.forget(exists)
	for _, h := range hubs {
		if k.wants(h) {
			complete = k.save(h, h.stream.snapshot()) && complete
		}
	}
	if relays != nil {
		if err := k.dir.SaveRelay(relays.snapshot()); err != nil {
			slog.Error("state can't be written", "err", err)
			complete = false
		}
	}
	if !complete {
		slog.Error("state is incomplete: the next start takes this stop for a crash")
	}
	if err := k.dir.Close(complete); err != nil {
		slog.Error("state can't be closed", "err", err)
	}
}

// wants reports whether there is something to write of h. h's goroutine calls it, or nobody else uses h.
func (k *keeper) wants(h *Hub) bool {
	return k.dir != nil && h.saved.Load() != int64(h.stream.end.lines)
}

// offer has h's stream written soon, if there is something to write. It never waits. h's goroutine calls it.
func (k *keeper) offer(h *Hub) {
	if h.isDue || !k.wants(h) {
		return
	}
	select {
	case k.due <- h:
		h.isDue = true
	default: // rooms that have ended are waiting, too
	}
}
