package event

import (
	"reflect"
	"testing"

	"example.com/chat/internal/stream"
)

// Lines that were said within 1,000 ms of the first of them share its time. Time that goes back gets a new entry.
func TestTimesOf(t *testing.T) {
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
		if got := TimesOf(entries); !reflect.DeepEqual(got, test.want) {
			t.Errorf("times %v: got %v, want %v", test.at, got, test.want)
		}
	}
}

// An event is empty if no key is set. A key that IsEmpty forgets would be lost for clients that are behind.
func TestIsEmpty(t *testing.T) {
	if e := (Event{Now: 1}); !e.IsEmpty() {
		t.Errorf("%+v is not empty, want empty", e)
	}
	for i := range reflect.TypeFor[Event]().NumField() {
		var e Event
		field := reflect.ValueOf(&e).Elem().Field(i)
		name := reflect.TypeFor[Event]().Field(i).Name
		if name == "Now" {
			continue
		}
		switch field.Kind() {
		case reflect.Slice:
			field.Set(reflect.MakeSlice(field.Type(), 1, 1))
		case reflect.Pointer:
			field.Set(reflect.New(field.Type().Elem()))
		case reflect.String:
			field.SetString("x")
		default:
			field.SetInt(1)
		}
		if e.IsEmpty() {
			t.Errorf("an event with %s is empty, want not", name)
		}
	}
}
