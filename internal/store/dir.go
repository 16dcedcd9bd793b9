package store

import (
	"bufio"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"runtime"
	"slices"
	"strings"
	"syscall"

	"example.com/chat/internal/lines"
	"example.com/chat/internal/stream"
)

var (
	errInUse     = errors.New("another program uses this directory")
	errCorrupt   = errors.New("file is corrupt or truncated")
	errIrregular = errors.New("not a regular file; move it away")
	errGap       = errors.New("the stored lines can't be continued")
)

// dir is the directory of a store, with a file for each room, and relay.txt. It replaces files as a whole.
// One goroutine at a time may use a dir.
//
// A dir never follows a symbolic link in the directory, and reads only regular files. It makes files with
// O_EXCL under names that it then renames.
type dir struct {
	// Set at construction.
	ctx     context.Context // when it is done, reads fail with its error
	path    string
	history uint64 // lines that a stream holds
	limit   int64  // bytes of a room's lines that load reads into memory

	// Set by begin.
	root     *os.Root
	openFile func(string, int, os.FileMode) (*os.File, error) // root.OpenFile; tests replace it
	lock     *os.File                                         // locked; its content is what runs.go describes
	names    *os.File                                         // the directory itself, to sync the names in it
	runs     runs

	spare   *os.File                 // a reserve for when all other descriptors are in use; nil if it could not be opened
	written map[string]stream.Record // what was written last, by room; shares its frames with the streams
}

const (
	lockName   = "lock"
	relayName  = "relay.txt"
	temporary  = ".tmp"     // suffix of a file that is being written
	damaged    = ".damaged" // suffix of a file that could not be read
	sealFormat = "%08x\n"   // last line of a file, the CRC-32 (IEEE 802.3) of everything before it
	sealLength = 9

	// maxDamaged is the number of damaged files that stay for the operator. One more replaces the oldest.
	maxDamaged = 10
)

// begin makes the directory if there is none, locks it, removes the files that an earlier program did not
// finish, and marks the directory as in use by a new run. The mark is on the disk when begin returns. After an
// error the mark is as it was, unless writing the mark failed, and the caller must call close.
func (d *dir) begin() (err error) {
	if err := os.MkdirAll(d.path, 0o700); err != nil {
		return err
	}
	if d.root, err = os.OpenRoot(d.path); err != nil {
		return err
	}
	d.openFile = d.root.OpenFile
	if info, err := d.root.Stat("."); err != nil {
		return err
	} else if info.Mode().Perm()&0o022 != 0 && runtime.GOOS != "windows" {
		return fmt.Errorf("the mode of this directory lets other users write to it; run chmod go-w %s", d.path)
	}
	if d.lock, err = openLock(d.root); err != nil {
		return err
	}
	mark := make([]byte, maxMark)
	n, _ := d.lock.ReadAt(mark, 0) // a mark that can't be read is not closed
	d.runs = parseRuns(string(mark[:n]))
	if d.names, err = d.root.Open("."); err != nil {
		return err
	}
	d.keepSpare()
	probe, err := d.create(relayName) // shows whether files can be made; it is removed below
	if err != nil {
		return err
	}
	probe.Close()
	entries, err := d.list()
	for _, e := range entries {
		file, ok := strings.CutSuffix(e.Name(), temporary)
		if _, isRoom := roomOf(file); ok && (isRoom || file == relayName) {
			err = errors.Join(err, d.root.Remove(e.Name()))
		}
	}
	if err != nil {
		return err
	}
	return d.mark(d.runs.inUse())
}

