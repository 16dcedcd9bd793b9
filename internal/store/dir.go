package store

import (
	"bufio"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"

	"example.com/chat/internal/lines"
	"example.com/chat/internal/stream"
)

var (
	errInUse   = errors.New("another program uses this directory")
	errCorrupt = errors.New("file is corrupt or truncated")
	errGap     = errors.New("the stored lines can't be continued")
)

// dir is the directory of a store, with a file for each room, and relay.txt. It replaces files as a whole. One
// goroutine at a time may use a dir.
type dir struct {
	path     string
	history  uint64                                           // lines that a stream holds
	openFile func(string, int, os.FileMode) (*os.File, error) // os.OpenFile; tests replace it
	lock     *os.File                                         // locked, and marked as inUse or closed
	names    *os.File                                         // the directory itself, to sync the names in it
	spare    *os.File                                         // a reserve for when all other descriptors are in use; nil if it could not be opened
	written  map[string]stream.Record                         // what was written last, by room; shares its frames with the streams
}

const (
	inUse      = "in use, or not closed\n"
	closed     = "closed\n"
	relayName  = "relay.txt"
	temporary  = ".tmp"     // suffix of a file that is being written
	damaged    = ".damaged" // suffix of a file that could not be read
	sealFormat = "%08x\n"   // last line of a file, the CRC-32 (IEEE 802.3) of everything before it
)

// begin makes the directory if there is none, locks it, removes the files that an earlier program did not
// finish, and marks the directory as in use. It reports whether the mark was closed. After an error the mark
// is as it was, unless writing the mark failed, and the caller must call close.
func (d *dir) begin() (complete bool, err error) {
	if err := os.MkdirAll(d.path, 0o700); err != nil {
		return false, err
	}
	if d.lock, err = openLock(filepath.Join(d.path, "lock")); err != nil {
		return false, err
	}
	mark := make([]byte, len(inUse))
	n, _ := d.lock.ReadAt(mark, 0)                             // a mark that can't be read is not closed
	probe, err := os.CreateTemp(d.path, fileOf("*")+temporary) // which is removed below
	if err != nil {
		return false, err
	}
	probe.Close()
	if d.names, err = os.Open(d.path); err != nil {
		return false, err
	}
	d.keepSpare()
	entries, err := os.ReadDir(d.path)
	for _, e := range entries {
		file, ok := strings.CutSuffix(e.Name(), temporary)
		if _, isRoom := roomOf(file); ok && (isRoom || file == relayName) {
			err = errors.Join(err, os.Remove(filepath.Join(d.path, e.Name())))
		}
	}
	if err != nil {
		return false, err
	}
	return string(mark[:n]) == closed, d.mark(inUse)
}

// close unlocks the directory. If complete is true, it marks it as closed first.
func (d *dir) close(complete bool) (err error) {
	if complete {
		err = d.mark(closed)
	}
	d.names.Close()
	d.spare.Close()
	return errors.Join(err, d.lock.Close())
}

// mark writes text to the lock, and waits until it is on the disk. It truncates the lock last, because a
// full disk may have no space for a file that was emptied.
func (d *dir) mark(text string) error {
	_, err := d.lock.WriteAt([]byte(text), 0)
	if err == nil {
		err = errors.Join(d.lock.Truncate(int64(len(text))), d.lock.Sync(), d.sync())
	}
	return err
}

// sync waits until the names in the directory are on the disk, on systems that can do that.
func (d *dir) sync() error {
	if err := d.names.Sync(); runtime.GOOS != "windows" && !errors.Is(err, syscall.EINVAL) && !errors.Is(err, errors.ErrUnsupported) {
		return err
	}
	return nil
}

// relay returns the path of relay.txt.
func (d *dir) relay() string { return filepath.Join(d.path, relayName) }

// file returns the path of a room's file.
func (d *dir) file(room string) string { return filepath.Join(d.path, fileOf(room)) }

// fileOf returns the name of a room's file.
func fileOf(room string) string {
	if room != "" {
		room = "-" + room
	}
	return "room" + room + ".txt"
}

// roomOf returns the room whose file has this name.
func roomOf(file string) (room string, ok bool) {
	room = strings.TrimSuffix(strings.TrimPrefix(strings.TrimPrefix(file, "room"), "-"), ".txt")
	return room, file == fileOf(room)
}

// load returns the record in a room's file.
func (d *dir) load(room string) (stream.Record, error) {
	content, err := d.read(d.file(room))
	r, ok := decode(content)
	if err == nil && !ok {
		err = fmt.Errorf("%s: %w", d.file(room), errCorrupt)
	}
	return r, err
}

// append adds r to a room's file, and returns when r is on the disk. The file has the last history lines
// afterwards. If whole is true, r replaces the record. Otherwise r must continue the record that this dir wrote
// last, or append returns errGap and changes nothing. A record that has all of the history may replace it, too.
// After any other error the file has either its old or its new content.
func (d *dir) append(room string, r stream.Record, whole bool) error {
	first, start := r.First(), r.End-min(r.End, d.history)
	if !whole && first > start {
		last, ok := d.written[room]
		if !ok || last.Epoch != r.Epoch || last.End != first {
			return errGap
		}
		line := last.First()
		var kept []stream.Text
		for _, f := range last.Frames {
			if line += uint64(lines.Count(f.Lines)); line > start {
				kept = append(kept, f)
			}
		}
		r.Frames = append(kept, r.Frames...)
	}
	err := d.replace(d.file(room), encode(r)...)
	if err == nil {
		d.written[room] = r
	}
	return err
}

// replace replaces a file with parts and their seal. The file is on the disk when replace returns. After an
// error the file has either its old or its new content.
func (d *dir) replace(path string, parts ...[]byte) error {
	d.spare.Close()
	defer d.keepSpare()
	file, err := d.openFile(path+temporary, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	w, crc := bufio.NewWriter(file), uint32(0)
	for _, part := range parts {
		w.Write(part) // Flush returns an error of any Write
		crc = crc32.Update(crc, crc32.IEEETable, part)
	}
	fmt.Fprintf(w, sealFormat, crc)
	err = errors.Join(w.Flush(), file.Sync(), file.Close())
	if err == nil {
		err = os.Rename(file.Name(), path)
	}
	if err != nil {
		os.Remove(file.Name())
		return err
	}
	return d.sync()
}

// read returns the content of a file that replace has written, without the seal.
func (d *dir) read(path string) ([]byte, error) {
	if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s: not a regular file", path) // reading a pipe would never end
	}
	d.spare.Close()
	content, err := os.ReadFile(path)
	d.keepSpare()
	if err != nil {
		return nil, err
	}
	end := max(0, len(content)-len("01234567\n"))
	if string(content[end:]) != fmt.Sprintf(sealFormat, crc32.ChecksumIEEE(content[:end])) {
		return nil, fmt.Errorf("%s: %w", path, errCorrupt)
	}
	return content[:end:end], nil
}

// keepSpare opens d.spare. Before a file is opened, d.spare is closed. So the file can be opened even if all other
// descriptors of the program are in use.
func (d *dir) keepSpare() { d.spare, _ = os.Open(os.DevNull) }
