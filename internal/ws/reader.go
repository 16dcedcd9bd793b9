package ws

import (
	"bufio"
	"fmt"
	"io"
	"slices"
	"unicode/utf8"

	"golang.org/x/net/websocket"
)

// Reader reads a client's messages. One goroutine at a time may use it.
//
// x/net's Codec.Receive and HandleFrame take each fragment for a message, accept what the RFC
// forbids, and write pongs from the goroutine that reads. A Reader goes below them, to
// NewFrameReader, and looks at each header before x/net does.
type Reader struct {
	in      *bufio.Reader
	payload func() (io.Reader, error)  // websocket.Conn.NewFrameReader, of one that reads from in
	limit   int                        // bytes in a message
	ping    func(payload []byte) error // called for each ping

	// The message being read.
	opcode  byte   // of its first frame, or 0 before that
	message []byte // ends in what has come of it
	start   int    // where in message it begins
	checked int    // up to where message is known to be UTF-8, if it is text
}

// Wait waits until something has come. AppendMessage waits, too; but the fewer calls deep a
// goroutine is while it waits, the less stack an idle connection takes.
func (r *Reader) Wait() error {
	_, err := r.in.Peek(1)
	return err
}

// Buffered returns how many bytes can be read without waiting.
func (r *Reader) Buffered() int { return r.in.Buffered() }

// Ready reports whether AppendMessage would return a text message of one frame without waiting. It may say
// no although it would: it counts with the longest header.
func (r *Reader) Ready() bool {
	const maxMasked = MaxHeader + 4
	if r.in.Buffered() < maxMasked {
		return false
	}
	h, err := readHeader(r.in)
	return err == nil && h.fin && h.opcode == websocket.TextFrame && h.length <= uint64(r.in.Buffered()-maxMasked)
}

// AppendMessage appends the next message to b. Its opcode is websocket.TextFrame, and the message
// is UTF-8 then, or websocket.BinaryFrame.
//
// There is room for a line break behind the message.
//
// With an error, b is as it was, and nothing more can be read. A *CloseError is what the peer is to
// be told; any other error is the connection's, or that of ping.
func (r *Reader) AppendMessage(b []byte) (message []byte, opcode byte, err error) {
	r.opcode, r.message, r.start, r.checked = 0, b, len(b), len(b)
	err = r.read()
	message, r.message = r.message, nil // it is the caller's
	if err != nil {
		return b, r.opcode, err
	}
	return message, r.opcode, nil
}

// read reads frames until the message is whole.
func (r *Reader) read() error {
	for {
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
		case h.opcode == websocket.ContinuationFrame && r.opcode == 0:
			return protocolError("a continuation without a message")
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

// frame reads the next frame's header, checks it, and returns a reader of its payload, unmasked.
func (r *Reader) frame() (io.Reader, header, error) {
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
func (r *Reader) control(in io.Reader, h header) error {
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

// appendPayload appends a frame's payload to r.message. Text is checked as it arrives.
func (r *Reader) appendPayload(payload io.Reader, h header) error {
	if h.length > uint64(r.limit-(len(r.message)-r.start)) {
		return &CloseError{CloseMessageTooBig, fmt.Sprintf("a message has at most %d bytes here", r.limit)}
	}
	for end := len(r.message) + int(h.length); len(r.message) < end; {
		r.grow(end)
		n, err := payload.Read(r.message[len(r.message):min(cap(r.message), end)])
		r.message = r.message[:len(r.message)+n]
		if err != nil && len(r.message) < end { // else the next read returns it again
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

// grow makes room in r.message for what may come next of the bytes before end, and for a line break
// that the caller may add. It takes memory in proportion to what has arrived, not to what was
// announced (RFC 6455, section 10.4).
func (r *Reader) grow(end int) {
	if len(r.message) == cap(r.message) {
		r.message = slices.Grow(r.message, 1+min(end-len(r.message), max(3*len(r.message), 4096)))
	}
}

var errNotUTF8 = &CloseError{CloseInvalidFramePayloadData, "the message is not UTF-8"}

// checkText reports whether what has come of the message is UTF-8, if it is text. The end may cut
// a rune (RFC 6455, section 5.6), unless the message is whole.
func (r *Reader) checkText(whole bool) bool {
	if r.opcode != websocket.TextFrame {
		return true
	}
	n, ok := validPrefix(r.message[r.checked:])
	r.checked += n
	return ok && !(whole && r.checked < len(r.message))
}

// validPrefix returns the length of p up to a rune that is not complete yet, if p ends in one. It
// reports false if p can't be, or become, UTF-8.
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
