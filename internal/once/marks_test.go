package once

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"
)

// A mark outlives the last line of its origin by 48 hours, and until a line of a new origin comes.
func TestMarksAge(t *testing.T) {
	marks := make(Marks)
	accept := func(origin string, after time.Duration, want string) {
		marks.Accept(origin, 1, 1, start.Add(after))
		if got := fmt.Sprint(slices.Sorted(maps.Keys(marks))); got != want {
			t.Errorf("line of %s after %v: got marks of %s, want %s", origin, after, got, want)
		}
	}
	accept("old", 0, "[old]")
	accept("young", time.Second, "[old young]")
	accept("new", 48*time.Hour, "[new old young]")
	accept("young", 48*time.Hour+time.Second, "[new old young]")
	accept("newest", 48*time.Hour+time.Second, "[new newest young]")
}

// There are at most 256 marks. A new one replaces that of the origin that has been silent longest.
func TestMarksAreBounded(t *testing.T) {
	marks := make(Marks)
	for n := range 256 {
		marks.Accept(fmt.Sprint(n), 1, 1, start.Add(time.Duration(n)*time.Second))
	}
	for _, origin := range []string{"0", "new 1", "new 2"} { // 0 repeats a line, which counts, too
		marks.Accept(origin, 1, 1, start.Add(time.Hour))
	}
	if got := fmt.Sprint(len(marks), marks["0"].Number, marks["1"].Number, marks["2"].Number, marks["3"].Number); got != "256 1 0 0 1" {
		t.Errorf("after 258 origins: got number of marks, and marks of the first four origins %s; want 256 1 0 0 1", got)
	}
}

// Numbers that no chat has are refused, and change no mark. Otherwise one of them would make all later lines
// of its origin repetitions. Those are 0, numbers above 2^52, and numbers after a gap of more than 2^39
// lines. There is no gap before the first line of an origin, or of one that has been silent for more than 48
// hours.
func TestRefusedNumbers(t *testing.T) {
	const known, gap, highest, most = 7, 1 << 39, 1 << 52, 1<<64 - 1
	for _, test := range []struct {
		name     string
		origin   string
		first, n uint64
		ok       bool
	}{
		{"no number", "a", known + 1, 0, false},
		{"number 0", "a", 0, 1, false},
		{"number 0 of a new origin", "new", 0, 1, false},
		{"a gap of 2^39", "a", known + gap + 1, 1, true},
		{"a gap of 2^39 + 1", "a", known + gap + 2, 1, false},
		{"the highest number after a gap", "a", highest, 1, false},
		{"the highest number", "new", highest, 1, true},
		{"a number above it", "new", highest + 1, 1, false},
		{"numbers up to it", "new", 1, highest, true},
		{"numbers beyond it", "new", 2, highest, false},
		{"more numbers than there are", "new", 1, most, false},
		{"numbers that overflow", "a", most, 2, false},
		{"numbers that overflow to a known one", "a", 2, most, false},
		{"2^62", "a", 1 << 62, 1, false},
		{"2^62 of a new origin", "new", 1 << 62, 1, false},
		{"an origin of 64 bytes", strings.Repeat("x", 64), 1, 1, true},
		{"an origin of 65 bytes", strings.Repeat("x", 65), 1, 1, false},
		{"after 48 hours", "old", highest, 1, false},
		{"after more than 48 hours", "older", highest, 1, true},
	} {
		marks := Marks{
			"a":     {known, start.UnixMilli() - 1},
			"old":   {known, start.UnixMilli() - 172_800_000},
			"older": {known, start.UnixMilli() - 172_800_001},
		}
		before := maps.Clone(marks)
		repeated, ok := marks.Accept(test.origin, test.first, test.n, start)
		if repeated != 0 || ok != test.ok || !ok && !maps.Equal(marks, before) || ok && marks[test.origin].Number != Mark(test.first+test.n-1) {
			t.Errorf("%s: got accepted %v, %d repeated, %v; want accepted %v, none, the last number or no change", test.name, ok, repeated, marks, test.ok)
		}
	}
}

// Merge keeps the higher one of two marks of an origin. It refuses marks above 2^52.
func TestMerge(t *testing.T) {
	marks := Marks{"a": {5, 100}, "b": {5, 100}, "c": {5, 100}}
	refused := marks.Merge(Marks{"a": {6, 50}, "b": {4, 200}, "c": {1 << 62, 300}, "d": {1, 1}, "e": {1<<52 + 1, 1}, "f": {1 << 52, 1}, "g": {0, 1}})
	if want := (Marks{"a": {6, 50}, "b": {5, 100}, "c": {5, 100}, "d": {1, 1}, "f": {1 << 52, 1}}); !maps.Equal(marks, want) || refused != 2 {
		t.Errorf("got %v, %d refused; want %v, 2", marks, refused, want)
	}
}

// Merge keeps the marks of the 256 origins that were heard last.
func TestMergeIsBounded(t *testing.T) {
	marks, other := make(Marks), make(Marks)
	for n := range int64(200) {
		marks[fmt.Sprint("even ", n)], other[fmt.Sprint("odd ", n)] = OriginMark{1, 2 * n}, OriginMark{1, 2*n + 1}
	}
	marks.Merge(other)
	oldest := int64(1000)
	for _, mark := range marks {
		oldest = min(oldest, mark.At)
	}
	if len(marks) != 256 || oldest != 144 {
		t.Errorf("after merging 200 marks into 200: got %d marks, the oldest of %d; want 256, 144", len(marks), oldest)
	}
}
