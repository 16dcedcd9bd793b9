package stream

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"example.com/chat/internal/once"
)

// said returns the lines with these numbers, as one text.
func said(from, to int) string {
	var b strings.Builder
	for n := from; n < to; n++ {
		fmt.Fprintf(&b, "line %d\n", n)
	}
	return b.String()
}

// filled returns a stream of 20 lines, with each lines in a frame. Frame n was said at the time n.
func filled(history, each int) *Stream {
	s := New(history)
	for n := 0; n < 20; n += each {
		s.Append(TextFrame([]byte(said(n, min(n+each, 20)))), int64(n/each))
	}
	s.Trim(20)
	return s
}

// readAll reads what is left for r, of at most limit bytes at a time.
func readAll(s *Stream, r *Reader, limit uint64) (text string) {
	for !r.AtEnd(s) {
		entries, _ := r.Read(s, limit)
		for _, e := range entries {
			text += string(e.Frame.Lines)
		}
	}
	return text
}

// A client that comes back with a position in the history gets the lines from there on. With any other position it gets
// the whole history.
func TestComingBack(t *testing.T) {
	for _, test := range []struct {
		name    string
		history int
		since   string // EPOCH stands for the stream's
		want    int
	}{
		{"for the first time", 256, "", 0},
		{"to the middle", 256, "EPOCH.7", 7},
		{"having missed nothing", 256, "EPOCH.20", 20},
		{"to the beginning", 256, "EPOCH.0", 0},
		{"too late", 8, "EPOCH.3", 12},
		{"just in time", 8, "EPOCH.12", 12},
		{"to the last line", 8, "EPOCH.19", 19},
		{"for the first time, to a full history", 8, "", 12},
		{"to a history of one line", 1, "", 19},
		{"without a history", 0, "EPOCH.3", 20},
		{"without a history, having missed nothing", 0, "EPOCH.20", 20},
		{"for the first time, without a history", 0, "", 20},
		{"to another run", 256, "ANOTHER.7", 0},
		{"from the future", 256, "EPOCH.21", 0},
		{"with a number only", 256, "7", 0},
		{"with an epoch only", 256, "EPOCH", 0},
		{"with an epoch and a point", 256, "EPOCH.", 0},
		{"with a number too large", 256, "EPOCH.99999999999999999999", 0},
		{"with a negative number", 256, "EPOCH.-1", 0},
		{"with another number behind", 256, "EPOCH.7.7", 0},
		{"with nonsense", 256, "\x00\xff.%zz;&since= ", 0},
	} {
		for _, each := range []int{1, 3, 7, 20} {
			s := filled(test.history, each)
			r := s.NewReaderSince(strings.Replace(test.since, "EPOCH", s.Epoch(), 1))
			if got := r.Line(); got != uint64(test.want) {
				t.Errorf("%s, %d lines a frame: got line %d, want %d", test.name, each, got, test.want)
			}
			if got, want := readAll(s, &r, 1), said(test.want, 20); got != want {
				t.Errorf("%s, %d lines a frame: got %q, want %q", test.name, each, got, want)
			}
		}
	}
}

// A client that comes without a position gets what is said later, and none of the history.
func TestNewReader(t *testing.T) {
	s := filled(256, 3)
	r := s.NewReader()
	s.Append(TextFrame([]byte("new\n")), 0)
	if got := readAll(s, &r, 1<<20); got != "new\n" {
		t.Errorf("got %q, want %q", got, "new\n")
	}
}

// Each stream has an epoch of letters and digits of its own.
func TestEpoch(t *testing.T) {
	a, b := New(1).Epoch(), New(1).Epoch()
	if a == b || len(a) < 20 || strings.Trim(a, "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567") != "" {
		t.Errorf("got %q and %q, want two epochs", a, b)
	}
}

// A record of a stream begins with the frame that holds the line asked for, and never before the history.
func TestSince(t *testing.T) {
	for _, test := range []struct{ history, each, since, first int }{
		{256, 1, 0, 0}, {256, 1, 7, 7}, {256, 1, 20, 20}, {256, 1, 1000, 20},
		{256, 3, 6, 6}, {256, 3, 7, 6}, {256, 3, 8, 6}, {256, 3, 19, 18}, {256, 3, 20, 20},
		{8, 1, 0, 12}, {8, 1, 13, 13}, {8, 3, 0, 12}, {7, 3, 0, 12}, {6, 3, 0, 12}, {5, 3, 0, 15},
		{0, 1, 0, 20}, {0, 1, 20, 20},
	} {
		r := filled(test.history, test.each).Since(uint64(test.since))
		if r.End != 20 || r.First() != uint64(test.first) {
			t.Errorf("%+v: got a record of lines %d to %d", test, r.First(), r.End)
		}
		var text string
		for _, f := range r.Frames {
			text += string(f.Lines)
			if want := int64(r.First())/int64(test.each) + int64(slices.IndexFunc(r.Frames, func(g Text) bool { return &g.Lines[0] == &f.Lines[0] })); f.At != want {
				t.Errorf("%+v: got a frame said at %d, want %d", test, f.At, want)
			}
		}
		if want := said(test.first, 20); text != want {
			t.Errorf("%+v: got %q, want %q", test, text, want)
		}
	}
}

