package main

import (
	"bufio"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/websocket"

	"example.com/chat/internal/certfile"
	"example.com/chat/internal/wstest"
)

// answer returns what server answers to a request that comes without a connection.
func answer(server *http.Server, method, target string) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	server.Handler.ServeHTTP(w, httptest.NewRequest(method, target, nil))
	return w
}

// The page and the WebSocket of room NAME are at /NAME/ and /NAME/ws. Other spellings of a name redirect to it
// with a relative address, and other addresses are not found. Every answer forbids sniffing, referrers and,
// except for the page, all loading. No request opens a room.
func TestAddresses(t *testing.T) {
	c := startChat(t)
	server := newServer(c.chat)
	const html = "text/html; charset=utf-8"
	long := strings.Repeat("x", 64)
	for _, test := range []struct {
		method, target string
		status         int
		want           string // Content-Type for 200, Location for 301
	}{
		{"GET", "/", 200, html},
		{"HEAD", "/", 200, html},
		{"GET", "/?anything", 200, html},
		{"GET", "/lobby/", 200, html},
		{"GET", "/-_09az/", 200, html},
		{"GET", "/" + long + "/", 200, html},
		{"GET", "/ws/", 200, html},     // a room, like any name
		{"GET", "/assets/", 200, html}, // the same
		{"GET", "/assets/jquery.min.js", 200, "text/javascript; charset=utf-8"},
		{"GET", "/assets/icon.svg", 200, "image/svg+xml"},
		{"GET", "/manifest.webmanifest", 200, "application/manifest+json"},
		{"GET", "/lobby/manifest.webmanifest", 200, "application/manifest+json"},
		{"GET", "/lobby", 301, "./lobby/"},
		{"GET", "/Lobby", 301, "./lobby/"},
		{"GET", "/LOBBY/?a=b", 301, "../lobby/?a=b"},
		{"GET", "/Lobby/ws?since=E.1", 301, "../lobby/ws?since=E.1"},
		{"GET", "/Lobby/manifest.webmanifest", 301, "../lobby/manifest.webmanifest"},
		{"GET", "/ws", 426, ""},
		{"GET", "/lobby/ws", 426, ""},
		{"GET", "/" + long + "x", 404, ""},
		{"GET", "/" + long + "x/", 404, ""},
		{"GET", "/" + long + "x/ws", 404, ""},
		{"GET", "/favicon.ico", 404, ""},
		{"GET", "/a.b/", 404, ""},
		{"GET", "/a%2Fb/", 404, ""},
		{"GET", "/a%20b/ws", 404, ""},
		{"GET", "/%C3%A4/", 404, ""},
		{"GET", "/lobby/other", 404, ""},
		{"GET", "/lobby/ws/", 404, ""},
		{"GET", "/assets/chat.css", 404, ""}, // the page contains it
		{"GET", "/assets/home.html", 404, ""},
		{"GET", "/main.go", 404, ""},
		{"POST", "/a/b", 404, ""},
		{"POST", "/", 405, ""},
		{"POST", "/room", 405, ""},
		{"PUT", "/ws", 405, ""},
		{"DELETE", "/assets/jquery.min.js", 405, ""},
	} {
		w := answer(server, test.method, test.target)
		h := w.Header()
		got := map[int]string{200: h.Get("Content-Type"), 301: h.Get("Location")}[w.Code]
		if w.Code != test.status || got != test.want {
			t.Errorf("%s %s: got status %d and %q, want %d and %q", test.method, test.target, w.Code, got, test.status, test.want)
		}
		if sniffing, referrer := h.Get("X-Content-Type-Options"), h.Get("Referrer-Policy"); sniffing != "nosniff" || referrer != "no-referrer" {
			t.Errorf("%s %s: got %q and %q, want nosniff and no-referrer", test.method, test.target, sniffing, referrer)
		}
		if policy := h.Get("Content-Security-Policy"); !strings.HasPrefix(policy, "default-src 'none'; ") || strings.Contains(policy, "'self'") != (test.want == html) {
			t.Errorf("%s %s: got Content-Security-Policy %q", test.method, test.target, policy)
		}
	}
	if n := c.chat.counters.Rooms.Value(); n != 1 {
		t.Errorf("got %d rooms, want only the nameless one", n)
	}
}

// With -rooms 0 there is only the nameless room.
func TestNoNamedRooms(t *testing.T) {
	server := newServer(startChat(t, with(func(cfg *config) { cfg.rooms = 0 })).chat)
	for target, want := range map[string]int{"/": 200, "/ws": 426, "/lobby": 404, "/lobby/": 404, "/lobby/ws": 404, "/lobby/manifest.webmanifest": 404} {
		if got := answer(server, "GET", target).Code; got != want {
			t.Errorf("%s: got status %d, want %d", target, got, want)
		}
	}
}

