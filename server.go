package main

import (
	"container/list"
	"crypto/tls"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"example.com/chat/assets"
)

const (
	maxHTTPConns = 256             // connections that may be open beside WebSockets,
	httpBusyTime = 2 * time.Second // and any number for so long: after a restart all clients come at once
)

// newServer returns the HTTP server of the page, what it loads, and the WebSocket. rooms must run
// while it serves.
func newServer(rooms *rooms) *http.Server {
	server := &http.Server{
		Handler:        securityHeaders(newMux(rooms)),
		ReadTimeout:    10 * time.Second, // for a request; a WebSocket has its own
		WriteTimeout:   time.Minute,
		IdleTimeout:    time.Minute,
		MaxHeaderBytes: 16 << 10,
		HTTP2:          &http.HTTP2Config{MaxConcurrentStreams: 16}, // each may hold memory as long as nobody reads its answer
		ConnState:      (&httpConns{places: make(map[net.Conn]*list.Element)}).changed,
		ErrorLog:       slog.NewLogLogger(rooms.peerLog.Handler(), slog.LevelWarn),
	}
	if rooms.cfg.tls != nil {
		server.TLSConfig = &tls.Config{GetCertificate: rooms.cfg.tls.Get}
	}
	return server
}

// newMux returns the addresses that there are. Those of the room without a name are not below a
// name: the page and the WebSocket of room NAME are /NAME/ and /NAME/ws.
func newMux(rooms *rooms) *http.ServeMux {
	mux := http.NewServeMux()
	for name, file := range assets.Files() {
		mux.Handle("GET /assets/"+name, file)
	}
	cfg := rooms.cfg
	page, ws := assets.Page{Title: cfg.title, MaxMessage: cfg.maxMessage, History: cfg.history, Rooms: cfg.rooms}, wsHandler{rooms}
	mux.Handle("GET /{$}", page.Home(""))
	mux.Handle("GET /"+assets.ManifestName, page.Manifest(""))
	mux.Handle("GET /ws", ws)
	if cfg.rooms > 0 {
		mux.Handle("GET /{room}", named("./", nil))
		mux.Handle("GET /{room}/{$}", named("../", page.Home("../")))
		mux.Handle("GET /{room}/"+assets.ManifestName, named("../", page.Manifest("../")))
		mux.Handle("GET /{room}/ws", named("../", ws))
	}
	return mux
}

// httpConns are the connections of an HTTP server that are not WebSockets. If there are more than
// maxHTTPConns, those are closed that wait for another request, and those that take longer than httpBusyTime
// with one.
type httpConns struct {
	mu         sync.Mutex
	idle, busy list.List // of httpConn, by the time of the last change
	places     map[net.Conn]*list.Element
	trimming   bool // trim will be called
}

type httpConn struct {
	net.Conn
	changed time.Time
}

// changed is called by the server when a connection changes its state.
func (h *httpConns) changed(conn net.Conn, state http.ConnState) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if place := h.places[conn]; place != nil {
		h.remove(place)
	} else if state != http.StateNew {
		return // it was closed here
	}
	switch state {
	case http.StateNew, http.StateActive:
		h.places[conn] = h.busy.PushBack(httpConn{conn, time.Now()})
	case http.StateIdle:
		h.places[conn] = h.idle.PushBack(httpConn{conn, time.Now()})
	}
	h.trim()
}

// trim closes connections if there are too many, now or when it may. h.mu is locked.
func (h *httpConns) trim() {
	for h.idle.Len()+h.busy.Len() > maxHTTPConns {
		first := h.idle.Front()
		if first == nil {
			first = h.busy.Front()
			if left := httpBusyTime - time.Since(first.Value.(httpConn).changed); left > 0 {
				h.trimIn(left)
				return
			}
		}
		transportOf(h.remove(first)).Close()
	}
}

// trimIn has trim called after d, if it will not be called before. h.mu is locked.
func (h *httpConns) trimIn(d time.Duration) {
	if h.trimming {
		return
	}
	h.trimming = true
	time.AfterFunc(d, func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.trimming = false
		h.trim()
	})
}

// remove forgets a connection, which it returns. h.mu is locked.
func (h *httpConns) remove(place *list.Element) net.Conn {
	removed := place.Value.(httpConn).Conn
	h.idle.Remove(place)
	h.busy.Remove(place)
	delete(h.places, removed)
	return removed
}

// securityHeaders adds the headers with which a browser takes a response as what it is, and lets it do
// nothing unless its handler allows more.
func securityHeaders(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
		w.Header().Set("X-Content-Type-Options", "nosniff")
		w.Header().Set("Referrer-Policy", "no-referrer")
		next.ServeHTTP(w, r)
	})
}
