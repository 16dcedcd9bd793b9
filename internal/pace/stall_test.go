package pace

import (
	"testing"
	"time"
)

// Bytes counts what Begin and End report, while the goroutine waits and while it does not. End(0) leaves it as it was.
func TestProgress(t *testing.T) {
	var p Progress
	want := uint64(0)
	for _, n := range []int{0, 5, 0, 0, 1 << 40, 1} {
		p.Begin()
		if got := p.Bytes(); got != want {
			t.Errorf("while waiting for %d bytes: got %d bytes, want %d", n, got, want)
		}
		p.End(n)
		want += uint64(n)
		if got := p.Bytes(); got != want {
			t.Errorf("after %d more: got %d bytes, want %d", n, got, want)
		}
	}
}

// Sweep returns the whole seconds for which a goroutine has waited in one call, and 0 if it does not wait. Sweeps come
// once a second.
func TestStall(t *testing.T) {
	var p Progress
	var s Stall
	begin, end, nothing := p.Begin, func() { p.End(10) }, func() {}
	endEmpty := func() { p.End(0) }
	again := func() { p.End(10); p.Begin() }
	for i, test := range []struct {
		name   string
		before func()
		want   time.Duration
	}{
		{"nothing was ever awaited", nothing, 0},
		{"a call begins within the second", begin, 0},
		{"it is blocked", nothing, time.Second},
		{"it is still blocked", nothing, 2 * time.Second},
		{"it makes progress, and another call begins", again, 0},
		{"that one is blocked", nothing, time.Second},
		{"the measurement begins anew", s.Reset, time.Second},
		{"it goes on", nothing, 2 * time.Second},
		{"the call ends", end, 0},
		{"nothing is awaited", nothing, 0},
		{"a call begins", begin, 0},
		{"it fails, with no bytes", endEmpty, 0},
		{"nothing is awaited again", nothing, 0},
	} {
		test.before()
		if got := s.Sweep(&p); got != test.want {
			t.Errorf("sweep %d, %s: got %v, want %v", i, test.name, got, test.want)
		}
	}
}
