package main

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/websocket"

	"example.com/chat/internal/certfile"
	"example.com/chat/internal/ws"
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
		{"GET", "/lines", 200, "application/json"},
		{"HEAD", "/lines", 200, "application/json"},
		{"GET", "/lines/", 200, html},    // a room, like any name
		{"GET", "/lobby/lines", 404, ""}, // nobody was there
		{"GET", "/Lobby/lines?a=b", 301, "../lobby/lines?a=b"},
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
		{"POST", "/ws", 426, ""},
		{"POST", "/lobby/ws", 426, ""},
		{"POST", "/a%20b/ws", 404, ""},
		{"POST", "/a/b", 404, ""},
		{"POST", "/", 405, ""},
		{"POST", "/room", 405, ""},
		{"PUT", "/ws", 405, ""},
		{"POST", "/lines", 405, ""},
		{"GET", "/lines/ws", 426, ""},
		{"GET", "/a%20b/lines", 404, ""},
		{"GET", "/lobby/lines/", 404, ""},
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
	if n := c.chat.shared.counters.Rooms.Value(); n != 1 {
		t.Errorf("got %d rooms, want only the nameless one", n)
	}
}

// A proxy may serve the chat below any path. Every redirect stays below that path, keeps the query, and leads to the
// right room. No redirect leads to another host, whatever the request's path looks like.
func TestRedirects(t *testing.T) {
	server := newServer(startChat(t).chat)
	for _, test := range []struct {
		target string
		want   string // where redirects end; the same as target if there is none
		status int    // of the last answer
	}{
		{"//", "/", 200},
		{"////?a=b", "/?a=b", 200},
		{"//x/", "/x/", 200},
		{"/x//", "/x/", 200},
		{"//x//?a=/b//c", "/x/?a=/b//c", 200},
		{"//x", "/x/", 200},
		{"/Lobby", "/lobby/", 200},
		{"//Lobby//?a=b", "/lobby/?a=b", 200},
		{"/%4cobby/?a=b", "/lobby/?a=b", 200},
		{"//assets///icon.svg", "/assets/icon.svg", 200},
		{"/x//manifest.webmanifest", "/x/manifest.webmanifest", 200},
		{"//ws", "/ws", 426},
		{"/x//ws?since=E.1&events", "/x/ws?since=E.1&events", 426},
		{"/X/ws?since=E.1", "/x/ws?since=E.1", 426},
		{"/x/ws/", "/x/ws/", 404},
		{"/./x/", "/./x/", 404},
		{"/../x/", "/../x/", 404},
		{"/x/../y/", "/x/../y/", 404},
		{"//x/../y/", "//x/../y/", 404},
		{"/x/..", "/x/..", 404},
		{"/x/.", "/x/.", 404},
		{"/%2e/x/", "/%2e/x/", 404},
		{"/%2f%2flogout|?all=1", "/%2f%2flogout|?all=1", 404}, // net/url would see four segments, and browsers see one
		{"/%2fx|", "/%2fx|", 404},
		{"/x|//", "/x|//", 404},
		{"/%2E%2e/x/", "/%2E%2e/x/", 404},
		{"/%2f%2fevil.example/", "/%2f%2fevil.example/", 404},
		{"//evil.example/", "/evil.example/", 404},
		{"///evil.example/..", "///evil.example/..", 404},
		{"//evil.example/%2e%2e", "//evil.example/%2e%2e", 404},
		{"/%2e%2e//x", "/%2e%2e//x", 404}, // browsers would leave the prefix
		{"/.%2E//x", "/.%2E//x", 404},
		{"//%5cevil.example//", "/%5cevil.example/", 404},
		{"/https://evil.example/", "/https:/evil.example/", 404},
		{"//x%0d%0aSet-Cookie:a=b/", "/x%0d%0aSet-Cookie:a=b/", 404},
	} {
		for _, prefix := range []string{"https://host", "https://host/chat", "https://host/a/b"} {
			for _, method := range []string{"GET", "HEAD"} {
				at, status := follow(t, server, method, prefix, test.target)
				if at != prefix+test.want || status != test.status {
					t.Errorf("%s %s%s: ended at %s with status %d, want %s%s and %d", method, prefix, test.target, at, status, prefix, test.want, test.status)
				}
			}
		}
	}
	for _, method := range []string{"GET", "POST", "OPTIONS", "CONNECT"} {
		for _, target := range []string{"//x/", "///evil.example/..", "/x", "http://evil.example", "http://evil.example//x", "*"} {
			if to := answer(server, method, target).Header().Get("Location"); strings.HasPrefix(to, "/") || strings.Contains(to, ":") {
				t.Errorf("%s %s: got Location %q, want a relative one or none", method, target, to)
			}
		}
	}
}

