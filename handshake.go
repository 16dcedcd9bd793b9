package main

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"golang.org/x/net/websocket"
)

// wsHandler serves the WebSocket address.
type wsHandler struct {
	hub *Hub
	cfg config
}

// refusal is why a request does not become a connection.
type refusal struct {
	status int
	reason string // in the log, and among the counters
	answer string
}

var (
	roomFull    = &refusal{http.StatusServiceUnavailable, "full", "The chat is full. Try again later."}
	stopping    = &refusal{http.StatusServiceUnavailable, "stopping", "The chat is shutting down."}
	notUpgrade  = &refusal{http.StatusUpgradeRequired, "no upgrade", "This address speaks WebSocket, version 13, over HTTP/1.1, and nothing else."}
	badKey      = &refusal{http.StatusBadRequest, "bad key", "Sec-WebSocket-Key must be 16 bytes in base64."}
	otherOrigin = &refusal{http.StatusForbidden, "other origin", "Pages of this origin may not connect to this chat."}
)

// retryAfter is how many seconds to wait before asking again whether there is room.
const retryAfter = "5"

func (h wsHandler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	why := h.check(r)
	if why == nil {
		why = h.open(w, r)
	}
	if why == nil {
		return
	}
	switch why.status {
	case http.StatusUpgradeRequired:
		if r.ProtoMajor == 1 { // RFC 9113, section 8.2.2
			w.Header().Set("Connection", "Upgrade")
			w.Header().Set("Upgrade", "websocket")
		}
		w.Header().Set("Sec-WebSocket-Version", websocket.SupportedProtocolVersion)
	case http.StatusServiceUnavailable:
		w.Header().Set("Retry-After", retryAfter)
	}
	http.Error(w, why.answer, why.status)
	h.hub.counters.refused.Add(why.reason, 1)
	h.hub.peerLog.Info("refused", "reason", why.reason, "peer", r.RemoteAddr, "claim", claim(r))
}

// check returns why r is refused, or nil. A full room comes first: a page can't see why
// its WebSocket failed, but may ask with a plain request.
func (h wsHandler) check(r *http.Request) *refusal {
	switch {
	case h.full(h.hub.counters.connections.Load() + 1):
		return roomFull
	case !isUpgrade(r):
		return notUpgrade
	case !validKey(r.Header.Get("Sec-WebSocket-Key")):
		return badKey
	case !originAllowed(r, h.cfg.origins):
		return otherOrigin
	}
	return nil
}

// full reports whether that many connections are too many.
func (h wsHandler) full(connections int64) bool {
	return h.cfg.maxConns > 0 && connections > int64(h.cfg.maxConns)
}

// open makes a Conn of an upgrade request. The Conn is in the Hub before the handshake
// is answered: a peer that knows itself connected misses nothing. Once the connection
// is taken over from net/http there is no refusal any more; it is closed.
func (h wsHandler) open(w http.ResponseWriter, r *http.Request) *refusal {
	connections, registered := &h.hub.counters.connections, false
	defer func() {
		if !registered {
			connections.Add(-1)
		}
	}()
	switch {
	case h.full(connections.Add(1)): // check has seen room, but so it may for others
		return roomFull
	case h.hub.isDraining():
		return stopping
	}
	socket, buffer, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return &refusal{http.StatusInternalServerError, "no hijacker", err.Error()}
	}
	c := h.newConn(socket, r)
	select {
	case h.hub.register <- c:
		registered = true
	case <-h.hub.done:
		socket.Close()
		return nil
	}
	if err := c.start(w, r, buffer, h.cfg.maxMessage); err != nil {
		c.leave()
		c.close()
	}
	return nil
}

// newConn returns the Conn of a request whose connection is socket.
func (h wsHandler) newConn(socket net.Conn, r *http.Request) *Conn {
	c := newConn(h.hub, socket)
	if tcp, ok := c.transport.(*net.TCPConn); ok {
		tcp.SetWriteBuffer(writeBuffer)
	}
	c.claim = claim(r)
	if rate := h.cfg.rate; rate > 0 {
		c.limiter = &limiter{burst: rate, period: time.Second / time.Duration(rate)}
	}
	if query := r.URL.Query(); query.Has("since") {
		since := strings.Clone(query.Get("since"))
		c.since = &since
	}
	return c
}

// start has x/net answer the handshake, and starts the pumps. It returns when they run,
// so that net/http can let go of what it held for the request. With an error there are
// no pumps.
func (c *Conn) start(w http.ResponseWriter, r *http.Request, buffer *bufio.ReadWriter, maxMessage int) error {
	c.writes.begin() // the answer is a write, too
	in := bufio.NewReaderSize(c.input(buffer.Reader), readBuffer)
	err := errors.New("the handshake could not be answered")
	websocket.Server{Handler: func(ws *websocket.Conn) {
		err = nil
		c.writes.end(0)
		reader := newMessageReader(ws, in, maxMessage, c.pong)
		if c.limiter != nil {
			reader.batch = 0 // each message is waited for
		}
		c.writing.Add(1)
		go c.writePump()
		go c.readPump(reader)
	}}.ServeHTTP(hijacked{w, keptOpen{c.socket}, bufio.NewReadWriter(in, buffer.Writer)}, essentials(r))
	return err
}

