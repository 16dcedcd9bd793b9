package ws_test

import (
	"encoding/binary"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"golang.org/x/net/websocket"

	"chat/internal/wstest"
)

// The cases cover each group of sections 1 to 7, 9 and 10 of the Autobahn test suite, whose numbers
// they carry, and some that it leaves out. Their inputs come from the RFC and from the rules of
// UTF-8.

// rfcCase is what a client sends, and what it gets to see.
type rfcCase struct {
	name     string   // section of RFC 6455, what is tested (number in Autobahn)
	send     string   // bytes after the handshake; a normal close frame follows them
	only     bool     // no close frame follows: the server must not wait for more
	texts    []string // the text messages that come back
	binaries []string // the binary messages
	pongs    []string // payloads of the pongs
	close    int      // the code in the server's close frame
}

// Frames of a client.
func text(s string) string         { return string(wstest.Frame(0x81, s)) }
func textBegins(s string) string   { return string(wstest.Frame(0x01, s)) }
func continues(s string) string    { return string(wstest.Frame(0x00, s)) }
func ends(s string) string         { return string(wstest.Frame(0x80, s)) }
func binaryFrame(s string) string  { return string(wstest.Frame(0x82, s)) }
func closes(payload string) string { return string(wstest.Frame(0x88, payload)) }
func ping(s string) string         { return string(wstest.Frame(0x89, s)) }
func pong(s string) string         { return string(wstest.Frame(0x8a, s)) }
func other(b byte, s string) string {
	return string(wstest.Frame(b, s))
}

// code is the payload of a close frame.
func code(n uint16, reason string) string {
	return string(binary.BigEndian.AppendUint16(nil, n)) + reason
}

// fragments returns message in frames of size bytes.
func fragments(message string, size int) string {
	var frames strings.Builder
	for at := 0; at < len(message); at += size {
		first := byte(0x00)
		if at == 0 {
			first |= 0x01
		}
		if at+size >= len(message) {
			first |= 0x80
		}
		frames.Write(wstest.Frame(first, message[at:min(at+size, len(message))]))
	}
	return frames.String()
}

func rfcCases() []rfcCase {
	return slices.Concat(framingCases(), pingCases(), reservedCases(), fragmentCases(),
		utf8Cases(), closeCases(), limitCases(), sizeCases())
}

func framingCases() (cases []rfcCase) {
	for i, n := range []int{0, 125, 126, 127, 128, 65535, 65536} {
		s := strings.Repeat("*", n)
		cases = append(cases,
			rfcCase{name: fmt.Sprintf("5.6 text of %d bytes (1.1.%d)", n, i+1), send: text(s), texts: []string{s}, close: 1000},
			rfcCase{name: fmt.Sprintf("5.6 binary of %d bytes (1.2.%d)", n, i+1), send: binaryFrame(s), binaries: []string{s}, close: 1000})
	}
	unmasked := func(b ...byte) string { return string(b) }
	mask := "\x00\x00\x00\x00"
	return append(cases, []rfcCase{
		{name: "5.1 text not masked", send: unmasked(0x81, 1, 'x'), close: 1002},
		{name: "5.1 ping not masked", send: unmasked(0x89, 0), only: true, close: 1002},
		{name: "5.1 close not masked", send: unmasked(0x88, 0), only: true, close: 1002},
		{name: "5.2 16-bit length of 125", send: "\x81\xfe\x00\x7d" + mask + strings.Repeat("x", 125), close: 1002},
		{name: "5.2 16-bit length of 0", send: "\x81\xfe\x00\x00" + mask, close: 1002},
		{name: "5.2 64-bit length of 125", send: "\x81\xff\x00\x00\x00\x00\x00\x00\x00\x7d" + mask + strings.Repeat("x", 125), close: 1002},
		{name: "5.2 64-bit length of 65535", send: "\x81\xff\x00\x00\x00\x00\x00\x00\xff\xff" + mask + strings.Repeat("x", 65535), close: 1002},
		{name: "5.2 64-bit length with the highest bit", send: "\x81\xff\x80\x00\x00\x00\x00\x01\x00\x00" + mask + strings.Repeat("x", 65536), close: 1002},
	}...)
}

