package relay

import (
	"fmt"
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"example.com/chat/internal/lines"
)

var start = time.UnixMilli(1_000_000)

// say adds numbered lines, one at a time, and returns them in the form of linesOf.
func say(o *Outbox, room string, from, to int) (said []string) {
	for n := from; n < to; n++ {
		o.Add(room, fmt.Appendf(nil, "line %d\n", n), start)
		said = append(said, fmt.Sprintf("%d %s: line %d", n, room, n))
	}
	return said
}

// linesOf returns the lines of m, each with its number and its room: "7 lobby: hello".
func linesOf(m Message) (all []string) {
	text, number := m.Body, m.First
	for _, segment := range m.Segments {
		var part []byte
		part, text = lines.Cut(text, segment.Lines)
		for line := range strings.Lines(string(part)) {
			all = append(all, fmt.Sprintf("%d %s: %s", number, segment.Room, strings.TrimSuffix(line, "\n")))
			number++
		}
	}
	return all
}

// read expects lines, or a channel if want is empty.
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
	if first := o.Add("", []byte("line 1\nline 2\nline 3\n"), start); first != 1 {
		t.Errorf("the first line got number %d, want 1", first)
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
	expectAsked(t, o, 8, 0)
	say(o, "", 8, 11)
	expectAsked(t, o, 8, 3)
}

// expectAsked expects the highest number that was asked for, and a number of lines from it on.
func expectAsked(t *testing.T, o *Outbox, asked, unasked uint64) {
	t.Helper()
	if gotAsked, gotUnasked := o.Asked(), o.Unasked(); gotAsked != asked || gotUnasked != unasked {
		t.Errorf("got %d asked, %d lines unasked; want %d, %d", gotAsked, gotUnasked, asked, unasked)
	}
}

// Without a line to return, Read returns a channel that the next Add closes, for any number of readers.
func TestOutboxWaits(t *testing.T) {
	o := NewOutbox()
	_, _, one := o.Read(Ask{1, 1})
	_, _, two := o.Read(Ask{1, 1})
	select {
	case <-one:
		t.Fatal("the channel was closed before the first line came")
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

// An answer has at most as many bytes as the relay asks for, but at least one line. It may begin and end
// within an entry.
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
		{1, math.MinInt + segmentCost*2, 1}, {1, -1, 1}, {1, 0, 1}, {1, segmentCost + 3, 1}, {1, segmentCost + 4, 2}, {2, segmentCost + 5, 2}, {4, segmentCost + 5, 1},
		{1, segmentCost + 8, 4}, {1, 2*segmentCost + 8 + 1000, 4}, {1, 2*segmentCost + 8 + 1001, 5}, {1, 2*segmentCost + 8 + 1003, 6}, {1, math.MaxInt, 7},
		{5, 0, 1}, {5, segmentCost + 1000, 1}, {5, segmentCost + 1002, 1}, {5, segmentCost + 1003, 2}, {7, 0, 1},
	} {
		m, _, _ := o.Read(Ask{test.from, test.limit})
		if got := len(linesOf(m)); got != test.lines || m.First != test.from {
			t.Errorf("from %d, limit %d: got %d lines from %d, want %d", test.from, test.limit, got, m.First, test.lines)
		}
		if got, err := Decode(m.Encode()); err != nil || !slices.Equal(linesOf(got), linesOf(m)) {
			t.Errorf("from %d, limit %d: got %+v, %v after encoding; want %+v", test.from, test.limit, got, err, m)
		}
	}
}

// The limit includes the header of the message.
func TestOutboxHeader(t *testing.T) {
	o := NewOutbox()
	for n := range 1000 {
		o.Add(fmt.Sprintf("%064d", n), []byte("x\n"), start.Add(time.Duration(n)*time.Hour))
	}
	const limit = 10_000
	if m, _, _ := o.Read(Ask{1, limit}); len(m.Encode()) > limit+100 || len(m.Encode()) < limit/2 {
		t.Errorf("got %d bytes, want %d to %d", len(m.Encode()), limit/2, limit+100)
	}
}

// Consecutive lines of a room share a segment if they were said within 1 s and in the order of their times.
func TestOutboxJoins(t *testing.T) {
	o := NewOutbox()
	for _, entry := range []struct {
		room string
		at   int64
	}{{"", 5000}, {"", 5999}, {"", 6000}, {"", 5999}, {"a", 5999}, {"a", 5999}, {"", 5999}} {
		o.Add(entry.room, []byte("x\n"), time.UnixMilli(entry.at))
	}
	m, _, _ := o.Read(Ask{1, math.MaxInt})
	if want := []Segment{{"", 2, 5000}, {"", 1, 6000}, {"", 1, 5999}, {"a", 2, 5999}, {"", 1, 5999}}; !slices.Equal(m.Segments, want) {
		t.Errorf("got %v, want %v", m.Segments, want)
	}
}

