package store

import (
	"bytes"
	"encoding/json"
	"io"
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

// encode writes r to w.
func encode(w io.Writer, r stream.Record) error {
	h := header{Epoch: r.Epoch, End: r.End, Frames: make([][2]int64, 0, len(r.Frames)), Past: r.Past, Senders: r.Senders, Marks: r.Marks}
	for _, f := range r.Frames {
		h.Frames = append(h.Frames, [2]int64{int64(lines.Count(f.Lines)), f.At})
	}
	if err := json.NewEncoder(w).Encode(h); err != nil {
		return err
	}
	for _, f := range r.Frames {
		if _, err := w.Write(f.Lines); err != nil {
			return err
		}
	}
	return nil
}

// decode returns the record that encode has written. It aliases content.
func decode(content []byte) (stream.Record, error) {
	first, text, _ := bytes.Cut(content, []byte{'\n'})
	var h header
	if err := json.Unmarshal(first, &h); err != nil || h.Epoch == "" {
		return stream.Record{}, errCorrupt
	}
	r := stream.Record{Epoch: h.Epoch, End: h.End, Past: h.Past, Senders: h.Senders, Marks: h.Marks}
	r.Frames = slices.Grow(r.Frames, len(h.Frames))
	sum := uint64(0)
	for _, f := range h.Frames {
		n := lines.Length(text, int(f[0]))
		if n <= 0 {
			return stream.Record{}, errCorrupt
		}
		r.Frames = append(r.Frames, stream.Text{Lines: text[:n:n], At: f[1]})
		text = text[n:]
		sum += uint64(f[0])
	}
	if len(text) > 0 || sum > h.End {
		return stream.Record{}, errCorrupt
	}
	return r, nil
}

// join returns stored followed by next, without frames before the last history lines. Where the records overlap,
// next counts. It returns false if they have different epochs, or if lines between them are missing.
func join(stored, next stream.Record, history uint64) (joined stream.Record, ok bool) {
	first, start := next.First(), next.End-min(next.End, history)
	if stored.Epoch != next.Epoch || stored.End < first {
		return stream.Record{}, false
	}
	joined = next
	joined.Frames = make([]stream.Text, 0, len(stored.Frames)+len(next.Frames))
	line := stored.First()
	for _, f := range stored.Frames {
		end := line + uint64(lines.Count(f.Lines))
		if end > first && line < first {
			f.Lines, _ = lines.Cut(f.Lines, int(first-line))
		}
		if end > start && line < first {
			joined.Frames = append(joined.Frames, f)
		}
		line = end
	}
	joined.Frames = append(joined.Frames, next.Frames...)
	return joined, true
}