func pingCases() []rfcCase {
	var pings, ten string
	var pongs []string
	for i := range 10 {
		payload := fmt.Sprint("payload ", i)
		pings += ping(payload)
		pongs = append(pongs, payload)
	}
	ten = strings.Repeat(pong("unasked"), 10)
	full := strings.Repeat("\xfe", 125)
	return []rfcCase{
		{name: "5.5.2 ping without payload (2.1)", send: ping(""), pongs: []string{""}, close: 1000},
		{name: "5.5.2 ping with text (2.2)", send: ping("Hello"), pongs: []string{"Hello"}, close: 1000},
		{name: "5.5.2 ping with bytes (2.3)", send: ping("\x00\xff\xfe\xfd\xfc\x00"), pongs: []string{"\x00\xff\xfe\xfd\xfc\x00"}, close: 1000},
		{name: "5.5.2 ping with 125 bytes (2.4, 2.6)", send: ping(full), pongs: []string{full}, close: 1000},
		{name: "5.5 ping with 126 bytes (2.5)", send: ping(full + "x"), close: 1002},
		{name: "5.5 pong with 126 bytes", send: pong(full + "x"), close: 1002},
		{name: "5.5.3 unasked pong (2.7)", send: pong(""), close: 1000},
		{name: "5.5.3 unasked pong with payload (2.8)", send: pong("unasked"), close: 1000},
		{name: "5.5.3 unasked pong, then ping (2.9)", send: pong("unasked") + ping("asked"), pongs: []string{"asked"}, close: 1000},
		{name: "5.5.2 ten pings (2.10, 2.11)", send: pings, pongs: pongs, close: 1000},
		{name: "5.5.3 ten pongs around a text", send: ten + text("x") + ten, texts: []string{"x"}, close: 1000},
	}
}

// reservedCases are those of RFC 6455, section 5.2: what is reserved for extensions.
func reservedCases() (cases []rfcCase) {
	for rsv := byte(1); rsv <= 7; rsv++ {
		for _, opcode := range []byte{0x0, 0x1, 0x2, 0x8, 0x9, 0xa} {
			for _, payload := range []string{"", "Hello"} {
				cases = append(cases, rfcCase{
					name:  fmt.Sprintf("5.2 reserved bits %03b, opcode %d, %d bytes (3.%d)", rsv, opcode, len(payload), rsv),
					send:  text("before") + other(0x80|rsv<<4|opcode, payload) + ping("after"),
					texts: []string{"before"}, close: 1002,
				})
			}
		}
	}
	for _, opcode := range []byte{0x3, 0x4, 0x5, 0x6, 0x7, 0xb, 0xc, 0xd, 0xe, 0xf} {
		for _, payload := range []string{"", "reserved"} {
			for _, first := range []byte{0x80, 0x00} {
				cases = append(cases, rfcCase{
					name:  fmt.Sprintf("5.2 first byte %#x, %d bytes (4.%d)", first|opcode, len(payload), 1+opcode/8),
					send:  text("before") + other(first|opcode, payload) + ping("after"),
					texts: []string{"before"}, close: 1002,
				})
			}
		}
	}
	return cases
}

func fragmentCases() []rfcCase {
	two := textBegins("frag1") + ends("frag2")
	both := []string{"frag1frag2"}
	return []rfcCase{
		{name: "5.4 ping in fragments (5.1)", send: other(0x09, "frag1") + ends("frag2"), close: 1002},
		{name: "5.4 pong in fragments (5.2)", send: other(0x0a, "frag1") + ends("frag2"), close: 1002},
		{name: "5.4 close in fragments", send: other(0x08, code(1000, "")) + ends("x"), close: 1002},
		{name: "5.4 text in two fragments (5.3 to 5.5)", send: two, texts: both, close: 1000},
		{name: "5.4 ping between fragments (5.6 to 5.8)", send: textBegins("frag1") + ping("p") + ends("frag2"), texts: both, pongs: []string{"p"}, close: 1000},
		{name: "5.4 pong between fragments", send: textBegins("frag1") + pong("p") + ends("frag2"), texts: both, close: 1000},
		{name: "5.4 last fragment of nothing (5.9 to 5.11)", send: ends("none") + text("after"), close: 1002},
		{name: "5.4 fragment of nothing (5.12 to 5.14)", send: continues("none") + text("after"), close: 1002},
		{name: "5.4 fragment behind a whole message (5.15)", send: two + continues("none") + text("after"), texts: both, close: 1002},
		{name: "5.4 fragment of nothing, twice (5.16)", send: strings.Repeat(continues("none")+two, 2), close: 1002},
		{name: "5.4 last fragment of nothing, twice (5.17)", send: strings.Repeat(ends("none")+two, 2), close: 1002},
		{name: "5.4 text within a text (5.18)", send: textBegins("frag1") + text("frag2"), close: 1002},
		{name: "5.4 beginning of a text within a text", send: textBegins("frag1") + textBegins("frag2"), close: 1002},
		{name: "5.4 binary within a text", send: textBegins("frag1") + binaryFrame("frag2"), close: 1002},
		{name: "5.4 binary in fragments", send: other(0x02, "\xff") + ends("frag2"), binaries: []string{"\xfffrag2"}, close: 1000},
		{name: "5.4 five fragments and two pings (5.19, 5.20)",
			send:  textBegins("frag1") + continues("frag2") + ping("ping1") + continues("frag3") + continues("frag4") + ping("ping2") + ends("frag5"),
			texts: []string{"frag1frag2frag3frag4frag5"}, pongs: []string{"ping1", "ping2"}, close: 1000},
		{name: "5.4 a thousand empty fragments", send: textBegins("") + strings.Repeat(continues(""), 1000) + ends("x"), texts: []string{"x"}, close: 1000},
	}
}