// input returns what the peer sends: first what it sent without waiting for the
// handshake's answer, which is in net/http's buffer.
func (c *Conn) input(buffer *bufio.Reader) io.Reader {
	early, _ := buffer.Peek(buffer.Buffered())
	if len(early) == 0 {
		return socketReader{c}
	}
	return io.MultiReader(bytes.NewReader(bytes.Clone(early)), socketReader{c})
}

// essentials returns the part of an upgrade request that x/net needs. Subprotocols
// are not among it: there are none. Host and path are anything that can be parsed.
func essentials(r *http.Request) *http.Request {
	return &http.Request{Method: r.Method, Host: "chat", URL: &url.URL{Path: "/ws"}, Header: http.Header{
		"Connection":            {"Upgrade"},
		"Upgrade":               {"websocket"},
		"Sec-Websocket-Key":     {r.Header.Get("Sec-WebSocket-Key")},
		"Sec-Websocket-Version": {websocket.SupportedProtocolVersion},
	}}
}

// hijacked is the response that x/net gets to see: a connection taken over already.
type hijacked struct {
	http.ResponseWriter
	socket net.Conn
	buffer *bufio.ReadWriter
}

func (h hijacked) Hijack() (net.Conn, *bufio.ReadWriter, error) { return h.socket, h.buffer, nil }

// keptOpen is a socket that x/net can't close when its handler returns, since
// the pumps go on with it.
type keptOpen struct{ net.Conn }

func (keptOpen) Close() error { return nil }

// isUpgrade reports whether r asks for a WebSocket connection in the version
// spoken here (RFC 6455, section 4.2.1).
func isUpgrade(r *http.Request) bool {
	return r.Method == http.MethodGet && r.ProtoMajor == 1 && r.ProtoMinor >= 1 &&
		hasToken(r.Header["Connection"], "upgrade") &&
		hasToken(r.Header["Upgrade"], "websocket") &&
		r.Header.Get("Sec-WebSocket-Version") == websocket.SupportedProtocolVersion
}

// hasToken reports whether token is in the comma-separated lists, in any case.
func hasToken(lists []string, token string) bool {
	for _, list := range lists {
		for item := range strings.SplitSeq(list, ",") {
			if strings.EqualFold(strings.TrimSpace(item), token) {
				return true
			}
		}
	}
	return false
}

// validKey reports whether key can be a Sec-WebSocket-Key.
func validKey(key string) bool {
	b, err := base64.StdEncoding.DecodeString(key)
	return err == nil && len(b) == 16
}

// originAllowed reports whether r comes from a page of the host it is sent to, or of one of
// the others, or from no page at all: browsers always say from where, programs need not.
// Without TLS a proxy may speak it in front of this server.
func originAllowed(r *http.Request, others []origin) bool {
	values := r.Header["Origin"]
	if len(values) != 1 {
		return len(values) == 0
	}
	page, ok := parseOrigin(values[0])
	own, _ := parseOrigin(page.scheme + "://" + r.Host)
	return ok && !strings.HasPrefix(page.host, "*") &&
		(page == own && (page.scheme == "https" || r.TLS == nil) || slices.ContainsFunc(others, page.matches))
}

// origin is where a page comes from (RFC 6454, section 4). The host is in lower case; in a
// list of origins it may begin with "*.", which stands for any subdomain, at any depth.
type origin struct{ scheme, host, port string }

var (
	originSyntax = regexp.MustCompile(`^(https?)://((?:\*\.)?(?:[a-z0-9_-]+\.)*[a-z0-9_-]+\.?|\[[0-9a-f:.]+\])(?::([0-9]+))?$`)
	defaultPort  = map[string]string{"http": "80", "https": "443"}
)

func parseOrigin(s string) (o origin, ok bool) {
	match := originSyntax.FindStringSubmatch(strings.ToLower(s))
	if match == nil {
		return o, false
	}
	return origin{match[1], match[2], cmp.Or(match[3], defaultPort[match[1]])}, true
}

// parseOrigins reads a comma-separated list.
func parseOrigins(list string) (all []origin, err error) {
	for item := range strings.SplitSeq(list, ",") {
		o, ok := parseOrigin(strings.TrimSpace(item))
		if !ok {
			return nil, fmt.Errorf("%q is no origin: want such as https://a.example or https://*.b.example, with commas between them", strings.TrimSpace(item))
		}
		all = append(all, o)
	}
	return all, nil
}

// matches reports whether o is pattern, or of one of its subdomains.
func (o origin) matches(pattern origin) bool {
	if domain, wild := strings.CutPrefix(pattern.host, "*"); wild && strings.HasSuffix(o.host, domain) {
		pattern.host = o.host
	}
	return o == pattern
}

// claim returns what a request says of where it comes from, cut to a length that does
// no harm in a log. Anyone can write anything there.
func claim(r *http.Request) string {
	said := strings.Join(r.Header["X-Forwarded-For"], ", ")
	return strings.Clone(said[:min(len(said), 100)])
}
