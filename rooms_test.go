package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/websocket"

	"example.com/chat/internal/once"
	"example.com/chat/internal/relay"
	"example.com/chat/internal/relayserver"
	"example.com/chat/internal/store"
	"example.com/chat/internal/stream"
	"example.com/chat/internal/wstest"
)

// exists reports whether a room is open.
func (c *testChat) exists(name string) bool {
	c.chat.mu.Lock()
	defer c.chat.mu.Unlock()
	return c.chat.rooms[name] != nil
}

// leave closes a connection properly.
func leave(p *wstest.Client) {
	p.T.Helper()
	p.Send(websocket.CloseFrame, "")
	p.ExpectClose(1005)
	p.Conn.Close()
}

// What is said in a room is heard there and nowhere else.
func TestRooms(t *testing.T) {
	c := startChat(t)
	targets := []string{"/ws", "/a/ws", "/b/ws", "/a-b_c/ws"}
	rooms := make(map[string][]*wstest.Client)
	for _, target := range targets {
		rooms[target] = []*wstest.Client{c.join(target), c.join(target)}
	}
	for _, target := range targets {
		rooms[target][0].Send(websocket.TextFrame, "in "+target)
	}
	for _, target := range targets {
		for _, p := range rooms[target] {
			p.Expect(websocket.TextFrame, "in "+target)
		}
	}
	if got := c.chat.shared.counters.Rooms.Value(); got != 4 {
		t.Errorf("%d rooms are open, want 4", got)
	}
}

// A room keeps its position for five minutes after the last connection, and ends within 10 s more. The nameless
// room does not end.
func TestEmptyRoomEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := startChat(t, inMemory)
		for _, test := range []struct {
			room  string
			wait  time.Duration
			stays bool
		}{
			{"/a", 5*time.Minute - time.Second, true},
			{"/b", 5*time.Minute + 10*time.Second, false},
			{"/c", 5*time.Minute + 10*time.Second, false}, // begins in another part of the 10 s
			{"", time.Hour, true},
		} {
			p, at := c.resume(test.room+"/ws", "")
			sayNumbered(t, p, 0, 3)
			leave(p)
			synctest.Wait()
			time.Sleep(test.wait)
			p, back := c.resume(test.room+"/ws", fmt.Sprintf("%s.%d", at.epoch, 2))
			if stays := back.epoch == at.epoch; stays != test.stays {
				t.Errorf("%q after %v: stays %v, want %v", test.room, test.wait, stays, test.stays)
			} else if stays {
				p.Expect(websocket.TextFrame, "line 2")
			}
			leave(p)
			synctest.Wait()
		}
	})
}

// At the limit, the room that has been empty for longest makes room for another one. If none is empty, the
// handshake is refused and says so.
func TestRoomLimit(t *testing.T) {
	c := startChat(t, with(func(cfg *config) { cfg.rooms = 2 }))
	a, b, here := c.join("/a/ws"), c.join("/b/ws"), c.join("/ws")
	response := wstest.Get(t, c.addr, "/c/ws")
	body, _ := io.ReadAll(response.Body)
	if response.StatusCode != 503 || response.Header.Get("Retry-After") != "5" || !strings.Contains(string(body), "too many rooms") {
		t.Errorf("got %s, Retry-After %q, %q; want 503, 5 and the reason", response.Status, response.Header.Get("Retry-After"), body)
	}
	leave(b)
	c.untilOpen(2)
	leave(a)
	c.untilOpen(1)
	inC := c.join("/c/ws")
	for name, want := range map[string]bool{"": true, "a": true, "b": false, "c": true} {
		if got := c.exists(name); got != want {
			t.Errorf("room %q is open: %v, want %v", name, got, want)
		}
	}
	c.join("/b/ws") // in place of a
	for _, p := range []*wstest.Client{inC, here} {
		p.Send(websocket.TextFrame, "untouched")
		p.Expect(websocket.TextFrame, "untouched")
	}
}

// -max-conns counts the connections of all rooms, and a refused one opens no room.
func TestFullChat(t *testing.T) {
	c := startChat(t, with(func(cfg *config) { cfg.maxConns = 2 }))
	c.join("/a/ws")
	c.join("/b/ws")
	if response := wstest.Get(t, c.addr, "/c/ws"); response.StatusCode != 503 || c.exists("c") {
		t.Errorf("got %s, room c is open: %v; want 503, false", response.Status, c.exists("c"))
	}
}

