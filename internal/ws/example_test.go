package ws_test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"time"

	"golang.org/x/net/websocket"

	"example.com/chat/internal/ws"
)

// maxMessage is the most bytes that a message to the echo server may have.
const maxMessage = 16 << 20

// echo is a handler that sends each message back.
func echo(w http.ResponseWriter, r *http.Request) {
	if refused := ws.CheckRequest(r, nil); refused != nil {
		refused.Write(w, r)
		return
	}
	conn, in, err := ws.Hijack(w)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	go serve(conn, in, r) // on a goroutine of its own, so that net/http can free the request's buffers
}

// serve sends messages back until the client closes the connection, breaks the protocol, or is silent for a
// minute.
func serve(conn net.Conn, in io.Reader, r *http.Request) {
	defer conn.Close()
	send := func(opcode byte, payload []byte) error {
		_, err := conn.Write(ws.AppendFrame(nil, opcode, payload))
		return err
	}
	messages, err := ws.Accept(r, conn, in, maxMessage, nil, func(payload []byte) error {
		return send(websocket.PongFrame, payload)
	})
	for err == nil {
		var message []byte
		var opcode byte
		conn.SetDeadline(time.Now().Add(time.Minute))
		if message, opcode, err = messages.AppendMessage(nil); err == nil {
			err = send(opcode, message)
		}
	}
	var closing *ws.CloseError
	if errors.As(err, &closing) {
		conn.Write(closing.Frame())
		finish(conn)
	}
}

// finish closes the writing half of conn, and waits up to 5 s for the client to close the other half. If
// conn were closed with unread bytes, TCP would reset it, and the client might not get the close frame.
func finish(conn net.Conn) {
	if half, ok := conn.(interface{ CloseWrite() error }); ok {
		half.CloseWrite()
	}
	conn.SetDeadline(time.Now().Add(5 * time.Second))
	io.Copy(io.Discard, conn)
}

// An echo server, with x/net's own client.
func Example() {
	server := httptest.NewServer(http.HandlerFunc(echo))
	defer server.Close()
	client, err := websocket.Dial(strings.Replace(server.URL, "http", "ws", 1), "", server.URL)
	if err != nil {
		panic(err)
	}
	defer client.Close()
	websocket.Message.Send(client, "Is there an echo?")
	var message string
	websocket.Message.Receive(client, &message)
	fmt.Println(message)
	// Output: Is there an echo?
}
