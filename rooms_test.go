package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/websocket"

	"example.com/chat/internal/state"
	"example.com/chat/internal/ws"
	"example.com/chat/internal/wstest"
)

// joinRoom connects to a target such as /lobby/ws.
func joinRoom(t testing.TB, addr, target string) *wstest.Client {
	t.Helper()
	return wstest.Upgrade(t, wstest.Dial(t, addr), target)
}

// A line is heard in the room in which it is said, and nowhere else.
func TestRooms(t *testing.T) {
	addr, rooms, _ := startWith(t, defaults)
	targets := []string{"/ws", "/lobby/ws", "/" + strings.Repeat("x", 64) + "/ws", "/-_09az/ws", "/ws/ws", "/assets/ws"}
	var peers []*wstest.Client
	for _, target := range append(targets, targets...) {
		peers = append(peers, joinRoom(t, addr, target))
	}
	for i, target := range targets {
		peers[i].Send(websocket.TextFrame, "said in "+target)
	}
	for i, p := range peers {
		p.Expect(websocket.TextFrame, "said in "+targets[i%len(targets)])
	}
	if n := rooms.counters.rooms.Value(); n != int64(len(targets)) {
		t.Errorf("%d rooms are counted, want %d", n, len(targets))
	}
}

// A room has its page below its name. Other spellings lead there, by a relative address; what is no
// name is not found. To look at a page makes no room.
func TestRoomAddresses(t *testing.T) {
	addr, rooms, _ := startWith(t, defaults)
	long := strings.Repeat("x", 64)
	for _, test := range []struct {
		path     string
		status   int
		location string
	}{
		{"/lobby/", 200, ""},
		{"/" + long + "/", 200, ""},
		{"/lobby", 301, "./lobby/"},
		{"/Lobby", 301, "./lobby/"},
		{"/LOBBY/?a=b", 301, "../lobby/?a=b"},
		{"/Lobby/ws?since=E.1", 301, "../lobby/ws?since=E.1"},
		{"/lobby/ws", 426, ""},
		{"/" + long + "x", 404, ""},
		{"/" + long + "x/", 404, ""},
		{"/" + long + "x/ws", 404, ""},
		{"/favicon.ico", 404, ""},
		{"/a.b/", 404, ""},
		{"/a%2Fb/", 404, ""},
		{"/a%20b/ws", 404, ""},
		{"/%C3%A4/", 404, ""},
		{"/lobby/manifest.webmanifest", 200, ""},
		{"/Lobby/manifest.webmanifest", 301, "../lobby/manifest.webmanifest"},
		{"/lobby/other", 404, ""},
		{"/lobby/ws/", 404, ""},
	} {
		response := wstest.Get(t, addr, test.path)
		if response.StatusCode != test.status || response.Header.Get("Location") != test.location {
			t.Errorf("%s: status %s, Location %q; want %d, %q", test.path, response.Status, response.Header.Get("Location"), test.status, test.location)
		}
	}
	if n := rooms.counters.rooms.Value(); n != 1 {
		t.Errorf("there are %d rooms", n)
	}
	page, _ := io.ReadAll(wstest.Get(t, addr, "/lobby/").Body)
	for _, want := range []string{`data-root="../"`, `src="../assets/chat.js"`, `href="../assets/icon.svg"`} {
		if !strings.Contains(string(page), want) {
			t.Errorf("the page lacks %s", want)
		}
	}
}

// With -rooms 0 there is only the room without a name.
func TestNoNamedRooms(t *testing.T) {
	cfg := defaults
	cfg.rooms = 0
	addr, _, _ := startWith(t, cfg)
	for path, status := range map[string]int{"/": 200, "/lobby": 404, "/lobby/": 404, "/lobby/ws": 404} {
		if response := wstest.Get(t, addr, path); response.StatusCode != status {
			t.Errorf("%s: status %s, want %d", path, response.Status, status)
		}
	}
	joinRoom(t, addr, "/ws")
}