// Pages and manifests have the values of the flags, and those of a named room refer to the files above it.
func TestPages(t *testing.T) {
	server := newServer(startChat(t, with(func(cfg *config) { cfg.title, cfg.maxMessage, cfg.history, cfg.rooms = "Our chat", 12, 34, 56 })).chat)
	for target, wants := range map[string][]string{
		"/":                           {"<title>Our chat</title>", `data-max-message="12"`, `data-history="34"`, `data-rooms="56"`, `src="assets/chat.js"`},
		"/lobby/":                     {"<title>Our chat</title>", `data-max-message="12"`, `data-history="34"`, `data-rooms="56"`, `src="../assets/chat.js"`},
		"/manifest.webmanifest":       {`"Our chat"`, `"assets/icon.svg"`},
		"/lobby/manifest.webmanifest": {`"lobby – Our chat"`, `"../assets/icon.svg"`},
	} {
		got := answer(server, "GET", target).Body.String()
		for _, want := range wants {
			if !strings.Contains(got, want) {
				t.Errorf("%s: got %.100q and so on, want it to contain %s", target, got, want)
			}
		}
	}
}

// A request may have a head of 16 KiB. A much larger one is refused (RFC 6585, section 5).
func TestHeadTooLarge(t *testing.T) {
	c := startChat(t)
	for size, want := range map[int]int{16 << 10: 200, 32 << 10: 431} {
		r, _ := http.NewRequest("GET", "http://"+c.addr+"/", nil)
		r.Header.Set("Cookie", strings.Repeat("x", size))
		if got := wstest.RoundTrip(t, r).StatusCode; got != want {
			t.Errorf("%d bytes: got status %d, want %d", size, got, want)
		}
	}
}

// A client has 10 s for a request.
func TestUnfinishedRequestIsCutOff(t *testing.T) {
	for name, start := range map[string]string{
		"nothing":      "",
		"half a line":  "GET / HT",
		"half a head":  "GET / HTTP/1.1\r\nHost: chat\r\n",
		"half a body":  "POST / HTTP/1.1\r\nHost: chat\r\nContent-Length: 100\r\n\r\nhalf",
		"half a chunk": "POST /ws HTTP/1.1\r\nHost: chat\r\nTransfer-Encoding: chunked\r\n\r\n64\r\nhalf",
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				conn := startChat(t, inMemory).dial()
				began := time.Now()
				go io.WriteString(conn, start)
				io.Copy(io.Discard, conn)
				if took := time.Since(began); took != 10*time.Second {
					t.Errorf("cut off after %v, want 10 s", took)
				}
			})
		})
	}
}

// Beside WebSockets the server keeps 256 connections. It closes others when they have taken 2 s for a request.
func TestHTTPConnLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := startChat(t, inMemory)
		for range 10 {
			c.join("/ws")
		}
		var closed atomic.Int32
		for range 256 + 3 {
			conn := c.dial()
			go func() {
				io.Copy(io.Discard, conn)
				closed.Add(1)
			}()
		}
		time.Sleep(2*time.Second - 1)
		synctest.Wait()
		if got := closed.Load(); got != 0 {
			t.Errorf("%d connections were closed within 2 s, want none", got)
		}
		time.Sleep(time.Nanosecond)
		synctest.Wait()
		if got := closed.Load(); got != 3 {
			t.Errorf("%d connections were closed after 2 s, want 3", got)
		}
	})
}

// newCertificate returns a self-signed certificate.
func newCertificate(t testing.TB) *certfile.Certificate {
	t.Helper()
	c, err := certfile.Load(wstest.NewCertificate(t))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// WebSockets work over TLS. They remain when the certificate is renewed, which new connections get within a second.
func TestTLS(t *testing.T) {
	certFile, keyFile := wstest.NewCertificate(t)
	certificate, err := certfile.Load(certFile, keyFile)
	if err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		c := startChat(t, inMemory, with(func(cfg *config) { cfg.tls = certificate }))
		join := func(certificate string) *wstest.Client {
			t.Helper()
			conn := tls.Client(c.dial(), &tls.Config{InsecureSkipVerify: true})
			client := wstest.Upgrade(t, conn, "/ws")
			if got := conn.ConnectionState().PeerCertificates[0].Subject.CommonName; got != certificate {
				t.Errorf("got certificate %q, want %q", got, certificate)
			}
			return client
		}
		ann := join("first")
		wstest.WriteCertificate(t, certFile, keyFile, "second")
		os.Chtimes(certFile, time.Now(), time.Now()) // two writes in a row may get the same modification time
		time.Sleep(time.Second)
		bob := join("second")
		ann.Send(websocket.TextFrame, "still here")
		ann.Expect(websocket.TextFrame, "still here")
		bob.Expect(websocket.TextFrame, "still here")
		bob.Send(websocket.CloseFrame, "\x03\xe8")
		bob.ExpectClose(1000)
	})
}

