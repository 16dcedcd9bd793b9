// Command floor is the least that a broadcast over WebSocket can cost: one thread,
// epoll, no library. It trusts its peers (no checks, no pings, no limits) and joins
// all the lines of one round of epoll into one frame. Nobody should run it; it is
// there to be compared with.
package main

import (
	"bytes"
	"crypto/sha1"
	"encoding/base64"
	"encoding/binary"
	"flag"
	"log"
	"net"
	"runtime"
	"slices"

	"golang.org/x/sys/unix"
)

const (
	// The most bytes of lines that are joined into one frame.
	roundLimit = 64 << 10

	// While more bytes than this wait for sockets to take them, nothing is read. What
	// has been read by then may go far over it: it goes to everyone.
	keptLimit = 64 << 20
)

// peer is one connection.
type peer struct {
	fd   int
	open bool   // the handshake has been answered
	in   []byte // what has been read and not been used
	out  []byte // what the socket did not take; while there is any, outs watches it
}

type server struct {
	listener int
	peers    map[int]*peer
	ins      int    // epoll of what can be read; outs is one of these
	outs     int    // epoll of what can be written again
	kept     int    // bytes that wait in all the peers' out
	round    []byte // the lines of this round, each with its '\n'
	buffer   [64 << 10]byte
}

func main() {
	addr := flag.String("addr", "127.0.0.1:8080", "listen on `host:port`")
	flag.Parse()
	runtime.LockOSThread()
	s := &server{peers: map[int]*peer{}, listener: listen(*addr)}
	s.ins, s.outs = must(unix.EpollCreate1(0)), must(unix.EpollCreate1(0))
	watch(s.ins, s.listener, unix.EPOLLIN)
	watch(s.ins, s.outs, unix.EPOLLIN)
	for {
		if s.kept < keptLimit {
			s.readRound()
		}
		if s.kept > 0 {
			s.flushRound()
		}
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		log.Fatal(err)
	}
	return v
}

func listen(addr string) (fd int) {
	tcp := must(net.ResolveTCPAddr("tcp4", addr))
	fd = must(unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK, 0))
	unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
	at := &unix.SockaddrInet4{Port: tcp.Port}
	copy(at.Addr[:], tcp.IP.To4())
	if err := unix.Bind(fd, at); err != nil {
		log.Fatal(err)
	}
	if err := unix.Listen(fd, 4096); err != nil {
		log.Fatal(err)
	}
	return fd
}

func watch(epoll, fd int, events uint32) {
	unix.EpollCtl(epoll, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: events, Fd: int32(fd)})
}

// wait returns what is ready in an epoll, waiting for it up to timeout ms, or for
// ever if that is -1.
func wait(epoll int, events []unix.EpollEvent, timeout int) []unix.EpollEvent {
	n, err := unix.EpollWait(epoll, events, timeout)
	if err != nil && err != unix.EINTR {
		log.Fatal(err)
	}
	return events[:max(n, 0)]
}

// readRound waits until something can be read or written, and serves all that can
// be read.
func (s *server) readRound() {
	var events [1024]unix.EpollEvent
	for _, event := range wait(s.ins, events[:], -1) {
		if fd := int(event.Fd); fd == s.listener {
			s.accept()
		} else if p := s.peers[fd]; p != nil {
			s.read(p)
		}
		if len(s.round) >= roundLimit {
			s.fanOut()
		}
		if s.kept >= keptLimit {
			break // epoll will tell again
		}
	}
	s.fanOut()
}

// flushRound writes where it can be written again. It waits for that if too much
// is kept to go on reading.
func (s *server) flushRound() {
	timeout := 0
	if s.kept >= keptLimit {
		timeout = -1
	}
	var events [1024]unix.EpollEvent
	for _, event := range wait(s.outs, events[:], timeout) {
		if p := s.peers[int(event.Fd)]; p != nil {
			s.flush(p)
		}
	}
}

func (s *server) accept() {
	for {
		fd, _, err := unix.Accept4(s.listener, unix.SOCK_NONBLOCK)
		if err != nil {
			return
		}
		unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
		s.peers[fd] = &peer{fd: fd}
		watch(s.ins, fd, unix.EPOLLIN)
	}
}

