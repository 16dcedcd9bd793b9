package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"example.com/chat/internal/once"
	"example.com/chat/internal/stream"
	"example.com/chat/internal/wstest"
)

// A room's file is a line of JSON, the lines as they are, and a checksum. These bytes must not change, because
// other versions of the program read and write them.
func TestFormat(t *testing.T) {
	d := &open(t, t.TempDir()).dir
	d.runs = runs{complete: true, this: "RUN"}
	for file, record := range map[string]stream.Record{
		`{"run":"RUN","epoch":"E","lines":0,"said":[]}` + "\n5650c682\n": {Epoch: "E"},
		sealed(`{"run":"RUN","epoch":"G","lines":4503599627370496,"said":[[2,5],[1,1700000000000]],"former":[{"epoch":"E","end":5},{"epoch":"F","end":1125899906842624}],` +
			`"senders":[{"id":"ann","taken":7}],"marks":{"A":{"number":4611686018427387904,"heard":5},"B":{"number":0,"heard":0}}}` + "\n\n\n\x00 <&> \u2028 ✓\n"): {
			Epoch: "G", End: 1 << 52,
			Frames:  []stream.Text{{Lines: []byte("\n\n"), At: 5}, {Lines: []byte("\x00 <&> \u2028 ✓\n"), At: 1700000000000}},
			Past:    []stream.PastEpoch{{Epoch: "E", End: 5}, {Epoch: "F", End: 1 << 50}},
			Senders: []once.Saved{{ID: "ann", Acked: 7}},
			Marks:   once.Marks{"A": {Number: 1 << 62, At: 5}, "B": {}},
		},
	} {
		must(t, d.append("x", record, true))
		wantFile(t, d.file("x"), file)
		for _, older := range []string{"", `"run":"RUN",`} { // which a program that was older did not write
			must(t, os.WriteFile(d.file("x"), []byte(sealed(strings.Replace(file[:len(file)-9], older, "", 1))), 0o600))
			if got, cut, err := d.load("x"); err != nil || cut || !reflect.DeepEqual(got, record) {
				t.Errorf("loaded %v, cut %v, %v; want %v", got, cut, err, record)
			}
		}
	}
}

// A file that append has not written, or not to its end, is an error that names the file.
func TestDamagedFiles(t *testing.T) {
	d := &open(t, t.TempDir()).dir
	live := stream.New(100)
	add(live, numbered(0, 10)...)
	whole := d.allOf(live)
	damagedFiles := []string{
		whole + "more\n",
		sealed("no JSON\n"),
		sealed(`{"lines":1,"said":[[1,1]]}` + "\nno epoch\n"),
		sealed(`{"epoch":"a frame of no lines","lines":1,"said":[[0,1]]}` + "\n"),
		sealed(`{"epoch":"a negative frame","lines":1,"said":[[-1,1]]}` + "\na\n"),
		sealed(`{"epoch":"more lines than said","lines":0,"said":[[1,1]]}` + "\na\n"),
		sealed(`{"epoch":"a line too few","lines":9,"said":[[2,1]]}` + "\na\n"),
		sealed(`{"epoch":"a line of no frame","lines":9,"said":[[1,1]]}` + "\na\nb\n"),
	}
	for n := range whole {
		flipped := []byte(whole)
		flipped[n] ^= 1
		damagedFiles = append(damagedFiles, string(flipped), whole[:n])
	}
	for _, content := range damagedFiles {
		must(t, os.WriteFile(d.file("x"), []byte(content), 0o600))
		if r, _, err := d.load("x"); !errors.Is(err, errCorrupt) || !strings.Contains(err.Error(), "room-x.txt: file is corrupt or truncated") {
			t.Errorf("%q: got %v, %v; want an error that names the file", content, r, err)
		}
	}
}

// BenchmarkAppend appends 5 lines to a room's history, as a store does once a second in a room that talks.
func BenchmarkAppend(b *testing.B) {
	d := &open(b, b.TempDir()).dir
	d.history = 256
	live, line := stream.New(256), strings.Repeat("x", 63)
	add(live, strings.Fields(strings.Repeat(line+" ", 256))...)
	for stored := uint64(0); b.Loop(); stored = live.End().Lines - 5 {
		must(b, d.append("", live.Since(stored), stored == 0))
		add(live, line, line, line, line, line)
	}
}

