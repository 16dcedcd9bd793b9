package store

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"example.com/chat/internal/stream"
	"example.com/chat/internal/wstest"
)

// writeForever is an environment variable that names a directory. If it is set, TestMain appends lines there
// until the process is killed.
const writeForever = "STORE_TEST_WRITE_FOREVER"

func TestMain(m *testing.M) {
	if path := os.Getenv(writeForever); path != "" {
		fmt.Fprintln(os.Stderr, appendForever(path))
		os.Exit(1)
	}
	wstest.Main(m)
}

// open opens a store, which is closed after the test as by a crash.
func open(t testing.TB, path string, history int) *Store {
	t.Helper()
	s, err := Open(path, history)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.dir.closeFiles() })
	return s
}

// anyName is a function for Read that accepts all names.
func anyName(string) bool { return true }

// read returns what s has of all rooms.
func read(t testing.TB, s *Store) map[string]stream.Record {
	t.Helper()
	records, err := s.Read(anyName)
	if err != nil {
		t.Fatal(err)
	}
	return records
}

// add appends lines to s, each in a frame of its own.
func add(s *stream.Stream, texts ...string) {
	for _, text := range texts {
		s.Append(stream.TextFrame([]byte(text+"\n")), 1000)
	}
	s.Trim(s.End().Lines)
}

// numbered returns the lines "line FIRST" to "line LAST-1".
func numbered(first, last int) (texts []string) {
	for n := first; n < last; n++ {
		texts = append(texts, fmt.Sprint("line ", n))
	}
	return texts
}

// text returns the lines of a record.
func text(r stream.Record) string {
	var b strings.Builder
	for _, f := range r.Frames {
		b.Write(f.Lines)
	}
	return b.String()
}

// fileOf returns the content of a room's file, or "" if there is none.
func fileOf(t testing.TB, path, room string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(path, "room-"+room+".txt"))
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	return string(b)
}

// captureLog returns what is logged until the end of the test.
func captureLog(t *testing.T) *lockedBuilder {
	log := new(lockedBuilder)
	before := slog.Default()
	slog.SetDefault(slog.New(slog.NewTextHandler(log, nil)))
	t.Cleanup(func() { slog.SetDefault(before) })
	return log
}

// lockedBuilder is a strings.Builder for several goroutines.
type lockedBuilder struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *lockedBuilder) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuilder) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// wantLogged checks how often each text was logged.
func wantLogged(t *testing.T, log *lockedBuilder, want map[string]int) {
	t.Helper()
	for text, n := range want {
		if got := strings.Count(log.String(), text); got != n {
			t.Errorf("%q was logged %d times, want %d, in\n%s", text, got, n, log)
		}
	}
}

// chat is a store whose Run runs, and Hubs as a store knows them.
type chat struct {
	store   *Store
	history int
	hubs    map[string]*hub
	stop    context.CancelFunc
	running sync.WaitGroup
}

// start opens a store with a Hub for each room in it.
func start(t testing.TB, path string, history int) *chat {
	t.Helper()
	s := open(t, path, history)
	ctx, stop := context.WithCancel(context.Background())
	c := &chat{store: s, history: history, hubs: make(map[string]*hub), stop: stop}
	for name, r := range read(t, s) {
		c.run(name, stream.Restore(history, r, s.Complete()), s.Complete())
	}
	c.running.Go(func() { s.Run(ctx) })
	return c
}

// open opens a room with an empty stream.
func (c *chat) open(name string) *hub { return c.run(name, stream.New(c.history), false) }

func (c *chat) run(name string, s *stream.Stream, saved bool) *hub {
	h := &hub{
		room:   c.store.Room(name, saved),
		stream: s,
		texts:  make(chan []string),
		stop:   make(chan struct{}),
		done:   make(chan struct{}),
	}
	c.hubs[name] = h
	go h.run()
	return h
}

// end ends a room.
func (c *chat) end(name string) {
	c.hubs[name].halt()
	c.hubs[name].room.End()
	delete(c.hubs, name)
}

// close stops all Hubs, and closes the store.
func (c *chat) close(relay []byte) {
	c.stop()
	c.running.Wait()
	for _, h := range c.hubs {
		h.halt()
		h.room.Finish(h.stream.Since)
	}
	c.store.Close(relay)
}

// hub is a goroutine that owns a stream.
type hub struct {
	room       *Room
	stream     *stream.Stream // owned by run until done is closed
	texts      chan []string
	stop, done chan struct{}
}

// run offers the room once a second, as a Hub does.
func (h *hub) run() {
	defer close(h.done)
	sweeps := time.NewTicker(time.Second)
	defer sweeps.Stop()
	for {
		select {
		case texts := <-h.texts:
			add(h.stream, texts...)
		case q := <-h.room.Requests():
			q.Answer(h.stream.Since(q.Since))
		case <-sweeps.C:
			h.room.Offer(h.stream.End().Lines)
		case <-h.stop:
			return
		}
	}
}

// halt stops the Hub.
func (h *hub) halt() {
	close(h.stop)
	<-h.done
}

// say adds lines to the Hub's stream.
func (h *hub) say(texts ...string) { h.texts <- texts }
