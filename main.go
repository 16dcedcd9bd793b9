// Command chat is a web chat on golang.org/x/net/websocket and nothing else
// outside the standard library.
package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"embed"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

//go:embed assets
var assets embed.FS

// gcPercent is how much garbage may pile up, in percent of what is in use. Memory of idle connections is
// paid for with CPU of joins, which leave most garbage: with 25 they take 8.8 KB and 107 us, with 50
// 9.6 KB and 97 us, with Go's 100 10.5 KB and 86 us (go run -C bench . -scenarios joins,idle -servers
// chat, with each GOGC in turn, two cores of an AMD EPYC, 2026-11-21). GOGC in the environment
// overrides it.
const gcPercent = 25

const (
	maxHTTPConns        = 256         // connections that may be open beside WebSockets
	httpShutdownTimeout = time.Second // for a page that is on its way when the chat stops
)

func main() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
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
		second := <-signals // also SIGINT, if the program was started with that ignored
		os.Exit(128 + int(second.(syscall.Signal)))
	}()

	listener, err := net.Listen("tcp", cfg.addr)
	if err != nil {
		return err
	}
	hub := newHub(cfg.history, cfg.maxConns)
	if cfg.debug != "" {
		debugging, err := net.Listen("tcp", cfg.debug)
		if err != nil {
			return err
		}
		defer debugging.Close()
		go serveDebug(debugging, &hub.counters)
		slog.Info("counters and profiles", "url", displayURL("http", cfg.debug, debugging.Addr())+"debug/vars")
	}
	scheme := "http"
	if cfg.tls != nil {
		scheme = "https"
	}
	slog.Info("listening", "url", displayURL(scheme, cfg.addr, listener.Addr()))
	err = serve(ctx, listener, hub, cfg)
	slog.Info("stopped")
	return err
}

// serve runs hub and serves the chat on listener until ctx is done. Then it drains hub and waits for
// the connections to close. It returns the listener's error.
func serve(ctx context.Context, listener net.Listener, hub *Hub, cfg config) error {
	ctx, stop := context.WithCancel(ctx)
	go hub.run(ctx)
	server := newServer(hub, cfg)
	closed := make(chan struct{})
	context.AfterFunc(ctx, func() {
		defer close(closed)
		shutdownHTTP(server)
	})
	var err error
	if cfg.tls != nil {
		err = server.ServeTLS(listener, "", "")
	} else {
		err = server.Serve(listener)
	}
	stop()
	hub.wait()
	<-closed
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

// newServer returns the HTTP server of the page, what it loads, and the WebSocket. hub must run while
// it serves.
func newServer(hub *Hub, cfg config) *http.Server {
	mux := http.NewServeMux()
	mux.Handle("GET /{$}", asset(homePage(cfg), "text/html; charset=utf-8"))
	for name, contentType := range map[string]string{
		"chat.css":      "text/css; charset=utf-8",
		"chat.js":       "text/javascript; charset=utf-8",
		"jquery.min.js": "text/javascript; charset=utf-8",
	} {
		mux.Handle("GET /assets/"+name, asset(mustRead(name), contentType))
	}
	mux.Handle("GET /ws", wsHandler{hub, cfg})
	server := &http.Server{
		Handler:        securityHeaders(mux),
		ReadTimeout:    10 * time.Second, // for a request; a WebSocket has its own
		WriteTimeout:   time.Minute,
		IdleTimeout:    time.Minute,
		MaxHeaderBytes: 16 << 10,
		ConnState:      new(httpConns).changed,
		ErrorLog:       slog.NewLogLogger(hub.peerLog.Handler(), slog.LevelWarn),
	}
	if cfg.tls != nil {
		server.TLSConfig = &tls.Config{GetCertificate: cfg.tls.Get}
	}
	return server
}

// httpConns are the connections of an HTTP server that are not WebSockets, by the time of their
// last change. If there are more than maxHTTPConns the first is closed.
type httpConns struct {
	mu    sync.Mutex
	conns []net.Conn
}

// changed is called by the server when a connection changes its state.
func (h *httpConns) changed(conn net.Conn, state http.ConnState) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.conns = slices.DeleteFunc(h.conns, func(c net.Conn) bool { return c == conn })
	if state != http.StateHijacked && state != http.StateClosed {
		h.conns = append(h.conns, conn)
	}
	if len(h.conns) > maxHTTPConns {
		transportOf(h.conns[0]).Close()
		h.conns = slices.Delete(h.conns, 0, 1)
	}
}

// homePage returns the page with the limits filled in.
func homePage(cfg config) []byte {
	limits := strings.NewReplacer("{{max-message}}", strconv.Itoa(cfg.maxMessage), "{{history}}", strconv.Itoa(cfg.history))
	return []byte(limits.Replace(string(mustRead("home.html"))))
}

// asset serves a file. Browsers may keep it, and ask each time whether it has changed.
func asset(content []byte, contentType string) http.Handler {
	etag := fmt.Sprintf(`"%x"`, sha256.Sum256(content))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", contentType)
		w.Header().Set("Cache-Control", "no-cache")
		w.Header().Set("ETag", etag)
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(content))
	})
}

// mustRead returns an embedded file of assets.
func mustRead(name string) []byte {
	content, err := assets.ReadFile("assets/" + name)
	if err != nil {
		panic(err)
	}
	return content
}

// securityHeaders adds the headers with which a browser lets the page load its own scripts and style,
// connect to its own server, and do nothing else.
func securityHeaders(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Security-Policy", "default-src 'none'; connect-src 'self'; script-src 'self'; style-src 'self'; "+
			"base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
		w.Header().Set("X-Content-Type-Options", "nosniff")
		w.Header().Set("Referrer-Policy", "no-referrer")
		next.ServeHTTP(w, r)
	})
}
