package relay

import (
	"bytes"
	"reflect"
	"testing"

	"example.com/chat/internal/lines"
)

// messages are some of each kind.
var messages = []Message{
	{},
	{Hello: &Hello{Origin: "A", Asked: 7, Cursor: Cursor{9, 3}, Backlog: true}},
	{Ask: &Ask{From: 1 << 62, Limit: -1}},
	{People: map[string]int{"": 1, "lobby": 1 << 30}},
	{Origin: "A", People: map[string]int{}}, // which is not the same as nil
	{Origin: "A", Cursor: &Cursor{1<<64 - 1, -1}, Backlog: true, Body: []byte("{}\nx\n")},
	{First: 1, Segments: []Segment{{"", 2, -1}, {"a room", 1, 1<<63 - 1}}, Body: []byte("one\n\n \xff\x00{}\r\n")},
}

// Decode returns the message that Encode encoded.
func TestEncode(t *testing.T) {
	for _, m := range messages {
		got, err := Decode(m.Encode())
		if len(got.Body) == 0 {
			got.Body = nil
		}
		if err != nil || !reflect.DeepEqual(got, m) {
			t.Errorf("got %+v, %v; want %+v", got, err, m)
		}
	}
}

// Decode refuses numbers that are out of range, and DecodeLines a message whose segments don't match its lines.
func TestDecode(t *testing.T) {
	for _, b := range []string{
		"", "\n", "{", "[]", `"{}"`, "1",
		"{}\n\n", "{}\nx", "{}\nx\n",
		`{"first":1,"said":[{"lines":1}]}`,
		`{"first":1,"said":[{"lines":1}]}` + "\n",
		`{"first":1,"said":[{"lines":1}]}` + "\nx",
		`{"first":1,"said":[{"lines":1}]}` + "\nx\ny",
		`{"first":1,"said":[{"lines":1}]}` + "\nx\ny\n",
		`{"first":1,"said":[{"lines":2}]}` + "\nx\n",
		`{"first":1,"said":[{"lines":1},{"lines":1}]}` + "\nx\n",
		`{"first":1,"said":[{"lines":1},{"lines":0}]}` + "\nx\n",
		`{"first":1,"said":[{"lines":2},{"lines":-1}]}` + "\nx\n",
		`{"first":0,"said":[{"lines":1}]}` + "\nx\n",
		`{"first":-1,"said":[{"lines":1}]}` + "\nx\n",
		`{"first":4611686018427387905,"said":[{"lines":1}]}` + "\nx\n",
		`{"ask":{"from":4611686018427387905}}`,
		`{"people":{"":0}}`, `{"people":{"":-1}}`, `{"people":{"":1,"a":1073741825}}`, `{"people":{"":1e30}}`,
	} {
		if m, err := DecodeLines([]byte(b)); err == nil {
			t.Errorf("DecodeLines(%q): got %+v, want an error", b, m)
		}
	}
	for _, b := range []string{"", "\n", "{", "[]", `"{}"`, `{"first":-1}`, `{"first":4611686018427387905}`, `{"ask":{"from":4611686018427387905}}`, `{"people":{"":0}}`} {
		if m, err := Decode([]byte(b)); err == nil {
			t.Errorf("Decode(%q): got %+v, want an error", b, m)
		}
	}
	for _, b := range []string{"null", "{}\n", ` {"other":1} `, "{}\nx"} {
		if _, err := Decode([]byte(b)); err != nil {
			t.Errorf("Decode(%q): got %v, want a message", b, err)
		}
	}
	if _, err := DecodeLines([]byte(`{"first":1,"said":[{"lines":1}]}` + "\n\n")); err != nil {
		t.Errorf("DecodeLines of an empty line: got %v, want a message", err)
	}
}

// Lines counts the lines of all segments, and Next is the number that follows them.
func TestNext(t *testing.T) {
	for _, test := range []struct {
		m           Message
		lines, next uint64
	}{{Message{First: 5}, 0, 5}, {Message{First: 5, Segments: []Segment{{Lines: 2}, {Lines: 3}}}, 5, 10}} {
		if lines, next := test.m.Lines(), test.m.Next(); lines != test.lines || next != test.next {
			t.Errorf("%+v: got %d lines, next %d; want %d, %d", test.m, lines, next, test.lines, test.next)
		}
	}
}

// Any bytes are refused, or are a message that is the same after it is encoded again. Every line of a message
// with lines has a room and a number.
func FuzzDecode(f *testing.F) {
	for _, m := range messages {
		f.Add(m.Encode())
	}
	f.Add([]byte(`{"first":1,"said":[{"lines":2},{"lines":-1}]}` + "\nx\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if m, err := DecodeLines(b); err == nil {
			checkLines(t, m)
		}
		m, err := Decode(b)
		if err != nil {
			return
		}
		again, err := Decode(m.Encode())
		if err != nil {
			t.Fatal(err)
		}
		if got, want := again.Encode(), m.Encode(); !bytes.Equal(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
	})
}

// checkLines expects that each line of m has a room and a number.
func checkLines(t *testing.T, m Message) {
	t.Helper()
	text, count := m.Body, uint64(0)
	for _, segment := range m.Segments {
		var part []byte
		part, text = lines.Cut(text, segment.Lines)
		if n := lines.Count(part); n != segment.Lines || n == 0 {
			t.Errorf("got a segment of %d lines, want %d", n, segment.Lines)
		}
		count += uint64(segment.Lines)
	}
	if len(text) > 0 || m.Next() != m.First+count || m.Next() < m.First {
		t.Errorf("got %d bytes without a segment and lines %d to %d, want none and %d lines", len(text), m.First, m.Next(), count)
	}
}
