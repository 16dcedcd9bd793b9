package logqueue

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
	"unicode"
	"unicode/utf8"
)

// reader is the writer under a Queue. It stands for standard error with its reader.
type reader struct {
	reads chan struct{} // closed when it reads; nil if it does from the start

	// Owned by the Queue until its Close, except in synctest bubbles that are idle.
	text   bytes.Buffer
	err    error // of each write, if not nil
	failAt int   // bytes of each failing write that are written
}

func (r *reader) Write(b []byte) (int, error) {
	if r.reads != nil {
		<-r.reads
	}
	if r.err != nil {
		b = b[:r.failAt]
	}
	r.text.Write(b)
	return len(b), r.err
}

// lines closes q, and returns what was read without the times.
func (r *reader) lines(q *Queue) []string {
	q.Close()
	return strings.SplitAfter(regexp.MustCompile(`time=\S+ `).ReplaceAllString(r.text.String(), ""), "\n")
}

func expect(t *testing.T, got []string, want ...string) {
	t.Helper()
	if want = append(want, ""); fmt.Sprintf("%q", got) != fmt.Sprintf("%q", want) {
		t.Errorf("got lines %.2000q, want %.2000q", got, want)
	}
}

// Records go through whole and in order, although the caller reuses its buffer.
func TestRecordsInOrder(t *testing.T) {
	var r reader
	q := New(&r)
	buffer := make([]byte, 0, 100)
	for _, record := range []string{"one\n", "two\n", "three\n"} {
		buffer = append(buffer[:0], record...)
		if n, err := q.Write(buffer); n != len(record) || err != nil {
			t.Errorf("got %d, %v; want %d and no error", n, err, len(record))
		}
		clear(buffer)
	}
	expect(t, r.lines(q), "one\n", "two\n", "three\n")
}

// While nobody reads, a Write does not wait. 1000 records are held, and the record after the dropped ones begins
// with their number.
func TestNobodyReads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := reader{reads: make(chan struct{})}
		q := New(&r)
		var want []string
		for n := range 1500 {
			fmt.Fprintln(q, n)
			if n < 1000 {
				want = append(want, fmt.Sprintln(n))
			}
		}
		close(r.reads)
		synctest.Wait()
		fmt.Fprintln(q, "next")
		fmt.Fprintln(q, "and after")
		expect(t, r.lines(q), append(want, "level=WARN msg=\"log records dropped\" records=500\n", "next\n", "and after\n")...)
	})
}

// Records of 1 MiB in all are held. A record that does not fit is dropped, even alone, and a shorter one may fit.
func TestRecordsAreBoundedInBytes(t *testing.T) {
	r := reader{reads: make(chan struct{})}
	q := New(&r)
	quarter := strings.Repeat("x", 256<<10-1) + "\n"
	for _, record := range []string{strings.Repeat("x", 1<<20) + "\n", quarter, quarter, quarter, quarter + quarter, "short\n", quarter} {
		q.Write([]byte(record))
	}
	close(r.reads)
	dropped := "level=WARN msg=\"log records dropped\" records=1\n"
	expect(t, r.lines(q), dropped, quarter, quarter, quarter, dropped, "short\n", dropped)
}

// Close waits 1 s for a reader that does not read. What is written later is dropped. A reader that reads delays
// nothing, and Close may be called again.
func TestClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := reader{reads: make(chan struct{})}
		q := New(&r)
		defer close(r.reads)
		fmt.Fprintln(q, "never read")
		for range 2 {
			began := time.Now()
			q.Close()
			if took := time.Since(began); took != time.Second {
				t.Errorf("Close took %v, want 1 s", took)
			}
			fmt.Fprintln(q, "too late")
		}
	})
	synctest.Test(t, func(t *testing.T) {
		var r reader
		q := New(&r)
		began := time.Now()
		fmt.Fprintln(q, "read")
		expect(t, r.lines(q), "read\n")
		if took := time.Since(began); took != 0 {
			t.Errorf("Close took %v, want 0", took)
		}
	})
}

// The last line has the number of the records that were dropped at the end.
func TestDroppedAtTheEnd(t *testing.T) {
	r := reader{reads: make(chan struct{})}
	q := New(&r)
	for range 1002 {
		fmt.Fprintln(q, "record")
	}
	close(r.reads)
	got := r.lines(q)
	expect(t, got[len(got)-3:], "record\n", "level=WARN msg=\"log records dropped\" records=2\n")
}

// After writes that failed, such as those to a closed terminal or a full disk, the log goes on with the number of
// the records that are missing. A record of which a part was written gets a line of its own.
func TestWritesFail(t *testing.T) {
	for failAt, torn := range map[int][]string{0: nil, 3: {"abc\n"}} {
		synctest.Test(t, func(t *testing.T) {
			r := reader{err: errors.New("input/output error"), failAt: failAt}
			q := New(&r)
			fmt.Fprintln(q, "abcdef")
			synctest.Wait()
			r.failAt = 0
			fmt.Fprintln(q, "fails, too")
			synctest.Wait()
			r.err = nil
			fmt.Fprintln(q, "succeeds")
			expect(t, r.lines(q), append(torn, "level=WARN msg=\"log records dropped\" records=2\n", "succeeds\n")...)
		})
	}
}

