package once

import (
	"fmt"
	"maps"
	"slices"
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

// Merge keeps the higher one of two marks of an origin.
func TestMerge(t *testing.T) {
	marks := Marks{"a": {5, 100}, "b": {5, 100}, "c": {5, 100}}
	marks.Merge(Marks{"a": {6, 50}, "b": {4, 200}, "d": {1, 1}})
	if want := (Marks{"a": {6, 50}, "b": {5, 100}, "c": {5, 100}, "d": {1, 1}}); !maps.Equal(marks, want) {
		t.Errorf("got %v, want %v", marks, want)
	}
}
