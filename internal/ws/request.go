package ws

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"strings"

	"golang.org/x/net/websocket"
)

// HandshakeError is the reason for which a request does not become a WebSocket.
type HandshakeError struct {
	Status int    // HTTP status, at least 400
	Reason string // a few words for logs and counters; the same for all requests refused for this reason
	Text   string // a sentence for the client
}

func (e *HandshakeError) Error() string { return "websocket: handshake refused: " + e.Reason }

// Write answers r with e. With status 426, headers name the protocol for which the client should ask. Connection
// and Upgrade are forbidden in HTTP/2 (RFC 9113, section 8.2.2), so only an HTTP/1 response has them.
//
// net/http closes an HTTP/1 connection after the response. A proxy that believes in the upgrade, or in another end
// of the request, may forward a client's bytes that net/http would take for a request of the proxy.
func (e *HandshakeError) Write(w http.ResponseWriter, r *http.Request) {
	if r.ProtoMajor == 1 {
		w.Header().Set("Connection", "close")
	}
	if e.Status == http.StatusUpgradeRequired {
		if r.ProtoMajor == 1 {
			w.Header().Add("Connection", "Upgrade")
			w.Header().Set("Upgrade", "websocket")
		}
		w.Header().Set("Sec-WebSocket-Version", websocket.SupportedProtocolVersion)
	}
	http.Error(w, e.Text, e.Status)
}

var (
	errNoUpgrade = &HandshakeError{http.StatusUpgradeRequired, "no upgrade", "This address accepts only WebSocket handshakes of version 13 over HTTP/1.1."}
	errBody      = &HandshakeError{http.StatusBadRequest, "body", "A WebSocket handshake must have no body."}
	errRepeated  = &HandshakeError{http.StatusBadRequest, "repeated header", "The request has more than one Sec-WebSocket-Key or Sec-WebSocket-Version."}
	errBadKey    = &HandshakeError{http.StatusBadRequest, "bad key", "Sec-WebSocket-Key must be 16 bytes in base64."}
)

// CheckRequest returns the reason for which r can't become a WebSocket, or nil (RFC 6455, section 4.2.1).
// It accepts what CheckOrigin accepts. It refuses a body, because the Reader of an upgraded connection would read
// it as frames.
//
// A browser does not show a page why its WebSocket was refused, but adds Origin to a POST of the page. So a POST is
// refused because of its Origin, or else because it is no upgrade.
func CheckRequest(r *http.Request, origins []Origin) *HandshakeError {
	switch {
	case r.Method == http.MethodPost && !originAllowed(r, origins):
		return CheckOrigin(r, origins)
	case !isUpgrade(r):
		return errNoUpgrade
	case r.ContentLength != 0: // -1 with Transfer-Encoding
		return errBody
	case len(r.Header["Sec-Websocket-Key"]) > 1, len(r.Header["Sec-Websocket-Version"]) > 1:
		return errRepeated // forbidden by RFC 6455, sections 11.3.1 and 11.3.5
	case !validKey(r.Header.Get("Sec-WebSocket-Key")):
		return errBadKey
	}
	return CheckOrigin(r, origins)
}

// CheckOrigin refuses pages, unless they are of the host to which r was sent, or of the given origins. It accepts
// programs, which send no Origin.
func CheckOrigin(r *http.Request, origins []Origin) *HandshakeError {
	if originAllowed(r, origins) {
		return nil
	}
	text := fmt.Sprintf("Pages of %.100q may not connect to the host %.100q. If they are the same, a proxy has changed Host.",
		strings.Join(r.Header["Origin"], ", "), r.Host)
	return &HandshakeError{http.StatusForbidden, "other origin", text}
}

// isUpgrade reports whether r asks for an upgrade to WebSocket version 13 over HTTP/1.1.
func isUpgrade(r *http.Request) bool {
	return r.Method == http.MethodGet && r.ProtoMajor == 1 && r.ProtoMinor >= 1 &&
		hasToken(r.Header["Connection"], "upgrade") &&
		hasToken(r.Header["Upgrade"], "websocket") &&
		r.Header.Get("Sec-WebSocket-Version") == websocket.SupportedProtocolVersion
}

// hasToken reports whether one of the comma-separated lists contains token, regardless of case.
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

// validKey reports whether key encodes 16 bytes.
func validKey(key string) bool {
	b, err := base64.StdEncoding.DecodeString(key)
	return err == nil && len(b) == 16
}
