package e2e

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/websocket"

	"example.com/chat/internal/wstest"
)

// attack is what each of its attackers does repeatedly, until ctx is done. Its calls of the network may fail.
type attack struct {
	name      string
	attackers int
	do        func(ctx context.Context, a *attacker)
}

// attacker has the connections that one call of attack.do has opened. They are closed when the call returns.
type attacker struct {
	addr string
	open []net.Conn
}

// dial opens a connection. If that fails, it returns a closed one.
func (a *attacker) dial(ctx context.Context) net.Conn { return a.dialWith(ctx, new(net.Dialer)) }

// dialWith is dial with the given dialer.
func (a *attacker) dialWith(ctx context.Context, dialer *net.Dialer) net.Conn {
	conn, err := dialer.DialContext(ctx, "tcp", a.addr)
	if err != nil {
		conn, _ = net.Pipe()
		conn.Close()
		return conn
	}
	a.open = append(a.open, conn)
	conn.SetDeadline(time.Now().Add(time.Minute))
	context.AfterFunc(ctx, func() { conn.Close() })
	return conn
}

// join opens a WebSocket.
func (a *attacker) join(ctx context.Context) net.Conn { return upgraded(a.dial(ctx)) }

// joinSmall opens a WebSocket with a small receive buffer.
func (a *attacker) joinSmall(ctx context.Context) net.Conn {
	return upgraded(a.dialWith(ctx, wstest.SmallBuffers))
}

// upgraded sends a handshake on conn, and reads the head of the answer.
func upgraded(conn net.Conn) net.Conn {
	io.WriteString(conn, wstest.Request("/ws"))
	for in := bufio.NewReaderSize(conn, 16); ; {
		if line, err := in.ReadString('\n'); err != nil || line == "\r\n" {
			return conn
		}
	}
}

// stay waits until the attack is over.
func stay(ctx context.Context) { <-ctx.Done() }

// drip writes b byte by byte.
func drip(ctx context.Context, conn net.Conn, b string) {
	for i := 0; i < len(b) && ctx.Err() == nil; i++ {
		io.WriteString(conn, b[i:i+1])
		time.Sleep(10 * time.Millisecond)
	}
}

// attacks are those on a chat without flags.
var attacks = []attack{
	{"500 half-open requests", 100, func(ctx context.Context, a *attacker) {
		for i := range 5 {
			io.WriteString(a.dial(ctx), wstest.Request("/ws")[:len(wstest.Request("/ws"))*i/5])
		}
		stay(ctx)
	}},
	{"500 handshakes never finished", 100, func(ctx context.Context, a *attacker) {
		for range 5 {
			io.WriteString(a.dial(ctx), wstest.Request("/ws")) // nobody reads the answer
		}
		stay(ctx)
	}},
	{"one byte at a time", 100, func(ctx context.Context, a *attacker) {
		drip(ctx, a.dial(ctx), wstest.Request("/ws")+string(wstest.Frame(0x81, "so slow")))
	}},
	{"a flood of pings", 4, func(ctx context.Context, a *attacker) {
		conn := a.join(ctx)
		go io.Copy(io.Discard, conn)
		wstest.Flood(conn, wstest.Frames(50, 0x89, strings.Repeat("x", 125)))
	}},
	{"a flood of pings whose pongs are not read", 4, func(ctx context.Context, a *attacker) {
		wstest.Flood(a.joinSmall(ctx), wstest.Frames(50, 0x89, strings.Repeat("x", 125)))
	}},
	{"a flood of pongs", 4, func(ctx context.Context, a *attacker) {
		wstest.Flood(a.join(ctx), wstest.Frames(500, 0x8a, ""))
	}},
	{"a flood of empty fragments", 4, func(ctx context.Context, a *attacker) {
		conn := a.join(ctx)
		conn.Write(wstest.Frame(0x01, ""))
		wstest.Flood(conn, wstest.Frames(500, 0x00, ""))
	}},
	{"oversized frames", 4, func(ctx context.Context, a *attacker) {
		a.join(ctx).Write([]byte("\x81\xff\x3f\xff\xff\xff\xff\xff\xff\xff\x00\x00\x00\x00and much more"))
		wstest.Flood(a.join(ctx), wstest.Frame(0x81, strings.Repeat("x", 1<<20)))
	}},
	{"readers of one byte a second", 25, func(ctx context.Context, a *attacker) {
		slow := a.joinSmall(ctx)
		go func() {
			for ctx.Err() == nil {
				slow.Read(make([]byte, 1))
				time.Sleep(time.Second)
			}
		}()
		talker := a.join(ctx) // so that there is much to read
		go io.Copy(io.Discard, talker)
		for pace := time.Tick(25 * time.Millisecond); ctx.Err() == nil; <-pace {
			talker.Write(wstest.Frame(0x81, strings.Repeat("x", 4000)))
		}
	}},
	{"joins and leaves, 2,000 a second", 8, func(ctx context.Context, a *attacker) {
		for pace := time.Tick(time.Second / 250); ctx.Err() == nil; <-pace {
			a.join(ctx).Close()
		}
	}},
	{"garbage after the handshake", 4, func(ctx context.Context, a *attacker) {
		garbage := make([]byte, 1000)
		for i := range garbage {
			garbage[i] = byte(rand.Uint32())
		}
		conn := a.join(ctx)
		conn.Write(garbage)
		io.Copy(io.Discard, conn)
	}},
	{"pages of other origins", 8, func(ctx context.Context, a *attacker) {
		conn := a.dial(ctx)
		io.WriteString(conn, strings.Replace(wstest.Request("/ws"), "\r\n\r\n", "\r\nOrigin: http://evil.example\r\nConnection: close\r\n\r\n", 1))
		io.Copy(io.Discard, conn)
	}},
	{"header bombs", 8, func(ctx context.Context, a *attacker) {
		conn := a.dial(ctx)
		io.WriteString(conn, "GET /ws HTTP/1.1\r\nHost: chat\r\n")
		wstest.Flood(conn, []byte(strings.Repeat("X-Bomb: "+strings.Repeat("x", 100)+"\r\n", 40)))
	}},
}

