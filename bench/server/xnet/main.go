// Command xnet is the classic hub on golang.org/x/net/websocket as it comes.
package main

import (
	"net/http"
	"time"

	"golang.org/x/net/websocket"

	"example.com/chat/bench/server/hub"
)

func main() {
	h := hub.New(func(line []byte) []byte { return line })
	// Handler alone would refuse clients that send no Origin.
	server := websocket.Server{
		Handshake: func(*websocket.Config, *http.Request) error { return nil },
		Handler: func(ws *websocket.Conn) {
			h.Serve(
				func() (line []byte, err error) { return line, websocket.Message.Receive(ws, &line) },
				func(line []byte) error {
					ws.SetWriteDeadline(time.Now().Add(hub.WriteWait))
					_, err := ws.Write(line)
					return err
				},
				func() { ws.Close() })
		},
	}
	hub.ListenAndServe(server.ServeHTTP)
}
