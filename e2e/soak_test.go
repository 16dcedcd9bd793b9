package e2e

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/websocket"

	"example.com/chat/internal/wstest"
)

var soakFor = flag.Duration("soak", 2*time.Second, "duration of TestSoak; from a minute on it also checks that the heap does not grow")

// While many clients stay, some pass by and others break the protocol, every client that stays gets every line,
// and the chat holds no more afterwards.
func TestSoak(t *testing.T) {
	t.Parallel()
	n := 300
	if *soakFor >= time.Minute {
		n = mostConnections(t, 2000)
	}
	p := startProgram(t, "-debug", "127.0.0.1:0")
	before := p.afterACrowd(t, n)
	clients := wstest.JoinMany(t, p.addr, n)
	for _, c := range clients {
		c.Conn.SetDeadline(time.Now().Add(*soakFor + time.Minute))
	}

	ctx, end := context.WithTimeout(t.Context(), *soakFor)
	defer end()
	talking, hush := context.WithCancel(t.Context()) // ends after ctx, so that "over" is the last line
	defer hush()
	talk := &conversation{said: make([]atomic.Int64, min(20, n))}
	var passers atomic.Int64 // clients that came, said so, and left
	var staying, others sync.WaitGroup
	for i, c := range clients {
		if i < len(talk.said) {
			staying.Go(func() {
				talk.speak(talking, c, i, func() time.Duration { return time.Second/2 + rand.N(time.Second) })
			})
		}
		staying.Go(func() {
			passed := int64(0)
			talk.listen(c, func(line string) {
				if strings.HasPrefix(line, "passing by") {
					passed++
				}
			})
			if want := passers.Load(); passed != want {
				t.Errorf("client %d: got %d lines of passers, want %d", i, passed, want)
			}
		})
	}
	for range 4 {
		others.Go(func() { passBy(ctx, t, p.addr, &passers) })
	}
	for _, fault := range faults {
		others.Go(func() { attack{do: fault}.repeat(ctx, p.addr) })
	}
	var heaps []int
	if *soakFor >= time.Minute {
		heaps = p.watch(ctx, t, *soakFor/50)
	}
	others.Wait()
	hush()
	staying.Wait()

	t.Logf("%d clients; %d passed by; a line took at most %v", n, passers.Load(), time.Duration(talk.longest.Load()))
	if quarter := len(heaps) / 4; quarter > 0 {
		early, late := slices.Min(heaps[quarter:2*quarter]), slices.Min(heaps[3*quarter:])
		if late > early+early/10+1<<20 {
			t.Errorf("the heap grew from %d to %d bytes, want at most a tenth and a MiB more", early, late)
		}
	}
	for _, c := range clients {
		c.Conn.Close()
	}
	p.holdsNoMore(t, before)
}

// afterACrowd returns what p holds after n clients have come and left, because p keeps some memory for the next
// ones.
func (p program) afterACrowd(t *testing.T, n int) held {
	empty := p.holds(t)
	for range 20 { // goroutines that serve this question come and go, and on a busy machine some have not run yet
		empty.goroutines = max(empty.goroutines, p.goroutines(t))
	}
	for _, c := range wstest.JoinMany(t, p.addr, n) {
		c.Conn.Close()
	}
	empty.heap = 64 << 20 // more than it will hold
	return p.holdsNoMore(t, empty)
}

// mostConnections returns n, or the number of connections that this process may open if that is less.
func mostConnections(t *testing.T, n int) int {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	most := min(n, int(min(limit.Cur, 1<<20))-200)
	if most < n {
		t.Logf("%d connections instead of %d, because at most %d files may be open", most, n, limit.Cur)
	}
	return most
}

// passBy has a client come, say so, receive that, and leave, ten times a second until ctx is done. It counts
// them.
func passBy(ctx context.Context, t *testing.T, addr string, passers *atomic.Int64) {
	for pace := time.Tick(time.Second / 10); ctx.Err() == nil; <-pace {
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			t.Error(err)
			return
		}
		conn.SetDeadline(time.Now().Add(time.Minute))
		c, err := wstest.TryUpgrade(t, conn, "/ws")
		if err != nil {
			t.Error(err)
			return
		}
		text := fmt.Sprint("passing by ", rand.Uint64())
		c.Send(websocket.TextFrame, text)
		if err := c.Hear(text); err != nil {
			t.Errorf("got %v, want the line %q", err, text)
		}
		passers.Add(1)
		conn.Close()
	}
}

// faults are attacks that break one connection after another.
var faults = []func(ctx context.Context, a *attacker){
	func(ctx context.Context, a *attacker) { // ends in the middle of a frame
		conn := a.join(ctx)
		conn.Write(wstest.Frame(0x81, "never finished")[:rand.IntN(15)+1])
		if tcp, ok := conn.(*net.TCPConn); ok { // not the closed connection of a failed dial
			tcp.SetLinger(rand.IntN(2) - 1)
		}
		a.rest(ctx)
	},
	func(ctx context.Context, a *attacker) { // breaks the protocol
		a.join(ctx).Write([]byte("\xff\xff\xff\xff"))
		a.rest(ctx)
	},
	func(ctx context.Context, a *attacker) { // does not read
		a.joinSmall(ctx)
		a.rest(ctx)
	},
	func(ctx context.Context, a *attacker) { // does not finish its request
		a.dial(ctx).Write([]byte(wstest.Request("/ws"))[:rand.IntN(len(wstest.Request("/ws")))])
		a.rest(ctx)
	},
	func(ctx context.Context, a *attacker) { // exceeds the limit of a message
		a.join(ctx).Write(wstest.Frame(0x81, strings.Repeat("x", 1<<20)))
		a.rest(ctx)
	},
	func(ctx context.Context, a *attacker) { // comes back to a position that is in no stream
		fmt.Fprint(a.dial(ctx), strings.Replace(wstest.Request("/ws"), "/ws", "/ws?since=x.1", 1))
		a.rest(ctx)
	},
}

// rest waits up to a second.
func (a *attacker) rest(ctx context.Context) {
	select {
	case <-ctx.Done():
	case <-time.After(rand.N(time.Second)):
	}
}

// watch returns the size of p's heap, once a period, until ctx is done.
func (p program) watch(ctx context.Context, t *testing.T, period time.Duration) (heaps []int) {
	for {
		select {
		case <-ctx.Done():
			return heaps
		case <-time.After(period):
		}
		h := p.holds(t)
		t.Logf("%+v", h)
		heaps = append(heaps, h.heap)
	}
}
