// Package state keeps the streams of rooms in a directory, a file for each room, and a file of what the chat
// and its relay know of each other.
//
// A room's file holds a line of JSON, the header, behind it the lines of the stream as they are, and a line with
// a checksum. It is replaced as a whole, so it is there from before or from after a crash.
package state

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"

	"example.com/chat/internal/once"
)

// Stream is what is kept of a room.
type Stream struct {
	Epoch  string  // which run of the room the numbers are of
	Lines  uint64  // how many lines were said until the end
	Frames []Frame // the last of them, oldest first
	Former []Run   // runs before, oldest first

	Senders []Sender   // whose messages may be sent again
	Marks   once.Marks // up to where lines of chats were heard that may come again
}

// Sender is a client that numbers its messages.
type Sender struct {
	ID    string `json:"id"`
	Taken uint64 `json:"taken"` // how many of them were said
}

// Run is a run of a room that ended with a crash. Up to its end, lines have the same numbers in all later runs.
type Run struct {
	Epoch string `json:"epoch"`
	End   uint64 `json:"end"` // how many lines are known to have been said
}

// Frame is some lines that were said together.
type Frame struct {
	Text []byte // lines, each with a line break
	Said int64  // when, in milliseconds since 1970
}

// Dir is a directory with the streams of a chat's rooms. One goroutine at a time may use it. No
// other program can, as long as it is open.
type Dir struct {
	path string
	lock *os.File // says whether a program uses the directory, or has not closed it

	dir   *os.File // to sync the names
	spare *os.File // a descriptor for when clients have taken all others; nil if there was none to be had
}

const (
	lockName = "lock"
	inUse    = "in use, or not closed\n"
	closed   = "closed\n"

	prefix, suffix = "room", ".txt" // of a room's file; between them, - and the room's name
	relayName      = "relay.txt"
	temporary      = ".tmp"
	damaged        = ".damaged"
)

// Open opens a directory, which it makes if there is none. Only the owner can read what it makes.
// complete tells that the last program to use it has closed it as complete; if not, the last lines may
// be missing. With an error, the directory can't be used, or another program uses it.
func Open(path string) (d *Dir, complete bool, err error) {
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, false, err
	}
	lock, err := openLock(filepath.Join(path, lockName))
	if err != nil {
		return nil, false, err
	}
	d = &Dir{path: path, lock: lock}
	complete, err = d.begin()
	if err != nil {
		d.closeFiles()
		return nil, false, err
	}
	return d, complete, nil
}

// begin checks that the directory can be used, and marks it as in use. It reports whether it was
// marked as closed.
func (d *Dir) begin() (complete bool, err error) {
	info, err := d.lock.Stat()
	if err != nil {
		return false, err
	}
	if !info.Mode().IsRegular() {
		return false, fmt.Errorf("%s: not a regular file", d.lock.Name()) // a pipe would be read for ever
	}
	before, err := io.ReadAll(io.LimitReader(d.lock, int64(len(inUse))))
	if err != nil {
		return false, err
	}
	probe, err := os.CreateTemp(d.path, prefix+"-*"+suffix+temporary) // is removed with others
	if err != nil {
		return false, err
	}
	probe.Close()
	if d.dir, err = os.Open(d.path); err != nil {
		return false, err
	}
	d.keepSpare()
	return string(before) == closed, errors.Join(d.removeTemporary(), d.mark(inUse))
}

// removeTemporary removes files that were not finished.
func (d *Dir) removeTemporary() error {
	entries, err := os.ReadDir(d.path)
	for _, e := range entries {
		if file, ok := strings.CutSuffix(e.Name(), temporary); ok {
			if _, ok := roomOf(file); ok || file == relayName {
				err = errors.Join(err, os.Remove(filepath.Join(d.path, e.Name())))
			}
		}
	}
	return err
}

// Close lets other programs use the directory. If complete it says that all that was said is kept.
func (d *Dir) Close(complete bool) (err error) {
	if complete {
		err = d.mark(closed)
	}
	return errors.Join(err, d.closeFiles())
}

