package main

import (
	"expvar"
	"log/slog"
	"net"
	"net/http"
	_ "net/http/pprof" // registers itself, as expvar does, in http.DefaultServeMux
	"time"

	"example.com/chat/internal/ratelimit"
)

// counters count what happens in a chat. Any goroutine may use them.
type counters struct {
	rooms       expvar.Int // open now, the one without a name included
	connections expvar.Int // open now

	// Since the start.
	connected        expvar.Int   // connections
	linesIn          expvar.Int   // lines that came
	linesOut         expvar.Int   // the same for each connection that was to get them
	bytesIn          expvar.Int   // of the text of lines that came
	bytesOut         expvar.Int   // the same for each connection that was to get them
	droppedSlow      expvar.Int   // connections whose peer read too slowly
	droppedIdle      expvar.Int   // connections from which nothing came
	refused          expvar.Map   // handshakes, by reason
	throttled        expvar.Int   // times that the Hub held lines for a lagging connection
	throttledSeconds expvar.Float // for how long

	relays      expvar.Int // connections of relays, open now
	relayMissed expvar.Int // lines of other chats that did not come
	relayLost   expvar.Int // lines that were not held until a relay asked for them
	relayKnown  expvar.Int // lines that came again, and were dropped
}

// count counts a fan-out of lines, which have bytes together, to a number of listeners.
func (c *counters) count(lines, bytes, listeners int) {
	c.linesIn.Add(int64(lines))
	c.bytesIn.Add(int64(bytes))
	c.linesOut.Add(int64(lines) * int64(listeners))
	c.bytesOut.Add(int64(bytes) * int64(listeners))
}

// vars returns the counters as expvar shows them.
func (c *counters) vars() *expvar.Map {
	vars := new(expvar.Map)
	vars.Set("rooms", &c.rooms)
	vars.Set("connections", &c.connections)
	vars.Set("connections_ever", &c.connected)
	vars.Set("lines_received", &c.linesIn)
	vars.Set("lines_delivered", &c.linesOut)
	vars.Set("bytes_received", &c.bytesIn)
	vars.Set("bytes_delivered", &c.bytesOut)
	vars.Set("dropped_slow", &c.droppedSlow)
	vars.Set("dropped_idle", &c.droppedIdle)
	vars.Set("handshakes_refused", &c.refused)
	vars.Set("throttled", &c.throttled)
	vars.Set("throttled_seconds", &c.throttledSeconds)
	vars.Set("relays", &c.relays)
	vars.Set("relay_missed", &c.relayMissed)
	vars.Set("relay_lost", &c.relayLost)
	vars.Set("relay_known", &c.relayKnown)
	return vars
}

// serveDebug serves /debug/vars and /debug/pprof/ on listener until that is closed. It is
// to be called once in a program.
func serveDebug(listener net.Listener, c *counters) {
	expvar.Publish("chat", c.vars())
	server := &http.Server{ReadTimeout: 10 * time.Second}
	server.Serve(listener)
}

const (
	// What peers cause is logged each peerLogPeriod, and peerLogBurst records at once after some
	// quiet, in messages of up to peerLogMessage bytes: less than 20 MB a day.
	peerLogPeriod  = 10 * time.Second
	peerLogBurst   = 100
	peerLogMessage = 200
)

// newPeerLog returns a log for what peers cause.
func newPeerLog() *slog.Logger {
	return slog.New(ratelimit.NewHandler(slog.Default().Handler(), ratelimit.New(peerLogBurst, peerLogPeriod), peerLogMessage))
}
