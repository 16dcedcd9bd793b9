// process.go: what a process has used, from the operating system's accounting.

package main

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// usage is what a process has used since it was started.
type usage struct {
	cpu   time.Duration // of all its threads, in user and kernel
	calls uint64        // read and write system calls, with their variants
}

func (u usage) minus(before usage) usage {
	return usage{u.cpu - before.cpu, u.calls - before.calls}
}

// usageOf reads a running process's usage.
func usageOf(pid int) (u usage, err error) {
	// The clock of a process's CPU time; see clock_getcpuclockid(3).
	var ts unix.Timespec
	if err := unix.ClockGettime(int32(^pid<<3|2), &ts); err != nil {
		return u, fmt.Errorf("CPU time of process %d: %w", pid, err)
	}
	u.cpu = time.Duration(ts.Nano())
	reads, err := procField(pid, "io", "syscr:")
	if err != nil {
		return u, err
	}
	writes, err := procField(pid, "io", "syscw:")
	u.calls = reads + writes
	return u, err
}

// memoryOf returns a process's resident memory, in bytes.
func memoryOf(pid int) (uint64, error) {
	kib, err := procField(pid, "smaps_rollup", "Rss:")
	return kib << 10, err
}

// peakMemoryOf returns the most resident memory that a process has had, in bytes.
func peakMemoryOf(pid int) (uint64, error) {
	kib, err := procField(pid, "status", "VmHWM:")
	return kib << 10, err
}

// procField returns the number behind name in a file of /proc/PID.
func procField(pid int, file, name string) (n uint64, err error) {
	path := fmt.Sprintf("/proc/%d/%s", pid, file)
	content, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	for lines := bufio.NewScanner(bytes.NewReader(content)); lines.Scan(); {
		if rest, ok := bytes.CutPrefix(lines.Bytes(), []byte(name)); ok {
			_, err := fmt.Sscan(string(rest), &n)
			return n, err
		}
	}
	return 0, fmt.Errorf("no %s in %s", name, path)
}