// close unlocks the directory. If mark is not "", it writes mark first.
func (d *dir) close(mark string) (err error) {
	if mark != "" {
		err = d.mark(mark)
	}
	d.names.Close()
	d.spare.Close()
	err = errors.Join(err, d.lock.Close())
	if d.root != nil {
		d.root.Close()
	}
	return err
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

// list returns the names in the directory.
func (d *dir) list() ([]fs.DirEntry, error) { return fs.ReadDir(d.root.FS(), ".") }

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

// load returns the record with which a room continues in this run, from the room's file. The record has the
// lines that a stream holds, or fewer if these are longer than the dir's limit. Then cut is true.
func (d *dir) load(room string) (r stream.Record, cut bool, err error) {
	err = d.read(fileOf(room), func(content *io.SectionReader) error {
		var writer string
		if r, writer, cut, err = decode(content, d.history, d.limit); err == nil {
			r = d.runs.resume(r, writer)
		}
		return err
	})
	return r, cut, err
}

// append adds r to a room's file, and returns when r is on the disk. The file has the lines from r.Start on
// afterwards. If whole is true, r replaces the record. Otherwise r must continue the record that this dir
// wrote last, or append returns errGap and changes nothing. A record that has all of the history may replace
// it, too. After any other error the file has either its old or its new content.
func (d *dir) append(room string, r stream.Record, whole bool) error {
	if first := r.First(); !whole && first > r.Start {
		last, ok := d.written[room]
		if !ok || last.Epoch != r.Epoch || last.End != first {
			return errGap
		}
		line := last.First()
		var kept []stream.Text
		for _, f := range last.Frames {
			if line += uint64(lines.Count(f.Lines)); line > r.Start {
				kept = append(kept, f)
			}
		}
		r.Frames = append(kept, r.Frames...)
	}
	err := d.replace(fileOf(room), encode(r, d.runs.this)...)
	if err == nil {
		d.written[room] = r
	}
	return err
}

// remove removes a file, and a link without its target. It is no error if there is none. A directory that is
// not empty stays, and is an error.
func (d *dir) remove(name string) error {
	if err := d.root.Remove(name); !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// setAside gives a file the suffix .damaged. The file that had that name is lost. A directory that is not empty
// stays, and the file gets another name with that suffix. After an error the file has its old name.
func (d *dir) setAside(name string) error {
	aside := name + damaged
	if err := d.remove(aside); err != nil {
		aside = name + "." + rand.Text() + damaged
	}
	return d.root.Rename(name, aside)
}

// removeDamaged removes the oldest damaged files of rooms while there are more than maxDamaged.
func (d *dir) removeDamaged() error {
	names, err := d.list()
	names = slices.DeleteFunc(names, func(e fs.DirEntry) bool {
		room, _, _ := strings.Cut(e.Name(), ".txt")
		_, isRoom := roomOf(room + ".txt")
		return !strings.HasSuffix(e.Name(), damaged) || !isRoom
	})
	for _, name := range d.oldest(names, maxDamaged) {
		err = errors.Join(err, d.remove(name))
	}
	return err
}

// oldest returns the names of all files but the n that were written last.
func (d *dir) oldest(files []fs.DirEntry, n int) (names []string) {
	if len(files) <= n {
		return nil
	}
	written := make(map[string]int64, len(files))
	for _, e := range files {
		names = append(names, e.Name())
		if info, err := e.Info(); err == nil { // otherwise the file is gone, or counts as old
			written[e.Name()] = info.ModTime().UnixNano()
		}
	}
	slices.SortStableFunc(names, func(a, b string) int { return int(min(1, max(-1, written[a]-written[b]))) })
	return names[:len(names)-n]
}

// create makes a file with the suffix .tmp, and opens it for writing. It first removes what has that name,
// unless it is a directory that is not empty.
func (d *dir) create(name string) (*os.File, error) {
	if err := d.remove(name + temporary); err != nil {
		return nil, err
	}
	return d.openFile(name+temporary, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
}

// replace replaces a file with parts and their seal. The file is on the disk when replace returns. After an
// error the file has either its old or its new content.
func (d *dir) replace(name string, parts ...[]byte) error {
	d.spare.Close()
	defer d.keepSpare()
	file, err := d.create(name)
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
		err = d.root.Rename(name+temporary, name)
	}
	if err != nil {
		d.root.Remove(name + temporary)
		return err
	}
	return d.sync()
}

// read opens a file that replace has written, and calls use with its content, without the seal. If the seal
// is not that of the content, it returns an error instead. read takes little memory even if the file is
// large. Its errors name the file.
func (d *dir) read(name string, use func(content *io.SectionReader) error) error {
	d.spare.Close()
	defer d.keepSpare()
	file, err := openRegular(d.root, name, os.O_RDONLY)
	if err != nil {
		return err
	}
	defer file.Close()
	content, err := unseal(d.ctx, file)
	if err == nil {
		err = use(content)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

// unseal returns the content of file before the seal, or errCorrupt if the seal is not that of the content. It reads
// the whole file, or until ctx is done, and then returns the error of ctx.
func unseal(ctx context.Context, file *os.File) (*io.SectionReader, error) {
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	size := info.Size() - sealLength
	if size < 0 {
		return nil, errCorrupt
	}
	var first [1]byte
	if _, err := file.ReadAt(first[:], 0); err != nil || first[0] == 0 {
		return nil, errCorrupt // so a sparse file need not be read
	}
	seal := make([]byte, sealLength)
	if _, err := file.ReadAt(seal, size); err != nil {
		return nil, err
	}
	if _, err := hex.DecodeString(string(seal[:sealLength-1])); err != nil {
		return nil, errCorrupt // so a file with gigabytes of zeros need not be read
	}
	crc, in := crc32.NewIEEE(), interruptible{ctx, file}
	if _, err := io.Copy(crc, io.NewSectionReader(in, 0, size)); err != nil {
		return nil, err
	}
	if string(seal) != fmt.Sprintf(sealFormat, crc.Sum32()) {
		return nil, errCorrupt
	}
	return io.NewSectionReader(in, 0, size), nil
}

// interruptible is a file whose reads fail when ctx is done.
type interruptible struct {
	ctx  context.Context
	file *os.File
}

// ReadAt implements io.ReaderAt.
func (i interruptible) ReadAt(b []byte, at int64) (int, error) {
	if err := i.ctx.Err(); err != nil {
		return 0, err
	}
	return i.file.ReadAt(b, at)
}

// openRegular opens a regular file in root that exists. It neither follows a link nor waits for the writer of
// a pipe.
func openRegular(root *os.Root, name string, flag int) (*os.File, error) {
	found, err := root.Lstat(name)
	if err != nil {
		return nil, err
	}
	if !found.Mode().IsRegular() { // opening a device could have an effect
		return nil, fmt.Errorf("%s: %w", name, errIrregular)
	}
	file, err := root.OpenFile(name, flag|nonblock, 0)
	if err != nil {
		return nil, err
	}
	// A Root follows links within itself, so the name may have become a link since Lstat.
	if opened, err := file.Stat(); err != nil || !opened.Mode().IsRegular() || !os.SameFile(found, opened) {
		file.Close()
		return nil, errors.Join(err, fmt.Errorf("%s: %w", name, errIrregular))
	}
	return file, nil
}

// keepSpare opens d.spare. Before a file is opened, d.spare is closed. So the file can be opened even if all
// other descriptors of the program are in use.
func (d *dir) keepSpare() { d.spare, _ = os.Open(os.DevNull) }