// Many appends of what is new leave the same file as one append of everything, whatever the frames and the
// history, and through restarts, crashes, and appends that were written although they failed.
func TestAppendsEqualOneStream(t *testing.T) {
	d := &open(t, t.TempDir()).dir
	for seed := range map[bool]int{false: 15, true: 1000}[wstest.Long()] {
		random := rand.New(rand.NewPCG(uint64(seed), 0))
		histories := []int{0, 1, 2, 3, 10, 100}
		history := histories[random.IntN(len(histories))]
		live, stored := stream.New(history), uint64(0)
		for said := range 30 {
			d.history = uint64(history)
			for n := range random.IntN(6) {
				text := strings.Repeat(fmt.Sprint("line ", said, " ", n, "\n"), 1+random.IntN(4))
				live.Append(stream.TextFrame([]byte(text)), int64(said))
				live.Marks.Accept("origin", uint64(said), 1, time.UnixMilli(int64(said)))
				if random.IntN(2) == 0 { // else a connection needs old frames
					live.Trim(live.End().Lines, []int64{math.MaxInt64, 2000}[random.IntN(2)]) // or memory is short
				}
			}
			appendErr := d.append("", live.Since(stored), stored == 0)
			wantFile(t, d.file(""), d.allOf(live))
			record, err := d.loadWhole("")
			if err = errors.Join(appendErr, err); err != nil || t.Failed() {
				t.Fatalf("seed %d, history %d, %d lines after %d: %v", seed, history, live.End().Lines, stored, err)
			}
			stored = live.End().Lines
			switch random.IntN(6) {
			case 0: // the append seems to have failed
				stored = 0
			case 1: // a stop, and a start with another history
				history = histories[random.IntN(len(histories))]
				live = stream.Restore(history, record)
			case 2: // a crash
				d.runs = runs{before: append(d.runs.before, d.runs.this), this: fmt.Sprint("RUN", said)}
				record, _, err = d.load("")
				must(t, err)
				live, stored = stream.Restore(history, record), 0
			}
		}
	}
}

// A record that does not continue what was written last is refused, and the file stays as it is.
func TestGap(t *testing.T) {
	d, live, other := &open(t, t.TempDir()).dir, stream.New(100), stream.New(100)
	add(live, numbered(0, 10)...)
	must(t, d.append("", live.Since(0), true))
	before := d.allOf(live)
	add(live, "line 10", "line 11")
	add(other, numbered(0, 11)...)
	for name, r := range map[string]stream.Record{"gap": live.Since(11), "overlap": live.Since(9), "epoch": other.Since(10)} {
		if err := d.append("", r, false); !errors.Is(err, errGap) {
			t.Errorf("%s: got error %v, want errGap", name, err)
		}
		wantFile(t, d.file(""), before)
	}
}

// A program that is killed while it writes leaves a whole file behind that has all lines for which Finish has
// returned, and no other file. The program is this test in a process that has the directory's path.
func TestKilledWhileWriting(t *testing.T) {
	const variable = "STORE_TEST_WRITE_FOREVER"
	if path := os.Getenv(variable); path != "" {
		s := open(t, path)
		record, found := readAll(t, s)[""]
		room, live := s.Room("", found), stream.New(100)
		if found {
			live = stream.Restore(100, record)
		}
		for {
			add(live, numbered(live.End().Lines, live.End().Lines+3)...)
			room.Finish(live.Since)
			fmt.Println(live.End().Lines)
		}
	}
	path := t.TempDir()
	for n := range map[bool]int{false: 40, true: 400}[wstest.Long()] {
		writer := exec.Command(os.Args[0], "-test.run=^TestKilledWhileWriting$")
		writer.Env = append(os.Environ(), variable+"="+path)
		out, err := writer.StdoutPipe()
		must(t, err, writer.Start())
		var first [1]byte
		out.Read(first[:])
		time.Sleep(rand.N(5 * time.Millisecond)) // another moment each time
		writer.Process.Kill()
		rest, _ := io.ReadAll(out)
		writer.Wait()
		var written uint64
		for number := range strings.FieldsSeq(string(first[:]) + string(rest)) {
			fmt.Sscan(number, &written) // a number that was cut off is smaller, and so does no harm
		}
		s := open(t, path)
		r, _, err := s.dir.load("")
		if err != nil || r.End == 0 || r.End < written || r.End > written+6 {
			t.Fatalf("kill %d: got %d lines, %v; want the %d that were written, or some more", n, r.End, err, written)
		}
		wantStored(t, s, false, fmt.Sprintf("map[:%s\n]", strings.Join(numbered(r.End-min(r.End, 100), r.End), "\n")))
		if files, err := os.ReadDir(path); err != nil || len(files) != 2 {
			t.Errorf("kill %d: got files %v, %v; want the lock and room.txt", n, files, err)
		}
		s.dir.close("")
	}
}

