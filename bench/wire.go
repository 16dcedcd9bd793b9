// wire.go: what goes over the wire: handshakes, frames, and lines that tell who
// said them, when, and as which of theirs.

package main

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"net/http"
)

// A line is two hexadecimal digits for its sender, eight for its number among the
// sender's, and sixteen for the nanosecond it was due at, each followed by a space,
// and then x to its end.
const (
	senderAt = 0
	numberAt = senderAt + 2 + 1
	dueAt    = numberAt + 8 + 1
	minLine  = dueAt + 16 + 1
)

// appendLine appends a line of size bytes, minLine at least. There are 256 senders at most.
func appendLine(b []byte, size, sender int, number uint32, due int64) []byte {
	b = fmt.Appendf(b, "%02x %08x %016x ", sender, number, due)
	return append(b, padding[:size-minLine]...)
}

// maxLine is the longest line that can be said.
const maxLine = 64 << 10

var padding = bytes.Repeat([]byte("x"), maxLine)

// parseLine returns what a line tells. It reports false for what is no line.
func parseLine(line []byte) (sender int, number uint32, due int64, ok bool) {
	if len(line) < minLine {
		return 0, 0, 0, false
	}
	s, ok1 := hex(line[senderAt : senderAt+2])
	n, ok2 := hex(line[numberAt : numberAt+8])
	d, ok3 := hex(line[dueAt : dueAt+16])
	return int(s), uint32(n), int64(d), ok1 && ok2 && ok3
}

// hexDigit is the value of a lower-case hexadecimal digit, or 0xff.
var hexDigit = func() (table [256]byte) {
	for i := range table {
		table[i] = 0xff
	}
	for i, c := range "0123456789abcdef" {
		table[c] = byte(i)
	}
	return table
}()

// hex is strconv.ParseUint for sixteen digits at most, a few nanoseconds a call.
func hex(digits []byte) (n uint64, ok bool) {
	var bad byte
	for _, c := range digits {
		d := hexDigit[c]
		bad |= d
		n = n<<4 | uint64(d&0xf)
	}
	return n, bad < 0x10
}

// appendFrame appends a client's text frame. Its mask is zero, which RFC 6455
// allows and which costs the client nothing; servers can't tell.
func appendFrame(b []byte, payload []byte) []byte {
	switch n := len(payload); {
	case n > 0xffff:
		b = binary.BigEndian.AppendUint64(append(b, 0x81, 0x80|127), uint64(n))
	case n > 125:
		b = binary.BigEndian.AppendUint16(append(b, 0x81, 0x80|126), uint16(n))
	default:
		b = append(b, 0x81, 0x80|byte(n))
	}
	return append(append(b, 0, 0, 0, 0), payload...)
}

// appendPong appends a client's pong, masked by zero too. It has at most 125 bytes.
func appendPong(b []byte, payload []byte) []byte {
	return append(append(b, 0x8a, 0x80|byte(len(payload)), 0, 0, 0, 0), payload...)
}

// goodbye is a client's close frame with code 1000.
var goodbye = []byte{0x88, 0x82, 0, 0, 0, 0, 0x03, 0xe8}

// frameHeader is what a client needs of a server's frame.
type frameHeader struct {
	fin    bool
	opcode byte
	length int // of the payload
	size   int // of the header itself
}

// parseFrameHeader reads a server's frame header. size is 0 if b does not hold it
// all yet; an error says that no server may send it.
func parseFrameHeader(b []byte) (h frameHeader, err error) {
	if len(b) < 2 {
		return h, nil
	}
	h = frameHeader{fin: b[0]&0x80 != 0, opcode: b[0] & 0x0f, length: int(b[1]), size: 2}
	if b[0]&0x70 != 0 || b[1]&0x80 != 0 {
		return h, fmt.Errorf("a frame of the server begins with % x", b[:2])
	}
	switch {
	case h.length == 126 && len(b) >= 4:
		h.length, h.size = int(binary.BigEndian.Uint16(b[2:])), 4
	case h.length == 127 && len(b) >= 10:
		h.length, h.size = int(binary.BigEndian.Uint64(b[2:])), 10
	case h.length > 125:
		h.size = 0
	}
	return h, nil
}

// readText reads a text message that comes as one frame.
func readText(in *bufio.Reader) (string, error) {
	for size := 2; ; {
		head, err := in.Peek(size)
		if err != nil {
			return "", err
		}
		h, err := parseFrameHeader(head)
		if err != nil || h.size > 0 && (!h.fin || h.opcode != 0x1) {
			return "", fmt.Errorf("no text message in one frame: % x, %v", head, err)
		}
		if h.size > 0 {
			frame := make([]byte, h.size+h.length)
			_, err := io.ReadFull(in, frame)
			return string(frame[h.size:]), err
		}
		size = min(size+2, 10)
	}
}

// shakeHands does the client's part of a handshake, as a program without an
// Origin. What it returns reads what comes behind the answer.
func shakeHands(conn io.ReadWriter, query string) (*bufio.Reader, error) {
	request := "GET /ws" + query + " HTTP/1.1\r\nHost: bench\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
		"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
	if _, err := io.WriteString(conn, request); err != nil {
		return nil, err
	}
	in := bufio.NewReader(conn)
	response, err := http.ReadResponse(in, nil)
	if err != nil {
		return nil, err
	}
	const accept = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
	if response.StatusCode != http.StatusSwitchingProtocols || response.Header.Get("Sec-WebSocket-Accept") != accept {
		return nil, fmt.Errorf("the handshake was answered with %s", response.Status)
	}
	return in, nil
}
