package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/net/websocket"

	"example.com/chat/internal/relay"
	"example.com/chat/internal/wstest"
)

// BenchmarkRelay measures a speaker at one chat, who says lines of 64 bytes at a fixed rate, and listeners at
// another chat. Metrics:
//
//	here-ms, across-ms         p50 latency at the speaker's chat and at the other one, with one listener only,
//	                           because with 1000 it is mostly the other chat's fan-out
//	relays-us/line             CPU of both relays and NATS together
//	chat-us/line               CPU of the listeners' chat
//	share-%                    relays-us/line in percent of chat-us/line
//	chat-MB, relay-MB, nats-MB memory at the end of the listeners' chat, its relay, and the NATS process
func BenchmarkRelay(b *testing.B) {
	for _, kind := range []natsKind{currentNATS, embeddedNATS} {
		for _, load := range []struct{ listeners, rate int }{{1, 20}, {1, 200}, {1000, 20}, {1000, 200}, {1, 50_000}} {
			b.Run(fmt.Sprintf("nats=%s/listeners=%d/lines=%d", kind, load.listeners, load.rate), func(b *testing.B) {
				a := openAudience(b, kind, load.listeners)
				b.Run("said", func(b *testing.B) { a.benchmark(b, load.rate) })
			})
		}
	}
}

// audience is a speaker at the first of two chats, and listeners at the second one.
type audience struct {
	world   *world
	speaker *wstest.Client
	ears    []*ear // the first one is the speaker's
}

// openAudience returns an audience with this number of listeners, at connected chats.
func openAudience(b *testing.B, kind natsKind, listeners int) *audience {
	w := newWorld(b, kind)
	if w.nats != nil {
		w.startNATS()
	}
	here, there := w.addChat("-history", "256"), w.addChat("-history", "256")
	w.connected()
	a := &audience{world: w, speaker: join(b, here)}
	a.ears = []*ear{listen(a.speaker)}
	for range listeners {
		a.ears = append(a.ears, listen(join(b, there)))
	}
	return a
}

// join returns a client of the chat without wstest's deadline of a minute.
func join(b *testing.B, c *chatProgram) *wstest.Client {
	conn := wstest.Dial(b, c.addr)
	conn.SetDeadline(time.Time{})
	return wstest.Upgrade(b, conn, "/ws")
}

// ear notes the times at which a client's lines come.
type ear struct {
	mu    sync.Mutex
	times []time.Time // guarded by mu
}

// listen returns the ear of a client. It reads the client's messages in a goroutine that ends with the
// connection.
func listen(client *wstest.Client) *ear {
	e := new(ear)
	go func() {
		for {
			opcode, message, err := client.ReadFrame()
			if err != nil {
				return
			}
			if opcode == websocket.TextFrame {
				e.hear(strings.Count(message, "\n")+1, time.Now())
			}
		}
	}()
	return e
}

// hear notes lines that came at now.
func (e *ear) hear(lines int, now time.Time) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for range lines {
		e.times = append(e.times, now)
	}
}

// heard returns the number of lines since the last reset.
func (e *ear) heard() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return len(e.times)
}

// reset forgets all lines.
func (e *ear) reset() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.times = e.times[:0]
}

// benchmark has the speaker say b.N lines, rate of them a second, and reports the metrics.
func (a *audience) benchmark(b *testing.B, rate int) {
	w := a.world
	for _, e := range a.ears {
		e.reset()
	}
	relays := slices.Clone(w.relays)
	if w.nats != relays[0] {
		relays = append(relays, w.nats)
	}
	relaysBefore, chatBefore := cpu(b, relays...), cpu(b, w.chats[1].program)
	b.ResetTimer()
	said := a.say(b.N, rate)
	for _, e := range a.ears {
		wstest.Until(b, "everyone has heard all lines", func() bool { return e.heard() >= b.N })
	}
	b.StopTimer()
	relaysTook, chatTook := cpu(b, relays...)-relaysBefore, cpu(b, w.chats[1].program)-chatBefore

	perLine := func(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) / float64(b.N) }
	if len(a.ears) == 2 {
		b.ReportMetric(a.ears[0].latency(said), "here-ms")
		b.ReportMetric(a.ears[1].latency(said), "across-ms")
	}
	b.ReportMetric(perLine(relaysTook), "relays-us/line")
	b.ReportMetric(perLine(chatTook), "chat-us/line")
	b.ReportMetric(100*float64(relaysTook)/float64(chatTook), "share-%")
	b.ReportMetric(memory(b, w.chats[1].program), "chat-MB")
	b.ReportMetric(memory(b, w.relays[1]), "relay-MB")
	b.ReportMetric(memory(b, w.nats), "nats-MB")
}