// A room holds its position for emptyRoomWait after the last connection. Then it ends; the room
// without a name does not.
func TestEmptyRoomEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, _ := startInBubble(t)
		for _, test := range []struct {
			room string
			wait time.Duration
			held bool
		}{
			{"/a", emptyRoomWait - expirePeriod, true},
			{"/b", emptyRoomWait + expirePeriod, false},
			{"", 10 * emptyRoomWait, true},
		} {
			p, at := resume(t, l.Dial(t), test.room+"/ws", "")
			sayNumbered(t, p, 0, 3)
			p.Send(websocket.CloseFrame, "")
			p.ExpectClose(ws.CloseNoStatusReceived)
			p.Conn.Close()
			time.Sleep(test.wait)
			p, back := resume(t, l.Dial(t), test.room+"/ws", fmt.Sprint(at.epoch, ".", at.end+2))
			if held := back.epoch == at.epoch; held != test.held {
				t.Errorf("%q after %v: held %v, want %v", test.room, test.wait, held, test.held)
			} else if held {
				p.Expect(websocket.TextFrame, "line 2")
			}
			p.Conn.Close()
			time.Sleep(closeWait)
		}
	})
}

// At the limit, the room that has been empty longest makes way for another. If none is empty, the
// answer says so.
func TestRoomLimit(t *testing.T) {
	cfg := defaults
	cfg.rooms = 2
	addr, rooms, _ := startWith(t, cfg)
	a, b, here := joinRoom(t, addr, "/a/ws"), joinRoom(t, addr, "/b/ws"), joinRoom(t, addr, "/ws")
	response := wstest.Get(t, addr, "/c/ws")
	body, _ := io.ReadAll(response.Body)
	if response.StatusCode != 503 || response.Header.Get("Retry-After") == "" || !strings.Contains(string(body), "too many rooms") {
		t.Errorf("%s, Retry-After %q: %s", response.Status, response.Header.Get("Retry-After"), body)
	}
	leave := func(p *wstest.Client, left int64) {
		p.Send(websocket.CloseFrame, "")
		p.ExpectClose(ws.CloseNoStatusReceived)
		p.Conn.Close()
		untilOpen(t, rooms, left)
	}
	leave(b, 2)
	leave(a, 1)
	c := joinRoom(t, addr, "/c/ws")
	for name, want := range map[string]bool{"": true, "a": true, "b": false, "c": true} {
		if got := rooms.exists(name); got != want {
			t.Errorf("room %q is there: %v, want %v", name, got, want)
		}
	}
	joinRoom(t, addr, "/b/ws") // instead of a
	for _, p := range []*wstest.Client{c, here} {
		p.Send(websocket.TextFrame, "untouched")
		p.Expect(websocket.TextFrame, "untouched")
	}
}

// -max-conns counts the connections of all rooms.
func TestFullChat(t *testing.T) {
	cfg := defaults
	cfg.maxConns = 2
	addr, rooms, _ := startWith(t, cfg)
	joinRoom(t, addr, "/a/ws")
	joinRoom(t, addr, "/b/ws")
	if response := wstest.Get(t, addr, "/c/ws"); response.StatusCode != 503 {
		t.Error(response.Status)
	}
	if rooms.exists("c") {
		t.Error("a refused connection made a room")
	}
}

// A stop loses nothing that was said in any room.
func TestStopInRooms(t *testing.T) {
	addr, _, stop := startWith(t, defaults)
	var peers []*wstest.Client
	for room := range 5 {
		for range 4 {
			peers = append(peers, joinRoom(t, addr, fmt.Sprintf("/room-%d/ws", room)))
		}
	}
	var speaking, listening sync.WaitGroup
	for i, p := range peers {
		speaker := i % 4
		listening.Go(func() { wstest.Crowd{Speakers: 4, Each: 1000}.HearAll(p) })
		speaking.Go(func() { wstest.Crowd{Speakers: 4, Each: 1000}.Speak(p, speaker) })
	}
	speaking.Wait()
	stop()
	listening.Wait()
}

// readEvent reads the next message, which must be an event.
func readEvent(t testing.TB, p *wstest.Client) (e event) {
	t.Helper()
	opcode, message, err := p.ReadFrame()
	if err == nil && opcode == websocket.BinaryFrame {
		err = json.Unmarshal([]byte(message), &e)
	}
	if err != nil || opcode != websocket.BinaryFrame {
		t.Fatalf("got %s, %v; want an event", wstest.Show(opcode, message), err)
	}
	return e
}

