package store

import (
	"crypto/rand"
	"fmt"
	mathrand "math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"example.com/chat/internal/stream"
	"example.com/chat/internal/wstest"
)

// runsNamed returns the lines of runs in the lock. Their names have the letters A to J as digits.
func runsNamed(first, last int) (text string) {
	for n := first; n <= last; n++ {
		text += "RUN" + strings.Map(func(digit rune) rune { return digit - '0' + 'A' }, fmt.Sprintf("%023d", n)) + "\n"
	}
	return text
}

// The lock has a line for each run since the directory was closed, the oldest first. Lines that name no run
// are left out, such as those that a write has torn. A start that fails leaves no run, and a stop leaves none
// at all.
func TestLock(t *testing.T) {
	const inUse = "in use, or not closed\n"
	for _, test := range []struct {
		name, before string
		earlier      string // runs in the lock while the directory is open, before the new one
		complete     bool
	}{
		{"new", "", "", false},
		{"closed", "closed\n", "", true},
		{"an older program's", inUse, "", false},
		{"a crash", inUse + runsNamed(2, 2), runsNamed(2, 2), false},
		{"three crashes", inUse + runsNamed(2, 4), runsNamed(2, 4), false},
		{"99 crashes", inUse + runsNamed(2, 100), runsNamed(2, 100), false},
		{"100 crashes", inUse + runsNamed(2, 101), runsNamed(3, 101), false},
		{"a torn run", inUse + runsNamed(2, 3) + "RUNAAAA", runsNamed(2, 3), false},
		{"a run without line break", inUse + runsNamed(2, 3) + strings.TrimSpace(runsNamed(4, 4)), runsNamed(2, 3), false},
		{"a torn stop", "closed\n or not closed\n" + runsNamed(2, 3), runsNamed(2, 3), false},
		{"a torn mark", "in use,", "", false},
		{"a torn mark after a stop", "closed\n\x00\x00\x00", "", false},
		{"other lines", inUse + "run\n\n" + runsNamed(2, 2) + "\x00\n" + strings.ToLower(runsNamed(3, 3)) + runsNamed(4, 4), runsNamed(2, 2) + runsNamed(4, 4), false},
		{"garbage", strings.Repeat("x", 1<<20), "", false},
	} {
		for _, end := range []string{"crash", "stop", "abandon"} {
			path := t.TempDir()
			lock := filepath.Join(path, "lock")
			must(t, os.WriteFile(lock, []byte(test.before), 0o600))
			s := open(t, path)
			got, err := os.ReadFile(lock)
			must(t, err)
			this, ok := strings.CutPrefix(string(got), inUse+test.earlier)
			if !ok || len(this) != 27 || this != s.dir.runs.this+"\n" || s.dir.runs.complete != test.complete {
				t.Errorf("%s: got %q, complete %v; want %q and one run, complete %v", test.name, got, s.dir.runs.complete, inUse+test.earlier, test.complete)
			}
			want := string(got)
			switch end {
			case "crash":
				s.dir.close("")
			case "stop":
				s.Close(nil)
				want = "closed\n"
			case "abandon":
				must(t, s.Abandon())
				want = inUse + test.earlier
				if test.complete {
					want = "closed\n"
				}
			}
			if got, err := os.ReadFile(lock); err != nil || string(got) != want {
				t.Errorf("%s, after a %s: got %q, %v; want %q", test.name, end, got, err, want)
			}
		}
	}
}

// After a crash a room continues in the run's epoch. Its epoch before, and all runs between the one that
// wrote its file and this one, are past epochs that end with the lines that are known. After a stop nothing
// changes.
func TestResume(t *testing.T) {
	past := func(epochs ...string) (past []stream.PastEpoch) {
		for n, epoch := range epochs {
			past = append(past, stream.PastEpoch{Epoch: epoch, End: uint64(n)})
		}
		return past
	}
	var hundred []string
	for n := range 100 {
		hundred = append(hundred, fmt.Sprint(n))
	}
	for _, test := range []struct {
		runs   runs
		writer string
		past   []string
		epoch  string
		want   []string // past epochs
	}{
		{runs{complete: true, this: "R3"}, "R1", []string{"P"}, "E", []string{"P"}},
		{runs{this: "R3"}, "R1", []string{"P"}, "R3", []string{"P", "E"}},
		{runs{this: "R3", before: []string{"R1", "R2"}}, "R1", []string{"P"}, "R3", []string{"P", "E", "R2"}},
		{runs{this: "R3", before: []string{"R1", "R2"}}, "R2", nil, "R3", []string{"E"}},
		{runs{this: "R4", before: []string{"R1", "R2", "R3"}}, "R1", nil, "R4", []string{"E", "R2", "R3"}},
		{runs{this: "R4", before: []string{"R1", "R2", "R3"}}, "R0", nil, "R4", []string{"E", "R1", "R2", "R3"}},
		{runs{this: "R4", before: []string{"R1", "R2", "R3"}}, "", nil, "R4", []string{"E", "R1", "R2", "R3"}},
		{runs{this: "R2", before: []string{"R1"}}, "R0", hundred, "R2", slices.Concat(hundred[2:], []string{"E", "R1"})},
	} {
		record := stream.Record{Epoch: "E", End: 9, Past: past(test.past...)}
		got := test.runs.resume(record, test.writer)
		var epochs []string
		for _, p := range got.Past {
			epochs = append(epochs, p.Epoch)
			if want := uint64(slices.Index(test.past, p.Epoch)); p.End != want && !(p.End == 9 && !slices.Contains(test.past, p.Epoch)) {
				t.Errorf("%+v: got epoch %v", test, p)
			}
		}
		if got.Epoch != test.epoch || !slices.Equal(epochs, test.want) {
			t.Errorf("%+v: got epoch %s after %v", test, got.Epoch, epochs)
		}
	}
}