// A full chat refuses handshakes until somebody leaves. Its page still loads, and a plain request gets the same
// answer.
func TestFullChatOverHTTP(t *testing.T) {
	c := startChat(t, with(func(cfg *config) { cfg.maxConns = 3 }))
	peers := wstest.JoinMany(t, c.addr, 3)
	for range 3 {
		response := wstest.Handshake(t, c.addr, nil)
		if response.StatusCode != 503 || response.Header.Get("Retry-After") != "5" {
			t.Errorf("status %s, Retry-After %q", response.Status, response.Header.Get("Retry-After"))
		}
	}
	for path, status := range map[string]int{"/": 200, "/ws": 503} {
		if response := wstest.Get(t, c.addr, path); response.StatusCode != status {
			t.Errorf("%s: status %s, want %d", path, response.Status, status)
		}
	}
	peers[0].Send(websocket.CloseFrame, "")
	peers[0].ExpectClose(1005)
	peers[0].Conn.Close()
	c.untilOpen(2)
	peers[0] = c.join("/ws")
	peers[0].Send(websocket.TextFrame, "here we are")
	for _, p := range peers {
		p.Expect(websocket.TextFrame, "here we are")
	}
	if response := wstest.Get(t, c.addr, "/ws"); response.StatusCode != 503 {
		t.Errorf("status %s", response.Status)
	}
}

// The last lines of an open room can be read with a plain request, even while the chat is full and when nobody is
// there. They have the numbers that positions have, and the times. A room that is not open stays so.
func TestLines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := startChat(t, inMemory, with(func(cfg *config) { cfg.maxConns = 1 }))
		type read struct {
			Epoch string
			Lines []struct {
				Seq  uint64
				At   time.Time
				Text string
			}
			More bool
		}
		server := newServer(c.chat)
		lines := func(target string, want int) (got read) {
			t.Helper()
			w := answer(server, "GET", target)
			if err := json.Unmarshal(w.Body.Bytes(), &got); w.Code != want || want == 200 && err != nil {
				t.Errorf("%s: got status %d and %s, %v; want %d", target, w.Code, w.Body, err, want)
			}
			return got
		}
		lines("/lobby/lines", 404)
		if got := lines("/lines", 200); len(got.Lines) != 0 || got.More {
			t.Errorf("at first: got %+v, want no lines", got)
		}
		began := time.Now()
		ann, at := c.resume("/lobby/ws", "")
		for _, line := range wstest.Numbered(0, 300) {
			ann.Send(websocket.TextFrame, line)
			ann.Expect(websocket.TextFrame, line)
			time.Sleep(10 * time.Millisecond)
		}
		for _, here := range []bool{true, false} {
			got := lines("/lobby/lines", 200)
			if got.Epoch != at.epoch || len(got.Lines) != 200 || !got.More {
				t.Fatalf("got %.200v, want 200 lines of %s", got, at.epoch)
			}
			for i, line := range got.Lines {
				if seq := 100 + i; line.Seq != uint64(seq) || line.Text != fmt.Sprint("line ", seq) || !line.At.Equal(began.Add(time.Duration(seq)*10*time.Millisecond)) {
					t.Errorf("got %+v, want line %d", line, seq)
				}
			}
			if here {
				leave(ann)
				c.untilOpen(0)
			}
		}
		bob, _ := c.resume("/lobby/ws", fmt.Sprint(at.epoch, ".", 299))
		bob.ExpectLines("line 299")
		leave(bob)
		time.Sleep(6 * time.Minute)
		lines("/lobby/lines", 404)
		if c.exists("lobby") {
			t.Error("a request opened a room, want none")
		}
	})
}

