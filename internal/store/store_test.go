package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"log/slog"
	"maps"
	"math"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"example.com/chat/internal/stream"
	"example.com/chat/internal/wstest"
)

func TestMain(m *testing.M) {
	syscall.Umask(0o022) // otherwise a store may refuse the directories that tests make
	wstest.Main(m)
}

var options = Options{History: 100, MaxRooms: 1000, FileLimit: 64 << 20}

// open opens a store, which is closed after the test as by a crash.
func open(t testing.TB, path string) *Store {
	t.Helper()
	s, err := Open(t.Context(), path, options)
	must(t, err)
	t.Cleanup(func() { s.dir.close("") })
	return s
}

// file returns the path of a room's file.
func (d *dir) file(room string) string { return filepath.Join(d.path, fileOf(room)) }

// readAll returns the records in s.
func readAll(t testing.TB, s *Store) map[string]stream.Record {
	t.Helper()
	records, err := s.Read(func(room string) bool { return !strings.Contains(room, " ") })
	must(t, err)
	return maps.Collect(records)
}

// wantStored compares the rooms in s with want, which is "map[ROOM:LINES]".
func wantStored(t testing.TB, s *Store, complete bool, want string) {
	t.Helper()
	texts := make(map[string]string)
	for room, record := range readAll(t, s) {
		texts[room] = string(bytes.Join(encode(record, "")[1:], nil))
	}
	if got := fmt.Sprint(texts); got != want || s.dir.runs.complete != complete {
		t.Errorf("got %q, complete %v; want %q, complete %v", got, s.dir.runs.complete, want, complete)
	}
}

// add appends lines to s, each in a frame of its own.
func add(s *stream.Stream, texts ...string) {
	for _, text := range texts {
		s.Append(stream.TextFrame([]byte(text+"\n")), 1000)
	}
	s.Trim(s.End().Lines, math.MaxInt64)
}

// numbered returns the lines "line FIRST" to "line LAST-1".
func numbered(first, last uint64) (texts []string) {
	for n := first; n < last; n++ {
		texts = append(texts, fmt.Sprint("line ", n))
	}
	return texts
}

// loadWhole returns the record in a room's file as it was written, as if the directory had been closed as
// complete.
func (d *dir) loadWhole(room string) (stream.Record, error) {
	before := d.runs
	defer func() { d.runs = before }()
	d.runs.complete = true
	r, _, err := d.load(room)
	return r, err
}

// allOf returns the content of a file that d writes for a whole stream.
func (d *dir) allOf(s *stream.Stream) string {
	return sealed(string(bytes.Join(encode(s.Since(0), d.runs.this), nil)))
}

// sealed returns content with its seal.
func sealed(content string) string {
	return fmt.Sprintf("%s%08x\n", content, crc32.ChecksumIEEE([]byte(content)))
}

