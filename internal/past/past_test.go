package past

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"reflect"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"example.com/chat/internal/budget"
	"example.com/chat/internal/stream"
	"example.com/chat/internal/ws"
)

// room returns a stream with a frame for each text, which is lines without the last line break. The frames were said
// at 1 ms, 1 s later, and so on.
func room(history int, texts ...string) *stream.Stream {
	s := stream.New(history)
	for i, text := range texts {
		s.Append(stream.TextFrame([]byte(text+"\n")), int64(1+1000*i))
	}
	return s
}

// ask returns the answer for a room, with headers, which are pairs of a name and a value.
func ask(s *stream.Stream, headers ...string) *httptest.ResponseRecorder {
	origins, err := ws.ParseOrigins("https://friend.example")
	if err != nil {
		panic(err)
	}
	last := func(name string) (stream.Record, bool) { return s.Last(MaxLines, MaxBytes), name == "lobby" }
	r, w := httptest.NewRequest("GET", "http://chat.example/lobby/lines", nil), httptest.NewRecorder()
	r.SetPathValue("room", "lobby")
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	NewHandler(last, origins, budget.New(1<<20)).ServeHTTP(w, r)
	return w
}

// The answer has the form of docs/protocol.md. Nobody may keep it, and pages of other origins can't read it.
func TestAnswer(t *testing.T) {
	s := room(2, "gone", "two", "\"three\" <&>\t\u2028\x00😀")
	w := ask(s)
	want := `{"epoch":"` + s.Epoch() + `","lines":[{"seq":1,"at":"1970-01-01T00:00:01.001Z","text":"two"},` +
		`{"seq":2,"at":"1970-01-01T00:00:02.001Z","text":"\"three\" \u003c\u0026\u003e\t\u2028\u0000😀"}],"more":false}` + "\n"
	if w.Code != 200 || w.Body.String() != want {
		t.Errorf("got status %d and %s, want 200 and %s", w.Code, w.Body, want)
	}
	wantHeader := http.Header{"Content-Type": {"application/json"}, "Cache-Control": {"no-store"}, "Cross-Origin-Resource-Policy": {"same-origin"}}
	if got := w.Header(); !reflect.DeepEqual(got, wantHeader) {
		t.Errorf("got headers %v, want %v", got, wantHeader)
	}
	empty := room(256)
	if got, want := ask(empty).Body.String(), `{"epoch":"`+empty.Epoch()+`","lines":[],"more":false}`+"\n"; got != want {
		t.Errorf("an empty room: got %s, want %s", got, want)
	}
}

// An answer has the last lines of the history, oldest first: at most 200, and at most 64 KiB with their line breaks,
// but at least one. more tells whether there are earlier ones.
func TestBounds(t *testing.T) {
	numbered := func(from, to, each int) (texts []string) { // frames with the number each of lines
		for n := from; n < to; n += each {
			var text []string
			for i := n; i < min(to, n+each); i++ {
				text = append(text, fmt.Sprint(i))
			}
			texts = append(texts, strings.Join(text, "\n"))
		}
		return texts
	}
	kib := func(size, lines int) []string { // lines of size KiB, with their line breaks
		return strings.Split(strings.Repeat(strings.Repeat("x", size<<10-1)+",", lines-1)+strings.Repeat("x", size<<10-1), ",")
	}
	for _, test := range []struct {
		name    string
		s       *stream.Stream
		seq     uint64 // of the first line
		lines   int
		more    bool
		inEntry bool // the lines are those of numbered
	}{
		{"200 of 200 lines", room(256, numbered(0, 200, 1)...), 0, 200, false, true},
		{"200 of 201 lines", room(256, numbered(0, 201, 1)...), 1, 200, true, true},
		{"200 of 1,000 lines", room(256, numbered(0, 1000, 1)...), 800, 200, true, true},
		{"200 lines of large frames", room(256, numbered(0, 1000, 150)...), 800, 200, true, true},
		{"200 lines of one frame", room(256, numbered(0, 1000, 1000)...), 800, 200, true, true},
		{"a history of 100 lines", room(100, numbered(0, 1000, 7)...), 900, 100, false, true},
		{"a history of 200 lines", room(200, numbered(0, 1000, 7)...), 800, 200, false, true},
		{"no history", room(0, "one"), 0, 0, false, false},
		{"64 KiB", room(256, kib(4, 16)...), 0, 16, false, false},
		{"more than 64 KiB", room(256, kib(4, 17)...), 1, 16, true, false},
		{"64 KiB in two frames", room(256, strings.Join(kib(4, 10), "\n"), strings.Join(kib(4, 10), "\n")), 4, 16, true, false},
		{"64 KiB in one frame", room(256, strings.Join(kib(4, 20), "\n")), 4, 16, true, false},
		{"a long line", room(256, append(kib(100, 2), "short")...), 2, 1, true, false},
		{"a long line at the end", room(256, append([]string{"short"}, kib(100, 2)...)...), 2, 1, true, false},
		{"a long line alone", room(256, kib(100, 1)...), 0, 1, false, false},
		{"empty lines", room(256, strings.Repeat("\n", 64<<10-1)), 64<<10 - 200, 200, true, false},
	} {
		var got struct {
			Epoch string
			Lines []struct {
				Seq      uint64
				At, Text string
			}
			More bool
		}
		if test.name == "no history" {
			test.seq = 1
		}
		if err := json.Unmarshal(ask(test.s).Body.Bytes(), &got); err != nil {
			t.Fatal(test.name, err)
		}
		if got.More != test.more || len(got.Lines) != test.lines {
			t.Errorf("%s: got %d lines, more %v; want %d, %v", test.name, len(got.Lines), got.More, test.lines, test.more)
			continue
		}
		for i, l := range got.Lines {
			if want := test.seq + uint64(i); l.Seq != want || test.inEntry && l.Text != fmt.Sprint(want) {
				t.Errorf("%s: line %d has number %d and text %.20q, want number %d", test.name, i, l.Seq, l.Text, want)
			}
		}
	}
}

