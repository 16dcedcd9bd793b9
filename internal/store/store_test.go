package store

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"example.com/chat/internal/stream"
)

// After a stop, rooms continue with the same epoch, lines and times, even rooms in which nothing was said. What
// is new is on the disk two seconds later.
func TestRestart(t *testing.T) {
	path := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		want := make(map[string]string)
		for run := range 5 {
			c := start(t, path, 100)
			if run == 0 {
				c.open("")
				c.open("lobby")
				c.open("silent")
			} else if !c.store.Complete() {
				t.Fatalf("run %d: got not complete, want complete", run)
			}
			for name, h := range c.hubs {
				if got := encoded(t, h.stream.Since(0)); run > 0 && got != want[name] {
					t.Errorf("run %d: room %q continues with %q, want %q", run, name, got, want[name])
				}
			}
			c.hubs["lobby"].say(numbered(run*60, run*60+60)...)
			c.hubs[""].say("hello")
			time.Sleep(2 * time.Second)
			if got, want := fileOf(t, path, "lobby"), fmt.Sprintf("\nline %d\n", run*60+59); !strings.Contains(got, want) {
				t.Errorf("run %d: the file is %q, want it to contain %q", run, got, want)
			}
			c.hubs["lobby"].say("the last line before the stop")
			c.close(nil)
			for name, h := range c.hubs {
				want[name] = encoded(t, h.stream.Since(0))
			}
		}
	})
}

// After a crash, rooms have the lines up to the last write, and a new epoch. That epoch stays after the next
// stop.
func TestCrash(t *testing.T) {
	path := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		c := start(t, path, 100)
		c.open("lobby").say(numbered(0, 10)...)
		time.Sleep(2 * time.Second)
		before := c.hubs["lobby"].stream.Epoch()
		c.hubs["lobby"].say(numbered(10, 15)...)
		c.stop()
		c.running.Wait()
		c.hubs["lobby"].halt()
		c.store.dir.closeFiles()

		c = start(t, path, 100)
		if c.store.Complete() {
			t.Error("got complete after a crash, want not complete")
		}
		lobby := c.hubs["lobby"]
		if got := lobby.stream.End().Lines; got != 10 {
			t.Errorf("got %d lines, want the 10 that were written", got)
		}
		time.Sleep(2 * time.Second) // the new epoch is written although nothing is said
		if got := fileOf(t, path, "lobby"); !strings.HasPrefix(got, `{"epoch":"`+lobby.stream.Epoch()+`","lines":10,`) || !strings.Contains(got, `"former":[{"epoch":"`+before+`","end":10}]`) {
			t.Errorf("got file %q, want a new epoch with 10 lines after epoch %s", got, before)
		}
		lobby.say("line 10")
		c.close(nil)
		want := encoded(t, lobby.stream.Since(0))

		c = start(t, path, 100)
		if got := encoded(t, c.hubs["lobby"].stream.Since(0)); got != want {
			t.Errorf("after the next stop: got %q, want %q", got, want)
		}
		c.close(nil)
	})
}

// A Hub is asked for all lines at first, then for the lines since the last write. It is not asked if nothing
// is new.
func TestRequests(t *testing.T) {
	path := t.TempDir()
	for _, history := range []int{100, 5, 0} {
		synctest.Test(t, func(t *testing.T) {
			s := open(t, path, history)
			ctx, stop := context.WithCancel(t.Context())
			var running sync.WaitGroup
			running.Go(func() { s.Run(ctx) })
			room, live := s.Room("lobby", false), stream.New(history)
			for _, test := range []struct {
				add, wantSince int // -1: want no request
			}{{0, 0}, {0, -1}, {3, 0}, {1, 3}, {0, -1}, {20, 4}, {1, 24}} {
				add(live, numbered(0, test.add)...)
				end := live.End().Lines
				if got := room.Lacks(end); got != (test.wantSince >= 0) {
					t.Errorf("history %d, at line %d: Lacks is %v, want %v", history, end, got, !got)
				}
				room.Offer(end)
				got := -1
				for asked := false; ; {
					select {
					case q := <-room.Requests():
						if asked {
							t.Errorf("history %d, at line %d: asked twice", history, end)
						}
						asked, got = true, int(q.Since)
						q.Answer(live.Since(q.Since))
						continue
					case <-time.After(time.Second):
					}
					break
				}
				if got != test.wantSince {
					t.Errorf("history %d, at line %d: asked since %d, want %d", history, end, got, test.wantSince)
				}
				if room.Lacks(end) {
					t.Errorf("history %d, at line %d: the store still lacks lines after the answer", history, end)
				}
				if got, want := fileOf(t, path, "lobby"), sealed(encoded(t, live.Since(0))); got != want {
					t.Errorf("history %d, at line %d: got file %q, want %q", history, end, got, want)
				}
			}
			stop()
			running.Wait()
			room.Finish(live.Since)
			s.Close(nil)
		})
	}
}