// During each attack three honest clients lose no line. Afterwards the chat holds no more than before, and it
// has logged little.
func TestAttacks(t *testing.T) {
	t.Parallel()
	for _, a := range attacks {
		t.Run(a.name, func(t *testing.T) {
			t.Parallel()
			p := startProgram(t, "-debug", "127.0.0.1:0")
			a.run(t, p, wstest.Dial)
			if n := len(p.log.String()); n > 100<<10 {
				t.Errorf("the chat logged %d bytes, want at most 100 KiB", n)
			}
		})
	}
}

// The same holds over TLS, where a peer can also leave the TLS handshake unfinished.
func TestAttackOnTLS(t *testing.T) {
	t.Parallel()
	certFile, keyFile := wstest.NewCertificate(t)
	p := startProgram(t, "-debug", "127.0.0.1:0", "-cert", certFile, "-key", keyFile)
	client, server := net.Pipe()
	go tls.Client(client, &tls.Config{ServerName: "chat"}).Handshake()
	hello := make([]byte, 16<<10)
	n, _ := server.Read(hello)
	server.Close()
	attack{"500 TLS handshakes never finished", 100, func(ctx context.Context, a *attacker) {
		for i := range 5 {
			a.dial(ctx).Write(hello[:n*i/4])
		}
		stay(ctx)
	}}.run(t, p, func(t testing.TB, addr string) net.Conn { return wstest.DialTLS(t, addr) })
}

// With -rate, the same holds during a flood of text.
func TestAttackWithRate(t *testing.T) {
	t.Parallel()
	p := startProgram(t, "-debug", "127.0.0.1:0", "-rate", "100")
	attack{"a flood of text", 8, func(ctx context.Context, a *attacker) {
		conn := a.join(ctx)
		go io.Copy(io.Discard, conn)
		wstest.Flood(conn, wstest.Frames(10, 0x81, strings.Repeat("x", 4000)))
	}}.run(t, p, wstest.Dial)
}

// run attacks p while honest clients talk. The test fails if they lose a line, or if p holds more afterwards.
func (a attack) run(t *testing.T, p program, dial func(testing.TB, string) net.Conn) {
	var honest []*wstest.Client
	for range 3 {
		honest = append(honest, wstest.Upgrade(t, dial(t, p.addr), "/ws"))
	}
	wstest.Crowd{Speakers: len(honest), Each: 1}.Meet(honest) // now all their goroutines run
	before, joined := p.holds(t), p.counters(t).Ever
	lasts := time.Second / 2
	if wstest.Long() {
		lasts = 10 * time.Second
	}
	ctx, end := context.WithTimeout(t.Context(), lasts)
	defer end()
	var running sync.WaitGroup
	for range a.attackers {
		running.Go(func() { a.repeat(ctx, p.addr) })
	}
	talk := &conversation{said: make([]atomic.Int64, len(honest))}
	for i, c := range honest {
		running.Go(func() { talk.speak(ctx, c, i, func() time.Duration { return 20 * time.Millisecond }) })
		running.Go(func() { talk.listen(c, nil) })
	}
	running.Wait()
	for _, c := range honest {
		go io.Copy(io.Discard, c.In) // the chat may still broadcast what attackers have sent
	}
	after := p.holdsNoMore(t, before)
	t.Logf("%d attackers joined; a line took at most %v; the chat held %+v before, %+v after",
		p.counters(t).Ever-joined, time.Duration(talk.longest.Load()), before, after)
	for _, c := range honest {
		c.Conn.Close()
	}
}

// repeat attacks addr until ctx is done.
func (a attack) repeat(ctx context.Context, addr string) {
	for ctx.Err() == nil {
		attacker := attacker{addr: addr}
		a.do(ctx, &attacker)
		for _, conn := range attacker.open {
			conn.Close()
		}
	}
}

