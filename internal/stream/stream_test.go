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

// filled returns a stream of 20 lines, in frames of three. It has accepted five lines of another chat, and a
// message of the sender ann that is not committed.
func filled() *Stream {
	s := New(256)
	for n := 0; n < 20; n += 3 {
		s.Append(TextFrame([]byte(numbered(n, min(n+3, 20)))), int64(n))
	}
	s.Marks["other"] = once.OriginMark{Number: 5, At: 100}
	s.Senders.Join("ann", 0).Receive(1)
	return s
}

// A client that comes back with a position in the history gets the lines from there on. With any other position
// it gets the whole history. A position of a past epoch is valid up to the last line that is known of it. Later
// positions become that line.
func TestComingBack(t *testing.T) {
	s, epochs := filled(), []string{}
	for run := range 101 { // run 0 has 20 lines, and each later run has one more
		epochs = append(epochs, "RUN"+fmt.Sprint(run)+".", s.Epoch()+".")
		r := s.Since(0)
		past := append(slices.Clip(r.Past), PastEpoch{r.Epoch, r.End})
		r.Epoch, r.Past = New(0).Epoch(), past[max(0, len(past)-100):]
		s = Restore(256, r)
		s.Append(TextFrame([]byte("new\n")), 0)
	}
	positions := strings.NewReplacer(append(epochs, "NOW", s.Epoch())...)
	for _, test := range []struct {
		history int
		want    map[string]uint64
	}{
		{256, map[string]uint64{
			"": 0, "NOW.0": 0, "NOW.7": 7, "NOW.120": 120, "NOW.121": 121, "NOW.122": 0,
			"RUN1.7": 7, "RUN1.21": 21, "RUN1.22": 21, "RUN100.120": 120, "RUN100.121": 120, "RUN0.7": 0, "UNKNOWN.7": 0,
			"7": 0, "NOW": 0, "RUN1.": 0, "RUN1.x": 0, "NOW.-1": 0, "NOW.7.7": 0, "NOW.99999999999999999999": 0,
		}},
		{8, map[string]uint64{"": 113, "NOW.112": 113, "NOW.114": 114, "RUN1.7": 113, "RUN100.120": 120}},
		{0, map[string]uint64{"": 121, "NOW.7": 121, "NOW.121": 121}},
	} {
		s.history = uint64(test.history)
		for since, want := range test.want {
			if r := s.NewReaderSince(positions.Replace(since)); r.Line() != want {
				t.Errorf("%s, with a history of %d lines: got line %d, want %d", since, test.history, r.Line(), want)
			}
		}
	}
}

// A record of a stream begins with the frame that holds the line asked for, or with the history if that begins
// later. It has the numbers of senders and other chats as they are with its lines, and does not change with
// the stream. A stream that is restored from a record continues it.
func TestSinceAndRestore(t *testing.T) {
	for _, test := range []struct{ history, since, first int }{
		{256, 0, 0}, {256, 6, 6}, {256, 8, 6}, {256, 19, 18}, {256, 20, 20}, {256, 1000, 20}, {8, 0, 12}, {5, 0, 15}, {5, 16, 15}, {0, 0, 20},
	} {
		s, text := filled(), ""
		s.past, s.history = []PastEpoch{{"PAST", 3}}, uint64(test.history)
		r := s.Since(uint64(test.since))
		s.Marks["other"] = once.OriginMark{Number: 6, At: 200}
		s.Senders.Commit()
		s.Append(TextFrame([]byte("new\n")), 0)
		for i, f := range r.Frames {
			text += string(f.Lines)
			if want := int64(test.first + 3*i); f.At != want {
				t.Errorf("%+v: got frame %d said at %d, want %d", test, i, f.At, want)
			}
		}
		numbers := fmt.Sprint(r.First(), r.End, r.Marks, r.Senders)
		if want := fmt.Sprint(test.first, " 20 map[other:{5 100}] [{ann 0}]"); text != numbered(test.first, 20) || numbers != want {
			t.Errorf("%+v: got %q with the numbers %s, want %s", test, text, numbers, want)
		}
		if want := uint64(max(0, 20-test.history)); r.Start != want {
			t.Errorf("%+v: got a history from line %d on, want %d", test, r.Start, want)
		}
		got := Restore(test.history, r).Since(0)
		if got.Start = r.Start; !reflect.DeepEqual(got, r) {
			t.Errorf("%+v: got %+v restored, want %+v", test, got, r)
		}
	}
	if s := Restore(5, filled().Since(0)); s.start(0).Lines != 15 {
		t.Errorf("got lines from %d on restored, want only the history from 15 on", s.start(0).Lines)
	}
}

// A stream that is restored has no marks with numbers that no chat has. A damaged or forged record has such
// marks, and the room would ignore that chat.
func TestRestoreRefusesMarks(t *testing.T) {
	r := filled().Since(0)
	r.Marks["forged"] = once.OriginMark{Number: 1 << 62, At: 100}
	if got := fmt.Sprint(Restore(256, r).Marks); got != "map[other:{5 100}]" {
		t.Errorf("got marks %s, want map[other:{5 100}]", got)
	}
}
