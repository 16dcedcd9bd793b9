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
	for _, test := range []struct {
		name   string
		before func()
		bytes  uint64
		want   time.Duration
	}{
		{"a call begins", p.Begin, 0, 0},
		{"it is blocked", func() {}, 0, time.Second},
		{"it is still blocked", func() {}, 0, 2 * time.Second},
		{"it ends with 1 TB, and the next one begins", func() { p.End(1e12); p.Begin() }, 1e12, 0},
		{"that one is blocked", func() {}, 1e12, time.Second},
		{"the measurement begins anew", s.Reset, 1e12, time.Second},
		{"it fails without a byte", func() { p.End(0) }, 1e12, 0},
		{"no call again", func() {}, 1e12, 0},
	} {
		test.before()
		if got := s.Sweep(&p); got != test.want || p.Bytes() != test.bytes {
			t.Errorf("%s: got blocked for %v, after %d bytes; want %v, %d", test.name, got, p.Bytes(), test.want, test.bytes)
		}
	}
}
