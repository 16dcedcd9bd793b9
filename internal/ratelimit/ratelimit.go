// Package ratelimit has a token bucket, and a slog.Handler that uses it to bound the size of a log.
package ratelimit

import (
	"context"
	"log/slog"
	"sync"
	"time"
	"unicode/utf8"
)

// Limiter is a token bucket. It holds at most burst tokens, and receives one each period. Only one
// goroutine at a time may use a Limiter.
type Limiter struct {
	// Set at construction.
	burst  int
	period time.Duration

	next time.Time // when the next token can be taken; in the past if there is one
}

// New returns a full Limiter. burst must be at least 1.
func New(burst int, period time.Duration) *Limiter {
	return &Limiter{burst: burst, period: period}
}

// Delay returns the time from now until there is a token. It is 0 or negative if there is one.
func (l *Limiter) Delay(now time.Time) time.Duration {
	if full := now.Add(-time.Duration(l.burst-1) * l.period); l.next.Before(full) {
		l.next = full
	}
	return l.next.Sub(now)
}

// Take removes a token. The caller must call Delay before each Take. If there is no token, Take takes the
// next one in advance, and the caller should wait for the Delay.
func (l *Limiter) Take() { l.next = l.next.Add(l.period) }

// Handler is a slog.Handler that handles at most one record each period of its Limiter, and a burst of them
// after a quiet time. It drops the other records, and the attribute "left_out" of the next record is their
// number.
//
// Any goroutine may call its methods.
type Handler struct {
	slog.Handler
	limit *limit
}

// limit is the state that a Handler shares with those that its WithAttrs and WithGroup return.
type limit struct {
	maxMessage int // bytes; set at construction

	mu sync.Mutex

	// Guarded by mu.
	limiter *Limiter
	leftOut int // records dropped since the last handled one
}

// NewHandler returns a Handler that passes records on to h. It cuts a record's message to maxMessage bytes as Cut
// does, but not its attributes. From then on, only the Handler may use l.
func NewHandler(h slog.Handler, l *Limiter, maxMessage int) Handler {
	return Handler{h, &limit{limiter: l, maxMessage: maxMessage}}
}

// Handle implements slog.Handler.
func (h Handler) Handle(ctx context.Context, r slog.Record) error {
	leftOut, ok := h.limit.take()
	if !ok {
		return nil
	}
	r.Message = Cut(r.Message, h.limit.maxMessage)
	if leftOut > 0 {
		r.AddAttrs(slog.Int("left_out", leftOut))
	}
	return h.Handler.Handle(ctx, r)
}

// take reports whether a record may be handled now, and how many were dropped before it.
func (l *limit) take() (leftOut int, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.limiter.Delay(time.Now()) > 0 {
		l.leftOut++
		return 0, false
	}
	l.limiter.Take()
	leftOut, l.leftOut = l.leftOut, 0
	return leftOut, true
}

// Cut returns the longest beginning of s that has at most size bytes and does not end within a rune. Otherwise the
// rest of a rune would look like bytes that are no UTF-8. Of bytes that are no UTF-8, Cut removes at most three.
func Cut(s string, size int) string {
	if len(s) <= size {
		return s
	}
	for end := size; end >= 0 && end > size-utf8.UTFMax; end-- {
		if utf8.RuneStart(s[end]) {
			return s[:end]
		}
	}
	return s[:size]
}

// WithAttrs implements slog.Handler. The result shares h's limit.
func (h Handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return Handler{h.Handler.WithAttrs(attrs), h.limit}
}

// WithGroup implements slog.Handler. The result shares h's limit.
func (h Handler) WithGroup(name string) slog.Handler {
	return Handler{h.Handler.WithGroup(name), h.limit}
}