// say has the speaker say lines, rate of them a second, and returns the time of each. At more than 1000 a
// second it says all lines that are due every 10 ms.
func (a *audience) say(lines, rate int) (said []time.Time) {
	began, pause := time.Now(), time.Second/time.Duration(rate)
	if pause < time.Millisecond {
		pause = 10 * time.Millisecond
	}
	for len(said) < lines {
		now := time.Now()
		due := min(lines, 1+int(now.Sub(began).Seconds()*float64(rate)))
		var frames bytes.Buffer
		for ; len(said) < due; said = append(said, now) {
			frames.Write(wstest.Frame(0x80|websocket.TextFrame, fmt.Sprintf("%-64d", len(said))))
		}
		a.speaker.Write(frames.Bytes())
		time.Sleep(pause)
	}
	return said
}

// latency returns the p50 latency of lines that were said at these times, in milliseconds.
func (e *ear) latency(said []time.Time) float64 {
	e.mu.Lock()
	defer e.mu.Unlock()
	var latencies []time.Duration
	for n, at := range said {
		latencies = append(latencies, e.times[n].Sub(at))
	}
	slices.Sort(latencies)
	return float64(latencies[len(latencies)/2]) / float64(time.Millisecond)
}

// cpu returns the CPU time of programs so far, as Linux counts it for each thread.
func cpu(b *testing.B, programs ...*program) (sum time.Duration) {
	b.Helper()
	for _, p := range programs {
		threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", p.cmd.Process.Pid))
		if err != nil || len(threads) == 0 {
			b.Skip("CPU time needs Linux's /proc")
		}
		for _, thread := range threads {
			stat, _ := os.ReadFile(thread)
			first, _, _ := strings.Cut(string(stat), " ")
			ran, _ := strconv.ParseInt(first, 10, 64)
			sum += time.Duration(ran)
		}
	}
	return sum
}

// memory returns the resident memory of a program (VmRSS) in MiB.
func memory(b *testing.B, p *program) float64 {
	b.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		b.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(status), "VmRSS:")
	kB, _ := strconv.Atoi(strings.Fields(rest)[0])
	return float64(kB) / 1024
}

// BenchmarkBacklog measures the start of a chat whose backlog is b.N messages of one line of 64 bytes, in 50
// rooms. Metrics:
//
//	relay-us/message, chat-us/message  CPU until the chat has delivered the backlog
//	messages/s                         messages of the backlog a second
func BenchmarkBacklog(b *testing.B) {
	w := newWorld(b, currentNATS)
	w.startNATS()
	w.addChat() // its relay creates the JetStream stream
	w.connected()
	wstest.Until(b, "the JetStream stream has the backlog", func() bool { return fillStream(b, "nats://"+w.natsAddr, b.N) == nil })
	b.ResetTimer()
	began := time.Now()
	c := w.addChat("-history", "256")
	wstest.Until(b, "the chat has delivered the backlog", func() bool { return c.count("lines_received") >= min(b.N, 50) })
	took := time.Since(began)
	b.StopTimer()
	perMessage := func(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) / float64(b.N) }
	b.ReportMetric(perMessage(cpu(b, w.relays[1])), "relay-us/message")
	b.ReportMetric(perMessage(cpu(b, c.program)), "chat-us/message")
	b.ReportMetric(float64(b.N)/took.Seconds(), "messages/s")
}

// fillStream publishes messages of one line each to the JetStream stream, which must exist.
func fillStream(b *testing.B, url string, messages int) error {
	conn, err := nats.Connect(url)
	if err != nil {
		return err
	}
	defer conn.Close()
	js, err := jetstream.New(conn, jetstream.WithPublishAsyncMaxPending(1000))
	if err != nil {
		return err
	}
	if _, err := js.Stream(b.Context(), "chat"); err != nil {
		return err
	}
	for n := range messages {
		m := relay.Message{First: uint64(n + 1), Segments: []relay.Segment{{Room: fmt.Sprint("room", n%50), Lines: 1, At: time.Now().UnixMilli()}}, Body: fmt.Appendf(nil, "%-63d\n", n)}
		if _, err := js.PublishAsync("chat.lines.SPEAKER", m.Encode()); err != nil {
			return err
		}
	}
	<-js.PublishAsyncComplete()
	return nil
}
