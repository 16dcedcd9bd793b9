package wstest

import (
	"net/http"
	"testing"
)

// RoundTrip sends r on a new connection. The response's body is closed at the end of the test.
func RoundTrip(t testing.TB, r *http.Request) *http.Response {
	t.Helper()
	transport := new(http.Transport)
	t.Cleanup(transport.CloseIdleConnections)
	response, err := transport.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { response.Body.Close() })
	return response
}

// Get sends a GET request for path to addr, on a new connection that the server must not keep open.
func Get(t testing.TB, addr, path string) *http.Response {
	t.Helper()
	r, err := http.NewRequest("GET", "http://"+addr+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Close = true
	return RoundTrip(t, r)
}

// Handshake sends a WebSocket handshake for /ws to addr. The headers in more are added, or replace those of
// the handshake.
func Handshake(t testing.TB, addr string, more http.Header) *http.Response {
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
	return RoundTrip(t, r)
}
