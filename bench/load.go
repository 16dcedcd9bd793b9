// load.go: the load generator. One thread and one epoll drive all the connections
// with raw frames, so that as much of the machine as possible is left to the server.

package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"runtime"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// traffic is what a load generator is to do.
type traffic struct {
	conns   int     // connections
	senders int     // how many of them speak
	rate    float64 // lines a second, of all senders together; 0 is as fast as they can
	size    int     // bytes in a line
	slow    int     // one in that many connections reads slowSpeed, and doesn't count; 0 is none

	warmUp, measure time.Duration
}

// outcome is what came of it. Lines and latency are those of the measured time,
// everything else is of the whole run.
type outcome struct {
	lines   uint64                  // received, by all connections together
	latency *hdrhistogram.Histogram // nanoseconds from when a line was due to its arrival

	connsLost int
	linesLost uint64 // by connections that were not lost themselves
	repeated  uint64 // lines that came again, or behind a later one of their sender
	corrupt   uint64 // lines that nobody said
}

const (
	// Bytes a second that a slow connection reads, each slowPeriod at most.
	slowSpeed  = 50_000
	slowPeriod = 50 * time.Millisecond

	// Bytes that the system may hold for a slow connection.
	slowBuffer = 64 << 10

	// Latencies are kept up to this long, to three digits.
	maxLatency = 2 * time.Minute

	// Lines that a sender without a pause hands to the kernel at once.
	batch = 64

	// After the last line was sent, those on their way are waited for until nothing has
	// come for quietTime: then those that are missing are lost. Where they still come
	// after drainTime, they are not waited for, and not counted as lost.
	quietTime = 2 * time.Second
	drainTime = 3 * time.Second
)

// load is a running load generator.
type load struct {
	traffic
	outcome

	epoll  int
	timer  int // timerfd that counts lines as they become due
	start  time.Time
	peers  []*peer
	due    int64    // lines that have become due
	slowAt int64    // when slow connections read last
	sent   []uint32 // lines by sender
	stop   bool     // nothing new is said
	buffer []byte
}

// peer is one connection.
type peer struct {
	fd     int
	index  int // in load.peers
	sender int // its number as a sender, or -1
	lost   bool
	slow   bool // it is read at slowSpeed, without epoll

	carry   []byte   // the beginning of a frame header, or of a control frame
	inFrame bool     // a frame is being read:
	fin     bool     // it ends its message
	left    int      // bytes of it to come
	partial []byte   // the beginning of a line
	next    []uint32 // by sender, the number of the line that comes next

	out     []byte // frames that the kernel has not taken yet
	writing bool   // epoll watches for room for them
}

// connect opens the connections of a load.
func connect(ctx context.Context, addr *net.TCPAddr, t traffic) (*load, error) {
	l := &load{
		traffic: t,
		outcome: outcome{latency: hdrhistogram.New(1, int64(maxLatency), 3)},
		epoll:   -1,
		timer:   -1,
		start:   time.Now(),
		peers:   make([]*peer, t.conns),
		sent:    make([]uint32, t.senders),
		buffer:  make([]byte, 256<<10),
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(16)
	for i := range l.peers {
		group.Go(func() (err error) {
			if err := ctx.Err(); err != nil {
				return err
			}
			l.peers[i], err = dial(addr, i)
			if err != nil {
				return fmt.Errorf("connection %d of %d: %w", i+1, t.conns, err)
			}
			l.peers[i].next = make([]uint32, t.senders)
			if i < t.senders {
				l.peers[i].sender = i
			}
			if t.slow > 0 && i >= t.conns-t.conns/t.slow {
				l.peers[i].slow = true
				return unix.SetsockoptInt(l.peers[i].fd, unix.SOL_SOCKET, unix.SO_RCVBUF, slowBuffer)
			}
			return nil
		})
	}
	err := group.Wait()
	if err == nil {
		err = l.watchAll()
	}
	if err != nil {
		l.close()
		return nil, err
	}
	return l, nil
}

// watchAll makes the epoll, with the timer and every connection in it but the slow ones.
func (l *load) watchAll() (err error) {
	if l.epoll, err = unix.EpollCreate1(0); err != nil {
		return err
	}
	if l.timer, err = unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_NONBLOCK); err != nil {
		return err
	}
	if err := l.watch(unix.EPOLL_CTL_ADD, l.timer, timerEvent, unix.EPOLLIN); err != nil {
		return err
	}
	for i, p := range l.peers {
		if p.slow {
			continue
		}
		if err := l.watch(unix.EPOLL_CTL_ADD, p.fd, i, unix.EPOLLIN); err != nil {
			return err
		}
	}
	return nil
}

