// Package rfc6455 tests an echo server against RFC 6455. A chat with one client is an echo server.
//
// The name of a case begins with a section of the RFC. If the Autobahn test suite has the same case, the
// name ends in Autobahn's number. The cases cover each group of Autobahn's sections 1 to 7, 9 and 10, and
// some input that Autobahn leaves out. Each input is derived from the RFC, or from the definition of UTF-8.
package rfc6455

import (
	"encoding/binary"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	"golang.org/x/net/websocket"

	"example.com/chat/internal/wstest"
)

// Limit is the most bytes that a message to the server may have. The server must accept a message of Limit
// bytes and refuse longer ones.
const Limit = 16 << 20

// Server is a server under test.
type Server struct {
	Start    func(testing.TB) (addr string) // called for each case, which must not receive messages of other cases
	Target   string                         // request target of the WebSocket
	TextOnly bool                           // the server must answer binary messages with close code 1003
}

// Case is the input of a client, and the output that it must receive.
type Case struct {
	Name     string   // section of RFC 6455, subject (number in Autobahn)
	Send     string   // bytes after the handshake; unless Only is set, a close frame with 1000 follows
	Only     bool     // nothing follows Send, so the server must not wait for more
	Texts    []string // text messages from the server
	Binaries []string // binary messages from the server
	Pongs    []string // payloads of the server's pongs
	Close    int      // code in the server's close frame; 1005 stands for no code
}

// The functions below return frames of a client.

func text(s string) string         { return string(wstest.Frame(0x81, s)) }
func textBegins(s string) string   { return string(wstest.Frame(0x01, s)) }
func continues(s string) string    { return string(wstest.Frame(0x00, s)) }
func ends(s string) string         { return string(wstest.Frame(0x80, s)) }
func binaryFrame(s string) string  { return string(wstest.Frame(0x82, s)) }
func closes(payload string) string { return string(wstest.Frame(0x88, payload)) }
func ping(s string) string         { return string(wstest.Frame(0x89, s)) }
func pong(s string) string         { return string(wstest.Frame(0x8a, s)) }

// frame returns a frame with the given first byte.
func frame(first byte, s string) string { return string(wstest.Frame(first, s)) }

// code returns the payload of a close frame.
func code(n uint16, reason string) string {
	return string(binary.BigEndian.AppendUint16(nil, n)) + reason
}

// fragments returns a text message in frames with payloads of size bytes.
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

// Cases returns all cases.
func Cases() []Case {
	return slices.Concat(framingCases(), pingCases(), reservedCases(), fragmentCases(),
		utf8Cases(), closeCases(), limitCases(), sizeCases())
}

// framingCases test the lengths and the mask of frames.
func framingCases() (cases []Case) {
	for i, n := range []int{0, 125, 126, 127, 128, 65535, 65536} {
		s := strings.Repeat("*", n)
		cases = append(cases,
			Case{Name: fmt.Sprintf("5.6 text of %d bytes (1.1.%d)", n, i+1), Send: text(s), Texts: []string{s}, Close: 1000},
			Case{Name: fmt.Sprintf("5.6 binary of %d bytes (1.2.%d)", n, i+1), Send: binaryFrame(s), Binaries: []string{s}, Close: 1000})
	}
	const mask = "\x00\x00\x00\x00"
	return append(cases, []Case{
		{Name: "5.1 text not masked", Send: "\x81\x01x", Close: 1002},
		{Name: "5.1 ping not masked", Send: "\x89\x00", Only: true, Close: 1002},
		{Name: "5.1 close not masked", Send: "\x88\x00", Only: true, Close: 1002},
		{Name: "5.2 16-bit length of 125", Send: "\x81\xfe\x00\x7d" + mask + strings.Repeat("x", 125), Close: 1002},
		{Name: "5.2 16-bit length of 0", Send: "\x81\xfe\x00\x00" + mask, Close: 1002},
		{Name: "5.2 64-bit length of 125", Send: "\x81\xff\x00\x00\x00\x00\x00\x00\x00\x7d" + mask + strings.Repeat("x", 125), Close: 1002},
		{Name: "5.2 64-bit length of 65535", Send: "\x81\xff\x00\x00\x00\x00\x00\x00\xff\xff" + mask + strings.Repeat("x", 65535), Close: 1002},
		{Name: "5.2 64-bit length with the highest bit", Send: "\x81\xff\x80\x00\x00\x00\x00\x01\x00\x00" + mask + strings.Repeat("x", 65536), Close: 1002},
	}...)
}

