package main

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"slices"
	"unicode/utf8"

	"golang.org/x/net/websocket"
)

// Close codes (RFC 6455, section 7.4.1, and the registry it founded).
const (
	closeNone            = 0 // a close frame without a code
	closeGoingAway       = 1001
	closeProtocolError   = 1002
	closeUnsupportedData = 1003
	closeInvalidText     = 1007
	closeTooBig          = 1009
	closeTryAgainLater   = 1013
)

// frame is a frame to be sent. It is never changed, and may go to many connections.
type frame struct {
	whole []byte // header and payload
	lines []byte // the payload and a line break, if it may be joined with that of other frames
}

// maxHeader is the length of the longest header of a frame that a server sends.
const maxHeader = 2 + 8

// newFrame encodes a frame that is not joined with others, such as a control frame (RFC
// 6455, section 5.5).
func newFrame(opcode byte, payload []byte) *frame {
	b := appendHeader(make([]byte, 0, maxHeader+len(payload)), opcode, len(payload))
	return &frame{whole: append(b, payload...)}
}

// textFrame encodes a text frame of lines, each of which ends in a line break.
func textFrame(lines ...[]byte) *frame {
	size := 0
	for _, l := range lines {
		size += len(l)
	}
	b := appendHeader(make([]byte, 0, maxHeader+size), websocket.TextFrame, size-1)
	header := len(b)
	for _, l := range lines {
		b = append(b, l...)
	}
	return &frame{whole: b[:len(b)-1], lines: b[header:]}
}

// appendHeader appends the header of a final, unmasked frame (RFC 6455, section 5.2).
func appendHeader(b []byte, opcode byte, length int) []byte {
	b = append(b, 0x80|opcode)
	switch {
	case length > 0xffff:
		return binary.BigEndian.AppendUint64(append(b, 127), uint64(length))
	case length > 125:
		return binary.BigEndian.AppendUint16(append(b, 126), uint16(length))
	default:
		return append(b, byte(length))
	}
}

// closeFrame is what a close frame says. As an error it ends the reading of a
// connection, and is what the peer gets in answer.
type closeFrame struct {
	code   uint16 // closeNone sends an empty frame
	reason string // at most 123 bytes
}

func (f *closeFrame) Error() string {
	return fmt.Sprintf("websocket: closing with %d %s", f.code, f.reason)
}

// frame encodes the close frame (RFC 6455, section 5.5.1).
func (f *closeFrame) frame() *frame {
	if f.code == closeNone {
		return newFrame(websocket.CloseFrame, nil)
	}
	return newFrame(websocket.CloseFrame, append(binary.BigEndian.AppendUint16(nil, f.code), f.reason...))
}

// How the server takes leave of those who have done nothing wrong.
var (
	goingAway = &closeFrame{closeGoingAway, "the server is shutting down"}
	tooSlow   = &closeFrame{closeTryAgainLater, "you read too slowly"}
)

func protocolError(reason string) error {
	return &closeFrame{closeProtocolError, reason}
}

// answerTo returns what answers a close frame with payload p: its own code, or
// a complaint where the payload is malformed (RFC 6455, sections 5.5.1 and 7.4).
func answerTo(p []byte) *closeFrame {
	if len(p) == 0 {
		return &closeFrame{code: closeNone}
	}
	if len(p) == 1 {
		return &closeFrame{closeProtocolError, "half a close code"}
	}
	code := binary.BigEndian.Uint16(p)
	if !sendable(code) {
		return &closeFrame{closeProtocolError, "this close code may not be sent"}
	}
	if !utf8.Valid(p[2:]) {
		return &closeFrame{closeInvalidText, "the close reason is not UTF-8"}
	}
	return &closeFrame{code: code}
}

// sendable reports whether a close frame may carry code (RFC 6455, section
// 7.4.2): those the RFC and its registry define for the wire, and the ranges
// for libraries and applications.
func sendable(code uint16) bool {
	switch {
	case 1000 <= code && code <= 1003, 1007 <= code && code <= 1014:
		return true
	}
	return 3000 <= code && code <= 4999
}

