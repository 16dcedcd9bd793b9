// Command melody is the chat of olahol/melody's README: its own hub, on gorilla.
package main

import (
	"net/http"

	"github.com/olahol/melody"

	"example.com/chat/bench/server/hub"
)

func main() {
	m := melody.New()
	m.Config.MaxMessageSize = 1 << 20
	m.HandleMessage(func(_ *melody.Session, line []byte) { m.Broadcast(line) })
	hub.ListenAndServe(func(w http.ResponseWriter, r *http.Request) { m.HandleRequest(w, r) })
}