// must ends the test if there is an error.
func must(t testing.TB, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

// wantFile checks that a file contains want. If want is "", there must be no file.
func wantFile(t testing.TB, path, want string) {
	t.Helper()
	got, err := os.ReadFile(path)
	if os.IsNotExist(err) != (want == "") || !strings.Contains(string(got), want) {
		t.Errorf("%s: got %q, %v; want %q", filepath.Base(path), got, err, want)
	}
}

// captureLog returns a function that checks how often texts have been logged since.
func captureLog(t *testing.T) func(want map[string]int) {
	log, before := new(bytes.Buffer), slog.Default()
	slog.SetDefault(slog.New(slog.NewTextHandler(log, nil)))
	t.Cleanup(func() { slog.SetDefault(before) })
	return func(want map[string]int) {
		t.Helper()
		for text, n := range want {
			if got := strings.Count(log.String(), text); got != n {
				t.Errorf("%q was logged %d times, want %d, in\n%s", text, got, n, log)
			}
		}
	}
}

// wait sleeps in a bubble, until the work that is due is done.
func wait(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// chat is a store whose Run runs, and Hubs as a store knows them.
type chat struct {
	store   *Store
	hubs    map[string]*hub
	cancel  context.CancelFunc
	running sync.WaitGroup
}

// hub is a goroutine that owns a stream, and offers its room once a second.
type hub struct {
	room   *Room
	stream *stream.Stream // owned by the goroutine until done is closed, as is asked
	asked  []uint64       // Since of each Request
	texts  chan []string
	done   chan struct{}
}

// start opens a store with a Hub for each room in it.
func start(t testing.TB, path string) *chat {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	c := &chat{store: open(t, path), hubs: make(map[string]*hub), cancel: cancel}
	for name, r := range readAll(t, c.store) {
		c.run(name, stream.Restore(100, r), true)
	}
	c.running.Go(func() { c.store.Run(ctx) })
	return c
}

// open opens a room with an empty stream.
func (c *chat) open(name string) *hub { return c.run(name, stream.New(100), false) }

func (c *chat) run(name string, s *stream.Stream, restored bool) *hub {
	h := &hub{room: c.store.Room(name, restored), stream: s, texts: make(chan []string), done: make(chan struct{})}
	c.hubs[name] = h
	go func() {
		defer close(h.done)
		sweeps := time.NewTicker(time.Second)
		for {
			select {
			case texts, ok := <-h.texts:
				if !ok {
					return
				}
				add(h.stream, texts...)
			case q := <-h.room.Requests():
				h.asked = append(h.asked, q.Since)
				q.Answer(h.stream.Since(q.Since))
			case <-sweeps.C:
				h.room.Offer(h.stream.End().Lines)
			}
		}
	}()
	return h
}

func (h *hub) say(texts ...string) { h.texts <- texts }

// halt stops the Hub.
func (h *hub) halt() {
	close(h.texts)
	<-h.done
}

// stop ends Run.
func (c *chat) stop() {
	c.cancel()
	c.running.Wait()
}

// close stops all Hubs, and closes the store.
func (c *chat) close(relay []byte) {
	c.stop()
	for _, h := range c.hubs {
		h.halt()
		h.room.Finish(h.stream.Since)
	}
	c.store.Close(relay)
}

// After a stop, rooms continue with the same epoch, lines and times. A room in which nothing was said has no
// file. What is new is on the disk two seconds later. A Hub is asked for what is new, and only then; once
// after a start it is asked for all of its history, which the store continues from then on.
func TestRestart(t *testing.T) {
	path := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		c := start(t, path)
		for _, name := range []string{"", "lobby", "silent"} {
			c.open(name)
		}
		for _, asked := range []string{"[0 60] [0 1] []", "[121 0 181] [2 0 3] []", "[242 0 302] [4 0 5] []"} {
			for _, last := range []string{"before", "after"} {
				c.hubs["lobby"].say(append(numbered(0, 59), last)...)
				c.hubs[""].say("hello")
				wait(2 * time.Second)
				wantFile(t, c.store.dir.file("lobby"), "\nline 58\n"+last+"\n")
				wait(3 * time.Second)
			}
			c.hubs["lobby"].say("the last line before the stop")
			c.close(nil)
			before, last := c.hubs, &c.store.dir
			if got := fmt.Sprint(before["lobby"].asked, before[""].asked, before["silent"].asked); got != asked {
				t.Errorf("got requests for the lines since %s, want %s", got, asked)
			}
			c = start(t, path)
			for name, h := range before {
				if name == "silent" {
					wantFile(t, c.store.dir.file(name), "")
					c.open(name)
					continue
				}
				wantFile(t, c.store.dir.file(name), last.allOf(h.stream))
				wantFile(t, c.store.dir.file(name), last.allOf(c.hubs[name].stream))
			}
		}
		c.close(nil)
	})
}

// After a crash, rooms have the lines up to the last write, and a new epoch. That epoch stays after the next
// stop.
func TestCrash(t *testing.T) {
	path := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		c := start(t, path)
		c.open("lobby").say(numbered(0, 110)...)
		wait(2 * time.Second)
		before := c.hubs["lobby"].stream.Epoch()
		c.hubs["lobby"].say(numbered(110, 115)...)
		c.stop()
		c.hubs["lobby"].halt()
		c.store.dir.close("")
		c = start(t, path)
		c.hubs["lobby"].say()
		wait(2 * time.Second) // the new epoch is written although nothing is said
		epoch := c.hubs["lobby"].stream.Epoch()
		wantFile(t, c.store.dir.file("lobby"), `"epoch":"`+epoch+`","lines":110,`)
		wantFile(t, c.store.dir.file("lobby"), `"former":[{"epoch":"`+before+`","end":110}]`)
		c.hubs["lobby"].say("line 110")
		c.close(nil)
		wantFile(t, c.store.dir.file("lobby"), `"epoch":"`+epoch+`","lines":111,`)
		wantStored(t, open(t, path), true, fmt.Sprintf("map[lobby:%s\n]", strings.Join(numbered(11, 111), "\n")))
	})
}

