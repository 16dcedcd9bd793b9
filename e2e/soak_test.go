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

var soakFor = flag.Duration("soak", 3*time.Second, "how long TestSoak lasts; from a minute on it looks at the heap, too")

// soak is what a room goes through.
type soak struct {
	speakers int
	said     []atomic.Int64 // lines, by speaker
	passers  atomic.Int64   // who came, said their number, and went
}

func TestSoak(t *testing.T) {
	t.Parallel()
	conns := 300
	if *soakFor >= time.Minute {
		conns = mostConnections(t, 2000)
	}
	p := startProgram(t, "-debug", "127.0.0.1:0")
	before := p.afterACrowd(t, conns)
	peers := wstest.JoinMany(t, p.addr, conns)
	s := &soak{speakers: min(20, conns)}
	s.said = make([]atomic.Int64, s.speakers)
	for _, peer := range peers {
		peer.Conn.SetDeadline(time.Now().Add(*soakFor + time.Minute))
	}

	ctx, end := context.WithTimeout(t.Context(), *soakFor)
	defer end()
	var listening, others, speaking sync.WaitGroup
	for i, peer := range peers {
		listening.Go(func() { s.listen(peer, i) })
	}
	passed := make(chan struct{}) // closed when nobody passes by any more
	for i, peer := range peers[:s.speakers] {
		speaking.Go(func() { s.speak(peer, i, passed) })
	}
	for range 4 {
		others.Go(func() { s.passBy(ctx, t, p.addr) })
	}
	for _, fault := range faults {
		others.Go(func() { attack{do: fault}.repeat(ctx, p.addr) })
	}
	heaps := p.watch(ctx, t, *soakFor/50)
	others.Wait()
	close(passed)
	speaking.Wait()
	listening.Wait()

	total := s.passers.Load()
	for i := range s.said {
		total += s.said[i].Load()
	}
	t.Logf("%d connections heard %d lines each", conns, total)
	if quarter := len(heaps) / 4; *soakFor >= time.Minute {
		early, late := slices.Min(heaps[quarter:2*quarter]), slices.Min(heaps[3*quarter:])
		if late > early+early/10+1<<20 {
			t.Errorf("the heap grew from %d to %d bytes", early, late)
		}
	}
	for _, peer := range peers {
		peer.Conn.Close()
	}
	p.holdsNoMore(t, before)
}

// afterACrowd returns what the program holds after n have been there: it keeps some memory
// for the next to come.
func (p program) afterACrowd(t *testing.T, n int) held {
	empty := p.holds(t)
	for range 20 { // on a busy machine some have not run yet, and those that serve this question come and go
		empty.goroutines = max(empty.goroutines, p.goroutines(t))
	}
	for _, peer := range wstest.JoinMany(t, p.addr, n) {
		peer.Conn.Close()
	}
	empty.heap = 64 << 20 // whatever
	return p.holdsNoMore(t, empty)
}

// mostConnections returns how many of n connections this process may open.
func mostConnections(t *testing.T, n int) int {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	most := min(n, int(min(limit.Cur, 1<<20))-200)
	if most < n {
		t.Logf("only %d connections, since no more than %d files may be open", most, limit.Cur)
	}
	return most
}

// speak has speaker i say a line about each second until passed is closed.
func (s *soak) speak(p *wstest.Client, i int, passed chan struct{}) {
	for n := 0; ; n++ {
		if _, err := p.Conn.Write(wstest.Frame(0x81, fmt.Sprint(i, " ", n, strings.Repeat(" ", rand.IntN(200))))); err != nil {
			p.T.Errorf("speaker %d: %v", i, err)
		}
		s.said[i].Add(1)
		select {
		case <-passed:
			p.Conn.Write(wstest.Frame(0x81, fmt.Sprint(i, " over")))
			return
		case <-time.After(time.Second/2 + rand.N(time.Second)):
		}
	}
}