// TakeRelay returns what Close was given, and returns it once. A file that is damaged, that was not finished,
// or that is older than a crash, is removed.
func TestRelay(t *testing.T) {
	path := t.TempDir()
	file := filepath.Join(path, "relay.txt")
	take := func(want string) {
		t.Helper()
		s := open(t, path)
		for _, want := range []string{want, ""} { // the second time there is nothing
			if got, err := s.TakeRelay(); err != nil || string(got) != want {
				t.Errorf("took %q, %v; want %q", got, err, want)
			}
		}
		s.Close(nil)
		if files, err := os.ReadDir(path); err != nil || len(files) != 1 {
			t.Errorf("got files %v, %v; want the lock alone", files, err)
		}
	}
	take("")
	for _, content := range []string{"", "x", "{}\nline\n\xff\n"} {
		open(t, path).Close([]byte("longer before " + content))
		open(t, path).Close([]byte(content))
		take(content)
	}
	for _, damaged := range []string{"", "x", sealed("lines\n")[1:], sealed("lines\n") + "x"} {
		must(t, os.WriteFile(file, []byte(damaged), 0o600))
		must(t, os.WriteFile(file+".tmp", []byte("half"), 0o600))
		take("")
	}
	open(t, path).Close([]byte("lines\n"))
	open(t, path).dir.close("") // a crash
	take("")
	must(t, os.Mkdir(file, 0o700))
	if got, err := open(t, path).TakeRelay(); err == nil || !strings.Contains(err.Error(), "relay.txt: not a regular file") {
		t.Errorf("took %q, %v from a directory, want an error that names it", got, err)
	}
}

// Only the owner can read the directory and its files.
func TestOwnerOnly(t *testing.T) {
	path := filepath.Join(t.TempDir(), "new", "state")
	s := open(t, path)
	live := stream.New(10)
	add(live, "line")
	s.Room("lobby", false).Finish(live.Since)
	s.Close([]byte("relay"))
	for name, want := range map[string]os.FileMode{".": 0o700, "lock": 0o600, "room-lobby.txt": 0o600, "relay.txt": 0o600} {
		if info, err := os.Stat(filepath.Join(path, name)); err != nil || info.Mode().Perm() != want {
			t.Errorf("%s: got %v, %v; want mode %v", name, info, err, want)
		}
	}
}

// Complete reports whether the last program closed the directory as complete. While a program has the
// directory open, no other program can open it.
func TestComplete(t *testing.T) {
	path := t.TempDir()
	crash := func(s *Store) { s.dir.close("") }
	mark := func(text string) func(*Store) {
		return func(s *Store) { crash(s); must(t, os.WriteFile(filepath.Join(path, "lock"), []byte(text), 0o600)) }
	}
	abandon := func(s *Store) { s.Abandon() }
	stop := func(s *Store) { s.Close(nil) }
	for i, test := range []struct {
		complete bool // as the step before left it
		step     func(*Store)
	}{
		{false, stop}, {true, abandon}, {true, crash}, {false, abandon}, {false, stop},
		{true, func(s *Store) { s.Room("unfinished", false); s.Close(nil) }}, {false, stop},
		{true, mark("clos")}, {false, mark("closed\n")}, {true, crash},
	} {
		s := open(t, path)
		if got := s.dir.runs.complete; got != test.complete {
			t.Errorf("before step %d: got complete %v, want %v", i, got, test.complete)
		}
		if _, err := Open(t.Context(), path, options); err == nil || !strings.Contains(err.Error(), "another program uses this directory") {
			t.Errorf("before step %d: got error %v, want that another program uses the directory", i, err)
		}
		wantFile(t, filepath.Join(path, "lock"), "in use, or not closed\n")
		test.step(s)
	}
}