// utf8Cases are those of RFC 6455, section 8.1: text is UTF-8 as RFC 3629 has it.
func utf8Cases() (cases []rfcCase) {
	add := func(group, s string, valid bool) {
		want := rfcCase{close: 1007}
		if valid {
			want = rfcCase{close: 1000, texts: []string{s}}
		}
		whole, single := want, want
		whole.name = fmt.Sprintf("8.1 %+q (%s)", s, group)
		whole.send = text(s)
		single.name = whole.name + " in fragments of a byte"
		single.send = fragments(s, 1)
		cases = append(cases, whole, single)
	}
	const kosme = "\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5" // κόσμε
	add("6.2", "Hello-µ@ßöäüàá-UTF-8!!", true)
	add("6.3", kosme+"\xed\xa0\x80edited", false)
	add("6.5", kosme, true)
	for n := 1; n <= len(kosme); n++ {
		add("6.6", kosme[:n], slices.Contains([]int{2, 5, 7, 9, 11}, n))
	}
	for group, list := range map[string][]string{
		"6.7":  {"\x00", "\xc2\x80", "\xe0\xa0\x80", "\xf0\x90\x80\x80"}, // first of each length
		"6.9":  {"\x7f", "\xdf\xbf", "\xef\xbf\xbf", "\xf4\x8f\xbf\xbf"}, // last of each length
		"6.11": {"\xed\x9f\xbf", "\xee\x80\x80", "\xef\xbf\xbd", "\xf4\x8f\xbf\xbf"},
	} {
		for _, s := range list {
			add(group, s, true)
		}
	}
	for plane := rune(0); plane <= 0x10; plane++ { // what is no character is still UTF-8
		add("6.22", string(plane<<16|0xfffe), true)
		add("6.22", string(plane<<16|0xffff), true)
	}
	for r := rune(0xfff9); r <= 0xffff; r++ {
		add("6.23", string(r), true)
	}

	var continuation, starts2, starts3, starts4, starts5, starts6 string
	for b := 0x80; b <= 0xbf; b++ {
		continuation += string([]byte{byte(b)})
	}
	for b := 0xc0; b <= 0xfd; b++ {
		start := string([]byte{byte(b), ' '})
		switch {
		case b < 0xe0:
			starts2 += start
		case b < 0xf0:
			starts3 += start
		case b < 0xf8:
			starts4 += start
		case b < 0xfc:
			starts5 += start
		default:
			starts6 += start
		}
	}
	cut := []string{"\xc0", "\xe0\x80", "\xf0\x80\x80", "\xf8\x80\x80\x80", "\xfc\x80\x80\x80\x80",
		"\xdf", "\xef\xbf", "\xf7\xbf\xbf", "\xfb\xbf\xbf\xbf", "\xfd\xbf\xbf\xbf\xbf"}
	for group, list := range map[string][]string{
		"6.8":  {"\xf8\x88\x80\x80\x80", "\xfc\x84\x80\x80\x80\x80"},                           // five and six bytes
		"6.10": {"\xf7\xbf\xbf\xbf", "\xfb\xbf\xbf\xbf\xbf", "\xfd\xbf\xbf\xbf\xbf\xbf"},       // beyond U+10FFFF
		"6.11": {"\xf4\x90\x80\x80"},                                                           // just beyond
		"6.12": {"\x80", "\xbf", "\x80\xbf", "\x80\xbf\x80", "\x80\xbf\x80\xbf", continuation}, // nothing to continue
		"6.13": {starts2, starts3, starts4, starts5, starts6},                                  // not continued
		"6.14": cut,                                                                            // not continued to the end
		"6.15": {strings.Join(cut, "")},
		"6.16": {"\xfe", "\xff", "\xfe\xfe\xff\xff"},
		"6.17": {"\xc0\xaf", "\xe0\x80\xaf", "\xf0\x80\x80\xaf", "\xf8\x80\x80\x80\xaf", "\xfc\x80\x80\x80\x80\xaf"}, // overlong
		"6.18": {"\xc1\xbf", "\xe0\x9f\xbf", "\xf0\x8f\xbf\xbf", "\xf8\x87\xbf\xbf\xbf", "\xfc\x83\xbf\xbf\xbf\xbf"},
		"6.19": {"\xc0\x80", "\xe0\x80\x80", "\xf0\x80\x80\x80", "\xf8\x80\x80\x80\x80", "\xfc\x80\x80\x80\x80\x80"},
		"6.20": {"\xed\xa0\x80", "\xed\xad\xbf", "\xed\xae\x80", "\xed\xaf\xbf", "\xed\xb0\x80", "\xed\xbe\x80", "\xed\xbf\xbf"}, // surrogates
		"6.21": {"\xed\xa0\x80\xed\xb0\x80", "\xed\xa0\x80\xed\xbf\xbf", "\xed\xad\xbf\xed\xb0\x80", "\xed\xad\xbf\xed\xbf\xbf",
			"\xed\xae\x80\xed\xb0\x80", "\xed\xae\x80\xed\xbf\xbf", "\xed\xaf\xbf\xed\xb0\x80", "\xed\xaf\xbf\xed\xbf\xbf"},
	} {
		for _, s := range list {
			add(group, s, false)
		}
	}

	// The first byte that can't be right ends it, whatever was to follow.
	cutShort := func(frame string, missing int) string { return frame[:len(frame)-missing] }
	return append(cases, []rfcCase{
		{name: "5.6 empty fragments (6.1.2)", send: textBegins("") + continues("") + ends(""), texts: []string{""}, close: 1000},
		{name: "5.6 empty fragments around a text (6.1.3)", send: textBegins("") + continues("middle") + ends(""), texts: []string{"middle"}, close: 1000},
		{name: "8.1 fragments cut a rune (6.2.2 to 6.2.4)", send: textBegins(kosme[:3]) + continues("") + ends(kosme[3:]), texts: []string{kosme}, close: 1000},
		{name: "8.1 bad fragment, the last not sent (6.4.1)", send: textBegins(kosme) + continues("\xf4\x90\x80\x80"), only: true, close: 1007},
		{name: "8.1 bad second byte, the rest not sent (6.4.2)", send: textBegins(kosme+"\xf4") + continues("\x90"), only: true, close: 1007},
		{name: "8.1 bad rune within a frame (6.4.3)", send: cutShort(text(kosme+"\xf4\x90\x80\x80edited"), 6), only: true, close: 1007},
		{name: "8.1 bad second byte within a frame (6.4.4)", send: cutShort(text(kosme+"\xf4\x90\x80\x80edited"), 8), only: true, close: 1007},
		{name: "8.1 bad rune, megabytes not sent", send: cutShort(text("\xff"+strings.Repeat("x", 1<<20)), 1<<20), only: true, close: 1007},
	}...)
}