// conversation is what its speakers say. Speaker I sends the lines "I N TIME", in which N counts from 0, and at
// last the line "I over".
type conversation struct {
	said    []atomic.Int64 // lines of each speaker, "I over" not included
	longest atomic.Int64   // the most nanoseconds from sending a line to receiving it
}

// speak sends the lines of speaker i, with pauses between them, until ctx is done.
func (v *conversation) speak(ctx context.Context, c *wstest.Client, i int, pause func() time.Duration) {
	for ctx.Err() == nil {
		n := v.said[i].Add(1) - 1
		c.Conn.Write(wstest.Frame(0x81, fmt.Sprint(i, " ", n, " ", time.Now().UnixNano())))
		select {
		case <-ctx.Done():
		case <-time.After(pause()):
		}
	}
	c.Conn.Write(wstest.Frame(0x81, fmt.Sprint(i, " over")))
}

// listen reads from c until all speakers are over. The test fails unless c gets each line of them once and in
// order. It calls other, unless that is nil, with all other lines.
func (v *conversation) listen(c *wstest.Client, other func(line string)) {
	next := make([]int64, len(v.said))
	for left := len(v.said); left > 0; {
		opcode, message, err := c.ReadFrame()
		switch {
		case err != nil || opcode == websocket.CloseFrame:
			c.T.Errorf("got %s, %v; want lines until %d more speakers are over", wstest.Show(opcode, message), err, left)
			return
		case opcode == websocket.PingFrame:
			c.Conn.Write(wstest.Frame(0x8a, message))
			continue
		}
		for line := range strings.SplitSeq(message, "\n") {
			var i int
			var n, at int64
			switch fields, _ := fmt.Sscanf(line, "%d %d %d", &i, &n, &at); {
			case fields == 3 && i < len(next):
				if n != next[i] {
					c.T.Errorf("speaker %d: got line %d, want %d", i, n, next[i])
				}
				next[i] = n + 1
				v.longest.Store(max(v.longest.Load(), time.Now().UnixNano()-at))
			case fields == 1 && strings.HasSuffix(line, " over"):
				if want := v.said[i].Load(); next[i] != want {
					c.T.Errorf("speaker %d: got %d lines, want %d", i, next[i], want)
				}
				left--
			case other != nil:
				other(line)
			}
		}
	}
}

// counters are some of the counters of a program.
type counters struct {
	Connections int `json:"connections"`
	Ever        int `json:"connections_ever"`
	heap        int // bytes
}

// counters reads the counters of p.
func (p program) counters(t *testing.T) counters {
	t.Helper()
	var v struct {
		Chat     counters
		Memstats struct{ HeapAlloc int }
	}
	p.vars(t, &v)
	v.Chat.heap = v.Memstats.HeapAlloc
	return v.Chat
}

// held is what a program holds.
type held struct {
	connections, goroutines, files int
	heap                           int // bytes
}

// moreThan reports whether h is more than before. The heap may be larger by the history and a MiB of noise.
func (h held) moreThan(before held) bool {
	const history = 256 * 4096
	return h.connections > before.connections || h.goroutines > before.goroutines || h.files > before.files ||
		h.heap > before.heap+history+1<<20
}

// holdsNoMore waits until p holds no more than before.
func (p program) holdsNoMore(t *testing.T, before held) (after held) {
	t.Helper()
	for began := time.Now(); ; time.Sleep(50 * time.Millisecond) {
		if after = p.holds(t); !after.moreThan(before) {
			return after
		}
		if time.Since(began) > time.Minute {
			t.Fatalf("a minute later the chat holds %+v, want no more than %+v", after, before)
		}
	}
}

// holds returns what p holds. The number of files is 0 on a system without /proc.
func (p program) holds(t *testing.T) (h held) {
	t.Helper()
	if _, err := io.ReadAll(wstest.Get(t, p.debug, "/debug/pprof/heap?gc=1&debug=1").Body); err != nil { // collects garbage
		t.Fatal(err)
	}
	h.goroutines = p.goroutines(t)
	v := p.counters(t)
	h.connections, h.heap = v.Connections, v.heap
	files, _ := os.ReadDir(fmt.Sprint("/proc/", p.Process.Pid, "/fd"))
	h.files = len(files)
	return h
}

// goroutines returns the number of p's goroutines. It does not count those of the runtime, which come and go,
// and have no frames in the profile.
func (p program) goroutines(t *testing.T) (n int) {
	t.Helper()
	profile, err := io.ReadAll(wstest.Get(t, p.debug, "/debug/pprof/goroutine?debug=1").Body)
	if err != nil {
		t.Fatal(err)
	}
	_, stacks, _ := strings.Cut(string(profile), "\n") // the first line has the total
	for stack := range strings.SplitSeq(stacks, "\n\n") {
		var same int
		if _, err := fmt.Sscanf(stack, "%d @", &same); err == nil && strings.Contains(stack, "\n#") {
			n += same
		}
	}
	if n == 0 {
		t.Fatalf("got no goroutines in %q", profile)
	}
	return n
}
