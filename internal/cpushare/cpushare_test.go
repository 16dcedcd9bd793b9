package cpushare

import (
	"math"
	"net"
	"runtime"
	"testing"
	"testing/synctest"
	"time"
)

// source is a connection from which any number of bytes can be read at once.
type source struct{ net.Conn }

func (source) Read(b []byte) (int, error) { return len(b), nil }

// flood has peers send input for d as fast as their turns allow. It returns the number of inputs of each.
func flood(s *Share, peers int, d time.Duration, input func(*Conn)) (inputs []int) {
	inputs = make([]int, peers)
	end := time.Now().Add(d)
	done := make(chan bool)
	for i := range peers {
		go func() {
			for c := s.Conn(source{}); time.Now().Before(end); inputs[i]++ {
				input(c)
			}
			done <- true
		}()
	}
	for range peers {
		<-done
	}
	return inputs
}

// The inputs of peers.
var (
	frame   = func(c *Conn) { c.Frame(false) }
	ping    = func(c *Conn) { c.Frame(true) }
	request = func(c *Conn) { c.Request() }
	head    = func(c *Conn) { c.Read(make([]byte, 512)) }
	text    = func(c *Conn) {
		n, _ := c.Read(make([]byte, 4096))
		c.Frames(n)
		c.Frame(false)
	}
	record = func(c *Conn) { // a frame of 6 bytes in a TLS record of 28
		c.Read(make([]byte, 28))
		c.Frames(6)
		c.Frame(false)
	}
)

// All peers together get 0.3 of the processors by their price, in equal parts. The price is 1 µs for a read from
// the network, 100 ns for a byte, 30 µs for a request, 0.3 µs for a frame, 3 ns for a byte of a frame, 5 µs for a
// ping, 8 µs for a command and 100 ns for each of its bytes, and 2 µs for messages that are handed over together.
func TestPrices(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(2)) // 600 ms of work in a second
	for name, test := range map[string]struct {
		input func(*Conn)
		want  int // in a second
	}{
		"a frame":                    {frame, 2_000_000},
		"a ping":                     {ping, 113_207},
		"a request":                  {request, 20_000},
		"a read of 512 bytes":        {head, 11_494},
		"a frame of 4 KiB in a read": {text, 44_157},
		"a frame in a TLS record":    {record, 170_550},
		"a command of 100 bytes":     {func(c *Conn) { c.Frame(false); c.Command(100) }, 32_787},
		"a message of one frame":     {func(c *Conn) { c.Frame(false); c.Messages() }, 260_870},
	} {
		for _, peers := range []int{1, 8, 100} {
			synctest.Test(t, func(t *testing.T) {
				total, free := 0, test.want/1000 // each peer may send some of them before its first turn
				for i, n := range flood(New(), peers, time.Second, test.input) {
					if fair := test.want / peers; n < fair*75/100-2*free || n > fair*125/100+2*free {
						t.Errorf("%s, %d peers: got %d of peer %d in a second, want some %d", name, peers, n, i, fair)
					}
					total += n
				}
				if total < test.want*98/100 || total > test.want*102/100+2*free*peers {
					t.Errorf("%s, %d peers: got %d in a second, want some %d", name, peers, total, test.want)
				}
			})
		}
	}
}

// Beside a flood, a peer that sends some lines a second never waits. Nor does a new one for its first
// requests, of 200 µs of work.
func TestBesideAFlood(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(2))
	for _, peers := range []int{0, 10, 100, 2000} {
		synctest.Test(t, func(t *testing.T) {
			s := New()
			flooded := make(chan bool)
			go func() {
				flood(s, peers, 20*time.Second, ping)
				close(flooded)
			}()
			time.Sleep(time.Second)
			began := time.Now()
			for range 10 {
				c := s.Conn(source{})
				for range 3 {
					c.Request()
					c.Read(make([]byte, 400))
				}
			}
			if waited := time.Since(began); waited > 0 {
				t.Errorf("beside %d peers: ten new ones waited for %v, want no wait", peers, waited)
			}
			c := s.Conn(source{})
			for i := range 500 { // ten lines a second, after the 200 µs are used up
				began := time.Now()
				n, _ := c.Read(make([]byte, 1000))
				c.Frames(n)
				c.Frame(false)
				if waited := time.Since(began); i > 200 && waited > 0 {
					t.Errorf("beside %d peers: waited for %v, want no wait", peers, waited)
				}
				time.Sleep(30 * time.Millisecond)
			}
			<-flooded
		})
	}
}