func (s *server) drop(p *peer) {
	s.kept -= len(p.out)
	delete(s.peers, p.fd)
	unix.Close(p.fd)
}

func (s *server) read(p *peer) {
	n, err := unix.Read(p.fd, s.buffer[:])
	if err == unix.EAGAIN || err == unix.EINTR {
		return
	}
	if n <= 0 {
		s.drop(p)
		return
	}
	in := s.buffer[:n]
	if len(p.in) > 0 {
		p.in = append(p.in, in...)
		in = p.in
	}
	if !p.open {
		end := bytes.Index(in, []byte("\r\n\r\n"))
		if end < 0 {
			p.in = slices.Clone(in)
			return
		}
		p.open = true
		s.write(p, handshake(in[:end]))
		in = in[end+4:]
	}
	for {
		used := s.frame(p, in)
		if used == 0 {
			break
		}
		in = in[used:]
	}
	p.in = append(p.in[:0], in...)
}

// frame takes a frame from in, if a whole one is there, and returns its length.
func (s *server) frame(p *peer, in []byte) int {
	if len(in) < 6 {
		return 0
	}
	length, head := int(in[1]&0x7f), 2
	switch {
	case length == 126 && len(in) >= 8:
		length, head = int(binary.BigEndian.Uint16(in[2:])), 4
	case length == 127 && len(in) >= 14:
		length, head = int(binary.BigEndian.Uint64(in[2:])), 10
	case length > 125:
		return 0
	}
	end := head + 4 + length
	if len(in) < end {
		return 0
	}
	mask, payload := in[head:head+4], in[head+4:end]
	for i := range payload {
		payload[i] ^= mask[i&3]
	}
	switch in[0] & 0x0f {
	case 0x1:
		s.round = append(append(s.round, payload...), '\n')
	case 0x8:
		s.write(p, []byte{0x88, 0})
		unix.Shutdown(p.fd, unix.SHUT_WR)
	}
	return end
}

// handshake answers an upgrade request (RFC 6455, section 4.2.2).
func handshake(request []byte) []byte {
	const name, guid = "Sec-WebSocket-Key: ", "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
	_, key, _ := bytes.Cut(request, []byte(name))
	key, _, _ = bytes.Cut(key, []byte("\r\n"))
	sum := sha1.Sum(append(slices.Clone(key), guid...))
	return []byte("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
		"Sec-WebSocket-Accept: " + base64.StdEncoding.EncodeToString(sum[:]) + "\r\n\r\n")
}

// fanOut sends the lines of this round to everyone, as one message.
func (s *server) fanOut() {
	if len(s.round) == 0 {
		return
	}
	payload := s.round[:len(s.round)-1]
	frame := []byte{0x81, byte(len(payload))}
	switch n := len(payload); {
	case n > 0xffff:
		frame = binary.BigEndian.AppendUint64([]byte{0x81, 127}, uint64(n))
	case n > 125:
		frame = binary.BigEndian.AppendUint16([]byte{0x81, 126}, uint16(n))
	}
	frame = append(frame, payload...)
	for _, p := range s.peers {
		if p.open {
			s.write(p, frame)
		}
	}
	s.round = s.round[:0]
}

// write sends b to p, or keeps what its socket does not take.
func (s *server) write(p *peer, b []byte) {
	if len(p.out) == 0 {
		n, err := unix.Write(p.fd, b)
		if err != nil {
			n = 0
		}
		b = b[n:]
	}
	if len(b) == 0 {
		return
	}
	if len(p.out) == 0 {
		watch(s.outs, p.fd, unix.EPOLLOUT)
	}
	p.out = append(p.out, b...)
	s.kept += len(b)
}

// flush sends what was kept for p.
func (s *server) flush(p *peer) {
	n, err := unix.Write(p.fd, p.out)
	if err == unix.EAGAIN || err == unix.EINTR {
		return
	}
	if err != nil {
		s.drop(p)
		return
	}
	p.out = append(p.out[:0], p.out[n:]...)
	s.kept -= n
	if len(p.out) == 0 {
		p.out = nil
		unix.EpollCtl(s.outs, unix.EPOLL_CTL_DEL, p.fd, nil)
	}
}
