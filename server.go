package main

import (
	"cmp"
	"crypto/rsa"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"example.com/chat/assets"
	"example.com/chat/internal/connlimit"
	"example.com/chat/internal/cpushare"
	"example.com/chat/internal/past"
	"example.com/chat/internal/ws"
)

const (
	// maxHeaders is the number of headers that a request may have. A browser sends 10 to 20, and proxies add some.
	maxHeaders = 100

	// handshakeTime is about the processor time of a TLS handshake, and rsaTime that of a signature with an RSA key of
	// 2,048 bits. (Go 1.26, AMD EPYC)
	handshakeTime = 250 * time.Microsecond
	rsaTime       = 1200 * time.Microsecond
)

// errHandshakes ends a TLS handshake.
var errHandshakes = errors.New("too many handshakes")

// newServer returns the HTTP server of the page, its files, and the WebSockets. c must run while it serves.
func newServer(c *chat) *http.Server {
	limit := connlimit.New(c.cfg.httpConns())
	page := assets.Page{Title: c.cfg.title, MaxMessage: c.cfg.maxMessage, History: c.cfg.history, Rooms: c.cfg.rooms}
	server := &http.Server{
		Handler:        securityHeaders(page.Refusals(checkHead(cleanPaths(newMux(c, page))))),
		ReadTimeout:    10 * time.Second, // for a request; a WebSocket has its own limits
		WriteTimeout:   time.Minute,
		IdleTimeout:    time.Minute,
		MaxHeaderBytes: 4 << 10, // to which net/http adds 4 KiB; short headers take ten times their bytes in memory
		Protocols:      new(http.Protocols),
		ConnState: func(conn net.Conn, state http.ConnState) {
			client := transport(conn)
			limit.Changed(client, state)
			if state == http.StateActive {
				client.Request()
			}
		},
		ErrorLog: slog.NewLogLogger(c.shared.peerLog.Handler(), slog.LevelWarn),
	}
	// No HTTP/2: a connection would hold many requests, and frames that cost little to send. A WebSocket takes a
	// connection of its own anyway.
	server.Protocols.SetHTTP1(true)
	server.RegisterOnShutdown(func() { limit.Shut(httpShutdownTimeout) })
	if c.cfg.tls != nil {
		handshakes := cpushare.New()
		server.TLSConfig = &tls.Config{GetCertificate: c.cfg.tls.Get, GetConfigForClient: func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
			if certificate, _ := c.cfg.tls.Get(hello); !handshakes.Admit(handshakeCost(certificate)) {
				return nil, errHandshakes
			}
			return nil, nil
		}}
	}
	return server
}

// handshakeCost returns about the processor time of a TLS handshake with a certificate.
func handshakeCost(certificate *tls.Certificate) time.Duration {
	if key, ok := certificate.Leaf.PublicKey.(*rsa.PublicKey); ok {
		bits := time.Duration(key.N.BitLen())
		return handshakeTime + rsaTime*bits*bits/2048/2048
	}
	return handshakeTime
}

// clientListener accepts connections of clients. Its connections have the type *cpushare.Conn.
type clientListener struct {
	net.Listener
	readers *cpushare.Share
}

// Accept implements net.Listener. It limits what the system holds for the peer.
func (l clientListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	if tcp, ok := conn.(*net.TCPConn); ok {
		tcp.SetWriteBuffer(writeBuffer)
	}
	return l.readers.Conn(conn), nil
}

// transport returns the connection that a clientListener has accepted, of which conn may be the TLS connection.
func transport(conn net.Conn) *cpushare.Conn {
	if secure, ok := conn.(*tls.Conn); ok {
		conn = secure.NetConn()
	}
	return conn.(*cpushare.Conn)
}

