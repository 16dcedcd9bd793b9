// Package past serves the last lines of a room over HTTP, as JSON. docs/protocol.md describes the answer.
//
// A page shows them while the chat is full, and programs read them without a WebSocket. An answer is bounded in lines
// and bytes. All answers together take at most a part of the memory for lines, and of the processors.
package past

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"time"

	"example.com/chat/internal/budget"
	"example.com/chat/internal/cpushare"
	"example.com/chat/internal/stream"
	"example.com/chat/internal/ws"
)

const (
	// MaxLines is the largest number of lines in an answer.
	MaxLines = 200

	// MaxBytes is the largest number of bytes of lines in an answer of more than one line. The answer should fit into
	// the buffer of a connection, because the frames stay in memory until the last byte is written.
	MaxBytes = 64 << 10

	// linePrice and bytePrice are about the processor time for a line of an answer, and for each byte of it.
	linePrice = 1500 * time.Nanosecond
	bytePrice = 10 * time.Nanosecond

	// retryAfter is the number of seconds after which a client may ask again.
	retryAfter = "5"
)

// Handler serves the last lines of the room in the path value "room".
type Handler struct {
	last    func(room string) (stream.Record, bool)
	origins []ws.Origin
	memory  *budget.Budget
	share   *cpushare.Share
}

// NewHandler returns a Handler. last must return what [stream.Stream.Last] returns for MaxLines and MaxBytes, or false
// if the room is not open. The Handler refuses pages of other origins. In memory it counts the lines of answers that
// are not written yet.
func NewHandler(last func(room string) (stream.Record, bool), origins []ws.Origin, memory *budget.Budget) *Handler {
	return &Handler{last, origins, memory, cpushare.New()}
}

// ServeHTTP implements http.Handler.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if refused := ws.CheckOrigin(r, h.origins); refused != nil {
		refused.Write(w, r)
		return
	}
	record, ok := h.last(r.PathValue("room"))
	if !ok {
		http.Error(w, "The room is not open.", http.StatusNotFound)
		return
	}
	size := int64(0)
	for _, f := range record.Frames {
		size += int64(len(f.Lines))
	}
	held := h.memory.Account()
	defer held.Hold(0)
	lines, more := linesOf(record)
	if held.Hold(size) == 0 || !h.share.Admit(time.Duration(len(lines))*linePrice+time.Duration(size)*bytePrice) {
		w.Header().Set("Retry-After", retryAfter)
		http.Error(w, "Too many ask for lines. Try again later.", http.StatusServiceUnavailable)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Cross-Origin-Resource-Policy", "same-origin")
	write(w, record.Epoch, lines, more)
}

// line is one line of an answer.
type line struct {
	seq  uint64
	at   int64 // in milliseconds since 1970
	text []byte
}

// linesOf returns the last lines of r, oldest first, at most MaxLines and, unless there is only one, MaxBytes. more
// reports whether the history has earlier ones.
func linesOf(r stream.Record) (lines []line, more bool) {
	seq, size := r.End, 0
	for _, f := range slices.Backward(r.Frames) {
		for text := f.Lines; len(text) > 0; {
			start := bytes.LastIndexByte(text[:len(text)-1], '\n') + 1
			size += len(text) - start
			if seq == r.Start || len(lines) == MaxLines || size > MaxBytes && len(lines) > 0 {
				slices.Reverse(lines)
				return lines, seq > r.Start
			}
			seq--
			lines = append(lines, line{seq, f.At, text[start : len(text)-1]})
			text = text[:start]
		}
	}
	slices.Reverse(lines)
	return lines, seq > r.Start
}

// write writes an answer. It encodes one line at a time, because the client may read slowly.
func write(w io.Writer, epoch string, lines []line, more bool) {
	fmt.Fprintf(w, `{"epoch":%q,"lines":[`, epoch)
	for i, l := range lines {
		if i > 0 {
			io.WriteString(w, ",")
		}
		text, err := json.Marshal(string(l.text))
		if err != nil {
			panic(err) // a string can always be encoded
		}
		at := time.UnixMilli(l.at).UTC().Format("2006-01-02T15:04:05.000Z")
		if _, err := fmt.Fprintf(w, `{"seq":%d,"at":"%s","text":%s}`, l.seq, at, text); err != nil {
			return // the client is gone
		}
	}
	fmt.Fprintf(w, `],"more":%v}`+"\n", more)
}
