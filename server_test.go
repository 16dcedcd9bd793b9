// server_test.go: what the other tests share: a running chat, and its peers.

package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"golang.org/x/net/websocket"
)

// TestMain lets the test binary be the chat itself, for tests that need its
// command line and exit status.
func TestMain(m *testing.M) {
	if os.Getenv("CHAT_TEST_MAIN") != "" {
		main()
		os.Exit(0)
	}
	slog.SetDefault(slog.New(slog.DiscardHandler))
	flag.Parse()
	flag.Set("test.parallel", "16") // most of them wait
	status := m.Run()
	if stacks := leftBehind(); status == 0 && stacks != "" {
		fmt.Printf("goroutines are left behind:\n%s\n", stacks)
		status = 1
	}
	os.Exit(status)
}

// leftBehind returns the stacks of the goroutines of chats that have ended, if any remain. It
// waits for those that are about to return.
func leftBehind() (stacks string) {
	all := make([]byte, 16<<20)
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		stacks = ""
		for stack := range strings.SplitSeq(string(all[:runtime.Stack(all, true)]), "\n\n") {
			if strings.Contains(stack, "created by chat.") && !strings.Contains(stack, "_test.go") {
				stacks += stack + "\n\n"
			}
		}
		if stacks == "" {
			break
		}
	}
	return stacks
}

// startServer runs the chat on a free port of 127.0.0.1 and returns its address.
// stop ends it; so does the end of the test.
func startServer(t testing.TB, maxMessage int) (addr string, stop func()) {
	t.Helper()
	cfg := defaults
	cfg.maxMessage = maxMessage
	addr, _, stop = startWith(t, cfg)
	return addr, stop
}

// startWith does so with any configuration, save where it listens.
func startWith(t testing.TB, cfg config) (addr string, hub *Hub, stop func()) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	hub, stop = start(listener, cfg)
	t.Cleanup(stop)
	return listener.Addr().String(), hub, stop
}

// start runs the chat on listener. The function it returns stops it and waits
// until everyone has been let go; it may be called again.
func start(listener net.Listener, cfg config) (hub *Hub, stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	hub = newHub(cfg.history)
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		serve(ctx, listener, hub, cfg)
	}()
	return hub, func() {
		cancel()
		<-closed
	}
}

// pipeListener accepts connections in memory: for a testing/synctest bubble, where
// time passes only when everyone waits, and real sockets don't count as waiting.
type pipeListener struct{ conns chan net.Conn }

func newPipeListener() pipeListener { return pipeListener{make(chan net.Conn)} }

// startInBubble runs the chat in memory until stop, or the end of the test.
func startInBubble(t *testing.T) (l pipeListener, stop func()) {
	return startInBubbleWith(t, defaults)
}

// startInBubbleWith does so with any configuration.
func startInBubbleWith(t *testing.T, cfg config) (l pipeListener, stop func()) {
	l = newPipeListener()
	_, stop = start(l, cfg)
	t.Cleanup(stop)
	return l, stop
}

// joinInBubble starts a chat in memory and connects to it.
func joinInBubble(t *testing.T) *rawPeer {
	l, _ := startInBubble(t)
	return upgrade(t, l.dial(t))
}

func (l pipeListener) Accept() (net.Conn, error) {
	if conn, ok := <-l.conns; ok {
		return conn, nil
	}
	return nil, net.ErrClosed
}

func (l pipeListener) Close() error   { close(l.conns); return nil }
func (l pipeListener) Addr() net.Addr { return &net.TCPAddr{} }

// dial returns the client's end of a new connection.
func (l pipeListener) dial(t *testing.T) net.Conn {
	up, upServer := net.Pipe()
	down, downServer := net.Pipe()
	l.conns <- duplex{upServer, downServer}
	client := duplex{down, up}
	t.Cleanup(func() { client.Close() })
	return client
}

// duplex is a connection in memory of which each half can be closed by itself,
// as with TCP: what is read comes from the embedded pipe, out takes what is written.
type duplex struct {
	net.Conn
	out net.Conn
}

