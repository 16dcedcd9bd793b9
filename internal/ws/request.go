package ws

import (
	"encoding/base64"
	"net/http"
	"strings"

	"golang.org/x/net/websocket"
)

// HandshakeError says why a request does not become a WebSocket.
type HandshakeError struct {
	Status int    // of HTTP, from 400
	Reason string // in a few words that don't depend on the request
	Text   string // a sentence for the client
}

func (e *HandshakeError) Error() string { return "websocket: handshake refused: " + e.Reason }

// Write answers r with e. A client that did not ask for an upgrade hears what it could have asked
// for, in a header that HTTP/2 forbids (RFC 9113, section 8.2.2).
func (e *HandshakeError) Write(w http.ResponseWriter, r *http.Request) {
	if e.Status == http.StatusUpgradeRequired {
		if r.ProtoMajor == 1 {
			w.Header().Set("Connection", "Upgrade")
			w.Header().Set("Upgrade", "websocket")
		}
		w.Header().Set("Sec-WebSocket-Version", websocket.SupportedProtocolVersion)
	}
	http.Error(w, e.Text, e.Status)
}

var (
	errNoUpgrade = &HandshakeError{http.StatusUpgradeRequired, "no upgrade", "This address speaks WebSocket, version 13, over HTTP/1.1, and nothing else."}
	errBadKey    = &HandshakeError{http.StatusBadRequest, "bad key", "Sec-WebSocket-Key must be 16 bytes in base64."}
	errOrigin    = &HandshakeError{http.StatusForbidden, "other origin", "Pages of this origin may not connect."}
)

// CheckRequest returns why r can't become a WebSocket (RFC 6455, section 4.2.1), or nil. Pages of
// the host that r is sent to may connect, pages of the given origins, and programs, which send no
// Origin.
func CheckRequest(r *http.Request, origins []Origin) *HandshakeError {
	switch {
	case !isUpgrade(r):
		return errNoUpgrade
	case !validKey(r.Header.Get("Sec-WebSocket-Key")):
		return errBadKey
	case !originAllowed(r, origins):
		return errOrigin
	}
	return nil
}

func isUpgrade(r *http.Request) bool {
	return r.Method == http.MethodGet && r.ProtoMajor == 1 && r.ProtoMinor >= 1 &&
		hasToken(r.Header["Connection"], "upgrade") &&
		hasToken(r.Header["Upgrade"], "websocket") &&
		r.Header.Get("Sec-WebSocket-Version") == websocket.SupportedProtocolVersion
}

// hasToken reports whether token is in the comma-separated lists, in any case.
func hasToken(lists []string, token string) bool {
	for _, list := range lists {
		for item := range strings.SplitSeq(list, ",") {
			if strings.EqualFold(strings.TrimSpace(item), token) {
				return true
			}
		}
	}
	return false
}

func validKey(key string) bool {
	b, err := base64.StdEncoding.DecodeString(key)
	return err == nil && len(b) == 16
}