// After a write that took 1 s, the store rests for 3 s, and a stop does not wait for that. Rooms with new
// lines take turns. A room without them is not written, nor is one that ends while it waits, even if its Hub
// answers.
func TestTurns(t *testing.T) {
	path := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		c, began := start(t, path), time.Now()
		var writes []string
		c.store.dir.openFile = func(name string, flag int, mode os.FileMode) (*os.File, error) {
			writes = append(writes, fmt.Sprint(strings.Trim(name, "-.emoprtx"), " ", time.Since(began)))
			time.Sleep(time.Second)
			return c.store.dir.root.OpenFile(name, flag, mode)
		}
		for n := range 3 {
			c.open(fmt.Sprint(n))
			time.Sleep(10 * time.Millisecond)
		}
		for second := range 23 {
			for n := range 3 {
				if n != 1 || second < 4 {
					c.hubs[fmt.Sprint(n)].say("line")
				}
			}
			ended := c.open(fmt.Sprint("ended ", second))
			ended.room.Offer(1)
			ended.room.End()
			wait(time.Second)
		}
		stopped := time.Now()
		c.stop()
		if took := time.Since(stopped); took != 0 {
			t.Errorf("Run returned %v after its context was done, want at once", took)
		}
		if got, want := fmt.Sprint(writes), "[0 1s 1 5s 2 9s 0 13s 2 17s 0 21s]"; got != want || len(c.store.due) > len(c.hubs) {
			t.Errorf("got writes %s and %d rooms in the queue, want %s, and each room once", got, len(c.store.due), want)
		}
		c.close(nil)
	})
	all := strings.Repeat("line\n", 23)
	wantStored(t, open(t, path), true, fmt.Sprintf("map[0:%s 1:%s 2:%s]", all, all[:4*len("line\n")], all))
}

// The file of a room that ends is removed, and it does not come back. A room that is opened again under its
// name keeps its own file, even if End is called late. A Hub that has stopped keeps no other room waiting.
func TestEndedRooms(t *testing.T) {
	for _, steps := range []string{
		"end wait", "end end wait", "end ask wait", "restart end wait", "stop end", "ask wait end", "ask stop end",
		"end new end", "end new ask end", "end reopen wait", "end wait reopen wait", "reopen end wait",
		"reopen wait end wait", "ask reopen end wait", "reopen wait stop end",
		"end enter wait", "enter end wait", "stop end enter", "enter stop end",
	} {
		t.Run(steps, func(t *testing.T) {
			path := t.TempDir()
			want := strings.Repeat("]}\nnew line\n", strings.Count(steps, "reopen")) // in the file
			synctest.Test(t, func(t *testing.T) {
				c := start(t, path)
				c.open("lobby").say("old line")
				wait(2 * time.Second)
				if strings.HasPrefix(steps, "restart") {
					c.close(nil)
					c = start(t, path)
				}
				old := c.hubs["lobby"].room
				c.hubs["lobby"].halt()
				delete(c.hubs, "lobby")
				for step := range strings.FieldsSeq(steps) {
					switch step {
					case "ask": // the store waits for the Hub that has stopped
						old.Offer(1000)
						synctest.Wait()
					case "end":
						old.End()
					case "new": // is never written
						old = c.store.Room("lobby", false)
					case "enter": // and say nothing
						c.open("lobby")
					case "reopen":
						c.open("lobby").say("new line")
					case "stop":
						c.stop()
					case "wait":
						wait(time.Minute)
					}
				}
				if !strings.Contains(steps, "stop") {
					other := c.open("other")
					other.say("line")
					wait(2 * time.Second)
					wantFile(t, c.store.dir.file("other"), "epoch")
					wantFile(t, c.store.dir.file("lobby"), want)
					other.room.End()
				}
				c.close(nil)
				if got := len(c.store.dir.written); got != strings.Count(steps, "reopen") {
					t.Errorf("got %d records in memory, want those of rooms that have not ended", got)
				}
			})
			s := open(t, path)
			wantFile(t, s.dir.file("lobby"), want)
			if files, err := os.ReadDir(path); err != nil || len(files) != 1+strings.Count(steps, "reopen") || !s.dir.runs.complete {
				t.Errorf("got files %v, %v, complete %v; want the lock, a room that was reopened, and complete", files, err, s.dir.runs.complete)
			}
		})
	}
}