// Who asks for events is told how many people there are, on joining and when that changes, once a
// second; and the server's time.
func TestPeople(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, _ := startInBubble(t)
		other := wstest.Upgrade(t, l.Dial(t), "/ws")
		ann := wstest.Upgrade(t, l.Dial(t), "/ws?events")
		if e := readEvent(t, ann); e.People != 2 || e.Now != time.Now().UnixMilli() || e.Said != nil {
			t.Errorf("on joining: %+v", e)
		}
		since, _ := resume(t, l.Dial(t), "/ws?events=", "")
		if e := readEvent(t, since); e.People != 3 || e.Now != time.Now().UnixMilli() || e.Said != nil {
			t.Errorf("on joining with since: %+v", e)
		}
		for range 5 {
			wstest.Upgrade(t, l.Dial(t), "/ws")
		}
		for _, p := range []*wstest.Client{ann, since} {
			if e := readEvent(t, p); e.People != 8 {
				t.Errorf("when five more have come: %+v", e)
			}
		}
		other.Conn.Close()
		if e := readEvent(t, ann); e.People != 7 {
			t.Errorf("when one has gone: %+v", e)
		}
		ann.Send(websocket.TextFrame, "hello")
		ann.Expect(websocket.TextFrame, "hello")
	})
}

// In a large room the count is told less often: to all together, no more than maxCounts times a second.
func TestPeopleInALargeRoom(t *testing.T) {
	for _, people := range []int{1, 1000, 1001, 1400, 5000} {
		h := newTestHub(0)
		var conns []*Conn
		for range people {
			c := newConn(h, nil)
			c.events = true
			h.connections[c] = true
			conns = append(conns, c)
		}
		const seconds = 60
		told := 0
		for range seconds {
			h.connections[newConn(h, nil)] = true // one more comes, who does not ask for events
			h.tellPeople()
			for _, c := range conns {
				for len(c.send) > 0 {
					<-c.send
					told++
				}
			}
		}
		if least, most := min(people, maxCounts/3)*seconds, min(people, maxCounts)*seconds; told < least || told > most+people {
			t.Errorf("%d people: told %d counts in %d s, want %d to %d", people, told, seconds, least, most)
		}
	}
}

// Lines of the past come with the times at which they were said; also those that a slow client gets late.
func TestTimesOfThePast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, _ := startInBubble(t)
		ann := wstest.Upgrade(t, l.Dial(t), "/ws")
		began := time.Now().UnixMilli()
		for n := range 3 {
			ann.Send(websocket.TextFrame, fmt.Sprint("line ", n))
			ann.Expect(websocket.TextFrame, fmt.Sprint("line ", n))
			time.Sleep(10 * time.Second)
		}
		bob, at := resume(t, l.Dial(t), "/ws?events", "")
		readEvent(t, bob) // people
		e := readEvent(t, bob)
		if want := [][2]int64{{1, began}, {1, began + 10_000}, {1, began + 20_000}}; !slices.Equal(e.Said, want) || e.Now != began+30_000 {
			t.Errorf("told %+v, want %v", e, want)
		}
		bob.ExpectLines("line 0", "line 1", "line 2")
		ann.Send(websocket.TextFrame, "now")
		bob.Expect(websocket.TextFrame, "now")

		carl, _ := resume(t, l.Dial(t), "/ws?events", fmt.Sprint(at.epoch, ".", at.seq+2))
		readEvent(t, carl)
		if e := readEvent(t, carl); len(e.Said) != 2 || e.Said[0] != [2]int64{1, began + 20_000} {
			t.Errorf("told %+v", e)
		}
		carl.ExpectLines("line 2", "now")
	})
}