// A line is held until a relay has asked for a later one, and for 3 minutes afterwards.
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
	pass(30 * time.Minute)
	read(t, o, Ask{0, math.MaxInt}, 0, all)
	read(t, o, Ask{4, math.MaxInt}, 0, all[3:]) // so 1 to 3 are in the JetStream stream
	pass(90 * time.Second)
	read(t, o, Ask{8, math.MaxInt}, 0, all[7:])
	pass(90*time.Second - time.Second)
	read(t, o, Ask{0, math.MaxInt}, 0, all)
	pass(2 * time.Second)
	read(t, o, Ask{0, math.MaxInt}, 0, all[3:]) // no line before 8 counts as lost
	read(t, o, Ask{1, math.MaxInt}, 3, all[3:])
	pass(90*time.Second - 3*time.Second)
	read(t, o, Ask{0, math.MaxInt}, 0, all[3:])
	pass(4 * time.Second)
	read(t, o, Ask{0, math.MaxInt}, 0, all[7:])
	pass(30 * time.Minute)
	read(t, o, Ask{2, math.MaxInt}, 4, all[7:]) // the first three were counted
	read(t, o, Ask{11, math.MaxInt}, 0, nil)
	pass(6 * time.Minute)
	read(t, o, Ask{0, math.MaxInt}, 0, nil)
	if o.size != 0 || len(o.past) != 0 {
		t.Errorf("got %d bytes and %d values of asked in an empty outbox, want none", o.size, len(o.past))
	}
}

// An Outbox holds at most 64 MiB. Beyond that it drops the oldest lines, and counts each as lost once, when a
// relay asks for it.
func TestOutboxIsBounded(t *testing.T) {
	const each, many, maxHeld = 1 << 20, 100, 64 << 20
	o := NewOutbox()
	line := []byte(strings.Repeat("x", each-1) + "\n")
	for range many {
		o.Add("", line, start)
	}
	first := uint64(many - maxHeld/(each+entryCost) + 1)
	for _, test := range []struct{ from, lost uint64 }{{0, first - 1}, {3, 0}, {first, 0}, {first + 1, 0}} {
		m, lost, _ := o.Read(Ask{test.from, each})
		if m.First != max(first, test.from) || lost != test.lost {
			t.Errorf("from %d: got lines from %d, %d lost; want %d, %d", test.from, m.First, lost, max(first, test.from), test.lost)
		}
	}
	if first := o.Add("", append(make([]byte, maxHeld), '\n'), start); first != many+1 || o.size != 0 {
		t.Errorf("a line of more than 64 MiB: got number %d and %d bytes held, want %d and 0", first, o.size, many+1)
	}
	o = NewOutbox()
	for range maxHeld / entryCost {
		o.Add("", []byte("\n"), start)
	}
	if size := len(o.entries) * entryCost; size > maxHeld || size < maxHeld/2 {
		t.Errorf("short lines: got %d bytes held, want %d to %d", size, maxHeld/2, maxHeld)
	}
}

// After a restore from an old copy, a relay may ask for a number above the next one. The next line gets that
// number, and lines that wait under lower numbers count as lost.
func TestOutboxSkips(t *testing.T) {
	o := NewOutbox()
	all := say(o, "", 1, 6)
	read(t, o, Ask{3, math.MaxInt}, 0, all[2:])
	read(t, o, Ask{100, math.MaxInt}, 3, nil) // those from 3 to 5
	if first := o.Add("", []byte("x\n"), start); first != 100 {
		t.Errorf("the next line got number %d, want 100", first)
	}
	read(t, o, Ask{100, math.MaxInt}, 0, []string{"100 : x"})
	read(t, o, Ask{0, math.MaxInt}, 0, []string{"100 : x"})
	expectAsked(t, o, 100, 1)
}

// A restored Outbox continues with the lines that were held, and their numbers.
func TestSnapshot(t *testing.T) {
	o := NewOutbox()
	for stage, more := range []func(){
		func() {},
		func() { say(o, "", 1, 4) },
		func() { o.Add("lobby", []byte("a\n\nb\n"), start.Add(time.Hour)) },
		func() { o.Read(Ask{3, 1}) },
		func() { o.Trim(start); o.Trim(start.Add(3 * time.Minute)) }, // only the lines from 3 on remain
		func() { o.Read(Ask{7, 1}) },
		func() { o.Trim(start); o.Trim(start.Add(3 * time.Minute)) },
		func() { o.Add("", []byte("x\n"), start) },
	} {
		more()
		restored, err := RestoreOutbox(o.Snapshot())
		if err != nil {
			t.Fatalf("stage %d: %v", stage, err)
		}
		expectAsked(t, restored, o.Asked(), o.Unasked())
		got, _, _ := restored.Read(Ask{0, math.MaxInt})
		want, _, _ := o.Read(Ask{0, math.MaxInt})
		if !reflect.DeepEqual(got, want) {
			t.Errorf("stage %d: got %+v, want %+v", stage, got, want)
		}
		if first, want := restored.Add("", []byte("x\n"), start), o.next; first != want {
			t.Errorf("stage %d: the next line got number %d, want %d", stage, first, want)
		}
	}
}

// RestoreOutbox refuses a snapshot whose numbers can't be.
func TestForgedSnapshot(t *testing.T) {
	one, body := []Segment{{Room: "", Lines: 1}}, []byte("one\n")
	for name, test := range map[string]struct {
		held  Message
		asked uint64
	}{
		"more lines than there are": {Message{First: 1, Segments: []Segment{{Room: "", Lines: 1 << 40}}, Body: body}, 1},
		"lines without a segment":   {Message{First: 1, Body: body}, 1},
		"no first number":           {Message{}, 1},
		"a first number too high":   {Message{First: 1<<62 + 1}, 1},
		"nothing was asked for":     {Message{First: 1, Segments: one, Body: body}, 0},
		"asked for a later line":    {Message{First: 1, Segments: one, Body: body}, 3},
	} {
		if _, err := RestoreOutbox(test.held, test.asked); err == nil {
			t.Errorf("%s: got no error", name)
		}
	}
	if _, err := RestoreOutbox(Message{First: 1, Segments: one, Body: body}, 2); err != nil {
		t.Errorf("got %v for a good snapshot, want none", err)
	}
}
