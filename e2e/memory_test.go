package e2e

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/websocket"

	"example.com/chat/internal/wstest"
)

// The chat takes no more than -memory, whatever its clients do: rooms full of long lines, messages and heads of
// requests that never end, clients that read nothing in many flooded rooms and in a large one. Meanwhile two people in
// a quiet room hear each other. With CHAT_TEST_LONG the chat has its default, 640 MiB, and five times as many clients.
func TestMemory(t *testing.T) {
	if _, err := os.Stat("/proc/self/status"); err != nil {
		missing(t, "this system has no /proc that tells how much memory a process takes: run it on Linux")
	}
	size, memory, args := 1, 128, []string{"-memory", "128"}
	if wstest.Long() {
		size, memory, args = 5, 640, nil
	} else {
		t.Parallel()
	}
	p := startProgram(t, args...)
	join := func(room string) *wstest.Client {
		c := wstest.Upgrade(t, wstest.DialWith(t, p.addr, wstest.SmallBuffers), "/"+room+"/ws")
		c.Conn.SetDeadline(time.Now().Add(5 * time.Minute))
		return c
	}
	ctx, cancel := context.WithCancel(t.Context())
	var heads sync.WaitGroup
	defer heads.Wait()
	defer cancel()
	ann, bob := join("quiet"), join("quiet")
	line := wstest.Frame(0x81, strings.Repeat("x", 4096))
	for range 300 * size {
		join("unfinished").Conn.Write(line[:len(line)-1])
	}
	for range 200 * size {
		join("large")
	}
	for range 50 * size {
		heads.Go(func() {
			for ctx.Err() == nil {
				if conn, err := new(net.Dialer).DialContext(ctx, "tcp", p.addr); err == nil {
					stop := context.AfterFunc(ctx, func() { conn.Close() })
					io.WriteString(conn, "GET / HTTP/1.1\r\n"+strings.Repeat("a:\r\n", 1500))
					io.Copy(io.Discard, conn)
					stop()
					conn.Close()
				}
			}
		})
	}
	var flooders, readers []*wstest.Client
	for n := range 100 * size {
		flooders = append(flooders, join(fmt.Sprint("history", n)))
	}
	for n := range 20 * size {
		join(fmt.Sprint("lagging", n))
		readers = append(readers, join(fmt.Sprint("lagging", n)))
	}
	readers = append(readers, join("large"))
	for _, c := range readers {
		go io.Copy(io.Discard, c.In)
	}
	for _, c := range append(flooders, readers...) {
		go wstest.Flood(c.Conn, line)
	}
	for n, began := 0, time.Now(); time.Since(began) < time.Duration(3*size)*time.Second; n++ {
		ann.Send(websocket.TextFrame, fmt.Sprint("line ", n))
		bob.ExpectLines(fmt.Sprint("line ", n))
		ann.ExpectLines(fmt.Sprint("line ", n))
		time.Sleep(50 * time.Millisecond)
	}
	if most := mostMemory(t, p); most > memory<<10 {
		t.Errorf("the chat took %d KiB, want at most %d MiB", most, memory)
	} else {
		t.Logf("the chat took %d KiB of %d MiB", most, memory)
	}
}

// mostMemory returns the largest number of KiB that p has taken so far.
func mostMemory(t *testing.T, p program) (most int) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	_, after, _ := strings.Cut(string(status), "VmHWM:")
	if _, err := fmt.Sscan(after, &most); err != nil {
		t.Fatal(err)
	}
	return most
}
