package state

import (
	"bytes"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"example.com/chat/internal/relay"
	"example.com/chat/internal/wstest"
)

// writeForever is an environment variable with a directory: TestMain then saves streams there until
// it is killed, and says how many.
const writeForever = "STATE_TEST_WRITE_FOREVER"

func TestMain(m *testing.M) {
	if path := os.Getenv(writeForever); path != "" {
		d, _, err := Open(path)
		for n := uint64(1); err == nil; n++ {
			err = d.Save("", numbered(n))
			fmt.Println(n)
		}
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// numbered returns a stream of n lines, of which the last are held: each has its number.
func numbered(n uint64) Stream {
	s := Stream{Epoch: "EPOCH", Lines: n}
	for first := n - min(n, 300); first < n; first += 3 {
		var text []byte
		for line := first; line < min(n, first+3); line++ {
			text = fmt.Appendf(text, "line %d%s\n", line, strings.Repeat(" ", int(line%200)))
		}
		s.Frames = append(s.Frames, Frame{text, int64(first)})
	}
	return s
}

func open(t *testing.T, path string) (d *Dir, complete bool) {
	t.Helper()
	d, complete, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close(false) })
	return d, complete
}

// What is saved is there when the directory is opened again, of each room.
func TestSaveAndLoad(t *testing.T) {
	path := filepath.Join(t.TempDir(), "new", "directory")
	d, _ := open(t, path)
	streams := map[string]Stream{
		"":      numbered(1000),
		"lobby": {Epoch: "E", Lines: 3, Frames: []Frame{{[]byte("\n\n"), 5}, {[]byte("\x00 <&> \u2028 ✓\n"), 6}}},
		"empty": {Epoch: "F"},
		"-":     {Epoch: "G", Lines: 1 << 60, Former: []Run{{"E", 5}, {"F", 1 << 50}}, Senders: []Sender{{"ann", 7}}, Marks: once.Marks{"A": {Number: 1 << 62, Heard: 5}, "B": {}}},
	}
	for room, s := range streams {
		if err := d.Save(room, numbered(7)); err != nil {
			t.Fatal(err)
		}
		if err := d.Save(room, s); err != nil {
			t.Fatal(err)
		}
	}
	if err := d.Save("gone", numbered(1)); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second time there is nothing to remove
		if err := d.Remove("gone"); err != nil {
			t.Error(err)
		}
	}
	d.Close(true)

	d, complete := open(t, path)
	if !complete {
		t.Error("it was closed")
	}
	rooms, err := d.Rooms()
	slices.Sort(rooms)
	if want := []string{"", "-", "empty", "lobby"}; err != nil || !slices.Equal(rooms, want) {
		t.Errorf("rooms %q, %v; want %q", rooms, err, want)
	}
	for room, want := range streams {
		if got, err := d.Load(room); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("room %q: got %v, %v; want %v", room, got, err, want)
		}
	}
}

// What is kept of the relay can be taken once, as it was. It is no room's. What is damaged, or was not finished, is removed.
func TestRelay(t *testing.T) {
	path := t.TempDir()
	d, _ := open(t, path)
	file := filepath.Join(path, "relay.txt")
	take := func(want string) {
		t.Helper()
		if got, err := d.TakeRelay(); err != nil || string(got) != want {
			t.Errorf("took %q, %v; want %q", got, err, want)
		}
		if _, err := os.Stat(file); !os.IsNotExist(err) {
			t.Errorf("it is still there: %v", err)
		}
	}
	take("")
	for _, content := range []string{"", "x", "{}\nline\n\xff\n"} {
		for _, kept := range []string{"longer before " + content, content} {
			if err := d.SaveRelay([]byte(kept)); err != nil {
				t.Fatal(err)
			}
		}
		if rooms, err := d.Rooms(); err != nil || len(rooms) != 0 {
			t.Errorf("rooms %q, %v", rooms, err)
		}
		if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("mode %v, %v", info.Mode(), err)
		}
		take(content)
		take("")
	}
	for _, damaged := range []string{"", "x", summed("lines\n")[1:], summed("lines\n") + "x"} {
		if err := os.WriteFile(file, []byte(damaged), 0o600); err != nil {
			t.Fatal(err)
		}
		take("")
	}
	if err := os.WriteFile(file+".tmp", []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	d.Close(false)
	d, _ = open(t, path)
	if files, err := os.ReadDir(path); err != nil || len(files) != 1 {
		t.Errorf("files %v, %v", files, err)
	}
}

// Only the owner can read a directory and its files.
func TestOwnerOnly(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state")
	d, _ := open(t, path)
	if err := d.Save("lobby", numbered(1)); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]os.FileMode{".": 0o700, "lock": 0o600, "room-lobby.txt": 0o600} {
		if info, err := os.Stat(filepath.Join(path, name)); err != nil || info.Mode().Perm() != want {
			t.Errorf("%s: mode %v, %v; want %v", name, info.Mode(), err, want)
		}
	}
}

// As long as one has the directory open, nobody else can open it.
func TestLock(t *testing.T) {
	path := t.TempDir()
	d, _ := open(t, path)
	if _, _, err := Open(path); err == nil || !strings.Contains(err.Error(), "another program uses this directory") {
		t.Errorf("opened twice: %v", err)
	}
	d.Close(true)
	open(t, path)
}