// A record does not change with its stream.
func TestRecordIsASnapshot(t *testing.T) {
	s := filled(256, 3)
	s.Marks["other"] = once.OriginMark{Number: 5, Heard: 100}
	session := s.Senders.Join("ann", 0)
	session.Receive(1)
	r := s.Since(0)
	s.Marks["other"] = once.OriginMark{Number: 6, Heard: 200}
	s.Senders.Commit()
	s.Append(TextFrame([]byte("new\n")), 0)
	if r.Marks["other"].Number != 5 || !slices.Equal(r.Senders, []once.Saved{{ID: "ann", Acked: 0}}) || r.End != 20 {
		t.Errorf("got marks %v, senders %v, end %d; want the numbers as they were", r.Marks, r.Senders, r.End)
	}
	if got := s.Since(0); got.Marks["other"].Number != 6 || !slices.Equal(got.Senders, []once.Saved{{ID: "ann", Acked: 1}}) {
		t.Errorf("got marks %v and senders %v, want the new numbers", got.Marks, got.Senders)
	}
}

// A stream that is restored from a complete record continues it: with its epoch, its lines and their times, and the numbers
// of senders and other chats.
func TestRestore(t *testing.T) {
	s := filled(256, 3)
	s.Marks["other"] = once.OriginMark{Number: 5, Heard: 100}
	s.Senders.Join("ann", 0).Receive(1)
	s.Senders.Commit()
	s.past = []PastEpoch{{"PAST", 3}}
	want := s.Since(0)
	if got := Restore(256, want, true).Since(0); !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if got := Restore(256, s.Since(15), true).Since(0); got.First() != 15 || got.End != 20 {
		t.Errorf("of the last lines: got lines %d to %d, want 15 to 20", got.First(), got.End)
	}
	if got := Restore(5, want, true); got.start(0).Lines != 15 || got.End().Lines != 20 {
		t.Errorf("with a shorter history: got lines %d to %d, want 15 to 20", got.start(0).Lines, got.End().Lines)
	}
	if got := Restore(256, Record{Epoch: "EMPTY"}, true); got.End().Lines != 0 || got.Epoch() != "EMPTY" {
		t.Errorf("of an empty record: got %d lines of %s", got.End().Lines, got.Epoch())
	}
}

// After a crash, lines may have been said that are lost. So the stream begins a new epoch. A position of an earlier epoch is
// still valid up to the last line that is known of it. Later positions become that line.
func TestRestoreAfterACrash(t *testing.T) {
	s := filled(256, 3)
	first := s.Epoch()
	s = Restore(256, s.Since(0), false)
	second := s.Epoch()
	s.Append(TextFrame([]byte(said(20, 22))), 0)
	s = Restore(256, s.Since(0), false)
	s.Append(TextFrame([]byte(said(22, 25))), 0)
	if third := s.Epoch(); first == second || second == third || first == third {
		t.Errorf("got the epochs %s, %s and %s, want three", first, second, third)
	}
	for since, want := range map[string]uint64{
		first + ".7": 7, first + ".20": 20, first + ".21": 20, first + ".1000": 20, first: 0, first + ".x": 0,
		second + ".7": 7, second + ".21": 21, second + ".22": 22, second + ".23": 22, "UNKNOWN.7": 0,
		s.Epoch() + ".24": 24,
	} {
		if r := s.NewReaderSince(since); r.Line() != want {
			t.Errorf("%s, of %s, %s and now %s: got line %d, want %d", since, first, second, s.Epoch(), r.Line(), want)
		}
	}
	short := Restore(2, s.Since(0), true)
	if r := short.NewReaderSince(first + ".1000"); r.Line() != 23 {
		t.Errorf("with a shorter history: got line %d, want its beginning, 23", r.Line())
	}
}

// A stream remembers the epochs of the last 100 crashes.
func TestPastEpochs(t *testing.T) {
	s := filled(256, 1)
	var epochs []string
	for range 101 {
		epochs = append(epochs, s.Epoch())
		r := s.Since(0)
		s = Restore(256, r, false)
		if now := r.Past; len(now) != len(epochs)-1 {
			t.Fatalf("got %d past epochs after %d crashes", len(now), len(epochs)-1)
		}
	}
	for i, want := range map[int]uint64{0: 0, 1: 7, 50: 7, 100: 7} {
		if r := s.NewReaderSince(epochs[i] + ".7"); r.Line() != want {
			t.Errorf("crash %d: got line %d, want %d", i, r.Line(), want)
		}
	}
}

// Trim drops frames of which all lines are before both the history and the first line that is needed.
func TestTrim(t *testing.T) {
	for _, test := range []struct{ history, needed, first int }{
		{256, 50, 0}, {50, 50, 0}, {49, 50, 0}, {41, 50, 0}, {40, 50, 10}, {35, 50, 10}, {10, 50, 40}, {1, 50, 40}, {0, 50, 50},
		{0, 49, 40}, {0, 40, 40}, {0, 39, 30}, {0, 0, 0}, {15, 20, 20}, {15, 40, 30}, {15, 1000, 30},
	} {
		s := New(test.history)
		for n := 0; n < 50; n += 10 {
			s.Append(TextFrame([]byte(said(n, n+10))), 0)
		}
		s.Trim(uint64(test.needed))
		if got := s.start(0).Lines; got != uint64(test.first) {
			t.Errorf("history %d, line %d needed: got line %d as the first, want %d", test.history, test.needed, got, test.first)
		}
	}
}
