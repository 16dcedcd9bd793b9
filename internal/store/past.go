package store

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"example.com/chat/internal/stream"
)

// A past is a place where the past of rooms is stored. One goroutine at a time uses it.
type past interface {
	// rooms returns the rooms that have a past.
	rooms() ([]string, error)

	// load returns a room's past, with at least the last lines of its history. If it can't be read, load sets
	// it aside, so that an append can begin it anew.
	load(room string) (stream.Record, error)

	// append adds a record to a room's past. The record is on the disk when append returns. It must continue
	// the stored one, or append returns an errGap and changes nothing. If the record is whole, which is
	// stream.Since(0), it needs no stored one. Any other error leaves the past as it was, or with the record.
	append(room string, r stream.Record, whole bool) error

	// remove removes a room's past, if there is one.
	remove(room string) error
}

// errGap is the error of an append that does not continue the stored record.
var errGap = errors.New("the stored lines can't be continued")

// files is a past with a file for each room, which holds the room's history and is replaced as a whole.
type files struct {
	dir     *dir
	history uint64 // lines that a stream holds
}

func (p *files) rooms() (rooms []string, err error) {
	entries, err := os.ReadDir(p.dir.path)
	for _, e := range entries {
		if room, ok := roomOf(e.Name()); ok {
			rooms = append(rooms, room)
		}
	}
	return rooms, err
}

func (p *files) load(room string) (stream.Record, error) {
	r, err := p.read(room)
	if err != nil {
		file := p.dir.file(room)
		err = errors.Join(err, os.RemoveAll(file+damaged), os.Rename(file, file+damaged))
	}
	return r, err
}

// read returns the record in a room's file.
func (p *files) read(room string) (stream.Record, error) {
	content, err := p.dir.read(p.dir.file(room))
	if err != nil {
		return stream.Record{}, err
	}
	r, err := decode(content)
	if err != nil {
		err = fmt.Errorf("%s: %w", p.dir.file(room), err)
	}
	return r, err
}

// append reads back the file that it is to replace, unless the record holds all of the history.
func (p *files) append(room string, r stream.Record, whole bool) error {
	if !whole && r.End-r.First() < p.history {
		stored, err := p.read(room)
		if err != nil {
			return fmt.Errorf("%w: %w", errGap, err)
		}
		joined, ok := join(stored, r, p.history)
		if !ok {
			return fmt.Errorf("%w: %s: it is not the file that was written", errGap, p.dir.file(room))
		}
		r = joined
	}
	return p.dir.replace(p.dir.file(room), func(w io.Writer) error { return encode(w, r) })
}

func (p *files) remove(room string) error {
	if err := os.Remove(p.dir.file(room)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
