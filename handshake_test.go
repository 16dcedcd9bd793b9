// handshake_test.go: who may connect.

package main

import (
	"bufio"
	"crypto/tls"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/websocket"
)

func TestHandshake(t *testing.T) {
	addr, _ := startServer(t, 4096)
	for _, test := range []struct {
		name   string
		method string
		header map[string]string // beside a good one; "" takes it away
		status int
	}{
		{"good", "GET", nil, 101},
		{"in other words", "GET", map[string]string{"Connection": "keep-alive, UPGRADE", "Upgrade": "WebSocket"}, 101},
		{"with a subprotocol", "GET", map[string]string{"Sec-WebSocket-Protocol": "a, b"}, 101},
		{"own origin", "GET", map[string]string{"Origin": "http://" + addr}, 101},
		{"own origin over TLS", "GET", map[string]string{"Origin": "https://" + addr}, 101},
		{"other origin", "GET", map[string]string{"Origin": "http://evil.example"}, 403},
		{"other port", "GET", map[string]string{"Origin": "http://127.0.0.1:1"}, 403},
		{"origin null", "GET", map[string]string{"Origin": "null"}, 403},
		{"origin nonsense", "GET", map[string]string{"Origin": "http://%zz"}, 403},
		{"plain request", "GET", map[string]string{"Connection": "", "Upgrade": ""}, 426},
		{"HEAD", "HEAD", nil, 426},
		{"POST", "POST", nil, 405},
		{"other version", "GET", map[string]string{"Sec-WebSocket-Version": "8"}, 426},
		{"other upgrade", "GET", map[string]string{"Upgrade": "h2c"}, 426},
		{"no key", "GET", map[string]string{"Sec-WebSocket-Key": ""}, 400},
		{"short key", "GET", map[string]string{"Sec-WebSocket-Key": "c2hvcnQ="}, 400},
	} {
		t.Run(test.name, func(t *testing.T) {
			r, err := http.NewRequest(test.method, "http://"+addr+"/ws", nil)
			if err != nil {
				t.Fatal(err)
			}
			r.Header = http.Header{"Connection": {"Upgrade"}, "Upgrade": {"websocket"},
				"Sec-Websocket-Version": {"13"}, "Sec-Websocket-Key": {"dGhlIHNhbXBsZSBub25jZQ=="}}
			for k, v := range test.header {
				if r.Header.Set(k, v); v == "" {
					r.Header.Del(k)
				}
			}
			response := roundTrip(t, r)
			if response.StatusCode != test.status {
				t.Fatalf("status %s, want %d", response.Status, test.status)
			}
			want := map[string]string{}
			switch test.status {
			case 101: // the accept of RFC 6455, section 1.3
				want = map[string]string{"Upgrade": "websocket", "Sec-Websocket-Accept": "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="}
			case 405:
				want = map[string]string{"Allow": "GET, HEAD"}
			case 426:
				want = map[string]string{"Connection": "Upgrade", "Upgrade": "websocket", "Sec-Websocket-Version": "13"}
			}
			for k, v := range want {
				if got := response.Header.Get(k); got != v {
					t.Errorf("%s: %q, want %q", k, got, v)
				}
			}
		})
	}
}

// A request for no host has no origin of its own.
func TestEmptyHost(t *testing.T) {
	addr, _ := startServer(t, 4096)
	conn := dial(t, addr)
	io.WriteString(conn, strings.Replace(upgradeRequest, "Host: chat\r\n", "Host:\r\nOrigin: http:///\r\n", 1))
	if response, err := http.ReadResponse(bufio.NewReader(conn), nil); err != nil || response.StatusCode != 403 {
		t.Error(response, err)
	}
}

// A host that is none is no reason to fail where it is too late to say so.
func TestHostIsNoHost(t *testing.T) {
	addr, _ := startServer(t, 4096)
	p := &rawPeer{dial(t, addr), t, nil}
	p.in = bufio.NewReader(p.Conn)
	p.write([]byte(strings.Replace(upgradeRequest, "Host: chat", "Host: a%zz", 1)))
	p.readHandshake()
	p.send(websocket.TextFrame, "hello")
	p.expect(websocket.TextFrame, "hello")
}

// A second origin beside a good one is no way in.
func TestTwoOrigins(t *testing.T) {
	addr, _ := startServer(t, 4096)
	if response := handshake(t, addr, http.Header{"Origin": {"http://" + addr, "http://evil.example"}}); response.StatusCode != 403 {
		t.Errorf("status %s", response.Status)
	}
}

