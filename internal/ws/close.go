package ws

import (
	"encoding/binary"
	"fmt"
	"unicode/utf8"

	"golang.org/x/net/websocket"
)

// Close codes of RFC 6455, section 7.4.1, and of its registry.
const (
	CloseNormalClosure           = 1000
	CloseGoingAway               = 1001
	CloseProtocolError           = 1002
	CloseUnsupportedData         = 1003
	CloseNoStatusReceived        = 1005 // stands for a close frame without a code; is never sent
	CloseInvalidFramePayloadData = 1007
	CloseMessageTooBig           = 1009
	CloseTryAgainLater           = 1013
)

// CloseError is the error of a Reader whose peer sent a close frame, broke the protocol or exceeded the
// limit. The caller should answer with the close frame that Frame returns. The answer to a valid close
// frame has the peer's code.
type CloseError struct {
	Code   uint16
	Reason string // at most 123 bytes of UTF-8
}

func (e *CloseError) Error() string {
	return fmt.Sprintf("websocket: closing with %d %s", e.Code, e.Reason)
}

// Frame encodes e as a close frame (RFC 6455, section 5.5.1). With CloseNoStatusReceived it has no payload.
func (e *CloseError) Frame() []byte {
	if e.Code == CloseNoStatusReceived {
		return AppendFrame(nil, websocket.CloseFrame, nil)
	}
	return AppendFrame(nil, websocket.CloseFrame, append(binary.BigEndian.AppendUint16(nil, e.Code), e.Reason...))
}

func protocolError(reason string) error { return &CloseError{CloseProtocolError, reason} }

// closeReply returns the answer to a close frame with payload p (RFC 6455, sections 5.5.1 and 7.4).
func closeReply(p []byte) *CloseError {
	if len(p) == 0 {
		return &CloseError{Code: CloseNoStatusReceived}
	}
	if len(p) == 1 {
		return &CloseError{CloseProtocolError, "a close frame has no payload or at least 2 bytes"}
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

// validCloseCode reports whether a close frame may carry code (RFC 6455, section 7.4.2). The codes below
// 3000 are those of the RFC and its registry, without those that must not be sent. The ranges from 3000 on
// are for libraries and applications.
func validCloseCode(code uint16) bool {
	switch {
	case 1000 <= code && code <= 1003, 1007 <= code && code <= 1014, 3000 <= code && code <= 4999:
		return true
	}
	return false
}
