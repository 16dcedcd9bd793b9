package ws_test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"
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
				want = map[string]string{"Upgrade": "websocket", "Sec-Websocket-Version": "13"} // RoundTrip removes Connection
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

// statusLine matches the beginning of an answer, and captures its status between two spaces.
var statusLine = regexp.MustCompile(`HTTP/1\.[01]( \d{3} )`)

// The chat and a proxy in front of it agree on where a handshake ends. So a handshake with a body, or with a header
// field that two programs may read differently, is refused. The bytes after a refused handshake are neither frames
// nor a request, because a proxy may forward frames, or a body, without a look at the status.
func TestHandshakesWithTwoReadings(t *testing.T) {
	addr := startEcho(t)
	const second = "GET /second HTTP/1.1\r\nHost: chat\r\n\r\n"
	frame := string(wstest.Frame(0x81, "hello"))
	for _, test := range []struct {
		name   string
		from   string // text in the head of a valid handshake
		to     string // its replacement, or for an empty from, an additional field
		after  string // bytes after the head
		status int
		text   string // a part of the answer
	}{
		{"empty body", "", "Content-Length: 0", frame, 101, ""},
		{"expectation without a body", "", "Expect: 100-continue", frame, 101, ""},
		{"body", "", "Content-Length: 11", frame + second, 400, "body"},
		{"body that is a request", "", "Content-Length: 36", second + frame, 400, "body"},
		{"body that does not come", "", "Content-Length: 1000000", "", 400, "body"},
		{"expected body", "", "Content-Length: 11\r\nExpect: 100-continue", frame + second, 400, "body"},
		{"empty chunked body", "", "Transfer-Encoding: chunked", "0\r\n\r\n" + second, 400, "body"},
		{"chunked body", "", "Transfer-Encoding: chunked", "5\r\nhello\r\n0\r\n\r\n" + second, 400, "body"},
		{"frame as chunked body", "", "Transfer-Encoding: chunked", frame + second, 400, "body"},
		{"two lengths of a body", "", "Content-Length: 0\r\nTransfer-Encoding: chunked", "0\r\n\r\n" + second, 400, "body"},
		{"two other lengths", "", "Content-Length: 0\r\nContent-Length: 11", frame + second, 400, ""},
		{"unknown transfer encoding", "", "Transfer-Encoding: gzip, chunked", frame + second, 501, ""},
		{"two keys", "", "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==", second, 400, "more than one"},
		{"two versions", "", "Sec-WebSocket-Version: 8", second, 400, "more than one"},
		{"two hosts", "", "Host: other", second, 400, ""},
		{"HTTP/1.0", "HTTP/1.1", "HTTP/1.0", second, 426, "Connection: Upgrade\r\n"},
		{"HTTP/1.0 that stays", "1.1\r\n", "1.0\r\nConnection: keep-alive\r\n", second, 426, "Connection: Upgrade\r\n"},
		{"other method", "GET", "POST", second, 426, "Connection: Upgrade\r\n"},
		{"other version", "Version: 13", "Version: 777", second, 426, "Connection: Upgrade\r\n"},
		{"short key", "dGhlIHNhbXBsZSBub25jZQ==", "c2hvcnQ=", second, 400, ""},
		{"other origin", "", "Origin: http://evil.example", frame + second, 403, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			head := strings.Replace(wstest.Request("/"), test.from, test.to, 1)
			if test.from == "" {
				head = strings.Replace(wstest.Request("/"), "\r\n\r\n", "\r\n"+test.to+"\r\n\r\n", 1)
			}
			client := wstest.NewClient(t, wstest.Dial(t, addr))
			client.Write([]byte(head + test.after))
			if test.status == 101 {
				if err := client.ReadHandshake(); err != nil {
					t.Fatal(err)
				}
				client.Expect(websocket.TextFrame, "hello")
				return
			}
			client.Conn.(*net.TCPConn).CloseWrite()
			answer, err := io.ReadAll(client.In)
			want := fmt.Sprintf(" %d ", test.status)
			if all := statusLine.FindAllSubmatch(answer, -1); err != nil || len(all) != 1 || string(all[0][1]) != want || !strings.Contains(string(answer), test.text) {
				t.Errorf("got %q, %v; want one answer, with status%sand %q", answer, err, want, test.text)
			}
		})
	}
}
