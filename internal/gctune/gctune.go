// Package gctune lets a small heap grow to a fixed size before it is collected, and a large heap by a
// percentage.
//
// Go's GOGC is only a percentage. If it is low, a small heap is collected all the time, which costs CPU. If
// it is high, a large heap takes much more memory than the program needs. This package therefore sets GOGC
// after each collection, according to the memory in use.
//
// The package depends on details of Go 1.26's runtime. The memory in use comes from two metrics of
// runtime/metrics, /gc/heap/live:bytes and /memory/classes/heap/stacks:bytes. How GOGC sets the size at
// which the heap is collected, with a minimum, is in commit and setGCPercent of runtime/mgcpacer.go. If Go
// changes these details, the program only collects more or less often.
package gctune

import (
	"math"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
)

// goMinHeap is the heap size in bytes below which Go does not collect at a GOGC of 100 (defaultHeapMinimum in
// runtime/mgcpacer.go). This minimum grows with GOGC. At a GOGC of 800 it is 32 MiB.
const goMinHeap = 4 << 20

// inUseMetrics are the metrics that make up the memory in use.
var inUseMetrics = []string{"/gc/heap/live:bytes", "/memory/classes/heap/stacks:bytes"}

// Start sets GOGC now and after each collection, until the program ends. GOGC is percent, or the greater
// value with which heap and stacks reach minHeap bytes before the next collection. minHeap must be at least
// 4 MiB.
//
// A program must call Start only once.
func Start(minHeap uint64, percent int) {
	debug.SetGCPercent(max(percent, percentage(sum(inUseMetrics), minHeap)))
	// The object, which the next collection frees, must contain a pointer. Go may allocate several small
	// objects without pointers in one block, which lives as long as any of them.
	runtime.AddCleanup(new(*byte), func(struct{}) { Start(minHeap, percent) }, struct{}{})
}

// sum returns the sum of metrics. If this version of Go lacks one of them, the sum is infinite, so that the
// percentage of Start applies.
func sum(names []string) (n uint64) {
	samples := make([]metrics.Sample, len(names))
	for i, name := range names {
		samples[i].Name = name
	}
	metrics.Read(samples)
	for _, s := range samples {
		if s.Value.Kind() != metrics.KindUint64 {
			return math.MaxUint64
		}
		n += s.Value.Uint64()
	}
	return n
}

// percentage returns the GOGC with which the memory in use grows to minHeap bytes before the next
// collection. It returns 0 if the memory in use is not less than minHeap. The limit is the GOGC at which
// Go's own minimum is minHeap.
func percentage(inUse, minHeap uint64) int {
	if inUse >= minHeap {
		return 0
	}
	return int(min(100*minHeap/goMinHeap, 100*(minHeap-inUse)/max(inUse, 1)))
}
