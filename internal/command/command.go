// Package command decodes what clients ask of the server: JSON objects in binary messages, from clients that join with
// ?events. docs/protocol.md lists the keys.
package command

import (
	"encoding/json"
	"unicode/utf8"

	"example.com/chat/internal/ws"
)

// MaxSize is the largest number of bytes of a command.
const MaxSize = 4 << 10

// Command is one command. A key that the client did not send is nil.
type Command struct {
	Ping *float64 // the client wants an event at once, with this number
}

// errMalformed answers a message that is no command.
var errMalformed = &ws.CloseError{Code: ws.CloseInvalidFramePayloadData, Reason: "a binary message must be a JSON object with keys of the right types"}

// Parse decodes a message. It ignores keys that it does not know. An error is a *ws.CloseError, which the client
// should get.
func Parse(message []byte) (c Command, err error) {
	var keys map[string]json.RawMessage // not a Command, because Unmarshal would accept "PING", too
	if !utf8.Valid(message) || json.Unmarshal(message, &keys) != nil || keys == nil {
		return c, errMalformed
	}
	if ping, ok := keys["ping"]; ok && json.Unmarshal(ping, &c.Ping) != nil {
		return c, errMalformed
	}
	return c, nil
}