// header is a frame's header (RFC 6455, section 5.2).
type header struct {
	fin      bool
	reserved byte // the three reserved bits, as they stand in the first byte
	opcode   byte
	masked   bool
	length   uint64
	shortest bool // the length is written in its shortest form
}

// readHeader reads a header without its masking key, and leaves its bytes in in.
func readHeader(in *bufio.Reader) (header, error) {
	b, err := in.Peek(2)
	if err != nil {
		return header{}, err
	}
	h := header{
		fin:      b[0]&0x80 != 0,
		reserved: b[0] & 0x70,
		opcode:   b[0] & 0x0f,
		masked:   b[1]&0x80 != 0,
		length:   uint64(b[1] & 0x7f),
		shortest: true,
	}
	switch h.length {
	case 126:
		if b, err = in.Peek(2 + 2); err == nil {
			h.length = uint64(binary.BigEndian.Uint16(b[2:]))
			h.shortest = h.length > 125
		}
	case 127:
		if b, err = in.Peek(2 + 8); err == nil {
			h.length = binary.BigEndian.Uint64(b[2:])
			h.shortest = h.length > 0xffff
		}
	}
	return h, err
}

func (h header) control() bool { return h.opcode&0x8 != 0 }

// check returns the protocol error that the header is by itself, or nil.
func (h header) check() error {
	switch {
	case h.reserved != 0:
		return protocolError("a reserved bit is set, and no extension was agreed on")
	case h.opcode > websocket.BinaryFrame && h.opcode < websocket.CloseFrame, h.opcode > websocket.PongFrame:
		return protocolError("unknown opcode")
	case !h.masked:
		return protocolError("a client must mask its frames")
	case h.control() && !h.fin:
		return protocolError("a control frame may not be fragmented")
	case h.control() && h.length > 125:
		return protocolError("a control frame carries at most 125 bytes")
	case !h.shortest:
		return protocolError("the payload length is not in its shortest form")
	case h.length > math.MaxInt64:
		return protocolError("the payload length has its highest bit set")
	}
	return nil
}

// messageReader reads a client's messages.
//
// x/net's Codec.Receive and HandleFrame take each fragment for a message, accept
// what the RFC forbids, and write pongs from the goroutine that reads. So this
// goes below them, to NewFrameReader, and looks at each header before that does.
type messageReader struct {
	in      *bufio.Reader
	payload func() (io.Reader, error)  // websocket.Conn.NewFrameReader, of one that reads from in
	limit   int                        // bytes in a message
	batch   int                        // bytes from which on no message is joined to those before it
	ping    func(payload []byte) error // called for each ping; payload is its to keep

	text    []byte // ends in the message being read
	start   int    // where in text that begins
	checked int    // up to where text is known to be UTF-8
}

// newMessageReader returns a reader of the messages that ws reads from in. It keeps
// in, but nothing else of ws.
func newMessageReader(ws *websocket.Conn, in *bufio.Reader, limit int, ping func(payload []byte) error) *messageReader {
	newFrameReader := ws.NewFrameReader // that of the interface that ws embeds
	return &messageReader{
		in:      in,
		payload: func() (io.Reader, error) { return newFrameReader() },
		limit:   limit,
		batch:   gatherLimit,
		ping:    ping,
	}
}

// await waits until something has come.
func (r *messageReader) await() error {
	_, err := r.in.Peek(1)
	return err
}

// lines returns the next message, and those that have come with it, each with a line break
// behind it. They are the caller's to keep.
//
// With an error, too, there may be lines. A *closeFrame error says that no further message
// will come: the peer took its leave, or broke the protocol or a rule of this server. The
// frame is the answer to that. Any other error is the connection's, or that of r.ping.
func (r *messageReader) lines() (lines []byte, err error) {
	for more := true; more && err == nil; more = len(lines) < r.batch && r.ready() {
		lines, err = r.appendLine(slices.Grow(lines, r.in.Buffered()+1)) // for the others, too, and a line break
	}
	return lines, err
}

