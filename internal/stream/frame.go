package stream

import (
	"slices"

	"golang.org/x/net/websocket"

	"example.com/chat/internal/ws"
)

// JoinLimit is the number of bytes up to which lines are joined into one message. A longer line is a message of
// its own.
const JoinLimit = 64 << 10

// Frame is an encoded WebSocket frame. A Frame that was sent to a connection must not be changed, because all
// connections share it.
type Frame struct {
	Bytes []byte // header and payload
	Lines []byte // of a frame of lines, the payload and its last line break; nil of any other frame
	At    int64  // when the lines were said, in milliseconds since 1970; 0 unless they come late from another chat
}

// NewFrame encodes a frame that carries no lines: a control frame, an event, or a position.
func NewFrame(opcode byte, payload []byte) *Frame {
	return &Frame{Bytes: ws.AppendFrame(nil, opcode, payload)}
}

// TextFrame encodes lines, each ended by '\n', as a text message without the last '\n'. There must be at least
// one line. The frame has its own copy.
func TextFrame(lines []byte) *Frame {
	f := &Frame{Bytes: make([]byte, 0, ws.MaxHeader+len(lines))}
	header := f.begin(len(lines))
	f.end(append(header, lines...), len(header))
	return f
}

// begin returns the header of a text message of lines of size bytes, in f's memory if that is large enough.
func (f *Frame) begin(size int) []byte {
	return ws.AppendHeader(slices.Grow(f.Bytes[:0], ws.MaxHeader+size), websocket.TextFrame, size-1)
}

// end makes f the message b, whose lines begin after the header. Bytes and Lines share b: Bytes ends before the
// last line break.
func (f *Frame) end(b []byte, header int) { f.Bytes, f.Lines = b[:len(b)-1], b[header:] }

// Join takes the first frame off frames. It joins to it the lines of as many following frames as fit into
// JoinLimit with it and were said at the same time. A joined frame is into, valid until into is used again.
// Otherwise first is frames[0]. frames must not be empty.
func Join(frames []*Frame, into *Frame) (first *Frame, rest []*Frame) {
	n, size := 0, 0
	for n < len(frames) && frames[n].Lines != nil && frames[n].At == frames[0].At && size+len(frames[n].Lines) <= JoinLimit {
		size += len(frames[n].Lines)
		n++
	}
	if n <= 1 {
		return frames[0], frames[1:]
	}
	b := into.begin(size)
	header := len(b)
	for _, f := range frames[:n] {
		b = append(b, f.Lines...)
	}
	into.end(b, header)
	into.At = frames[0].At
	return into, frames[n:]
}
