package ws

import (
	"encoding/binary"
	"fmt"
	"unicode/utf8"

	"golang.org/x/net/websocket"
)

// Close codes (RFC 6455, section 7.4.1, and its registry).
const (
	CloseNormalClosure           = 1000
	CloseGoingAway               = 1001
	CloseProtocolError           = 1002
	CloseUnsupportedData         = 1003
	CloseNoStatusReceived        = 1005 // stands for a close frame without a code
	CloseInvalidFramePayloadData = 1007
	CloseMessageTooBig           = 1009
	CloseTryAgainLater           = 1013
)

// CloseError ends the reading of a connection: the peer closed it, or broke the protocol or a
// limit. It is what the peer is to be told: its own code, or what it did wrong.
type CloseError struct {
	Code   uint16
	Reason string // at most 123 bytes of UTF-8
}

func (e *CloseError) Error() string {
	return fmt.Sprintf("websocket: closing with %d %s", e.Code, e.Reason)
}

// Frame encodes the close frame (RFC 6455, section 5.5.1).
func (e *CloseError) Frame() []byte {
	if e.Code == CloseNoStatusReceived {
		return AppendFrame(nil, websocket.CloseFrame, nil)
	}
	return AppendFrame(nil, websocket.CloseFrame, append(binary.BigEndian.AppendUint16(nil, e.Code), e.Reason...))
}

func protocolError(reason string) error { return &CloseError{CloseProtocolError, reason} }

// closeReply returns the answer to a close frame with payload p (RFC 6455, sections 5.5.1 and
// 7.4).
func closeReply(p []byte) *CloseError {
	if len(p) == 0 {
		return &CloseError{Code: CloseNoStatusReceived}
	}
	if len(p) == 1 {
		return &CloseError{CloseProtocolError, "a close frame with one byte"}
	}
	code := binary.BigEndian.Uint16(p)
	if !validCloseCode(code) {
		return &CloseError{CloseProtocolError, "this close code may not be sent"}
	}
	if !utf8.Valid(p[2:]) {
		return &CloseError{CloseInvalidFramePayloadData, "the close reason is not UTF-8"}
	}
	return &CloseError{Code: code}
}

// validCloseCode reports whether a close frame may carry code (RFC 6455, section 7.4.2): those of
// the RFC and its registry that are for the wire, and the ranges for libraries and applications.
func validCloseCode(code uint16) bool {
	switch {
	case 1000 <= code && code <= 1003, 1007 <= code && code <= 1014, 3000 <= code && code <= 4999:
		return true
	}
	return false
}