// Lines that were said within a second of each other share a time.
func TestTimesShared(t *testing.T) {
	var frames []heldFrame
	for _, said := range []int64{1000, 1999, 2000, 2000, 1500, 9000} {
		frames = append(frames, heldFrame{frame: textFrame([]byte("two\nlines\n")), said: said})
	}
	if got, want := saidTimes(frames), [][2]int64{{4, 1000}, {4, 2000}, {2, 1500}, {2, 9000}}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// Who is behind is told how many people there are with the next batch: once for each sweep at most, and the
// newest count.
func TestPeopleWhoAreBehind(t *testing.T) {
	h := newTestHub(256)
	for range 10 {
		h.stream.add(textFrame(bytes.Repeat([]byte("x\n"), sendWindow/2)), 0)
	}
	c := newConn(h, nil)
	c.events, c.behind = true, true
	h.connections[c] = true
	var counts []int
	for batches := range 5 {
		for range 2 - batches%2 { // sweeps since the last batch
			h.connections[newConn(h, nil)] = true
			h.tellPeople()
		}
		for range 2 {
			h.catchUp(c)
			for _, f := range (<-c.send).frames {
				var e event
				if f.lines == nil && json.Unmarshal(f.bytes[bytes.IndexByte(f.bytes, '{'):], &e) == nil && e.People > 0 {
					counts = append(counts, e.People)
				}
			}
		}
	}
	if want := []int{3, 4, 6, 7, 9}; !slices.Equal(counts, want) {
		t.Errorf("told %v, want %v", counts, want)
	}
}

// What is sent at once to a client that is behind is limited, with the event that belongs to it: also if each
// line is short and was said at another time.
func TestBatchOfShortLines(t *testing.T) {
	h := newTestHub(1 << 20)
	for n := range int64(100_000) {
		h.stream.add(textFrame([]byte("\n")), 1e12+n*2*saidPrecision)
	}
	c := newConn(h, nil)
	c.events, c.behind = true, true
	h.connections[c] = true
	h.catchUp(c)
	size := 0
	for _, f := range (<-c.send).frames {
		size += len(f.bytes)
	}
	if size < sendWindow/2 || size > sendWindow {
		t.Errorf("%d bytes, want up to %d", size, sendWindow)
	}
}

// A client that does not ask for events gets text alone.
func TestNoEventsUnasked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, _ := startInBubble(t)
		ann := wstest.Upgrade(t, l.Dial(t), "/ws")
		bob, _ := resume(t, l.Dial(t), "/ws", "")
		wstest.Upgrade(t, l.Dial(t), "/ws?events")
		time.Sleep(3 * sweepPeriod)
		ann.Send(websocket.TextFrame, "text")
		ann.Expect(websocket.TextFrame, "text")
		bob.Expect(websocket.TextFrame, "text")
	})
}

// keeping returns a configuration with -state.
func keeping(t testing.TB) config {
	cfg := defaults
	cfg.state = t.TempDir()
	return cfg
}

// With -state, rooms go on after a restart: a client that comes back misses nothing, gets nothing twice,
// and sees the same epoch, also of a room in which nothing was said. Times are kept, too.
func TestRestart(t *testing.T) {
	cfg := keeping(t)
	for _, room := range []string{"", "/lobby", "/silent"} {
		cfg.state = t.TempDir()
		addr, _, stop := startWith(t, cfg)
		ann, at := resume(t, wstest.Dial(t, addr), room+"/ws", "")
		said := 10
		if room == "/silent" {
			said = 0
		}
		sayNumbered(t, ann, 0, said)
		before := time.Now().UnixMilli()
		ann.Conn.Close()
		stop()

		addr, _, stop = startWith(t, cfg)
		bob, back := resume(t, wstest.Dial(t, addr), room+"/ws?events", fmt.Sprint(at.epoch, ".", min(7, said)))
		if back.epoch != at.epoch || back.seq != uint64(min(7, said)) || back.end != uint64(said) {
			t.Errorf("%q: position %v after %v", room, back, at)
		}
		readEvent(t, bob) // people
		if said > 0 {
			if e := readEvent(t, bob); e.Said[0][1] > before || e.Said[0][1] < before-60_000 {
				t.Errorf("%q: told %+v", room, e)
			}
		}
		bob.ExpectLines(wstest.Numbered(min(7, said), said)...)
		sayNumbered(t, bob, said, said+1)
		bob.Conn.Close()
		stop()
	}
}

// Each restart goes on where the one before stopped.
func TestManyRestarts(t *testing.T) {
	cfg := keeping(t)
	since, said := "", 0
	for range 5 {
		addr, _, stop := startWith(t, cfg)
		p, at := resume(t, wstest.Dial(t, addr), "/lobby/ws", since)
		if at.seq != uint64(said) {
			t.Errorf("at line %d, want %d", at.seq, said)
		}
		sayNumbered(t, p, said, said+100)
		said += 100
		since = fmt.Sprint(at.epoch, ".", said)
		p.Conn.Close()
		stop()
	}
}