// A directory that can't be used is an error that says why.
func TestUnusableDirectory(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	must(t, os.WriteFile(file, []byte(""), 0o600))
	for _, path := range []string{file, filepath.Join(file, "below")} {
		if _, err := Open(t.Context(), path, options); err == nil || !strings.Contains(err.Error(), file+": not a directory") {
			t.Errorf("%s: got error %v, want that the file is no directory", path, err)
		}
	}
}

// A directory to which other users can write is refused, and nothing is made in it. A directory that others
// can read, and a symbolic link to a directory, are used.
func TestWritableByOthers(t *testing.T) {
	for mode, refused := range map[os.FileMode]bool{
		0o700: false, 0o755: false, 0o750: false, 0o720: true, 0o702: true, 0o775: true, 0o777: true, 0o777 | os.ModeSticky: true,
	} {
		path := t.TempDir()
		must(t, os.Chmod(path, mode))
		s, err := Open(t.Context(), path, options)
		if want := "the mode of this directory lets other users write to it; run chmod go-w " + path; (err != nil) != refused || refused && err.Error() != want {
			t.Errorf("mode %v: got error %v, want %q: %v", mode, err, want, refused)
		}
		if files, _ := os.ReadDir(path); refused && len(files) > 0 {
			t.Errorf("mode %v: got files %v, want none", mode, files)
		}
		if err != nil {
			continue
		}
		s.Close(nil)
		link := filepath.Join(t.TempDir(), "link")
		must(t, os.Symlink(path, link))
		wantStored(t, open(t, link), true, "map[]")
	}
}

