package wstest

import (
	"fmt"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/net/websocket"
)

// Join returns a Client in the nameless room of the chat at addr.
func Join(t testing.TB, addr string) *Client {
	t.Helper()
	return Upgrade(t, Dial(t, addr), "/ws")
}

// JoinMany returns n Clients in the nameless room of the chat at addr.
func JoinMany(t testing.TB, addr string, n int) (clients []*Client) {
	t.Helper()
	for range n {
		clients = append(clients, Join(t, addr))
	}
	return clients
}

// Lines returns a function that reads the next line, on any goroutine. Lines should be called once for a
// Client, because the function keeps the other lines of a message. A message that is not text is an error.
func (c *Client) Lines() func() (string, error) {
	var waiting []string
	return func() (string, error) {
		if len(waiting) == 0 {
			opcode, message, err := c.readPastPings()
			if err == nil && opcode != websocket.TextFrame {
				err = fmt.Errorf("got %s, want a text message", Show(opcode, message))
			}
			if err != nil {
				return "", err
			}
			waiting = strings.Split(message, "\n")
		}
		line := waiting[0]
		waiting = waiting[1:]
		return line, nil
	}
}

// ExpectLines reads messages until they have len(want) lines. It fails the test if a line differs, or if
// the last message has further lines.
func (c *Client) ExpectLines(want ...string) {
	c.T.Helper()
	for n := 0; n < len(want); {
		opcode, message, err := c.readPastPings()
		if err != nil || opcode != websocket.TextFrame {
			c.T.Fatalf("got %s, %v; want line %d to be %q", Show(opcode, message), err, n, want[n])
		}
		for line := range strings.SplitSeq(message, "\n") {
			if n == len(want) || line != want[n] {
				c.T.Fatalf("got line %d %q; want the lines %.200q", n, line, want)
			}
			n++
		}
	}
}

// Hear reads frames, on any goroutine, until one of them contains text. A close frame is an error.
func (c *Client) Hear(text string) error {
	for {
		opcode, message, err := c.ReadFrame()
		switch {
		case err != nil:
			return err
		case opcode == websocket.CloseFrame:
			return fmt.Errorf("got a close frame with code %d, want a message with %q", CloseCode(message), text)
		case strings.Contains(message, text):
			return nil
		}
	}
}

// Numbered returns the lines "line N", for each N from from to to-1.
func Numbered(from, to int) (lines []string) {
	for n := from; n < to; n++ {
		lines = append(lines, fmt.Sprint("line ", n))
	}
	return lines
}

// Parse parses a line of a Crowd. It reports false for any other line.
func Parse(line string) (speaker, n int, ok bool) {
	first, second, ok := strings.Cut(line, " ")
	speaker, err := strconv.Atoi(first)
	n, err2 := strconv.Atoi(strings.TrimRight(second, " "))
	return speaker, n, ok && err == nil && err2 == nil
}