// closeFiles closes what is open, of an unfinished Open, too.
func (d *Dir) closeFiles() error {
	d.dir.Close()
	d.spare.Close()
	return d.lock.Close()
}

// keepSpare opens d.spare if it is not open.
func (d *Dir) keepSpare() {
	if d.spare == nil {
		d.spare, _ = os.Open(os.DevNull)
	}
}

// create opens a file to be written. Where the program has no descriptor left it takes that of d.spare.
func (d *Dir) create(path string) (*os.File, error) {
	open := func() (*os.File, error) { return os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600) }
	file, err := open()
	if errors.Is(err, syscall.EMFILE) && d.spare != nil {
		d.spare.Close()
		d.spare = nil
		file, err = open()
	}
	return file, err
}

// mark writes text into the lock, onto the disk.
func (d *Dir) mark(text string) error {
	if err := d.lock.Truncate(0); err != nil {
		return err
	}
	if _, err := d.lock.WriteAt([]byte(text), 0); err != nil {
		return err
	}
	return errors.Join(d.lock.Sync(), d.sync())
}

// sync writes the names in the directory onto the disk, where a system can do that.
func (d *Dir) sync() error {
	if err := d.dir.Sync(); err != nil && runtime.GOOS != "windows" && !errors.Is(err, syscall.EINVAL) && !errors.Is(err, errors.ErrUnsupported) {
		return err
	}
	return nil
}

// Rooms returns the names of the rooms of which there is a file. The room without a name is "".
func (d *Dir) Rooms() (names []string, err error) {
	entries, err := os.ReadDir(d.path)
	for _, e := range entries {
		if name, ok := roomOf(e.Name()); ok {
			names = append(names, name)
		}
	}
	return names, err
}

// roomOf returns the name of the room of which that is the file.
func roomOf(file string) (name string, ok bool) {
	name, ok = strings.CutPrefix(file, prefix)
	name, ok2 := strings.CutSuffix(name, suffix)
	if name == "" {
		return "", ok && ok2
	}
	name, ok3 := strings.CutPrefix(name, "-")
	return name, ok && ok2 && ok3 && name != ""
}

// file returns the path of a room's file.
func (d *Dir) file(room string) string {
	if room != "" {
		room = "-" + room
	}
	return filepath.Join(d.path, prefix+room+suffix)
}

// header is the first line of a file.
type header struct {
	Epoch  string     `json:"epoch"`
	Lines  uint64     `json:"lines"`
	Said   [][2]int64 `json:"said"` // of each frame: how many lines, and when
	Former []Run      `json:"former,omitempty"`

	Senders []Sender   `json:"senders,omitempty"`
	Marks   once.Marks `json:"marks,omitempty"`
}

// trailerLength is the length of the last line of a file: the CRC-32 (IEEE 802.3) of all before it.
const trailerLength = len("01234567\n")

// Save replaces what is kept of a room. It is on the disk when Save returns.
func (d *Dir) Save(room string, s Stream) error { return d.save(d.file(room), s.write) }

// SaveRelay keeps what the chat and its relay know of each other.
func (d *Dir) SaveRelay(content []byte) error {
	return d.save(filepath.Join(d.path, relayName), func(w io.Writer) error {
		_, err := w.Write(content)
		return err
	})
}

// TakeRelay returns what SaveRelay kept, and removes it: it is of no use to a later run. It returns nil if there is
// nothing, or it is damaged.
func (d *Dir) TakeRelay() ([]byte, error) {
	path := filepath.Join(d.path, relayName)
	content, err := readRegular(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	kept, err := unseal(content)
	if err != nil {
		slog.Warn("a file in -state is not used", "file", path, "err", err)
	}
	return kept, errors.Join(os.Remove(path), d.sync())
}

// save replaces a file with what write writes, and its trailer.
func (d *Dir) save(path string, write func(io.Writer) error) (err error) {
	defer d.keepSpare()
	file, err := d.create(path + temporary)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			os.Remove(file.Name())
		}
	}()
	err = errors.Join(seal(file, write), file.Sync(), file.Close())
	if err == nil {
		err = os.Rename(file.Name(), path)
	}
	if err == nil {
		err = d.sync()
	}
	return err
}