func closeCases() (cases []rfcCase) {
	long := strings.Repeat("*", 256<<10)
	cases = []rfcCase{
		{name: "5.5.1 text, then close (7.1.1)", send: text("x") + closes(code(1000, "")), texts: []string{"x"}, close: 1000},
		{name: "5.5.1 two close frames (7.1.2)", send: closes(code(1001, "")) + closes(code(1000, "")), close: 1001},
		{name: "5.5.1 ping behind close (7.1.3)", send: closes(code(1000, "")) + ping("x"), close: 1000},
		{name: "5.5.1 text behind close (7.1.4)", send: closes(code(1000, "")) + text("x"), close: 1000},
		{name: "5.5.1 close between fragments (7.1.5)", send: textBegins("x") + closes(code(1000, "")) + ends("y"), close: 1000},
		{name: "5.5.1 long text, close, ping (7.1.6)", send: text(long) + closes(code(1000, "")) + ping("x"), texts: []string{long}, close: 1000},
		{name: "5.5.1 close without payload (7.3.1)", send: closes(""), only: true, close: 1005},
		{name: "5.5.1 close with one byte (7.3.2)", send: closes("\x03"), only: true, close: 1002},
		{name: "5.5.1 close with a code (7.3.3)", send: closes(code(1000, "")), only: true, close: 1000},
		{name: "5.5.1 close with a reason (7.3.4)", send: closes(code(1000, "Hello World!")), only: true, close: 1000},
		{name: "5.5.1 close with 123 bytes of reason (7.3.5)", send: closes(code(1000, long[:123])), only: true, close: 1000},
		{name: "5.5 close with 124 bytes of reason (7.3.6)", send: closes(code(1000, long[:124])), only: true, close: 1002},
		{name: "5.5.1 reason is not UTF-8 (7.5.1)", send: closes(code(1000, "\xce\xba\xed\xa0\x80edited")), only: true, close: 1007},
	}
	for group, codes := range map[string][]int{
		"7.7":  {1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999},
		"7.9":  {0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999},
		"7.13": {5000, 65535},
	} {
		for _, n := range codes {
			want := 1002
			if group == "7.7" {
				want = n
			}
			for _, reason := range []string{"", "because"} {
				cases = append(cases, rfcCase{
					name: fmt.Sprintf("7.4 close with %d %q (%s)", n, reason, group),
					send: closes(code(uint16(n), reason)), only: true, close: want,
				})
			}
		}
	}
	return cases
}

