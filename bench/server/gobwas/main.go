// Command gobwas is the classic hub on gobwas/ws, which writes compiled frames
// straight to the net.Conn.
package main

import (
	"log"
	"net/http"
	"time"

	"github.com/gobwas/ws"
	"github.com/gobwas/ws/wsutil"

	"example.com/chat/bench/server/hub"
)

func main() {
	h := hub.New(func(line []byte) []byte {
		frame, err := ws.CompileFrame(ws.NewTextFrame(line))
		if err != nil {
			log.Fatal(err)
		}
		return frame
	})
	hub.ListenAndServe(func(w http.ResponseWriter, r *http.Request) {
		conn, _, _, err := ws.UpgradeHTTP(r, w)
		if err != nil {
			return
		}
		go h.Serve(
			func() ([]byte, error) { return wsutil.ReadClientText(conn) },
			func(frame []byte) error {
				conn.SetWriteDeadline(time.Now().Add(hub.WriteWait))
				_, err := conn.Write(frame)
				return err
			},
			func() { conn.Close() })
	})
}
