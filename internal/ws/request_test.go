package ws_test

import (
	"bufio"
	"io"
	"net/http"
	"strings"
	"testing"

	"golang.org/x/net/websocket"

	"example.com/chat/internal/wstest"
)

// Each request gets the status that RFC 6455 and 9110 ask for.
func TestHandshake(t *testing.T) {
	addr := startEcho(t)
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
		{"POST", "POST", nil, 426},
		{"other version", "GET", map[string]string{"Sec-WebSocket-Version": "8"}, 426},
		{"other upgrade", "GET", map[string]string{"Upgrade": "h2c"}, 426},
		{"no key", "GET", map[string]string{"Sec-WebSocket-Key": ""}, 400},
		{"short key", "GET", map[string]string{"Sec-WebSocket-Key": "c2hvcnQ="}, 400},
	} {
		t.Run(test.name, func(t *testing.T) {
			r, err := http.NewRequest(test.method, "http://"+addr+"/", nil)
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
			response, err := http.DefaultTransport.RoundTrip(r)
			if err != nil {
				t.Fatal(err)
			}
			defer response.Body.Close()
			if response.StatusCode != test.status {
				t.Fatalf("status %s, want %d", response.Status, test.status)
			}
			want := map[string]string{}
			switch test.status {
			case 101: // the accept of RFC 6455, section 1.3
				want = map[string]string{"Upgrade": "websocket", "Sec-Websocket-Accept": "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="}
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
	addr := startEcho(t)
	conn := wstest.Dial(t, addr)
	io.WriteString(conn, strings.Replace(wstest.Request("/"), "Host: chat\r\n", "Host:\r\nOrigin: http:///\r\n", 1))
	if response, err := http.ReadResponse(bufio.NewReader(conn), nil); err != nil || response.StatusCode != 403 {
		t.Error(response, err)
	}
}

// An invalid Host does not make x/net fail after the handshake was accepted.
func TestHostIsNoHost(t *testing.T) {
	addr := startEcho(t)
	p := wstest.NewClient(t, wstest.Dial(t, addr))
	p.Write([]byte(strings.Replace(wstest.Request("/"), "Host: chat", "Host: a%zz", 1)))
	if err := p.ReadHandshake(); err != nil {
		t.Fatal(err)
	}
	p.Send(websocket.TextFrame, "hello")
	p.Expect(websocket.TextFrame, "hello")
}
