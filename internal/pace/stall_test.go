package pace

import (
	"testing"
	"time"
)

// A sweep, once a second, finds the bytes so far, and the whole seconds for which the goroutine has waited in
// one call. That is 0 if it does not wait.
func TestProgressAndStall(t *testing.T) {
	var p Progress
	var s Stall
	nothing := func() {}
	for i, test := range []struct {
		name   string
		before func()
		bytes  uint64
		want   time.Duration
	}{
		{"no call yet", nothing, 0, 0},
		{"a call begins", p.Begin, 0, 0},
		{"it is blocked", nothing, 0, time.Second},
		{"it is still blocked", nothing, 0, 2 * time.Second},
		{"it ends with 10 bytes, and the next one begins", func() { p.End(10); p.Begin() }, 10, 0},
		{"that one is blocked", nothing, 10, time.Second},
		{"and still", nothing, 10, 2 * time.Second},
		{"the measurement begins anew", s.Reset, 10, time.Second},
		{"it ends with many bytes", func() { p.End(1 << 40) }, 1<<40 + 10, 0},
		{"no call", nothing, 1<<40 + 10, 0},
		{"a call begins and fails without a byte", func() { p.Begin(); p.End(0) }, 1<<40 + 10, 0},
		{"no call again", nothing, 1<<40 + 10, 0},
	} {
		test.before()
		if got := s.Sweep(&p); got != test.want || p.Bytes() != test.bytes {
			t.Errorf("sweep %d, %s: got blocked for %v, after %d bytes; want %v, %d", i, test.name, got, p.Bytes(), test.want, test.bytes)
		}
	}
}