// Files that are damaged, or another program's, do no harm. A damaged one is set aside, and its room can be
// written again. Others stay as they are.
func TestForeignFiles(t *testing.T) {
	wantLogged, path := captureLog(t), t.TempDir()
	s := open(t, path)
	for _, name := range []string{"", "a", "-", ".txt", "b"} {
		live := stream.New(10)
		add(live, "in "+name)
		s.Room(name, false).Finish(live.Since)
	}
	s.Close(nil)
	foreign := map[string]string{"room-Not A Name.txt": "1", "notes.txt": "2", "room-.txt": "3", "roomx.txt": "4", "room-x": "5", "room": "6"}
	for name, content := range foreign {
		must(t, os.WriteFile(filepath.Join(path, name), []byte(content), 0o600))
	}
	must(t, os.WriteFile(s.dir.file("b"), []byte("garbage"), 0o600))
	must(t, os.WriteFile(s.dir.file("b")+".damaged", []byte("older"), 0o600))
	s = open(t, path)
	wantStored(t, s, true, "map[:in \n -:in -\n .txt:in .txt\n a:in a\n]")
	for name, want := range foreign {
		wantFile(t, filepath.Join(path, name), want)
	}
	wantFile(t, s.dir.file("b"), "")
	again := stream.New(10)
	add(again, "again")
	s.Room("b", false).Finish(again.Since)
	wantFile(t, s.dir.file("b"), "again")
	wantFile(t, s.dir.file("b")+".damaged", "garbage")
	wantLogged(map[string]int{
		"room not restored: file set aside": 1, "room-b.txt: file is corrupt or truncated": 1,
		"a file in -state is not named after a room": 1, `name="Not A Name"`: 1,
	})
}

// If somebody changes a room's file while the store is open, the next write replaces it with all lines of the
// history.
func TestFileChangedWhileRunning(t *testing.T) {
	wantLogged, path := captureLog(t), t.TempDir()
	file, n, old := filepath.Join(path, "room-lobby.txt"), uint64(0), ""
	synctest.Test(t, func(t *testing.T) {
		c := start(t, path)
		lobby := c.open("lobby")
		say := func() { lobby.say(fmt.Sprint("line ", n)); n++ }
		for _, change := range []func(){
			func() {},
			func() { old = c.store.dir.allOf(lobby.stream) },
			func() { must(t, os.WriteFile(file, []byte("garbage"), 0o600)) },
			func() { os.Remove(file) },
			func() { must(t, os.WriteFile(file, []byte(old), 0o600)) },
			func() { // lines of another epoch
				other := stream.New(100)
				add(other, numbered(0, n)...)
				must(t, os.WriteFile(file, []byte(c.store.dir.allOf(other)), 0o600))
			},
		} {
			change()
			say()
			wait(2 * time.Second)
			wantFile(t, file, "]}\n"+strings.Join(numbered(0, n), "\n")+"\n")
		}
		os.Remove(file)
		say()
		c.close(nil)
	})
	wantStored(t, open(t, path), true, fmt.Sprintf("map[lobby:%s\n]", strings.Join(numbered(0, n), "\n")))
	wantLogged(map[string]int{"ERROR": 0})
}

// While rooms can't be written or removed the chat goes on. The first failure is logged once, and so is the
// end of the last one. No line is missing afterwards.
func TestDiskFull(t *testing.T) {
	wantLogged, path := captureLog(t), t.TempDir()
	below := filepath.Join(path, "room-b.txt", "below") // makes room-b.txt a directory that can't be removed
	synctest.Test(t, func(t *testing.T) {
		c, full := start(t, path), false
		c.store.dir.openFile = func(name string, flag int, mode os.FileMode) (*os.File, error) {
			if name == "room-a.txt.tmp" && full {
				flag = os.O_RDONLY | os.O_CREATE // so each write to the file fails
			}
			return c.store.dir.root.OpenFile(name, flag, mode)
		}
		c.open("a").say(numbered(0, 10)...)
		wait(2 * time.Second)
		before := c.store.dir.allOf(c.hubs["a"].stream)
		full = true
		must(t, os.MkdirAll(below, 0o700))
		c.open("b")
		c.open("c")
		for n := uint64(10); n < 100; n += 10 {
			for _, h := range c.hubs {
				h.say(numbered(n, n+10)...)
			}
			wait(2 * time.Second)
		}
		wantFile(t, c.store.dir.file("a"), before)
		wantFile(t, c.store.dir.file("c"), "line 99\n")
		wantFile(t, c.store.dir.file("a")+".tmp", "")
		wantFile(t, c.store.dir.file("b")+".tmp", "")
		full = false
		c.hubs["a"].say("line 100")
		wait(2 * time.Second)
		wantFile(t, c.store.dir.file("a"), c.store.dir.allOf(c.hubs["a"].stream))
		c.hubs["b"].halt()
		c.hubs["b"].room.End()
		delete(c.hubs, "b")
		wait(2 * time.Second)
		wantLogged(map[string]int{"state can't be written": 1, "state can be written again": 0})
		must(t, os.Remove(below))
		c.hubs["a"].say("line 101")
		wait(2 * time.Second)
		wantLogged(map[string]int{"state can't be written": 1, "state can be written again": 1})
		wantFile(t, c.store.dir.file("b"), "")
		c.close(nil)
	})
	wantStored(t, open(t, path), true, fmt.Sprintf("map[a:%s\n c:%s\n]", strings.Join(numbered(2, 102), "\n"), strings.Join(numbered(10, 100), "\n")))
}