// pingCases test pings and pongs.
func pingCases() []Case {
	var pings, ten string
	var pongs []string
	for i := range 10 {
		payload := fmt.Sprint("payload ", i)
		pings += ping(payload)
		pongs = append(pongs, payload)
	}
	ten = strings.Repeat(pong("unsolicited"), 10)
	full := strings.Repeat("\xfe", 125)
	return []Case{
		{Name: "5.5.2 ping without payload (2.1)", Send: ping(""), Pongs: []string{""}, Close: 1000},
		{Name: "5.5.2 ping with text (2.2)", Send: ping("Hello"), Pongs: []string{"Hello"}, Close: 1000},
		{Name: "5.5.2 ping with bytes (2.3)", Send: ping("\x00\xff\xfe\xfd\xfc\x00"), Pongs: []string{"\x00\xff\xfe\xfd\xfc\x00"}, Close: 1000},
		{Name: "5.5.2 ping with 125 bytes (2.4, 2.6)", Send: ping(full), Pongs: []string{full}, Close: 1000},
		{Name: "5.5 ping with 126 bytes (2.5)", Send: ping(full + "x"), Close: 1002},
		{Name: "5.5 pong with 126 bytes", Send: pong(full + "x"), Close: 1002},
		{Name: "5.5.3 unsolicited pong (2.7)", Send: pong(""), Close: 1000},
		{Name: "5.5.3 unsolicited pong with payload (2.8)", Send: pong("unsolicited"), Close: 1000},
		{Name: "5.5.3 unsolicited pong, then ping (2.9)", Send: pong("unsolicited") + ping("solicited"), Pongs: []string{"solicited"}, Close: 1000},
		{Name: "5.5.2 10 pings (2.10, 2.11)", Send: pings, Pongs: pongs, Close: 1000},
		{Name: "5.5.3 10 pongs around a text", Send: ten + text("x") + ten, Texts: []string{"x"}, Close: 1000},
	}
}

// reservedCases test the bits and opcodes that RFC 6455, section 5.2, reserves for extensions.
func reservedCases() (cases []Case) {
	for rsv := byte(1); rsv <= 7; rsv++ {
		for _, opcode := range []byte{0x0, 0x1, 0x2, 0x8, 0x9, 0xa} {
			for _, payload := range []string{"", "Hello"} {
				cases = append(cases, Case{
					Name:  fmt.Sprintf("5.2 reserved bits %03b, opcode %d, %d bytes (3.%d)", rsv, opcode, len(payload), rsv),
					Send:  text("before") + frame(0x80|rsv<<4|opcode, payload) + ping("after"),
					Texts: []string{"before"}, Close: 1002,
				})
			}
		}
	}
	for _, opcode := range []byte{0x3, 0x4, 0x5, 0x6, 0x7, 0xb, 0xc, 0xd, 0xe, 0xf} {
		for _, payload := range []string{"", "reserved"} {
			for _, first := range []byte{0x80, 0x00} {
				cases = append(cases, Case{
					Name:  fmt.Sprintf("5.2 first byte %#x, %d bytes (4.%d)", first|opcode, len(payload), 1+opcode/8),
					Send:  text("before") + frame(first|opcode, payload) + ping("after"),
					Texts: []string{"before"}, Close: 1002,
				})
			}
		}
	}
	return cases
}

