package wstest

import (
	"fmt"
	"strings"
	"sync"

	"golang.org/x/net/websocket"
)

// Crowd is a number of peers, of whom some say each lines as fast as they can,
// "SPEAKER N" and pad more bytes, and all check that they hear all of it.
type Crowd struct {
	Speakers, Each, Pad int
}

// Speak has p say its lines.
func (c Crowd) Speak(p *Client, speaker int) {
	var packet []byte
	pad := strings.Repeat(" ", c.Pad)
	for n := range c.Each {
		packet = append(packet, Frame(0x81, fmt.Sprint(speaker, " ", n, pad))...)
		if len(packet) > 4096 || n == c.Each-1 {
			if _, err := p.Conn.Write(packet); err != nil {
				p.T.Errorf("speaker %d, line %d: %v", speaker, n, err)
				return
			}
			packet = packet[:0]
		}
	}
}

// Listen has p hear everything that everyone says, each speaker's lines in order and
// once. It passes over lines that are no speaker's.
func (c Crowd) Listen(p *Client) {
	next := make([]int, c.Speakers)
	for left := c.Speakers * c.Each; left > 0; {
		opcode, message, err := p.readPastPings()
		if err != nil || opcode != websocket.TextFrame {
			p.T.Errorf("%d lines are missing: %s, %v", left, Show(opcode, message), err)
			return
		}
		for line := range strings.SplitSeq(message, "\n") {
			speaker, n, ok := Parse(line)
			if !ok {
				continue
			}
			if n != next[speaker] {
				p.T.Errorf("speaker %d: heard line %d, want %d", speaker, n, next[speaker])
				return
			}
			next[speaker]++
			left--
		}
	}
}

// Meet has all peers listen, and the first of them speak, until everyone has heard
// everything.
func (c Crowd) Meet(peers []*Client) {
	var wg sync.WaitGroup
	for i, p := range peers {
		wg.Go(func() { c.Listen(p) })
		if i < c.Speakers {
			wg.Go(func() { c.Speak(p, i) })
		}
	}
	wg.Wait()
}

// goingAway is the close code of a server that stops (RFC 6455, section 7.4.1).
const goingAway = 1001

// HearAll has p hear every line of the Crowd, and then that the server goes away.
func (c Crowd) HearAll(p *Client) {
	c.Listen(p)
	opcode, message, err := p.ReadFrame()
	if err != nil || opcode != websocket.CloseFrame || CloseCode(message) != goingAway {
		p.T.Errorf("got %s, %v; want a close frame with %d", Show(opcode, message), err, goingAway)
	}
	p.Conn.Close()
}

// StopWhenSaid has peers listen and speak, and calls stop as soon as everything is sent.
func StopWhenSaid(peers []*Client, stop func()) {
	c := Crowd{len(peers), 1000, 0}
	var speaking, listening sync.WaitGroup
	for i, p := range peers {
		listening.Go(func() { c.HearAll(p) })
		speaking.Go(func() { c.Speak(p, i) })
	}
	speaking.Wait()
	stop()
	listening.Wait()
}
