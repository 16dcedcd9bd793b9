// Package store keeps the records of rooms in a directory, so that the rooms continue after a restart.
//
// A room that was written continues with its lines, their numbers, and the numbers of senders and other
// chats. If the last program that used the directory closed it as complete, nothing is missing. After a crash
// the last lines may be missing, so the room continues with a new epoch, which is on the disk before anybody
// gets it. A crash at any moment leaves each file as it was before a write or as it is after it. A room in
// which nothing was ever said has no file.
//
// A room's Hub hands over only the lines that are new, and never waits for the disk. [Store.Run] writes the
// rooms in turn. It asks a Hub for the lines that the store does not have with a [Request]. A Store and its
// Rooms decide when a room is written, and a dir reads and writes the files. Another format, such as a
// journal, would replace the dir's methods load and append.
package store

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"iter"
	"log/slog"
	"maps"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"example.com/chat/internal/stream"
)

// writeRest is the pause after a write, in multiples of the write's duration. At 3 the store writes for at
// most a quarter of the time, so other programs get the rest of the disk.
const writeRest = 3

// relayLimit is the largest size of relay.txt in bytes. An outbox holds at most 64 MiB, with 128 bytes for the
// description of each part.
const relayLimit = 65 << 20

// never is the value of Room.stored if the file, or what is known of it, must be replaced: after a write that failed,
// after Shrink, and for a room that was restored after a crash. writing is its value during a write.
const (
	never   = -1
	writing = -2
)

// Store is an open directory with the records of rooms. A nil Store stores nothing: all its methods do
// nothing.
type Store struct {
	// Set by Open and Read.
	maxRooms int
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
	stored atomic.Int64 // number of lines in the stream when it was last written, at first 0; or never, or writing

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

// Options are the limits of a store.
type Options struct {
	History   int   // lines that a room has at least in the store
	MaxRooms  int   // named rooms that are restored
	FileLimit int64 // bytes of lines that one room's file may bring into memory
}

// Open opens the directory at path, which it makes if there is none, and marks it as in use. Only the owner
// can read the directory that Open makes, and its files. The
// directory's mode must not let others write to it. When ctx
// is done, TakeRelay and Read no longer read.
// After an error, which says why the directory can't be used, it is closed, and the files of rooms are
// unchanged.
func Open(ctx context.Context, path string, options Options) (*Store, error) {
	s := &Store{
		maxRooms: options.MaxRooms,
		wake:     make(chan struct{}, 1),
		found:    make(map[string]uint64),
		dir:      dir{ctx: ctx, path: path, history: uint64(options.History), limit: options.FileLimit, written: make(map[string]stream.Record)},
		failing:  make(map[*Room]bool),
		rooms:    make(map[string]*Room),
	}
	if err := s.dir.begin(); err != nil {
		s.dir.close("")
		return nil, err
	}
	return s, nil
}

// Read returns the records with which the rooms continue. The caller may range over them once, before Run.
// Each record is read when it is its turn, so that only one of them need be in memory.
//
// If there are more named rooms than MaxRooms, Read returns those that were written last, and removes the
// files of the others. It logs each file that can't be read, and gives it the suffix .damaged. It logs files
// of rooms for which valid returns false, and leaves them alone. valid is not called for the nameless room. When the
// context of Open is done, the caller does not get the other rooms.
func (s *Store) Read(valid func(room string) bool) (iter.Seq2[string, stream.Record], error) {
	if s == nil {
		return maps.All(map[string]stream.Record(nil)), nil
	}
	entries, err := s.dir.list()
	if err != nil {
		return nil, err
	}
	var rooms []string
	var named []fs.DirEntry
	for _, e := range entries {
		switch room, ok := roomOf(e.Name()); {
		case !ok:
		case room == "":
			rooms = append(rooms, "")
		case valid(room):
			rooms, named = append(rooms, room), append(named, e)
		default:
			slog.Warn("a file in -state is not named after a room", "name", room)
		}
	}
	surplus := make(map[string]bool)
	for _, name := range s.dir.oldest(named, s.maxRooms) {
		surplus[name] = true
	}
	if len(surplus) > 0 {
		slog.Warn("more rooms are stored than there may be: the others end", "rooms", len(named), "end", len(surplus))
	}
	return func(yield func(string, stream.Record) bool) {
		for _, room := range rooms {
			if s.dir.ctx.Err() != nil {
				return
			}
			if surplus[fileOf(room)] {
				continue
			}
			if r, ok := s.load(room); ok && !yield(room, r) {
				return
			}
		}
		for file := range surplus {
			if err := s.dir.remove(file); err != nil {
				slog.Warn("a file in -state can't be removed", "err", err)
			}
		}
		if err := s.dir.removeDamaged(); err != nil {
			slog.Warn("damaged files in -state can't be removed", "err", err)
		}
	}, nil
}

// load returns the record of a room. If it can't be read, load sets the file aside, logs that, and returns
// false.
func (s *Store) load(room string) (r stream.Record, ok bool) {
	r, cut, err := s.dir.load(room)
	if s.dir.ctx.Err() != nil {
		return r, false
	}
	if err != nil {
		if failed := s.dir.setAside(fileOf(room)); failed != nil {
			slog.Warn("room not restored", "err", errors.Join(err, failed))
		} else {
			slog.Warn("room not restored: file set aside", "err", err)
		}
		return r, false
	}
	if cut {
		slog.Warn("room restored without its oldest lines: they are too long together", "room", room, "bytes", s.dir.limit)
	}
	s.found[room] = r.End
	return r, true
}

// TakeRelay returns what the last program gave to Close, and removes it, because a later run can't use it. It
// returns nil if there is nothing, if it is damaged, or if the last program did not close the directory as
// complete.
func (s *Store) TakeRelay() (relay []byte, err error) {
	if s == nil {
		return nil, nil
	}
	err = s.dir.read(relayName, func(content *io.SectionReader) error {
		if content.Size() > relayLimit {
			return errCorrupt
		}
		relay = make([]byte, content.Size())
		_, err := io.ReadFull(content, relay)
		return err
	})
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	} else if errors.Is(err, errCorrupt) {
		slog.Warn("a file in -state is not used", "err", err)
	} else if err != nil {
		return nil, err
	}
	if err := errors.Join(s.dir.remove(relayName), s.dir.sync()); err != nil || !s.dir.runs.complete {
		return nil, err
	}
	return relay, nil
}

