// Package gctune lets a small heap grow to a fixed size before it is collected, and a large one by a
// percentage.
//
// Go's GOGC is a percentage alone. With a low one, a small heap is collected all the time; with a high one, a
// large heap takes far more memory than it uses.
package gctune

import (
	"runtime"
	"runtime/debug"
	"runtime/metrics"
)

// A heap is not collected below GOGC/100 times that many bytes, whatever is in use (Go's
// runtime/mgcpacer.go): so with a GOGC of 800 the first collection comes at 32 MiB.
const goMinHeap = 4 << 20

// Start sets GOGC now and after each collection, for as long as the program runs: to percent, or to more
// if heap and stacks stay below minHeap bytes. minHeap is at least 4 MiB.
func Start(minHeap uint64, percent int) {
	debug.SetGCPercent(max(percent, percentage(inUse(), minHeap)))
	// An object with a pointer: one without might share a block with others, and stay alive with them.
	runtime.AddCleanup(new(*byte), func(struct{}) { Start(minHeap, percent) }, struct{}{})
}

// inUse returns how many bytes of the heap the last collection has found in use, and those of stacks.
func inUse() (n uint64) {
	samples := []metrics.Sample{{Name: "/gc/heap/live:bytes"}, {Name: "/memory/classes/heap/stacks:bytes"}}
	metrics.Read(samples)
	for _, s := range samples {
		n += s.Value.Uint64()
	}
	return n
}

// percentage returns the GOGC with which inUse bytes become minHeap, or 0 if they are more.
func percentage(inUse, minHeap uint64) int {
	if inUse >= minHeap {
		return 0
	}
	return int(min(100*minHeap/goMinHeap, 100*(minHeap-inUse)/max(inUse, 1)))
}