// follow returns the address and the status of the answer that is no redirect, to a request for a target below a prefix.
func follow(t *testing.T, server *http.Server, method, prefix, target string) (at string, status int) {
	t.Helper()
	at = prefix + target
	for range 5 {
		below, ok := strings.CutPrefix(at, prefix)
		if !ok || !strings.HasPrefix(below, "/") {
			t.Errorf("%s %s%s: redirected to %s, want an address below %s/", method, prefix, target, at, prefix)
			return at, 0
		}
		w := answer(server, method, below)
		to := w.Header().Get("Location")
		if w.Code/100 != 3 || to == "" {
			return at, w.Code
		}
		base, err := url.Parse(at)
		if err != nil {
			t.Fatal(err)
		}
		reference, err := url.Parse(to)
		if err != nil || reference.IsAbs() || strings.HasPrefix(to, "/") {
			t.Errorf("%s %s%s: got Location %q, %v; want a relative one", method, prefix, target, to, err)
			return at, 0
		}
		at = base.ResolveReference(reference).String()
	}
	t.Errorf("%s %s%s: still redirected after 5 answers", method, prefix, target)
	return at, 0
}

// A browser does not tell a page why its WebSocket failed, so the page asks with a POST. It has the answer that the
// handshake would have got: 503 if the chat is full, 403 if a proxy has changed Host, and 426 otherwise. It opens no
// room.
func TestWhyNoWebSocket(t *testing.T) {
	c := startChat(t, with(func(cfg *config) {
		cfg.maxConns, cfg.rooms = 1, 10
		cfg.origins, _ = ws.ParseOrigins("https://friend.example")
	}))
	server := newServer(c.chat)
	ask := func(path, host, origin string, status int, texts ...string) {
		t.Helper()
		r, w := httptest.NewRequest("POST", path, nil), httptest.NewRecorder()
		r.Host = host
		if origin != "" {
			r.Header.Set("Origin", origin)
		}
		server.Handler.ServeHTTP(w, r)
		retry := map[int]string{503: "5"}[status]
		if w.Code != status || w.Header().Get("Retry-After") != retry || w.Header().Get("Content-Type") != "text/plain; charset=utf-8" {
			t.Errorf("%s at %s from %q: got status %d and headers %v, want %d", path, host, origin, w.Code, w.Header(), status)
		}
		for _, text := range texts {
			if !strings.Contains(w.Body.String(), text) {
				t.Errorf("%s at %s from %q: got %q, want it to contain %s", path, host, origin, w.Body, text)
			}
		}
	}
	for _, path := range []string{"/ws", "/lobby/ws"} {
		ask(path, "chat.example", "http://chat.example", 426)
		ask(path, "chat.example", "https://chat.example", 426)
		ask(path, "backend:8080", "https://friend.example", 426)
		ask(path, "backend:8080", "", 426)
		ask(path, "backend:8080", "https://chat.example", 403, `"https://chat.example"`, `"backend:8080"`)
		ask(path, "chat.example:8080", "https://chat.example", 403, `"https://chat.example"`, `"chat.example:8080"`)
		ask(path, "chat.example", "null", 403, `"null"`, `"chat.example"`)
	}
	for reason, want := range map[string]string{"other origin": "6", "no upgrade": "8"} {
		if got := c.chat.shared.counters.Refused.Get(reason); got == nil || got.String() != want {
			t.Errorf("got %v refusals because of %q, want %s", got, reason, want)
		}
	}
	p := c.join("/ws")
	ask("/ws", "chat.example", "http://chat.example", 503, "full")
	ask("/lobby/ws", "backend:8080", "https://chat.example", 503, "full")
	p.Conn.Close()
	if c.exists("lobby") {
		t.Error("a POST opened a room, want none")
	}
}

