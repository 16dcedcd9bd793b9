package store

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"example.com/chat/internal/lines"
	"example.com/chat/internal/stream"
	"example.com/chat/internal/wstest"
)

// encoded returns r as it stands in a file.
func encoded(t testing.TB, r stream.Record) string {
	t.Helper()
	var b bytes.Buffer
	if err := encode(&b, r); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// filesOf returns the backend of a directory.
func filesOf(t *testing.T, path string, history uint64) *files {
	return &files{open(t, path, 0).dir, history}
}

// Many appends of what is new leave the same file as one append of everything, whatever the frames and the
// history, and through restarts, crashes, and appends that were written although they failed.
func TestAppendsEqualOneStream(t *testing.T) {
	p := filesOf(t, t.TempDir(), 0)
	runs := 40
	if wstest.Long() {
		runs = 5000
	}
	for seed := range runs {
		random := rand.New(rand.NewPCG(uint64(seed), 0))
		histories := []int{0, 1, 2, 3, 10, 100}
		history := histories[random.IntN(len(histories))]
		p.history = uint64(history)
		room := fmt.Sprint("room-", seed)
		live, stored, said := stream.New(history), uint64(0), 0
		for range 30 {
			for range random.IntN(6) {
				var text []byte
				for range 1 + random.IntN(4) {
					text = fmt.Appendf(text, "line %d%s\n", said, strings.Repeat("x", random.IntN(20)))
					said++
				}
				live.Append(stream.TextFrame(text), int64(said))
				live.Senders.Join("sender", 0).Receive(1)
				live.Senders.Commit()
				live.Marks.Accept(fmt.Sprint("origin ", random.IntN(3)), uint64(said), 1, time.UnixMilli(int64(said)))
				if random.IntN(2) == 0 { // else a connection needs old frames
					live.Trim(live.End().Lines)
				}
			}
			if err := p.append(room, live.Since(stored), stored == 0); err != nil {
				t.Fatalf("seed %d, history %d, %d lines after %d: %v", seed, history, live.End().Lines, stored, err)
			}
			got, err := p.load(room)
			if err != nil {
				t.Fatal(err)
			}
			if got, want := encoded(t, got), encoded(t, live.Since(0)); got != want {
				t.Fatalf("seed %d, history %d, after line %d: got\n%s\nwant\n%s", seed, history, stored, got, want)
			}
			switch random.IntN(6) {
			case 0: // the append seems to have failed
			case 1: // a stop, and a start with another history
				history = histories[random.IntN(len(histories))]
				p.history = uint64(history)
				live = stream.Restore(history, got, true)
				stored = live.End().Lines
			case 2: // a crash
				live, stored = stream.Restore(history, got, false), 0
			default:
				stored = live.End().Lines
			}
		}
		if err := p.remove(room); err != nil {
			t.Fatal(err)
		}
	}
}

// A record that does not continue the file's is refused, and the file stays as it is.
func TestAppendAfterGap(t *testing.T) {
	path := t.TempDir()
	p := filesOf(t, path, 100)
	live := stream.New(100)
	add(live, numbered(0, 10)...)
	if err := p.append("lobby", live.Since(0), true); err != nil {
		t.Fatal(err)
	}
	whole := fileOf(t, path, "lobby")
	other := stream.New(100)
	add(other, numbered(0, 10)...)
	for name, content := range map[string]string{
		"no file":       "",
		"damaged":       whole[1:],
		"another epoch": sealed(encoded(t, other.Since(0))),
	} {
		if content == "" {
			p.remove("lobby")
		} else if err := os.WriteFile(p.dir.file("lobby"), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := p.append("lobby", live.Since(8), false); !errors.Is(err, errGap) {
			t.Errorf("%s: got error %v, want errGap", name, err)
		}
		if got := fileOf(t, path, "lobby"); got != content {
			t.Errorf("%s: the file became %q, want %q", name, got, content)
		}
	}
	if err := os.WriteFile(p.dir.file("lobby"), []byte(whole), 0o600); err != nil {
		t.Fatal(err)
	}
	add(live, numbered(10, 20)...)
	if err := p.append("lobby", live.Since(11), false); !errors.Is(err, errGap) {
		t.Errorf("a line is missing: got error %v, want errGap", err)
	}
	if err := p.append("lobby", live.Since(11), true); err != nil {
		t.Errorf("a whole record: %v", err)
	}
	if got, want := fileOf(t, path, "lobby"), sealed(encoded(t, live.Since(11))); got != want {
		t.Errorf("a whole record: got %q, want %q", got, want)
	}
}

// A file that append has not written, or not to its end, is set aside, and the room can be written again.
func TestDamagedFiles(t *testing.T) {
	p := filesOf(t, t.TempDir(), 100)
	live := stream.New(100)
	add(live, numbered(0, 10)...)
	if err := p.append("x", live.Since(0), true); err != nil {
		t.Fatal(err)
	}
	file := p.dir.file("x")
	whole, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	damagedFiles := map[string]string{
		"empty":               "",
		"a line too many":     string(whole) + "more\n",
		"garbage":             strings.Repeat("garbage\n", 1000),
		"no JSON":             sealed("hello\nworld\n"),
		"a list":              sealed("[]\n"),
		"without an epoch":    sealed(`{"lines":1,"said":[[1,1]]}` + "\na\n"),
		"a frame of no lines": sealed(`{"epoch":"E","lines":1,"said":[[0,1]]}` + "\n"),
		"a negative frame":    sealed(`{"epoch":"E","lines":1,"said":[[-1,1]]}` + "\na\n"),
		"too many lines":      sealed(`{"epoch":"E","lines":0,"said":[[1,1]]}` + "\na\n"),
		"too few lines":       sealed(`{"epoch":"E","lines":9,"said":[[2,1]]}` + "\na\n"),
		"lines of no frame":   sealed(`{"epoch":"E","lines":9,"said":[[1,1]]}` + "\na\nb\n"),
	}
	for n := range whole {
		flipped := bytes.Clone(whole)
		flipped[n] ^= 1
		damagedFiles[fmt.Sprint("byte ", n)] = string(flipped)
		damagedFiles[fmt.Sprint("cut at byte ", n)] = string(whole[:n])
	}
	for name, content := range damagedFiles {
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if r, err := p.load("x"); !errors.Is(err, errCorrupt) || !strings.Contains(err.Error(), file+": file is corrupt or truncated") {
			t.Errorf("%s: got %v, %v; want an error that names the file", name, r, err)
		}
		if _, err := os.Stat(file); !os.IsNotExist(err) {
			t.Errorf("%s: the file is still there: %v", name, err)
		}
		if got, err := os.ReadFile(file + ".damaged"); err != nil || string(got) != content {
			t.Errorf("%s: set aside %q, %v; want what it was", name, got, err)
		}
	}
	if err := os.Mkdir(file, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(p.dir.file("pipe"), 0o600); err != nil {
		t.Fatal(err)
	}
	for room, want := range map[string]string{"x": "not a regular file", "pipe": "not a regular file", "y": "no such file"} {
		if _, err := p.load(room); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got error %v, want %q", room, err, want)
		}
	}
	if err := p.append("x", live.Since(0), true); err != nil {
		t.Errorf("the room can't be written afterwards: %v", err)
	}
}

// appendForever appends lines to the nameless room in a directory, and prints the number of lines after each
// append. Each line has its number, and the lines go on where the last program was killed.
func appendForever(path string) error {
	const history = 100
	s, err := Open(path, history)
	if err != nil {
		return err
	}
	records, err := s.Read(anyName)
	if err != nil {
		return err
	}
	live, stored := stream.New(history), uint64(0)
	if r, ok := records[""]; ok {
		live, stored = stream.Restore(history, r, true), r.End
	}
	for {
		for range 3 {
			n := live.End().Lines
			live.Append(stream.TextFrame(fmt.Appendf(nil, "line %d%s\n", n, strings.Repeat(" ", int(n%200)))), int64(n))
		}
		live.Trim(live.End().Lines)
		if err := s.backend.append("", live.Since(stored), stored == 0); err != nil {
			return err
		}
		stored = live.End().Lines
		fmt.Println(stored)
	}
}

// A program that is killed while it writes leaves a whole file behind that has all lines for which append has
// returned, and no other file.
func TestKilledWhileWriting(t *testing.T) {
	path := t.TempDir()
	kills := 40
	if wstest.Long() {
		kills = 400
	}
	for n := range kills {
		writer := exec.Command(os.Args[0])
		writer.Env = append(os.Environ(), writeForever+"="+path)
		out, err := writer.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := writer.Start(); err != nil {
			t.Fatal(err)
		}
		printed := make([]byte, 1)
		out.Read(printed)
		time.Sleep(rand.N(5 * time.Millisecond)) // another moment each time
		writer.Process.Kill()
		rest, err := io.ReadAll(out)
		if err != nil {
			t.Fatal(err)
		}
		writer.Wait()
		var appended uint64
		for number := range strings.FieldsSeq(string(printed) + string(rest)) {
			fmt.Sscan(number, &appended) // a number that was cut off is smaller, and so does no harm
		}

		s, err := Open(path, 100)
		if err != nil {
			t.Fatal(err)
		}
		if s.Complete() {
			t.Errorf("kill %d: got complete, want not complete", n)
		}
		r, err := s.backend.load("")
		if err != nil || r.End == 0 || r.End < appended || r.End > appended+6 {
			t.Fatalf("kill %d: got %d lines, %v; want at least the %d appended ones", n, r.End, err, appended)
		}
		line := r.First()
		if line > r.End-min(r.End, 100) {
			t.Errorf("kill %d: got the lines from %d to %d, want the last 100", n, line, r.End)
		}
		for _, f := range r.Frames {
			if want := fmt.Sprintf("line %d%s\n", line, strings.Repeat(" ", int(line%200))); string(f.Lines) != want || f.At != int64(line) {
				t.Fatalf("kill %d: got %q at %d, want %q at %d", n, f.Lines, f.At, want, line)
			}
			line += uint64(lines.Count(f.Lines))
		}
		if files, err := os.ReadDir(path); err != nil || len(files) != 2 {
			t.Errorf("kill %d: got files %v, %v; want the lock and room.txt", n, files, err)
		}
		s.dir.closeFiles()
	}
}

// BenchmarkAppend appends 5 lines to a room's history, as a store does once a second in a room that talks.
func BenchmarkAppend(b *testing.B) {
	for _, history := range []int{256, 100_000} {
		for _, size := range []int{64, 4096} {
			if history*size > 64<<20 {
				continue
			}
			b.Run(fmt.Sprintf("history=%d/bytes=%d", history, size), func(b *testing.B) {
				s, err := Open(filepath.Join(b.TempDir(), "state"), history)
				if err != nil {
					b.Fatal(err)
				}
				defer s.Close(nil)
				live := stream.New(history)
				say := func(n int) {
					for range n {
						live.Append(stream.TextFrame([]byte(strings.Repeat("x", size-1)+"\n")), time.Now().UnixMilli())
					}
					live.Trim(live.End().Lines)
				}
				say(history)
				if err := s.backend.append("", live.Since(0), true); err != nil {
					b.Fatal(err)
				}
				b.ReportAllocs()
				for b.Loop() {
					stored := live.End().Lines
					say(5)
					if err := s.backend.append("", live.Since(stored), false); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}