// Pages may read lines if they may connect. Programs, which send no Origin, may always.
func TestWhoMayRead(t *testing.T) {
	for origin, want := range map[string]int{"http://chat.example": 200, "https://chat.example": 200, "https://friend.example": 200,
		"https://evil.example": 403, "http://friend.example": 403, "null": 403} {
		if got := ask(room(256, "one"), "Origin", origin); got.Code != want || got.Header().Get("Access-Control-Allow-Origin") != "" {
			t.Errorf("Origin %s: got status %d and headers %v, want %d without CORS", origin, got.Code, got.Header(), want)
		}
	}
}

// slowWriter is a client that reads nothing until it may.
type slowWriter struct {
	*httptest.ResponseRecorder
	may chan struct{}
}

func (w slowWriter) Write(b []byte) (int, error) {
	<-w.may
	return w.ResponseRecorder.Write(b)
}

// Answers that are not read yet count in the memory for lines. When none is left, the next ones are refused.
func TestMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := room(256, strings.Repeat("x", 1000))
		h := NewHandler(func(string) (stream.Record, bool) { return s.Last(MaxLines, MaxBytes), true }, nil, budget.New(2500))
		get := func(w http.ResponseWriter) { h.ServeHTTP(w, httptest.NewRequest("GET", "/lines", nil)) }
		expect := func(want int) {
			t.Helper()
			w := httptest.NewRecorder()
			if get(w); w.Code != want || want == 503 && w.Header().Get("Retry-After") != "5" {
				t.Errorf("got status %d and headers %v, want %d", w.Code, w.Header(), want)
			}
		}
		var slow sync.WaitGroup
		may := make(chan struct{})
		for range 2 {
			slow.Go(func() { get(slowWriter{httptest.NewRecorder(), may}) })
			synctest.Wait()
		}
		expect(503)
		expect(503)
		close(may)
		slow.Wait()
		expect(200)
	})
}

// Answers take at most 0.3 of the processors by their price of 1.5 µs a line and 10 ns a byte. What would have to wait for
// more than 0.25 s is refused: with two processors, 150 ms of work may begin in that time.
func TestPrice(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(2))
	for _, test := range []struct{ lines, size, want int }{{200, 200, 214}, {16, 4096, 221}, {1, 64 << 10, 228}} {
		synctest.Test(t, func(t *testing.T) {
			line := strings.Repeat("x", test.size-1)
			s := room(256, strings.Repeat(line+"\n", test.lines-1)+line)
			h := NewHandler(func(string) (stream.Record, bool) { return s.Last(MaxLines, MaxBytes), true }, nil, budget.New(1<<40))
			var answered atomic.Int64
			var all sync.WaitGroup
			for range 1000 {
				all.Go(func() {
					w := httptest.NewRecorder()
					if h.ServeHTTP(w, httptest.NewRequest("GET", "/lines", nil)); w.Code == 200 {
						answered.Add(1)
					}
				})
			}
			all.Wait()
			if n := int(answered.Load()); n < test.want || n > test.want*102/100 {
				t.Errorf("%d lines of %d bytes: answered %d of 1,000, want %d", test.lines, test.size, n, test.want)
			}
		})
	}
}

func BenchmarkAnswer(b *testing.B) {
	for name, s := range map[string]*stream.Stream{
		"200 lines of 80 bytes": room(256, strings.Repeat(strings.Repeat("x", 79)+"\n", 199)+strings.Repeat("x", 79)),
		"16 lines of 4 KiB":     room(256, strings.Repeat(strings.Repeat("x", 4095)+"\n", 15)+strings.Repeat("x", 4095)),
		"16 lines of escapes":   room(256, strings.Repeat(strings.Repeat("\x01", 4095)+"\n", 15)+strings.Repeat("\x01", 4095)),
	} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				r := s.Last(MaxLines, MaxBytes)
				lines, more := linesOf(r)
				write(io.Discard, r.Epoch, lines, more)
			}
		})
		b.Run(name+", in the Hub", func(b *testing.B) {
			for b.Loop() {
				s.Last(MaxLines, MaxBytes)
			}
		})
	}
}
