package store

import (
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"example.com/chat/internal/stream"
)

// sealed returns content with its seal.
func sealed(content string) string {
	return fmt.Sprintf("%s%08x\n", content, crc32.ChecksumIEEE([]byte(content)))
}

// TakeRelay returns what Close was given, and returns it once. A file that is damaged, or that was not
// finished, is removed.
func TestRelay(t *testing.T) {
	path := t.TempDir()
	file := filepath.Join(path, "relay.txt")
	take := func(want string) {
		t.Helper()
		s := open(t, path, 10)
		if rooms := read(t, s); len(rooms) != 0 {
			t.Errorf("got rooms %v, want none", rooms)
		}
		for _, want := range []string{want, ""} { // the second time there is nothing
			if got, err := s.TakeRelay(); err != nil || string(got) != want {
				t.Errorf("took %q, %v; want %q", got, err, want)
			}
		}
		if _, err := os.Stat(file); !os.IsNotExist(err) {
			t.Errorf("relay.txt was taken, and is still there: %v", err)
		}
		s.Close(nil)
	}
	take("")
	for _, content := range []string{"", "x", "{}\nline\n\xff\n"} {
		for _, content := range []string{"longer before " + content, content} {
			open(t, path, 10).Close([]byte(content))
		}
		take(content)
	}
	for _, damaged := range []string{"", "x", sealed("lines\n")[1:], sealed("lines\n") + "x"} {
		if err := os.WriteFile(file, []byte(damaged), 0o600); err != nil {
			t.Fatal(err)
		}
		take("")
	}
	if err := os.WriteFile(file+".tmp", []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	open(t, path, 10)
	if files, err := os.ReadDir(path); err != nil || len(files) != 1 {
		t.Errorf("got files %v, %v; want the lock alone", files, err)
	}
}

// After a crash TakeRelay returns nothing, and removes the file.
func TestRelayAfterCrash(t *testing.T) {
	path := t.TempDir()
	open(t, path, 10).Close([]byte("lines\n"))
	open(t, path, 10).dir.closeFiles()
	s := open(t, path, 10)
	if got, err := s.TakeRelay(); got != nil || err != nil {
		t.Errorf("took %q, %v; want nothing", got, err)
	}
	if _, err := os.Stat(filepath.Join(path, "relay.txt")); !os.IsNotExist(err) {
		t.Errorf("relay.txt is still there: %v", err)
	}
}

// Only the owner can read the directory and its files.
func TestOwnerOnly(t *testing.T) {
	path := filepath.Join(t.TempDir(), "new", "state")
	s := open(t, path, 10)
	lobby := stream.New(10)
	add(lobby, "line")
	s.Room("lobby", false).Finish(lobby.Since)
	s.Close([]byte("relay"))
	for name, want := range map[string]os.FileMode{".": 0o700, "lock": 0o600, "room-lobby.txt": 0o600, "relay.txt": 0o600} {
		if info, err := os.Stat(filepath.Join(path, name)); err != nil || info.Mode().Perm() != want {
			t.Errorf("%s: got mode %v, %v; want %v", name, info.Mode(), err, want)
		}
	}
}

// While a program has the directory open, no other program can open it.
func TestLock(t *testing.T) {
	path := t.TempDir()
	s := open(t, path, 10)
	if _, err := Open(path, 10); err == nil || !strings.Contains(err.Error(), "another program uses this directory") {
		t.Errorf("opened twice: got error %v, want that another program uses this directory", err)
	}
	s.Close(nil)
	open(t, path, 10).Close(nil)
}

// Complete reports whether the last program closed the directory as complete.
func TestComplete(t *testing.T) {
	path := t.TempDir()
	want := false
	for i, closing := range []func(*Store){
		func(s *Store) { s.Close(nil) },
		func(s *Store) { s.Close([]byte("relay")) },
		func(s *Store) { s.Abandon() },
		func(s *Store) { s.dir.closeFiles() }, // a crash
		func(s *Store) { s.Abandon() },
		func(s *Store) { s.Close(nil) },
		func(s *Store) { s.Room("unfinished", false); s.Close(nil) },
		func(s *Store) { s.Close(nil) },
	} {
		s := open(t, path, 10)
		if got := s.Complete(); got != want {
			t.Errorf("before step %d: got complete %v, want %v", i, got, want)
		}
		closing(s)
		want = []bool{true, true, true, false, false, true, false, true}[i]
	}
	if err := os.WriteFile(filepath.Join(path, "lock"), []byte("clos"), 0o600); err != nil {
		t.Fatal(err)
	}
	if open(t, path, 10).Complete() {
		t.Error("got complete for a mark that is cut off, want not complete")
	}
}

// A directory that can't be used is an error that says why, and stays as it was.
func TestUnusableDirectory(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	pipe := t.TempDir()
	if err := syscall.Mkfifo(filepath.Join(pipe, "lock"), 0o600); err != nil {
		t.Fatal(err)
	}
	obstacle := t.TempDir()
	open(t, obstacle, 10).Close(nil)
	if err := os.MkdirAll(filepath.Join(obstacle, "room-x.txt.tmp", "below"), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct{ path, named, want string }{
		{file, file, "not a directory"},
		{filepath.Join(file, "below"), file, "not a directory"},
		{pipe, filepath.Join(pipe, "lock"), "not a regular file"},
		{obstacle, filepath.Join(obstacle, "room-x.txt.tmp"), "directory not empty"},
	} {
		for range 2 {
			if _, err := Open(test.path, 10); err == nil || !strings.Contains(err.Error(), test.named+": "+test.want) {
				t.Errorf("%s: got error %v, want that %s is %s", test.path, err, test.named, test.want)
			}
		}
	}
	if err := os.RemoveAll(filepath.Join(obstacle, "room-x.txt.tmp")); err != nil {
		t.Fatal(err)
	}
	if !open(t, obstacle, 10).Complete() {
		t.Error("got not complete after starts that failed, want complete as before")
	}
}

// A room's name can be read from its file's name.
func TestFileNames(t *testing.T) {
	d := &dir{path: "."}
	for room, want := range map[string]string{"": "room.txt", "-": "room--.txt", "lobby": "room-lobby.txt", ".txt": "room-.txt.txt"} {
		file := d.file(room)
		if got, ok := roomOf(file); file != want || got != room || !ok {
			t.Errorf("%q: got file %q and from its name %q, %v; want %q", room, file, got, ok, want)
		}
	}
	for _, file := range []string{"", "room", "room-.txt", "room-x", "roomx.txt", "x.txt", "room-x.txt.tmp", "room-x.txt.damaged", "relay.txt", "lock"} {
		if room, ok := roomOf(file); ok {
			t.Errorf("%q: got room %q, want none", file, room)
		}
	}
}

// A program without free descriptors opens a file with the spare one. The next time there is a spare one again.
func TestSpareDescriptor(t *testing.T) {
	d := open(t, t.TempDir(), 10).dir
	for range 2 {
		calls := 0
		err := d.withSpare(func() error {
			calls++
			if d.spare != nil {
				return &os.PathError{Op: "open", Path: "x", Err: syscall.EMFILE}
			}
			return nil
		})
		if err != nil || calls != 2 {
			t.Errorf("got %v after %d calls, want no error after 2", err, calls)
		}
		d.keepSpare()
		if d.spare == nil {
			t.Error("got no spare descriptor after keepSpare, want one")
		}
	}
	calls := 0
	if err := d.withSpare(func() error { calls++; return errCorrupt }); !errors.Is(err, errCorrupt) || calls != 1 {
		t.Errorf("another error: got %v after %d calls, want it after 1", err, calls)
	}
}