// seal writes to w what write writes, and its trailer.
func seal(w io.Writer, write func(io.Writer) error) error {
	buffered, crc := bufio.NewWriter(w), crc32.NewIEEE()
	if err := write(io.MultiWriter(buffered, crc)); err != nil {
		return err
	}
	fmt.Fprintf(buffered, "%08x\n", crc.Sum32())
	return buffered.Flush()
}

// unseal returns what was written before its trailer, or errDamaged.
func unseal(content []byte) ([]byte, error) {
	end := len(content) - trailerLength
	if end < 0 || string(content[end:]) != fmt.Sprintf("%08x\n", crc32.ChecksumIEEE(content[:end])) {
		return nil, errDamaged
	}
	return content[:end:end], nil
}

// write writes the header and the lines of s.
func (s Stream) write(w io.Writer) error {
	h := header{Epoch: s.Epoch, Lines: s.Lines, Said: [][2]int64{}, Former: s.Former, Senders: s.Senders, Marks: s.Marks}
	for _, f := range s.Frames {
		h.Said = append(h.Said, [2]int64{int64(bytes.Count(f.Text, []byte{'\n'})), f.Said})
	}
	if err := json.NewEncoder(w).Encode(h); err != nil {
		return err
	}
	for _, f := range s.Frames {
		if _, err := w.Write(f.Text); err != nil {
			return err
		}
	}
	return nil
}

// Remove removes what is kept of a room.
func (d *Dir) Remove(room string) error {
	if err := os.Remove(d.file(room)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// Load returns what is kept of a room. If the file is not one that Save has written, or can't be
// read, the error says so, and the file is renamed: it ends in .damaged then.
func (d *Dir) Load(room string) (Stream, error) {
	s, err := load(d.file(room))
	if err != nil {
		aside := d.file(room) + damaged
		err = errors.Join(err, os.RemoveAll(aside), os.Rename(d.file(room), aside))
	}
	return s, err
}

// readRegular returns the content of a regular file: a pipe would be read for ever.
func readRegular(path string) ([]byte, error) {
	if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s: not a regular file", path)
	}
	return os.ReadFile(path)
}

func load(path string) (Stream, error) {
	content, err := readRegular(path)
	if err != nil {
		return Stream{}, err
	}
	s, err := parse(content)
	if err != nil {
		err = fmt.Errorf("%s: %w", path, err)
	}
	return s, err
}

var errDamaged = errors.New("this is not, or not all of, what was written")

// parse returns what write has written. The stream refers to content.
func parse(content []byte) (Stream, error) {
	content, err := unseal(content)
	if err != nil {
		return Stream{}, err
	}
	first, text, _ := bytes.Cut(content, []byte{'\n'})
	var h header
	if err := json.Unmarshal(first, &h); err != nil || h.Epoch == "" {
		return Stream{}, errDamaged
	}
	s := Stream{Epoch: h.Epoch, Lines: h.Lines, Former: h.Former, Senders: h.Senders, Marks: h.Marks}
	held := uint64(0)
	for _, said := range h.Said {
		n := lengthOf(text, said[0])
		if n <= 0 {
			return Stream{}, errDamaged
		}
		s.Frames = append(s.Frames, Frame{text[:n:n], said[1]})
		text = text[n:]
		held += uint64(said[0])
	}
	if len(text) > 0 || held > h.Lines {
		return Stream{}, errDamaged
	}
	return s, nil
}

// lengthOf returns the length of the first n lines of text, or 0 if there are fewer.
func lengthOf(text []byte, n int64) (length int) {
	for range n {
		end := bytes.IndexByte(text[length:], '\n')
		if end < 0 {
			return 0
		}
		length += end + 1
	}
	return length
}
