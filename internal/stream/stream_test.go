package stream

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"example.com/chat/internal/once"
)

// numbered returns the lines with these numbers.
func numbered(from, to int) string {
	var b strings.Builder
	for n := from; n < to; n++ {
		fmt.Fprintf(&b, "line %d\n", n)
	}
	return b.String()
}

// filled returns a stream of 20 lines, each of them in a frame with others. Frame n was said at the time n.
func filled(history, each int) *Stream {
	s := New(history)
	for n := 0; n < 20; n += each {
		s.Append(TextFrame([]byte(numbered(n, min(n+each, 20)))), int64(n/each))
	}
	s.Trim(20)
	return s
}

// readAll reads all that is left for r, frame by frame.
func readAll(s *Stream, r *Reader) (text string) {
	for !r.AtEnd(s) {
		entries, _ := r.Read(s, 0)
		text += string(entries[0].Frame.Lines)
	}
	return text
}

// A client that comes back with a position in the history gets the lines from there on, even if that is
// within a frame. With any other position it gets the whole history.
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
		{"with a number too large", 256, "EPOCH.99999999999999999999", 0},
		{"with a negative number", 256, "EPOCH.-1", 0},
		{"with two numbers", 256, "EPOCH.7.7", 0},
		{"with nonsense", 256, "\x00\xff.%zz;&since= ", 0},
	} {
		for _, each := range []int{1, 3, 7, 20} {
			s := filled(test.history, each)
			r := s.NewReaderSince(strings.Replace(test.since, "EPOCH", s.Epoch(), 1))
			line := r.Line()
			if got, want := readAll(s, &r), numbered(test.want, 20); got != want || line != uint64(test.want) {
				t.Errorf("%s, %d lines a frame: got %q from line %d on, want %q from %d on", test.name, each, got, line, want, test.want)
			}
		}
	}
}

// A record of a stream begins with the frame that holds the line asked for, or with the history if that
// begins later. Older frames, which a slow connection needs, are not in it.
func TestSince(t *testing.T) {
	for _, test := range []struct{ history, each, since, first int }{
		{256, 1, 0, 0}, {256, 1, 7, 7}, {256, 1, 20, 20}, {256, 1, 1000, 20},
		{256, 3, 6, 6}, {256, 3, 7, 6}, {256, 3, 8, 6}, {256, 3, 19, 18}, {256, 3, 20, 20},
		{8, 1, 0, 12}, {8, 1, 13, 13}, {6, 3, 0, 12}, {5, 3, 0, 15}, {5, 3, 18, 18}, {0, 1, 0, 20}, {0, 1, 20, 20},
	} {
		s, text := filled(256, test.each), ""
		s.history = uint64(test.history)
		r := s.Since(uint64(test.since))
		for i, f := range r.Frames {
			text += string(f.Lines)
			if want := int64(test.first/test.each + i); f.At != want {
				t.Errorf("%+v: got frame %d said at %d, want %d", test, i, f.At, want)
			}
		}
		if want := numbered(test.first, 20); text != want || r.End != 20 || r.First() != uint64(test.first) {
			t.Errorf("%+v: got %q, lines %d to %d; want %q", test, text, r.First(), r.End, want)
		}
	}
}

// withNumbers returns a stream with a message of the sender ann that is not committed, and five lines of
// another chat.
func withNumbers() *Stream {
	s := filled(256, 3)
	s.Marks["other"] = once.OriginMark{Number: 5, At: 100}
	s.Senders.Join("ann", 0).Receive(1)
	return s
}

// A record has the numbers of senders and other chats as they are with its lines, and does not change with
// the stream.
func TestRecordIsASnapshot(t *testing.T) {
	s := withNumbers()
	before := s.Since(0)
	s.Marks["other"] = once.OriginMark{Number: 6, At: 200}
	s.Senders.Commit()
	s.Append(TextFrame([]byte("new\n")), 0)
	for _, test := range []struct {
		record      Record
		mark, acked once.Mark
		end         uint64
	}{{before, 5, 0, 20}, {s.Since(0), 6, 1, 21}} {
		r := test.record
		if r.Marks["other"].Number != test.mark || !slices.Equal(r.Senders, []once.Saved{{ID: "ann", Acked: test.acked}}) || r.End != test.end {
			t.Errorf("got marks %v, senders %v, end %d; want %+v", r.Marks, r.Senders, r.End, test)
		}
	}
}

