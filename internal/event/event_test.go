package event

import (
	"reflect"
	"testing"

	"example.com/chat/internal/stream"
)

// Lines that were said within 1,000 ms of the first of them share its time. Time that goes back gets a new entry.
func TestTimes(t *testing.T) {
	for _, test := range []struct {
		at   []int64
		want [][2]int64
	}{
		{nil, nil},
		{[]int64{5}, [][2]int64{{2, 5}}},
		{[]int64{5, 5, 1004}, [][2]int64{{6, 5}}},
		{[]int64{5, 1004, 1005}, [][2]int64{{4, 5}, {2, 1005}}},
		{[]int64{5, 4}, [][2]int64{{2, 5}, {2, 4}}},
	} {
		var entries []stream.Entry
		for _, at := range test.at {
			entries = append(entries, stream.Entry{Frame: stream.TextFrame([]byte("one\ntwo\n")), At: at})
		}
		if got := Times(entries); !reflect.DeepEqual(got, test.want) {
			t.Errorf("times %v: got %v, want %v", test.at, got, test.want)
		}
	}
}