// A crash is a directory that was not closed. The epoch is new then: positions up to what is kept go on,
// and nobody gets a line twice.
func TestCrash(t *testing.T) {
	cfg := keeping(t)
	addr, _, stop := startWith(t, cfg)
	ann, at := resume(t, wstest.Dial(t, addr), "/lobby/ws", "")
	sayNumbered(t, ann, 0, 10)
	ann.Conn.Close()
	stop()
	if err := os.WriteFile(filepath.Join(cfg.state, "lock"), nil, 0o600); err != nil {
		t.Fatal(err)
	}

	addr, _, stop = startWith(t, cfg)
	newcomer, now := resume(t, wstest.Dial(t, addr), "/lobby/ws", "")
	if now.epoch == at.epoch || now.seq != 0 || now.end != 10 {
		t.Errorf("a newcomer is at %v", now)
	}
	newcomer.ExpectLines(wstest.Numbered(0, 10)...)
	for _, test := range []struct {
		since string
		seq   uint64
	}{
		{fmt.Sprint(at.epoch, ".7"), 7},
		{fmt.Sprint(at.epoch, ".10"), 10},
		{fmt.Sprint(at.epoch, ".15"), 10}, // five lines were heard that are not kept
		{fmt.Sprint(now.epoch, ".9"), 9},
		{"other.9", 0},
		{".9", 0},
	} {
		p, back := resume(t, wstest.Dial(t, addr), "/lobby/ws", test.since)
		if back.epoch != now.epoch || back.seq != test.seq {
			t.Errorf("%s: at %v, want line %d", test.since, back, test.seq)
		}
		p.ExpectLines(wstest.Numbered(int(test.seq), 10)...)
		p.Conn.Close()
	}
	newcomer.Conn.Close()
	stop() // which is no crash
	addr, _, _ = startWith(t, cfg)
	if _, back := resume(t, wstest.Dial(t, addr), "/lobby/ws", fmt.Sprint(now.epoch, ".10")); back.epoch != now.epoch || back.seq != 10 {
		t.Errorf("after the next restart: %v", back)
	}
}

// What is said is on the disk a few seconds later, and the file of a room that ended is removed.
func TestKeeping(t *testing.T) {
	cfg := keeping(t)
	synctest.Test(t, func(t *testing.T) {
		l, stop := startInBubbleWith(t, cfg)
		ann := wstest.Upgrade(t, l.Dial(t), "/lobby/ws")
		for n := range 5 {
			sayNumbered(t, ann, n*10, n*10+10)
			time.Sleep(3 * sweepPeriod)
			if text := fileOf(t, cfg, "lobby"); !strings.Contains(text, fmt.Sprintf("\nline %d\n", n*10+9)) {
				t.Errorf("after %d lines the file is %q", n*10+10, text)
			}
		}
		written := modified(t, cfg, "lobby")
		time.Sleep(time.Minute)
		if modified(t, cfg, "lobby") != written {
			t.Error("written while nothing was said")
		}
		ann.Conn.Close()
		time.Sleep(emptyRoomWait + closeWait + 2*expirePeriod)
		if text := fileOf(t, cfg, "lobby"); text != "" {
			t.Errorf("the room ended, and its file is %q", text)
		}
		stop()
	})
}

// A room that was restored is not written before something is said.
func TestRestoredRoomIsNotWritten(t *testing.T) {
	cfg := keeping(t)
	synctest.Test(t, func(t *testing.T) {
		l, stop := startInBubbleWith(t, cfg)
		sayNumbered(t, wstest.Upgrade(t, l.Dial(t), "/lobby/ws"), 0, 10)
		stop()
		written := modified(t, cfg, "lobby")
		l, stop = startInBubbleWith(t, cfg)
		ann := wstest.Upgrade(t, l.Dial(t), "/lobby/ws")
		time.Sleep(time.Minute / 2)
		if modified(t, cfg, "lobby") != written {
			t.Error("written while nothing was said")
		}
		sayNumbered(t, ann, 10, 11)
		stop()
		if modified(t, cfg, "lobby") == written {
			t.Error("not written when something was said")
		}
	})
}

// fileOf returns what is kept of a room, or "".
func fileOf(t testing.TB, cfg config, room string) string {
	b, err := os.ReadFile(filepath.Join(cfg.state, "room-"+room+".txt"))
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	return string(b)
}

func modified(t testing.TB, cfg config, room string) time.Time {
	t.Helper()
	info, err := os.Stat(filepath.Join(cfg.state, "room-"+room+".txt"))
	if err != nil {
		t.Fatal(err)
	}
	return info.ModTime()
}