// A stream that is restored from a complete record continues it, with the epoch, the lines and their
// times, and the numbers of senders and other chats.
func TestRestore(t *testing.T) {
	s := withNumbers()
	s.Senders.Commit()
	s.past = []PastEpoch{{"PAST", 3}}
	want := s.Since(0)
	if got := Restore(256, want, true).Since(0); !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
	for _, test := range []struct {
		name       string
		history    int
		record     Record
		first, end uint64
	}{
		{"the last lines", 256, s.Since(15), 15, 20},
		{"a shorter history", 5, want, 15, 20},
		{"no history", 0, want, 20, 20},
		{"an empty record", 256, Record{Epoch: "EMPTY"}, 0, 0},
	} {
		got := Restore(test.history, test.record, true)
		if got.start(0).Lines != test.first || got.End().Lines != test.end || got.Epoch() != test.record.Epoch {
			t.Errorf("%s: got lines %d to %d of %s, want %d to %d", test.name, got.start(0).Lines, got.End().Lines, got.Epoch(), test.first, test.end)
		}
	}
}

// After a crash, lines may have been said that are lost. So the stream begins a new epoch. A position of an
// earlier epoch is valid up to the last line that is known of it. Later positions become that line.
func TestRestoreAfterACrash(t *testing.T) {
	s := filled(256, 3)
	first := s.Epoch()
	s = Restore(256, s.Since(0), false)
	second := s.Epoch()
	s.Append(TextFrame([]byte("20\n21\n")), 0)
	s = Restore(256, s.Since(0), false)
	third := s.Epoch()
	s.Append(TextFrame([]byte("22\n23\n24\n")), 0)
	if first == second || second == third || first == third {
		t.Errorf("got epochs %s, %s and %s, want three", first, second, third)
	}
	for since, want := range map[string]uint64{
		first + ".7": 7, first + ".20": 20, first + ".21": 20, first + ".1000": 20, first: 0, first + ".x": 0,
		second + ".7": 7, second + ".21": 21, second + ".22": 22, second + ".23": 22, third + ".24": 24, "UNKNOWN.7": 0,
	} {
		if r := s.NewReaderSince(since); r.Line() != want {
			t.Errorf("%s of the epochs %s, %s, %s: got line %d, want %d", since, first, second, third, r.Line(), want)
		}
	}
}

// A stream remembers the epochs of its last 100 crashes.
func TestPastEpochs(t *testing.T) {
	s := filled(256, 1)
	var epochs []string
	for range 101 {
		epochs = append(epochs, s.Epoch())
		s = Restore(256, s.Since(0), false)
	}
	for i, want := range map[int]uint64{0: 0, 1: 7, 50: 7, 100: 7} {
		if r := s.NewReaderSince(epochs[i] + ".7"); r.Line() != want {
			t.Errorf("line 7 of run %d of 102: got line %d, want %d", i, r.Line(), want)
		}
	}
	if got := len(s.Since(0).Past); got != 100 {
		t.Errorf("got %d past epochs in a record, want 100", got)
	}
}

// Trim drops a frame if all its lines are before the history, and before the line needed.
func TestTrim(t *testing.T) {
	for _, test := range []struct{ history, needed, first int }{
		{256, 20, 0}, {20, 20, 0}, {19, 20, 0}, {16, 20, 0}, {15, 20, 5}, {5, 20, 15}, {1, 20, 15}, {0, 20, 20},
		{0, 19, 15}, {0, 15, 15}, {0, 14, 10}, {0, 0, 0}, {12, 0, 0}, {12, 7, 5}, {12, 10, 5}, {12, 1000, 5},
	} {
		s := filled(256, 5)
		s.history = uint64(test.history)
		s.Trim(uint64(test.needed))
		if got := s.start(0).Lines; got != uint64(test.first) {
			t.Errorf("history %d, line %d needed: got line %d as the first, want %d", test.history, test.needed, got, test.first)
		}
	}
}
