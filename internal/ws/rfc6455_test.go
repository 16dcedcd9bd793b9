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

// startEcho runs an echo server until the end of the test.
func startEcho(t testing.TB) (addr string) {
	server := httptest.NewServer(http.HandlerFunc(echo))
	t.Cleanup(server.Close)
	return server.Listener.Addr().String()
}

// startEchoInBubble runs an echo server in memory.
func startEchoInBubble(t testing.TB) wstest.Listener {
	l := wstest.NewListener()
	server := &http.Server{Handler: http.HandlerFunc(echo)}
	go server.Serve(l)
	t.Cleanup(func() { server.Close() })
	return l
}

func TestRFC6455(t *testing.T) {
	t.Parallel()
	rfc6455.Server{Start: startEcho, Target: "/"}.Test(t)
}

func TestRFC6455InPieces(t *testing.T) {
	t.Parallel()
	rfc6455.Server{Start: startEcho, Target: "/"}.TestInPieces(t)
}

// Many messages of one size, each said when the one before has come back.
func TestMessageAfterMessage(t *testing.T) {
	addr := startEcho(t)
	for i, n := range []int{0, 16, 64, 256, 1024, 4096} {
		t.Run(fmt.Sprintf("5.6 a thousand texts of %d bytes (9.7.%d)", n, i+1), func(t *testing.T) {
			p := wstest.Upgrade(t, wstest.Dial(t, addr), "/")
			s := strings.Repeat("x", n)
			for range 1000 {
				p.Send(websocket.TextFrame, s)
				p.Expect(websocket.TextFrame, s)
			}
		})
	}
}

// What a frame claims to hold costs nothing before it is there (RFC 6455, section 10.4).
func TestClaimsCostNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const peers = 100
		l := startEchoInBubble(t)
		claim := []byte("\x81\xff\x00\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00and no more") // maxMessage
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		for range peers {
			wstest.Upgrade(t, l.Dial(t), "/").Write(claim)
		}
		synctest.Wait()
		runtime.ReadMemStats(&after)
		if took := (after.TotalAlloc - before.TotalAlloc) / peers; took > 64<<10 {
			t.Errorf("%d bytes a peer", took)
		}
	})
}
