// Package store keeps the records of rooms in a directory, so that the rooms continue after a restart.
//
// A room that was written continues with its lines, their numbers, and the numbers of senders and other
// chats. If the last program that used the directory closed it as complete, nothing is missing. After a crash
// the last lines may be missing, and [Store.Complete] reports false, so the room must continue with a new
// epoch. A crash at any moment leaves each file as it was before a write or as it is after it.
//
// A room's Hub hands over only the lines that are new. It never waits for the disk. One goroutine, [Store.Run],
// writes the rooms in turn. It asks a Hub for the lines that the store does not have with a [Request].
//
// The package has three layers. A Store and its Rooms decide when a room is written and how failures are
// logged. A backend stores the records. A dir marks which program uses the directory, and replaces files as a
// whole. The only backend is files. It has one file for each room, which append reads back, and replaces with
// the last lines.
//
// Another backend in the directory, such as a journal, would replace files and record.go, and only Open would
// know. A backend without a directory needs another dir, too, because the lock, the mark and relay.txt are
// there.
package store

import (
	"container/list"
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"example.com/chat/internal/stream"
)

// writeRest is the pause after a write, in multiples of the write's duration. At 3 the store writes for at
// most a quarter of the time, so other programs get the rest of the disk.
const writeRest = 3

// never is the value of Room.stored before the first write.
const never = -1

// Store is an open directory with the records of rooms. A nil Store stores nothing: all its methods do nothing.
type Store struct {
	// Set at construction.
	dir      *dir
	complete bool
	wake     chan struct{} // has a value when due or ended may have grown; capacity 1

	// Set by Read.
	found map[string]uint64 // rooms that Read returned, with the end of each

	// Owned by Read, then by Run, then by Finish and Close.
	backend backend
	failing map[*Room]bool // rooms whose last write or removal failed

	// Guarded by mu, which is never held while calling out or during I/O.
	mu    sync.Mutex
	rooms map[string]*Room // by name, rooms that have not ended or whose record is not removed yet
	due   list.List        // of *Room; rooms that wait to be written, each at most once
	ended []*Room          // rooms whose record must be removed
}

// Room is the handle of a room that its Hub uses. A nil Room stores nothing: all its methods do nothing.
type Room struct {
	// Set at construction.
	store    *Store
	name     string
	requests chan Request
	ended    chan struct{} // closed, with store.mu held, when the room ends

	// Any goroutine.
	stored atomic.Int64 // number of lines in the stream when it was last written, or never

	// Guarded by store.mu.
	elem *list.Element // in store.due; nil unless the room waits
}

// Request is a question to a Hub for the lines of its stream after the first Since ones. The Hub must answer it
// at once.
type Request struct {
	Since  uint64
	answer chan<- stream.Record
}

// Answer answers q with stream.Since(q.Since). It must be called once, and never blocks.
func (q Request) Answer(record stream.Record) { q.answer <- record }

// Open opens the directory at path, which it makes if there is none, and marks it as in use. Only the owner
// can read the directory and its files. Rooms have at least their last history lines in the store. An error
// says why the directory can't be used. After it, the directory is closed, and the files of rooms are
// unchanged.
func Open(path string, history int) (*Store, error) {
	dir, complete, err := openDir(path)
	if err != nil {
		return nil, err
	}
	return &Store{
		dir:      dir,
		complete: complete,
		wake:     make(chan struct{}, 1),
		backend:  &files{dir, uint64(history)},
		found:    make(map[string]uint64),
		failing:  make(map[*Room]bool),
		rooms:    make(map[string]*Room),
	}, nil
}

// Complete reports whether the last program that used the directory closed it as complete.
func (s *Store) Complete() bool { return s != nil && s.complete }

// Read returns the records of all rooms. It logs each record that it can't read, and sets it aside. It logs files
// of rooms for which valid returns false, and leaves them alone. valid is not called for the nameless room.
func (s *Store) Read(valid func(room string) bool) (map[string]stream.Record, error) {
	if s == nil {
		return nil, nil
	}
	rooms, err := s.backend.rooms()
	if err != nil {
		return nil, err
	}
	records := make(map[string]stream.Record)
	for _, room := range rooms {
		if room != "" && !valid(room) {
			slog.Warn("a file in -state is not named after a room", "name", room)
			continue
		}
		r, err := s.backend.load(room)
		if err != nil {
			slog.Warn("room not restored: file set aside", "err", err)
			continue
		}
		records[room] = r
		s.found[room] = r.End
	}
	return records, nil
}

