package store

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
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
	for file, record := range map[string]stream.Record{
		`{"epoch":"E","lines":0,"said":[]}` + "\n252edfa9\n": {Epoch: "E"},
		sealed(`{"epoch":"G","lines":1152921504606846976,"said":[[2,5],[1,1700000000000]],"former":[{"epoch":"E","end":5},{"epoch":"F","end":1125899906842624}],` +
			`"senders":[{"id":"ann","taken":7}],"marks":{"A":{"number":4611686018427387904,"heard":5},"B":{"number":0,"heard":0}}}` + "\n\n\n\x00 <&> \u2028 ✓\n"): {
			Epoch: "G", End: 1 << 60,
			Frames:  []stream.Text{{Lines: []byte("\n\n"), At: 5}, {Lines: []byte("\x00 <&> \u2028 ✓\n"), At: 1700000000000}},
			Past:    []stream.PastEpoch{{Epoch: "E", End: 5}, {Epoch: "F", End: 1 << 50}},
			Senders: []once.Saved{{ID: "ann", Acked: 7}},
			Marks:   once.Marks{"A": {Number: 1 << 62, At: 5}, "B": {}},
		},
	} {
		must(t, d.append("x", record, true))
		wantFile(t, d.file("x"), file)
		if got, err := d.load("x"); err != nil || !reflect.DeepEqual(got, record) {
			t.Errorf("loaded %v, %v; want %v", got, err, record)
		}
	}
}

// A file that append has not written, or not to its end, is an error that names the file.
func TestDamagedFiles(t *testing.T) {
	d := &open(t, t.TempDir()).dir
	live := stream.New(100)
	add(live, numbered(0, 10)...)
	whole := allOf(live)
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
		if r, err := d.load("x"); !errors.Is(err, errCorrupt) || !strings.Contains(err.Error(), d.file("x")+": file is corrupt or truncated") {
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
	for seed := range map[bool]int{false: 40, true: 5000}[wstest.Long()] {
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
					live.Trim(live.End().Lines)
				}
			}
			appendErr := d.append("", live.Since(stored), stored == 0)
			wantFile(t, d.file(""), allOf(live))
			record, err := d.load("")
			if err = errors.Join(appendErr, err); err != nil || t.Failed() {
				t.Fatalf("seed %d, history %d, %d lines after %d: %v", seed, history, live.End().Lines, stored, err)
			}
			stored = live.End().Lines
			switch random.IntN(6) {
			case 0: // the append seems to have failed
				stored = 0
			case 1: // a stop, and a start with another history
				history = histories[random.IntN(len(histories))]
				live = stream.Restore(history, record, true)
			case 2: // a crash
				live, stored = stream.Restore(history, record, false), 0
			}
		}
	}
}

// A record that does not continue what was written last is refused, and the file stays as it is.
func TestGap(t *testing.T) {
	d, live, other := &open(t, t.TempDir()).dir, stream.New(100), stream.New(100)
	add(live, numbered(0, 10)...)
	must(t, d.append("", live.Since(0), true))
	before := allOf(live)
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
		records, _ := s.Read(nil)
		room, live := s.Room("", false), stream.Restore(100, records[""], false)
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
		r, err := s.dir.load("")
		if err != nil || r.End == 0 || r.End < written || r.End > written+6 {
			t.Fatalf("kill %d: got %d lines, %v; want the %d that were written, or some more", n, r.End, err, written)
		}
		wantStored(t, s, false, fmt.Sprintf("map[:%s\n]", strings.Join(numbered(r.End-min(r.End, 100), r.End), "\n")))
		if files, err := os.ReadDir(path); err != nil || len(files) != 2 {
			t.Errorf("kill %d: got files %v, %v; want the lock and room.txt", n, files, err)
		}
		s.dir.close(false)
	}
}

// TakeRelay returns what Close was given, and returns it once. A file that is damaged, that was not finished, or
// that is older than a crash, is removed.
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
	open(t, path).dir.close(false) // a crash
	take("")
	must(t, os.Mkdir(file, 0o700))
	if got, err := open(t, path).TakeRelay(); err == nil || !strings.Contains(err.Error(), file+": not a regular file") {
		t.Errorf("took %q, %v from a directory, want an error that names it", got, err)
	}
}

// Only the owner can read the directory and its files.
func TestOwnerOnly(t *testing.T) {
	path := filepath.Join(t.TempDir(), "new", "state")
	s := open(t, path)
	s.Room("lobby", false).Finish(stream.New(10).Since)
	s.Close([]byte("relay"))
	for name, want := range map[string]os.FileMode{".": 0o700, "lock": 0o600, "room-lobby.txt": 0o600, "relay.txt": 0o600} {
		if info, err := os.Stat(filepath.Join(path, name)); err != nil || info.Mode().Perm() != want {
			t.Errorf("%s: got %v, %v; want mode %v", name, info, err, want)
		}
	}
}

// Complete reports whether the last program closed the directory as complete. While a program has the directory
// open, no other program can open it.
func TestComplete(t *testing.T) {
	path := t.TempDir()
	crash := func(s *Store) { s.dir.close(false) }
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
		if got := s.Complete(); got != test.complete {
			t.Errorf("before step %d: got complete %v, want %v", i, got, test.complete)
		}
		if _, err := Open(path, 10); err == nil || !strings.Contains(err.Error(), "another program uses this directory") {
			t.Errorf("before step %d: got error %v, want that another program uses the directory", i, err)
		}
		wantFile(t, filepath.Join(path, "lock"), "in use, or not closed\n")
		test.step(s)
	}
}

// A directory that can't be used is an error that says why, and stays as it was.
func TestUnusableDirectory(t *testing.T) {
	file, pipe, obstacle := filepath.Join(t.TempDir(), "file"), t.TempDir(), t.TempDir()
	must(t, os.WriteFile(file, []byte(""), 0o600))
	open(t, obstacle).Close(nil)
	tmp := filepath.Join(obstacle, "room-x.txt.tmp")
	must(t, syscall.Mkfifo(filepath.Join(pipe, "lock"), 0o600), os.MkdirAll(filepath.Join(tmp, "below"), 0o700))
	long := t.TempDir() // in which there can be a lock, but not a file with a longer name
	for len(long) < 4080 {
		long = filepath.Join(long, strings.Repeat("x", min(200, 4082-len(long))))
	}
	for path, want := range map[string]string{
		file: file + ": not a directory", filepath.Join(file, "below"): file + ": not a directory",
		pipe: filepath.Join(pipe, "lock") + ": illegal seek", obstacle: tmp + ": directory not empty", long: "file name too long",
	} {
		if _, err := Open(path, 10); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got error %v, want %q", path, err, want)
		}
	}
	must(t, os.RemoveAll(tmp))
	wantStored(t, open(t, obstacle), true, "map[]")
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