func limitCases() []rfcCase {
	most := strings.Repeat("x", maxMessage)
	claim := func(first byte, n uint64) string {
		return string(binary.BigEndian.AppendUint64([]byte{first, 0xff}, n)) + "\x00\x00\x00\x00"
	}
	return []rfcCase{
		{name: "10.4 a byte too many claimed", send: claim(0x81, maxMessage+1), only: true, close: 1009},
		{name: "10.4 a gigabyte claimed", send: claim(0x81, 1<<30), only: true, close: 1009},
		{name: "10.4 all that can be claimed", send: claim(0x81, 1<<63-1), only: true, close: 1009},
		{name: "10.4 all that can be claimed, as a ping", send: claim(0x89, 1<<63-1), only: true, close: 1002},
		{name: "10.4 a byte too many in fragments", send: textBegins(most) + other(0x80, "x")[:6], only: true, close: 1009},
		{name: "10.4 too many bytes sent", send: text(most + "x"), close: 1009},
	}
}

// sizeCases are those of sections 9 and 10 of Autobahn; 5.4 lets fragments be of any size.
func sizeCases() (cases []rfcCase) {
	whole := func(n int) string { return strings.Repeat("*", n) }
	for i, n := range []int{64 << 10, 256 << 10, 1 << 20, 4 << 20, 8 << 20, 16 << 20} {
		cases = append(cases,
			rfcCase{name: fmt.Sprintf("5.6 text of %d bytes (9.1.%d)", n, i+1), send: text(whole(n)), texts: []string{whole(n)}, close: 1000},
			rfcCase{name: fmt.Sprintf("5.6 binary of %d bytes (9.2.%d)", n, i+1), send: binaryFrame(whole(n)), binaries: []string{whole(n)}, close: 1000})
	}
	for i, size := range []int{64, 256, 1 << 10, 4 << 10, 16 << 10, 64 << 10, 256 << 10, 1 << 20, 4 << 20} {
		cases = append(cases, rfcCase{name: fmt.Sprintf("5.4 4 MiB in fragments of %d (9.3.%d)", size, i+1),
			send: fragments(whole(4<<20), size), texts: []string{whole(4 << 20)}, close: 1000})
	}
	return append(cases,
		rfcCase{name: "5.4 16 MiB in fragments of 1000", send: fragments(whole(16<<20), 1000), texts: []string{whole(16 << 20)}, close: 1000},
		rfcCase{name: "5.4 binary in fragments (9.4)", send: "\x02" + fragments(whole(4<<20), 64)[1:], binaries: []string{whole(4 << 20)}, close: 1000},
		rfcCase{name: "5.4 64 KiB in fragments of 1300 (10.1.1)", send: fragments(whole(64<<10), 1300), texts: []string{whole(64 << 10)}, close: 1000})
}

