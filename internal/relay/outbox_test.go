package relay

import (
	"example.com/chat/internal/lines"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

var start = time.UnixMilli(1_000_000)

// say adds numbered lines, each by itself, and returns them as linesOf does.
func say(o *Outbox, room string, from, to int) (said []string) {
	for n := from; n < to; n++ {
		o.Add(room, fmt.Appendf(nil, "line %d\n", n), start)
		said = append(said, fmt.Sprintf("%d %s: line %d", n, room, n))
	}
	return said
}

// linesOf returns the lines of m, each with its number and its room.
func linesOf(m Message) (all []string) {
	text, number := m.Body, m.First
	for _, said := range m.Segments {
		var some []byte
		some, text = lines.Cut(text, said.Lines)
		for line := range strings.Lines(string(some)) {
			all = append(all, fmt.Sprintf("%d %s: %s", number, said.Room, strings.TrimSuffix(line, "\n")))
			number++
		}
	}
	return all
}

// read expects lines.
func read(t *testing.T, o *Outbox, ask Ask, lost uint64, want []string) Message {
	t.Helper()
	m, gotLost, added := o.Read(ask)
	if got := linesOf(m); !slices.Equal(got, want) || gotLost != lost || (added == nil) != (len(want) > 0) {
		t.Errorf("%+v: got %.300q, lost %d; want %.300q, lost %d", ask, got, gotLost, want, lost)
	}
	return m
}

// Lines are numbered from 1 over all rooms, and can be read from any number, again and again.
func TestOutbox(t *testing.T) {
	o := NewOutbox()
	if last := o.Add("", []byte("line 1\nline 2\nline 3\n"), start); last != 3 {
		t.Errorf("the last of three is %d", last)
	}
	all := []string{"1 : line 1", "2 : line 2", "3 : line 3"}
	all = append(all, say(o, "lobby", 4, 6)...)
	all = append(all, say(o, "", 6, 8)...)
	for from := uint64(1); from <= 7; from++ {
		read(t, o, Ask{from, math.MaxInt}, 0, all[from-1:])
	}
	read(t, o, Ask{8, math.MaxInt}, 0, nil)
	read(t, o, Ask{1, math.MaxInt}, 0, all)
	read(t, o, Ask{0, math.MaxInt}, 0, all)
	if asked, unasked := o.Asked(), o.Unasked(); asked != 8 || unasked != 0 {
		t.Errorf("asked for %d, %d unasked", asked, unasked)
	}
	say(o, "", 8, 11)
	if asked, unasked := o.Asked(), o.Unasked(); asked != 8 || unasked != 3 {
		t.Errorf("asked for %d, %d unasked", asked, unasked)
	}
}

// Who reads when there is nothing yet learns when there is something; all who wait do.
func TestOutboxWaits(t *testing.T) {
	o := NewOutbox()
	_, _, one := o.Read(Ask{1, 1})
	_, _, two := o.Read(Ask{1, 1})
	select {
	case <-one:
		t.Fatal("told before there was something")
	default:
	}
	all := say(o, "", 1, 2)
	<-one
	<-two
	read(t, o, Ask{1, 1}, 0, all)
	_, _, again := o.Read(Ask{2, 1})
	say(o, "", 2, 3)
	<-again
}

// What is read is no more than was asked for, but a line at least. It may end, and begin, within what was said at once.
func TestOutboxLimit(t *testing.T) {
	o := NewOutbox()
	o.Add("", []byte("1\n2\n3\n4\n"), start)
	o.Add("lobby", []byte(strings.Repeat("x", 1000)+"\n"), start)
	o.Add("lobby", []byte("6\n7\n"), start)
	for _, test := range []struct {
		from  uint64
		limit int
		lines int
	}{
		{1, math.MinInt + saidCost*2, 1}, {1, -1, 1}, {1, 0, 1}, {1, saidCost + 3, 1}, {1, saidCost + 4, 2}, {2, saidCost + 5, 2}, {4, saidCost + 5, 1},
		{1, saidCost + 8, 4}, {1, 2*saidCost + 8 + 1000, 4}, {1, 2*saidCost + 8 + 1001, 5}, {1, 2*saidCost + 8 + 1003, 6}, {1, math.MaxInt, 7},
		{5, 0, 1}, {5, saidCost + 1000, 1}, {5, saidCost + 1002, 1}, {5, saidCost + 1003, 2}, {7, 0, 1},
	} {
		m, _, _ := o.Read(Ask{test.from, test.limit})
		if got := len(linesOf(m)); got != test.lines || m.First != test.from {
			t.Errorf("from %d, limit %d: %d lines from %d, want %d", test.from, test.limit, got, m.First, test.lines)
		}
		if got, err := Decode(m.Encode()); err != nil || !slices.Equal(linesOf(got), linesOf(m)) {
			t.Errorf("from %d, limit %d: got %+v, %v", test.from, test.limit, got, err)
		}
	}
}

// The header of a message takes no more than is counted for it.
func TestOutboxHeader(t *testing.T) {
	o := NewOutbox()
	for n := range 1000 {
		o.Add(fmt.Sprintf("%064d", n), []byte("x\n"), start.Add(time.Duration(n)*time.Hour))
	}
	const limit = 10_000
	if m, _, _ := o.Read(Ask{1, limit}); len(m.Encode()) > limit+100 || len(m.Encode()) < limit/2 {
		t.Errorf("%d bytes, want no more than %d", len(m.Encode()), limit)
	}
}

// Lines of a room that were said within saidPrecision are told as one, up to the next room.
func TestOutboxJoins(t *testing.T) {
	o := NewOutbox()
	for _, said := range []struct {
		room string
		at   int64
	}{{"", 5000}, {"", 5999}, {"", 6000}, {"", 5999}, {"a", 5999}, {"a", 5999}, {"", 5999}} {
		o.Add(said.room, []byte("x\n"), time.UnixMilli(said.at))
	}
	m, _, _ := o.Read(Ask{1, math.MaxInt})
	if want := []Segment{{"", 2, 5000}, {"", 1, 6000}, {"", 1, 5999}, {"a", 2, 5999}, {"", 1, 5999}}; !slices.Equal(m.Segments, want) {
		t.Errorf("got %v, want %v", m.Segments, want)
	}
}

// Lines are held for holdFor after a relay has asked for what is behind them, and as long as none has.
func TestOutboxHolds(t *testing.T) {
	o := NewOutbox()
	all := say(o, "", 1, 11)
	now := start
	pass := func(d time.Duration) {
		for range d / time.Second {
			now = now.Add(time.Second)
			o.Trim(now)
		}
	}
	pass(10 * holdFor)
	read(t, o, Ask{0, math.MaxInt}, 0, all)
	read(t, o, Ask{4, math.MaxInt}, 0, all[3:]) // so 1 to 3 are in the stream
	pass(holdFor / 2)
	read(t, o, Ask{8, math.MaxInt}, 0, all[7:])
	pass(holdFor/2 - time.Second)
	read(t, o, Ask{0, math.MaxInt}, 0, all)
	pass(2 * time.Second)
	read(t, o, Ask{0, math.MaxInt}, 0, all[3:]) // which no one has lost
	read(t, o, Ask{1, math.MaxInt}, 3, all[3:])
	pass(holdFor/2 - 3*time.Second)
	read(t, o, Ask{0, math.MaxInt}, 0, all[3:])
	pass(4 * time.Second)
	read(t, o, Ask{0, math.MaxInt}, 0, all[7:])
	pass(10 * holdFor)
	read(t, o, Ask{2, math.MaxInt}, 4, all[7:]) // the first three were counted
	read(t, o, Ask{11, math.MaxInt}, 0, nil)
	pass(2 * holdFor)
	read(t, o, Ask{0, math.MaxInt}, 0, nil)
	if o.size != 0 || len(o.past) != 0 {
		t.Errorf("when all has been dropped: %d bytes, %d times", o.size, len(o.past))
	}
}

// An Outbox holds no more than maxHeld: the oldest lines are lost, and counted once a relay asks.
func TestOutboxIsBounded(t *testing.T) {
	const each, many = 1 << 20, 100
	o := NewOutbox()
	line := []byte(strings.Repeat("x", each-1) + "\n")
	for range many {
		o.Add("", line, start)
	}
	first := uint64(many - maxHeld/(each+entryCost) + 1)
	for _, test := range []struct{ from, lost uint64 }{{0, first - 1}, {3, 0}, {first, 0}, {first + 1, 0}} {
		m, lost, _ := o.Read(Ask{test.from, each})
		if m.First != max(first, test.from) || lost != test.lost {
			t.Errorf("from %d: the first line is %d, %d are lost; want %d, %d", test.from, m.First, lost, max(first, test.from), test.lost)
		}
	}
	if last := o.Add("", append(make([]byte, maxHeld), '\n'), start); last != many+1 || o.size != 0 {
		t.Errorf("with a line that is longer than maxHeld, number %d, %d bytes are held", last, o.size)
	}
	o = NewOutbox()
	for range maxHeld / entryCost {
		o.Add("", []byte("\n"), start)
	}
	if bytes := len(o.entries) * entryCost; bytes > maxHeld || bytes < maxHeld/2 {
		t.Errorf("short lines take %d bytes", bytes)
	}
}

// Where a relay asks for more than was said, numbers were given before a copy from which the Outbox was restored: the
// next line gets another.
func TestOutboxSkips(t *testing.T) {
	o := NewOutbox()
	all := say(o, "", 1, 6)
	read(t, o, Ask{3, math.MaxInt}, 0, all[2:])
	read(t, o, Ask{100, math.MaxInt}, 3, nil) // those from 3 to 5
	if last := o.Add("", []byte("x\n"), start); last != 100 {
		t.Errorf("the next line has the number %d", last)
	}
	read(t, o, Ask{100, math.MaxInt}, 0, []string{"100 : x"})
	read(t, o, Ask{0, math.MaxInt}, 0, []string{"100 : x"})
	if asked, unasked := o.Asked(), o.Unasked(); asked != 100 || unasked != 1 {
		t.Errorf("asked for %d, %d unasked", asked, unasked)
	}
}

// A restored Outbox goes on: with the lines that were held, and their numbers.
func TestSnapshot(t *testing.T) {
	o := NewOutbox()
	for stage, more := range []func(){
		func() {},
		func() { say(o, "", 1, 4) },
		func() { o.Add("lobby", []byte("a\n\nb\n"), start.Add(time.Hour)) },
		func() { o.Read(Ask{3, 1}) },
		func() { o.Trim(start); o.Trim(start.Add(holdFor)) }, // of which only the lines from 3 on remain
		func() { o.Read(Ask{7, 1}) },
		func() { o.Trim(start); o.Trim(start.Add(holdFor)) },
		func() { o.Add("", []byte("x\n"), start) },
	} {
		more()
		held, asked := o.Snapshot(), o.Asked()
		m, err := Decode(held.Encode())
		if err != nil {
			t.Fatal(err)
		}
		restored := RestoreOutbox(m, asked)
		if restored.Asked() != o.Asked() || restored.Unasked() != o.Unasked() {
			t.Errorf("stage %d: asked for %d, %d unasked; want %d, %d", stage, restored.Asked(), restored.Unasked(), o.Asked(), o.Unasked())
		}
		got, _, _ := restored.Read(Ask{0, math.MaxInt})
		want, _, _ := o.Read(Ask{0, math.MaxInt})
		if !reflect.DeepEqual(got, want) {
			t.Errorf("stage %d: got %+v, want %+v", stage, got, want)
		}
		if last, want := restored.Add("", []byte("x\n"), start), o.next; last != want {
			t.Errorf("stage %d: the next line has the number %d, want %d", stage, last, want)
		}
	}
}

// A snapshot that says more of its lines than it has is one without lines.
func TestForgedSnapshot(t *testing.T) {
	forged := Message{First: 1, Segments: []Segment{{Room: "", Lines: 1 << 40}}, Body: []byte("one\n")}
	if m, _, added := RestoreOutbox(forged, 0).Read(Ask{From: 1, Limit: 100}); added == nil {
		t.Errorf("read %+v", m)
	}
}