// The next to open a directory learns whether it was closed, and whether that was said to be complete.
func TestComplete(t *testing.T) {
	path := t.TempDir()
	for _, want := range []bool{true, false, true, true} {
		d, _ := open(t, path)
		if err := d.Close(want); err != nil {
			t.Fatal(err)
		}
		d, complete := open(t, path)
		if complete != want {
			t.Errorf("complete %v after Close(%v)", complete, want)
		}
		d.Close(true)
	}
	if err := os.WriteFile(filepath.Join(path, "lock"), []byte("clos"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, complete := open(t, path); complete {
		t.Error("a mark that was not written to its end counts")
	}
}

// summed returns content with its checksum.
func summed(content string) string {
	return fmt.Sprintf("%s%08x\n", content, crc32.ChecksumIEEE([]byte(content)))
}

// A file that Save has not written, or not to its end, is set aside, and is in nobody's way.
func TestDamagedFiles(t *testing.T) {
	d, _ := open(t, t.TempDir())
	var whole bytes.Buffer
	if err := numbered(10).write(&whole); err != nil {
		t.Fatal(err)
	}
	damagedFiles := map[string]string{
		"empty":               "",
		"a line too many":     whole.String() + "more\n",
		"garbage":             strings.Repeat("garbage\n", 1000),
		"no JSON":             summed("hello\nworld\n"),
		"a list":              summed("[]\n"),
		"without an epoch":    summed(`{"lines":1,"said":[[1,1]]}` + "\na\n"),
		"a frame of no lines": summed(`{"epoch":"E","lines":1,"said":[[0,1]]}` + "\n"),
		"too many lines":      summed(`{"epoch":"E","lines":0,"said":[[1,1]]}` + "\na\n"),
		"too few lines":       summed(`{"epoch":"E","lines":9,"said":[[2,1]]}` + "\na\n"),
		"lines of no frame":   summed(`{"epoch":"E","lines":9,"said":[[1,1]]}` + "\na\nb\n"),
	}
	for n := range whole.Len() {
		flipped := bytes.Clone(whole.Bytes())
		flipped[n] ^= 1
		damagedFiles[fmt.Sprint("byte ", n)] = string(flipped)
		damagedFiles[fmt.Sprint("up to byte ", n)] = whole.String()[:n]
	}
	for name, content := range damagedFiles {
		if err := os.WriteFile(d.file("x"), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if s, err := d.Load("x"); err == nil {
			t.Errorf("%s: got %v", name, s)
		}
		if _, err := os.Stat(d.file("x")); !os.IsNotExist(err) {
			t.Errorf("%s: it is still there", name)
		}
		if aside, err := os.ReadFile(d.file("x") + damaged); err != nil || string(aside) != content {
			t.Errorf("%s: it is not set aside: %v", name, err)
		}
		os.Remove(d.file("x"))
	}
	if err := os.Mkdir(d.file("x"), 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Load("x"); err == nil {
		t.Error("a directory is loaded")
	}
	if err := d.Save("x", numbered(10)); err != nil {
		t.Error(err)
	}
	if err := syscall.Mkfifo(d.file("pipe"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Load("pipe"); err == nil {
		t.Error("a pipe is loaded")
	}
	if _, err := d.Load("y"); err == nil {
		t.Error("a room is loaded of which there is no file")
	}
}

// A program that is killed while it writes leaves a whole stream behind, and no other file.
func TestKilledWhileWriting(t *testing.T) {
	path := t.TempDir()
	kills := 40
	if wstest.Long() {
		kills = 400
	}
	for n := range kills {
		writer := exec.Command(os.Args[0])
		writer.Env = append(os.Environ(), writeForever+"="+path)
		saved, err := writer.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := writer.Start(); err != nil {
			t.Fatal(err)
		}
		saved.Read(make([]byte, 1))
		time.Sleep(rand.N(5 * time.Millisecond)) // another moment each time
		writer.Process.Kill()
		writer.Wait()
		d, complete, err := Open(path)
		if err != nil {
			t.Fatal(err)
		}
		if complete {
			t.Errorf("kill %d: it was not closed", n)
		}
		s, err := d.Load("")
		if err != nil || s.Lines == 0 || !reflect.DeepEqual(s, numbered(s.Lines)) {
			t.Fatalf("kill %d: %d lines, %v", n, s.Lines, err)
		}
		if files, err := os.ReadDir(path); err != nil || len(files) != 2 {
			t.Errorf("kill %d: files %v, %v", n, files, err)
		}
		d.Close(false)
	}
}

// BenchmarkSave writes 256 lines, as -state does once a second in a room that talks.
func BenchmarkSave(b *testing.B) {
	for _, size := range []int{64, 4096} {
		b.Run(fmt.Sprint("bytes=", size), func(b *testing.B) {
			s := Stream{Epoch: "EPOCH", Lines: 256}
			for range 256 {
				s.Frames = append(s.Frames, Frame{[]byte(strings.Repeat("x", size-1) + "\n"), time.Now().UnixMilli()})
			}
			d, _, err := Open(b.TempDir())
			if err != nil {
				b.Fatal(err)
			}
			defer d.Close(true)
			b.ReportAllocs()
			for b.Loop() {
				if err := d.Save("", s); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
