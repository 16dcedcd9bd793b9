// Package ratelimit is a token bucket, and a slog.Handler behind one.
package ratelimit

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

// Limiter is a token bucket: it holds up to burst tokens, and gets one each period. One goroutine
// at a time may use it.
type Limiter struct {
	burst  int
	period time.Duration
	next   time.Time // when there is a token
}

// New returns a full Limiter. burst is at least 1.
func New(burst int, period time.Duration) *Limiter {
	return &Limiter{burst: burst, period: period}
}

// Delay returns how long it takes until there is a token: 0 or less if there is one now.
func (l *Limiter) Delay(now time.Time) time.Duration {
	if full := now.Add(-time.Duration(l.burst-1) * l.period); l.next.Before(full) {
		l.next = full
	}
	return l.next.Sub(now)
}

// Take takes a token, after Delay. If there is none yet, it takes the next.
func (l *Limiter) Take() { l.next = l.next.Add(l.period) }

// Handler is a slog.Handler that handles one record each period, and burst of them at once after
// some quiet, each with a message of up to maxMessage bytes before slog quotes it. It drops other
// records; the next has their number as "left_out".
type Handler struct {
	slog.Handler
	limit *limit
}

// limit is shared by a Handler and those derived from it.
type limit struct {
	mu         sync.Mutex
	limiter    *Limiter
	maxMessage int
	leftOut    int // records since the last one
}

// NewHandler returns a Handler in front of h.
func NewHandler(h slog.Handler, l *Limiter, maxMessage int) Handler {
	return Handler{h, &limit{limiter: l, maxMessage: maxMessage}}
}

// Handle implements slog.Handler.
func (h Handler) Handle(ctx context.Context, r slog.Record) error {
	l := h.limit
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.limiter.Delay(time.Now()) > 0 {
		l.leftOut++
		return nil
	}
	l.limiter.Take()
	r.Message = r.Message[:min(len(r.Message), l.maxMessage)]
	if l.leftOut > 0 {
		r.AddAttrs(slog.Int("left_out", l.leftOut))
		l.leftOut = 0
	}
	return h.Handler.Handle(ctx, r)
}

// WithAttrs implements slog.Handler.
func (h Handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return Handler{h.Handler.WithAttrs(attrs), h.limit}
}

// WithGroup implements slog.Handler.
func (h Handler) WithGroup(name string) slog.Handler {
	return Handler{h.Handler.WithGroup(name), h.limit}
}
