package e2e

import (
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/websocket"

	"example.com/chat/internal/wstest"
)

// The chat takes no more than -memory, whatever its clients do: rooms full of long lines, messages that end never,
// clients that read nothing in many flooded rooms and in a large one. Meanwhile two people in a quiet room hear each
// other. With CHAT_TEST_LONG the chat has its default, 640 MiB, and five times as many clients.
func TestMemory(t *testing.T) {
	t.Parallel()
	if _, err := os.Stat("/proc/self/status"); err != nil {
		t.Skip("this system does not tell how much memory a process takes")
	}
	size, memory, args := 1, 128, []string{"-memory", "128"}
	if wstest.Long() {
		size, memory, args = 5, 640, nil
	}
	p := startProgram(t, args...)
	ann, bob := wstest.Upgrade(t, wstest.Dial(t, p.addr), "/quiet/ws"), wstest.Upgrade(t, wstest.Dial(t, p.addr), "/quiet/ws")
	line := wstest.Frame(0x81, strings.Repeat("x", 4096))
	join := func(room string) *wstest.Client {
		c := wstest.Upgrade(t, wstest.DialWith(t, p.addr, wstest.SmallBuffers), "/"+room+"/ws")
		c.Conn.SetDeadline(time.Now().Add(2 * time.Minute))
		return c
	}
	flood := func(room string) {
		c := join(room)
		go io.Copy(io.Discard, c.In)
		go wstest.Flood(c.Conn, line)
	}
	for range 300 * size {
		join("unfinished").Conn.Write(line[:len(line)-1])
	}
	for n := range 100 * size {
		go wstest.Flood(join(fmt.Sprint("history", n)).Conn, line)
	}
	for n := range 20 * size {
		join(fmt.Sprint("lagging", n))
		flood(fmt.Sprint("lagging", n))
	}
	for range 200 * size {
		join("large")
	}
	flood("large")
	for n, began := 0, time.Now(); time.Since(began) < time.Duration(5*size)*time.Second; n++ {
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