// Of many who come at once, only -max-conns get in.
func TestRushForAFullChat(t *testing.T) {
	c := startChat(t, with(func(cfg *config) { cfg.maxConns = 5 }))
	statuses := make(chan int)
	for range 50 {
		p := wstest.NewClient(t, c.dial())
		go func() {
			p.Write([]byte(wstest.Request("/ws")))
			response, err := http.ReadResponse(p.In, nil)
			if err != nil {
				t.Error(err)
				response = new(http.Response)
			}
			statuses <- response.StatusCode
		}()
	}
	answers := map[int]int{}
	for range 50 {
		answers[<-statuses]++
	}
	if answers[101] != 5 || answers[503] != 45 {
		t.Errorf("answered with %v", answers)
	}
	if got := c.chat.shared.counters.Connections.Value(); got != 5 {
		t.Errorf("%d are counted", got)
	}
}

// A stop loses nothing that was said in any room.
func TestStopInRooms(t *testing.T) {
	c := startChat(t)
	var peers []*wstest.Client
	for n := range 20 {
		peers = append(peers, c.join(fmt.Sprintf("/room-%d/ws", n/4)))
	}
	var speaking, listening sync.WaitGroup
	crowd := wstest.Crowd{Speakers: 4, Each: 1000}
	for n, p := range peers {
		listening.Go(func() { crowd.HearAll(p) })
		speaking.Go(func() { crowd.Speak(p, n%4) })
	}
	speaking.Wait()
	c.stop()
	listening.Wait()
}

// stored is an option with -state in a new directory, which it returns, too.
func stored(t testing.TB) (dir string, o option) {
	dir = filepath.Join(t.TempDir(), "state") // which the chat makes, so that nobody else can write to it
	return dir, with(func(cfg *config) { cfg.state = dir })
}

// crash makes the last stop look like a crash: the directory was not closed.
func crash(t testing.TB, dir string) {
	if err := os.WriteFile(filepath.Join(dir, "lock"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
}

// With -state, rooms continue after a restart. A client that comes back misses nothing, gets nothing twice, and
// finds the same epoch, except in a room in which nothing was said. Times and senders survive, too.
func TestRestart(t *testing.T) {
	for _, test := range []struct {
		room string
		said int
	}{{"", 10}, {"/lobby", 10}, {"/silent", 0}} {
		_, state := stored(t)
		since, seq := "", 0
		for run := range 3 {
			c := startChat(t, state)
			p, at := c.resume(fmt.Sprintf("%s/ws?events&sender=ann.%d", test.room, seq), since)
			if at.seq != uint64(seq) || at.end != uint64(seq) || seq > 0 && !strings.HasPrefix(since, at.epoch+".") {
				t.Errorf("%q, run %d: at %v of %d, want %s of %d", test.room, run, at, at.end, since, seq)
			}
			if e := readEvent(t, p); e.Acked == nil || *e.Acked != uint64(seq) {
				t.Errorf("%q, run %d: got %+v, want %d acknowledged", test.room, run, e, seq)
			}
			before := time.Now().UnixMilli()
			witness := c.join(test.room + "/ws")
			for n := range test.said {
				p.Send(websocket.TextFrame, fmt.Sprint("line ", seq+n))
				witness.Expect(websocket.TextFrame, fmt.Sprint("line ", seq+n))
			}
			p.Conn.Close()
			witness.Conn.Close()
			c.stop()

			c = startChat(t, state)
			late, _ := c.resume(test.room+"/ws?events", fmt.Sprintf("%s.%d", at.epoch, seq))
			readEvent(t, late) // people
			if test.said > 0 {
				if e := readEvent(t, late); e.Times[0][1] < before || e.Times[0][1] > time.Now().UnixMilli() {
					t.Errorf("%q, run %d: got times %v, want them from %d on", test.room, run, e.Times, before)
				}
			}
			late.ExpectLines(wstest.Numbered(seq, seq+test.said)...)
			late.Conn.Close()
			c.stop()
			seq += test.said
			since = fmt.Sprintf("%s.%d", at.epoch, seq)
		}
	}
}

// After a crash the epoch is new. Positions of the epochs before still hold for the lines that were stored, and a
// position after these means their end, through stops and crashes in any order.
func TestCrash(t *testing.T) {
	dir, state := stored(t)
	var past []position // of each run, one in the middle of what was said
	for run, said := 0, 0; run < 6; run++ {
		c := startChat(t, state)
		resume := func(since string) position {
			p, at := c.resume("/lobby/ws", since)
			p.ExpectLines(wstest.Numbered(int(at.seq), said)...)
			p.Conn.Close()
			return at
		}
		now := resume("")
		for i, then := range past {
			if at := resume(then.String()); at.seq != then.seq || at.epoch != now.epoch {
				t.Errorf("run %d: %v of run %d is %v, want the same line", run, then, i, at)
			}
			lost := fmt.Sprintf("%s.%d", then.epoch, said+5)
			if at := resume(lost); then.epoch != now.epoch && at.seq > uint64(said) {
				t.Errorf("run %d: %s, which was lost, is %v, want at most %d", run, lost, at, said)
			}
		}
		if crashed := run%3 != 0; run > 0 && (now.epoch != past[run-1].epoch) != crashed {
			t.Errorf("run %d: epoch %s after %s, want another one after a crash only", run, now.epoch, past[run-1].epoch)
		}
		ann := c.join("/lobby/ws")
		sayNumbered(t, ann, said, said+10)
		said += 10
		past = append(past, position{epoch: now.epoch, seq: uint64(said - 3)})
		ann.Conn.Close()
		c.stop()
		if run%3 != 2 {
			crash(t, dir)
		}
	}
}

// Lines are on the disk 3 s after they were said, the files of rooms that have ended are gone, and nothing is
// written while nothing is said.
func TestStoring(t *testing.T) {
	dir, state := stored(t)
	file := filepath.Join(dir, "room-lobby.txt")
	synctest.Test(t, func(t *testing.T) {
		c := startChat(t, inMemory, state)
		ann := c.join("/lobby/ws")
		for n := range 5 {
			sayNumbered(t, ann, n*10, n*10+10)
			time.Sleep(3 * time.Second)
			synctest.Wait()
			if text, _ := os.ReadFile(file); !strings.Contains(string(text), fmt.Sprintf("\nline %d\n", n*10+9)) {
				t.Errorf("after %d lines: stored %q, want all of them", n*10+10, text)
			}
		}
		before, err := os.Stat(file)
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute / 2)
		if after, err := os.Stat(file); err != nil || after.ModTime() != before.ModTime() {
			t.Errorf("written at %v although nothing was said, %v", after.ModTime(), err)
		}
		ann.Conn.Close()
		time.Sleep(6 * time.Minute)
		synctest.Wait()
		if _, err := os.Stat(file); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("the room has ended, and its file: %v, want none", err)
		}
	})
}

