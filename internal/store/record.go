package store

import (
	"bufio"
	"encoding/json"
	"errors"
	"io"
	"regexp"
	"slices"
	"unicode/utf8"

	"example.com/chat/internal/lines"
	"example.com/chat/internal/once"
	"example.com/chat/internal/stream"
)

// epochSyntax is the syntax of an epoch in a position.
var epochSyntax = regexp.MustCompile(`^[A-Za-z0-9]{1,64}$`)

// header is the first line of a room's file. The lines of the record's frames follow it, as they are.
type header struct {
	Run     string             `json:"run,omitempty"` // the run that wrote the file; "" if the program was older
	Epoch   string             `json:"epoch"`
	End     uint64             `json:"lines"`
	Frames  [][2]int64         `json:"said"` // for each frame, the number of its lines, and their time in milliseconds since 1970
	Past    []stream.PastEpoch `json:"former,omitempty"`
	Senders []once.Saved       `json:"senders,omitempty"`
	Marks   once.Marks         `json:"marks,omitempty"`
}

// encode returns the parts of the file that a run writes for r. The parts alias r.
func encode(r stream.Record, run string) [][]byte {
	h := header{Run: run, Epoch: r.Epoch, End: r.End, Frames: make([][2]int64, 0, len(r.Frames)), Past: r.Past, Senders: r.Senders, Marks: r.Marks}
	parts := make([][]byte, 1, 1+len(r.Frames))
	for _, f := range r.Frames {
		h.Frames = append(h.Frames, [2]int64{int64(lines.Count(f.Lines)), f.At})
		parts = append(parts, f.Lines)
	}
	first, _ := json.Marshal(h) // which has no type that could fail
	parts[0] = append(first, '\n')
	return parts
}

// decode returns the record that encode has written, and the run that wrote it. The record has the frames of
// the last history lines, but at most limit bytes of text. If this leaves lines of the history out, cut is
// true. The error is errCorrupt if content is something else, or if its header has more than limit bytes.
func decode(content *io.SectionReader, history uint64, limit int64) (r stream.Record, run string, cut bool, err error) {
	in := bufio.NewReaderSize(content, 64<<10)
	first, err := readLine(in, limit)
	var h header
	if err != nil || json.Unmarshal(first, &h) != nil || !epochSyntax.MatchString(h.Epoch) || h.End > once.MaxNumber {
		return r, "", false, orCorrupt(err)
	}
	line := h.End // the number of lines before the frames
	for _, f := range h.Frames {
		if f[0] < 1 || uint64(f[0]) > line {
			return r, "", false, errCorrupt
		}
		line -= uint64(f[0])
	}
	start, size := h.End-min(h.End, history), content.Size()-int64(len(first))
	for len(h.Frames) > 0 && (line+uint64(h.Frames[0][0]) <= start || size > limit) {
		n, err := skipLines(in, h.Frames[0][0])
		if err != nil {
			return r, "", false, orCorrupt(err)
		}
		line, size = line+uint64(h.Frames[0][0]), size-n
		h.Frames = h.Frames[1:]
		cut = line > start
	}
	if len(h.Frames) == 0 && size > 0 {
		return r, "", false, errCorrupt
	}
	text := make([]byte, size)
	if _, err := io.ReadFull(in, text); err != nil {
		return r, "", false, orCorrupt(err)
	}
	if !utf8.Valid(text) {
		return r, "", false, errCorrupt // browsers would close the connection
	}
	r = stream.Record{Epoch: h.Epoch, End: h.End, Past: h.Past, Senders: h.Senders, Marks: h.Marks}
	r.Frames = slices.Grow(r.Frames, len(h.Frames))
	for _, f := range h.Frames {
		n := lines.Length(text, int(f[0]))
		if n < 0 {
			return r, "", false, errCorrupt
		}
		r.Frames = append(r.Frames, stream.Text{Lines: text[:n:n], At: f[1]})
		text = text[n:]
	}
	if len(text) > 0 {
		return r, "", false, errCorrupt
	}
	return r, h.Run, cut, nil
}

// orCorrupt returns err, or errCorrupt if err is nil or the content has ended too soon.
func orCorrupt(err error) error {
	if err == nil || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return errCorrupt
	}
	return err
}

// readLine reads a line, and returns it with its '\n'. The error is errCorrupt if the line has more than
// limit bytes.
func readLine(in *bufio.Reader, limit int64) (line []byte, err error) {
	for err = bufio.ErrBufferFull; errors.Is(err, bufio.ErrBufferFull); {
		var part []byte
		part, err = in.ReadSlice('\n')
		line = append(line, part...)
		if int64(len(line)) > limit {
			return nil, errCorrupt
		}
	}
	return line, err
}

// skipLines reads n lines, and returns the number of their bytes.
func skipLines(in *bufio.Reader, n int64) (size int64, err error) {
	for n > 0 {
		part, err := in.ReadSlice('\n')
		size += int64(len(part))
		if err == nil {
			n--
		} else if !errors.Is(err, bufio.ErrBufferFull) {
			return size, err
		}
	}
	return size, nil
}