// Abandon closes the directory after a failed start, marked as it was found. It must be called instead of Run.
func (s *Store) Abandon() error {
	if s == nil {
		return nil
	}
	return s.dir.close(s.dir.runs.found())
}

// Room returns a handle for the named room. It must be called when the room's Hub starts. restored means that
// the Hub continues the record that Read returned. The Hub must receive from Requests until the room ends or
// Run's context is done.
func (s *Store) Room(name string, restored bool) *Room {
	if s == nil {
		return nil
	}
	r := &Room{store: s, name: name, requests: make(chan Request)}
	r.ended, r.end = context.WithCancel(context.Background())
	if restored && s.dir.runs.complete {
		r.stored.Store(int64(s.found[name]))
	} else if restored {
		r.stored.Store(never)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rooms[name] = r
	return r
}

// Lacks reports whether the store lacks lines of a stream of end lines, or the epoch of a room that was
// restored after a crash. A room without lines has nothing to store, because a client that comes back to an
// empty room gets every line whatever its position. Only the room's Hub calls it.
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

// Shrink notes that the stream has dropped lines of its history to save memory. The next write drops them, too. Only the
// room's Hub calls it.
func (r *Room) Shrink() {
	if r != nil {
		r.stored.Store(never)
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

// next removes the room that has waited longest from the queue, and returns it. It returns nil if no room
// waits.
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
	r.stored.Store(writing)
	err := s.dir.append(r.name, record, since == 0)
	if errors.Is(err, errGap) {
		return s.write(r, rest) // the first write after a restart
	}
	if err == nil {
		r.stored.CompareAndSwap(writing, int64(record.End)) // unless the stream has shrunk meanwhile
	} else {
		r.stored.Store(never)
	}
	s.noteResult(r, err)
	return err == nil
}

// removeEnded removes the files of the rooms that have ended. Rooms whose file could not be removed stay in
// s.ended, for the next call. A file stays if it is that of a newer room of the same name.
func (s *Store) removeEnded() {
	s.mu.Lock()
	ended := s.ended
	s.ended = nil
	s.mu.Unlock()
	for _, r := range ended {
		s.mu.Lock()
		newest := s.rooms[r.name]
		s.mu.Unlock()
		var err error
		if newest != nil && (newest == r || newest.stored.Load() <= 0) { // else the file is that of the newest room
			err = s.dir.remove(fileOf(r.name))
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

// Finish writes the lines that the store lacks. rest must return stream.Since(since). Finish must be called
// once for each room that has not ended, after the room's Hub has stopped and Run has returned. One goroutine
// at a time may call it.
func (r *Room) Finish(rest func(since uint64) stream.Record) {
	if r == nil || r.ended.Err() != nil {
		return
	}
	s := r.store
	s.removeEnded() // before s forgets r, which may be without a file under the name of a room that has ended
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
		s.noteResult(nil, s.dir.replace(relayName, relay))
	}
	complete := len(s.rooms)+len(s.failing) == 0
	mark := closed
	if !complete {
		slog.Error("state is incomplete: the next start takes this stop for a crash")
		mark = ""
	}
	if err := s.dir.close(mark); err != nil {
		slog.Error("state can't be closed", "err", err)
	}
}
