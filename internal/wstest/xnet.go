package wstest

import (
	"strings"
	"testing"
	"time"

	"golang.org/x/net/websocket"
)

// DialWS joins the nameless room of the chat at addr with x/net's client. The connection has a deadline of
// one minute, and is closed at the end of the test.
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

// Say sends text as a message.
func Say(t testing.TB, ws *websocket.Conn, text string) {
	t.Helper()
	if err := websocket.Message.Send(ws, text); err != nil {
		t.Fatalf("saying %.40q: %v", text, err)
	}
}

// LinesOf returns a function that reads the next line from ws. LinesOf should be called once for a
// connection, because the function keeps the other lines of a message.
func LinesOf(t testing.TB, ws *websocket.Conn) func() string {
	var waiting []string
	return func() string {
		t.Helper()
		if len(waiting) == 0 {
			var message string
			if err := websocket.Message.Receive(ws, &message); err != nil {
				t.Fatalf("got %v, want a line", err)
			}
			waiting = strings.Split(message, "\n")
		}
		line := waiting[0]
		waiting = waiting[1:]
		return line
	}
}
