// Command chat is a web chat on golang.org/x/net/websocket and nothing else
// outside the standard library.
//
//	flags.go        the command line
//	main.go         signals, the HTTP server, the page
//	handshake.go    wsHandler: who may connect
//	conn.go         Conn: a connection, and its readPump and writePump
//	frame.go        whole messages out of x/net's frames; frames to be sent
//	rate.go         how fast a peer may speak
//	hub.go          Hub: who is connected; hands every line to all
//	pace.go         how fast the Hub does so
//	history.go      the last lines, for those who come back
//	certificate.go  TLS
//	debug.go        counters, and a log within bounds
//	assets/         the page
package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"embed"
	"encoding/base64"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"regexp"
	"runtime/debug"
	"strconv"
	"strings"
	"syscall"
	"time"
)

//go:embed assets/home.html assets/jquery.min.js
var assets embed.FS

// gcPercent is how much garbage may pile up, in percent of what is in use, before it
// is collected. Most of what is in use belongs to connections, and is there to stay,
// garbage comes from messages received alone: little of it, for the work it gives to
// look for it more often than Go does by itself.
const gcPercent = 25

// pageWait is how long a page that is on its way when the chat stops may take to arrive.
const pageWait = time.Second

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
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second signal ends the program at once

	listener, err := net.Listen("tcp", cfg.addr)
	if err != nil {
		return err
	}
	hub := newHub(cfg.history)
	if cfg.debug != "" {
		debugging, err := net.Listen("tcp", cfg.debug)
		if err != nil {
			return err
		}
		defer debugging.Close()
		go serveDebug(debugging, &hub.counters)
		slog.Info("counters and profiles", "url", clickable("http", cfg.debug, debugging.Addr())+"debug/vars")
	}
	scheme := "http"
	if cfg.tls != nil {
		scheme = "https"
	}
	slog.Info("the chat is open", "url", clickable(scheme, cfg.addr, listener.Addr()))
	err = serve(ctx, listener, hub, cfg)
	slog.Info("the chat is closed")
	return err
}

// serve serves a chat with that Hub, which is not running yet, on listener. It returns
// an error if listener fails; else, after ctx is done, it hands on what has been said
// already, takes leave of everyone, and waits a while for them to hang up.
func serve(ctx context.Context, listener net.Listener, hub *Hub, cfg config) error {
	ctx, stop := context.WithCancel(ctx)
	go hub.run(ctx)
	server := newServer(hub, cfg)
	closed := make(chan struct{})
	context.AfterFunc(ctx, func() {
		defer close(closed)
		shut(server)
	})
	var err error
	if cfg.tls != nil {
		err = server.ServeTLS(patientListener{listener, hub}, "", "")
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

// shut has server stop listening, and lets pages that are on their way arrive.
func shut(server *http.Server) {
	ctx, cancel := context.WithTimeout(context.Background(), pageWait)
	defer cancel()
	server.Shutdown(ctx)
	server.Close()
}

// clickable returns the URL of a server that was told to listen on addr and does
// so on bound.
func clickable(scheme, addr string, bound net.Addr) string {
	host, _, _ := net.SplitHostPort(addr)
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "localhost"
	}
	_, port, _ := net.SplitHostPort(bound.String())
	return scheme + "://" + net.JoinHostPort(host, port) + "/"
}

// newServer returns the HTTP server of a chat: the page, what it loads, and the
// WebSocket. The hub's run must be running while it serves.
func newServer(hub *Hub, cfg config) *http.Server {
	page := homePage(cfg)
	mux := http.NewServeMux()
	mux.Handle("GET /{$}", asset(page, "text/html; charset=utf-8"))
	mux.Handle("GET /assets/jquery.min.js", asset(mustRead("assets/jquery.min.js"), "text/javascript; charset=utf-8"))
	mux.Handle("GET /ws", wsHandler{hub, cfg})
	server := &http.Server{
		Handler:        secured(mux, page),
		ReadTimeout:    10 * time.Second, // for a request; a WebSocket has its own
		WriteTimeout:   time.Minute,
		IdleTimeout:    time.Minute,
		MaxHeaderBytes: 16 << 10,
		ErrorLog:       slog.NewLogLogger(hub.peerLog.Handler(), slog.LevelWarn),
	}
	if cfg.tls != nil {
		server.TLSConfig = &tls.Config{GetCertificate: cfg.tls.get}
	}
	return server
}

// homePage returns the page, which is told the limits.
func homePage(cfg config) []byte {
	limits := strings.NewReplacer("{{max-message}}", strconv.Itoa(cfg.maxMessage), "{{history}}", strconv.Itoa(cfg.history))
	return []byte(limits.Replace(string(mustRead("assets/home.html"))))
}

// asset serves a file. Browsers may keep it, and ask each time whether it is still
// the same.
func asset(content []byte, contentType string) http.Handler {
	etag := fmt.Sprintf(`"%x"`, sha256.Sum256(content))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", contentType)
		w.Header().Set("Cache-Control", "no-cache")
		w.Header().Set("ETag", etag)
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(content))
	})
}

// mustRead returns an embedded file. That it is there is settled when the
// program is built.
func mustRead(name string) []byte {
	content, err := assets.ReadFile(name)
	if err != nil {
		panic(err)
	}
	return content
}

// secured adds to every answer the headers that keep a browser from doing with
// it what it isn't for.
func secured(next http.Handler, page []byte) http.Handler {
	policy := contentSecurityPolicy(page)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Security-Policy", policy)
		w.Header().Set("X-Content-Type-Options", "nosniff")
		w.Header().Set("Referrer-Policy", "no-referrer")
		next.ServeHTTP(w, r)
	})
}

// contentSecurityPolicy lets page load its own script and style, jQuery, and the
// WebSocket, and nothing else. Its inline parts are let in by their hashes.
func contentSecurityPolicy(page []byte) string {
	return "default-src 'none'; connect-src 'self'" +
		"; script-src 'self'" + inlineHashes(page, "script") +
		"; style-src" + inlineHashes(page, "style") +
		"; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
}

// inlineHashes returns page's inline elements of that name as sources of a policy.
func inlineHashes(page []byte, element string) (sources string) {
	inline := regexp.MustCompile(`(?s)<` + element + `>(.*?)</` + element + `>`)
	for _, match := range inline.FindAllSubmatch(page, -1) {
		sum := sha256.Sum256(match[1])
		sources += " 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"
	}
	return sources
}
