// Command gws is the classic hub on lxzan/gws. Its Broadcaster brings the queue
// and the writer of each connection.
package main

import (
	"bytes"
	"net/http"
	"time"

	"github.com/lxzan/gws"

	"example.com/chat/bench/server/hub"
)

type handler struct {
	gws.BuiltinEventHandler
	hub *hub.Hub[*gws.Broadcaster]
}

func (h handler) OnOpen(ws *gws.Conn) {
	ws.Session().Store("member", h.hub.Join(
		func(line *gws.Broadcaster) bool { return line.Broadcast(ws) == nil },
		func() { ws.NetConn().Close() }))
}

func (h handler) OnClose(ws *gws.Conn, _ error) {
	if m, ok := ws.Session().Load("member"); ok {
		h.hub.Leave(m.(*hub.Member[*gws.Broadcaster]))
	}
}

func (h handler) OnMessage(_ *gws.Conn, message *gws.Message) {
	defer message.Close()
	h.hub.Say(bytes.Clone(message.Bytes()))
}

func (h handler) OnPing(ws *gws.Conn, payload []byte) {
	ws.SetWriteDeadline(time.Now().Add(hub.WriteWait))
	ws.WritePong(payload)
}

func main() {
	h := hub.New(func(line []byte) *gws.Broadcaster { return gws.NewBroadcaster(gws.OpcodeText, line) })
	h.Release = func(line *gws.Broadcaster) { line.Close() }
	upgrader := gws.NewUpgrader(handler{hub: h}, &gws.ServerOption{})
	hub.ListenAndServe(func(w http.ResponseWriter, r *http.Request) {
		if ws, err := upgrader.Upgrade(w, r); err == nil {
			go ws.ReadLoop()
		}
	})
}
