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

// An attack is what each of some attackers does, again and again until ctx is done.
// Errors are part of it. What it leaves open is closed when the attack is over.
type attack struct {
	name      string
	attackers int
	do        func(ctx context.Context, a *attacker)
}

// attacker is one attacker and its connections.
type attacker struct {
	addr string
	open []net.Conn
}

// dial opens a connection.
func (a *attacker) dial(ctx context.Context) net.Conn { return a.dialWith(ctx, new(net.Dialer)) }

// dialWith opens a connection with a dialer. If that fails the connection is a closed one.
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

// join opens a connection and reads the handshake's answer.
func (a *attacker) join(ctx context.Context) net.Conn { return upgraded(a.dial(ctx)) }

// joinSmall is join with a small receive buffer.
func (a *attacker) joinSmall(ctx context.Context) net.Conn {
	return upgraded(a.dialWith(ctx, wstest.SmallBuffers))
}

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

// drip writes bytes one by one.
func drip(ctx context.Context, conn net.Conn, b string) {
	for i := 0; i < len(b) && ctx.Err() == nil; i++ {
		io.WriteString(conn, b[i:i+1])
		time.Sleep(10 * time.Millisecond)
	}
}

var attacks = []attack{
	{"500 half-open requests", 100, func(ctx context.Context, a *attacker) {
		for i := range 5 {
			io.WriteString(a.dial(ctx), wstest.Request("/ws")[:len(wstest.Request("/ws"))*i/5])
		}
		stay(ctx)
	}},
	{"500 handshakes never finished", 100, func(ctx context.Context, a *attacker) {
		for range 5 {
			io.WriteString(a.dial(ctx), wstest.Request("/ws")) // the answer is not read
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

func TestAttacks(t *testing.T) {
	t.Parallel()
	for _, a := range attacks {
		t.Run(a.name, func(t *testing.T) {
			t.Parallel()
			p := startProgram(t, "-debug", "127.0.0.1:0")
			a.run(t, p, wstest.Dial)
			if n := len(p.log.String()); n > 100<<10 {
				t.Errorf("%d bytes were logged", n)
			}
		})
	}
}

// Over TLS there is one more thing not to finish.
func TestAttackOnTLS(t *testing.T) {
	t.Parallel()
	certFile, keyFile := wstest.NewCertificate(t)
	p := startProgram(t, "-debug", "127.0.0.1:0", "-cert", certFile, "-key", keyFile)
	var hello strings.Builder
	tls.Client(recorder{&hello}, &tls.Config{ServerName: "chat"}).Handshake()
	attack{"500 TLS handshakes never finished", 100, func(ctx context.Context, a *attacker) {
		for i := range 5 {
			io.WriteString(a.dial(ctx), hello.String()[:hello.Len()*i/4])
		}
		stay(ctx)
	}}.run(t, p, func(t testing.TB, addr string) net.Conn { return wstest.DialTLS(t, addr) })
}

// Where -rate is set, even the loudest don't keep the others waiting.
func TestAttackWithRate(t *testing.T) {
	t.Parallel()
	p := startProgram(t, "-debug", "127.0.0.1:0", "-rate", "100")
	attack{"a flood of text", 8, func(ctx context.Context, a *attacker) {
		conn := a.join(ctx)
		go io.Copy(io.Discard, conn)
		wstest.Flood(conn, wstest.Frames(10, 0x81, strings.Repeat("x", 4000)))
	}}.run(t, p, wstest.Dial)
}

// recorder is a connection that takes everything, and ends at once.
type recorder struct{ io.Writer }

func (recorder) Read([]byte) (int, error)         { return 0, io.EOF }
func (recorder) Close() error                     { return nil }
func (recorder) LocalAddr() net.Addr              { return nil }
func (recorder) RemoteAddr() net.Addr             { return nil }
func (recorder) SetDeadline(time.Time) error      { return nil }
func (recorder) SetReadDeadline(time.Time) error  { return nil }
func (recorder) SetWriteDeadline(time.Time) error { return nil }

// run has honest peers chat while the attack lasts, and then compares what the program holds
// with what it held before.
func (a attack) run(t *testing.T, p program, dial func(testing.TB, string) net.Conn) {
	var honest []*wstest.Client
	for range 3 {
		honest = append(honest, wstest.Upgrade(t, dial(t, p.addr), "/ws"))
	}
	wstest.Crowd{Speakers: len(honest), Each: 1}.Meet(honest) // so that all their goroutines run
	before, joined := p.holds(t), p.counted(t).Chat.Ever
	lasts := time.Second / 2
	if wstest.Long() {
		lasts = 10 * time.Second
	}
	ctx, end := context.WithTimeout(t.Context(), lasts)
	defer end()
	var attacking sync.WaitGroup
	for range a.attackers {
		attacking.Go(func() { a.repeat(ctx, p.addr) })
	}
	longest := converse(ctx, honest)
	attacking.Wait()
	after := p.holdsNoMore(t, before)
	t.Logf("%d joined; the longest wait was %v; it held %+v before, and %+v after", p.counted(t).Chat.Ever-joined, longest, before, after)
	for _, peer := range honest {
		peer.Conn.Close()
	}
}

// repeat attacks until ctx is done.
func (a attack) repeat(ctx context.Context, addr string) {
	for ctx.Err() == nil {
		attacker := attacker{addr: addr}
		a.do(ctx, &attacker)
		for _, conn := range attacker.open {
			conn.Close()
		}
	}
}

// converse has each peer say a line every 20 ms until ctx is done, and hear all that the
// peers say. It returns the longest time for which one waited for its own line.
func converse(ctx context.Context, peers []*wstest.Client) time.Duration {
	var longest atomic.Int64
	var talk sync.WaitGroup
	said := make([]atomic.Int64, len(peers)) // lines; the last is "over"
	for i, p := range peers {
		asked := make(chan time.Time, 1)
		talk.Go(func() {
			n := 0
			for ; ctx.Err() == nil; n++ {
				asked <- time.Now()
				p.Conn.Write(wstest.Frame(0x81, fmt.Sprint(i, " ", n)))
				time.Sleep(20 * time.Millisecond)
			}
			close(asked)
			said[i].Store(int64(n))
			p.Conn.Write(wstest.Frame(0x81, fmt.Sprint(i, " over")))
		})
		talk.Go(func() { hearOut(p, i, said, asked, &longest) })
	}
	talk.Wait()
	return time.Duration(longest.Load())
}

// hearOut has p, peer number i, hear the others to the end.
func hearOut(p *wstest.Client, i int, said []atomic.Int64, asked chan time.Time, longest *atomic.Int64) {
	next := make([]int64, len(said))
	for left := len(said); left > 0; {
		opcode, message, err := p.ReadFrame()
		if err != nil || opcode == websocket.CloseFrame {
			p.T.Errorf("peer %d: %s, %v", i, wstest.Show(opcode, message), err)
			for range asked { // the one who asks may not wait
			}
			return
		}
		if opcode == websocket.PingFrame {
			continue
		}
		for line := range strings.SplitSeq(message, "\n") {
			who, n, isLine := wstest.Parse(line)
			var over int
			switch {
			case isLine && who < len(next):
				if int64(n) != next[who] {
					p.T.Errorf("peer %d heard line %d of %d, want %d", i, n, who, next[who])
				}
				next[who] = int64(n) + 1
				if who == i {
					waited := time.Since(<-asked)
					longest.Store(max(longest.Load(), int64(waited)))
				}
			case strings.HasSuffix(line, " over") && len(line) == len("0 over"):
				fmt.Sscan(line, &over)
				if next[over] != said[over].Load() {
					p.T.Errorf("peer %d heard %d lines of %d, who said %d", i, next[over], over, said[over].Load())
				}
				left--
			}
		}
	}
}

// held is what a program holds.
type held struct {
	connections, goroutines, files int
	heap                           int // bytes
}

// more reports whether h is more than before, by more than the history and a MiB of noise.
func (h held) more(before held) bool {
	const lines = 256 * 4096
	return h.connections > before.connections || h.goroutines > before.goroutines || h.files > before.files ||
		h.heap > before.heap+lines+1<<20
}

// holdsNoMore waits until the program holds no more than before.
func (p program) holdsNoMore(t *testing.T, before held) (after held) {
	t.Helper()
	after = p.holds(t)
	for began := time.Now(); after.more(before); after = p.holds(t) {
		if time.Since(began) > 20*time.Second {
			t.Fatalf("it held %+v before, and %+v after", before, after)
		}
		time.Sleep(50 * time.Millisecond)
	}
	return after
}

// goroutines returns how many goroutines the program has. The profile has some of the runtime, too, which come and
// go: they have no frames.
func (p program) goroutines(t *testing.T) (n int) {
	t.Helper()
	profile, err := io.ReadAll(wstest.Get(t, p.debug, "/debug/pprof/goroutine?debug=1").Body)
	if err != nil {
		t.Fatal(err)
	}
	_, all, _ := strings.Cut(string(profile), "\n") // behind the total
	for stack := range strings.SplitSeq(all, "\n\n") {
		var same int
		if _, err := fmt.Sscanf(stack, "%d @", &same); err == nil && strings.Contains(stack, "\n#") {
			n += same
		}
	}
	if n == 0 {
		t.Fatalf("no goroutines in %q", profile)
	}
	return n
}

// holds asks the program what it holds.
func (p program) holds(t *testing.T) (h held) {
	t.Helper()
	body, err := io.ReadAll(wstest.Get(t, p.debug, "/debug/pprof/heap?gc=1&debug=1").Body)
	if err != nil || len(body) == 0 {
		t.Fatal(err)
	}
	h.goroutines = p.goroutines(t)
	v := p.counted(t)
	h.connections, h.heap = v.Chat.Connections, int(v.Memstats.HeapAlloc)
	files, _ := os.ReadDir(fmt.Sprint("/proc/", p.Process.Pid, "/fd")) // nothing where there is no /proc
	h.files = len(files)
	return h
}