// TakeRelay returns what the last program gave to Close, and removes it, because it is of no use to a later
// run. It returns nil if there is nothing, if it is damaged, or if the last program did not close the
// directory as complete.
func (s *Store) TakeRelay() ([]byte, error) {
	if s == nil {
		return nil, nil
	}
	relay, err := s.dir.takeRelay()
	if err != nil || !s.complete {
		return nil, err
	}
	return relay, nil
}

// Abandon closes the directory after a failed start, marked as it was found. It must be called instead of Run.
func (s *Store) Abandon() error {
	if s == nil {
		return nil
	}
	return s.dir.close(s.complete)
}

// Room returns a handle for the named room. It must be called when the room's Hub starts. saved means that the
// Hub continues the record that Read returned, with the same epoch. The Hub must receive from Requests until the
// room ends or Run's context is done.
func (s *Store) Room(name string, saved bool) *Room {
	if s == nil {
		return nil
	}
	r := &Room{store: s, name: name, requests: make(chan Request), ended: make(chan struct{})}
	r.stored.Store(never)
	if saved {
		r.stored.Store(int64(s.found[name]))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rooms[name] = r
	return r
}

// Lacks reports whether the store lacks lines of a stream of end lines. It is true of a room that was never
// written, even if it has no line, because its epoch is to survive. Only the room's Hub calls it.
func (r *Room) Lacks(end uint64) bool { return r != nil && r.stored.Load() != int64(end) }

// Offer queues the room for a write if the store lacks lines of it. It never waits. A room that could not be
// written is not tried again before the next Offer. Only the room's Hub calls it.
func (r *Room) Offer(end uint64) {
	if !r.Lacks(end) {
		return
	}
	s := r.store
	s.mu.Lock()
	defer s.mu.Unlock()
	if r.elem == nil && !r.hasEnded() {
		r.elem = s.due.PushBack(r)
		s.wakeLocked()
	}
}

// Requests returns the channel on which the store asks the room's Hub for lines. It is nil if r is nil.
func (r *Room) Requests() <-chan Request {
	if r == nil {
		return nil
	}
	return r.requests
}

// End removes the room's stored lines soon. If a new room of that name has begun, its lines stay. End never
// waits. Any goroutine may call it.
func (r *Room) End() {
	if r == nil {
		return
	}
	s := r.store
	s.mu.Lock()
	defer s.mu.Unlock()
	if r.hasEnded() {
		return
	}
	close(r.ended)
	if r.elem != nil {
		s.due.Remove(r.elem)
		r.elem = nil
	}
	s.ended = append(s.ended, r)
	s.wakeLocked()
}

func (r *Room) hasEnded() bool {
	select {
	case <-r.ended:
		return true
	default:
		return false
	}
}

func (s *Store) wakeLocked() {
	select {
	case s.wake <- struct{}{}:
	default: // Run will look anyway
	}
}

// Run writes rooms that were offered, in turn, and removes the records of rooms that have ended, until ctx is
// done. Then it returns, after a write that it has begun.
func (s *Store) Run(ctx context.Context) {
	if s == nil {
		<-ctx.Done()
		return
	}
	for ctx.Err() == nil {
		if s.turn(ctx) {
			continue
		}
		select {
		case <-s.wake:
		case <-ctx.Done():
		}
	}
}

// turn removes the records of all rooms that have ended, writes the room that has waited longest, and rests. It
// reports whether a room may be waiting.
func (s *Store) turn(ctx context.Context) bool {
	s.removeEnded()
	r := s.next()
	if r == nil {
		return false
	}
	var began time.Time
	s.write(r, func(since uint64) (stream.Record, bool) {
		record, ok := r.ask(ctx, since)
		began = time.Now() // the wait for the Hub is no work for the disk
		return record, ok
	})
	select {
	case <-time.After(writeRest * time.Since(began)):
		return true
	case <-ctx.Done():
		return false
	}
}

// next removes the room that has waited longest from the queue, and returns it. It returns nil if the queue
// is empty.
func (s *Store) next() *Room {
	s.mu.Lock()
	defer s.mu.Unlock()
	first := s.due.Front()
	if first == nil {
		return nil
	}
	r := s.due.Remove(first).(*Room)
	r.elem = nil
	return r
}

// ask returns the Hub's answer to a Request, or false if the room ends or ctx is done before the Hub receives
// it.
func (r *Room) ask(ctx context.Context, since uint64) (stream.Record, bool) {
	answer := make(chan stream.Record, 1)
	select {
	case r.requests <- Request{since, answer}:
		return <-answer, true
	case <-r.ended:
	case <-ctx.Done():
	}
	return stream.Record{}, false
}

// write appends the lines that the store lacks. rest must return the stream's record since a line, or false if
// the Hub does not answer. write returns true if nothing is missing afterwards.
func (s *Store) write(r *Room, rest func(since uint64) (stream.Record, bool)) (ok bool) {
	since := uint64(max(0, r.stored.Load()))
	record, ok := rest(since)
	if !ok || !r.Lacks(record.End) {
		return ok
	}
	err := s.backend.append(r.name, record, since == 0)
	if errors.Is(err, errGap) {
		slog.Warn("a room's file in -state was changed or damaged: writing it anew", "err", err)
		if record, ok = rest(0); !ok {
			return false
		}
		err = s.backend.append(r.name, record, true)
	}
	if err == nil {
		r.stored.Store(int64(record.End))
	}
	s.noteResult(r, err)
	return err == nil
}

// removeEnded removes the records of the rooms that have ended. Rooms whose record could not be removed stay in
// s.ended, for the next turn.
func (s *Store) removeEnded() {
	s.mu.Lock()
	ended := s.ended
	s.ended = nil
	s.mu.Unlock()
	for _, r := range ended {
		var err error
		if s.owns(r) {
			err = s.backend.remove(r.name)
		}
		s.noteResult(r, err)
		s.mu.Lock()
		switch {
		case err != nil:
			s.ended = append(s.ended, r)
		case s.rooms[r.name] == r:
			delete(s.rooms, r.name)
		}
		s.mu.Unlock()
	}
}

// owns reports whether r is the newest room of its name. Otherwise the stored lines belong to the newer room,
// whose first write replaces those of r.
func (s *Store) owns(r *Room) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.rooms[r.name] == r
}

