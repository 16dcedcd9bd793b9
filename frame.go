package main

import (
	"slices"

	"golang.org/x/net/websocket"

	"chat/internal/ws"
)

// Lines are joined into one message up to this many bytes. A line that is longer goes alone.
const joinLimit = 64 << 10

// frame is an encoded frame. One that the Hub has sent is never changed: it goes to many connections.
type frame struct {
	bytes []byte // header and payload
	lines []byte // of a text frame, the payload and a line break; nil if it is not to be joined
}

// newFrame encodes a frame that is not joined with others.
func newFrame(opcode byte, payload []byte) *frame {
	return &frame{bytes: ws.AppendFrame(nil, opcode, payload)}
}

// textFrame encodes lines, at least one, each with a line break behind it, as a text frame.
func textFrame(lines []byte) *frame {
	b := ws.AppendHeader(make([]byte, 0, ws.MaxHeader+len(lines)), websocket.TextFrame, len(lines)-1)
	header := len(b)
	b = append(b, lines...)
	return &frame{bytes: b[:len(b)-1], lines: b[header:]}
}

// join returns the first of frames, and those that remain. If the lines of the first and of some
// behind it take no more than joinLimit bytes, it encodes these into a frame, which it returns.
func join(frames []*frame, into *frame) (first *frame, rest []*frame) {
	n, size := 0, 0
	for n < len(frames) && frames[n].lines != nil && size+len(frames[n].lines) <= joinLimit {
		size += len(frames[n].lines)
		n++
	}
	if n <= 1 {
		return frames[0], frames[1:]
	}
	b := ws.AppendHeader(slices.Grow(into.bytes[:0], ws.MaxHeader+size), websocket.TextFrame, size-1)
	header := len(b)
	for _, f := range frames[:n] {
		b = append(b, f.lines...)
	}
	into.bytes, into.lines = b[:len(b)-1], b[header:]
	return into, frames[n:]
}
