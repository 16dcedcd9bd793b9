// scenarios.go: what is measured of each server.

package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// scenario is one way of using a server.
type scenario struct {
	family  string // what a run can be limited to
	what    string
	run     func(context.Context, scenario, *process) (sample, error)
	joiners int // clients that join and leave
	traffic
}

// name tells scenarios apart.
func (s scenario) name() string { return fmt.Sprintf("%s-%d", s.family, s.conns) }

// The metrics of samples, by their units in Go's benchmark format.
const (
	cpuPerLine   = "cpu-us/line"
	linesPerSec  = "lines/s"
	p50          = "p50-us"
	p99          = "p99-us"
	maximum      = "max-us"
	connsLost    = "conns-lost"
	linesLost    = "lines-lost"
	callsPerLine = "calls/line"
	linesWrong   = "lines-wrong"
	generatorCPU = "generator-cpu-%"
	memory       = "KB/conn"
	joinsPerSec  = "joins/s"
	cpuPerJoin   = "cpu-us/join"
	servedAll    = "served-ms"
	peakMemory   = "peak-MB"
)

// sample is what one run of a scenario showed.
type sample struct {
	values    map[string]float64
	latencies []float64 // in microseconds, at the percentiles of the latency plot
}

// allScenarios returns the scenarios, with times to measure for.
func allScenarios(warmUp, measure time.Duration) (all []scenario) {
	add := func(family, what string, run func(context.Context, scenario, *process) (sample, error), t traffic) {
		t.senders = min(t.senders, t.conns)
		t.warmUp, t.measure = warmUp, measure
		all = append(all, scenario{family: family, what: what, run: run, traffic: t})
	}
	for _, conns := range []int{10, 100, 1000, 5000} {
		add("quiet", "50 lines a second", runTraffic, traffic{conns: conns, senders: 10, rate: 50, size: 64})
	}
	for _, conns := range []int{10, 100, 1000, 5000} {
		add("busy", "2,000 lines a second", runTraffic, traffic{conns: conns, senders: 10, rate: 2000, size: 64})
	}
	for _, conns := range []int{10, 100, 1000, 5000} {
		add("flat-out", "16 senders that never pause", runTraffic, traffic{conns: conns, senders: 16, size: 64})
	}
	add("big-4k", "200 lines of 4 KiB a second", runTraffic, traffic{conns: 100, senders: 10, rate: 200, size: 4 << 10})
	add("big-64k", "20 lines of 64 KiB a second", runTraffic, traffic{conns: 100, senders: 10, rate: 20, size: 64 << 10})
	add("joins", "16 clients that join and leave without a pause, beside 50 lines a second", runJoins, traffic{conns: 100, senders: 10, rate: 50, size: 64})
	all[len(all)-1].joiners = 16
	add("slow", "1,000 lines of 500 bytes a second, of which a tenth of the connections reads 50 kB/s", runTraffic, traffic{conns: 1000, senders: 10, rate: 1000, size: 500, slow: 10})
	slow := &all[len(all)-1]
	slow.warmUp, slow.measure = 8*warmUp, 2*measure // until the systems' buffers are full
	add("storm", "all connect at once, as after a restart", runStorm, traffic{conns: 5000, size: 64})
	add("idle", "connections on which nothing is said", runIdle, traffic{conns: 5000})
	return all
}

// runTraffic has connections speak and listen.
func runTraffic(ctx context.Context, s scenario, p *process) (sample, error) {
	l, err := connect(ctx, p.addr, s.traffic)
	if err != nil {
		return sample{}, err
	}
	defer l.close()
	return l.sampleOf(ctx, p, new(atomic.Int64))
}

