// Command chat is a web chat on golang.org/x/net/websocket and nothing else
// outside the standard library.
//
//	main.go   flags, the HTTP server, the page, signals
//	hub.go    Hub: who is connected; hands every line to all
//	pace.go   how fast the Hub does so
//	history.go  the last lines, for those who come back
//	conn.go   Conn: a connection, from its handshake to its last byte
//	frame.go  whole messages out of x/net's frames; frames to be sent
//	assets/   the page
package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"embed"
	"encoding/base64"
	"errors"
	"flag"
	"fmt"
	"io"
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

// config is what the flags say.
type config struct {
	addr       string // host:port to listen on
	maxMessage int    // bytes in a message
	history    int    // lines that are held for those who come
}

// gcPercent is how much garbage may pile up, in percent of what is in use, before it
// is collected. Most of what is in use belongs to connections, and is there to stay,
// garbage comes from messages received alone: little of it, for the work it gives to
// look for it more often than Go does by itself.
const gcPercent = 25

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
	if err := run(cfg); err != nil {
		fmt.Fprintln(os.Stderr, "chat:", err)
		os.Exit(1)
	}
}

// parseFlags reads the command line. The error is one line that says what is
// wrong with it, or flag.ErrHelp where help was asked for and written to help.
func parseFlags(args []string, help io.Writer) (config, error) {
	cfg := config{addr: ":8080", maxMessage: 4096, history: 256}
	flags := flag.NewFlagSet("chat", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	flags.Func("addr", "listen on `host:port`; every interface without a host (default :8080)", func(s string) error {
		cfg.addr = s
		_, port, err := net.SplitHostPort(s)
		if err == nil {
			_, err = net.LookupPort("tcp", port)
		}
		if err != nil {
			return errors.New("want host:port or :port, such as :8080")
		}
		return nil
	})
	flags.Func("max-message", "longest message taken from anyone, in `bytes` (default 4096)", func(s string) (err error) {
		cfg.maxMessage, err = strconv.Atoi(s)
		if err != nil || cfg.maxMessage < 1 || cfg.maxMessage > 1<<30 {
			return errors.New("want a number of bytes, from 1 to 1073741824")
		}
		return nil
	})
	flags.Func("history", "hold this many `lines` for those who join or come back (default 256)", func(s string) (err error) {
		cfg.history, err = strconv.Atoi(s)
		if err != nil || cfg.history < 0 || cfg.history > 1<<20 {
			return errors.New("want a number of lines, from 0 to 1048576")
		}
		return nil
	})
	err := flags.Parse(args)
	if errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(help, "chat serves a web chat.\n\nUsage: chat [flags]")
		flags.SetOutput(help)
		flags.PrintDefaults()
	}
	if err == nil && flags.NArg() > 0 {
		err = fmt.Errorf("unexpected argument %q: there are only flags, see chat -h", flags.Arg(0))
	}
	return cfg, err
}

// run serves the chat until SIGINT or SIGTERM, or until it can't listen.
func run(cfg config) error {
	listener, err := net.Listen("tcp", cfg.addr)
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()

	hub := newHub(cfg.history)
	go hub.run(ctx)
	server := newServer(hub, cfg)
	context.AfterFunc(ctx, func() {
		stop() // a second signal ends the program at once
		server.Close()
	})

	slog.Info("the chat is open", "url", clickable(cfg.addr, listener.Addr()))
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	hub.wait(closeWait)
	return nil
}

// clickable returns the URL of a server that was told to listen on addr and does
// so on bound.
func clickable(addr string, bound net.Addr) string {
	host, _, _ := net.SplitHostPort(addr)
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "localhost"
	}
	_, port, _ := net.SplitHostPort(bound.String())
	return "http://" + net.JoinHostPort(host, port) + "/"
}

// newServer returns the HTTP server of a chat: the page, what it loads, and the
// WebSocket. The hub's run must be running while it serves.
func newServer(hub *Hub, cfg config) *http.Server {
	page := homePage(cfg)
	mux := http.NewServeMux()
	mux.Handle("GET /{$}", asset(page, "text/html; charset=utf-8"))
	mux.Handle("GET /assets/jquery.min.js", asset(mustRead("assets/jquery.min.js"), "text/javascript; charset=utf-8"))
	mux.Handle("GET /ws", wsHandler{hub, cfg.maxMessage})
	return &http.Server{
		Handler:        secured(mux, page),
		ReadTimeout:    10 * time.Second, // for a request; a WebSocket has its own
		WriteTimeout:   time.Minute,
		IdleTimeout:    time.Minute,
		MaxHeaderBytes: 16 << 10,
	}
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
