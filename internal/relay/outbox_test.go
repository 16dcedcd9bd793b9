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
	line, rest := []byte(nil), m.Body
	for _, segment := range m.Segments {
		for range segment.Lines {
			line, rest = lines.Cut(rest, 1)
			all = append(all, fmt.Sprintf("%d %s: %s", m.First+uint64(len(all)), segment.Room, line[:len(line)-1]))
		}
	}
	return all
}

// read expects lines, or a channel if want is empty.
func read(t *testing.T, o *Outbox, ask Ask, lost uint64, want []string) {
	t.Helper()
	m, gotLost, added, err := o.Read(o.Origin(), ask)
	if got := linesOf(m); !slices.Equal(got, want) || gotLost != lost || (added == nil) != (len(want) > 0) || err != nil {
		t.Errorf("%+v: got %.300q, lost %d, %v; want %.300q, lost %d", ask, got, gotLost, err, want, lost)
	}
}

// Lines are numbered from 1 over all rooms, and can be read from any number, again and again. Without a line to
// return, Read returns a channel that the next Add closes, for any number of readers.
func TestOutbox(t *testing.T) {
	o := NewOutbox()
	_, _, one, _ := o.Read(o.Origin(), Ask{1, 1})
	_, _, two, _ := o.Read(o.Origin(), Ask{1, 1})
	select {
	case <-one:
		t.Fatal("the channel was closed before the first line came")
	default:
	}
	if _, first := o.Add("", []byte("line 1\nline 2\nline 3\n"), start); first != 1 {
		t.Errorf("the first line got number %d, want 1", first)
	}
	<-one
	<-two
	all := slices.Concat([]string{"1 : line 1", "2 : line 2", "3 : line 3"}, say(o, "lobby", 4, 6), say(o, "", 6, 8))
	for _, from := range []uint64{1, 2, 3, 4, 5, 6, 7, 1, 0} {
		read(t, o, Ask{from, math.MaxInt}, 0, all[max(from, 1)-1:])
	}
	_, _, again, _ := o.Read(o.Origin(), Ask{8, math.MaxInt})
	say(o, "", 8, 11)
	<-again
	if asked, unasked := o.asked, o.Unasked(); asked != 8 || unasked != 3 {
		t.Errorf("got %d asked, %d lines unasked; want 8, 3", asked, unasked)
	}
}

// An answer has at most as many bytes as the relay asks for, its segments included, but at least one line.
func TestOutboxLimit(t *testing.T) {
	o := NewOutbox()
	o.Add("", []byte("1\n2\n3\n4\n"), start)
	o.Add("lobby", []byte(strings.Repeat("x", 1000)+"\n"), start)
	o.Add("lobby", []byte("6\n7\n"), start)
	for _, test := range []struct {
		from         uint64
		limit, lines int
	}{
		{1, math.MinInt + 2*128, 1}, {1, -1, 1}, {1, 0, 1}, {1, 128 + 3, 1}, {1, 128 + 4, 2}, {2, 128 + 5, 2}, {4, 128 + 5, 1},
		{1, 128 + 8, 4}, {1, 2*128 + 8 + 1000, 4}, {1, 2*128 + 8 + 1001, 5}, {1, 2*128 + 8 + 1003, 6}, {1, math.MaxInt, 7},
		{5, 0, 1}, {5, 128 + 1000, 1}, {5, 128 + 1002, 1}, {5, 128 + 1003, 2}, {7, 0, 1},
	} {
		m, _, _, _ := o.Read(o.Origin(), Ask{test.from, test.limit})
		if got := len(linesOf(m)); got != test.lines || m.First != test.from || !m.hasLines() {
			t.Errorf("from %d, limit %d: got %d lines from %d, %+v; want %d", test.from, test.limit, got, m.First, m, test.lines)
		}
	}
	segment := Segment{strings.Repeat("x", 64), math.MaxInt, time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC).UnixMilli()}
	if size := len(Message{Segments: []Segment{segment}}.Encode()) - len(`{"said":[]}`); size > 128 {
		t.Errorf("got a segment of %d bytes, want at most 128", size)
	}
}