// A browser gets a refusal as a page. It says what is wrong, and its links lead to the chat and to the room with a
// name like the one asked for, also below a path of a proxy. Programs get text.
func TestRefusals(t *testing.T) {
	c := startChat(t, with(func(cfg *config) { cfg.title = "Ann's <chat>" }))
	server, one := newServer(c.chat), newServer(startChat(t, with(func(cfg *config) { cfg.rooms = 0 })).chat)
	const browser = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"
	ask := func(server *http.Server, method, target, accept string) *httptest.ResponseRecorder {
		r, w := httptest.NewRequest(method, target, nil), httptest.NewRecorder()
		r.Header.Set("Accept", accept)
		server.Handler.ServeHTTP(w, r)
		return w
	}
	const allowed, nothing = "only a to z, 0 to 9, - and _", "There is nothing at this address."
	link := regexp.MustCompile(`<a href="([^"]*)">`)
	for _, test := range []struct {
		server      *http.Server
		target      string
		status      int
		text, first string // what the page says, and where its first link leads
	}{
		{server, "/My%20Room/", 404, allowed, "/my-room/"},
		{server, "/My%20Room", 404, allowed, "/my-room/"},
		{server, "/a.b", 404, allowed, "/a-b/"},
		{server, "/%20a%2FB!%20%20c%20/", 404, allowed, "/a-b-c/"},
		{server, "/a|b/", 404, allowed, "/a-b/"},
		{server, "/Caf%C3%A9_1/", 404, allowed, "/"},
		{server, "/%3Cscript%3Ealert(1)%3C/", 404, allowed, "/script-alert-1/"},
		{server, "/" + strings.Repeat("X", 63) + "%20y/", 404, allowed, "/" + strings.Repeat("x", 63) + "/"},
		{server, "/" + strings.Repeat("x", 65), 404, allowed, "/" + strings.Repeat("x", 64) + "/"},
		{server, "/%E5%B0%8F%E6%98%8E/", 404, allowed, "/"},
		{server, "/lobby/other", 404, nothing, "/"},
		{server, "/a%20b/c/d/", 404, nothing, "/"},
		{server, "/%2e%2e/", 404, "", ""}, // no browser asks for it
		{server, "/lobby/ws", 426, "only WebSocket handshakes", "/"},
		{server, "/ws", 426, "only WebSocket handshakes", "/"},
		{one, "/lobby/", 404, nothing, "/"},
		{one, "/My%20Room/", 404, nothing, "/"},
	} {
		for _, prefix := range []string{"https://host", "https://host/a/chat"} {
			w := ask(test.server, "GET", test.target, browser)
			page := w.Body.String()
			if w.Code != test.status || w.Header().Get("Content-Type") != "text/html; charset=utf-8" || !strings.Contains(page, test.text) || strings.Contains(page, "<script") {
				t.Errorf("%s: got status %d, %v and %s; want %d and %q", test.target, w.Code, w.Header(), page, test.status, test.text)
			}
			base, _ := url.Parse(prefix + test.target)
			links := link.FindAllStringSubmatch(page, -1)
			for i, want := range map[int]string{0: test.first, len(links) - 1: "/"} {
				reference, err := url.Parse(links[i][1])
				if got := base.ResolveReference(reference).String(); test.text != "" && (err != nil || reference.IsAbs() || got != prefix+want) {
					t.Errorf("%s%s: got a link to %s, %v; want %s%s", prefix, test.target, got, err, prefix, want)
				}
			}
			if test.first != "" && ask(test.server, "GET", test.first, browser).Code != 200 {
				t.Errorf("%s: the link to %s leads nowhere", test.target, test.first)
			}
		}
	}
	if page := ask(server, "GET", "/x/y", browser).Body.String(); !strings.Contains(page, "Ann&#39;s &lt;chat&gt;") {
		t.Errorf("got %s, want the title of the chat, escaped", page)
	}
	for accept, html := range map[string]bool{"TEXT/HTML": true, "a/b, text/html;q=0.1": true, "text/html; level=1; q=0.5": true,
		"": false, "*/*": false, "text/*": false, "application/json": false, "text/html;q=0": false, "text/html; level=1;q=0.0": false, "text/htmlx": false} {
		for method, status := range map[string]int{"GET": 404, "HEAD": 404, "POST": 404} {
			w := ask(server, method, "/a/b", accept)
			if got := w.Header().Get("Content-Type") == "text/html; charset=utf-8"; got != html || w.Code != status || !html && w.Body.String() != "404 page not found\n" {
				t.Errorf("%s with Accept: %s: got status %d, %v and %.60q; want HTML: %v", method, accept, w.Code, w.Header(), w.Body, html)
			}
		}
		if got := ask(server, "GET", "/", accept); got.Code != 200 || !strings.Contains(got.Body.String(), "<body") {
			t.Errorf("Accept: %s: got status %d for the page, want 200", accept, got.Code)
		}
	}
	if w := ask(server, "PUT", "/ws", browser); w.Code != 405 || w.Header().Get("Allow") == "" {
		t.Errorf("PUT: got status %d, %v; want 405 and the allowed methods", w.Code, w.Header())
	}
}