// listen has peer i hear everything, in order, until all speakers say that it is over.
func (s *soak) listen(p *wstest.Client, i int) {
	next := make([]int64, s.speakers)
	passers := int64(0)
	for left := s.speakers; left > 0; {
		opcode, message, err := p.ReadFrame()
		switch {
		case err != nil || opcode == websocket.CloseFrame:
			p.T.Errorf("peer %d: %s, %v", i, wstest.Show(opcode, message), err)
			return
		case opcode == websocket.PingFrame:
			p.Conn.Write(wstest.Frame(0x8a, message))
			continue
		}
		for line := range strings.SplitSeq(message, "\n") {
			speaker, n, isLine := wstest.Parse(line)
			switch {
			case isLine:
				if int64(n) != next[speaker] {
					p.T.Errorf("peer %d: heard line %d of %d, want %d", i, n, speaker, next[speaker])
				}
				next[speaker] = int64(n) + 1
			case strings.HasSuffix(line, " over"):
				fmt.Sscan(line, &speaker)
				if want := s.said[speaker].Load(); next[speaker] != want {
					p.T.Errorf("peer %d: heard %d lines of %d, want %d", i, next[speaker], speaker, want)
				}
				left--
			case strings.HasPrefix(line, "passing by"):
				passers++
			}
		}
	}
	if want := s.passers.Load(); passers != want {
		p.T.Errorf("peer %d: heard %d who passed by, want %d", i, passers, want)
	}
}

// passBy has people come, say so, hear that, and go, until ctx is done.
func (s *soak) passBy(ctx context.Context, t *testing.T, addr string) {
	for pace := time.Tick(time.Second / 10); ctx.Err() == nil; <-pace {
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			t.Error(err)
			return
		}
		conn.SetDeadline(time.Now().Add(time.Minute))
		p, err := wstest.TryUpgrade(t, conn, "/ws")
		if err != nil {
			t.Error(err)
			return
		}
		text := fmt.Sprint("passing by from ", conn.LocalAddr(), " ", rand.Uint64())
		p.Send(websocket.TextFrame, text)
		if err := p.Hear(text); err != nil {
			t.Error("passing by: ", err)
		}
		s.passers.Add(1)
		conn.Close()
	}
}

// faults are what breaks in the meantime, each at another moment.
var faults = []func(ctx context.Context, a *attacker){
	func(ctx context.Context, a *attacker) { // vanishes in the middle of a frame
		conn := a.join(ctx)
		conn.Write(wstest.Frame(0x81, "never finished")[:rand.IntN(15)+1])
		if tcp, ok := conn.(*net.TCPConn); ok { // else it could not be dialled
			tcp.SetLinger(rand.IntN(2) - 1)
		}
		a.rest(ctx)
	},
	func(ctx context.Context, a *attacker) { // breaks the protocol
		a.join(ctx).Write([]byte("\xff\xff\xff\xff"))
		a.rest(ctx)
	},
	func(ctx context.Context, a *attacker) { // doesn't read
		a.joinSmall(ctx)
		a.rest(ctx)
	},
	func(ctx context.Context, a *attacker) { // doesn't finish its request
		a.dial(ctx).Write([]byte(wstest.Request("/ws"))[:rand.IntN(len(wstest.Request("/ws")))])
		a.rest(ctx)
	},
	func(ctx context.Context, a *attacker) { // says too much
		a.join(ctx).Write(wstest.Frame(0x81, strings.Repeat("x", 1<<20)))
		a.rest(ctx)
	},
	func(ctx context.Context, a *attacker) { // comes back to a place of no stream
		fmt.Fprint(a.dial(ctx), strings.Replace(wstest.Request("/ws"), "/ws", "/ws?since=x.1", 1))
		a.rest(ctx)
	},
}

// rest lets some time pass.
func (a *attacker) rest(ctx context.Context) {
	select {
	case <-ctx.Done():
	case <-time.After(rand.N(time.Second)):
	}
}

// watch returns what the program's heap holds in each period until ctx is done.
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