// fragmentCases test fragments, and control frames between them.
func fragmentCases() []Case {
	two := textBegins("frag1") + ends("frag2")
	both := []string{"frag1frag2"}
	return []Case{
		{Name: "5.4 ping in fragments (5.1)", Send: frame(0x09, "frag1") + ends("frag2"), Close: 1002},
		{Name: "5.4 pong in fragments (5.2)", Send: frame(0x0a, "frag1") + ends("frag2"), Close: 1002},
		{Name: "5.4 close in fragments", Send: frame(0x08, code(1000, "")) + ends("x"), Close: 1002},
		{Name: "5.4 text in two fragments (5.3 to 5.5)", Send: two, Texts: both, Close: 1000},
		{Name: "5.4 ping between fragments (5.6 to 5.8)", Send: textBegins("frag1") + ping("p") + ends("frag2"), Texts: both, Pongs: []string{"p"}, Close: 1000},
		{Name: "5.4 pong between fragments", Send: textBegins("frag1") + pong("p") + ends("frag2"), Texts: both, Close: 1000},
		{Name: "5.4 last fragment without a first (5.9 to 5.11)", Send: ends("none") + text("after"), Close: 1002},
		{Name: "5.4 fragment without a first (5.12 to 5.14)", Send: continues("none") + text("after"), Close: 1002},
		{Name: "5.4 fragment after a whole message (5.15)", Send: two + continues("none") + text("after"), Texts: both, Close: 1002},
		{Name: "5.4 fragment without a first, twice (5.16)", Send: strings.Repeat(continues("none")+two, 2), Close: 1002},
		{Name: "5.4 last fragment without a first, twice (5.17)", Send: strings.Repeat(ends("none")+two, 2), Close: 1002},
		{Name: "5.4 text within a text (5.18)", Send: textBegins("frag1") + text("frag2"), Close: 1002},
		{Name: "5.4 first fragment of a text within a text", Send: textBegins("frag1") + textBegins("frag2"), Close: 1002},
		{Name: "5.4 binary within a text", Send: textBegins("frag1") + binaryFrame("frag2"), Close: 1002},
		{Name: "5.4 binary in fragments", Send: frame(0x02, "\xff") + ends("frag2"), Binaries: []string{"\xfffrag2"}, Close: 1000},
		{Name: "5.4 five fragments and two pings (5.19, 5.20)",
			Send:  textBegins("frag1") + continues("frag2") + ping("ping1") + continues("frag3") + continues("frag4") + ping("ping2") + ends("frag5"),
			Texts: []string{"frag1frag2frag3frag4frag5"}, Pongs: []string{"ping1", "ping2"}, Close: 1000},
		{Name: "5.4 1000 empty fragments", Send: textBegins("") + strings.Repeat(continues(""), 1000) + ends("x"), Texts: []string{"x"}, Close: 1000},
	}
}