// runJoins has clients join and leave beside those who speak and listen.
func runJoins(ctx context.Context, s scenario, p *process) (sample, error) {
	l, err := connect(ctx, p.addr, s.traffic)
	if err != nil {
		return sample{}, err
	}
	defer l.close()

	var joins atomic.Int64
	joining, stop := context.WithCancel(ctx)
	group, joining := errgroup.WithContext(joining)
	for i := range s.joiners {
		group.Go(func() error { return joinAndLeave(joining, p.addr, i, &joins) })
	}
	out, err := l.sampleOf(ctx, p, &joins)
	stop()
	return out, errors.Join(err, group.Wait())
}

// joinAndLeave opens connections and closes them, one after the other, until ctx
// is done, and counts them.
func joinAndLeave(ctx context.Context, addr *net.TCPAddr, worker int, joins *atomic.Int64) error {
	for ctx.Err() == nil {
		p, err := dial(addr, 1000*worker) // from an address of its own
		if err != nil {
			return err
		}
		_, err = p.Write(goodbye)
		if err := errors.Join(err, unix.Close(p.fd)); err != nil {
			return err
		}
		joins.Add(1)
	}
	return nil
}

// sampleOf runs the load, and makes a sample of what came of it. The joins that are
// counted meanwhile become part of it.
func (l *load) sampleOf(ctx context.Context, p *process, joins *atomic.Int64) (sample, error) {
	var server, generator meter
	var began time.Time
	var elapsed time.Duration
	var joined int64
	err := l.run(ctx, func() error {
		elapsed, began = time.Since(began), time.Now()
		joined = joins.Load() - joined
		return errors.Join(server.read(p.cmd.Process.Pid), generator.read(unix.Getpid()))
	})
	if err != nil {
		return sample{}, err
	}
	cpu := float64(server.used.cpu.Nanoseconds()) / 1e3
	out := sample{values: map[string]float64{
		linesPerSec:  float64(l.lines) / elapsed.Seconds(),
		connsLost:    float64(l.connsLost),
		linesLost:    float64(l.linesLost),
		linesWrong:   float64(l.repeated + l.corrupt),
		generatorCPU: 100 * generator.used.cpu.Seconds() / elapsed.Seconds(),
	}}
	if joined > 0 {
		out.values[joinsPerSec] = float64(joined) / elapsed.Seconds()
		out.values[cpuPerJoin] = cpu / float64(joined)
	}
	if l.lines == 0 {
		return out, nil // nothing can be said of a line
	}
	out.values[cpuPerLine] = cpu / float64(l.lines)
	out.values[callsPerLine] = float64(server.used.calls) / float64(l.lines)
	latency := func(percentile float64) float64 { return float64(l.latency.ValueAtPercentile(percentile)) / 1e3 }
	out.values[p50], out.values[p99], out.values[maximum] = latency(50), latency(99), float64(l.latency.Max())/1e3
	for _, percentile := range percentiles {
		out.latencies = append(out.latencies, latency(percentile))
	}
	return out, nil
}

// percentiles are those that the plot of latencies shows.
var percentiles = []float64{1, 5, 10, 25, 50, 75, 90, 95, 99, 99.5, 99.9, 99.95, 99.99}

// meter takes the usage of a process between two readings.
type meter struct{ last, used usage }

func (m *meter) read(pid int) error {
	now, err := usageOf(pid)
	m.used, m.last = now.minus(m.last), now
	return err
}

// runIdle compares a server's memory with and without connections.
func runIdle(ctx context.Context, s scenario, p *process) (sample, error) {
	before, err := settledMemory(ctx, s, p)
	if err != nil {
		return sample{}, err
	}
	l, err := connect(ctx, p.addr, s.traffic)
	if err != nil {
		return sample{}, err
	}
	defer l.close()
	after, err := settledMemory(ctx, s, p)
	return sample{values: map[string]float64{memory: (float64(after) - float64(before)) / 1024 / float64(s.conns)}}, err
}

// settledMemory returns the memory of a server that has been left alone for a while.
func settledMemory(ctx context.Context, s scenario, p *process) (uint64, error) {
	select {
	case <-time.After(s.warmUp):
		return memoryOf(p.cmd.Process.Pid)
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}
