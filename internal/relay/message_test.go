package relay

import (
	"bytes"
	"example.com/chat/internal/lines"
	"reflect"
	"testing"
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

// A message is decoded as it was encoded.
func TestEncode(t *testing.T) {
	for _, m := range messages {
		got, err := Decode(m.Encode())
		if len(got.Body) == 0 {
			got.Body = nil
		}
		if err != nil || !reflect.DeepEqual(got, m) {
			t.Errorf("%+v became %+v, %v", m, got, err)
		}
	}
}

// What has numbers that can't be is no message, and what has other lines than it says is none with lines.
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
			t.Errorf("%q is taken for %+v", b, m)
		}
	}
	for _, b := range []string{"", "\n", "{", "[]", `"{}"`, `{"first":-1}`, `{"first":4611686018427387905}`, `{"ask":{"from":4611686018427387905}}`, `{"people":{"":0}}`} {
		if m, err := Decode([]byte(b)); err == nil {
			t.Errorf("%q is taken for %+v", b, m)
		}
	}
	for _, b := range []string{"null", "{}\n", ` {"other":1} `, "{}\nx"} {
		if _, err := Decode([]byte(b)); err != nil {
			t.Errorf("%q: %v", b, err)
		}
	}
	if _, err := DecodeLines([]byte(`{"first":1,"said":[{"lines":1}]}` + "\n\n")); err != nil {
		t.Errorf("an empty line: %v", err)
	}
}

// Next counts the lines.
func TestNext(t *testing.T) {
	for _, test := range []struct {
		m    Message
		want uint64
	}{{Message{First: 5}, 5}, {Message{First: 5, Segments: []Segment{{Lines: 2}, {Lines: 3}}}, 10}} {
		if got := test.m.Next(); got != test.want {
			t.Errorf("%+v: %d, want %d", test.m, got, test.want)
		}
	}
}

// Whatever bytes come, they are no message, or one whose lines all have a room and a number, and which is the same
// when it is encoded.
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
		if want := m.Encode(); !bytes.Equal(again.Encode(), want) {
			t.Errorf("%q became %q", want, again.Encode())
		}
	})
}

// checkLines expects that each line of m has a room and a number.
func checkLines(t *testing.T, m Message) {
	text, count := m.Body, uint64(0)
	for _, said := range m.Segments {
		var some []byte
		some, text = lines.Cut(text, said.Lines)
		if n := bytes.Count(some, []byte{'\n'}); n != said.Lines || n == 0 {
			t.Errorf("%d lines in place of %d", n, said.Lines)
		}
		count += uint64(said.Lines)
	}
	if len(text) > 0 || m.Next() != m.First+count || m.Next() < m.First {
		t.Errorf("%d bytes of no line, %d lines from %d to %d", len(text), count, m.First, m.Next())
	}
}
