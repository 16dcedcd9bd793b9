package wstest

import (
	"strings"
	"testing"
	"time"

	"golang.org/x/net/websocket"
)

// DialWS connects to the chat with x/net's own client.
func DialWS(t testing.TB, addr string) *websocket.Conn {
	t.Helper()
	ws, err := websocket.Dial("ws://"+addr+"/ws", "", "http://"+addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ws.Close() })
	ws.SetDeadline(time.Now().Add(time.Minute))
	return ws
}

// Say sends one message.
func Say(t testing.TB, ws *websocket.Conn, text string) {
	t.Helper()
	if err := websocket.Message.Send(ws, text); err != nil {
		t.Fatalf("saying %.40q: %v", text, err)
	}
}

// LinesOf returns a function that returns the next line that ws hears.
func LinesOf(t testing.TB, ws *websocket.Conn) func() string {
	var waiting []string
	return func() string {
		t.Helper()
		if len(waiting) == 0 {
			var message string
			if err := websocket.Message.Receive(ws, &message); err != nil {
				t.Fatalf("waiting for a line: %v", err)
			}
			waiting = strings.Split(message, "\n")
		}
		line := waiting[0]
		waiting = waiting[1:]
		return line
	}
}