// Work that others cause is counted: beside as much of it as the share, peers that flood get half.
func TestCount(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(2))
	synctest.Test(t, func(t *testing.T) {
		s := New()
		ping := func(c *Conn) {
			c.Frame(true)
			s.Count(5300 * time.Nanosecond)
		}
		if got := flood(s, 1, time.Second, ping)[0]; got < 54_000 || got > 59_000 {
			t.Errorf("got %d pings in a second, want some 56,600", got)
		}
	})
}

// What was charged, however much, makes a peer wait for 0.25 s at most.
func TestCountIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New()
		for range 100 {
			s.Count(10 * time.Millisecond)
		}
		began := time.Now()
		flood(s, 1, time.Millisecond, ping)
		if waited := time.Since(began); waited < 200*time.Millisecond || waited > 260*time.Millisecond {
			t.Errorf("waited for %v, want 0.25 s", waited)
		}
	})
}

// A peer that waits for a turn that is far away stops waiting 0.25 s after its connection was closed.
func TestCloseWhileWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New()
		s.pay(time.Second, math.MaxInt64)
		client, server := net.Pipe()
		defer client.Close()
		c := s.Conn(server)
		began, ended := time.Now(), make(chan error)
		go func() {
			for range 100 {
				c.Frame(true)
			}
			_, err := c.Read(make([]byte, 1))
			ended <- err
		}()
		time.Sleep(100 * time.Millisecond)
		c.Close()
		if err := <-ended; err == nil {
			t.Error("read from a closed connection")
		}
		if waited := time.Since(began); waited != 250*time.Millisecond {
			t.Errorf("waited for %v, want 0.25 s", waited)
		}
	})
}

// However many peers flood, none waits for more than a second.
func TestLongestWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New()
		for range 100_000 {
			s.pay(100*time.Microsecond, maxTurnWait)
		}
		began := time.Now()
		flood(s, 1, time.Millisecond, ping)
		if waited := time.Since(began); waited < 900*time.Millisecond || waited > time.Second {
			t.Errorf("waited for %v, want 1 s", waited)
		}
	})
}

// A WebSocket on which 40 KiB come without a frame fails, whether there were frames before or not. A request may have
// more.
func TestNoFrames(t *testing.T) {
	read := func(c *Conn, bytes int) (err error) {
		for ; bytes > 0 && err == nil; bytes -= 1024 {
			_, err = c.Read(make([]byte, 1024))
		}
		return err
	}
	synctest.Test(t, func(t *testing.T) {
		c := New().Conn(source{})
		if err := read(c, 300<<10); err != nil {
			t.Errorf("a request: got %v, want no error", err)
		}
		c.Frames(0)
		for range 5 {
			if err := read(c, 20<<10); err != nil {
				t.Errorf("20 KiB with frames: got %v, want no error", err)
			}
			c.Frames(10)
		}
		if err := read(c, 39<<10); err != nil {
			t.Errorf("39 KiB without a frame: got %v, want no error", err)
		}
		if err := read(c, 3<<10); err == nil {
			t.Error("42 KiB without a frame: got no error, want one")
		}
	})
}

// No peer waits while all of them together take less than their share.
func TestBelowTheShare(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(2))
	synctest.Test(t, func(t *testing.T) {
		c := New().Conn(source{})
		for range 10_000 { // 2.35 µs of work in 5 µs, of 3 µs
			began := time.Now()
			n, _ := c.Read(make([]byte, 350))
			c.Frames(n)
			c.Frame(false)
			if waited := time.Since(began); waited > 0 {
				t.Fatalf("waited for %v, want no wait", waited)
			}
			time.Sleep(5 * time.Microsecond)
		}
	})
}

// Work of newcomers is refused instead of waiting for more than 0.25 s, so that more than 0.3 of the
// processors is never admitted.
func TestAdmit(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(2))
	synctest.Test(t, func(t *testing.T) {
		s, admitted := New(), make(chan bool)
		began := time.Now()
		for range 10_000 {
			go func() { admitted <- s.Admit(200 * time.Microsecond) }()
		}
		count := 0
		for range 10_000 {
			if <-admitted {
				count++
			}
		}
		if took := time.Since(began); count < 750 || count > 760 || took > 250*time.Millisecond {
			t.Errorf("admitted %d of 10,000 within %v, want 750 within 0.25 s", count, took)
		}
		if !s.Admit(200 * time.Microsecond) {
			t.Errorf("refused afterwards, want admitted")
		}
	})
}