// checkHead refuses requests with more than maxHeaders headers, because the server keeps them until the response is
// written, and has a connection end after a request with a body, because a proxy may see another end of the request.
func checkHead(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		headers := 0
		for _, values := range r.Header {
			headers += len(values)
		}
		tooMany := headers > maxHeaders
		if tooMany || r.ContentLength != 0 {
			w.Header().Set("Connection", "close")
		}
		if tooMany {
			http.Error(w, "The request has too many headers.", http.StatusRequestHeaderFieldsTooLarge)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// newMux returns the handler of all addresses. The page, the WebSocket and the last lines of room NAME are /NAME/,
// /NAME/ws and /NAME/lines, and those of the nameless room /, /ws and /lines.
func newMux(c *chat, page assets.Page) *http.ServeMux {
	mux := http.NewServeMux()
	for name, file := range assets.Files() {
		mux.Handle("GET /assets/"+name, file)
	}
	handler, lines := wsHandler{c}, past.NewHandler(c.last, c.cfg.origins, c.shared.lines)
	mux.Handle("GET /{$}", page.Home(""))
	mux.Handle("GET /"+assets.ManifestName, page.Manifest(""))
	mux.Handle("GET /ws", handler)
	mux.Handle("POST /ws", handler)
	mux.Handle("GET /lines", lines)
	if c.cfg.rooms > 0 {
		mux.Handle("GET /{room}", inRoom("./", nil))
		mux.Handle("GET /{room}/{$}", inRoom("../", page.Home("../")))
		mux.Handle("GET /{room}/"+assets.ManifestName, inRoom("../", page.Manifest("../")))
		mux.Handle("GET /{room}/ws", inRoom("../", handler))
		mux.Handle("POST /{room}/ws", inRoom("../", handler))
		mux.Handle("GET /{room}/lines", inRoom("../", lines))
	}
	return mux
}

// slashes matches two or more slashes in a row.
var slashes = regexp.MustCompile(`//+`)

// cleanPaths answers all requests whose paths ServeMux would redirect to a clean path. It replaces ServeMux's
// redirects because their addresses begin with a slash, and so leave the path below which a proxy may serve the
// chat. A path with several slashes in a row, or none at all, is redirected to a relative address. A path with dot
// segments, or with characters that should be escaped, is not found, because no relative address is sure to stay below
// the proxy's path. No address of the chat has any.
func cleanPaths(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked := r.URL.EscapedPath() // the path that ServeMux cleans
		segments := strings.Split(asked, "/")
		switch {
		case slices.ContainsFunc(segments, isDots), r.URL.RawPath != "" && r.URL.RawPath != asked: // else the browser sees other segments
			http.NotFound(w, r)
		case strings.Contains(asked, "//"), asked == "" && r.Method != http.MethodConnect:
			up := strings.Repeat("../", max(0, len(segments)-2)) // a browser goes up one segment, even an empty one, with each
			clean := strings.TrimPrefix(slashes.ReplaceAllString(asked, "/"), "/")
			redirect(w, cmp.Or(up+clean, "./"), r.URL.RawQuery)
		default:
			next.ServeHTTP(w, r)
		}
	})
}

// isDots reports whether browsers take an escaped segment of a path for a dot segment.
func isDots(segment string) bool {
	segment = strings.ReplaceAll(strings.ToLower(segment), "%2e", ".")
	return segment == "." || segment == ".."
}

// redirect redirects a request to an escaped path, which must be relative, with the request's query.
func redirect(w http.ResponseWriter, path, rawQuery string) {
	if rawQuery != "" {
		path += "?" + rawQuery
	}
	w.Header().Set("Location", path)
	w.WriteHeader(http.StatusMovedPermanently)
}

// inRoom returns a handler that passes requests with a valid room name on to next. If next is nil, or the name
// has letters in upper case, the handler redirects to the room's right address. That address is relative,
// because a proxy may serve the chat below a path; up leads from the request's address to the parent of the
// rooms.
func inRoom(up string, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked := r.PathValue("room")
		name := strings.ToLower(asked)
		switch {
		case !roomName.MatchString(name):
			http.NotFound(w, r)
		case next != nil && name == asked:
			next.ServeHTTP(w, r)
		default:
			_, rest, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
			redirect(w, up+name+"/"+rest, r.URL.RawQuery)
		}
	})
}

// join is what a client asks for in its handshake.
type join struct {
	resumes bool   // with ?since=
	since   string // EPOCH.SEQ
	events  bool   // with ?events
	sender  string // the ID in ?sender=ID.ACKED, or ""
	acked   uint64 // the number of the last message that the sender knows to be acknowledged
}

// senderSyntax is the syntax of ?sender=.
var senderSyntax = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}\.[0-9]+$`)

// parseJoin parses the query of a handshake. It refuses a query of which it would ignore a part that may matter.
func parseJoin(rawQuery string) (join, *ws.HandshakeError) {
	query, err := url.ParseQuery(rawQuery)
	switch {
	case err != nil:
		return join{}, &ws.HandshakeError{Status: http.StatusBadRequest, Reason: "query", Text: "The query is malformed."}
	case len(query["since"]) > 1, len(query["sender"]) > 1:
		return join{}, &ws.HandshakeError{Status: http.StatusBadRequest, Reason: "query", Text: "The query may have since and sender only once."}
	}
	asked := join{resumes: query.Has("since"), since: query.Get("since"), events: query.Has("events")}
	if !query.Has("sender") {
		return asked, nil
	}
	sender := query.Get("sender")
	id, number, _ := strings.Cut(sender, ".")
	acked, err := strconv.ParseUint(number, 10, 52) // 52 bits: JavaScript counts exactly only below 2^53
	if err != nil || !senderSyntax.MatchString(sender) || !asked.events {
		return asked, &ws.HandshakeError{Status: http.StatusBadRequest, Reason: "sender",
			Text: fmt.Sprintf("Want sender=ID.TAKEN, with an ID of up to 64 letters, digits, - and _, and with events; not %.100q.", sender)}
	}
	asked.sender, asked.acked = strings.Clone(id), acked // the room remembers the ID, and not the whole query
	return asked, nil
}

// securityHeaders sets headers that forbid content sniffing and, unless next relaxes the policy, all loading.
// The answer to a WebSocket handshake does not pass here.
func securityHeaders(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
		w.Header().Set("X-Content-Type-Options", "nosniff")
		w.Header().Set("Referrer-Policy", "no-referrer")
		next.ServeHTTP(w, r)
	})
}