// utf8Cases test RFC 6455, section 8.1. Text must be UTF-8 as RFC 3629 defines it. Except for the last
// cases, each text is sent whole and in fragments of one byte, which cut its runes.
func utf8Cases() (cases []Case) {
	add := func(group, s string, valid bool) {
		want := Case{Close: 1007}
		if valid {
			want = Case{Close: 1000, Texts: []string{s}}
		}
		whole, single := want, want
		whole.Name = fmt.Sprintf("8.1 %+q (%s)", s, group)
		whole.Send = text(s)
		single.Name = whole.Name + " in fragments of 1 byte"
		single.Send = fragments(s, 1)
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
		"6.7":  {"\x00", "\xc2\x80", "\xe0\xa0\x80", "\xf0\x90\x80\x80"}, // the first rune of each length
		"6.9":  {"\x7f", "\xdf\xbf", "\xef\xbf\xbf", "\xf4\x8f\xbf\xbf"}, // the last rune of each length
		"6.11": {"\xed\x9f\xbf", "\xee\x80\x80", "\xef\xbf\xbd", "\xf4\x8f\xbf\xbf"},
	} {
		for _, s := range list {
			add(group, s, true)
		}
	}
	for plane := rune(0); plane <= 0x10; plane++ { // code points that are not characters are still UTF-8
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
		"6.8":  {"\xf8\x88\x80\x80\x80", "\xfc\x84\x80\x80\x80\x80"},                           // runes of 5 and 6 bytes
		"6.10": {"\xf7\xbf\xbf\xbf", "\xfb\xbf\xbf\xbf\xbf", "\xfd\xbf\xbf\xbf\xbf\xbf"},       // beyond U+10FFFF
		"6.11": {"\xf4\x90\x80\x80"},                                                           // U+110000
		"6.12": {"\x80", "\xbf", "\x80\xbf", "\x80\xbf\x80", "\x80\xbf\x80\xbf", continuation}, // continuation bytes without a first byte
		"6.13": {starts2, starts3, starts4, starts5, starts6},                                  // first bytes without continuation bytes
		"6.14": cut,                                                                            // incomplete runes
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

	// The server must close at the first invalid byte, without waiting for the rest of the frame.
	cutShort := func(frame string, missing int) string { return frame[:len(frame)-missing] }
	return append(cases, []Case{
		{Name: "5.6 empty fragments (6.1.2)", Send: textBegins("") + continues("") + ends(""), Texts: []string{""}, Close: 1000},
		{Name: "5.6 empty fragments around a text (6.1.3)", Send: textBegins("") + continues("middle") + ends(""), Texts: []string{"middle"}, Close: 1000},
		{Name: "8.1 fragments cut a rune (6.2.2 to 6.2.4)", Send: textBegins(kosme[:3]) + continues("") + ends(kosme[3:]), Texts: []string{kosme}, Close: 1000},
		{Name: "8.1 bad fragment, the last not sent (6.4.1)", Send: textBegins(kosme) + continues("\xf4\x90\x80\x80"), Only: true, Close: 1007},
		{Name: "8.1 bad second byte, the rest not sent (6.4.2)", Send: textBegins(kosme+"\xf4") + continues("\x90"), Only: true, Close: 1007},
		{Name: "8.1 bad rune within a frame (6.4.3)", Send: cutShort(text(kosme+"\xf4\x90\x80\x80edited"), 6), Only: true, Close: 1007},
		{Name: "8.1 bad second byte within a frame (6.4.4)", Send: cutShort(text(kosme+"\xf4\x90\x80\x80edited"), 8), Only: true, Close: 1007},
		{Name: "8.1 bad rune, megabytes not sent", Send: cutShort(text("\xff"+strings.Repeat("x", 1<<20)), 1<<20), Only: true, Close: 1007},
	}...)
}

// closeCases test close frames and their codes.
func closeCases() (cases []Case) {
	long := strings.Repeat("*", 256<<10)
	cases = []Case{
		{Name: "5.5.1 text, then close (7.1.1)", Send: text("x") + closes(code(1000, "")), Texts: []string{"x"}, Close: 1000},
		{Name: "5.5.1 two close frames (7.1.2)", Send: closes(code(1001, "")) + closes(code(1000, "")), Close: 1001},
		{Name: "5.5.1 ping after close (7.1.3)", Send: closes(code(1000, "")) + ping("x"), Close: 1000},
		{Name: "5.5.1 text after close (7.1.4)", Send: closes(code(1000, "")) + text("x"), Close: 1000},
		{Name: "5.5.1 close between fragments (7.1.5)", Send: textBegins("x") + closes(code(1000, "")) + ends("y"), Close: 1000},
		{Name: "5.5.1 long text, close, ping (7.1.6)", Send: text(long) + closes(code(1000, "")) + ping("x"), Texts: []string{long}, Close: 1000},
		{Name: "5.5.1 close without payload (7.3.1)", Send: closes(""), Only: true, Close: 1005},
		{Name: "5.5.1 close with 1 byte (7.3.2)", Send: closes("\x03"), Only: true, Close: 1002},
		{Name: "5.5.1 close with 123 bytes of reason (7.3.5)", Send: closes(code(1000, long[:123])), Only: true, Close: 1000},
		{Name: "5.5 close with 124 bytes of reason (7.3.6)", Send: closes(code(1000, long[:124])), Only: true, Close: 1002},
		{Name: "5.5.1 reason is not UTF-8 (7.5.1)", Send: closes(code(1000, "\xce\xba\xed\xa0\x80edited")), Only: true, Close: 1007},
	}
	for group, codes := range map[string][]int{ // with 1000, these are also Autobahn's 7.3.3 and 7.3.4
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
				cases = append(cases, Case{
					Name: fmt.Sprintf("7.4 close with %d %q (%s)", n, reason, group),
					Send: closes(code(uint16(n), reason)), Only: true, Close: want,
				})
			}
		}
	}
	return cases
}

// limitCases test messages longer than Limit. The server must refuse them as soon as their length is
// announced.
func limitCases() []Case {
	most := strings.Repeat("x", Limit)
	header := func(first byte, n uint64) string {
		return string(binary.BigEndian.AppendUint64([]byte{first, 0xff}, n)) + "\x00\x00\x00\x00"
	}
	return []Case{
		{Name: "10.4 header of 1 byte too many", Send: header(0x81, Limit+1), Only: true, Close: 1009},
		{Name: "10.4 header of 1 GiB", Send: header(0x81, 1<<30), Only: true, Close: 1009},
		{Name: "10.4 header of the greatest length", Send: header(0x81, 1<<63-1), Only: true, Close: 1009},
		{Name: "10.4 header of the greatest length, as a ping", Send: header(0x89, 1<<63-1), Only: true, Close: 1002},
		{Name: "10.4 fragments of 1 byte too many", Send: textBegins(most) + ends("x")[:6], Only: true, Close: 1009},
		{Name: "10.4 text of 1 byte too many", Send: text(most + "x"), Close: 1009},
	}
}

