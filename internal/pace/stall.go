package pace

import (
	"sync/atomic"
	"time"
)

// Progress counts the bytes that one goroutine reads from a peer, or writes to it, and shows whether the
// goroutine waits for the peer. One goroutine at a time may call Begin and End. Any goroutine may call Bytes,
// and sweep a Stall.
//
// One word holds both, bytes<<1 | waiting, so that a sweep reads them atomically.
type Progress struct{ word atomic.Uint64 }

// Begin notes that the goroutine begins to wait for the peer.
func (p *Progress) Begin() { p.word.Add(1) }

// End notes that the goroutine no longer waits, and has read or written n bytes. With n = 0 the subtraction
// wraps around, and the sum is right.
func (p *Progress) End(n int) { p.word.Add(2*uint64(n) - 1) }

// Bytes returns the number of bytes so far.
func (p *Progress) Bytes() uint64 { return p.word.Load() / 2 }

// Stall measures how long a goroutine has been waiting in one call. Only the Hub's sweep may use it.
type Stall struct {
	last uint64        // the Progress at the last sweep
	time time.Duration // since the Progress changed
}

// Sweep returns how long the goroutine of p has been waiting in one call, rounded down to sweeps. It returns 0
// if the goroutine is not waiting. It must be called each SweepPeriod.
func (s *Stall) Sweep(p *Progress) time.Duration {
	s.time += SweepPeriod
	if now := p.word.Load(); now != s.last || now%2 == 0 {
		s.last, s.time = now, 0
	}
	return s.time
}

// Reset begins the measurement anew.
func (s *Stall) Reset() { s.time = 0 }
