// Package ws makes a complete RFC 6455 server of golang.org/x/net/websocket.
//
// x/net/websocket answers the handshake and parses frames well. It lacks the rest: it takes
// each fragment for a message, checks no UTF-8, accepts reserved bits and opcodes, reads control
// frames of any length, treats a close frame as the end of the input, writes pongs from the
// goroutine that reads, and closes the connection when its handler returns. This package adds
// what is missing around x/net's public API:
//
//   - [CheckRequest] says why a request can't become a WebSocket.
//   - [Hijack] takes the request's connection over from net/http, and [Accept] has x/net answer
//     the handshake on it.
//   - [Reader] reads whole messages, and answers to what breaks the protocol with a [CloseError].
//   - [AppendFrame] encodes a frame, once for any number of connections.
//
// The caller keeps the connection: it sets deadlines, writes frames, from one goroutine at a time,
// answers the pings that the Reader hands it, and closes. The example is an echo server that can be
// copied.
//
// There are no extensions (so no compression), no subprotocols and no client.
package ws