// Consecutive lines of a room share a segment if they were said within 1 s and in the order of their times.
func TestOutboxJoins(t *testing.T) {
	o := NewOutbox()
	for _, s := range []Segment{{"", 1, 5000}, {"", 1, 5999}, {"", 1, 6000}, {"", 1, 5999}, {"a", 1, 5999}, {"a", 1, 5999}, {"", 1, 5999}} {
		o.Add(s.Room, []byte("x\n"), time.UnixMilli(s.At))
	}
	m, _, _, _ := o.Read(o.Origin(), Ask{1, math.MaxInt})
	if want := []Segment{{"", 2, 5000}, {"", 1, 6000}, {"", 1, 5999}, {"a", 2, 5999}, {"", 1, 5999}}; !slices.Equal(m.Segments, want) {
		t.Errorf("got %v, want %v", m.Segments, want)
	}
}

// A line is held until a relay has asked for a later one, and for 3 minutes afterwards.
func TestOutboxHolds(t *testing.T) {
	o, now := NewOutbox(), start
	all := say(o, "", 1, 11)
	for _, step := range []struct {
		after     time.Duration // since the step before
		ask, lost uint64
		first     int // line of the answer
	}{
		{30 * time.Minute, 0, 0, 1},
		{0, 4, 0, 4}, // so 1 to 3 are in the JetStream stream
		{90 * time.Second, 8, 0, 8},
		{89 * time.Second, 0, 0, 1},
		{2 * time.Second, 0, 0, 4}, // no line before 8 counts as lost
		{0, 1, 3, 4},
		{87 * time.Second, 0, 0, 4},
		{4 * time.Second, 0, 0, 8},
		{30 * time.Minute, 2, 4, 8}, // the first three were counted
		{0, 11, 0, 11},
		{6 * time.Minute, 0, 0, 11},
	} {
		for range step.after / time.Second {
			now = now.Add(time.Second)
			o.Trim(now)
		}
		read(t, o, Ask{step.ask, math.MaxInt}, step.lost, all[step.first-1:])
	}
	if o.size != 0 || len(o.past) != 0 {
		t.Errorf("got %d bytes and %d values of asked in an empty outbox, want none", o.size, len(o.past))
	}
}

// An Outbox holds at most 64 MiB, including 128 bytes for each Add, and drops the oldest lines. A dropped line
// counts as lost once, when a relay asks for it.
func TestOutboxIsBounded(t *testing.T) {
	const each, many, maxHeld = 1 << 20, 100, 64 << 20
	o := NewOutbox()
	line := []byte(strings.Repeat("x", each-1) + "\n")
	for range many {
		o.Add("", line, start)
	}
	first := uint64(many - maxHeld/(each+128) + 1)
	for _, test := range []struct{ from, lost uint64 }{{0, first - 1}, {3, 0}, {first, 0}, {first + 1, 0}} {
		m, lost, _, _ := o.Read(o.Origin(), Ask{test.from, each})
		if m.First != max(first, test.from) || lost != test.lost {
			t.Errorf("from %d: got lines from %d, %d lost; want %d, %d", test.from, m.First, lost, max(first, test.from), test.lost)
		}
	}
	if _, first := o.Add("", append(make([]byte, maxHeld), '\n'), start); first != many+1 || o.size != 0 {
		t.Errorf("a line of more than 64 MiB: got number %d and %d bytes held, want %d and 0", first, o.size, many+1)
	}
}