// The chat waits for nothing that has one of its names and is no regular file, and writes nothing through it.
// Either the start is refused with an error that names it, or the chat removes it or sets it aside, or the
// stop is incomplete. A directory that is not empty always keeps its content.
func TestObstacles(t *testing.T) {
	obstacles := map[string]func(path string){
		"link out":        func(path string) { must(t, os.Symlink("../victim", path)) },
		"link in":         func(path string) { must(t, os.Symlink("notes.txt", path)) },
		"link to nothing": func(path string) { must(t, os.Symlink("new", path)) },
		"pipe":            func(path string) { must(t, syscall.Mkfifo(path, 0o600)) },
		"socket": func(path string) {
			l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
			must(t, err)
			l.SetUnlinkOnClose(false)
			l.Close()
		},
		"empty directory": func(path string) { must(t, os.Mkdir(path, 0o700)) },
		"full directory": func(path string) {
			must(t, os.Mkdir(path, 0o700), os.WriteFile(filepath.Join(path, "inner"), []byte("inner"), 0o600))
		},
	}
	const irregular, full = ": not a regular file; move it away", ": directory not empty"
	for _, test := range []struct {
		name           string
		running        bool   // the obstacle comes while the store is open
		refused        string // error of the start
		refusedFull    string // the same with a full directory
		incomplete     bool   // what the stop is with an empty directory
		incompleteFull bool   // the same with a full directory
	}{
		{"lock", false, irregular, irregular, false, false},
		{"relay.txt", false, irregular, irregular, false, false},
		{"room-x.txt", false, "", "", false, false},
		{"room-x.txt.damaged", false, "", "", false, false},
		{"room-x.txt.tmp", false, "", full, false, false},
		{"relay.txt.tmp", false, "", full, false, false},
		{"room-x.txt", true, "", "", true, true},
		{"relay.txt", true, "", "", true, true},
		{"room-x.txt.damaged", true, "", "", false, false},
		{"room-x.txt.tmp", true, "", "", false, true},
		{"relay.txt.tmp", true, "", "", false, true},
	} {
		for obstacle, place := range obstacles {
			t.Run(fmt.Sprintf("%s/%s/%v", test.name, obstacle, test.running), func(t *testing.T) {
				parent := t.TempDir()
				path := filepath.Join(parent, "state")
				say := func(s *Store, room string, text string) {
					live := stream.New(10)
					add(live, text)
					s.Room(room, false).Finish(live.Since)
				}
				s := open(t, path)
				say(s, "y", "hello")
				s.Close(nil)
				must(t, os.WriteFile(filepath.Join(parent, "victim"), []byte("precious"), 0o600), os.WriteFile(filepath.Join(path, "notes.txt"), []byte("precious"), 0o600))
				if test.name == "room-x.txt.damaged" {
					must(t, os.WriteFile(filepath.Join(path, "room-x.txt"), []byte("garbage"), 0o600))
				}
				place := func() {
					os.Remove(filepath.Join(path, test.name))
					place(filepath.Join(path, test.name))
				}
				if !test.running {
					place()
				}
				refused, incomplete := test.refused, test.incomplete && obstacle == "empty directory"
				if obstacle == "full directory" {
					refused, incomplete = test.refusedFull, test.incompleteFull
				}
				s, err := Open(t.Context(), path, options)
				if err == nil {
					if _, err = s.TakeRelay(); err != nil {
						must(t, s.Abandon())
					}
				}
				if refused != "" {
					if err == nil || !strings.Contains(err.Error(), test.name+refused) {
						t.Errorf("got error %v, want %s", err, test.name+refused)
					}
					must(t, os.RemoveAll(filepath.Join(path, test.name)))
				} else {
					must(t, err)
					if got := len(readAll(t, s)); got != 1 {
						t.Errorf("got %d rooms, want 1", got)
					}
					if test.running {
						place()
					}
					say(s, "x", "new")
					s.Close([]byte("relay"))
					if obstacle == "full directory" && !strings.HasSuffix(test.name, ".damaged") && !test.running {
						wantFile(t, filepath.Join(path, test.name+".damaged", "inner"), "inner")
					} else if obstacle == "full directory" {
						wantFile(t, filepath.Join(path, test.name, "inner"), "inner")
					}
				}
				wantFile(t, filepath.Join(parent, "victim"), "precious")
				wantFile(t, filepath.Join(path, "notes.txt"), "precious")
				wantFile(t, filepath.Join(path, "new"), "")
				if incomplete {
					must(t, os.RemoveAll(filepath.Join(path, test.name)))
				}
				s = open(t, path)
				if got := s.dir.runs.complete; got == incomplete && test.name != "lock" {
					t.Errorf("got complete %v, want %v", got, !incomplete)
				}
				if relay, err := s.TakeRelay(); err != nil || refused == "" && !incomplete && string(relay) != "relay" {
					t.Errorf("got relay %q, %v; want what was stored", relay, err)
				}
				got := readAll(t, s)
				if _, ok := got["x"]; ok != (refused == "" && (!incomplete || strings.HasPrefix(test.name, "relay"))) || got["y"].End != 1 {
					t.Errorf("got rooms %v, want y, and x if it could be written", got)
				}
			})
		}
	}
}

// Of files that could not be read, the ten that were written last stay.
func TestDamagedFilesAreFew(t *testing.T) {
	path := t.TempDir()
	for round := range 3 {
		for n := range 6 {
			name := filepath.Join(path, fmt.Sprintf("room-%d-%d.txt", round, n))
			at := time.Unix(int64(1000*round+n), 0)
			must(t, os.WriteFile(name, []byte("garbage"), 0o600), os.Chtimes(name, at, at))
		}
		s := open(t, path)
		readAll(t, s)
		s.Close(nil)
	}
	files, err := filepath.Glob(filepath.Join(path, "*.damaged"))
	must(t, err)
	if got := len(files); got != 10 || !strings.HasSuffix(files[0], "room-1-2.txt.damaged") {
		t.Errorf("got %d files from %v on, want 10 from room-1-2 on", got, files)
	}
}