// visitor is a client that comes back to a room with its position.
type visitor struct {
	since string
	heard []string
}

// visit gives v the lines that it lacks of s. No line may come twice, and none that s has may be missing.
// If v is new in the epoch and forgets, it does not count what it heard before.
func (v *visitor) visit(s *stream.Stream, forgets bool) error {
	if forgets && !strings.HasPrefix(v.since, s.Epoch()+".") {
		v.heard = nil
	}
	reader := s.NewReaderSince(v.since)
	known := make(map[string]bool)
	for _, line := range v.heard {
		known[line] = true
	}
	line := uint64(0)
	for _, f := range s.Since(0).Frames {
		text := string(f.Lines)
		if line < reader.Line() && !known[text] {
			return fmt.Errorf("%s is line %d, want line %d, which is missing", v.since, reader.Line(), line)
		} else if line >= reader.Line() && known[text] {
			return fmt.Errorf("%s is line %d, and line %d comes twice", v.since, reader.Line(), line)
		} else if line >= reader.Line() {
			v.heard = append(v.heard, text)
		}
		line++
	}
	v.since = fmt.Sprintf("%s.%d", s.Epoch(), line)
	return nil
}

// However a program is killed, while it starts, before it has written anything, or later, and whatever stops,
// failed starts, and ends of the room come between: a client that comes back with its last position gets each
// line of the room once, and misses none that was stored.
//
// There is one exception. If the room has ended, opens again, and is entered before the store has removed its
// file, and the program is killed then, the lines of the ended room come back.
func TestPositionsOutliveCrashes(t *testing.T) {
	for seed := range map[bool]int{false: 30, true: 500}[wstest.Long()] {
		random := mathrand.New(mathrand.NewPCG(uint64(seed), 1))
		path, said := t.TempDir(), 0
		visitors := make([]*visitor, 4)
		for i := range visitors {
			visitors[i] = new(visitor)
		}
		history := ""
		for range 12 {
			s := open(t, path)
			if random.IntN(6) == 0 {
				history += " killed-at-the-start"
				s.dir.close("")
				continue
			}
			record, found := readAll(t, s)["x"]
			if random.IntN(8) == 0 {
				history += " failed-start"
				must(t, s.Abandon())
				continue
			}
			live := stream.New(100)
			if found {
				live = stream.Restore(100, record)
			}
			room := s.Room("x", found)
			removed := true
			for range random.IntN(5) {
				switch step := random.IntN(6); step {
				default:
					history += " say"
					add(live, fmt.Sprint("line ", said))
					said++
				case 3:
					history += " write"
					s.write(room, func(since uint64) (stream.Record, bool) { return live.Since(since), true })
				case 4, 5:
					if random.IntN(3) > 0 {
						break
					}
					history += " reopen"
					room.End()
					if removed = step == 5; removed {
						history += "-removed"
						s.removeEnded()
					}
					room, live = s.Room("x", false), stream.New(100)
				}
				for _, v := range visitors {
					if random.IntN(2) == 0 {
						if err := v.visit(live, !removed); err != nil {
							t.Fatalf("seed %d, after%s: %v", seed, history, err)
						}
					}
				}
			}
			if random.IntN(4) == 0 {
				history += " stop;"
				room.Finish(live.Since)
				s.Close(nil)
			} else {
				history += " crash;"
				s.dir.close("")
			}
		}
	}
}

// A position of the last 100 crashed runs is valid, whether these have written the room or not. A position of
// an older run is none.
func TestManyCrashes(t *testing.T) {
	for _, writes := range []bool{false, true} {
		path := t.TempDir()
		s := open(t, path)
		live := stream.New(100)
		add(live, numbered(0, 10)...)
		s.Room("x", false).Finish(live.Since)
		epochs := []string{live.Epoch()}
		for range 102 {
			s.dir.close("")
			s = open(t, path)
			live = stream.Restore(100, readAll(t, s)["x"])
			epochs = append(epochs, live.Epoch())
			if writes {
				s.Room("x", true).Finish(live.Since)
			}
		}
		if len(slices.Compact(slices.Sorted(slices.Values(epochs)))) != 103 {
			t.Errorf("got epochs %v, want another one after each crash", epochs)
		}
		for n, epoch := range epochs {
			want := uint64(7)
			if writes && n < 2 || !writes && n > 0 && n < 3 { // the epoch in the file counts, too
				want = 0
			}
			if r := live.NewReaderSince(epoch + ".7"); r.Line() != want {
				t.Errorf("writes %v, epoch %d: got line %d, want %d", writes, n, r.Line(), want)
			}
		}
	}
}

// A run's name is what rand.Text returns, so that the lock finds it again.
func TestRunName(t *testing.T) {
	if name := rand.Text(); !runName.MatchString(name) {
		t.Errorf("got the name %q, want 26 letters and digits", name)
	}
}