// If somebody else has numbered a line of the outbox's origin, the outbox gives up that origin, and only
// then. Lines that no relay has asked for get numbers from 1, and keep their order, rooms and gaps. Nobody
// can read with numbers of the former origin.
func TestDisown(t *testing.T) {
	for _, test := range []struct {
		name  string
		say   int    // lines, of which each Add has one
		asked uint64 // 0 for no ask
		next  uint64 // number after a line of the origin that was seen
		want  []string
	}{
		{"the outbox's last line", 5, 3, 6, nil},
		{"a line of a number that comes next", 5, 3, 7, []string{"1 : line 3", "2 : line 4", "3 : line 5"}},
		{"a forged number", 5, 3, 1 << 52, []string{"1 : line 3", "2 : line 4", "3 : line 5"}},
		{"no relay yet", 2, 0, 1 << 52, []string{"1 : line 1", "2 : line 2"}},
		{"nothing waits", 5, 6, 1 << 52, []string{}},
		{"nothing was said", 0, 0, 2, []string{}},
		{"nothing was said or numbered", 0, 0, 1, nil},
	} {
		o := NewOutbox()
		former := o.Origin()
		all := say(o, "", 1, test.say+1)
		o.Read(former, Ask{test.asked, 1})
		_, _, waiting, _ := o.Read(former, Ask{uint64(test.say + 1), 1})
		if test.asked <= uint64(test.say) {
			o.asked = max(test.asked, 1) // which the second Read has changed
		}
		if _, disowned := o.Disown("other", 1<<52); disowned || o.Origin() != former {
			t.Fatalf("%s: a number of another origin changed the origin", test.name)
		}
		last, disowned := o.Disown(former, test.next)
		if disowned != (test.want != nil) || disowned == (o.Origin() == former) || disowned && last != uint64(test.say) {
			t.Errorf("%s: got disowned %v, last %d, origin %s; want %v, %d", test.name, disowned, last, o.Origin(), test.want != nil, test.say)
		}
		if !disowned {
			read(t, o, Ask{0, math.MaxInt}, 0, all)
			continue
		}
		<-waiting
		if m, _, added, err := o.Read(former, Ask{1, 1}); err != ErrOrigin || added != nil || m.Lines() > 0 || o.asked != 1 {
			t.Errorf("%s: reading with the former origin: got %+v, %v, %d asked; want ErrOrigin, 1", test.name, m, err, o.asked)
		}
		if _, again := o.Disown(former, 1<<52); again {
			t.Errorf("%s: a number of the former origin changed the new one", test.name)
		}
		read(t, o, Ask{0, math.MaxInt}, 0, test.want)
		o.Trim(start)
		o.Trim(start.Add(3 * time.Minute)) // drops nothing, because no relay has asked
		origin, first := o.Add("lobby", []byte("new\n"), start)
		if want := uint64(len(test.want) + 1); origin != o.Origin() || first != want {
			t.Errorf("%s: the next line got origin %s and number %d, want %s and %d", test.name, origin, first, o.Origin(), want)
		}
		read(t, o, Ask{1, math.MaxInt}, 0, append(test.want, fmt.Sprintf("%d lobby: new", first)))
		read(t, o, Ask{first + 1, math.MaxInt}, 0, nil)
		if o.Trim(start); o.Unasked() != 0 || o.size == 0 {
			t.Errorf("%s: got %d lines unasked and %d bytes held, want 0 and some", test.name, o.Unasked(), o.size)
		}
		if o.Trim(start.Add(3 * time.Minute)); o.size != 0 {
			t.Errorf("%s: got %d bytes held after 3 minutes, want 0", test.name, o.size)
		}
	}
}

// Under a new origin, an entry loses the lines that a relay has asked for, and lines that were lost stay lost
// once.
func TestDisownLosesNothing(t *testing.T) {
	o := NewOutbox()
	o.Add("", []byte("line 1\nline 2\nline 3\n"), start)
	read(t, o, Ask{2, math.MaxInt}, 0, []string{"2 : line 2", "3 : line 3"})
	o.Disown(o.Origin(), 100)
	read(t, o, Ask{0, math.MaxInt}, 0, []string{"1 : line 2", "2 : line 3"})
	for range 64 {
		o.Add("", append(make([]byte, 1<<20), '\n'), start)
	}
	o.Disown(o.Origin(), 100)
	if m, lost, _, _ := o.Read(o.Origin(), Ask{0, 1}); m.First != 4 || lost != 3 {
		t.Errorf("got lines from %d, %d lost; want 4, 3: two lines, and one of 64 MiB", m.First, lost)
	}
	read(t, o, Ask{67, math.MaxInt}, 0, nil)
}