// A stop that can't store the last lines counts as a crash, and a start that fails does not make a crash of the
// stop before it.
func TestIncompleteStop(t *testing.T) {
	for _, test := range []struct {
		name, obstacle string
		fail           func(c *testChat, dir string) // with the obstacle in place
		same           bool                          // epoch
	}{
		{"stop", "room-lobby.txt.tmp", func(c *testChat, _ string) { c.stop() }, false},
		{"start", "relay.txt", func(c *testChat, dir string) {
			cfg := defaults
			cfg.state, cfg.relay = dir, "127.0.0.1:0"
			if _, err := openChat(t.Context(), cfg); err == nil || !strings.Contains(err.Error(), "-state") {
				t.Errorf("got %v, want an error about -state", err)
			}
		}, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir, state := stored(t)
			c := startChat(t, state)
			ann, at := c.resume("/lobby/ws", "")
			sayNumbered(t, ann, 0, 10)
			ann.Conn.Close()
			if test.name == "start" {
				c.stop()
			}
			obstacle := filepath.Join(dir, test.obstacle)
			if err := os.MkdirAll(filepath.Join(obstacle, "x"), 0o700); err != nil {
				t.Fatal(err)
			}
			test.fail(c, dir)
			if err := os.RemoveAll(obstacle); err != nil {
				t.Fatal(err)
			}
			c = startChat(t, state)
			if _, back := c.resume("/lobby/ws", fmt.Sprintf("%s.10", at.epoch)); (back.epoch == at.epoch) != test.same {
				t.Errorf("epoch %s after %s, want the same: %v", back.epoch, at.epoch, test.same)
			}
		})
	}
}

