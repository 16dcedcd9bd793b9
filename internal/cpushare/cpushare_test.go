package cpushare

import (
	"runtime"
	"testing"
	"testing/synctest"
	"time"
)

// flood has peers read frames for d as fast as their Meters allow. It returns the number of frames of each.
func flood(s *Share, peers int, d time.Duration, frame func(*Meter)) (frames []int) {
	frames = make([]int, peers)
	end := time.Now().Add(d)
	done := make(chan bool)
	for i := range peers {
		go func() {
			for m := s.Meter(); time.Now().Before(end); frames[i]++ {
				time.Sleep(m.Wait())
				frame(&m)
			}
			done <- true
		}()
	}
	for range peers {
		<-done
	}
	return frames
}

// All peers together get 0.3 of the processors by their price, in equal parts. The price is 1 µs for a read from
// the socket, 0.3 µs for a frame, 5 µs for a ping, and 3 ns for a byte.
func TestPrices(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(2)) // 600 ms of work in a second
	for name, test := range map[string]struct {
		frame func(*Meter)
		want  int // frames in a second
	}{
		"a frame":                    {func(m *Meter) { m.Frame(false) }, 2_000_000},
		"a ping":                     {func(m *Meter) { m.Frame(true) }, 113_207},
		"a read of 512 bytes":        {func(m *Meter) { m.Read(512) }, 236_593},
		"a frame of 4 KiB in a read": {func(m *Meter) { m.Read(4096); m.Frame(false) }, 44_157},
	} {
		for _, peers := range []int{1, 8, 100} {
			synctest.Test(t, func(t *testing.T) {
				total := 0
				for i, n := range flood(New(), peers, time.Second, test.frame) {
					if fair := test.want / peers; n < fair*75/100-400 || n > fair*125/100+400 { // a turn is up to 334 frames
						t.Errorf("%s, %d peers: got %d frames of peer %d in a second, want some %d", name, peers, n, i, fair)
					}
					total += n
				}
				if total < test.want*98/100 || total > test.want*102/100+400*peers {
					t.Errorf("%s, %d peers: got %d frames in a second, want some %d", name, peers, total, test.want)
				}
			})
		}
	}
}

// Beside a flood of 100 peers, a peer that sends little waits once in some 300 frames, for one turn of each of the
// others. Without a flood it never waits.
func TestBesideAFlood(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(2))
	for _, test := range []struct {
		peers, waits int
		longest      time.Duration
	}{{0, 0, 0}, {100, 3, 20 * time.Millisecond}} {
		synctest.Test(t, func(t *testing.T) {
			s := New()
			flooded := make(chan bool)
			go func() {
				flood(s, test.peers, 2*time.Second, func(m *Meter) { m.Frame(false) })
				close(flooded)
			}()
			m, waits, longest := s.Meter(), 0, time.Duration(0)
			for range 1000 {
				if wait := m.Wait(); wait > 0 {
					waits, longest = waits+1, max(longest, wait)
					time.Sleep(wait)
				}
				m.Frame(false)
				time.Sleep(time.Millisecond)
			}
			if waits > test.waits || longest > test.longest {
				t.Errorf("beside %d peers: got %d waits of up to %v, want at most %d of %v", test.peers, waits, longest, test.waits, test.longest)
			}
			<-flooded
		})
	}
}

// No reader waits while all of them together take less than their share.
func TestBelowTheShare(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(2))
	synctest.Test(t, func(t *testing.T) {
		m := New().Meter()
		for range 10_000 { // 2.35 µs of work in 5 µs, of 3 µs
			if wait := m.Wait(); wait > 0 {
				t.Fatalf("got a wait of %v, want none", wait)
			}
			m.Frame(false)
			m.Read(350)
			time.Sleep(5 * time.Microsecond)
		}
	})
}

// An HTTP request costs 30 µs, 0.2 µs for each header, and 5 ms if it has a body. A TLS handshake costs 200 µs.
func TestRequests(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(2))
	for name, test := range map[string]struct {
		wait func(*Share) time.Duration
		n    int
		want time.Duration // for n of them at once, with 2 ms that need not be waited
	}{
		"request":             {func(s *Share) time.Duration { return s.Request(0, false) }, 1000, 48 * time.Millisecond},
		"request with a head": {func(s *Share) time.Duration { return s.Request(150, false) }, 500, 48 * time.Millisecond},
		"request with a body": {func(s *Share) time.Duration { return s.Request(0, true) }, 6, 48_300 * time.Microsecond},
		"handshake":           {(*Share).Handshake, 150, 48 * time.Millisecond},
	} {
		synctest.Test(t, func(t *testing.T) {
			s, got := New(), time.Duration(0)
			for range test.n {
				got = test.wait(s)
			}
			if (got - test.want).Abs() > time.Microsecond {
				t.Errorf("the last of %d %ss at once waits for %v, want %v", test.n, name, got, test.want)
			}
		})
	}
}

// Whatever was asked for at once, by peers that may be gone, nobody waits for more than 50 ms.
func TestNobodyWaitsLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New()
		for range 36_000 {
			s.Handshake()
			s.Request(4000, true)
		}
		if got := s.Request(10, false); got > 50*time.Millisecond {
			t.Errorf("the next request waits for %v, want at most 50 ms", got)
		}
		time.Sleep(60 * time.Millisecond)
		if got := s.Request(10, false); got > 0 {
			t.Errorf("a request 60 ms later waits for %v, want none", got)
		}
	})
}