// timerEvent stands for the timer where events name connections by their index.
const timerEvent = -1

func (l *load) watch(op, fd, index int, events uint32) error {
	return unix.EpollCtl(l.epoll, op, fd, &unix.EpollEvent{Events: events, Fd: int32(index)})
}

// sourceIP returns where the connection with that index comes from. Each thousand has an address of
// its own: one has some 28,000 ports.
func sourceIP(index int) net.IP { return net.IP{127, 0, 1, byte(1 + index/1000%250)} }

// dial opens the connection with that index.
func dial(addr *net.TCPAddr, index int) (*peer, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	p := &peer{fd: fd, index: index, sender: -1}
	to := &unix.SockaddrInet4{Port: addr.Port, Addr: [4]byte(addr.IP.To4())}
	from := &unix.SockaddrInet4{Addr: [4]byte(sourceIP(index))}
	unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1)
	unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
	unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 10})
	if err := unix.Bind(fd, from); err != nil {
		return nil, errors.Join(fmt.Errorf("bind: %w", err), unix.Close(fd))
	}
	if err := unix.Connect(fd, to); err != nil {
		return nil, errors.Join(fmt.Errorf("connect: %w", err), unix.Close(fd))
	}
	in, err := shakeHands(p, "")
	if err != nil {
		return nil, errors.Join(err, unix.Close(fd))
	}
	early, _ := in.Peek(in.Buffered())
	p.carry = bytes.Clone(early)
	return p, unix.SetNonblock(fd, true)
}

// Read and Write are for the handshake alone, and block.
func (p *peer) Read(b []byte) (int, error) {
	n, err := unix.Read(p.fd, b)
	for err == unix.EINTR { // with a time limit, the system doesn't try again by itself
		n, err = unix.Read(p.fd, b)
	}
	if n <= 0 {
		return 0, errors.Join(errors.New("no answer to the handshake"), err)
	}
	return n, nil
}

func (p *peer) Write(b []byte) (int, error) { return unix.Write(p.fd, b) }

// close closes all connections.
func (l *load) close() {
	for _, p := range l.peers {
		if p != nil && !p.lost {
			unix.Close(p.fd)
		}
	}
	for _, fd := range []int{l.epoll, l.timer} {
		if fd >= 0 {
			unix.Close(fd)
		}
	}
}

// run sends and receives for the warm-up and the measured time, and then waits for
// what is still on its way. measuring is called when the measured time begins and
// when it ends. It ends early, with ctx's error, when ctx is done.
func (l *load) run(ctx context.Context, measuring func() error) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := l.begin(); err != nil {
		return err
	}
	if err := l.spin(ctx, l.warmUp); err != nil {
		return err
	}
	l.latency.Reset()
	l.lines = 0
	if err := errors.Join(measuring(), l.spin(ctx, l.measure), measuring()); err != nil {
		return err
	}
	lines, latency := l.lines, hdrhistogram.Import(l.latency.Export())
	drained, err := l.drain(ctx)
	if err != nil {
		return err
	}
	if drained {
		l.countMissing()
	}
	l.lines, l.latency = lines, latency
	return nil
}

// begin starts the timer, or the senders that know no pause.
func (l *load) begin() error {
	if l.senders == 0 {
		return nil
	}
	if l.rate > 0 {
		period := unix.NsecToTimespec(int64(float64(time.Second) / l.rate))
		return unix.TimerfdSettime(l.timer, 0, &unix.ItimerSpec{Interval: period, Value: period}, nil)
	}
	for _, p := range l.peers[:l.senders] {
		l.write(p)
	}
	return nil
}

