package ws

import (
	"bufio"
	"encoding/binary"
	"math"

	"golang.org/x/net/websocket"
)

// MaxHeader is the largest number of bytes that AppendHeader appends.
const MaxHeader = 2 + 8

// AppendHeader appends to b the header of a final, unmasked frame with a payload of length bytes (RFC 6455,
// section 5.2). The opcode is one of x/net's, such as websocket.TextFrame.
func AppendHeader(b []byte, opcode byte, length int) []byte {
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

// AppendFrame appends a final, unmasked frame to b. If b is nil, it allocates exactly what the frame needs.
// The payload of a control frame must have at most 125 bytes (RFC 6455, section 5.5).
func AppendFrame(b []byte, opcode byte, payload []byte) []byte {
	if b == nil {
		b = make([]byte, 0, MaxHeader+len(payload))
	}
	return append(AppendHeader(b, opcode, len(payload)), payload...)
}

// header is a frame's header (RFC 6455, section 5.2).
type header struct {
	fin      bool
	reserved byte // the first byte, masked by 0x70
	opcode   byte
	masked   bool
	length   uint64
	shortest bool // whether length is encoded in its shortest form
}

// readHeader parses the next header, without its masking key. It leaves the bytes in the buffer for x/net.
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

func (h header) isControl() bool { return h.opcode&0x8 != 0 }

// check returns a *CloseError if a client must not send a frame with this header, or nil.
func (h header) check() error {
	switch {
	case h.reserved != 0:
		return protocolError("a reserved bit is set, and no extension was agreed on")
	case h.opcode > websocket.BinaryFrame && h.opcode < websocket.CloseFrame, h.opcode > websocket.PongFrame:
		return protocolError("unknown opcode")
	case !h.masked:
		return protocolError("a client must mask its frames")
	case h.isControl() && !h.fin:
		return protocolError("a control frame may not be fragmented")
	case h.isControl() && h.length > 125:
		return protocolError("a control frame carries at most 125 bytes")
	case !h.shortest:
		return protocolError("the payload length is not in its shortest form")
	case h.length > math.MaxInt64:
		return protocolError("the payload length has its highest bit set")
	}
	return nil
}