// If more named rooms are stored than there may be, those that were written last are restored, and the files
// of the others are removed.
func TestTooManyRooms(t *testing.T) {
	path := t.TempDir()
	s := open(t, path)
	for n, room := range []string{"", "c", "a", "d", "b"} {
		live := stream.New(10)
		add(live, "in "+room)
		s.Room(room, false).Finish(live.Since)
		at := time.Unix(int64(n), 0)
		must(t, os.Chtimes(s.dir.file(room), at, at))
	}
	s.Close(nil)
	options := options
	options.MaxRooms = 2
	s, err := Open(t.Context(), path, options)
	must(t, err)
	wantStored(t, s, true, "map[:in \n b:in b\n d:in d\n]")
	wantFile(t, s.dir.file("a"), "")
	s.Close(nil)
}

// The lines that one file brings into memory are those of the history, and at most FileLimit bytes. Their
// numbers are those that they had, even if a program with a larger -history or -max-message wrote the file.
func TestFileLimit(t *testing.T) {
	for _, test := range []struct {
		history int
		limit   int64
		first   uint64 // of the restored lines
		cut     bool
	}{
		{1000, 64 << 20, 0, false}, {10, 64 << 20, 990, false}, {0, 64 << 20, 1000, false},
		{1000, 1000 * 10_000, 0, false}, {1000, 1000*10_000 - 1, 1, true}, {1000, 90_000, 991, true}, {10, 90_000, 991, true},
		{1000, 20_000, 998, true}, {5, 90_000, 995, false},
	} {
		s, path := stream.New(1000), t.TempDir()
		for n := range 1000 {
			add(s, fmt.Sprintf("%9999d", n))
		}
		d := &open(t, path).dir
		must(t, d.append("x", s.Since(0), true))
		d.history, d.limit = uint64(test.history), test.limit
		var r stream.Record
		var cut bool
		var err error
		took := allocated(func() { r, cut, err = d.load("x") })
		if err != nil || r.End != 1000 || r.First() != test.first || cut != test.cut {
			t.Errorf("%+v: got lines %d to %d, cut %v, %v", test, r.First(), r.End, cut, err)
		}
		for i, f := range r.Frames {
			if want := fmt.Sprintf("%9999d\n", test.first+uint64(i)); string(f.Lines) != want || f.At != 1000 {
				t.Fatalf("%+v: got line %.20q at %d, want %.20q at 1000", test, f.Lines, f.At, want)
			}
		}
		if most := test.limit + 1<<20; took > uint64(min(most, 11<<20)) {
			t.Errorf("%+v: the load allocated %d bytes, want at most the limit and 1 MiB", test, took)
		}
	}
}

// allocated returns the number of bytes that f allocates.
func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// A damaged file takes little memory, even if it is large.
func TestLargeDamagedFiles(t *testing.T) {
	s := open(t, t.TempDir())
	file := s.dir.file("x")
	header := `{"epoch":"E","lines":3,"said":[[3,5]]}` + "\n"
	for name, content := range map[string]string{
		"zeros": "", "header": header, "lines": header + "a\nb\nc\n", "sealed": sealed(header + "a\nb\nc\n"),
	} {
		must(t, os.WriteFile(file, []byte(content), 0o600), os.Truncate(file, 3<<30))
		if took := allocated(func() { readAll(t, s) }); took > 1<<20 {
			t.Errorf("%s and 3 GB of zeros: the start allocated %d bytes, want at most 1 MiB", name, took)
		}
		wantFile(t, file, "")
	}
	for name, content := range map[string]string{
		"a header without end":  strings.Repeat(" ", 64<<20),
		"a header that is long": strings.Repeat(" ", 64<<20) + header + "a\nb\nc\n",
		"more text than lines":  header + strings.Repeat("x", 64<<20) + "\n",
	} {
		s.dir.limit = 1 << 20
		must(t, os.WriteFile(file, []byte(sealed(content)), 0o600))
		if took := allocated(func() { readAll(t, s) }); took > 8<<20 {
			t.Errorf("%s: the start allocated %d bytes, want at most 8 MiB", name, took)
		}
		wantFile(t, file, "")
	}
	must(t, os.WriteFile(filepath.Join(s.dir.path, "relay.txt"), []byte(sealed(strings.Repeat(" ", 65<<20+1))), 0o600))
	took := allocated(func() {
		if got, err := s.TakeRelay(); err != nil || got != nil {
			t.Errorf("took %d bytes, %v; want nothing", len(got), err)
		}
	})
	if took > 1<<20 {
		t.Errorf("relay.txt: the start allocated %d bytes, want at most 1 MiB", took)
	}
}