// If more rooms were kept than there may be now, all are restored. The next that is made ends those that are
// too many.
func TestFewerRooms(t *testing.T) {
	cfg := keeping(t)
	addr, _, stop := startWith(t, cfg)
	for _, target := range []string{"/a/ws", "/b/ws", "/c/ws", "/d/ws"} {
		joinRoom(t, addr, target).Conn.Close()
	}
	stop()
	cfg.rooms = 2
	addr, rooms, _ := startWith(t, cfg)
	if n := rooms.counters.rooms.Value(); n != 5 {
		t.Errorf("%d rooms, want all five", n)
	}
	joinRoom(t, addr, "/a/ws")
	joinRoom(t, addr, "/e/ws")
	if n := rooms.counters.rooms.Value(); n != 3 || !rooms.exists("a") || !rooms.exists("e") {
		t.Errorf("%d rooms", n)
	}
}

// What is in nobody's way: files that are damaged, or another program's.
func TestForeignState(t *testing.T) {
	cfg := keeping(t)
	dir, _, err := state.Open(cfg.state)
	if err != nil {
		t.Fatal(err)
	}
	for _, room := range []string{"", "a", "b", "c", "d"} {
		if err := dir.Save(room, state.Stream{Epoch: "E", Lines: 1, Frames: []state.Frame{{Text: []byte("kept\n"), Said: 1}}}); err != nil {
			t.Fatal(err)
		}
	}
	dir.Close(true)
	for name, text := range map[string]string{"room-b.txt": "garbage", "room-Not A Name.txt": "x", "notes.txt": "y"} {
		if err := os.WriteFile(filepath.Join(cfg.state, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	addr, rooms, _ := startWith(t, cfg)
	for _, target := range []string{"/ws", "/a/ws", "/c/ws"} {
		p, at := resume(t, wstest.Dial(t, addr), target, "")
		if at.epoch != "E" {
			t.Errorf("%s: %v", target, at)
		}
		p.Expect(websocket.TextFrame, "kept")
	}
	if n := rooms.counters.rooms.Value(); n != 4 {
		t.Errorf("%d rooms", n)
	}
	for name, want := range map[string]string{"room-b.txt.damaged": "garbage", "room-Not A Name.txt": "x", "notes.txt": "y"} {
		if text, _ := os.ReadFile(filepath.Join(cfg.state, name)); string(text) != want {
			t.Errorf("%s is %q", name, text)
		}
	}
}

// As long as state can't be written the chat goes on. That is logged once, and so is its end.
func TestDiskFull(t *testing.T) {
	var log lockedBuilder
	slog.SetDefault(slog.New(slog.NewTextHandler(&log, nil)))
	defer slog.SetDefault(slog.New(slog.DiscardHandler))
	cfg := keeping(t)
	obstacle := filepath.Join(cfg.state, "room-lobby.txt.tmp")
	synctest.Test(t, func(t *testing.T) {
		l, stop := startInBubbleWith(t, cfg)
		if err := os.Mkdir(obstacle, 0o700); err != nil { // in place of a disk that is full
			t.Fatal(err)
		}
		ann := wstest.Upgrade(t, l.Dial(t), "/lobby/ws")
		for n := range 10 {
			sayNumbered(t, ann, n*10, n*10+10)
			time.Sleep(2 * sweepPeriod)
		}
		if n := strings.Count(log.String(), "state can't be written"); n != 1 {
			t.Errorf("logged %d times: %s", n, log.String())
		}
		if err := os.Remove(obstacle); err != nil {
			t.Fatal(err)
		}
		time.Sleep(3 * sweepPeriod)
		if n := strings.Count(log.String(), "state can be written again"); n != 1 {
			t.Errorf("logged %d times: %s", n, log.String())
		}
		if text := fileOf(t, cfg, "lobby"); !strings.Contains(text, "\nline 99\n") {
			t.Errorf("the file is %q", text)
		}
		ann.Conn.Close()
		stop()
	})
}

// All rooms that talk are written in turn.
func TestKeepingManyRooms(t *testing.T) {
	cfg := keeping(t)
	const many = 100
	synctest.Test(t, func(t *testing.T) {
		l, stop := startInBubbleWith(t, cfg)
		var peers []*wstest.Client
		for room := range many {
			peers = append(peers, wstest.Upgrade(t, l.Dial(t), fmt.Sprintf("/room-%d/ws", room)))
		}
		for n := range 5 {
			for _, p := range peers {
				sayNumbered(t, p, n, n+1)
			}
			time.Sleep(5 * sweepPeriod)
			for room := range many {
				if text := fileOf(t, cfg, fmt.Sprint("room-", room)); !strings.Contains(text, fmt.Sprintf("\nline %d\n", n)) {
					t.Fatalf("%d s after line %d the file of room %d is %q", 5, n, room, text)
				}
			}
		}
		for _, p := range peers {
			p.Conn.Close()
		}
		stop()
	})
}

// Positions stay valid through crashes and stops in any order. Each crash makes a new epoch.
func TestManyCrashes(t *testing.T) {
	cfg := keeping(t)
	said := 0
	var past []announcement // of each run, one in the middle of what was said
	for run := range 6 {
		addr, _, stop := startWith(t, cfg)
		for i, then := range past {
			p, at := resume(t, wstest.Dial(t, addr), "/lobby/ws", fmt.Sprint(then.epoch, ".", then.seq))
			if at.seq != then.seq {
				t.Errorf("run %d: the position %d of run %d is %d", run, then.seq, i, at.seq)
			}
			p.Conn.Close()
		}
		ann, at := resume(t, wstest.Dial(t, addr), "/lobby/ws", "")
		ann.ExpectLines(wstest.Numbered(0, said)...)
		sayNumbered(t, ann, said, said+10)
		said += 10
		crashed := run%3 != 0
		if run > 0 && (at.epoch != past[run-1].epoch) != crashed {
			t.Errorf("run %d: epoch %s after %s", run, at.epoch, past[run-1].epoch)
		}
		past = append(past, announcement{epoch: at.epoch, seq: uint64(said - 3)})
		ann.Conn.Close()
		stop()
		if run%3 != 2 {
			if err := os.WriteFile(filepath.Join(cfg.state, "lock"), nil, 0o600); err != nil { // as if it had crashed
				t.Fatal(err)
			}
		}
	}
}

// If the last lines can't be written, the next start takes it for a crash: their numbers are not used twice.
func TestIncompleteStop(t *testing.T) {
	var log lockedBuilder
	slog.SetDefault(slog.New(slog.NewTextHandler(&log, nil)))
	defer slog.SetDefault(slog.New(slog.DiscardHandler))
	cfg := keeping(t)
	addr, _, stop := startWith(t, cfg)
	ann, at := resume(t, wstest.Dial(t, addr), "/lobby/ws", "")
	obstacle := filepath.Join(cfg.state, "room-lobby.txt.tmp")
	if err := os.Mkdir(obstacle, 0o700); err != nil {
		t.Fatal(err)
	}
	sayNumbered(t, ann, 0, 10)
	ann.Conn.Close()
	stop()
	if !strings.Contains(log.String(), "state is incomplete") {
		t.Errorf("logged %q", log.String())
	}
	if err := os.Remove(obstacle); err != nil {
		t.Fatal(err)
	}
	addr, _, _ = startWith(t, cfg)
	if _, back := resume(t, wstest.Dial(t, addr), "/lobby/ws", fmt.Sprint(at.epoch, ".10")); back.epoch == at.epoch {
		t.Errorf("at %v: line 10 will have been said twice", back)
	}
}

// A start that fails does not make a crash of the stop before it.
func TestFailedStart(t *testing.T) {
	cfg := keeping(t)
	addr, _, stop := startWith(t, cfg)
	ann, at := resume(t, wstest.Dial(t, addr), "/lobby/ws", "")
	sayNumbered(t, ann, 0, 10)
	ann.Conn.Close()
	stop()
	obstacle := filepath.Join(cfg.state, "relay.txt")
	if err := os.Mkdir(obstacle, 0o700); err != nil {
		t.Fatal(err)
	}
	relayed := cfg
	relayed.relay = "127.0.0.1:0"
	if _, err := openRooms(relayed); err == nil {
		t.Fatal("no error")
	}
	if err := os.Remove(obstacle); err != nil {
		t.Fatal(err)
	}
	addr, _, _ = startWith(t, cfg)
	if _, back := resume(t, wstest.Dial(t, addr), "/lobby/ws", fmt.Sprint(at.epoch, ".10")); back.epoch != at.epoch {
		t.Errorf("at %v after %v", back, at)
	}
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
