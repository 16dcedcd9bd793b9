// Command coder is the classic hub on coder/websocket.
package main

import (
	"context"
	"net/http"

	"github.com/coder/websocket"

	"example.com/chat/bench/server/hub"
)

func main() {
	h := hub.New(func(line []byte) []byte { return line })
	hub.ListenAndServe(func(w http.ResponseWriter, r *http.Request) {
		ws, err := websocket.Accept(w, r, nil)
		if err != nil {
			return
		}
		ws.SetReadLimit(1 << 20)
		h.Serve(
			func() ([]byte, error) { _, line, err := ws.Read(context.Background()); return line, err },
			func(line []byte) error {
				ctx, cancel := context.WithTimeout(context.Background(), hub.WriteWait)
				defer cancel()
				return ws.Write(ctx, websocket.MessageText, line)
			},
			func() { ws.CloseNow() })
	})
}