// spin serves events for d.
func (l *load) spin(ctx context.Context, d time.Duration) error {
	for end := time.Now().Add(d); ; {
		left := time.Until(end)
		if left <= 0 {
			return nil
		}
		if _, err := l.serve(min(left, slowPeriod)); err != nil {
			return err
		}
		l.readSlowly()
		if err := ctx.Err(); err != nil {
			return err
		}
	}
}

// drain has the senders finish and waits for the lines on their way. It reports
// whether there are no more of them.
func (l *load) drain(ctx context.Context) (bool, error) {
	l.stop = true
	if err := unix.TimerfdSettime(l.timer, 0, &unix.ItimerSpec{}, nil); err != nil {
		return false, err
	}
	quiet, end := time.Now().Add(quietTime), time.Now().Add(drainTime)
	for !l.complete() && time.Now().Before(quiet) {
		if time.Now().After(end) {
			return false, nil
		}
		served, err := l.serve(50 * time.Millisecond)
		if err = errors.Join(err, ctx.Err()); err != nil {
			return false, err
		}
		if served > 0 {
			quiet = time.Now().Add(quietTime)
		}
	}
	return true, nil
}

// complete reports whether everything has arrived that was said by those who are
// still connected.
func (l *load) complete() bool {
	for _, p := range l.peers {
		for sender, next := range p.next {
			if !p.lost && !p.slow && !l.peers[sender].lost && next < l.sent[sender] {
				return false
			}
		}
	}
	return true
}

// countMissing counts the lines that have not come at all.
func (l *load) countMissing() {
	for _, p := range l.peers {
		for sender, next := range p.next {
			if !p.lost && !p.slow && !l.peers[sender].lost {
				l.linesLost += uint64(l.sent[sender] - next)
			}
		}
	}
}

// serve waits up to d for events, and serves them.
func (l *load) serve(d time.Duration) (served int, err error) {
	var events [512]unix.EpollEvent
	n, err := unix.EpollWait(l.epoll, events[:], int(max(d.Milliseconds(), 1)))
	if err != nil && err != unix.EINTR {
		return 0, fmt.Errorf("epoll: %w", err)
	}
	now := l.now()
	for _, event := range events[:max(n, 0)] {
		if event.Fd == timerEvent {
			l.sayWhatIsDue()
			continue
		}
		p := l.peers[event.Fd]
		if event.Events&unix.EPOLLOUT != 0 && !p.lost {
			l.write(p)
		}
		if event.Events&^unix.EPOLLOUT != 0 && !p.lost {
			l.receive(p, now, len(l.buffer))
		}
	}
	return max(n, 0), nil
}

// now is the time as lines carry it.
func (l *load) now() int64 { return time.Since(l.start).Nanoseconds() }

// sayWhatIsDue has the senders, in turn, say the lines that have become due. The
// time that a line was due at is counted back from now, by the rate.
func (l *load) sayWhatIsDue() {
	var expired [8]byte
	if _, err := unix.Read(l.timer, expired[:]); err != nil {
		return
	}
	n := int64(binary.NativeEndian.Uint64(expired[:]))
	period, now := int64(float64(time.Second)/l.rate), l.now()
	for i := range n {
		p := l.peers[int(l.due)%l.senders]
		l.due++
		if !p.lost {
			l.say(p, now-(n-1-i)*period)
			l.write(p)
		}
	}
}

// say adds a line of p to what it has to send.
func (l *load) say(p *peer, due int64) {
	line := appendLine(nil, l.size, p.sender, l.sent[p.sender], due)
	l.sent[p.sender]++
	p.out = appendFrame(p.out, line)
}

