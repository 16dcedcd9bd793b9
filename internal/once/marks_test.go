package once

import (
	"fmt"
	"reflect"
	"testing"
	"time"
)

// Of lines that come, those up to the mark of their origin are known. A mark never goes back.
func TestMarks(t *testing.T) {
	marks := make(Marks)
	for _, test := range []struct {
		origin              string
		first, lines, known uint64
		mark                Mark
	}{
		{"a", 1, 3, 0, 3},
		{"a", 1, 3, 3, 3},
		{"a", 2, 3, 2, 4},
		{"a", 5, 1, 0, 5},
		{"a", 10, 2, 0, 11}, // what is between did not come
		{"a", 7, 2, 2, 11},
		{"a", 1, 20, 11, 20},
		{"b", 20, 1, 0, 20}, // another origin has its own
		{"b", 1, 1, 1, 20},
		{"c", 1 << 62, 5, 0, 1<<62 + 4},
		{"c", 1 << 62, 6, 5, 1<<62 + 5},
	} {
		if known := marks.Accept(test.origin, test.first, test.lines, start); known != test.known || marks[test.origin].Number != test.mark {
			t.Errorf("%s: %d lines from %d: %d known, mark %d; want %d, %d", test.origin, test.lines, test.first, known, marks[test.origin].Number, test.known, test.mark)
		}
	}
}

// There are no more than maxMarks. Who was silent longest is forgotten.
func TestMarksAreBounded(t *testing.T) {
	marks := make(Marks)
	for n := range maxMarks {
		marks.Accept(fmt.Sprint(n), 1, 1, start.Add(time.Duration(n)*time.Second))
	}
	later := start.Add(time.Hour)
	marks.Accept("0", 1, 1, later) // who is heard again, although nothing is new
	for n := range 3 {
		marks.Accept(fmt.Sprint("new ", n), 1, 1, later)
	}
	for origin, want := range map[string]bool{"0": true, "1": false, "2": false, "3": false, "4": true, "new 0": true, "new 2": true} {
		if _, got := marks[origin]; got != want {
			t.Errorf("%s is marked: %v, want %v", origin, got, want)
		}
	}
	if len(marks) != maxMarks {
		t.Errorf("%d marks, want %d", len(marks), maxMarks)
	}
}

// Who was silent for markAge is forgotten when another comes.
func TestMarksAge(t *testing.T) {
	marks := make(Marks)
	marks.Accept("old", 1, 1, start)
	marks.Accept("young", 1, 1, start.Add(time.Second))
	marks.Accept("new", 1, 1, start.Add(markAge))
	if len(marks) != 3 {
		t.Errorf("before markAge has passed: %v", marks)
	}
	marks.Accept("young", 1, 1, start.Add(markAge+time.Second))
	marks.Accept("new", 1, 1, start.Add(markAge+time.Second))
	if len(marks) != 3 {
		t.Errorf("forgotten when nobody new came: %v", marks)
	}
	marks.Accept("newest", 1, 1, start.Add(markAge+time.Second))
	if _, old := marks["old"]; old || len(marks) != 3 {
		t.Errorf("after markAge: %v", marks)
	}
}

// Of two marks of one origin the higher one counts.
func TestMerge(t *testing.T) {
	marks := Marks{"a": {5, 100}, "b": {5, 100}, "c": {5, 100}}
	marks.Merge(Marks{"a": {6, 50}, "b": {4, 200}, "d": {1, 1}})
	if want := (Marks{"a": {6, 50}, "b": {5, 100}, "c": {5, 100}, "d": {1, 1}}); !reflect.DeepEqual(marks, want) {
		t.Errorf("got %v, want %v", marks, want)
	}
}

var start = time.UnixMilli(1_000_000)