// appendLine appends the next message to b, with spaces for its line breaks and a line break
// behind it. With an error, b is as it was.
func (r *messageReader) appendLine(b []byte) ([]byte, error) {
	r.text, r.start, r.checked = b, len(b), len(b)
	err := r.message()
	text := r.text
	r.text = nil // it is the caller's
	if err != nil {
		return b, err
	}
	for i := len(b); i < len(text); i++ {
		next := bytes.IndexByte(text[i:], '\n')
		if next < 0 {
			break
		}
		i += next
		text[i] = ' '
	}
	return append(text, '\n'), nil
}

// message appends the next message to r.text.
func (r *messageReader) message() error {
	for started := false; ; {
		payload, h, err := r.frame()
		if err != nil {
			return err
		}
		switch {
		case h.control():
			if err := r.control(payload, h); err != nil {
				return err
			}
			continue
		case h.opcode == websocket.BinaryFrame:
			return &closeFrame{closeUnsupportedData, "this is a text chat"}
		case h.opcode == websocket.ContinuationFrame && !started:
			return protocolError("a continuation of nothing")
		case h.opcode == websocket.TextFrame && started:
			return protocolError("a new message within an unfinished one")
		}
		if err := r.appendPayload(payload, h); err != nil || h.fin {
			return err
		}
		started = true
	}
}

// ready reports whether a whole message, in one frame, is in the buffer already.
func (r *messageReader) ready() bool {
	const maxMasked = maxHeader + 4
	if r.in.Buffered() < maxMasked {
		return false
	}
	h, err := readHeader(r.in)
	return err == nil && h.fin && h.opcode == websocket.TextFrame && h.length <= uint64(r.in.Buffered()-maxMasked)
}

// frame reads the next frame's header, checks it, and returns a reader of its
// payload, unmasked.
func (r *messageReader) frame() (io.Reader, header, error) {
	h, err := readHeader(r.in)
	if err == nil {
		err = h.check()
	}
	if err != nil {
		return nil, h, err
	}
	payload, err := r.payload()
	return payload, h, err
}

// control reads a control frame and acts on it (RFC 6455, section 5.5).
func (r *messageReader) control(in io.Reader, h header) error {
	payload := make([]byte, h.length)
	if _, err := io.ReadFull(in, payload); err != nil {
		return err
	}
	switch h.opcode {
	case websocket.CloseFrame:
		return answerTo(payload)
	case websocket.PingFrame:
		return r.ping(payload)
	}
	return nil // a pong has done its work by arriving
}

// appendPayload appends a frame's payload to r.text, checking that it is UTF-8
// as it arrives. The end of a frame may cut a rune, the end of the message may not.
func (r *messageReader) appendPayload(payload io.Reader, h header) error {
	if h.length > uint64(r.limit-(len(r.text)-r.start)) {
		return &closeFrame{closeTooBig, fmt.Sprintf("a message has at most %d bytes here", r.limit)}
	}
	for end := len(r.text) + int(h.length); len(r.text) < end; {
		r.grow(end)
		n, err := payload.Read(r.text[len(r.text):min(cap(r.text), end)])
		r.text = r.text[:len(r.text)+n]
		if err != nil && len(r.text) < end { // else the next read returns it again
			return err
		}
		whole, ok := validPrefix(r.text[r.checked:])
		if !ok {
			return errNotUTF8
		}
		r.checked += whole
	}
	if h.fin && r.checked < len(r.text) {
		return errNotUTF8
	}
	return nil
}

// grow makes room in r.text for what may come next of the bytes before end, and for a line
// break. It takes memory in proportion to what has arrived, not to what was announced.
func (r *messageReader) grow(end int) {
	if len(r.text) == cap(r.text) {
		r.text = slices.Grow(r.text, 1+min(end-len(r.text), max(3*len(r.text), 4096)))
	}
}

var errNotUTF8 = &closeFrame{closeInvalidText, "the message is not UTF-8"}

// validPrefix returns the length of p up to a rune that is not complete yet, if
// p ends in one. It reports false if p can't be, or become, UTF-8.
func validPrefix(p []byte) (int, bool) {
	n := len(p)
	for i := n - 1; i >= max(0, n-utf8.UTFMax); i-- {
		if utf8.RuneStart(p[i]) {
			if !utf8.FullRune(p[i:]) {
				n = i
			}
			break
		}
	}
	return n, utf8.Valid(p[:n])
}
