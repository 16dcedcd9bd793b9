package ws

import (
	"bufio"
	"fmt"
	"io"
	"slices"
	"unicode/utf8"

	"golang.org/x/net/websocket"
)

// Reader reads the messages of a client. Only one goroutine at a time may call its methods.
//
// A Reader does not use x/net's Codec.Receive and HandleFrame, which accept much that the RFC forbids. It
// checks each frame's header itself, and then calls NewFrameReader, on which they are built.
type Reader struct {
	// Set at construction.
	in      *bufio.Reader
	payload func() (io.Reader, error)  // x/net's NewFrameReader, which reads from in
	limit   int                        // the most bytes of a message, unless it is binary
	binary  int                        // the most bytes of a binary message
	onFrame func(opcode byte)          // called with each frame before its payload is read; may be nil
	ping    func(payload []byte) error // called with the payload of each ping

	// State of AppendMessage, set for each message.
	opcode  byte   // of the first frame; 0 before it
	message []byte // the caller's slice, with the part of the message that has arrived
	start   int    // index in message at which the message begins
	checked int    // message[start:checked] is UTF-8, if the message is text
}

// LimitBinary sets the largest number of bytes of a binary message, which is otherwise that of a text message. It must
// be called before the first message is read.
func (r *Reader) LimitBinary(limit int) { r.binary = limit }

// Wait blocks until there is input or an error. AppendMessage would block as well, but deeper in the call
// stack. A goroutine that blocks in Wait needs less stack, which saves memory for each idle connection.
func (r *Reader) Wait() error {
	_, err := r.in.Peek(1)
	return err
}

// Buffered returns the number of bytes that can be read without blocking.
func (r *Reader) Buffered() int { return r.in.Buffered() }

// Ready reports whether a whole text message of one frame is next in the buffer, so that AppendMessage
// would not block. It assumes the longest possible header, so it may report false for a message at the end
// of the buffer.
func (r *Reader) Ready() bool {
	const maxMasked = MaxHeader + 4
	if r.in.Buffered() < maxMasked {
		return false
	}
	h, err := readHeader(r.in)
	return err == nil && h.fin && h.opcode == websocket.TextFrame && h.length <= uint64(r.in.Buffered()-maxMasked)
}

// AppendMessage reads the next message and appends it to b. The opcode is websocket.TextFrame, in which
// case the message is UTF-8, or websocket.BinaryFrame. The result belongs to the caller. When AppendMessage
// allocates, it usually leaves room for a line break after the message.
//
// After an error, message is b, and the Reader must no longer be used. A *CloseError is the answer that the
// caller should send to the peer. Any other error comes from the connection or from ping.
func (r *Reader) AppendMessage(b []byte) (message []byte, opcode byte, err error) {
	r.opcode, r.message, r.start, r.checked = 0, b, len(b), len(b)
	err = r.read()
	message, r.message = r.message, nil // the message belongs to the caller now
	if err != nil {
		return b, r.opcode, err
	}
	return message, r.opcode, nil
}

// read reads frames up to the last one of the message.
func (r *Reader) read() error {
	for {
		payload, h, err := r.frame()
		if err != nil {
			return err
		}
		switch {
		case h.isControl():
			if err := r.handleControl(payload, h); err != nil {
				return err
			}
			continue
		case h.opcode == websocket.ContinuationFrame && r.opcode == 0:
			return protocolError("a continuation frame without a message")
		case h.opcode != websocket.ContinuationFrame && r.opcode != 0:
			return protocolError("a new message within an unfinished one")
		case r.opcode == 0:
			r.opcode = h.opcode
		}
		if err := r.appendPayload(payload, h); err != nil || h.fin {
			return err
		}
	}
}

// frame reads and checks the next frame's header, and returns a reader of its unmasked payload.
func (r *Reader) frame() (io.Reader, header, error) {
	h, err := readHeader(r.in)
	if err == nil {
		err = h.check()
	}
	if err != nil {
		return nil, h, err
	}
	if r.onFrame != nil {
		r.onFrame(h.opcode)
	}
	payload, err := r.payload()
	return payload, h, err
}

// handleControl reads and handles a control frame (RFC 6455, section 5.5). A close frame makes it return a
// *CloseError.
func (r *Reader) handleControl(in io.Reader, h header) error {
	payload := make([]byte, h.length)
	if _, err := io.ReadFull(in, payload); err != nil {
		return err
	}
	switch h.opcode {
	case websocket.CloseFrame:
		return closeReply(payload)
	case websocket.PingFrame:
		return r.ping(payload)
	}
	return nil // a pong needs no answer
}

// appendPayload appends a frame's payload to r.message. It checks text as it arrives, so that the first
// invalid byte ends the reading even if the rest of the frame never comes.
func (r *Reader) appendPayload(payload io.Reader, h header) error {
	kind, limit := "message", r.limit
	if r.opcode == websocket.BinaryFrame {
		kind, limit = "binary message", r.binary
	}
	if h.length > uint64(limit-(len(r.message)-r.start)) {
		return &CloseError{CloseMessageTooBig, fmt.Sprintf("a %s may have at most %d bytes", kind, limit)}
	}
	for end := len(r.message) + int(h.length); len(r.message) < end; {
		r.grow(end)
		n, err := payload.Read(r.message[len(r.message):min(cap(r.message), end)])
		r.message = r.message[:len(r.message)+n]
		if err != nil && len(r.message) < end { // after the last byte, the next read returns err again
			return err
		}
		if !r.checkText(false) {
			return errNotUTF8
		}
	}
	if h.fin && !r.checkText(true) {
		return errNotUTF8
	}
	return nil
}

// grow makes room in r.message, which will have end bytes after this frame, and for a line break that the
// caller may add. The memory is in proportion to the bytes that have arrived, not to the announced length
// (RFC 6455, section 10.4).
func (r *Reader) grow(end int) {
	if len(r.message) == cap(r.message) {
		r.message = slices.Grow(r.message, 1+min(end-len(r.message), max(3*len(r.message), 4096)))
	}
}

var errNotUTF8 = &CloseError{CloseInvalidFramePayloadData, "the message is not UTF-8"}

// checkText reports whether a text message is UTF-8 as far as it has arrived. Unless the message is whole,
// its last rune may be incomplete (RFC 6455, section 5.6). checkText accepts all binary messages.
func (r *Reader) checkText(whole bool) bool {
	if r.opcode != websocket.TextFrame {
		return true
	}
	n, ok := validPrefix(r.message[r.checked:])
	r.checked += n
	return ok && !(whole && r.checked < len(r.message))
}

// validPrefix returns the length of p without an incomplete rune at its end, and whether that prefix is
// UTF-8.
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