// Numbers end at 2^52. An outbox that has come so far continues under a new origin.
func TestLastNumber(t *testing.T) {
	const last = 1<<52 - 1
	held := Message{Origin: "US", First: last - 1, Segments: []Segment{{Lines: 1}}, Body: []byte("one\n")}
	o, err := RestoreOutbox(held, last-1)
	if err != nil {
		t.Fatal(err)
	}
	if origin, first := o.Add("", []byte("two\n"), start); origin != "US" || first != last {
		t.Errorf("got origin %s, number %d; want US, %d", origin, first, last)
	}
	if origin, first := o.Add("", []byte("three\nfour\n"), start); origin == "US" || origin != o.Origin() || first != 3 {
		t.Errorf("got origin %s, number %d; want a new one, 3", origin, first)
	}
	read(t, o, Ask{1, math.MaxInt}, 0, []string{"1 : one", "2 : two", "3 : three", "4 : four"})

	for _, first := range []uint64{1 << 52, 1<<52 + 1, 1 << 62, 1<<64 - 3} {
		for _, asked := range []uint64{1, first, first + 1} {
			held.First = first
			o, err := RestoreOutbox(held, asked)
			if err != nil || o.Origin() == "US" {
				t.Fatalf("restored numbers from %d on: got origin %s, %v; want a new one", first, o.Origin(), err)
			}
			var want []string
			if asked <= first {
				want = []string{"1 : one"}
			}
			read(t, o, Ask{0, math.MaxInt}, 0, want)
		}
	}
}

// A restored Outbox continues with the lines that were held, and their numbers.
func TestSnapshot(t *testing.T) {
	o := NewOutbox()
	settle := func() { o.Trim(start); o.Trim(start.Add(3 * time.Minute)) }
	for stage, more := range []func(){
		func() {},
		func() { say(o, "", 1, 4); o.Add("lobby", []byte("a\n\nb\n"), start.Add(time.Hour)) },
		func() { o.Read(o.Origin(), Ask{3, 1}) },
		settle, // only the lines from 3 on remain
		func() { o.Read(o.Origin(), Ask{7, 1}); settle() },
		func() { o.Add("", []byte("x\n"), start) },
	} {
		more()
		restored, err := RestoreOutbox(o.Snapshot())
		if err != nil {
			t.Fatalf("stage %d: %v", stage, err)
		}
		got, _, _, _ := restored.Read(o.origin, Ask{0, math.MaxInt})
		want, _, _, _ := o.Read(o.origin, Ask{0, math.MaxInt})
		if origin, first := restored.Add("", []byte("x\n"), start); origin != o.origin || first != o.next || restored.asked != o.asked || !reflect.DeepEqual(got, want) {
			t.Errorf("stage %d: got %+v, %d asked, next %d; want %+v, %d, %d", stage, got, restored.asked, first, want, o.asked, o.next)
		}
	}
}

// RestoreOutbox refuses a snapshot whose numbers can't be.
func TestForgedSnapshot(t *testing.T) {
	for name, forge := range map[string]func(held *Message) (asked uint64){
		"too many lines":          func(m *Message) uint64 { m.Segments[0].Lines = 1 << 40; return 1 },
		"lines without a segment": func(m *Message) uint64 { m.Segments = nil; return 1 },
		"no lines and no number":  func(m *Message) uint64 { *m = Message{}; return 1 },
		"numbers that overflow":   func(m *Message) uint64 { m.First = 1<<64 - 1; return 1 },
		"nothing was asked for":   func(*Message) uint64 { return 0 },
		"asked for a later line":  func(*Message) uint64 { return 3 },
	} {
		held := Message{First: 1, Segments: []Segment{{Room: "", Lines: 1}}, Body: []byte("one\n")}
		asked := forge(&held)
		if _, err := RestoreOutbox(held, asked); err == nil {
			t.Errorf("%s: got no error", name)
		}
	}
}
