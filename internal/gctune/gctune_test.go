package gctune

import (
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"sync"
	"testing"
	"time"
)

// A heap that grows over minHeap is collected more often than before, and one that shrinks less often.
func TestStart(t *testing.T) {
	defer debug.SetGCPercent(100)
	Start(32<<20, 25)
	collectUntil(t, func(gogc uint64) bool { return gogc == 800 })
	large := make([]byte, 40<<20)
	collectUntil(t, func(gogc uint64) bool { return gogc == 25 })
	runtime.KeepAlive(large)
	collectUntil(t, func(gogc uint64) bool { return gogc == 800 })
	half := make([]byte, 14<<20)
	collectUntil(t, func(gogc uint64) bool { return 100 <= gogc && gogc <= 130 })
	runtime.KeepAlive(half)
}

// Stacks count whole, not only what goroutines use of them: 2 KiB each at least.
func TestStacksCount(t *testing.T) {
	const goroutines = 500
	var waiting sync.WaitGroup
	end := make(chan struct{})
	for range goroutines {
		waiting.Go(func() { <-end })
	}
	runtime.GC()
	used := inUse()
	close(end)
	waiting.Wait()
	if used < goroutines*2048 {
		t.Errorf("%d bytes in use with %d goroutines", used, goroutines)
	}
}

// collectUntil collects garbage until GOGC is as wanted.
func collectUntil(t *testing.T, wanted func(gogc uint64) bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) {
		runtime.GC()
		if wanted(gogc()) {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("GOGC is %d", gogc())
		}
	}
}

func gogc() uint64 {
	sample := []metrics.Sample{{Name: "/gc/gogc:percent"}}
	metrics.Read(sample)
	return sample[0].Value.Uint64()
}
