package main

import (
	"context"
	"expvar"
	"log/slog"
	"net"
	"net/http"
	_ "net/http/pprof" // registers itself, as expvar does, in http.DefaultServeMux
	"sync"
	"sync/atomic"
	"time"
)

// counters count what happens in a chat. Any goroutine may use them.
type counters struct {
	connections atomic.Int64 // open now

	// Since the start: connections; lines that came, and for how many connections they
	// were queued; the same in bytes of text; peers let go because they read too slowly,
	// or because nothing came from them; and handshakes that were refused, by reason.
	connected         expvar.Int
	linesIn, linesOut expvar.Int
	bytesIn, bytesOut expvar.Int
	tooSlow, silent   expvar.Int
	refused           expvar.Map

	// How often, and for how many seconds, the Hub took no lines because the room could not
	// follow.
	throttled        expvar.Int
	throttledSeconds expvar.Float
}

// count counts a fan-out of so many lines, with so many bytes, to so many listeners.
func (c *counters) count(lines, bytes, listeners int) {
	c.linesIn.Add(int64(lines))
	c.bytesIn.Add(int64(bytes))
	c.linesOut.Add(int64(lines) * int64(listeners))
	c.bytesOut.Add(int64(bytes) * int64(listeners))
}

// vars returns the counters as expvar shows them.
func (c *counters) vars() *expvar.Map {
	vars := new(expvar.Map)
	vars.Set("connections", expvar.Func(func() any { return c.connections.Load() }))
	vars.Set("connections_ever", &c.connected)
	vars.Set("lines_received", &c.linesIn)
	vars.Set("lines_delivered", &c.linesOut)
	vars.Set("bytes_received", &c.bytesIn)
	vars.Set("bytes_delivered", &c.bytesOut)
	vars.Set("let_go_as_too_slow", &c.tooSlow)
	vars.Set("let_go_as_silent", &c.silent)
	vars.Set("handshakes_refused", &c.refused)
	vars.Set("throttled", &c.throttled)
	vars.Set("throttled_seconds", &c.throttledSeconds)
	return vars
}

// serveDebug serves /debug/vars and /debug/pprof/ on listener until that is closed. It is
// to be called once in a program.
func serveDebug(listener net.Listener, c *counters) {
	expvar.Publish("chat", c.vars())
	server := &http.Server{ReadTimeout: 10 * time.Second}
	server.Serve(listener)
}

// sparing is a slog.Handler for what peers cause. It handles a record each logPeriod, and
// logBurst at once after some quiet, with messages of no more than logMessage. The next
// record says how many were left out.
type sparing struct {
	slog.Handler
	budget *budget
}

const (
	logPeriod  = 10 * time.Second
	logBurst   = 100
	logMessage = 200 // bytes, before unprintable ones are quoted
)

// budget is how much sparing may log; those that are made of one share it.
type budget struct {
	mu      sync.Mutex
	limiter limiter
	leftOut int // records since the last one
}

func newSparing(h slog.Handler) sparing {
	return sparing{h, &budget{limiter: limiter{burst: logBurst, period: logPeriod}}}
}

func (s sparing) Handle(ctx context.Context, r slog.Record) error {
	b := s.budget
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.limiter.wait(time.Now()) > 0 {
		b.leftOut++
		return nil
	}
	b.limiter.take()
	r.Message = r.Message[:min(len(r.Message), logMessage)]
	if b.leftOut > 0 {
		r.AddAttrs(slog.Int("left_out", b.leftOut))
		b.leftOut = 0
	}
	return s.Handler.Handle(ctx, r)
}

func (s sparing) WithAttrs(attrs []slog.Attr) slog.Handler {
	return sparing{s.Handler.WithAttrs(attrs), s.budget}
}

func (s sparing) WithGroup(name string) slog.Handler {
	return sparing{s.Handler.WithGroup(name), s.budget}
}
