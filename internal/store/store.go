// Package store keeps the records of rooms in a directory, so that the rooms continue after a restart.
//
// A room that was written continues with its lines, their numbers, and the numbers of senders and other
// chats. If the last program that used the directory closed it as complete, nothing is missing. After a crash
// the last lines may be missing, and [Store.Complete] reports false, so the room must continue with a new
// epoch. A crash at any moment leaves each file as it was before a write or as it is after it.
//
// A room's Hub hands over only the lines that are new, and never waits for the disk. [Store.Run] writes the
// rooms in turn. It asks a Hub for the lines that the store does not have with a [Request]. A Store and its Rooms
// decide when a room is written, and a dir reads and writes the files. Another format, such as a journal, would
// replace the dir's methods load and append.
package store

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"example.com/chat/internal/stream"
)

// writeRest is the pause after a write, in multiples of the write's duration. At 3 the store writes for at
// most a quarter of the time, so other programs get the rest of the disk.
const writeRest = 3

// never is the value of Room.stored before the first write, and after one that failed.
const never = -1

// Store is an open directory with the records of rooms. A nil Store stores nothing: all its methods do nothing.
type Store struct {
	// Set by Open and Read.
	complete bool
	wake     chan struct{}     // has a value when due or ended may have grown; capacity 1
	found    map[string]uint64 // rooms that Read returned, with the end of each

	// Owned by Read, then by Run, then by Finish and Close.
	dir     dir
	failing map[*Room]bool // rooms whose last write or removal failed, and nil if that of the relay did

	// Guarded by mu, which is never held while calling out or during I/O.
	mu    sync.Mutex
	rooms map[string]*Room // by name, rooms that have not ended or whose file is not removed yet
	due   []*Room          // rooms that wait to be written, each at most once; those that have ended are skipped
	ended []*Room          // rooms whose file must be removed
}

// Room is the handle of a room that its Hub uses. A nil Room stores nothing: all its methods do nothing.
type Room struct {
	// Set at construction.
	store    *Store
	name     string
	requests chan Request
	ended    context.Context // done when the room has ended
	end      context.CancelFunc

	// Any goroutine.
	stored atomic.Int64 // number of lines in the stream when it was last written, or never

	// Guarded by store.mu.
	waiting bool // the room is in store.due
}

// Request asks a Hub for the lines of its stream after the first Since ones. The Hub must answer it at once.
type Request struct {
	Since  uint64
	answer chan<- stream.Record
}

// Answer answers q with stream.Since(q.Since). It must be called once, and never blocks.
func (q Request) Answer(record stream.Record) { q.answer <- record }

// Open opens the directory at path, which it makes if there is none, and marks it as in use. Only the owner
// can read the directory and its files. Rooms have at least their last history lines in the store. After an
// error, which says why the directory can't be used, it is closed, and the files of rooms are unchanged.
func Open(path string, history int) (*Store, error) {
	s := &Store{
		wake:    make(chan struct{}, 1),
		found:   make(map[string]uint64),
		dir:     dir{path: path, history: uint64(history), openFile: os.OpenFile, written: make(map[string]stream.Record)},
		failing: make(map[*Room]bool),
		rooms:   make(map[string]*Room),
	}
	var err error
	if s.complete, err = s.dir.begin(); err != nil {
		s.dir.close(false)
		return nil, err
	}
	return s, nil
}

// Complete reports whether the last program that used the directory closed it as complete.
func (s *Store) Complete() bool { return s != nil && s.complete }

// Read returns the records of all rooms. It logs each file that it can't read, and gives it the suffix .damaged.
// It logs files of rooms for which valid returns false, and leaves them alone. valid is not called for the
// nameless room.
func (s *Store) Read(valid func(room string) bool) (map[string]stream.Record, error) {
	if s == nil {
		return nil, nil
	}
	entries, err := os.ReadDir(s.dir.path)
	if err != nil {
		return nil, err
	}
	records := make(map[string]stream.Record)
	for _, e := range entries {
		if room, ok := roomOf(e.Name()); !ok {
			continue
		} else if room != "" && !valid(room) {
			slog.Warn("a file in -state is not named after a room", "name", room)
		} else if r, err := s.dir.load(room); err != nil {
			file := s.dir.file(room)
			err = errors.Join(err, os.RemoveAll(file+damaged), os.Rename(file, file+damaged))
			slog.Warn("room not restored: file set aside", "err", err)
		} else {
			records[room], s.found[room] = r, r.End
		}
	}
	return records, nil
}