func (d duplex) Write(b []byte) (int, error)        { return d.out.Write(b) }
func (d duplex) CloseWrite() error                  { return d.out.Close() }
func (d duplex) Close() error                       { return errors.Join(d.out.Close(), d.Conn.Close()) }
func (d duplex) SetWriteDeadline(t time.Time) error { return d.out.SetWriteDeadline(t) }
func (d duplex) SetDeadline(t time.Time) error {
	return errors.Join(d.out.SetWriteDeadline(t), d.Conn.SetReadDeadline(t))
}

// join connects to the chat with x/net's own client.
func join(t *testing.T, addr string) *websocket.Conn {
	t.Helper()
	ws, err := websocket.Dial("ws://"+addr+"/ws", "", "http://"+addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ws.Close() })
	ws.SetDeadline(time.Now().Add(time.Minute))
	return ws
}

// say sends one message.
func say(t *testing.T, ws *websocket.Conn, text string) {
	t.Helper()
	if err := websocket.Message.Send(ws, text); err != nil {
		t.Fatalf("saying %.40q: %v", text, err)
	}
}

// lines returns a function that returns the next line that ws hears.
func lines(t *testing.T, ws *websocket.Conn) func() string {
	var waiting []string
	return func() string {
		t.Helper()
		if len(waiting) == 0 {
			var message string
			if err := websocket.Message.Receive(ws, &message); err != nil {
				t.Fatalf("waiting for a line: %v", err)
			}
			waiting = strings.Split(message, "\n")
		}
		line := waiting[0]
		waiting = waiting[1:]
		return line
	}
}

// rawPeer is a client that may send any bytes, and sees each frame.
type rawPeer struct {
	net.Conn
	t  testing.TB
	in *bufio.Reader
}

// upgradeRequest is a client's handshake.
const upgradeRequest = "GET /ws HTTP/1.1\r\nHost: chat\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" +
	"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"

// upgrade makes a rawPeer of conn.
func upgrade(t testing.TB, conn net.Conn) *rawPeer {
	t.Helper()
	return upgradeAt(t, conn, "/ws")
}

// upgradeAt does so with another request target.
func upgradeAt(t testing.TB, conn net.Conn, target string) *rawPeer {
	t.Helper()
	p := &rawPeer{conn, t, bufio.NewReader(conn)}
	p.write([]byte(strings.Replace(upgradeRequest, "/ws", target, 1)))
	p.readHandshake()
	return p
}

// joinRaw connects to the chat as a rawPeer.
func joinRaw(t testing.TB, addr string) *rawPeer {
	t.Helper()
	return upgrade(t, dial(t, addr))
}

// dial connects to the chat until the end of the test, but no longer than a minute.
func dial(t testing.TB, addr string) net.Conn {
	t.Helper()
	return dialWith(t, addr, new(net.Dialer))
}

// dialWith does so with a dialer.
func dialWith(t testing.TB, addr string, dialer *net.Dialer) net.Conn {
	t.Helper()
	conn, err := dialer.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(time.Minute))
	return conn
}

// readHandshake reads the server's answer to upgradeRequest.
func (p *rawPeer) readHandshake() {
	p.t.Helper()
	response, err := http.ReadResponse(p.in, nil)
	if err != nil || response.StatusCode != http.StatusSwitchingProtocols {
		p.t.Fatalf("handshake: %v %v", response, err)
	}
}

// write writes bytes as they are.
func (p *rawPeer) write(b []byte) {
	p.t.Helper()
	if _, err := p.Conn.Write(b); err != nil {
		p.t.Fatal(err)
	}
}

// send sends a final frame.
func (p *rawPeer) send(opcode byte, payload string) {
	p.t.Helper()
	p.write(clientFrame(0x80|opcode, payload))
}

// clientFrame returns a masked frame with the given first byte.
func clientFrame(first byte, payload string) []byte {
	b := []byte{first, 0x80}
	switch n := len(payload); {
	case n <= 125:
		b[1] |= byte(n)
	case n <= 0xffff:
		b[1] |= 126
		b = binary.BigEndian.AppendUint16(b, uint16(n))
	default:
		b[1] |= 127
		b = binary.BigEndian.AppendUint64(b, uint64(n))
	}
	mask := [4]byte{0x37, 0xfa, 0x21, 0x3d}
	b = append(b, mask[:]...)
	for i := range len(payload) {
		b = append(b, payload[i]^mask[i%4])
	}
	return b
}

