package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"example.com/chat/internal/stream"
	"example.com/chat/internal/wstest"
)

// BenchmarkFanOut sends lines of 64 bytes to conns connections. With load=quiet it sends a line when the one
// before has arrived everywhere, and with load=flat-out up to 16 senders send as fast as they can. Metrics are
// for a line delivered to one connection. In memory, the sockets accept everything at no cost. Over loopback
// the clients are in this process, so ns/line includes their work.
func BenchmarkFanOut(b *testing.B) {
	for _, n := range []int{1, 10, 100, 1000, 10_000} {
		for _, load := range []string{"quiet", "flat-out"} {
			b.Run(fmt.Sprintf("over=memory/load=%s/conns=%d", load, n), func(b *testing.B) {
				a := newAudience(n)
				benchmarkFanOut(b, a, load, a.inMemory(b))
			})
			b.Run(fmt.Sprintf("over=loopback/load=%s/conns=%d", load, n), func(b *testing.B) {
				a := newAudience(n)
				benchmarkFanOut(b, a, load, a.overLoopback(b))
			})
		}
	}
}

// benchmarkFanOut has speakers say b.N lines to a.
func benchmarkFanOut(b *testing.B, a *audience, load string, speakers []func(lines int)) {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	b.ResetTimer()
	if load == "quiet" {
		for range b.N {
			a.expect(1)
			speakers[0](1)
			<-a.heard
		}
	} else {
		a.expect(b.N)
		var wg sync.WaitGroup
		for i, speak := range speakers {
			wg.Go(func() { speak((b.N + i) / len(speakers)) }) // b.N together
		}
		wg.Wait()
		select {
		case <-a.heard:
		case <-time.After(time.Minute):
			b.Fatalf("%d lines are missing", a.left.Load())
		}
	}
	b.StopTimer()
	runtime.ReadMemStats(&after)
	delivered := float64(b.N) * float64(a.size)
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/delivered, "ns/line")
	b.ReportMetric(float64(after.TotalAlloc-before.TotalAlloc)/delivered, "B/line")
	b.ReportMetric(float64(after.Mallocs-before.Mallocs)/delivered, "allocs/line")
}

// audience counts the lines that its connections get.
type audience struct {
	size  int // connections
	left  atomic.Int64
	heard chan struct{}
}

func newAudience(size int) *audience { return &audience{size: size, heard: make(chan struct{}, 1)} }

// expect makes heard receive when lines more have been delivered to each connection.
func (a *audience) expect(lines int) { a.left.Store(int64(lines) * int64(a.size)) }

const lineSize = 64

// hear counts the lines in a message of this size, in bytes.
func (a *audience) hear(bytes int) {
	if lines := (bytes + 1) / (lineSize + 1); lines > 0 && a.left.Add(-int64(lines)) == 0 {
		a.heard <- struct{}{}
	}
}

// inMemory runs a Hub with the audience's connections, and returns its speakers.
func (a *audience) inMemory(b *testing.B) (speakers []func(int)) {
	hub := newHub("", stream.New(256), newShared(&defaults))
	ctx, cancel := context.WithCancel(b.Context())
	go hub.run(ctx)
	var conns []*Conn
	for range a.size {
		c := newConn(hub, hub.shared.readers.Conn(ear{audience: a}), func() {})
		conns = append(conns, c)
		hub.register <- registration{conn: c}
		c.writing.Add(1)
		go c.writePump()
	}
	b.Cleanup(func() {
		for _, c := range conns {
			c.unregister(nil)
		}
		cancel()
		<-hub.done
		for _, c := range conns {
			c.writing.Wait()
		}
	})
	line := append(bytes.Repeat([]byte("x"), lineSize), '\n')
	for range min(a.size, 16) {
		speakers = append(speakers, func(lines int) {
			for range lines {
				hub.broadcast <- connFrame{conns[0], stream.TextFrame(line)}
			}
		})
	}
	return speakers
}

// ear is the socket of a connection in memory. Each write is a frame.
type ear struct {
	discard
	*audience
}

func (e ear) Write(b []byte) (int, error) {
	header := 2
	switch b[1] {
	case 126:
		header = 4
	case 127:
		header = 10
	}
	e.hear(len(b) - header)
	return len(b), nil
}

func (ear) SetReadDeadline(time.Time) error  { return nil }
func (ear) SetWriteDeadline(time.Time) error { return nil }

// overLoopback connects the audience to a chat, and returns its speakers.
func (a *audience) overLoopback(b *testing.B) (speakers []func(int)) {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil || limit.Cur < uint64(2*a.size+100) {
		b.Skipf("need two descriptors for each connection, and %d may be open", limit.Cur)
	}
	c := startChat(b)
	frame := wstest.Frame(0x81, strings.Repeat("x", lineSize))
	for i := range a.size {
		p := c.join("/ws")
		p.Conn.SetDeadline(time.Time{})
		go a.listen(p.In)
		if i < 16 {
			speakers = append(speakers, func(lines int) {
				for packet := bytes.Repeat(frame, min(lines, 64)); lines > 0; lines -= 64 {
					p.Write(packet[:min(lines, 64)*len(frame)])
				}
			})
		}
	}
	return speakers
}

// listen counts the lines that come in, without looking at them.
func (a *audience) listen(in *bufio.Reader) {
	for {
		head, err := in.Peek(2)
		if err != nil {
			return
		}
		length, size := int(head[1]), 2
		switch length {
		case 126:
			head, _ = in.Peek(4)
			length, size = int(binary.BigEndian.Uint16(head[2:])), 4
		case 127:
			head, _ = in.Peek(10)
			length, size = int(binary.BigEndian.Uint64(head[2:])), 10
		}
		in.Discard(size + length)
		a.hear(length)
	}
}

// discard is a socket that accepts everything and sends nothing.
type discard struct{ net.Conn }

func (discard) Write(p []byte) (int, error) { return len(p), nil }
func (discard) Close() error                { return nil }