// If more rooms were stored than there may be now, those that were written last open. The files of the others are
// removed. A room in which nothing was said is not stored.
func TestFewerRooms(t *testing.T) {
	dir, state := stored(t)
	c := startChat(t, state)
	for _, target := range []string{"/ws", "/a/ws", "/b/ws", "/c/ws", "/d/ws"} {
		ann := c.join(target)
		sayNumbered(t, ann, 0, 1)
		leave(ann)
	}
	leave(c.join("/silent/ws"))
	c.stop()
	for n, room := range []string{"room", "room-c", "room-a", "room-b", "room-d"} {
		at := time.Unix(int64(n), 0)
		if err := os.Chtimes(filepath.Join(dir, room+".txt"), at, at); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "room-silent.txt")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the file of the silent room: got %v, want none", err)
	}
	c = startChat(t, state, with(func(cfg *config) { cfg.rooms = 2 }))
	if n := c.chat.shared.counters.Rooms.Value(); n != 3 || !c.exists("b") || !c.exists("d") {
		t.Errorf("%d rooms are open, want 3: b, d and the nameless one", n)
	}
	if files, err := filepath.Glob(filepath.Join(dir, "room*.txt")); err != nil || len(files) != 3 {
		t.Errorf("got files %v, %v; want 3", files, err)
	}
	c.join("/a/ws")
	c.join("/e/ws")
	if n := c.chat.shared.counters.Rooms.Value(); n != 3 || !c.exists("a") || !c.exists("e") {
		t.Errorf("%d rooms are open, want 3: a, e and the nameless one", n)
	}
}

// deliver delivers lines of another chat as its relay would.
func (c *testChat) deliver(room, origin string, first uint64, lines ...string) error {
	text := []byte(strings.Join(lines, "\n") + "\n")
	return c.chat.Deliver(c.t.Context(), relayserver.Part{Room: room, Origin: origin, First: first, Count: uint64(len(lines)), Text: text})
}

// mustDeliver is deliver where nothing may fail.
func (c *testChat) mustDeliver(room, origin string, first uint64, lines ...string) {
	c.t.Helper()
	if err := c.deliver(room, origin, first, lines...); err != nil {
		c.t.Errorf("%s: lines from %d on: %v", room, first, err)
	}
}

// A relay gets the lines that are said here, and what it brings is said in its room. It is no person: no limit
// for people counts it, and no people count. internal/relayserver has the tests of the protocol.
func TestRelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := startChat(t, inMemory, relayed, with(func(cfg *config) { cfg.maxConns, cfg.rate = 1, 1 }))
		cfg, err := websocket.NewConfig("ws://chat/relay", relay.OriginHeader)
		if err != nil {
			t.Fatal(err)
		}
		conn, err := websocket.NewClient(cfg, c.relays.(wstest.Listener).Dial(t))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		receive := func() (m relay.Message) {
			var b []byte
			if err := websocket.Message.Receive(conn, &b); err != nil {
				t.Fatal(err)
			}
			if m, err = relay.Decode(b); err != nil {
				t.Fatal(err)
			}
			return m
		}
		send := func(m relay.Message) {
			if err := websocket.Message.Send(conn, m.Encode()); err != nil {
				t.Fatal(err)
			}
		}
		if m := receive(); m.Hello == nil || !m.Hello.Backlog {
			t.Fatalf("got %+v, want a hello that asks for a backlog", m)
		}
		ann := c.join("/ws?events")
		if e := readEvent(t, ann); e.People != 1 {
			t.Errorf("got %+v, want 1 person", e)
		}
		began := time.Now()
		for n, line := range wstest.Numbered(0, 100) {
			said := relay.Message{First: uint64(n + 1), Segments: []relay.Segment{{Room: "", Lines: 1, At: time.Now().UnixMilli()}}, Body: []byte(line + "\n")}
			send(relay.Message{Origin: "other", Cursor: &relay.Cursor{Seq: uint64(n + 1)}, Body: said.Encode()})
		}
		ann.ExpectLines(wstest.Numbered(0, 100)...)
		if took := time.Since(began); took > 100*time.Millisecond {
			t.Errorf("100 lines took %v, want no limit for them", took)
		}
		ann.Send(websocket.TextFrame, "from here")
		ann.Expect(websocket.TextFrame, "from here")
		send(relay.Message{Ask: &relay.Ask{From: 1, Limit: 1 << 20}})
		m := receive()
		for m.People != nil {
			m = receive()
		}
		if string(m.Body) != "from here\n" || m.First != 1 {
			t.Errorf("got lines %q from %d on, want the one that was said here", m.Body, m.First)
		}
		if relays, people := c.chat.shared.counters.Relays.Value(), c.chat.shared.counters.Connections.Value(); relays != 1 || people != 1 {
			t.Errorf("counted %d relays and %d people, want 1 and 1", relays, people)
		}
		go io.Copy(io.Discard, ann.In)
		go io.Copy(io.Discard, conn)
	})
}