// readFrame reads a frame of the server, on any goroutine, and fails the test unless
// it is one that a server may send (RFC 6455, sections 5.2, 5.5, 7.4 and 8.1). This one sends no
// fragments.
func (p *rawPeer) readFrame() (opcode byte, payload string, err error) {
	p.t.Helper()
	var head [10]byte
	if _, err := io.ReadFull(p.in, head[:2]); err != nil {
		return 0, "", err
	}
	opcode = head[0] & 0x0f
	length, shortest := uint64(head[1]), uint64(0) // a set mask bit makes it longer than 127
	switch length {
	case 126:
		_, err = io.ReadFull(p.in, head[2:4])
		length, shortest = uint64(binary.BigEndian.Uint16(head[2:])), 126
	case 127:
		_, err = io.ReadFull(p.in, head[2:])
		length, shortest = binary.BigEndian.Uint64(head[2:]), 1<<16
	}
	var body bytes.Buffer
	if err == nil {
		_, err = io.CopyN(&body, p.in, int64(length))
	}
	if err != nil {
		return opcode, "", err
	}
	payload = body.String()

	legal := false
	switch opcode {
	case websocket.TextFrame:
		legal = utf8.ValidString(payload)
	case websocket.PingFrame, websocket.PongFrame:
		legal = length <= 125
	case websocket.CloseFrame:
		n := closeCode(payload)
		legal = length <= 125 && (length == 0 || n >= 1000 && n < 5000 && utf8.ValidString(payload[2:]))
	}
	if !legal || head[0]&0xf0 != 0x80 || head[1] > 127 || length < shortest {
		err = fmt.Errorf("not a frame for a server to send: %x, %s", head, show(opcode, payload))
		p.t.Error(err)
	}
	return opcode, payload, err
}

// closeCode returns the code in a close frame's payload, or noCode.
func closeCode(payload string) int {
	if len(payload) < 2 {
		return noCode
	}
	return int(binary.BigEndian.Uint16([]byte(payload)))
}

// noCode stands for a close frame without a code.
const noCode = 0

// expect reads the next frame, passing over the server's own pings, and compares it.
func (p *rawPeer) expect(opcode byte, payload string) {
	p.t.Helper()
	gotOpcode, got, err := p.readFrame()
	for err == nil && gotOpcode == websocket.PingFrame && opcode != websocket.PingFrame {
		gotOpcode, got, err = p.readFrame()
	}
	if err != nil || gotOpcode != opcode || got != payload {
		p.t.Fatalf("got %s, %v; want %s", show(gotOpcode, got), err, show(opcode, payload))
	}
}

// expectClose reads a close frame with that code, then the end of the connection.
// Pongs may come before it.
func (p *rawPeer) expectClose(code int) {
	p.t.Helper()
	opcode, payload, err := p.readFrame()
	for err == nil && opcode == websocket.PongFrame {
		opcode, payload, err = p.readFrame()
	}
	if err != nil || opcode != websocket.CloseFrame || closeCode(payload) != code {
		p.t.Fatalf("got %s, %v; want a close frame with %d", show(opcode, payload), err, code)
	}
	if b, err := p.in.ReadByte(); err != io.EOF {
		p.t.Fatalf("got %#x, %v after the close frame; want EOF", b, err)
	}
}

// talksUntilClosed sends messages that nobody wants any more, in a bubble, and
// expects that they can't be sent after d.
func (p *rawPeer) talksUntilClosed(d time.Duration) {
	p.t.Helper()
	const pause = 100 * time.Millisecond
	began := time.Now()
	for {
		if _, err := p.Conn.Write(clientFrame(0x81, "are you still there?")); err != nil {
			break
		}
		time.Sleep(pause)
	}
	if took := time.Since(began); took < d || took > d+pause {
		p.t.Errorf("closed after %v, want %v", took, d)
	}
}

func show(opcode byte, payload string) string {
	return fmt.Sprintf("opcode %d, %d bytes %.60q", opcode, len(payload), payload)
}
