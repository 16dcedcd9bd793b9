// Command chat serves a web chat. Beside the standard library it needs golang.org/x/net/websocket alone.
package main

import (
	"container/list"
	"context"
	"crypto/tls"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"chat/assets"
	"chat/internal/gctune"
)

// The heap, with the stacks, is collected when it reaches minHeap, or has grown by gcPercent if that is
// later. A join leaves garbage: in a small chat that collects each 25 % it takes 1.3 times the CPU. A large
// chat is mostly idle connections, and takes gcPercent more memory than they need. GOGC in the environment
// overrides both.
const (
	minHeap   = 32 << 20
	gcPercent = 25
)

const (
	maxHTTPConns        = 256             // connections that may be open beside WebSockets,
	httpBusyTime        = 2 * time.Second // and any number for so long: after a restart all clients come at once
	httpShutdownTimeout = time.Second     // for a page that is on its way when the chat stops
)

func main() {
	if os.Getenv("GOGC") == "" {
		gctune.Start(minHeap, gcPercent)
	}
	cfg, err := parseFlags(os.Args[1:], os.Stdout)
	if errors.Is(err, flag.ErrHelp) {
		return
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "chat:", err)
		os.Exit(2)
	}
	slog.SetDefault(slog.New(slog.NewTextHandler(os.Stderr, nil)))
	if err := run(cfg); err != nil {
		fmt.Fprintln(os.Stderr, "chat:", err)
		os.Exit(1)
	}
}

// run serves the chat until SIGINT or SIGTERM, or until it can't listen.
func run(cfg config) error {
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go func() {
		<-signals
		stop()
		second := <-signals // not signal.Reset: a program that was started with SIGINT ignored would ignore it again
		os.Exit(128 + int(second.(syscall.Signal)))
	}()

	listener, err := (&net.ListenConfig{KeepAlive: -1}).Listen(ctx, "tcp", cfg.addr) // the Hubs ping
	if err != nil {
		return err
	}
	defer listener.Close()
	var debugging net.Listener
	if cfg.debug != "" {
		if debugging, err = net.Listen("tcp", cfg.debug); err != nil {
			return err
		}
		defer debugging.Close()
	}
	var relays net.Listener
	if cfg.relay != "" {
		if relays, err = listenRelay(cfg.relay); err != nil {
			return err
		}
		defer relays.Close()
	}
	rooms, err := openRooms(cfg)
	if err != nil {
		return err
	}
	if debugging != nil {
		go serveDebug(debugging, &rooms.counters)
		slog.Info("counters and profiles", "url", displayURL("http", cfg.debug, debugging.Addr())+"debug/vars")
	}
	scheme := "http"
	if cfg.tls != nil {
		scheme = "https"
	}
	slog.Info("listening", "url", displayURL(scheme, cfg.addr, listener.Addr()))
	if relays != nil {
		slog.Info("waiting for a relay", "address", cfg.relay)
	}
	err = serve(ctx, listener, relays, rooms)
	slog.Info("stopped")
	return err
}

// serve runs rooms and serves the chat on listener, and its relay on relays unless that is nil, until ctx is done.
// Then it drains rooms and waits for the connections to close. It returns the listener's error.
func serve(ctx context.Context, listener, relays net.Listener, rooms *rooms) error {
	ctx, stop := context.WithCancel(ctx)
	var running sync.WaitGroup
	running.Go(func() { rooms.run(ctx, relays) })
	server := newServer(rooms)
	running.Go(func() {
		<-ctx.Done()
		shutdownHTTP(server)
	})
	var err error
	if rooms.cfg.tls != nil {
		err = server.ServeTLS(listener, "", "")
	} else {
		err = server.Serve(listener)
	}
	stop()
	running.Wait()
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

// shutdownHTTP has server stop listening, and waits up to httpShutdownTimeout for responses.
func shutdownHTTP(server *http.Server) {
	ctx, cancel := context.WithTimeout(context.Background(), httpShutdownTimeout)
	defer cancel()
	server.Shutdown(ctx)
	server.Close()
}

// displayURL returns the URL of a server that was told to listen on addr, and listens on bound.
func displayURL(scheme, addr string, bound net.Addr) string {
	host, _, _ := net.SplitHostPort(addr)
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "localhost"
	}
	_, port, _ := net.SplitHostPort(bound.String())
	return scheme + "://" + net.JoinHostPort(host, port) + "/"
}

// newServer returns the HTTP server of the page, what it loads, and the WebSocket. rooms must run
// while it serves.
func newServer(rooms *rooms) *http.Server {
	server := &http.Server{
		Handler:        securityHeaders(newMux(rooms)),
		ReadTimeout:    10 * time.Second, // for a request; a WebSocket has its own
		WriteTimeout:   time.Minute,
		IdleTimeout:    time.Minute,
		MaxHeaderBytes: 16 << 10,
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