// A store that could not write everything says so, and leaves the directory marked as not closed. So numbers
// are not used twice. A room that was opened again is missing, although the old one of its name has ended.
func TestIncompleteClose(t *testing.T) {
	for obstacle, want := range map[string]string{
		"room-lobby.txt.tmp": "map[other:line\n]", "relay.txt.tmp": "map[lobby:line\n other:line\n]",
	} {
		wantLogged, path := captureLog(t), t.TempDir()
		synctest.Test(t, func(t *testing.T) {
			c := start(t, path)
			old := c.open("lobby")
			old.halt()
			c.open("lobby").say("line")
			old.room.End()
			c.open("other").say("line")
			must(t, os.MkdirAll(filepath.Join(path, obstacle, "below"), 0o700))
			c.close([]byte("relay"))
		})
		must(t, os.Remove(filepath.Join(path, obstacle, "below")))
		wantLogged(map[string]int{"state can't be written": 1, "state is incomplete: the next start takes this stop for a crash": 1})
		wantStored(t, open(t, path), false, want) // open removes the obstacle
	}
}

// Lines that a stream drops to save memory are dropped by the store, too, even if nobody says anything afterwards.
func TestShrink(t *testing.T) {
	s, live := open(t, t.TempDir()), stream.New(100)
	for range 100 {
		add(live, strings.Repeat("x", 1000))
	}
	r := s.Room("x", false)
	rest := func(since uint64) (stream.Record, bool) { return live.Since(since), true }
	s.write(r, rest)
	if !live.Trim(live.End().Lines, 10_000) {
		t.Fatal("the stream drops nothing")
	}
	r.Shrink()
	if !r.Lacks(live.End().Lines) {
		t.Error("the store lacks nothing after the stream has shrunk, so it is not asked to write")
	}
	s.write(r, func(since uint64) (stream.Record, bool) {
		defer r.Shrink() // meanwhile
		return rest(since)
	})
	if got := len(s.dir.written["x"].Frames); got > 10 {
		t.Errorf("the store keeps %d lines of 1,000 bytes, want those of 10,000 bytes", got)
	}
	s.write(r, rest)
	if r.Lacks(live.End().Lines) {
		t.Error("the store lacks lines after the last write")
	}
}

// A nil Store and a nil Room do nothing, and never block.
func TestNil(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s *Store
		records, readErr := s.Read(nil)
		relay, relayErr := s.TakeRelay()
		if err := errors.Join(readErr, relayErr, s.Abandon()); err != nil || len(maps.Collect(records)) > 0 || relay != nil {
			t.Errorf("got records %v, relay %q, error %v; want nothing", maps.Collect(records), relay, err)
		}
		r := s.Room("lobby", false)
		r.Offer(1)
		r.Shrink()
		r.End()
		r.Finish(nil)
		if r != nil || r.Requests() != nil || r.Lacks(1) {
			t.Errorf("got room %v with requests %v, lacks %v; want nil, nil, false", r, r.Requests(), r.Lacks(1))
		}
		ctx, stop := context.WithTimeout(t.Context(), time.Minute)
		defer stop()
		s.Run(ctx)
		if ctx.Err() == nil {
			t.Error("Run returned before its context was done")
		}
		s.Close([]byte("relay"))
	})
}
