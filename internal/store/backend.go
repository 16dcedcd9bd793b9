package store

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"example.com/chat/internal/stream"
)

// backend stores a record for each room. One goroutine at a time uses it.
type backend interface {
	// rooms returns the rooms that have a stored record.
	rooms() ([]string, error)

	// load returns a room's record, with at least the last history lines. It sets aside a record that it can't
	// read, so that append can begin a new one.
	load(room string) (stream.Record, error)

	// append adds r to a room's record, and returns when r is on the disk. If whole is true, r replaces the stored
	// record. Otherwise r must have the stored epoch and begin at or before the stored end, or append returns an
	// errGap and changes nothing. A record that has all of the history may replace the stored one, too. After any
	// other error the stored record is as it was, or has r.
	append(room string, r stream.Record, whole bool) error

	// remove removes a room's record, if there is one.
	remove(room string) error
}

// errGap is the error of an append that does not continue the stored record.
var errGap = errors.New("the stored lines can't be continued")

// files is a backend with a file for each room. The file has the room's history, and is replaced as a whole.
type files struct {
	dir     *dir
	history uint64 // lines that a stream holds
}

func (f *files) rooms() (rooms []string, err error) {
	entries, err := os.ReadDir(f.dir.path)
	for _, e := range entries {
		if room, ok := roomOf(e.Name()); ok {
			rooms = append(rooms, room)
		}
	}
	return rooms, err
}

// load gives a file that it can't read the suffix .damaged.
func (f *files) load(room string) (stream.Record, error) {
	r, err := f.read(room)
	if err != nil {
		file := f.dir.file(room)
		err = errors.Join(err, os.RemoveAll(file+damaged), os.Rename(file, file+damaged))
	}
	return r, err
}

// read returns the record in a room's file.
func (f *files) read(room string) (stream.Record, error) {
	content, err := f.dir.read(f.dir.file(room))
	if err != nil {
		return stream.Record{}, err
	}
	r, err := decode(content)
	if err != nil {
		err = fmt.Errorf("%s: %w", f.dir.file(room), err)
	}
	return r, err
}

// append reads back the file that it is to replace, unless the record holds all of the history.
func (f *files) append(room string, r stream.Record, whole bool) error {
	if !whole && r.End-r.First() < f.history {
		stored, err := f.read(room)
		if err != nil {
			return fmt.Errorf("%w: %w", errGap, err)
		}
		joined, ok := join(stored, r, f.history)
		if !ok {
			return fmt.Errorf("%w: %s: it is not the file that was written", errGap, f.dir.file(room))
		}
		r = joined
	}
	return f.dir.replace(f.dir.file(room), func(w io.Writer) error { return encode(w, r) })
}

func (f *files) remove(room string) error {
	if err := os.Remove(f.dir.file(room)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
