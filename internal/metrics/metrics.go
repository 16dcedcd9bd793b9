// Package metrics holds the chat's counters, and the log of what peers cause.
//
// Counters only count: nothing in the chat depends on their values. The log is limited because any peer
// can make the chat write to it.
package metrics

import (
	"expvar"
	"log/slog"
	"net"
	"net/http"
	_ "net/http/pprof" // registers its handlers, as expvar does, in http.DefaultServeMux
	"time"

	"example.com/chat/internal/ratelimit"
)

// Counters count events and measure states of one chat. Any goroutine may use them.
type Counters struct {
	// States.
	Rooms       expvar.Int // rooms in memory, the nameless one included
	Connections expvar.Int // clients connected
	Relays      expvar.Int // relays connected

	// Events since the start.
	Connected     expvar.Int   // clients that connected
	LinesReceived expvar.Int   // lines that entered a stream
	BytesReceived expvar.Int   // bytes of these lines, without their line breaks
	LinesSent     expvar.Int   // for each line of a fan-out, the connections in its room
	BytesSent     expvar.Int   // like LinesSent, for each byte
	DroppedSlow   expvar.Int   // connections whose peer read too slowly
	DroppedIdle   expvar.Int   // connections from which nothing came
	Refused       expvar.Map   // handshakes refused, by reason
	Held          expvar.Int   // times that a Hub held back lines for a lagging connection
	HeldSeconds   expvar.Float // seconds for which Hubs held back lines
	RelayMissed   expvar.Int   // lines of other chats that are missing here
	RelayLost     expvar.Int   // local lines that the outbox dropped before a relay asked for them
	RelayKnown    expvar.Int   // lines of other chats that came again, and were dropped
}

// FanOut counts a fan-out of lines, which have size bytes without line breaks, to connections.
func (c *Counters) FanOut(lines, size, connections int) {
	c.LinesReceived.Add(int64(lines))
	c.BytesReceived.Add(int64(size))
	c.LinesSent.Add(int64(lines) * int64(connections))
	c.BytesSent.Add(int64(size) * int64(connections))
}

// Hold counts how often, and how long, a Hub holds back lines. One goroutine at a time may use it.
type Hold struct{ since time.Time }

// Note notes whether the Hub holds back lines now. It must be called whenever the Hub decides about pending
// lines.
func (h *Hold) Note(heldBack bool, c *Counters) {
	switch {
	case heldBack && h.since.IsZero():
		h.since = time.Now()
		c.Held.Add(1)
	case !heldBack && !h.since.IsZero():
		c.HeldSeconds.Add(time.Since(h.since).Seconds())
		h.since = time.Time{}
	}
}

// Vars returns the counters under the names that /debug/vars shows.
func (c *Counters) Vars() *expvar.Map {
	vars := new(expvar.Map)
	for name, v := range map[string]expvar.Var{
		"rooms":              &c.Rooms,
		"connections":        &c.Connections,
		"connections_ever":   &c.Connected,
		"lines_received":     &c.LinesReceived,
		"bytes_received":     &c.BytesReceived,
		"lines_sent":         &c.LinesSent,
		"bytes_sent":         &c.BytesSent,
		"dropped_slow":       &c.DroppedSlow,
		"dropped_idle":       &c.DroppedIdle,
		"handshakes_refused": &c.Refused,
		"throttled":          &c.Held,
		"throttled_seconds":  &c.HeldSeconds,
		"relays":             &c.Relays,
		"relay_missed":       &c.RelayMissed,
		"relay_lost":         &c.RelayLost,
		"relay_known":        &c.RelayKnown,
	} {
		vars.Set(name, v)
	}
	return vars
}

// ServeDebug serves /debug/vars, with c under "chat", and /debug/pprof/ on listener until the listener is
// closed. A program may call it once, because expvar's names are global.
func ServeDebug(listener net.Listener, c *Counters) {
	expvar.Publish("chat", c.Vars())
	server := &http.Server{ReadTimeout: 10 * time.Second}
	server.Serve(listener)
}

const (
	// peerLogBurst is the number of records that are logged at once after a quiet time. Then there is one
	// each peerLogPeriod. With messages of peerLogMessage bytes that is less than 20 MB a day.
	peerLogBurst   = 100
	peerLogPeriod  = 10 * time.Second
	peerLogMessage = 200
)

// NewPeerLog returns a log for what peers cause. It drops records that come too fast, and counts them in
// the next record.
func NewPeerLog() *slog.Logger {
	return slog.New(ratelimit.NewHandler(slog.Default().Handler(), ratelimit.New(peerLogBurst, peerLogPeriod), peerLogMessage))
}