// A room is not written while nothing is said in it, even if it was restored.
func TestSilentRoomIsNotWritten(t *testing.T) {
	path := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		c := start(t, path, 100)
		c.open("lobby").say("line 0")
		time.Sleep(3 * time.Second)
		kept := fileOf(t, path, "lobby")
		file := filepath.Join(path, "room-lobby.txt")
		notWritten := func(when string) {
			t.Helper()
			if err := os.Remove(file); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Minute)
			if got := fileOf(t, path, "lobby"); got != "" {
				t.Errorf("%s: the room was written: %q", when, got)
			}
			if err := os.WriteFile(file, []byte(kept), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		notWritten("after a line")
		c.close(nil)
		c = start(t, path, 100)
		notWritten("after a restart")
		c.hubs["lobby"].say("line 1")
		c.close(nil)
		if got := fileOf(t, path, "lobby"); !strings.Contains(got, "\nline 0\nline 1\n") {
			t.Errorf("after another line: got %q, want both lines", got)
		}
	})
}

// All rooms that talk are written in turn, no matter how often some of them are offered.
func TestManyRooms(t *testing.T) {
	path := t.TempDir()
	const many = 100
	synctest.Test(t, func(t *testing.T) {
		c := start(t, path, 100)
		for n := range many {
			c.open(fmt.Sprint(n))
		}
		for n := range 5 {
			for _, h := range c.hubs {
				h.say(fmt.Sprint("line ", n))
			}
			time.Sleep(2 * time.Second)
			for name := range c.hubs {
				if got, want := fileOf(t, path, name), fmt.Sprintf("\nline %d\n", n); !strings.Contains(got, want) {
					t.Fatalf("2 s after line %d the file of room %s is %q, want it to contain %q", n, name, got, want)
				}
			}
		}
		c.close(nil)
	})
}

// slowFiles is a backend on a disk that takes a second for an append.
type slowFiles struct {
	*files
	appended []string // room and time of each append
	began    time.Time
}

func (p *slowFiles) append(room string, r stream.Record, whole bool) error {
	p.appended = append(p.appended, fmt.Sprint(room, " ", time.Since(p.began)))
	time.Sleep(time.Second)
	return p.files.append(room, r, whole)
}

// After a write that took 1 s, the store rests for 3 s, and a stop does not wait for that. Rooms that always
// have new lines take turns.
func TestTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, t.TempDir(), 100)
		slow := &slowFiles{files: s.backend.(*files), began: time.Now()}
		s.backend = slow
		ctx, stop := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { s.Run(ctx) })
		for n := range 3 {
			room, live := s.Room(fmt.Sprint(n), false), stream.New(100)
			offers := time.NewTicker(100 * time.Millisecond)
			running.Go(func() {
				for {
					select {
					case <-offers.C:
						add(live, "line")
						room.Offer(live.End().Lines)
					case q := <-room.Requests():
						q.Answer(live.Since(q.Since))
					case <-ctx.Done():
						return
					}
				}
			})
			time.Sleep(10 * time.Millisecond)
		}
		time.Sleep(22 * time.Second)
		stopped := time.Now()
		stop()
		running.Wait()
		if took := time.Since(stopped); took != 0 {
			t.Errorf("Run returned %v after its context was done, want at once", took)
		}
		want := []string{"0 100ms", "1 4.1s", "2 8.1s", "0 12.1s", "1 16.1s", "2 20.1s"}
		if !slices.Equal(slow.appended, want) {
			t.Errorf("got appends %q, want %q", slow.appended, want)
		}
		if n := s.due.Len(); n != 3 {
			t.Errorf("got %d places in the queue after many offers, want one for each of 3 rooms", n)
		}
		s.Abandon()
	})
}