// A browser that asks for HTML can also open a WebSocket, and it gets the status of a file that has not changed.
func TestRefusalsLeaveOthers(t *testing.T) {
	c := startChat(t)
	if response := wstest.Handshake(t, c.addr, http.Header{"Accept": {"text/html"}}); response.StatusCode != 101 {
		t.Errorf("got status %s for a handshake, want 101", response.Status)
	}
	r, _ := http.NewRequest("GET", "http://"+c.addr+"/", nil)
	r.Header = http.Header{"Accept": {"text/html"}, "If-None-Match": {wstest.Get(t, c.addr, "/").Header.Get("ETag")}}
	if response := wstest.RoundTrip(t, r); response.StatusCode != 304 {
		t.Errorf("got status %s for the page, want 304", response.Status)
	}
}

// With -rooms 0 there is only the nameless room.
func TestNoNamedRooms(t *testing.T) {
	server := newServer(startChat(t, with(func(cfg *config) { cfg.rooms = 0 })).chat)
	for target, want := range map[string]int{"/": 200, "/ws": 426, "/lines": 200, "/lobby/lines": 404, "/lobby": 404, "/lobby/": 404, "/lobby/ws": 404, "/lobby/manifest.webmanifest": 404} {
		if got := answer(server, "GET", target).Code; got != want {
			t.Errorf("%s: got status %d, want %d", target, got, want)
		}
	}
}

