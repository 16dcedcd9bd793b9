package store

import (
	"bytes"
	"encoding/json"
	"slices"

	"example.com/chat/internal/lines"
	"example.com/chat/internal/once"
	"example.com/chat/internal/stream"
)

// header is the first line of a room's file. The lines of the record's frames follow it, as they are.
type header struct {
	Epoch   string             `json:"epoch"`
	End     uint64             `json:"lines"`
	Frames  [][2]int64         `json:"said"` // for each frame, the number of its lines, and their time in milliseconds since 1970
	Past    []stream.PastEpoch `json:"former,omitempty"`
	Senders []once.Saved       `json:"senders,omitempty"`
	Marks   once.Marks         `json:"marks,omitempty"`
}

// encode returns the parts of r's file, which alias r.
func encode(r stream.Record) [][]byte {
	h := header{Epoch: r.Epoch, End: r.End, Frames: make([][2]int64, 0, len(r.Frames)), Past: r.Past, Senders: r.Senders, Marks: r.Marks}
	parts := make([][]byte, 1, 1+len(r.Frames))
	for _, f := range r.Frames {
		h.Frames = append(h.Frames, [2]int64{int64(lines.Count(f.Lines)), f.At})
		parts = append(parts, f.Lines)
	}
	first, _ := json.Marshal(h) // which has no type that could fail
	parts[0] = append(first, '\n')
	return parts
}

// decode returns the record that encode has written, or false if content is something else. The record aliases
// content.
func decode(content []byte) (r stream.Record, ok bool) {
	first, text, _ := bytes.Cut(content, []byte{'\n'})
	var h header
	if err := json.Unmarshal(first, &h); err != nil || h.Epoch == "" {
		return r, false
	}
	r = stream.Record{Epoch: h.Epoch, End: h.End, Past: h.Past, Senders: h.Senders, Marks: h.Marks}
	r.Frames = slices.Grow(r.Frames, len(h.Frames))
	for _, f := range h.Frames {
		n := lines.Length(text, int(f[0]))
		if n <= 0 {
			return r, false
		}
		r.Frames = append(r.Frames, stream.Text{Lines: text[:n:n], At: f[1]})
		text = text[n:]
	}
	return r, len(text) == 0 && r.First() <= r.End
}
