package wstest

import (
	"fmt"
	"strings"
	"sync"

	"golang.org/x/net/websocket"
)

// Crowd describes a conversation of clients in one room. The first Speakers of them each send Each lines as
// fast as they can. All of them check that they receive every line.
//
// A line is "SPEAKER N" and Pad spaces. SPEAKER and N count from 0.
type Crowd struct {
	Speakers, Each, Pad int
}

// Speak sends the lines of a speaker, on any goroutine.
func (c Crowd) Speak(client *Client, speaker int) {
	var packet []byte
	pad := strings.Repeat(" ", c.Pad)
	for n := range c.Each {
		packet = append(packet, Frame(0x81, fmt.Sprint(speaker, " ", n, pad))...)
		if len(packet) > 4096 || n == c.Each-1 {
			if _, err := client.Conn.Write(packet); err != nil {
				client.T.Errorf("speaker %d, line %d: %v", speaker, n, err)
				return
			}
			packet = packet[:0]
		}
	}
}

// Listen reads until client has received all lines of all speakers, on any goroutine. The test fails unless
// each speaker's lines arrive in order and once. Listen skips lines that are no speaker's.
func (c Crowd) Listen(client *Client) {
	next := make([]int, c.Speakers)
	for left := c.Speakers * c.Each; left > 0; {
		opcode, message, err := client.readPastPings()
		if err != nil || opcode != websocket.TextFrame {
			client.T.Errorf("got %s, %v; want %d more lines", Show(opcode, message), err, left)
			return
		}
		for line := range strings.SplitSeq(message, "\n") {
			speaker, n, ok := Parse(line)
			if !ok {
				continue
			}
			if n != next[speaker] {
				client.T.Errorf("speaker %d: got line %d, want %d", speaker, n, next[speaker])
				return
			}
			next[speaker]++
			left--
		}
	}
}

// Meet runs the conversation, on any goroutine, until all clients have received all lines.
func (c Crowd) Meet(clients []*Client) {
	var wg sync.WaitGroup
	for i, client := range clients {
		wg.Go(func() { c.Listen(client) })
		if i < c.Speakers {
			wg.Go(func() { c.Speak(client, i) })
		}
	}
	wg.Wait()
}

// HearAll is Listen, and then reads the close frame of a server that stops, with code 1001. It closes client.
func (c Crowd) HearAll(client *Client) {
	c.Listen(client)
	opcode, message, err := client.ReadFrame()
	if err != nil || opcode != websocket.CloseFrame || CloseCode(message) != 1001 {
		client.T.Errorf("got %s, %v; want a close frame with code 1001", Show(opcode, message), err)
	}
	client.Conn.Close()
}

// StopWhenSaid lets each client send 1000 lines, and calls stop as soon as all of them are sent. It returns
// when every client has received all lines and the close frame. The test fails as in HearAll.
func StopWhenSaid(clients []*Client, stop func()) {
	c := Crowd{len(clients), 1000, 0}
	var speaking, listening sync.WaitGroup
	for i, client := range clients {
		listening.Go(func() { c.HearAll(client) })
		speaking.Go(func() { c.Speak(client, i) })
	}
	speaking.Wait()
	stop()
	listening.Wait()
}