// Pages and manifests have the values of the flags, and those of a named room refer to the files above it.
func TestPages(t *testing.T) {
	server := newServer(startChat(t, with(func(cfg *config) { cfg.title, cfg.maxMessage, cfg.history, cfg.rooms = "Our chat", 12, 34, 56 })).chat)
	for target, wants := range map[string][]string{
		"/":                           {"<title>Our chat</title>", `data-max-message="12"`, `data-history="34"`, `data-rooms="56"`, `src="assets/page.js"`},
		"/lobby/":                     {"<title>Our chat</title>", `data-max-message="12"`, `data-history="34"`, `data-rooms="56"`, `src="../assets/page.js"`},
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

// A request may have a head of 7 KiB. A much larger one is refused (RFC 6585, section 5).
func TestHeadTooLarge(t *testing.T) {
	c := startChat(t)
	for size, want := range map[int]int{7 << 10: 200, 16 << 10: 431} {
		r, _ := http.NewRequest("GET", "http://"+c.addr+"/", nil)
		r.Header.Set("Cookie", strings.Repeat("x", size))
		if got := wstest.RoundTrip(t, r).StatusCode; got != want {
			t.Errorf("%d bytes: got status %d, want %d", size, got, want)
		}
	}
}

// A request with more than 100 headers is refused, and ends its connection.
func TestTooManyHeaders(t *testing.T) {
	c := startChat(t)
	for headers, want := range map[int]int{100: 200, 101: 431} {
		r, _ := http.NewRequest("GET", "http://"+c.addr+"/", nil)
		for n := range headers - 2 { // beside Accept-Encoding and User-Agent of Go's client
			r.Header.Add(fmt.Sprint("X-", n%60), "x")
		}
		if got := wstest.RoundTrip(t, r); got.StatusCode != want || got.Close != (want == 431) {
			t.Errorf("%d headers: got status %d, close %v; want %d", headers, got.StatusCode, got.Close, want)
		}
	}
}

// Requests on one connection wait for their turn, and so do TLS handshakes: 1,000 requests take as long as their price
// of 30 µs and 100 ns a byte asks for, and 100 handshakes as their price of 250 µs. internal/cpushare tests the prices.
func TestRequestsWaitForTheirTurn(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(2))
	certificate, err := certfile.Load(wstest.NewCertificate(t))
	if err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		change func(*config)
		number int
		ask    func(c *testChat)
		want   time.Duration
	}{
		"requests on a connection": {func(*config) {}, 1, func(c *testChat) {
			conn := c.dial()
			go io.WriteString(conn, strings.Repeat("GET /nothing/here HTTP/1.1\r\nHost: chat\r\n\r\n", 999)+"GET / HTTP/1.0\r\n\r\n")
			io.Copy(io.Discard, conn)
		}, 51 * time.Millisecond},
		"handshakes": {func(cfg *config) { cfg.tls = certificate }, 100, func(c *testChat) {
			tls.Client(c.dial(), &tls.Config{InsecureSkipVerify: true}).Handshake()
		}, 39 * time.Millisecond},
	} {
		synctest.Test(t, func(t *testing.T) {
			c := startChat(t, inMemory, with(test.change))
			began := time.Now()
			for range test.number {
				test.ask(c)
			}
			if took := time.Since(began); took < test.want || took > test.want*3/2 {
				t.Errorf("%s: took %v, want %v", name, took, test.want)
			}
		})
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

// Beside WebSockets there is one HTTP connection for each MiB of -memory, and half of them may wait for a request. One
// more waits until the oldest of these has taken 0.5 s.
func TestHTTPConnLimit(t *testing.T) {
	if heads, all := (&config{memory: 640}).httpConns(); heads != 320 || all != 640 {
		t.Errorf("got %d and %d connections, want 320 and 640", heads, all)
	}
	synctest.Test(t, func(t *testing.T) {
		c := startChat(t, inMemory, with(func(cfg *config) { cfg.memory = 128 }))
		for range 100 {
			c.join("/ws")
		}
		began := time.Now()
		for range 64 + 1 { // the server has accepted the last one, but does not serve it
			c.dial()
		}
		if took := time.Since(began); took != 0 {
			t.Errorf("64 connections took %v, want no wait", took)
		}
		c.dial()
		if took := time.Since(began); took != 500*time.Millisecond {
			t.Errorf("one more waited for %v, want 0.5 s", took)
		}
	})
}

// A handshake costs 250 µs, and a signature with RSA 1.2 ms more with 2,048 bits, and 4.8 ms with 4,096.
func TestHandshakeCost(t *testing.T) {
	for bits, want := range map[int]time.Duration{0: 250 * time.Microsecond, 2048: 1450 * time.Microsecond, 4096: 5050 * time.Microsecond} {
		leaf := &x509.Certificate{PublicKey: new(ecdsa.PublicKey)}
		if bits > 0 {
			leaf.PublicKey = &rsa.PublicKey{N: new(big.Int).Lsh(big.NewInt(1), uint(bits-1))}
		}
		if got := handshakeCost(&tls.Certificate{Leaf: leaf}); got != want {
			t.Errorf("RSA with %d bits: got %v, want %v", bits, got, want)
		}
	}
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

// There is no HTTP/2: the page and its files load over HTTP/1.1.
func TestNoHTTP2(t *testing.T) {
	c := startChat(t, with(func(cfg *config) { cfg.tls = newCertificate(t) }))
	transport := &http.Transport{ForceAttemptHTTP2: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
	defer transport.CloseIdleConnections()
	for _, target := range []string{"/", "/assets/jquery.min.js"} {
		r, _ := http.NewRequest("GET", "https://"+c.addr+target, nil)
		response, err := transport.RoundTrip(r)
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		if response.Proto != "HTTP/1.1" || response.StatusCode != 200 {
			t.Errorf("%s: got %s %s, want HTTP/1.1 200", target, response.Proto, response.Status)
		}
	}
}

// A handshake may ask for a position, for events and, with events, for the numbers of a sender. A sender that
// is not ID.TAKEN is refused with 400, and the answer shows how it should be. So is a query of which a part would be
// ignored, because a client that says something else than the chat understands loses or repeats lines.
func TestParseJoin(t *testing.T) {
	id := strings.Repeat("x", 64)
	for _, test := range []struct {
		query string
		want  join
	}{
		{"", join{}},
		{"since", join{resumes: true}},
		{"since=E.7&events", join{resumes: true, since: "E.7", events: true}},
		{"since=E%2E7&events=1&events=2&other=a&other=b", join{resumes: true, since: "E.7", events: true}},
		{"events&sender=ann.0", join{events: true, sender: "ann"}},
		{"events&sender=" + id + ".4503599627370495", join{events: true, sender: id, acked: 1<<52 - 1}},
	} {
		if got, refused := parseJoin(test.query); got != test.want || refused != nil {
			t.Errorf("%q: got %+v, %v; want %+v", test.query, got, refused, test.want)
		}
	}
	const sender, malformed, repeated = "sender=ID.TAKEN", "malformed", "once"
	for query, want := range map[string]string{
		"sender=ann.1":                       sender,
		"events&sender":                      sender,
		"events&sender=ann":                  sender,
		"events&sender=.1":                   sender,
		"events&sender=ann.":                 sender,
		"events&sender=ann.-1":               sender,
		"events&sender=a%20b.1":              sender,
		"events&sender=ann.4503599627370496": sender,
		"events&sender=ann.1.2":              sender,
		"events&sender=" + id + "x.1":        sender,
		"since=E.7;events":                   malformed,
		"since=%zz":                          malformed,
		"since=E.7%":                         malformed,
		"since=E.7&other=%":                  malformed,
		"since=E.7&since=E.8":                repeated,
		"since&since":                        repeated,
		"since=E.7&%73ince=E.8":              repeated,
		"events&sender=ann.1&sender=bob.1":   repeated,
	} {
		if _, refused := parseJoin(query); refused == nil || refused.Status != 400 || !strings.Contains(refused.Text, want) {
			t.Errorf("%q: got %+v, want 400 and %q", query, refused, want)
		}
	}
}

// A handshake that could be read in two ways is refused with 400, and counted by its reason. A chat that is full says
// that first, because the client may come again.
func TestAmbiguousHandshakes(t *testing.T) {
	c := startChat(t, with(func(cfg *config) { cfg.maxConns = 1 }))
	refusals := []struct{ target, field, reason string }{
		{"/ws", "Content-Length: 5\r\n", "body"},
		{"/lobby/ws", "Transfer-Encoding: chunked\r\n", "body"},
		{"/ws", "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n", "repeated header"},
		{"/ws?since=E.7;events", "", "query"},
		{"/lobby/ws?since=E.7&since=E.8", "", "query"},
	}
	expect := func(status int) {
		t.Helper()
		for _, r := range refusals {
			client := wstest.NewClient(t, c.dial())
			io.WriteString(client, strings.TrimSuffix(wstest.Request(r.target), "\r\n")+r.field+"\r\nhello")
			response, err := http.ReadResponse(client.In, nil)
			if err != nil || response.StatusCode != status {
				t.Errorf("%s with %q: got %v, %v; want %d", r.target, r.field, response, err, status)
			}
		}
	}
	expect(400)
	for reason, want := range map[string]string{"body": "2", "repeated header": "1", "query": "2"} {
		if got := c.chat.shared.counters.Refused.Get(reason); got == nil || got.String() != want {
			t.Errorf("got %v refusals because of %q, want %s", got, reason, want)
		}
	}
	c.join("/ws")
	expect(503)
}

// A request for parts of a file gets all of it, because thousands of parts would cost much.
func TestNoParts(t *testing.T) {
	w := httptest.NewRecorder()
	r := httptest.NewRequest("GET", "/assets/jquery.min.js", nil)
	r.Header.Set("Range", "bytes=0-0,2-2,4-4")
	newServer(startChat(t).chat).Handler.ServeHTTP(w, r)
	if w.Code != http.StatusOK || w.Body.Len() < 1000 {
		t.Errorf("got status %d and %d bytes, want 200 and the whole file", w.Code, w.Body.Len())
	}
}