// noteResult notes the result of writing or removing the record of r. It logs when the first room fails, and
// when none does any longer.
func (s *Store) noteResult(r *Room, err error) {
	before := len(s.failing)
	if err != nil {
		s.failing[r] = true
	} else {
		delete(s.failing, r)
	}
	switch after := len(s.failing); {
	case before == 0 && after > 0:
		slog.Error("state can't be written", "err", err)
	case before > 0 && after == 0:
		slog.Info("state can be written again")
	}
}

// Finish writes the lines that the store lacks. rest must return stream.Since(since). Finish must be called once
// for each room that has not ended, after the room's Hub has stopped and Run has returned. One goroutine at a
// time may call it.
func (r *Room) Finish(rest func(since uint64) stream.Record) {
	if r == nil || r.hasEnded() {
		return
	}
	s := r.store
	if !s.write(r, func(since uint64) (stream.Record, bool) { return rest(since), true }) {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.rooms[r.name] == r {
		delete(s.rooms, r.name)
	}
}

// Close writes relay, unless it is nil, and closes the directory. It must be called after Run has returned
// and every room that has not ended was finished. If everything was written, Close marks the directory as
// complete. Otherwise the next program must take this stop for a crash. Close logs what fails.
func (s *Store) Close(relay []byte) {
	if s == nil {
		return
	}
	s.removeEnded()
	s.mu.Lock()
	complete := len(s.rooms) == 0
	s.mu.Unlock()
	if relay != nil {
		if err := s.dir.saveRelay(relay); err != nil {
			slog.Error("state can't be written", "err", err)
			complete = false
		}
	}
	if !complete {
		slog.Error("state is incomplete: the next start takes this stop for a crash")
	}
	if err := s.dir.close(complete); err != nil {
		slog.Error("state can't be closed", "err", err)
	}
}