func TestOrigins(t *testing.T) {
	const allowed = "https://A.example, http://c.example:80,https://*.b.example:8443,https://[::1]:9"
	for origin, status := range map[string]int{
		"https://a.example":                     101,
		"HTTPS://A.EXAMPLE":                     101,
		"http://a.example":                      403,
		"https://a.example:8443":                403,
		"https://x.a.example":                   403,
		"https://a.example.evil":                403,
		"http://c.example":                      101,
		"https://c.example":                     403,
		"https://x.b.example:8443":              101,
		"https://x.y.b.example:8443":            101,
		"https://b.example:8443":                403,
		"https://.b.example:8443":               403,
		"https://xb.example:8443":               403,
		"https://x.b.example":                   403,
		"https://evil/.b.example:8443":          403,
		"https://evil:1@x.b.example:8443":       403,
		"https://evil?.b.example:8443":          403,
		"https://[::1]:9":                       101,
		"https://*.b.example:8443":              403,
		"https://evil.example\\.b.example:8443": 403,
		"https://x..b.example:8443":             403,
		"https://a.example:443":                 101,
		"https://user@a.example":                403,
		"https://a.example/":                    403,
		"ftp://a.example":                       403,
		"javascript://a.example":                403,
		"null":                                  403,
		"":                                      403,
	} {
		r, err := http.NewRequest("GET", "/ws", nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Origin", origin)
		list, err := parseOrigins(allowed)
		if got := originAllowed(r, list); err != nil || got != (status == 101) {
			t.Errorf("%q: %v, %v", origin, got, err)
		}
	}
	for _, nonsense := range []string{"", ",", "a.example", "https://", "https://a.example/", "https://a.example/path", "ftp://a.example",
		"https://user@a.example", "https://a.example?", "https://a.example#x", "https://*", "https://*.", "https://a.*.example",
		"https://*a.example", "https://*.*.example", "https://a.example:", "https://a.example:x", "*", "null", "https://a b", "https://a.example,"} {
		if list, err := parseOrigins(nonsense); err == nil {
			t.Errorf("%q is taken for %q", nonsense, list)
		}
	}
}

// A page of the same host may connect, if its scheme and port are the same, too. Without TLS
// a proxy may be in front.
func TestSameOrigin(t *testing.T) {
	for _, test := range []struct {
		origin, host       string
		overTLS, inTheOpen bool
	}{
		{"https://chat.example", "chat.example", true, true},
		{"https://CHAT.example", "chat.EXAMPLE", true, true},
		{"https://chat.example:443", "chat.example", true, true},
		{"https://chat.example", "chat.example:443", true, true},
		{"https://chat.example:8443", "chat.example:8443", true, true},
		{"https://[::1]:8443", "[::1]:8443", true, true},
		{"http://chat.example", "chat.example", false, true},
		{"http://chat.example", "chat.example:80", false, true},
		{"https://chat.example", "chat.example:8443", false, false},
		{"https://chat.example", "chat.example:80", false, false},
		{"http://chat.example", "chat.example:443", false, false},
		{"https://x.chat.example", "chat.example", false, false},
		{"https://user@chat.example", "chat.example", false, false},
		{"https://user:password@chat.example", "chat.example", false, false},
		{"https://chat.example/", "chat.example", false, false},
		{"https://chat.example?", "chat.example", false, false},
		{"ftp://chat.example", "chat.example", false, false},
		{"javascript://chat.example", "chat.example", false, false},
		{"ws://chat.example", "chat.example", false, false},
		{"//chat.example", "chat.example", false, false},
		{"https://", "", false, false},
		{"null", "null", false, false},
	} {
		r := &http.Request{Host: test.host, Header: http.Header{"Origin": {test.origin}}}
		if got := originAllowed(r, nil); got != test.inTheOpen {
			t.Errorf("%s at %s: %v", test.origin, test.host, got)
		}
		r.TLS = new(tls.ConnectionState)
		if got := originAllowed(r, nil); got != test.overTLS {
			t.Errorf("%s at %s over TLS: %v", test.origin, test.host, got)
		}
	}
}

// Beside its own, pages of these origins may connect.
func TestFurtherOrigins(t *testing.T) {
	cfg := defaults
	cfg.origins, _ = parseOrigins("https://a.example")
	addr, hub, _ := startWith(t, cfg)
	for origin, status := range map[string]int{"https://a.example": 101, "https://b.example": 403, "http://" + addr: 101} {
		if got := handshake(t, addr, http.Header{"Origin": {origin}}); got.StatusCode != status {
			t.Errorf("%s: status %s, want %d", origin, got.Status, status)
		}
	}
	if got := hub.counters.refused.Get("other origin").String(); got != "1" {
		t.Errorf("%s refusals are counted", got)
	}
}

// handshake makes an upgrade request, with more headers.
func handshake(t *testing.T, addr string, more http.Header) *http.Response {
	t.Helper()
	r, err := http.NewRequest("GET", "http://"+addr+"/ws", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header = http.Header{"Connection": {"Upgrade"}, "Upgrade": {"websocket"},
		"Sec-Websocket-Version": {"13"}, "Sec-Websocket-Key": {"dGhlIHNhbXBsZSBub25jZQ=="}}
	for k, v := range more {
		r.Header[k] = v
	}
	return roundTrip(t, r)
}

// A full room is closed to everyone else, until someone leaves. The page is still there,
// and may ask with a plain request.
func TestFullRoom(t *testing.T) {
	cfg := defaults
	cfg.maxConns = 3
	addr, hub, _ := startWith(t, cfg)
	peers := joinMany(t, addr, cfg.maxConns)
	for range 3 {
		response := handshake(t, addr, nil)
		if response.StatusCode != 503 || response.Header.Get("Retry-After") != retryAfter {
			t.Errorf("status %s, Retry-After %q", response.Status, response.Header.Get("Retry-After"))
		}
	}
	for path, status := range map[string]int{"/": 200, "/ws": 503} {
		if response := getPath(t, addr, path); response.StatusCode != status {
			t.Errorf("%s: status %s, want %d", path, response.Status, status)
		}
	}
	peers[0].send(websocket.CloseFrame, "")
	peers[0].expectClose(noCode)
	peers[0].Conn.Close()
	for hub.counters.connections.Load() == int64(cfg.maxConns) {
		time.Sleep(time.Millisecond)
	}
	peers[0] = joinRaw(t, addr)
	peers[0].send(websocket.TextFrame, "here we are")
	for _, p := range peers {
		p.expect(websocket.TextFrame, "here we are")
	}
	if response := getPath(t, addr, "/ws"); response.StatusCode != 503 {
		t.Errorf("status %s", response.Status)
	}
}

// However many knock at the same time, no more are let in.
func TestRushForAFullRoom(t *testing.T) {
	cfg := defaults
	cfg.maxConns = 5
	addr, hub, _ := startWith(t, cfg)
	statuses := make(chan int)
	for range 50 {
		go func() {
			p := &rawPeer{dial(t, addr), t, nil}
			p.in = bufio.NewReader(p.Conn)
			p.write([]byte(upgradeRequest))
			response, err := http.ReadResponse(p.in, nil)
			if err != nil {
				t.Error(err)
			}
			statuses <- response.StatusCode
		}()
	}
	let := map[int]int{}
	for range 50 {
		let[<-statuses]++
	}
	if let[101] != 5 || let[503] != 45 {
		t.Errorf("answered with %v", let)
	}
	if got := hub.counters.connections.Load(); got != 5 {
		t.Errorf("%d are counted", got)
	}
}

// Room that a request has seen may have been taken when it is to sit down.
func TestRoomIsGoneMeanwhile(t *testing.T) {
	cfg := defaults
	cfg.maxConns = 5
	hub := newHub(0)
	hub.counters.connections.Store(5)
	if why := (wsHandler{hub, cfg}).open(httptest.NewRecorder(), httptest.NewRequest("GET", "/ws", nil)); why != roomFull {
		t.Errorf("refused for %v", why)
	}
	if got := hub.counters.connections.Load(); got != 5 {
		t.Errorf("%d are counted", got)
	}
}

func getPath(t *testing.T, addr, path string) *http.Response {
	t.Helper()
	r, err := http.NewRequest("GET", "http://"+addr+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Close = true
	return roundTrip(t, r)
}

// Who speaks faster than allowed is heard at the allowed pace, and whole.
func TestRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const rate, said = 10, 100
		cfg := defaults
		cfg.rate = rate
		l, _ := startInBubbleWith(t, cfg)
		ann, bob := upgrade(t, l.dial(t)), upgrade(t, l.dial(t))
		began := time.Now()
		go func() {
			for _, line := range numbered(0, said) {
				ann.send(websocket.TextFrame, line)
			}
		}()
		go io.Copy(io.Discard, ann.in)
		next := hearing(bob)
		for i, line := range numbered(0, said) {
			if got, err := next(); err != nil || got != line {
				t.Fatalf("heard %q, %v; want %q", got, err, line)
			}
			at, want := time.Since(began), time.Duration(max(0, i-rate+1))*time.Second/rate
			if at < want || at > want+gatherPause {
				t.Fatalf("heard %q after %v, want %v", line, at, want)
			}
		}
	})
}

// A rest ends when the chat stops, and what was waiting then is handed on.
func TestRateWhenTheChatStops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := defaults
		cfg.rate = 1
		l, stop := startInBubbleWith(t, cfg)
		ann := upgrade(t, l.dial(t))
		go func() {
			for _, line := range numbered(0, 50) {
				if _, err := ann.Conn.Write(clientFrame(0x81, line)); err != nil {
					return
				}
			}
		}()
		ann.expect(websocket.TextFrame, "line 0")
		go stop()
		var heard []string
		for next := hearing(ann); len(heard) < 49; {
			line, err := next()
			if err != nil {
				t.Fatal(err)
			}
			heard = append(heard, line)
		}
		if !slices.Equal(heard, numbered(1, 50)) {
			t.Errorf("heard %q", heard)
		}
		ann.expectClose(closeGoingAway)
	})
}
