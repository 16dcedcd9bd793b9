// Package logqueue has a log that never waits for the reader of standard error, and that shows control
// characters instead of passing them on.
//
// Most records are about peers. So a log that waited would let anyone stop a program whose standard error
// nobody reads, and a terminal that shows the log would obey what a peer sent.
package logqueue

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"strconv"
	"sync"
	"syscall"
	"time"
	"unicode"
	"unicode/utf8"
)

const (
	// maxRecords and maxBytes limit the records that wait, the one that is being written included. They are
	// enough for a reader that pauses, and little beside the memory of a chat.
	maxRecords = 1000
	maxBytes   = 1 << 20

	// closeWait is how long Close waits for the records in the queue. A reader that reads takes far less, and
	// no stop should last much longer because of one that doesn't.
	closeWait = time.Second
)

// Queue is an io.Writer of whole records, such as a slog.Handler writes. One goroutine passes them on to
// another writer. Any goroutine may call the methods. They never wait, except for Close.
type Queue struct {
	records chan record   // of maxRecords, so that a send never blocks
	written chan struct{} // closed when nothing more will be written

	mu sync.Mutex

	// Guarded by mu.
	waiting int  // records in the queue, the one that is being written included
	size    int  // bytes of these records
	dropped int  // records dropped since the last one that fitted
	closed  bool // Close was called
}

// record is one record in a Queue.
type record struct {
	text    []byte // whole lines, already shown
	dropped int    // records dropped between the record before and this one
}

// Start makes a Queue to standard error the log of packages slog and log. From then on SIGPIPE no longer ends
// the program. Without that, a write to a pipe that nobody reads would (os/signal). The program must call Close
// at its end.
func Start() *Queue {
	signal.Ignore(syscall.SIGPIPE)
	q := New(os.Stderr)
	slog.SetDefault(slog.New(slog.NewTextHandler(q, nil)))
	return q
}

// New returns a Queue that writes to w. Each call of w's Write gets one record, behind a line with the number of
// the records that were dropped before it, if any. Records whose write fails are dropped. The caller must
// call Close.
func New(w io.Writer) *Queue {
	q := &Queue{records: make(chan record, maxRecords), written: make(chan struct{})}
	go q.run(w)
	return q
}

// Write queues one record, which must end with a line break, and copies it. Write drops the record if the queue is
// full or closed. It always returns len(b) and nil.
func (q *Queue) Write(b []byte) (int, error) {
	text := append(appendShown(nil, bytes.TrimSuffix(b, []byte("\n"))), '\n')
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed || q.waiting == maxRecords || q.size+len(text) > maxBytes {
		q.dropped++
		return len(b), nil
	}
	q.records <- record{text, q.dropped}
	q.waiting++
	q.size += len(text)
	q.dropped = 0
	return len(b), nil
}

// Close waits up to 1 s until the records in the queue are written. Records that are written later are dropped.
func (q *Queue) Close() {
	q.mu.Lock()
	if !q.closed {
		q.closed = true
		close(q.records)
	}
	q.mu.Unlock()
	select {
	case <-q.written:
	case <-time.After(closeWait):
	}
}

// run writes records to w until Close.
func (q *Queue) run(w io.Writer) {
	defer close(q.written)
	dropped, torn := 0, false // since the last write that succeeded
	for r := range q.records {
		dropped += r.dropped
		n, err := w.Write(append(notice(dropped, torn), r.text...))
		if err == nil {
			dropped, torn = 0, false
		} else {
			dropped++
			torn = torn || n > 0
		}
		q.mu.Lock()
		q.waiting--
		q.size -= len(r.text)
		q.mu.Unlock()
	}
	q.mu.Lock()
	dropped += q.dropped
	q.mu.Unlock()
	if dropped > 0 {
		w.Write(notice(dropped, torn))
	}
}

// notice returns a line with the number of dropped records, or nothing if that is 0. If a write has failed midway,
// the line begins after a line break.
func notice(dropped int, torn bool) []byte {
	var line bytes.Buffer
	if torn {
		line.WriteByte('\n')
	}
	if dropped > 0 {
		slog.New(slog.NewTextHandler(&line, nil)).Warn("log records dropped", "records", dropped)
	}
	return line.Bytes()
}

// appendShown appends text to b. In place of each rune that isPlain refuses it appends the rune's escape in Go's
// syntax, and \x with two digits in place of each byte that is no UTF-8.
func appendShown(b, text []byte) []byte {
	for len(text) > 0 {
		r, n := utf8.DecodeRune(text)
		switch {
		case r == utf8.RuneError && n == 1:
			b = fmt.Appendf(b, `\x%02x`, text[0])
		case isPlain(r):
			b = append(b, text[:n]...)
		default:
			quoted := strconv.QuoteRuneToASCII(r)
			b = append(b, quoted[1:len(quoted)-1]...)
		}
		text = text[n:]
	}
	return b
}

// isPlain reports whether r is ASCII that prints, or a visible letter, digit or accent of any script. Names of
// files have these. Other symbols are not plain, because some look like the quotes, spaces and equals signs
// between the parts of a record.
func isPlain(r rune) bool {
	if r < utf8.RuneSelf {
		return unicode.IsPrint(r)
	}
	return unicode.In(r, unicode.L, unicode.M, unicode.N) &&
		!unicode.In(r, unicode.Other_Default_Ignorable_Code_Point, unicode.Variation_Selector)
}
