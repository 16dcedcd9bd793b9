package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"strings"
	"time"

	"golang.org/x/net/websocket"

	"example.com/chat/internal/relay"
)

const (
	// connectWait limits how long the relay connects to the chat or to NATS, their greetings included.
	connectWait = 5 * time.Second

	// chatSilence is how long a chat may send nothing before the session ends. A chat sends its people count
	// every 5 s, so 30 s of silence are a chat that hangs or a broken link.
	chatSilence = 30 * time.Second

	// maxChatMessage is the number of bytes in the largest message from the chat. It has room for one line of
	// the largest -max-message (1 GiB) and its JSON header.
	maxChatMessage = 1<<30 + 1<<20
)

// chatConn is a connection to the chat. Only one goroutine may call receive at a time. Any goroutine may call
// send.
type chatConn struct {
	ws    *websocket.Conn
	hello relay.Hello // the chat's first message
}

// dialChat connects to the chat at address, the value of -chat, and reads the chat's hello. It returns a
// permanentError if a server answers there that is not a chat.
func dialChat(ctx context.Context, address string) (*chatConn, error) {
	ctx, cancel := context.WithTimeout(ctx, connectWait)
	defer cancel()
	protocol, host, target := "tcp", "", address
	if path, ok := strings.CutPrefix(address, unixPrefix); ok {
		protocol, host, target = "unix", path, "ws://localhost/relay"
	} else if u, err := url.Parse(address); err == nil {
		host = u.Host
	}
	socket, err := new(net.Dialer).DialContext(ctx, protocol, host)
	if err != nil {
		return nil, fmt.Errorf("connecting to the chat at -chat %s: %w", address, err)
	}
	socket.SetDeadline(time.Now().Add(connectWait))
	c, err := greet(socket, target)
	if err == nil {
		socket.SetDeadline(time.Time{})
		return c, nil
	}
	socket.Close()
	var network net.Error
	if errors.As(err, &network) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, fmt.Errorf("the chat at -chat %s does not answer: %w", address, err)
	}
	return nil, permanentError{fmt.Errorf("the server at -chat %s is not a chat's -relay: %w", address, err)}
}

// greet does the WebSocket handshake on socket and reads the chat's hello. After an error the caller must
// close socket.
func greet(socket net.Conn, target string) (*chatConn, error) {
	config, err := websocket.NewConfig(target, relay.OriginHeader)
	if err != nil {
		return nil, err
	}
	ws, err := websocket.NewClient(config, socket)
	if err != nil {
		return nil, err
	}
	ws.MaxPayloadBytes = maxChatMessage
	c := &chatConn{ws: ws}
	m, err := c.receive()
	if err != nil {
		return nil, err
	}
	if m.Hello == nil {
		return nil, errors.New("its first message is not a hello")
	}
	c.hello = *m.Hello
	return c, nil
}

// receive returns the next message from the chat.
func (c *chatConn) receive() (m relay.Message, err error) {
	var b []byte
	if err := websocket.Message.Receive(c.ws, &b); err != nil {
		return m, fmt.Errorf("reading from the chat: %w", err)
	}
	return relay.Decode(b)
}

// receiveInTime is receive, but it fails if the chat sends nothing for chatSilence.
func (c *chatConn) receiveInTime() (relay.Message, error) {
	c.ws.SetReadDeadline(time.Now().Add(chatSilence))
	return c.receive()
}

// send sends m to the chat. It blocks while the chat does not read.
func (c *chatConn) send(m relay.Message) error {
	if err := websocket.Message.Send(c.ws, m.Encode()); err != nil {
		return fmt.Errorf("writing to the chat: %w", err)
	}
	return nil
}

// close closes the connection, even while another goroutine is blocked in send.
func (c *chatConn) close() {
	c.ws.SetDeadline(time.Now()) // ws.Close waits for a send
	c.ws.Close()
}
