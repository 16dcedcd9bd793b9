// Package ws completes golang.org/x/net/websocket into an RFC 6455 server.
//
// x/net/websocket answers the handshake and parses frames well, but it
//
//   - returns each fragment as a message, and does not check UTF-8,
//   - accepts reserved bits, reserved opcodes and control frames of any length,
//   - reports a close frame as the end of the input, and does not answer it,
//   - writes pongs from the goroutine that reads,
//   - closes the connection when its handler returns.
//
// This package uses only x/net's public API. A handler uses it in this order:
//
//   - [CheckRequest] reports why a request can't become a WebSocket.
//   - [Hijack] separates the request's connection from net/http.
//   - [Accept] lets x/net answer the handshake, and returns a [Reader].
//   - [Reader.AppendMessage] reads one message. If the client closes the WebSocket or breaks the protocol, it
//     returns a [CloseError].
//   - [AppendFrame] encodes a frame, which may then be written to any number of connections.
//
// The connection belongs to the caller, who sets its deadlines, writes frames from one goroutine at a time,
// answers pings, and closes it. The example is an echo server that can be copied.
//
// The package has no extensions (hence no compression), no subprotocols and no client.
package ws
