package wstest

import (
	"fmt"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/net/websocket"
)

// Join returns a Client of the chat at addr.
func Join(t testing.TB, addr string) *Client {
	t.Helper()
	return Upgrade(t, Dial(t, addr), "/ws")
}

// JoinMany returns n Clients of the chat at addr.
func JoinMany(t testing.TB, addr string, n int) (clients []*Client) {
	t.Helper()
	for range n {
		clients = append(clients, Join(t, addr))
	}
	return clients
}

// Lines returns a function that returns the next line that c hears, or an error.
func (c *Client) Lines() func() (string, error) {
	var waiting []string
	return func() (string, error) {
		if len(waiting) == 0 {
			opcode, message, err := c.readPastPings()
			if err == nil && opcode != websocket.TextFrame {
				err = fmt.Errorf("got %s", Show(opcode, message))
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

// ExpectLines reads messages until they have as many lines as are wanted, and compares these. A
// line more, in the last message, is an error.
func (c *Client) ExpectLines(want ...string) {
	c.T.Helper()
	for n := 0; n < len(want); {
		opcode, message, err := c.readPastPings()
		if err != nil || opcode != websocket.TextFrame {
			c.T.Fatalf("got %s, %v; want line %d: %q", Show(opcode, message), err, n, want[n])
		}
		for line := range strings.SplitSeq(message, "\n") {
			if n == len(want) || line != want[n] {
				c.T.Fatalf("line %d is %q; want %.200q", n, line, want)
			}
			n++
		}
	}
}

// Hear reads until a message holds text.
func (c *Client) Hear(text string) error {
	for {
		opcode, message, err := c.ReadFrame()
		switch {
		case err != nil:
			return err
		case opcode == websocket.CloseFrame:
			return fmt.Errorf("closed with %d before %q was heard", CloseCode(message), text)
		case strings.Contains(message, text):
			return nil
		}
	}
}

// Numbered returns the lines "line FROM" up to but not including "line TO".
func Numbered(from, to int) (lines []string) {
	for n := from; n < to; n++ {
		lines = append(lines, fmt.Sprint("line ", n))
	}
	return lines
}

// Parse reads a line "SPEAKER N" with any spaces behind it.
func Parse(line string) (speaker, n int, ok bool) {
	first, second, ok := strings.Cut(line, " ")
	speaker, err := strconv.Atoi(first)
	n, err2 := strconv.Atoi(strings.TrimRight(second, " "))
	return speaker, n, ok && err == nil && err2 == nil
}
