package store

import (
	"bufio"
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
)

var (
	errInUse   = errors.New("another program uses this directory")
	errCorrupt = errors.New("file is corrupt or truncated")
)

// dir is the directory of a store. It marks which program uses it, and replaces files as a whole. One goroutine
// at a time may use a dir.
type dir struct {
	path  string
	lock  *os.File // locked, and marked as inUse or closed
	names *os.File // the directory itself, to sync the names in it
	spare *os.File // a reserve for when all other descriptors are in use; nil if it is in use, or could not be opened
}

const (
	lockName = "lock"
	inUse    = "in use, or not closed\n"
	closed   = "closed\n"

	relayName      = "relay.txt"
	prefix, suffix = "room", ".txt" // of a room's file; a named room has "-" and its name between them
	temporary      = ".tmp"         // suffix of a file that is being written
	damaged        = ".damaged"     // suffix of a file that could not be read
)

// openDir locks the directory at path and marks it as in use. It makes the directory if there is none. complete
// is true if the last program that used the directory has closed it as complete. After an error the mark is as
// it was, unless writing the mark failed.
func openDir(path string) (d *dir, complete bool, err error) {
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, false, err
	}
	lock, err := openLock(filepath.Join(path, lockName))
	if err != nil {
		return nil, false, err
	}
	d = &dir{path: path, lock: lock}
	complete, err = d.begin()
	if err != nil {
		d.closeFiles()
		return nil, false, err
	}
	return d, complete, nil
}

// begin checks that the directory can be used, removes temporary files, and marks the directory as in use. It
// reports whether the mark was closed.
func (d *dir) begin() (complete bool, err error) {
	info, err := d.lock.Stat()
	if err != nil {
		return false, err
	}
	if !info.Mode().IsRegular() {
		return false, fmt.Errorf("%s: not a regular file", d.lock.Name()) // reading a pipe would never end
	}
	mark, err := io.ReadAll(io.LimitReader(d.lock, int64(len(inUse))))
	if err != nil {
		return false, err
	}
	probe, err := os.CreateTemp(d.path, prefix+"-*"+suffix+temporary) // removeTemporary removes it
	if err != nil {
		return false, err
	}
	probe.Close()
	if d.names, err = os.Open(d.path); err != nil {
		return false, err
	}
	d.keepSpare()
	if err := d.removeTemporary(); err != nil {
		return false, err
	}
	return string(mark) == closed, d.mark(inUse)
}

// removeTemporary removes the files that an earlier program did not finish.
func (d *dir) removeTemporary() error {
	entries, err := os.ReadDir(d.path)
	for _, e := range entries {
		file, ok := strings.CutSuffix(e.Name(), temporary)
		if _, isRoom := roomOf(file); ok && (isRoom || file == relayName) {
			err = errors.Join(err, os.Remove(filepath.Join(d.path, e.Name())))
		}
	}
	return err
}

// close unlocks the directory. If complete is true, it marks it as closed first.
func (d *dir) close(complete bool) (err error) {
	if complete {
		err = d.mark(closed)
	}
	return errors.Join(err, d.closeFiles())
}

// closeFiles closes the files that are open, even those of an unfinished openDir.
func (d *dir) closeFiles() error {
	d.names.Close()
	d.spare.Close()
	return d.lock.Close()
}

// mark writes text to the lock, and waits until it is on the disk. It truncates the lock last, because a
// full disk may have no space for a file that was emptied.
func (d *dir) mark(text string) error {
	if _, err := d.lock.WriteAt([]byte(text), 0); err != nil {
		return err
	}
	if err := d.lock.Truncate(int64(len(text))); err != nil {
		return err
	}
	return errors.Join(d.lock.Sync(), d.sync())
}

// sync waits until the names in the directory are on the disk, on systems that can do that.
func (d *dir) sync() error {
	if err := d.names.Sync(); err != nil && runtime.GOOS != "windows" && !errors.Is(err, syscall.EINVAL) && !errors.Is(err, errors.ErrUnsupported) {
		return err
	}
	return nil
}

// keepSpare opens d.spare if it is not open.
func (d *dir) keepSpare() {
	if d.spare == nil {
		d.spare, _ = os.Open(os.DevNull)
	}
}

// withSpare calls open, which opens a file. If the program has no descriptor left, withSpare gives up the
// spare one and calls open again. The caller must call keepSpare when it has closed the file.
func (d *dir) withSpare(open func() error) error {
	err := open()
	if errors.Is(err, syscall.EMFILE) && d.spare != nil {
		d.spare.Close()
		d.spare = nil
		err = open()
	}
	return err
}

// file returns the path of a room's file.
func (d *dir) file(room string) string {
	if room != "" {
		room = "-" + room
	}
	return filepath.Join(d.path, prefix+room+suffix)
}

// roomOf returns the room whose file has this name.
func roomOf(file string) (room string, ok bool) {
	room, hasPrefix := strings.CutPrefix(file, prefix)
	room, hasSuffix := strings.CutSuffix(room, suffix)
	if !hasPrefix || !hasSuffix || room == "" {
		return "", hasPrefix && hasSuffix
	}
	room, ok = strings.CutPrefix(room, "-")
	return room, ok && room != ""
}

// replace replaces a file with what write writes, and seals it. The file is on the disk when replace returns.
// After an error the file has either its old or its new content.
func (d *dir) replace(path string, write func(io.Writer) error) (err error) {
	defer d.keepSpare()
	var file *os.File
	err = d.withSpare(func() (err error) {
		file, err = os.OpenFile(path+temporary, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
		return err
	})
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

// read returns the content of a file that replace has written, without the seal.
func (d *dir) read(path string) (content []byte, err error) {
	if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s: not a regular file", path) // reading a pipe would never end
	}
	defer d.keepSpare()
	err = d.withSpare(func() (err error) {
		content, err = os.ReadFile(path)
		return err
	})
	if err != nil {
		return nil, err
	}
	if content, err = unseal(content); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return content, nil
}

// takeRelay returns the content of relay.txt and removes the file. It returns nil if there is none, or if it
// is damaged.
func (d *dir) takeRelay() ([]byte, error) {
	path := filepath.Join(d.path, relayName)
	content, err := d.read(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil
	case errors.Is(err, errCorrupt):
		slog.Warn("a file in -state is not used", "err", err)
	case err != nil:
		return nil, err
	}
	return content, errors.Join(os.Remove(path), d.sync())
}

// saveRelay replaces the content of relay.txt.
func (d *dir) saveRelay(content []byte) error {
	return d.replace(filepath.Join(d.path, relayName), func(w io.Writer) error {
		_, err := w.Write(content)
		return err
	})
}

// sealLength is the length of a seal, the last line of a file. It is the CRC-32 (IEEE 802.3) of everything
// before it.
const sealLength = len("01234567\n")

// seal calls write with a writer to w, and then writes the seal.
func seal(w io.Writer, write func(io.Writer) error) error {
	buffered, crc := bufio.NewWriter(w), crc32.NewIEEE()
	if err := write(io.MultiWriter(buffered, crc)); err != nil {
		return err
	}
	fmt.Fprintf(buffered, "%08x\n", crc.Sum32())
	return buffered.Flush()
}

// unseal returns the content before the seal, or errCorrupt if the seal is not that of the content.
func unseal(content []byte) ([]byte, error) {
	end := len(content) - sealLength
	if end < 0 || string(content[end:]) != fmt.Sprintf("%08x\n", crc32.ChecksumIEEE(content[:end])) {
		return nil, errCorrupt
	}
	return content[:end:end], nil
}