// A stop during the start ends the reading, even of a large file, and leaves the directory as it was found.
func TestInterruptedStart(t *testing.T) {
	path := t.TempDir()
	s := open(t, path)
	live := stream.New(10)
	add(live, "hello")
	s.Room("x", false).Finish(live.Since)
	s.Room("y", false).Finish(live.Since)
	s.Close([]byte("relay"))

	ctx, stop := context.WithCancel(t.Context())
	s, err := Open(ctx, path, Options{History: 100, MaxRooms: 1, FileLimit: 1 << 20})
	must(t, err)
	file, err := os.Open(s.dir.file("x"))
	must(t, err)
	defer file.Close()
	content, err := unseal(ctx, file)
	must(t, err)
	stop()
	if n, err := content.ReadAt(make([]byte, 1), 0); n > 0 || !errors.Is(err, context.Canceled) {
		t.Errorf("read %d bytes, %v after the stop; want %v", n, err, context.Canceled)
	}
	if got := readAll(t, s); len(got) > 0 {
		t.Errorf("got %d rooms after the stop, want none", len(got))
	}
	if relay, err := s.TakeRelay(); !errors.Is(err, context.Canceled) {
		t.Errorf("took %q, %v after the stop; want %v", relay, err, context.Canceled)
	}
	must(t, s.Abandon())

	s = open(t, path)
	if relay, err := s.TakeRelay(); err != nil || string(relay) != "relay" || !s.dir.runs.complete {
		t.Errorf("took %q, %v, complete %v from the next start; want all", relay, err, s.dir.runs.complete)
	}
	if got := readAll(t, s); got["x"].End != 1 || got["y"].End != 1 {
		t.Errorf("got %v from the next start, want the line in both rooms", got)
	}
}

// A file that can't be read gets another name with .damaged if a directory has the first one.
func TestDamagedDirectory(t *testing.T) {
	path := t.TempDir()
	must(t, os.MkdirAll(filepath.Join(path, "room-x.txt", "inner"), 0o700), os.MkdirAll(filepath.Join(path, "room-x.txt.damaged", "inner"), 0o700))
	s := open(t, path)
	readAll(t, s)
	live := stream.New(10)
	add(live, "hello")
	s.Room("x", false).Finish(live.Since)
	s.Close(nil)
	if files, _ := filepath.Glob(filepath.Join(path, "room-x.txt.*.damaged", "inner")); len(files) != 1 {
		t.Errorf("got %q, want one directory set aside", files)
	}
	s = open(t, path)
	if got := readAll(t, s); got["x"].End != 1 || !s.dir.runs.complete {
		t.Errorf("got %v, complete %v from the next start; want the line and true", got, s.dir.runs.complete)
	}
}

// A program that uses all its descriptors can still append, again and again.
func TestSpareDescriptor(t *testing.T) {
	d := &open(t, t.TempDir()).dir
	d.load("") // which must not lose the spare descriptor
	var limit syscall.Rlimit
	must(t, syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit))
	defer syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit)
	must(t, syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: 100, Max: limit.Max}))
	for file, err := os.Open(os.DevNull); err == nil; file, err = os.Open(os.DevNull) {
		defer file.Close()
	}
	live := stream.New(100)
	for n := range uint64(5) {
		add(live, "line")
		must(t, d.append("", live.Since(n), n == 0))
	}
	if file, err := os.Open(os.DevNull); !errors.Is(err, syscall.EMFILE) {
		t.Errorf("got %v, %v after the appends, want that no descriptor is free", file, err)
	}
}