// write hands p's frames to the kernel, as far as it takes them; a sender without a
// pause makes new ones when it has none.
func (l *load) write(p *peer) {
	if len(p.out) == 0 && l.rate == 0 && p.sender >= 0 && !l.stop {
		for now := l.now(); len(p.out) < batch*l.size; {
			l.say(p, now)
		}
	}
	n, err := unix.Write(p.fd, p.out)
	if err != nil && err != unix.EAGAIN && err != unix.EINTR {
		l.lose(p)
		return
	}
	p.out = append(p.out[:0], p.out[max(n, 0):]...)
	if more := len(p.out) > 0 || l.rate == 0 && !l.stop; more != p.writing {
		p.writing = more
		events := uint32(unix.EPOLLIN)
		if more {
			events |= unix.EPOLLOUT
		}
		l.watch(unix.EPOLL_CTL_MOD, p.fd, p.index, events)
	}
}

// lose gives up a connection that the server has ended.
func (l *load) lose(p *peer) {
	p.lost = true
	l.connsLost++
	unix.Close(p.fd)
}

// readSlowly reads what slow connections may have read by now.
func (l *load) readSlowly() {
	now := l.now()
	elapsed := time.Duration(now - l.slowAt)
	if elapsed < slowPeriod {
		return
	}
	l.slowAt = now
	for _, p := range l.peers {
		if p.slow && !p.lost {
			l.receive(p, now, int(slowSpeed*elapsed/time.Second))
		}
	}
}

// receive reads what has come for p, up to limit bytes.
func (l *load) receive(p *peer, now int64, limit int) {
	carried := copy(l.buffer, p.carry)
	p.carry = p.carry[:0]
	n, err := unix.Read(p.fd, l.buffer[carried:min(carried+limit, len(l.buffer))])
	if err == unix.EAGAIN || err == unix.EINTR {
		n = 0
	} else if n <= 0 {
		l.lose(p)
		return
	}
	for b := l.buffer[:carried+n]; len(b) > 0; {
		used := l.frame(p, b, now)
		if used < 0 {
			l.lose(p)
			return
		}
		if used == 0 {
			p.carry = append(p.carry, b...)
			return
		}
		b = b[used:]
	}
}

// frame reads one frame of p, or as much as there is of it, and returns how many
// bytes that took: 0 if there are too few, -1 if the connection is over.
func (l *load) frame(p *peer, b []byte, now int64) (used int) {
	if !p.inFrame {
		h, err := parseFrameHeader(b)
		switch {
		case err != nil || h.opcode == 0x8:
			return -1
		case h.size == 0 || h.opcode > 0x8 && len(b) < h.size+h.length:
			return 0
		case h.opcode == 0x9:
			p.out = appendPong(p.out, b[h.size:h.size+h.length])
			l.write(p)
			fallthrough
		case h.opcode == 0xa:
			return h.size + h.length
		}
		p.inFrame, p.fin, p.left = true, h.fin, h.length
		used = h.size
	}
	payload := b[used:min(len(b), used+p.left)]
	l.text(p, payload, now)
	if p.left -= len(payload); p.left == 0 {
		p.inFrame = false
		if p.fin {
			l.line(p, p.partial, now)
			p.partial = p.partial[:0]
		}
	}
	return used + len(payload)
}

// text takes the lines out of a piece of a message. The last one is only known to
// be whole at the message's end.
func (l *load) text(p *peer, b []byte, now int64) {
	for len(b) > 0 {
		if len(p.partial) == 0 && len(b) > l.size && b[l.size] == '\n' { // nearly always
			l.line(p, b[:l.size], now)
			b = b[l.size+1:]
			continue
		}
		end := bytes.IndexByte(b, '\n')
		if end < 0 {
			p.partial = append(p.partial, b...)
			return
		}
		p.partial = append(p.partial, b[:end]...)
		l.line(p, p.partial, now)
		p.partial = p.partial[:0]
		b = b[end+1:]
	}
}

// line checks and counts one line.
func (l *load) line(p *peer, line []byte, now int64) {
	sender, number, due, ok := parseLine(line)
	if !ok || len(line) != l.size || sender >= len(l.sent) || number >= l.sent[sender] {
		l.corrupt++
		return
	}
	switch next := p.next[sender]; {
	case number < next:
		l.repeated++
		return
	case number > next:
		l.linesLost += uint64(number - next)
	}
	p.next[sender] = number + 1
	if p.slow {
		return
	}
	l.lines++
	l.latency.RecordValue(min(max(now-due, 1), int64(maxLatency)))
}
