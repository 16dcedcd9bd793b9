// Command prepared is the classic hub on gorilla/websocket with its PreparedMessage,
// which encodes a frame once for all connections.
package main

import (
	"log"
	"net/http"
	"time"

	"github.com/gorilla/websocket"

	"example.com/chat/bench/server/hub"
)

func main() {
	h := hub.New(func(line []byte) *websocket.PreparedMessage {
		message, err := websocket.NewPreparedMessage(websocket.TextMessage, line)
		if err != nil {
			log.Fatal(err)
		}
		return message
	})
	var upgrader websocket.Upgrader
	hub.ListenAndServe(func(w http.ResponseWriter, r *http.Request) {
		ws, err := upgrader.Upgrade(w, r, nil)
		if err != nil {
			return
		}
		go h.Serve(
			func() ([]byte, error) { _, line, err := ws.ReadMessage(); return line, err },
			func(message *websocket.PreparedMessage) error {
				ws.SetWriteDeadline(time.Now().Add(hub.WriteWait))
				return ws.WritePreparedMessage(message)
			},
			func() { ws.Close() })
	})
}
