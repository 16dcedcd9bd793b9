// Command gorilla is the classic hub on gorilla/websocket.
package main

import (
	"net/http"
	"time"

	"github.com/gorilla/websocket"

	"example.com/chat/bench/server/hub"
)

func main() {
	h := hub.New(func(line []byte) []byte { return line })
	var upgrader websocket.Upgrader
	hub.ListenAndServe(func(w http.ResponseWriter, r *http.Request) {
		ws, err := upgrader.Upgrade(w, r, nil)
		if err != nil {
			return
		}
		go h.Serve(
			func() ([]byte, error) { _, line, err := ws.ReadMessage(); return line, err },
			func(line []byte) error {
				ws.SetWriteDeadline(time.Now().Add(hub.WriteWait))
				return ws.WriteMessage(websocket.TextMessage, line)
			},
			func() { ws.Close() })
	})
}