// startEcho runs an echo server until the end of the test.
func startEcho(t testing.TB) (addr string) {
	server := httptest.NewServer(http.HandlerFunc(echo))
	t.Cleanup(server.Close)
	return server.Listener.Addr().String()
}

// startEchoInBubble runs an echo server in memory.
func startEchoInBubble(t testing.TB) wstest.Listener {
	l := wstest.NewListener()
	server := &http.Server{Handler: http.HandlerFunc(echo)}
	go server.Serve(l)
	t.Cleanup(func() { server.Close() })
	return l
}

func TestRFC6455(t *testing.T) {
	t.Parallel()
	addr := startEcho(t)
	for _, test := range rfcCases() {
		t.Run(test.name, func(t *testing.T) { test.run(t, addr, len(test.send)+8) })
	}
}

// The same with the bytes sent one at a time; the cases of megabytes, for the
// tester's time, in pieces of a few (9.5 and 9.6 in Autobahn).
func TestRFC6455InPieces(t *testing.T) {
	t.Parallel()
	addr := startEcho(t)
	for _, test := range rfcCases() {
		size := 1
		if len(test.send) > 300<<10 {
			size = 997
		}
		t.Run(test.name, func(t *testing.T) { test.run(t, addr, size) })
	}
}

// run sends the case to an echo server in pieces of that size, and compares all that
// comes back until the end of the connection.
func (want rfcCase) run(t *testing.T, addr string, size int) {
	p := wstest.Upgrade(t, wstest.Dial(t, addr), "/")
	defer p.Conn.Close()
	send := []byte(want.send)
	if !want.only {
		send = append(send, closes(code(1000, ""))...)
	}
	go func() {
		for piece := range slices.Chunk(send, size) {
			if _, err := p.Conn.Write(piece); err != nil {
				return // the server's word on it is what counts
			}
		}
	}()

	var texts, binaries, pongs []string
	for {
		opcode, payload, err := p.ReadFrame()
		if err != nil {
			t.Fatalf("before a close frame: %v", err)
		}
		switch opcode {
		case websocket.TextFrame:
			texts = append(texts, payload)
		case websocket.BinaryFrame:
			binaries = append(binaries, payload)
		case websocket.PongFrame:
			pongs = append(pongs, payload)
		case websocket.CloseFrame:
			if got := wstest.CloseCode(payload); got != want.close {
				t.Errorf("close frame %q, want code %d", payload, want.close)
			}
			if !slices.Equal(texts, want.texts) {
				t.Errorf("messages %.100q, want %.100q", texts, want.texts)
			}
			if !slices.Equal(binaries, want.binaries) {
				t.Errorf("binary messages %.100q, want %.100q", binaries, want.binaries)
			}
			if !slices.Equal(pongs, want.pongs) {
				t.Errorf("pongs %q, want %q", pongs, want.pongs)
			}
			if b, err := p.In.ReadByte(); err != io.EOF {
				t.Errorf("%#x, %v behind the close frame, want EOF", b, err)
			}
			return
		default:
			t.Fatalf("unexpected frame: %s", wstest.Show(opcode, payload))
		}
	}
}

// Many messages of one size, each said when the one before has come back.
func TestMessageAfterMessage(t *testing.T) {
	addr := startEcho(t)
	for i, n := range []int{0, 16, 64, 256, 1024, 4096} {
		t.Run(fmt.Sprintf("5.6 a thousand texts of %d bytes (9.7.%d)", n, i+1), func(t *testing.T) {
			p := wstest.Upgrade(t, wstest.Dial(t, addr), "/")
			s := strings.Repeat("x", n)
			for range 1000 {
				p.Send(websocket.TextFrame, s)
				p.Expect(websocket.TextFrame, s)
			}
		})
	}
}

// What a frame claims to hold costs nothing before it is there (RFC 6455, section 10.4).
func TestClaimsCostNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const peers = 100
		l := startEchoInBubble(t)
		claim := []byte("\x81\xff\x00\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00and no more") // maxMessage
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		for range peers {
			wstest.Upgrade(t, l.Dial(t), "/").Write(claim)
		}
		synctest.Wait()
		runtime.ReadMemStats(&after)
		if took := (after.TotalAlloc - before.TotalAlloc) / peers; took > 64<<10 {
			t.Errorf("%d bytes a peer", took)
		}
	})
}