// A room that ends while the store waits for its Hub does not keep other rooms waiting, and neither does
// Run's end.
func TestHubThatHasStopped(t *testing.T) {
	path := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		c := start(t, path, 100)
		stopped := c.store.Room("stopped", false)
		stopped.Offer(1)
		synctest.Wait()
		c.open("lobby").say("line 0")
		time.Sleep(time.Minute)
		stopped.End()
		stopped.End()
		time.Sleep(2 * time.Second)
		if got := fileOf(t, path, "lobby"); !strings.Contains(got, "line 0") {
			t.Errorf("got %q for the other room, want its line", got)
		}
		stopped.Offer(2) // which comes too late
		last := c.store.Room("last", false)
		last.Offer(1)
		synctest.Wait()
		last.End()
		stopped = c.store.Room("stopped", false)
		stopped.Offer(1)
		synctest.Wait()
		go c.stop()
		c.running.Wait()
		stopped.End()
		c.close(nil)
	})
	if got := slices.Sorted(maps.Keys(read(t, open(t, path, 100)))); !slices.Equal(got, []string{"lobby"}) {
		t.Errorf("got rooms %q, want lobby", got)
	}
}

// Files that are damaged, or another program's, do no harm. A damaged one is set aside, and others stay as
// they are.
func TestForeignFiles(t *testing.T) {
	log := captureLog(t)
	path := t.TempDir()
	s := open(t, path, 10)
	for _, name := range []string{"", "a", "b", "c"} {
		live := stream.New(10)
		add(live, "kept in "+name)
		s.Room(name, false).Finish(live.Since)
	}
	s.Close(nil)
	files := map[string]string{"room-b.txt": "garbage", "room-Not A Name.txt": "x", "notes.txt": "y", "room-b.txt.damaged": "older"}
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(path, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s = open(t, path, 10)
	asked := make(map[string]bool)
	records, err := s.Read(func(room string) bool { asked[room] = true; return !strings.Contains(room, " ") })
	if err != nil || len(records) != 3 || asked[""] {
		t.Errorf("got %v, %v; want 3 rooms, and no question about the nameless one", records, err)
	}
	for _, name := range []string{"", "a", "c"} {
		if got, want := text(records[name]), "kept in "+name+"\n"; got != want {
			t.Errorf("room %q: got %q, want %q", name, got, want)
		}
	}
	for name, want := range map[string]string{"room-b.txt.damaged": "garbage", "room-Not A Name.txt": "x", "notes.txt": "y"} {
		if got, err := os.ReadFile(filepath.Join(path, name)); string(got) != want {
			t.Errorf("%s: got %q, %v; want %q", name, got, err, want)
		}
	}
	wantLogged(t, log, map[string]int{
		"room not restored: file set aside": 1, "room-b.txt: file is corrupt or truncated": 1,
		"a file in -state is not named after a room": 1, `name="Not A Name"`: 1,
	})
}

// If somebody changes a room's file while the store is open, the next write replaces it with all lines of the
// history.
func TestFileChangedWhileRunning(t *testing.T) {
	log := captureLog(t)
	path := t.TempDir()
	file := filepath.Join(path, "room-lobby.txt")
	synctest.Test(t, func(t *testing.T) {
		c := start(t, path, 100)
		lobby := c.open("lobby")
		lobby.say("line 0")
		time.Sleep(2 * time.Second)
		old := fileOf(t, path, "lobby")
		n := 1
		next := func() { lobby.say(numbered(n, n+1)...); n++ }
		next()
		time.Sleep(2 * time.Second)
		check := func(change string) {
			t.Helper()
			if got, want := fileOf(t, path, "lobby"), strings.Join(numbered(0, n), "\n")+"\n"; !strings.Contains(got, want) {
				t.Errorf("%s: got file %q, want it to contain %q", change, got, want)
			}
		}
		changes := map[string]func() error{
			"damaged":          func() error { return os.WriteFile(file, []byte("garbage"), 0o600) },
			"deleted":          func() error { return os.Remove(file) },
			"an older version": func() error { return os.WriteFile(file, []byte(old), 0o600) },
		}
		for name, change := range changes {
			if err := change(); err != nil {
				t.Fatal(err)
			}
			next()
			time.Sleep(2 * time.Second)
			check(name)
		}
		if err := changes["deleted"](); err != nil {
			t.Fatal(err)
		}
		next()
		c.close(nil)
		check("deleted before the stop")
	})
	if !open(t, path, 100).Complete() {
		t.Error("got not complete, want complete")
	}
	wantLogged(t, log, map[string]int{"a room's file in -state was changed or damaged: writing it anew": 4, "ERROR": 0})
}

// While a room can't be written the chat goes on. The first failure is logged once, and so is the end of the
// last one. No line is missing afterwards.
func TestDiskFull(t *testing.T) {
	log := captureLog(t)
	path := t.TempDir()
	obstacles := []string{filepath.Join(path, "room-a.txt.tmp"), filepath.Join(path, "room-b.txt.tmp")}
	synctest.Test(t, func(t *testing.T) {
		c := start(t, path, 100)
		c.open("a").say(numbered(0, 10)...)
		time.Sleep(2 * time.Second)
		for _, obstacle := range obstacles { // in place of a disk that is full
			if err := os.Mkdir(obstacle, 0o700); err != nil {
				t.Fatal(err)
			}
		}
		c.open("b")
		c.open("c")
		for n := 10; n < 100; n += 10 {
			for _, h := range c.hubs {
				h.say(numbered(n, n+10)...)
			}
			time.Sleep(2 * time.Second)
		}
		for _, name := range []string{"a", "b", "c"} {
			if got, want := strings.Contains(fileOf(t, path, name), "line 99\n"), name == "c"; got != want {
				t.Errorf("room %s: written is %v, want %v", name, got, want)
			}
		}
		for i, obstacle := range obstacles {
			wantLogged(t, log, map[string]int{"state can't be written": 1, "state can be written again": 0})
			if err := os.Remove(obstacle); err != nil {
				t.Fatal(err)
			}
			time.Sleep(2 * time.Second)
			name, first := []string{"a", "b"}[i], []int{0, 10}[i]
			if got, want := fileOf(t, path, name), strings.Join(numbered(first, 100), "\n")+"\n"; !strings.Contains(got, "]}\n"+want) {
				t.Errorf("room %s: got file %q, want the lines %q", name, got, want)
			}
		}
		wantLogged(t, log, map[string]int{"state can't be written": 1, "state can be written again": 1})
		c.close(nil)
	})
	if !open(t, path, 100).Complete() {
		t.Error("got not complete, want complete")
	}
}

// A room that ends while it can't be written is no failure any longer.
func TestFailingRoomEnds(t *testing.T) {
	log := captureLog(t)
	path := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		c := start(t, path, 100)
		if err := os.Mkdir(filepath.Join(path, "room-a.txt.tmp"), 0o700); err != nil {
			t.Fatal(err)
		}
		c.open("a").say("line")
		time.Sleep(3 * time.Second)
		wantLogged(t, log, map[string]int{"state can't be written": 1, "state can be written again": 0})
		c.end("a")
		synctest.Wait()
		wantLogged(t, log, map[string]int{"state can't be written": 1, "state can be written again": 1})
		c.close(nil)
	})
	if !open(t, path, 100).Complete() {
		t.Error("got not complete, want complete")
	}
}