// A room says each line of another chat once, in order, even if it has ended and was opened again.
func TestRemoteLinesComeOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := startChat(t, inMemory, connectable)
		ann := c.join("/lobby/ws")
		c.mustDeliver("lobby", "other", 1, "one", "two")
		c.mustDeliver("lobby", "other", 1, "one", "two", "three")
		c.mustDeliver("lobby", "another", 1, "of another chat")
		ann.ExpectLines("one", "two", "three", "of another chat")
		if n := c.chat.shared.counters.RelayKnown.Value(); n != 2 {
			t.Errorf("%d lines were known, want 2", n)
		}
	})
}

// A new room does not say what was delivered before it, so a room that has ended and opens again says nothing
// twice.
func TestRoomOpenedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := startChat(t, inMemory, connectable)
		// The chat has delivered lines 1 and 2: its relay server knows, and the room has ended.
		saved := []byte(`{"hello":{"origin":"us","asked":1,"position":{"seq":2,"time":1},"heard":{"other":{"number":2,"heard":1}}},"first":1}` + "\n")
		c.chat.relay = relayserver.New(c.chat, relayserver.Options{Saved: saved, Counters: c.chat.shared.counters})
		ann := c.join("/lobby/ws")
		c.mustDeliver("lobby", "other", 1, "one", "two", "three")
		ann.ExpectLines("three")
	})
}

// A mark in -state that is higher than numbers may be does not make a room ignore a chat. It is logged.
func TestForgedMark(t *testing.T) {
	var log strings.Builder
	defer slog.SetDefault(slog.Default())
	slog.SetDefault(slog.New(slog.NewTextHandler(&log, nil)))
	dir, state := stored(t)
	files, err := store.Open(t.Context(), dir, store.Options{History: 256, FileLimit: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	forged := stream.New(256)
	forged.Append(stream.TextFrame([]byte("zero\n")), 1)
	forged.Marks["other"] = once.OriginMark{Number: 1 << 62, At: time.Now().UnixMilli()}
	files.Room("", false).Finish(forged.Since)
	files.Close(nil)
	c := startChat(t, state, connectable)
	ann := c.join("/ws")
	c.mustDeliver("", "other", 1, "one")
	ann.ExpectLines("one")
	leave(ann)
	c.stop() // ends the log
	if !strings.Contains(log.String(), `room="" marks=1`) {
		t.Errorf("got log %q, want one mark of the nameless room in it", log.String())
	}
}

// Lines of other chats open a room only where somebody could enter it, and their loss is an error otherwise.
func TestRemoteLinesOpenRooms(t *testing.T) {
	c := startChat(t, connectable, with(func(cfg *config) { cfg.rooms = 2 }))
	ann, here := c.join("/a/ws"), c.join("/ws")
	for n, test := range []struct {
		room string
		want error
	}{{"b", nil}, {"c", nil}, {"../d", relayserver.ErrNoRoom}, {"D", relayserver.ErrNoRoom}, {"", nil}} {
		if got := c.deliver(test.room, "other", uint64(n+1), "hello"); got != test.want {
			t.Errorf("room %q: got %v, want %v", test.room, got, test.want)
		}
	}
	here.ExpectLines("hello")
	for room, want := range map[string]bool{"": true, "a": true, "b": false, "c": true, "../d": false, "D": false} {
		if got := c.exists(room); got != want {
			t.Errorf("room %q is open: %v, want %v", room, got, want)
		}
	}
	c.join("/c/ws")
	if got := c.deliver("e", "other", 6, "hello"); got != relayserver.ErrNoRoom || c.exists("e") {
		t.Errorf("beside two rooms with people: got %v, want %v", got, relayserver.ErrNoRoom)
	}
	ann.Send(websocket.TextFrame, "untouched")
	ann.ExpectLines("untouched")
}

// A room in which people are at another chat, or speak there, does not end when it is empty here.
func TestRoomWithRemotePeople(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := startChat(t, inMemory, connectable)
		c.mustDeliver("lobby", "other", 1, "hello")
		c.mustDeliver("empty", "other", 2, "hello")
		for n := range uint64(180) { // 15 minutes
			c.chat.SetRemotePeople(map[string]int{"lobby": 1})
			c.mustDeliver("talk", "other", 3+n, "is going on")
			time.Sleep(5 * time.Second)
		}
		for name, want := range map[string]bool{"lobby": true, "talk": true, "empty": false} {
			if got := c.exists(name); got != want {
				t.Errorf("room %s is open: %v, want %v", name, got, want)
			}
		}
		ann := c.join("/lobby/ws?events")
		c.chat.SetRemotePeople(map[string]int{"lobby": 3})
		for e := readEvent(t, ann); e.People != 4; e = readEvent(t, ann) {
		}
		if people := c.chat.People(); len(people) != 1 || people["lobby"] != 1 {
			t.Errorf("people here: %v, want 1 in lobby", people)
		}
		leave(ann)
		c.chat.SetRemotePeople(nil)
		time.Sleep(5*time.Minute + 20*time.Second)
		if c.exists("lobby") {
			t.Error("the room is open when everyone has left, want it ended")
		}
	})
}

