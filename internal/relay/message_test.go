package relay

import (
	"bytes"
	"reflect"
	"slices"
	"strings"
	"testing"

	"example.com/chat/internal/lines"
)

// messages are some of each kind.
var messages = []Message{
	{},
	{Hello: &Hello{Origin: "A", Asked: 7, Cursor: Cursor{9, 3}, Backlog: true}},
	{Ask: &Ask{From: 1 << 52, Limit: -1}},
	{People: map[string]int{"": 1, "lobby": 1 << 30}},
	{Origin: "A", People: map[string]int{"": 1}, Repeated: map[string]uint64{"B": 1 << 52}},
	{Origin: "A", People: map[string]int{}}, // which is not the same as nil
	{Origin: "A", Cursor: &Cursor{1<<64 - 1, -1}, Backlog: true, Body: []byte("{}\nx\n")},
	{First: 1, Segments: []Segment{{"", 2, -1}, {"a room", 1, 1<<63 - 1}}, Body: []byte("one\n\n \xff\x00{}\r\n")},
}

// Decode returns the message that Encode encoded.
func TestEncode(t *testing.T) {
	for _, m := range messages {
		m.Body = append([]byte{}, m.Body...) // not nil
		got, err := Decode(m.Encode())
		if err != nil || !reflect.DeepEqual(got, m) {
			t.Errorf("got %+v, %v; want %+v", got, err, m)
		}
	}
}

// Decode refuses numbers that are out of range, and DecodeLines also segments that don't match the lines.
func TestDecode(t *testing.T) {
	segments := strings.Repeat(`{"lines":1},`, 1<<19)
	most := `{"first":1,"said":[` + segments[:len(segments)-1] + "]}\n" + strings.Repeat("x\n", 1<<19)
	tooMany := `{"first":1,"said":[` + segments + `{"lines":1}]}` + "\n" + strings.Repeat("x\n", 1<<19+1)
	one, two := `{"first":1,"said":[{"lines":1}]}`, `{"first":1,"said":[{"lines":2}]}`
	for accepts, messages := range [][]string{
		{ // neither
			"", "\n", "{", "[]", `"{}"`, "1", `{"ask":{"from":4503599627370497}}`, `{"ask":{"from":4611686018427387904}}`, `{"ask":{"from":18446744073709551616}}`, `{"ask":{"from":1e3}}`,
			`{"first":-1,"said":[{"lines":1}]}` + "\nx\n", `{"first":4503599627370497,"said":[{"lines":1}]}` + "\nx\n",
			`{"first":18446744073709551615,"said":[{"lines":1}]}` + "\nx\n", `{"hello":{"origin":"A","asked":4503599627370497}}`,
			`{"repeated":{"A":4503599627370497}}`, `{"repeated":{"A":4503599627370496,"B":18446744073709551615}}`,
			`{"people":{"":0}}`, `{"people":{"":-1}}`, `{"people":{"":1,"a":1073741825}}`, `{"people":{"":1e30}}`,
		},
		{ // Decode
			"null", "{}\n", ` {"other":1} `, "{}\n\n", "{}\nx", "{}\nx\n",
			one, one + "\n", one + "\nx", one + "\nx\ny", one + "\nx\ny\n", two + "\nx\n",
			`{"first":1,"said":[{"lines":1},{"lines":1}]}` + "\nx\n", `{"first":1,"said":[{"lines":1},{"lines":0}]}` + "\nx\n",
			`{"first":1,"said":[{"lines":2},{"lines":-1}]}` + "\nx\n", `{"said":[{"lines":1}]}` + "\nx\n", // numbers begin at 1
			`{"first":4503599627370496,"said":[{"lines":1}]}` + "\nx\n", // a relay could not ask for the next line
			`{"first":4503599627370494,"said":[{"lines":3}]}` + "\nx\ny\nz\n",
			tooMany,
			`{"first":1,"said":[{"lines":9223372036854775807},{"lines":-9223372036854775806}]}` + "\nx\n",
		},
		{most, one + "\n\n", two + "\nx\n\n", `{"first":4503599627370494,"said":[{"lines":2}]}` + "\nx\ny\n"}, // both
	} {
		for _, b := range messages {
			_, err := Decode([]byte(b))
			if _, linesErr := DecodeLines([]byte(b)); (err == nil) != (accepts > 0) || (linesErr == nil) != (accepts > 1) {
				t.Errorf("%.200q: got %v and %v; want %d of Decode and DecodeLines to accept it", b, err, linesErr, accepts)
			}
		}
	}
}

// Any bytes are refused, or decode to a message that Encode repeats. DecodeLines assigns all lines to rooms.
func FuzzDecode(f *testing.F) {
	for _, m := range messages {
		f.Add(m.Encode())
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := Decode(b)
		if err != nil {
			return
		}
		if again, err := Decode(m.Encode()); err != nil || !bytes.Equal(again.Encode(), m.Encode()) {
			t.Errorf("got %q, %v; want %q", again.Encode(), err, m.Encode())
		}
		if m, err = DecodeLines(b); err != nil {
			return
		}
		n, want := len(linesOf(m)), lines.Count(m.Body)
		empty := slices.ContainsFunc(m.Segments, func(s Segment) bool { return s.Lines < 1 })
		if n == 0 || n != want || empty || m.Body[len(m.Body)-1] != '\n' || m.First == 0 || m.Next() != m.First+uint64(n) || m.Next() < m.First {
			t.Errorf("got segments %+v, numbers %d to %d; want %d lines", m.Segments, m.First, m.Next(), want)
		}
	})
}
