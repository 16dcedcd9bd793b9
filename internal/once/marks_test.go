package once

import (
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"
)

// expectOrigins checks which origins have a mark.
func expectOrigins(t *testing.T, what string, marks Marks, want ...string) {
	t.Helper()
	if got := slices.Sorted(maps.Keys(marks)); !slices.Equal(got, want) {
		t.Errorf("%s: got marks of %q, want %q", what, got, want)
	}
}

// A mark outlives the last line of its origin by 48 hours, and until a line of a new origin comes.
func TestMarksAge(t *testing.T) {
	marks := make(Marks)
	accept := func(origin string, after time.Duration) { marks.Accept(origin, 1, 1, start.Add(after)) }
	accept("old", 0)
	accept("young", time.Second)
	accept("new", 48*time.Hour)
	expectOrigins(t, "after 48 hours", marks, "new", "old", "young")
	accept("young", 48*time.Hour+time.Second)
	expectOrigins(t, "after a second more, without a new origin", marks, "new", "old", "young")
	accept("newest", 48*time.Hour+time.Second)
	expectOrigins(t, "with a new origin", marks, "new", "newest", "young")
}

// There are at most 256 marks. A new one replaces that of the origin that has been silent longest.
func TestMarksAreBounded(t *testing.T) {
	marks := make(Marks)
	for n := range 256 {
		marks.Accept(fmt.Sprintf("%03d", n), 1, 1, start.Add(time.Duration(n)*time.Second))
	}
	marks.Accept("000", 1, 1, start.Add(time.Hour)) // a repeated line counts, too
	marks.Accept("new 1", 1, 1, start.Add(time.Hour))
	marks.Accept("new 2", 1, 1, start.Add(time.Hour))
	want := []string{"000"}
	for n := 3; n < 256; n++ {
		want = append(want, fmt.Sprintf("%03d", n))
	}
	expectOrigins(t, "after 258 origins", marks, append(want, "new 1", "new 2")...)
}

// Merge keeps the higher one of two marks of an origin.
func TestMerge(t *testing.T) {
	marks := Marks{"a": {5, 100}, "b": {5, 100}, "c": {5, 100}}
	marks.Merge(Marks{"a": {6, 50}, "b": {4, 200}, "d": {1, 1}})
	if want := (Marks{"a": {6, 50}, "b": {5, 100}, "c": {5, 100}, "d": {1, 1}}); !maps.Equal(marks, want) {
		t.Errorf("got %v, want %v", marks, want)
	}
}
