package store

import (
	"bytes"
	"io"
	"reflect"
	"strings"
	"testing"

	"example.com/chat/internal/once"
	"example.com/chat/internal/stream"
)

// A file is a line of JSON, the lines as they are, and a checksum. These bytes must not change, because other
// versions of the program read and write them.
func TestFormat(t *testing.T) {
	for name, test := range map[string]struct {
		record stream.Record
		file   string
	}{
		"empty": {stream.Record{Epoch: "E"}, `{"epoch":"E","lines":0,"said":[]}` + "\n"},
		"lines": {
			stream.Record{Epoch: "E", End: 7, Frames: []stream.Text{{Lines: []byte("\n\n"), At: 5}, {Lines: []byte("\x00 <&> \u2028 ✓\n"), At: 1700000000000}}},
			`{"epoch":"E","lines":7,"said":[[2,5],[1,1700000000000]]}` + "\n\n\n\x00 <&> \u2028 ✓\n",
		},
		"all": {
			stream.Record{
				Epoch: "G", End: 1 << 60,
				Frames:  []stream.Text{{Lines: []byte("a\n"), At: 1}},
				Past:    []stream.PastEpoch{{Epoch: "E", End: 5}, {Epoch: "F", End: 1 << 50}},
				Senders: []once.Saved{{ID: "ann", Acked: 7}},
				Marks:   once.Marks{"A": {Number: 1 << 62, At: 5}, "B": {}},
			},
			`{"epoch":"G","lines":1152921504606846976,"said":[[1,1]],"former":[{"epoch":"E","end":5},{"epoch":"F","end":1125899906842624}],` +
				`"senders":[{"id":"ann","taken":7}],"marks":{"A":{"number":4611686018427387904,"heard":5},"B":{"number":0,"heard":0}}}` + "\na\n",
		},
	} {
		var got bytes.Buffer
		if err := encode(&got, test.record); err != nil || got.String() != test.file {
			t.Errorf("%s: encoded %q, %v; want %q", name, got.String(), err, test.file)
		}
		if got, err := decode([]byte(test.file)); err != nil || !reflect.DeepEqual(got, test.record) {
			t.Errorf("%s: decoded %v, %v; want %v", name, got, err, test.record)
		}
	}
	var file bytes.Buffer
	if err := seal(&file, func(w io.Writer) error { return encode(w, stream.Record{Epoch: "E"}) }); err != nil {
		t.Fatal(err)
	}
	if want := `{"epoch":"E","lines":0,"said":[]}` + "\n252edfa9\n"; file.String() != want {
		t.Errorf("sealed %q, want %q", file.String(), want)
	}
}

// join continues a record of the same epoch without a gap, and drops frames that lie before the history.
func TestJoin(t *testing.T) {
	record := func(epoch string, end uint64, frames ...string) stream.Record {
		r := stream.Record{Epoch: epoch, End: end}
		for _, f := range frames {
			r.Frames = append(r.Frames, stream.Text{Lines: []byte(strings.ReplaceAll(f, " ", "\n") + "\n")})
		}
		return r
	}
	stored := record("E", 5, "1 2", "3", "4") // the first line was line 0, and is gone
	for name, test := range map[string]struct {
		next    stream.Record
		history uint64
		want    string // frames in brackets, or "" for a gap
	}{
		"the next lines":              {record("E", 7, "5 6"), 100, "[1 2][3][4][5 6]"},
		"nothing new":                 {record("E", 5), 100, "[1 2][3][4]"},
		"a history that ends frames":  {record("E", 7, "5 6"), 4, "[3][4][5 6]"},
		"a history that cuts a frame": {record("E", 7, "5 6"), 5, "[1 2][3][4][5 6]"},
		"no history":                  {record("E", 7, "5 6"), 0, "[5 6]"},
		"an overlap of frames":        {record("E", 7, "4", "5 6"), 100, "[1 2][3][4][5 6]"},
		"an overlap within a frame":   {record("E", 7, "2", "3 4", "5 6"), 100, "[1][2][3 4][5 6]"},
		"an overlap of everything":    {record("E", 7, "0", "1", "2", "3 4", "5 6"), 100, "[0][1][2][3 4][5 6]"},
		"an older end":                {record("E", 4, "3"), 100, "[1 2][3]"},
		"a gap":                       {record("E", 7, "6"), 100, ""},
		"another epoch":               {record("F", 7, "5 6"), 100, ""},
	} {
		joined, ok := join(stored, test.next, test.history)
		got := ""
		for _, f := range joined.Frames {
			got += "[" + strings.ReplaceAll(strings.TrimSuffix(string(f.Lines), "\n"), "\n", " ") + "]"
		}
		if got != test.want || ok != (test.want != "") || ok && joined.End != test.next.End {
			t.Errorf("%s: got %s, %v, end %d; want %s, end %d", name, got, ok, joined.End, test.want, test.next.End)
		}
	}
	if got := text(stored); got != "1\n2\n3\n4\n" {
		t.Errorf("join changed the record: got %q", got)
	}
}