// A room's file is removed when the room ends, even a file that was restored. A room that was never written
// has none.
func TestEndedRooms(t *testing.T) {
	path := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		c := start(t, path, 100)
		for _, name := range []string{"written", "restored", "last"} {
			c.open(name).say("line")
		}
		c.open("new").say("line")
		time.Sleep(2 * time.Second)
		c.end("written")
		time.Sleep(time.Second)
		if got := fileOf(t, path, "written"); got != "" {
			t.Errorf("got file %q after the room has ended, want none", got)
		}
		c.end("new")
		c.close(nil)

		c = start(t, path, 100)
		c.end("restored")
		c.open("unwritten")
		c.end("unwritten")
		time.Sleep(time.Second)
		if got := fileOf(t, path, "restored"); got != "" {
			t.Errorf("got file %q after the restored room has ended, want none", got)
		}
		c.stop()
		c.running.Wait()
		c.end("last")
		c.close(nil)
	})
	s := open(t, path, 100)
	if rooms := read(t, s); len(rooms) != 0 || !s.Complete() {
		t.Errorf("got rooms %v and complete %v, want no room and complete", rooms, s.Complete())
	}
}

// A room that ends while it waits is not written, even if its Hub still answers. It must not come back with
// the next start.
func TestWaitingRoomEnds(t *testing.T) {
	path := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		c := start(t, path, 100)
		c.store.backend = &slowFiles{files: c.store.backend.(*files)}
		c.open("slow").room.Offer(1)
		synctest.Wait() // it is being written
		for n := range 20 {
			waiting := c.open(fmt.Sprint(n))
			waiting.room.Offer(1)
			waiting.room.End()
		}
		time.Sleep(time.Minute)
		for n := range 20 {
			c.end(fmt.Sprint(n))
		}
		c.close(nil)
	})
	s := open(t, path, 100)
	if rooms := slices.Sorted(maps.Keys(read(t, s))); !slices.Equal(rooms, []string{"slow"}) || !s.Complete() {
		t.Errorf("got rooms %q and complete %v, want the other room and complete", rooms, s.Complete())
	}
}

