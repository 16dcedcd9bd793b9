package gctune

import (
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"sync"
	"testing"
	"time"
)

// GOGC is the given percentage while the heap is larger than minHeap. While it is smaller, GOGC is what
// lets it grow to minHeap.
func TestStart(t *testing.T) {
	defer debug.SetGCPercent(100)
	Start(32<<20, 25)
	collectUntil(t, 800, 800)
	large := make([]byte, 40<<20)
	collectUntil(t, 25, 25)
	runtime.KeepAlive(large)
	collectUntil(t, 800, 800)
	half := make([]byte, 14<<20)
	collectUntil(t, 100, 130)
	runtime.KeepAlive(half)
}

// The memory in use includes all memory of stacks, not only the part that goroutines use. A goroutine's
// stack has at least 2 KiB.
func TestStacksCount(t *testing.T) {
	const goroutines = 500
	var waiting sync.WaitGroup
	end := make(chan struct{})
	for range goroutines {
		waiting.Go(func() { <-end })
	}
	runtime.GC()
	got := sum(inUseMetrics)
	close(end)
	waiting.Wait()
	if got < goroutines*2048 {
		t.Errorf("%d goroutines use %d bytes, want at least %d", goroutines, got, goroutines*2048)
	}
}

// A version of Go without one of the metrics leaves GOGC at the given percentage.
func TestUnknownMetric(t *testing.T) {
	if got := percentage(sum([]string{"/gc/heap/live:bytes", "/no/such/metric:bytes"}), 32<<20); got != 0 {
		t.Errorf("got %d%%, want 0", got)
	}
}

// collectUntil collects garbage until GOGC is from least to most, for up to 20 s.
func collectUntil(t *testing.T, least, most uint64) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) {
		runtime.GC()
		got := gogc()
		if least <= got && got <= most {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("GOGC is %d, want %d to %d", got, least, most)
		}
	}
}

// gogc returns the current GOGC.
func gogc() uint64 {
	sample := []metrics.Sample{{Name: "/gc/gogc:percent"}}
	metrics.Read(sample)
	return sample[0].Value.Uint64()
}