// holdLines makes a room hold lines: a client that does not read lags by more than 512 KiB. It returns both
// clients.
func holdLines(c *testChat) (stuck, reader *wstest.Client) {
	c.t.Helper()
	stuck, reader = c.join("/ws"), c.join("/ws")
	sayLong(reader, (512<<10+2*64<<10)/4096)
	return stuck, reader
}

// deliverMany delivers numbered lines of size bytes until Deliver fails. It returns how many it has delivered,
// which grows, and a function that waits for its end.
func deliverMany(c *testChat, n, size int) (delivered *atomic.Int64, wait func()) {
	delivered = new(atomic.Int64)
	var delivering sync.WaitGroup
	delivering.Go(func() {
		for n := range n {
			if c.deliver("", "other", uint64(n+1), fmt.Sprintf("0 %d", n)+strings.Repeat(" ", size)) != nil {
				return
			}
			delivered.Add(1)
		}
	})
	return delivered, delivering.Wait
}

// While a room holds lines, 4 MiB of remote lines wait, and then the relay does. None is lost.
func TestRemoteLinesWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const lines, size = 3000, 4096
		c := startChat(t, inMemory, connectable)
		_, reader := holdLines(c)
		delivered, wait := deliverMany(c, lines, size)
		synctest.Wait()
		if bytes := delivered.Load() * (size + 8 + 128); bytes < 4<<20 || bytes > 4<<20+64<<10 {
			t.Errorf("%d bytes wait, want %d", bytes, 4<<20)
		}
		wstest.Crowd{Speakers: 1, Each: lines}.Listen(reader)
		wait()
	})
}

// Waiting lines are said as soon as nothing holds them back, even if nobody is left to hear them.
func TestWaitingLinesAreSaidAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const lines, size = 900, 4096
		c := startChat(t, inMemory, connectable)
		stuck, reader := holdLines(c)
		before := c.chat.shared.counters.LinesReceived.Value()
		_, wait := deliverMany(c, lines, size)
		synctest.Wait()
		stuck.Conn.Close()
		reader.Conn.Close()
		wait()
		time.Sleep(10 * time.Millisecond)
		if said := c.chat.shared.counters.LinesReceived.Value() - before; said != lines {
			t.Errorf("%d lines were said, want %d", said, lines)
		}
	})
}

