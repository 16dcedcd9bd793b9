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

// BenchmarkRelay has a person at one chat say lines of 64 bytes at some rate. One listener is there, and others are at
// another chat. Metrics:
//
//	here-ms, across-ms  from saying a line to hearing it, at the speaker's chat and at the other, at p50; where
//	                    there is one listener, since the other chat takes its time to tell a thousand
//	relays-us/line      CPU of both relays and NATS together
//	chat-us/line        CPU of the chat where the listeners are
//	share-%             the first of these in percent of the second
//	MB                  of memory at the end: that chat, its relay, and what NATS runs in
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

// audience is a person who speaks at one chat, and who listens there and at another.
type audience struct {
	*world
	speaker *wstest.Client
	ears    []*ear // the first one, of the speaker, at the first chat
}

func openAudience(b *testing.B, kind natsKind, listeners int) *audience {
	a := &audience{world: newWorld(b, kind)}
	if a.nats != nil {
		a.startNATS()
	}
	here, there := a.addChat("-history", "256"), a.addChat("-history", "256")
	a.connected()
	a.speaker = join(b, here)
	a.ears = []*ear{listen(a.speaker)}
	for range listeners {
		a.ears = append(a.ears, listen(join(b, there)))
	}
	return a
}

// join returns a client that stays as long as the benchmark takes.
func join(b *testing.B, c *chatProgram) *wstest.Client {
	conn := wstest.Dial(b, c.addr)
	conn.SetDeadline(time.Time{})
	return wstest.Upgrade(b, conn, "/ws")
}

// ear counts lines, and notes when they came, in a goroutine that ends with the connection.
type ear struct {
	mu    sync.Mutex
	times []time.Time
}

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

func (e *ear) hear(lines int, now time.Time) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for range lines {
		e.times = append(e.times, now)
	}
}

func (e *ear) heard() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return len(e.times)
}

func (e *ear) reset() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.times = e.times[:0]
}

// benchmark says b.N lines, so many a second.
func (a *audience) benchmark(b *testing.B, rate int) {
	for _, e := range a.ears {
		e.reset()
	}
	relays := slices.Clone(a.relays)
	if a.nats != relays[0] {
		relays = append(relays, a.nats)
	}
	relaysBefore, chatBefore := cpu(b, relays...), cpu(b, a.chats[1].program)
	b.ResetTimer()
	said := a.say(b.N, rate)
	for _, e := range a.ears {
		wstest.Until(b, "all is heard", func() bool { return e.heard() >= b.N })
	}
	b.StopTimer()
	relaysTook, chatTook := cpu(b, relays...)-relaysBefore, cpu(b, a.chats[1].program)-chatBefore

	perLine := func(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) / float64(b.N) }
	if len(a.ears) == 2 {
		b.ReportMetric(a.ears[0].delay(said), "here-ms")
		b.ReportMetric(a.ears[1].delay(said), "across-ms")
	}
	b.ReportMetric(perLine(relaysTook), "relays-us/line")
	b.ReportMetric(perLine(chatTook), "chat-us/line")
	b.ReportMetric(100*float64(relaysTook)/float64(chatTook), "share-%")
	b.ReportMetric(memory(b, a.chats[1].program), "chat-MB")
	b.ReportMetric(memory(b, a.relays[1]), "relay-MB")
	b.ReportMetric(memory(b, a.nats), "nats-MB")
}

// say says lines, so many a second, and returns when. Many are said a hundred times a second, all that are due.
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

// delay returns the milliseconds from saying to hearing, at p50.
func (e *ear) delay(said []time.Time) float64 {
	e.mu.Lock()
	defer e.mu.Unlock()
	var delays []time.Duration
	for n, at := range said {
		delays = append(delays, e.times[n].Sub(at))
	}
	slices.Sort(delays)
	return float64(delays[len(delays)/2]) / float64(time.Millisecond)
}

// cpu returns the time that programs have run, as Linux counts it for each thread.
func cpu(b *testing.B, programs ...*program) (sum time.Duration) {
	b.Helper()
	for _, p := range programs {
		threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", p.cmd.Process.Pid))
		if err != nil || len(threads) == 0 {
			b.Skip("CPU is read from /proc")
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

// memory returns the megabytes that a program takes (VmRSS).
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

// BenchmarkBacklog starts a chat when the stream has b.N messages of one line of 64 bytes, in fifty rooms. Metrics:
//
//	relay-us/message, chat-us/message  CPU until the chat has said the last lines
//	messages/s                         how fast that is
func BenchmarkBacklog(b *testing.B) {
	w := newWorld(b, currentNATS)
	w.startNATS()
	w.addChat() // whose relay makes the stream
	w.connected()
	wstest.Until(b, "there is a stream", func() bool { return fillStream(b, "nats://"+w.natsAddr, b.N) == nil })
	b.ResetTimer()
	began := time.Now()
	c := w.addChat("-history", "256")
	wstest.Until(b, "the backlog is said", func() bool { return c.count("lines_received") >= min(b.N, 50) })
	took := time.Since(began)
	b.StopTimer()
	perMessage := func(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) / float64(b.N) }
	b.ReportMetric(perMessage(cpu(b, w.relays[1])), "relay-us/message")
	b.ReportMetric(perMessage(cpu(b, c.program)), "chat-us/message")
	b.ReportMetric(float64(b.N)/took.Seconds(), "messages/s")
}

// fillStream puts messages of one line each into the stream, if there is one.
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
