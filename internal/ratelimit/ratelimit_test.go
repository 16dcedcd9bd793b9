package ratelimit

import (
	"io"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// A log of 100 records at once, and one each 10 s, drops all others and reports their number.
func TestLogIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out strings.Builder
		log := slog.New(NewHandler(slog.NewTextHandler(&out, nil), New(100, 10*time.Second), 200))
		for range 1000 {
			log.With("a", 1).WithGroup("g").Info("attack")
		}
		if got := strings.Count(out.String(), "\n"); got != 100 {
			t.Errorf("got %d records at once, want 100", got)
		}
		out.Reset()
		time.Sleep(10 * time.Second)
		log.Info("later")
		log.Info("dropped")
		if got := out.String(); strings.Count(got, "\n") != 1 || !strings.HasSuffix(got, "msg=later left_out=900\n") {
			t.Errorf("got %q, want one record with left_out=900", got)
		}
		out.Reset()
		time.Sleep(20 * time.Second)
		log.Info("and later")
		if got := out.String(); !strings.HasSuffix(got, "msg=\"and later\" left_out=1\n") {
			t.Errorf("got %q, want a record with left_out=1", got)
		}
	})
}

// While one record waits for the handler behind it, those that come too fast are dropped at once.
func TestDroppingDoesNotWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		in, out := io.Pipe()
		log := slog.New(NewHandler(slog.NewTextHandler(out, nil), New(1, time.Minute), 200))
		go log.Info("waits for its reader")
		synctest.Wait()
		log.Info("dropped")
		in.Close()
	})
}

// A string is cut where a rune begins. Bytes that are no UTF-8 are cut anywhere.
func TestCut(t *testing.T) {
	for _, test := range []struct {
		s    string
		size int
		want string
	}{
		{"", 0, ""}, {"abc", 3, "abc"}, {"abc", 2, "ab"}, {"abc", 0, ""},
		{"aä", 2, "a"}, {"aä", 3, "aä"}, {"aäb", 3, "aä"}, {"ä", 1, ""},
		{"a\U0001f600", 4, "a"}, {"a\U0001f600", 2, "a"}, {"a\U0001f600b", 5, "a\U0001f600"},
		{"a\u202eb", 3, "a"}, {"a\u202eb", 4, "a\u202e"},
		{"\x80\x80\x80\x80\x80\x80", 5, "\x80\x80\x80\x80\x80"}, {"\xff\xff\xff", 2, "\xff\xff"}, {"\x80\x80", 1, "\x80"},
	} {
		if got := Cut(test.s, test.size); got != test.want {
			t.Errorf("Cut(%+q, %d): got %+q, want %+q", test.s, test.size, got, test.want)
		}
	}
}

// A message is cut to 200 bytes.
func TestMessageIsCut(t *testing.T) {
	var out strings.Builder
	log := slog.New(NewHandler(slog.NewTextHandler(&out, nil), New(1, time.Second), 200))
	log.Info(strings.Repeat("x", 201))
	if got, want := out.String(), "msg="+strings.Repeat("x", 200)+"\n"; !strings.HasSuffix(got, want) {
		t.Errorf("got %q, want %q at its end", got, want)
	}
}