// Before TLS 1.3, one read may return the end of a message and of the connection. The message must be longer
// than what the server buffers, because a buffer would separate them.
func TestLastWordsOverTLS(t *testing.T) {
	certificate := newCertificate(t)
	synctest.Test(t, func(t *testing.T) {
		c := startChat(t, inMemory, with(func(cfg *config) { cfg.tls = certificate }))
		ann := wstest.Upgrade(t, tls.Client(c.dial(), &tls.Config{InsecureSkipVerify: true}), "/ws")
		conn := c.dial()
		out := bufio.NewWriter(conn)
		secure := tls.Client(corked{conn, out}, &tls.Config{InsecureSkipVerify: true, MaxVersion: tls.VersionTLS12})
		bob := wstest.Upgrade(t, secure, "/ws")
		text := strings.Repeat("x", 3000)
		bob.Send(websocket.TextFrame, text)
		secure.CloseWrite()
		conn.SetWriteDeadline(time.Time{}) // CloseWrite has set one that is over
		out.Flush()
		ann.Expect(websocket.TextFrame, text)
	})
}

// corked is a connection whose writes are sent together before the next read.
type corked struct {
	net.Conn
	out *bufio.Writer // to Conn
}

func (c corked) Write(b []byte) (int, error) { return c.out.Write(b) }

func (c corked) Read(b []byte) (int, error) {
	c.out.Flush()
	return c.Conn.Read(b)
}

// Over HTTP/2 the page loads, and a WebSocket is refused with 426, because browsers then use HTTP/1.1 for it. One
// connection has at most 16 requests in progress.
func TestHTTP2(t *testing.T) {
	c := startChat(t, with(func(cfg *config) { cfg.tls = newCertificate(t) }))
	transport := &http.Transport{ForceAttemptHTTP2: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
	defer transport.CloseIdleConnections()
	for target, want := range map[string]int{"/": 200, "/assets/jquery.min.js": 200, "/ws": 426} {
		r, _ := http.NewRequest("GET", "https://"+c.addr+target, nil)
		r.Header = http.Header{"Sec-Websocket-Version": {"13"}, "Sec-Websocket-Key": {"dGhlIHNhbXBsZSBub25jZQ=="}}
		response, err := transport.RoundTrip(r)
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		if response.ProtoMajor != 2 || response.StatusCode != want {
			t.Errorf("%s: got %s %s, want HTTP/2.0 %d", target, response.Proto, response.Status, want)
		}
		if h := response.Header; h.Get("Connection")+h.Get("Upgrade") != "" {
			t.Errorf("%s: got headers that HTTP/2 forbids (RFC 9113, section 8.2.2): %v", target, h)
		}
	}
	if got := newServer(c.chat).HTTP2.MaxConcurrentStreams; got != 16 {
		t.Errorf("got %d concurrent streams, want 16", got)
	}
}

// A handshake may ask for a position, for events and, with events, for the numbers of a sender. A sender that
// is not ID.TAKEN is refused with 400, and the answer shows how it should be.
func TestParseJoin(t *testing.T) {
	id := strings.Repeat("x", 64)
	for _, test := range []struct {
		query string
		want  join
	}{
		{"", join{}},
		{"since", join{resumes: true}},
		{"since=E.7&events", join{resumes: true, since: "E.7", events: true}},
		{"events&sender=ann.0", join{events: true, sender: "ann"}},
		{"events&sender=" + id + ".4503599627370495", join{events: true, sender: id, acked: 1<<52 - 1}},
	} {
		query, err := url.ParseQuery(test.query)
		if err != nil {
			t.Fatal(err)
		}
		if got, refused := parseJoin(query); got != test.want || refused != nil {
			t.Errorf("%q: got %+v, %v; want %+v", test.query, got, refused, test.want)
		}
	}
	for _, text := range []string{"sender=ann.1", "events&sender", "events&sender=ann", "events&sender=.1", "events&sender=ann.", "events&sender=ann.-1",
		"events&sender=a%20b.1", "events&sender=ann.4503599627370496", "events&sender=ann.1.2", "events&sender=" + id + "x.1"} {
		query, err := url.ParseQuery(text)
		if err != nil {
			t.Fatal(err)
		}
		if _, refused := parseJoin(query); refused == nil || refused.Status != 400 || !strings.Contains(refused.Text, "sender=ID.TAKEN") {
			t.Errorf("%q: got %+v, want 400 and the syntax", text, refused)
		}
	}
}