// A room that is opened again under the name of one that has ended keeps its own file, even if End is called
// late. Nothing of the old room is left.
func TestReopenedRooms(t *testing.T) {
	for name, end := range map[string]func(c *chat, old *hub, reopen func() *hub){
		"at once": func(c *chat, old *hub, reopen func() *hub) {
			old.room.End()
			reopen()
		},
		"after the removal": func(c *chat, old *hub, reopen func() *hub) {
			old.room.End()
			time.Sleep(3 * time.Second)
			reopen()
		},
		"before the end": func(c *chat, old *hub, reopen func() *hub) {
			reopen()
			old.room.End()
		},
		"and written before the end": func(c *chat, old *hub, reopen func() *hub) {
			reopen()
			time.Sleep(3 * time.Second)
			old.room.End()
		},
		"while the old one is being asked": func(c *chat, old *hub, reopen func() *hub) {
			old.room.Offer(1000)
			synctest.Wait()
			reopen()
			old.room.End()
		},
		"and the end comes after Run": func(c *chat, old *hub, reopen func() *hub) {
			reopen()
			time.Sleep(3 * time.Second)
			c.stop()
			c.running.Wait()
			old.room.End()
		},
	} {
		t.Run(name, func(t *testing.T) {
			path := t.TempDir()
			synctest.Test(t, func(t *testing.T) {
				c := start(t, path, 100)
				old := c.open("lobby")
				old.say("old line")
				time.Sleep(3 * time.Second)
				old.halt()
				end(c, old, func() *hub {
					h := c.open("lobby")
					h.say("new line")
					return h
				})
				if name != "and the end comes after Run" {
					time.Sleep(3 * time.Second)
					if got := fileOf(t, path, "lobby"); !strings.Contains(got, "]}\nnew line\n") {
						t.Errorf("got file %q, want the new line alone", got)
					}
				}
				c.close(nil)
			})
			s := open(t, path, 100)
			if got := text(read(t, s)["lobby"]); got != "new line\n" || !s.Complete() {
				t.Errorf("after a stop: got %q and complete %v, want the new line and complete", got, s.Complete())
			}
		})
	}
}

// A file that can't be removed counts as a failed write. The removal is tried again with the next turn.
func TestFailedRemoval(t *testing.T) {
	log := captureLog(t)
	path := t.TempDir()
	file := filepath.Join(path, "room-lobby.txt")
	synctest.Test(t, func(t *testing.T) {
		c := start(t, path, 100)
		c.open("lobby").say("line")
		c.open("other")
		time.Sleep(2 * time.Second)
		if err := os.Remove(file); err != nil {
			t.Fatal(err)
		}
		if err := os.MkdirAll(filepath.Join(file, "below"), 0o700); err != nil { // a directory that can't be removed
			t.Fatal(err)
		}
		c.end("lobby")
		synctest.Wait()
		wantLogged(t, log, map[string]int{"state can't be written": 1, "state can be written again": 0})
		if err := os.Remove(filepath.Join(file, "below")); err != nil {
			t.Fatal(err)
		}
		c.hubs["other"].say("line")
		time.Sleep(2 * time.Second)
		wantLogged(t, log, map[string]int{"state can't be written": 1, "state can be written again": 1})
		if _, err := os.Stat(file); !os.IsNotExist(err) {
			t.Errorf("the file is still there: %v", err)
		}
		c.close(nil)
	})
}

