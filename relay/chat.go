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
	// Time to connect to the chat or to NATS.
	connectWait = 5 * time.Second

	// A chat says how many people it has each five seconds. One that has said nothing for that long is given up.
	chatSilence = 30 * time.Second

	// Bytes in a message from the chat: a batch, or one line of the largest -max-message.
	maxChatMessage = 1<<30 + 1<<20
)

// chatConn is a connection to the chat. One goroutine may receive; any may send.
type chatConn struct {
	*websocket.Conn
	hello relay.Hello
}

// dialChat connects to the chat at -chat.
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
		return nil, fmt.Errorf("no chat at -chat %s: %w", address, err)
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
	return nil, permanentError{fmt.Errorf("what is at -chat %s is no chat with -relay: %w", address, err)}
}

// greet does the handshake, and reads the chat's hello.
func greet(socket net.Conn, target string) (*chatConn, error) {
	config, err := websocket.NewConfig(target, relay.OriginHeader)
	if err != nil {
		return nil, err
	}
	conn, err := websocket.NewClient(config, socket)
	if err != nil {
		return nil, err
	}
	conn.MaxPayloadBytes = maxChatMessage
	c := &chatConn{Conn: conn}
	m, err := c.receive()
	if err != nil {
		return nil, err
	}
	if m.Hello == nil {
		return nil, errors.New("it does not say hello")
	}
	c.hello = *m.Hello
	return c, nil
}

// receive returns the next message from the chat.
func (c *chatConn) receive() (m relay.Message, err error) {
	var b []byte
	if err := websocket.Message.Receive(c.Conn, &b); err != nil {
		return m, fmt.Errorf("from the chat: %w", err)
	}
	return relay.Decode(b)
}

// send sends m to the chat.
func (c *chatConn) send(m relay.Message) error {
	if err := websocket.Message.Send(c.Conn, m.Encode()); err != nil {
		return fmt.Errorf("to the chat: %w", err)
	}
	return nil
}
