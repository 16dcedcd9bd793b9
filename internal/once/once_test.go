package once

import (
	"testing"
	"time"
)

var start = time.UnixMilli(1_000_000)

// Of numbers that come, those up to the mark were accepted before. The mark never goes back. Marks does the
// same for each origin.
func TestAccept(t *testing.T) {
	for _, test := range []struct{ mark, first, n, repeated, want uint64 }{
		{0, 1, 3, 0, 3},                       // the first numbers
		{3, 4, 1, 0, 4},                       // the next number
		{3, 1, 3, 3, 3},                       // all again
		{3, 2, 1, 1, 3},                       // one of them again
		{3, 2, 20, 2, 21},                     // some again, and new ones
		{3, 10, 2, 0, 11},                     // numbers after a gap
		{11, 7, 2, 2, 11},                     // numbers from the gap, which are late
		{3, 549755813892, 1, 0, 549755813892}, // numbers after a gap of 2^39
		{4503599627370492, 4503599627370491, 6, 2, 4503599627370496}, // up to 2^52, the highest number
	} {
		mark := Mark(test.mark)
		if got := mark.Accept(test.first, test.n); got != test.repeated || mark != Mark(test.want) {
			t.Errorf("%+v: Mark: got %d repeated and mark %d", test, got, mark)
		}
		marks := Marks{"a": {Mark(test.mark), 999_999}, "b": {Number: 5}}
		got, ok := marks.Accept("a", test.first, test.n, start)
		if got != test.repeated || !ok || marks["a"] != (OriginMark{Mark(test.want), 1_000_000}) || marks["b"].Number != 5 {
			t.Errorf("%+v: Marks: got %d repeated, accepted %v, and %v", test, got, ok, marks)
		}
	}
}