// A store that could not write everything says so, and leaves the directory marked as not closed. So numbers
// are not used twice.
func TestIncompleteClose(t *testing.T) {
	for name, obstacle := range map[string]string{"a room": "room-lobby.txt.tmp", "the relay": "relay.txt.tmp"} {
		log := captureLog(t)
		path := t.TempDir()
		synctest.Test(t, func(t *testing.T) {
			c := start(t, path, 100)
			c.open("lobby").say("line 0")
			c.open("other").say("line 0")
			if err := os.Mkdir(filepath.Join(path, obstacle), 0o700); err != nil {
				t.Fatal(err)
			}
			c.close([]byte("relay"))
		})
		wantLogged(t, log, map[string]int{"state can't be written": 1, "state is incomplete: the next start takes this stop for a crash": 1})
		s := open(t, path, 100) // which removes the obstacle
		if s.Complete() {
			t.Errorf("%s can't be written: got complete, want not complete", name)
		}
		if got := text(read(t, s)["other"]); got != "line 0\n" {
			t.Errorf("%s can't be written: another room has %q, want its line", name, got)
		}
	}
}

// A room that was opened again and can't be written is missing, although the old one of its name has ended.
func TestIncompleteCloseOfReopenedRoom(t *testing.T) {
	path := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		c := start(t, path, 100)
		old := c.open("lobby")
		old.halt()
		c.open("lobby")
		old.room.End()
		if err := os.Mkdir(filepath.Join(path, "room-lobby.txt.tmp"), 0o700); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Second)
		c.close(nil)
	})
	if open(t, path, 100).Complete() {
		t.Error("got complete, want not complete")
	}
}

// A start that fails does not make a crash of the stop before it, nor the reverse.
func TestFailedStart(t *testing.T) {
	path := t.TempDir()
	live := stream.New(100)
	add(live, "line 0")
	s := open(t, path, 100)
	s.Room("lobby", false).Finish(live.Since)
	s.Close(nil)
	if err := os.Mkdir(filepath.Join(path, "relay.txt"), 0o700); err != nil {
		t.Fatal(err)
	}
	for i, want := range []bool{true, true, false, false} {
		if i == 2 {
			open(t, path, 100).dir.closeFiles() // a crash
		}
		s := open(t, path, 100)
		if got := s.Complete(); got != want {
			t.Errorf("got complete %v, want %v", got, want)
		}
		if got := text(read(t, s)["lobby"]); got != "line 0\n" {
			t.Errorf("got %q for the room, want its line", got)
		}
		if relay, err := s.TakeRelay(); err == nil || !strings.Contains(err.Error(), "relay.txt: not a regular file") {
			t.Errorf("took %q, %v; want an error that names relay.txt", relay, err)
		}
		if err := s.Abandon(); err != nil {
			t.Error(err)
		}
	}
}

// A nil Store and a nil Room do nothing, and never block.
func TestNil(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s *Store
		records, err := s.Read(anyName)
		if len(records) != 0 || err != nil {
			t.Errorf("Read: got %v, %v; want nothing", records, err)
		}
		if relay, err := s.TakeRelay(); relay != nil || err != nil {
			t.Errorf("TakeRelay: got %q, %v; want nothing", relay, err)
		}
		if err := s.Abandon(); err != nil || s.Complete() {
			t.Errorf("Abandon: got %v, and complete %v; want no error, and not complete", err, s.Complete())
		}
		r := s.Room("lobby", false)
		if r != nil || r.Requests() != nil || r.Lacks(1) {
			t.Errorf("Room: got %v with requests %v, lacks %v; want nil, nil, false", r, r.Requests(), r.Lacks(1))
		}
		r.Offer(1)
		r.End()
		r.Finish(func(uint64) stream.Record { t.Error("Finish asks for lines"); return stream.Record{} })
		ctx, stop := context.WithTimeout(t.Context(), time.Minute)
		defer stop()
		began := time.Now()
		s.Run(ctx)
		if got := time.Since(began); got != time.Minute {
			t.Errorf("Run returned after %v, want when its context was done, after 1m0s", got)
		}
		s.Close([]byte("relay"))
	})
}
