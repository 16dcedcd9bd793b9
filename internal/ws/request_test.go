package ws_test

import (
	"net/http"
	"strings"
	"testing"

	"golang.org/x/net/websocket"

	"example.com/chat/internal/wstest"
)

// A handshake gets the status and headers that RFC 6455 and RFC 9110 require.
func TestHandshake(t *testing.T) {
	addr := startEcho(t)
	for _, test := range []struct {
		name   string
		method string
		header map[string]string // added to a valid handshake; "" removes a header
		status int
	}{
		{"valid", "GET", nil, 101},
		{"other spelling", "GET", map[string]string{"Connection": "keep-alive, UPGRADE", "Upgrade": "WebSocket"}, 101},
		{"with a subprotocol", "GET", map[string]string{"Sec-WebSocket-Protocol": "a, b"}, 101},
		{"own origin", "GET", map[string]string{"Origin": "http://" + addr}, 101},
		{"own origin over TLS", "GET", map[string]string{"Origin": "https://" + addr}, 101},
		{"other origin", "GET", map[string]string{"Origin": "http://evil.example"}, 403},
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
				t.Fatalf("got status %s, want %d", response.Status, test.status)
			}
			want := map[string]string{}
			switch test.status {
			case 101: // the answer to this key is in RFC 6455, section 1.3
				want = map[string]string{"Upgrade": "websocket", "Sec-Websocket-Accept": "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="}
			case 426:
				want = map[string]string{"Connection": "Upgrade", "Upgrade": "websocket", "Sec-Websocket-Version": "13"}
			}
			for k, v := range want {
				if got := response.Header.Get(k); got != v {
					t.Errorf("got header %s: %q, want %q", k, got, v)
				}
			}
		})
	}
}

// A request that CheckRequest accepts is not refused by x/net for its invalid Host.
func TestInvalidHost(t *testing.T) {
	addr := startEcho(t)
	client := wstest.NewClient(t, wstest.Dial(t, addr))
	client.Write([]byte(strings.Replace(wstest.Request("/"), "Host: chat", "Host: a%zz", 1)))
	if err := client.ReadHandshake(); err != nil {
		t.Fatal(err)
	}
	client.Send(websocket.TextFrame, "hello")
	client.Expect(websocket.TextFrame, "hello")
}