// Any goroutine may write, also while another one closes.
func TestConcurrentWrites(t *testing.T) {
	var r reader
	q := New(&r)
	var writing sync.WaitGroup
	for range 8 {
		writing.Go(func() {
			for range 200 {
				fmt.Fprintln(q, "record")
			}
		})
	}
	q.Close()
	writing.Wait()
	if got := strings.ReplaceAll(r.text.String(), "record\n", ""); len(got) > 0 && !strings.HasPrefix(got, "time=") {
		t.Errorf("got %q beside whole records, want nothing but the number of dropped ones", got)
	}
}

// A rune of a peer is the same in the log if it is ASCII that prints, or a visible letter, digit or accent. Every
// other rune is shown as an escape, wherever it stands in a record.
func TestRunes(t *testing.T) {
	escaped := map[rune]string{
		0: `\x00`, '\a': `\a`, '\b': `\b`, '\t': `\t`, '\n': `\n`, '\r': `\r`, 0x1b: `\x1b`, 0x1f: `\x1f`, 0x7f: `\x7f`,
		0x80: `\u0080`, 0x85: `\u0085`, 0x9b: `\u009b`, 0x9f: `\u009f`,
		0xa0: `\u00a0`, 0xad: `\u00ad`, 0x2003: `\u2003`, 0x3000: `\u3000`, 0x2800: `\u2800`, // spaces
		0x2028: `\u2028`, 0x2029: `\u2029`, // line breaks
		0x200e: `\u200e`, 0x202a: `\u202a`, 0x202e: `\u202e`, 0x2066: `\u2066`, 0x2069: `\u2069`, 0x061c: `\u061c`, // directions
		0x200b: `\u200b`, 0x200d: `\u200d`, 0x2060: `\u2060`, 0xfeff: `\ufeff`, 0x034f: `\u034f`, 0x115f: `\u115f`, 0x3164: `\u3164`,
		0xfe0f: `\ufe0f`, 0xe0001: `\U000e0001`, 0xe0100: `\U000e0100`, // no width
		0xff1d: `\uff1d`, 0xff02: `\uff02`, 0x201d: `\u201d`, // look like = and "
		0xfffd: `\ufffd`, 0xe000: `\ue000`, 0x10ffff: `\U0010ffff`,
	}
	for r, want := range escaped {
		if got := string(appendShown(nil, []byte("a"+string(r)+"z"))); got != "a"+want+"z" {
			t.Errorf("%U: got %s, want a%sz", r, got, want)
		}
	}
	for _, plain := range []string{"häuser", "/srv/чат", "東京", "cafe\u0301", "हिन्दी", "٣", `!"#$%&'()*+,-./:;<=>?@[\]^_{|}~` + "`"} {
		if got := string(appendShown(nil, []byte(plain))); got != plain {
			t.Errorf("got %q, want %q", got, plain)
		}
	}
	for broken, want := range map[string]string{
		"\x80": `\x80`, "\x9b31m": `\x9b31m`, "\xff": `\xff`, "\xe2\x80": `\xe2\x80`, "\xc0\x8a": `\xc0\x8a`, "\xed\xa0\x80": `\xed\xa0\x80`,
	} {
		if got := string(appendShown(nil, []byte(broken))); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}

// Whatever stands in the message, in a key or in a value of a record, one line comes of it that a terminal prints
// as it is. A reader of the format finds the same keys and values in it again.
func TestNoRuneForges(t *testing.T) {
	var texts []string
	for b := range 256 {
		texts = append(texts, string([]byte{byte(b)}), "x"+string([]byte{byte(b)})+"x")
	}
	for r := rune(0); r <= unicode.MaxRune; r++ {
		if r < 0x3100 || r&0xff == 0 || unicode.Is(unicode.Cf, r) {
			texts = append(texts, "x"+string(r)+"x")
		}
	}
	texts = append(texts, "x\" level=ERROR msg=\"forged", "x\nlevel=ERROR msg=forged", "x level=ERROR", `x\`, `x\" y=z`, "x\u2800level\uff1dERROR")
	field := regexp.MustCompile(`^(time|level|msg|room)=("(?:[^"\\]|\\.)*"|[^ "=]+)( |$)`)
	for _, text := range texts {
		var r reader
		q := New(&r)
		slog.New(slog.NewTextHandler(q, nil)).Info(text, "room", text)
		q.Close()
		got, ended := strings.CutSuffix(r.text.String(), "\n")
		for _, c := range got {
			if c != ' ' && (c == utf8.RuneError || !unicode.IsGraphic(c) || unicode.IsSpace(c) || unicode.Is(unicode.Variation_Selector, c)) {
				t.Errorf("%+q: got %+q, with %U", text, got, c)
			}
		}
		var keys []string
		for rest := got; rest != ""; {
			match := field.FindStringSubmatch(rest)
			if match == nil {
				t.Errorf("%+q: got %+q, want only keys and values", text, got)
				break
			}
			keys, rest = append(keys, match[1]), rest[len(match[0]):]
			value, err := strconv.Unquote(match[2])
			if err != nil {
				value, err = strconv.Unquote(`"` + match[2] + `"`) // a bare value may have escapes
			}
			if (match[1] == "msg" || match[1] == "room") && value != text && match[2] != text {
				t.Errorf("%+q: got %s=%+q, %v", text, match[1], value, err)
			}
		}
		if fmt.Sprint(keys) != "[time level msg room]" || !ended {
			t.Errorf("%+q: got keys %q, ended by a line break: %v", text, keys, ended)
		}
	}
}
