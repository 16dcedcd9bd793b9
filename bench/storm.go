// storm.go: everyone returns at once, as after a restart.

package main

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
)

const (
	// Lines that a client has missed, where the server can tell it.
	stormMissed = 100

	// Time for one client to be served.
	stormWait = 30 * time.Second
)

// runStorm has all clients connect at once. A client is served when the handshake is answered and, of a
// server with ?since=, when it has the lines that it missed.
func runStorm(ctx context.Context, s scenario, p *process) (sample, error) {
	query, err := "", error(nil)
	if p.since {
		if query, err = fillHistory(p.addr, s.size); err != nil {
			return sample{}, err
		}
	}
	conns := make([]net.Conn, s.conns)
	defer func() {
		for _, conn := range conns {
			if conn != nil {
				conn.Close()
			}
		}
	}()
	var used meter
	if err := used.read(p.cmd.Process.Pid); err != nil {
		return sample{}, err
	}
	var lost atomic.Int64
	began := time.Now()
	var group errgroup.Group
	for i := range conns {
		group.Go(func() (err error) {
			if conns[i], err = comeBack(ctx, p.addr, i, query, s.size); err != nil {
				lost.Add(1)
			}
			return err
		})
	}
	err = group.Wait()
	elapsed := time.Since(began)
	if lost.Load() == int64(s.conns) || ctx.Err() != nil {
		return sample{}, fmt.Errorf("nobody was served: %w", err)
	}
	if err := used.read(p.cmd.Process.Pid); err != nil {
		return sample{}, err
	}
	peak, err := peakMemoryOf(p.cmd.Process.Pid)
	return sample{values: map[string]float64{
		servedAll:  float64(elapsed.Microseconds()) / 1e3,
		cpuPerJoin: float64(used.used.cpu.Microseconds()) / float64(s.conns),
		peakMemory: float64(peak) / 1e6,
		connsLost:  float64(lost.Load()),
	}}, err
}

// fillHistory says the lines that will be missed. It returns the query with which a client asks for them.
func fillHistory(addr *net.TCPAddr, size int) (query string, err error) {
	conn, err := net.DialTCP("tcp4", nil, addr)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(stormWait))
	in, err := shakeHands(conn, "?since=")
	if err != nil {
		return "", err
	}
	announced, err := readText(in)
	if err != nil {
		return "", err
	}
	var frames []byte
	for n := range uint32(stormMissed) {
		frames = appendFrame(frames, appendLine(nil, size, 0, n, 0))
	}
	if _, err := conn.Write(frames); err != nil {
		return "", err
	}
	position := strings.Fields(announced) // EPOCH SEQ END
	if len(position) != 3 {
		return "", fmt.Errorf("the first message is %.100q", announced)
	}
	return fmt.Sprintf("?since=%s.%s", position[0], position[1]), readMissed(in, size)
}

// comeBack connects a client, and returns when it is served.
func comeBack(ctx context.Context, addr *net.TCPAddr, index int, query string, size int) (net.Conn, error) {
	dialer := net.Dialer{Timeout: stormWait, LocalAddr: &net.TCPAddr{IP: sourceIP(index)}, KeepAlive: -1}
	conn, err := dialer.DialContext(ctx, "tcp4", addr.String())
	if err != nil {
		return nil, err
	}
	conn.SetDeadline(time.Now().Add(stormWait))
	in, err := shakeHands(conn, query)
	if err == nil && query != "" {
		if _, err = readText(in); err == nil { // its position
			err = readMissed(in, size)
		}
	}
	return conn, err
}

// readMissed reads the lines that were missed, and checks them.
func readMissed(in *bufio.Reader, size int) error {
	for number := 0; number < stormMissed; {
		text, err := readText(in)
		if err != nil {
			return fmt.Errorf("after %d of the lines: %w", number, err)
		}
		for line := range strings.SplitSeq(text, "\n") {
			if _, n, _, ok := parseLine([]byte(line)); !ok || len(line) != size || int(n) != number {
				return fmt.Errorf("line %d is %.100q", number, line)
			}
			number++
		}
	}
	return nil
}