// sizeCases test large messages, and fragments of many sizes, as in sections 9 and 10 of Autobahn.
func sizeCases() (cases []Case) {
	whole := func(n int) string { return strings.Repeat("*", n) }
	for i, n := range []int{64 << 10, 256 << 10, 1 << 20, 4 << 20, 8 << 20, 16 << 20} {
		cases = append(cases,
			Case{Name: fmt.Sprintf("5.6 text of %d bytes (9.1.%d)", n, i+1), Send: text(whole(n)), Texts: []string{whole(n)}, Close: 1000},
			Case{Name: fmt.Sprintf("5.6 binary of %d bytes (9.2.%d)", n, i+1), Send: binaryFrame(whole(n)), Binaries: []string{whole(n)}, Close: 1000})
	}
	for i, size := range []int{64, 256, 1 << 10, 4 << 10, 16 << 10, 64 << 10, 256 << 10, 1 << 20, 4 << 20} {
		cases = append(cases, Case{Name: fmt.Sprintf("5.4 4 MiB in fragments of %d (9.3.%d)", size, i+1),
			Send: fragments(whole(4<<20), size), Texts: []string{whole(4 << 20)}, Close: 1000})
	}
	return append(cases,
		Case{Name: "5.4 16 MiB in fragments of 1000", Send: fragments(whole(16<<20), 1000), Texts: []string{whole(16 << 20)}, Close: 1000},
		Case{Name: "5.4 binary in fragments (9.4)", Send: "\x02" + fragments(whole(4<<20), 64)[1:], Binaries: []string{whole(4 << 20)}, Close: 1000},
		Case{Name: "5.4 64 KiB in fragments of 1300 (10.1.1)", Send: fragments(whole(64<<10), 1300), Texts: []string{whole(64 << 10)}, Close: 1000})
}

// Test runs each case, and sends its input in one piece. If the server is TextOnly and
// wstest.Long reports false, it skips inputs of more than 1 MiB.
func (s Server) Test(t *testing.T) {
	for _, test := range Cases() {
		if s.TextOnly && len(test.Send) > 1<<20 && !wstest.Long() {
			continue
		}
		t.Run(test.Name, func(t *testing.T) { s.run(t, test, len(test.Send)+8) })
	}
}

// TestInPieces runs each case, and sends its input in pieces of one byte (9.5 and 9.6 in Autobahn). To save
// time, the pieces have 997 bytes if the input has more than 60 KiB, or more than 300 KiB if wstest.Long reports
// true.
func (s Server) TestInPieces(t *testing.T) {
	longest := 60 << 10
	if wstest.Long() {
		longest = 300 << 10
	}
	for _, test := range Cases() {
		size := 1
		if len(test.Send) > longest {
			size = 997
		}
		t.Run(test.Name, func(t *testing.T) { s.run(t, test, size) })
	}
}

// run sends the input of a case in pieces of size bytes. It reads to the end of the connection, and compares.
func (s Server) run(t *testing.T, want Case, size int) {
	if s.TextOnly && want.Binaries != nil {
		want.Binaries, want.Close = nil, 1003
	}
	client := wstest.Upgrade(t, wstest.Dial(t, s.Start(t)), s.Target)
	defer client.Conn.Close()
	send := []byte(want.Send)
	if !want.Only {
		send = append(send, closes(code(1000, ""))...)
	}
	go func() {
		for piece := range slices.Chunk(send, size) {
			if _, err := client.Conn.Write(piece); err != nil {
				return // the comparison below shows whether the server was right to close
			}
		}
	}()

	var texts, binaries, pongs []string
	for {
		opcode, payload, err := client.ReadFrame()
		if err != nil {
			t.Fatalf("got %v, want a close frame with code %d", err, want.Close)
		}
		switch opcode {
		case websocket.TextFrame:
			texts = append(texts, payload)
		case websocket.BinaryFrame:
			binaries = append(binaries, payload)
		case websocket.PongFrame:
			pongs = append(pongs, payload)
		case websocket.CloseFrame:
			if got := wstest.CloseCode(payload); got != want.Close {
				t.Errorf("got close frame %q, want code %d", payload, want.Close)
			}
			if !slices.Equal(texts, want.Texts) {
				t.Errorf("got texts %.100q, want %.100q", texts, want.Texts)
			}
			if !slices.Equal(binaries, want.Binaries) {
				t.Errorf("got binary messages %.100q, want %.100q", binaries, want.Binaries)
			}
			if !slices.Equal(pongs, want.Pongs) {
				t.Errorf("got pongs %q, want %q", pongs, want.Pongs)
			}
			if b, err := client.In.ReadByte(); err != io.EOF {
				t.Errorf("got %#x, %v after the close frame, want EOF", b, err)
			}
			return
		default:
			t.Fatalf("got %s, want a message, a pong or a close frame", wstest.Show(opcode, payload))
		}
	}
}