// TakeRelay returns what the last program gave to Close, and removes it, because a later run can't use it. It
// returns nil if there is nothing, if it is damaged, or if the last program did not close the directory as complete.
func (s *Store) TakeRelay() ([]byte, error) {
	if s == nil {
		return nil, nil
	}
	relay, err := s.dir.read(s.dir.relay())
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	} else if errors.Is(err, errCorrupt) {
		slog.Warn("a file in -state is not used", "err", err)
	} else if err != nil {
		return nil, err
	}
	if err := errors.Join(os.Remove(s.dir.relay()), s.dir.sync()); err != nil || !s.complete {
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
	r := &Room{store: s, name: name, requests: make(chan Request)}
	r.ended, r.end = context.WithCancel(context.Background())
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
	if !r.waiting {
		r.waiting = true
		s.due = append(s.due, r)
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
	r.end()
	s.ended = append(s.ended, r)
	s.wakeLocked()
}

func (s *Store) wakeLocked() {
	select {
	case s.wake <- struct{}{}:
	default: // Run will look anyway
	}
}

// Run writes rooms that were offered, in turn, and removes the files of rooms that have ended, until ctx is
// done. Then it returns, after a write that it has begun.
func (s *Store) Run(ctx context.Context) {
	if s == nil {
		<-ctx.Done()
		return
	}
	for ctx.Err() == nil {
		s.removeEnded()
		r := s.next()
		if r == nil {
			select {
			case <-s.wake:
			case <-ctx.Done():
			}
			continue
		}
		var began time.Time // of the write; the wait for the Hub is no work for the disk
		s.write(r, func(since uint64) (record stream.Record, ok bool) {
			answer := make(chan stream.Record, 1)
			select {
			case r.requests <- Request{since, answer}:
				record, ok = <-answer, true
			case <-r.ended.Done():
			case <-ctx.Done():
			}
			began = time.Now()
			return record, ok
		})
		select {
		case <-time.After(writeRest * time.Since(began)):
		case <-ctx.Done():
		}
	}
}

// next removes the room that has waited longest from the queue, and returns it. It returns nil if no room waits.
func (s *Store) next() *Room {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.due) > 0 {
		r := s.due[0]
		s.due = s.due[1:]
		r.waiting = false
		if r.ended.Err() == nil {
			return r
		}
	}
	return nil
}

// write appends the lines that the store lacks. rest must return the stream's record since a line, or false if
// the Hub does not answer. write returns true if nothing is missing afterwards.
func (s *Store) write(r *Room, rest func(since uint64) (stream.Record, bool)) (ok bool) {
	since := uint64(max(0, r.stored.Load()))
	record, ok := rest(since)
	if !ok || !r.Lacks(record.End) {
		return ok
	}
	r.stored.Store(never) // after any error the next write replaces the file
	err := s.dir.append(r.name, record, since == 0)
	if errors.Is(err, errGap) {
		return s.write(r, rest) // the first write after a restart
	}
	if err == nil {
		r.stored.Store(int64(record.End))
	}
	s.noteResult(r, err)
	return err == nil
}

// removeEnded removes the files of the rooms that have ended. Rooms whose file could not be removed stay in
// s.ended, for the next call. A file stays if a newer room has its name, whose first write replaces it.
func (s *Store) removeEnded() {
	s.mu.Lock()
	ended := s.ended
	s.ended = nil
	s.mu.Unlock()
	for _, r := range ended {
		s.mu.Lock()
		newest := s.rooms[r.name] == r
		s.mu.Unlock()
		var err error
		if newest {
			if err = os.Remove(s.dir.file(r.name)); errors.Is(err, os.ErrNotExist) {
				err = nil
			}
			delete(s.dir.written, r.name)
		}
		s.noteResult(r, err)
		s.mu.Lock()
		if err != nil {
			s.ended = append(s.ended, r)
		} else if s.rooms[r.name] == r {
			delete(s.rooms, r.name)
		}
		s.mu.Unlock()
	}
}

// noteResult notes the result of writing or removing the file of r. It logs when the first room fails, and
// when none does any longer.
func (s *Store) noteResult(r *Room, err error) {
	before := len(s.failing)
	delete(s.failing, r)
	if err != nil {
		s.failing[r] = true
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
	if r == nil || r.ended.Err() != nil {
		return
	}
	s := r.store
	if s.write(r, func(since uint64) (stream.Record, bool) { return rest(since), true }) {
		s.mu.Lock()
		defer s.mu.Unlock()
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
	if relay != nil {
		s.noteResult(nil, s.dir.replace(s.dir.relay(), relay))
	}
	complete := len(s.rooms)+len(s.failing) == 0
	if !complete {
		slog.Error("state is incomplete: the next start takes this stop for a crash")
	}
	if err := s.dir.close(complete); err != nil {
		slog.Error("state can't be closed", "err", err)
	}
}
