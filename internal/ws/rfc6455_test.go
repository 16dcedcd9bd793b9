package ws_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"

	"golang.org/x/net/websocket"

	"example.com/chat/internal/wstest"
	"example.com/chat/internal/wstest/rfc6455"
)

// startEcho runs an echo server until the end of the test, and returns its address.
func startEcho(t testing.TB) (addr string) {
	server := httptest.NewServer(http.HandlerFunc(echo))
	t.Cleanup(server.Close)
	return server.Listener.Addr().String()
}

// startEchoInBubble runs an echo server with connections in memory, for a synctest bubble.
func startEchoInBubble(t testing.TB) wstest.Listener {
	l := wstest.NewListener()
	server := &http.Server{Handler: http.HandlerFunc(echo)}
	go server.Serve(l)
	t.Cleanup(func() { server.Close() })
	return l
}

// The echo server answers each case as RFC 6455 requires.
func TestRFC6455(t *testing.T) {
	t.Parallel()
	rfc6455.Server{Start: startEcho, Target: "/"}.Test(t)
}

// The answers are the same if the input arrives in small pieces.
func TestRFC6455InPieces(t *testing.T) {
	t.Parallel()
	rfc6455.Server{Start: startEcho, Target: "/"}.TestInPieces(t)
}

// A connection answers 1000 messages, each of which is sent after the answer to the one before.
func TestMessageAfterMessage(t *testing.T) {
	addr := startEcho(t)
	for i, n := range []int{0, 16, 64, 256, 1024, 4096} {
		t.Run(fmt.Sprintf("5.6 1000 texts of %d bytes (9.7.%d)", n, i+1), func(t *testing.T) {
			client := wstest.Upgrade(t, wstest.Dial(t, addr), "/")
			s := strings.Repeat("x", n)
			for range 1000 {
				client.Send(websocket.TextFrame, s)
				client.Expect(websocket.TextFrame, s)
			}
		})
	}
}

// A header that announces 16 MiB makes the server allocate at most 64 KiB before the payload arrives (RFC
// 6455, section 10.4).
func TestClaimsCostNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const clients = 100
		l := startEchoInBubble(t)
		claim := []byte("\x81\xff\x00\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00and no more")
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		for range clients {
			wstest.Upgrade(t, l.Dial(t), "/").Write(claim)
		}
		synctest.Wait()
		runtime.ReadMemStats(&after)
		if got := (after.TotalAlloc - before.TotalAlloc) / clients; got > 64<<10 {
			t.Errorf("the server allocated %d bytes for each client, want at most %d", got, 64<<10)
		}
	})
}