// A stop says all remote lines that were delivered, and delivers no more, so that the next run can ask for them.
func TestStopWhileRemoteLinesWait(t *testing.T) {
	dir, state := stored(t)
	synctest.Test(t, func(t *testing.T) {
		c := startChat(t, inMemory, state, connectable, with(func(cfg *config) { cfg.history = 1 << 20 }))
		stuck, reader := holdLines(c)
		delivered, wait := deliverMany(c, 10_000, 2000)
		synctest.Wait()
		if n := delivered.Load(); n == 10_000 || n < 1000 {
			t.Fatalf("%d lines are delivered, want some to wait", n)
		}
		stuck.Conn.Close()
		reader.Conn.Close()
		c.stop()
		wait()
		if err := c.deliver("", "other", 1<<20, "late"); err != relayserver.ErrStopping {
			t.Errorf("after the stop: got %v, want %v", err, relayserver.ErrStopping)
		}
	})
	text, err := os.ReadFile(filepath.Join(dir, "room.txt"))
	if err != nil {
		t.Fatal(err)
	}
	last := -1
	for line := range strings.Lines(string(text)) {
		if _, n, ok := wstest.Parse(strings.TrimSuffix(line, "\n")); ok {
			if n != last+1 {
				t.Fatalf("stored line %d after %d, want %d", n, last, last+1)
			}
			last = n
		}
	}
	if last < 1000 {
		t.Errorf("stored lines up to %d, want all that were delivered", last)
	}
}

// Deliver ends with its context, and delivers nothing then.
func TestDeliverEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := startChat(t, inMemory, connectable)
		stuck, reader := holdLines(c)
		_, wait := deliverMany(c, 3000, 4096)
		synctest.Wait()
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() {
			ended <- c.chat.Deliver(ctx, relayserver.Part{Origin: "third", First: 1, Count: 1, Text: []byte("never said\n")})
		}()
		synctest.Wait()
		cancel()
		if err := <-ended; err != context.Canceled {
			t.Errorf("got %v, want %v", err, context.Canceled)
		}
		stuck.Conn.Close()
		go io.Copy(io.Discard, reader.In)
		wait()
	})
}

// After a restart with -state the chat has the same origin, and still has the lines that no relay has asked
// for. After a crash it says neither its own lines nor those of other chats again that are stored.
func TestRestartWithARelay(t *testing.T) {
	dir, state := stored(t)
	start := func() (c *testChat, snapshot string) {
		c = startChat(t, state, connectable)
		return c, string(c.chat.relay.Snapshot())
	}
	origin := func(snapshot string) string {
		_, after, _ := strings.Cut(snapshot, `"origin":"`)
		origin, _, _ := strings.Cut(after, `"`)
		return origin
	}
	c, before := start()
	ann := c.join("/ws")
	sayNumbered(t, ann, 0, 10)
	c.mustDeliver("", "other", 1, "a", "b", "c")
	ann.ExpectLines("a", "b", "c")
	ann.Conn.Close()
	c.stop()
	if _, err := os.Stat(filepath.Join(dir, "relay.txt")); err != nil {
		t.Error(err)
	}

	c, after := start()
	if _, err := os.Stat(filepath.Join(dir, "relay.txt")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("relay.txt after a start: %v, want none", err)
	}
	if origin(after) != origin(before) || !strings.Contains(after, "line 0\n") || !strings.Contains(after, "line 9\n") {
		t.Errorf("after a restart: %q, want origin %s and ten lines", after, origin(before))
	}
	ann = c.join("/ws")
	c.mustDeliver("", "other", 1, "a", "b", "c", "d")
	ann.ExpectLines("d")
	ann.Conn.Close()
	c.stop()
	crash(t, dir)

	c, crashed := start()
	if origin(crashed) == origin(before) || strings.Contains(crashed, "line 0\n") {
		t.Errorf("after a crash: %q, want another origin and no line", crashed)
	}
	ann = c.join("/ws")
	c.mustDeliver("", origin(before), 1, wstest.Numbered(0, 12)...)
	c.mustDeliver("", "other", 1, "a", "b", "c", "d", "e")
	ann.ExpectLines("line 10", "line 11", "e")
}

// The public address has no relay, so that no page in a browser can pass for one.
func TestPublicAddressHasNoRelay(t *testing.T) {
	c := startChat(t, connectable)
	conn, err := net.Dial("tcp", c.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	cfg, err := websocket.NewConfig("ws://"+c.addr+"/relay", relay.OriginHeader)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := websocket.NewClient(cfg, conn); err == nil {
		t.Error("a relay could connect to /relay, want it refused")
	}
}
