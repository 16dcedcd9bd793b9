package e2e

import (
	"context"
	"encoding/binary"
	"flag"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"example.com/chat/internal/wstest"

	"golang.org/x/net/websocket"
)

var screenshots = flag.String("screenshots", "", "have the browser test write its screenshots to this `directory`")

func TestBrowser(t *testing.T) {
	t.Parallel()
	driver := startChromedriver(t)
	tests := maps.Clone(pageTests)
	if wstest.Long() {
		maps.Copy(tests, morePageTests)
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, driver)
		})
	}
}

// pageTests are tests of the page in a browser.
var pageTests = map[string]func(*testing.T, chromedriver){
	"two windows":            testTwoWindows,
	"name":                   testName,
	"scrolling":              testScrolling,
	"no markup":              testNoMarkup,
	"links":                  testLinks,
	"limit":                  testLimit,
	"restarted server":       testRestart,
	"refused message":        testRefusedMessage,
	"cut off":                testCutOff,
	"in flight":              testInFlight,
	"missed":                 testMissed,
	"back at once":           testBackAtOnce,
	"reload while offline":   testReloadOffline,
	"below a path, over TLS": testProxiedPage,
	"rooms":                  testRooms,
	"restart with state":     testRestartWithState,
	"without WebSocket":      testNoWebSocket,
	"unread":                 testUnread,
	"unread across reloads":  testUnreadAcrossReloads,
	"screen readers":         testScreenReaders,
	"empty room":             testEmptyRoom,
	"name first":             testNameFirst,
	"offline":                testOffline,
}

// morePageTests run with CHAT_TEST_LONG, as in .ci/run: all of them together take longer than one likes to wait.
var morePageTests = map[string]func(*testing.T, chromedriver){
	"a thousand lines a second": testFlood,
	"accessibility":             testAccessibility,
	"too many rooms":            testTooManyRooms,
	"full room":                 testFullRoom,
	"close codes":               testCloseCodes,
	"same words":                testSameWords,
	"duplicated tab":            testDuplicatedTab,
	"on a phone, in the dark":   testPhone,
	"several lines":             testSeveralLines,
	"notifications":             testNotifications,
	"keys":                      testKeys,
	"draft":                     testDraft,
	"times":                     testTimes,
	"touch keyboard":            testTouchKeyboard,
	"composition":               testComposition,
	"groups":                    testGroups,
	"no name":                   testNoName,
	"right to left":             testRightToLeft,
	"unsent":                    testUnsent,
	"namesake":                  testNamesake,
	"refused in two tabs":       testRefusedInTwoTabs,
	"two paths":                 testTwoPaths,
	"strange storage":           testStrangeStorage,
	"a hundred thousand links":  testLongLine,
	"unread on return":          testUnreadOnReturn,
	"colours of names":          testColours,
	"presence":                  testPresence,
	"stacked diacritics":        testDiacritics,
	"print":                     testPrint,
	"forced colours":            testForcedColours,
	"cuts":                      testCuts,
	"slow line":                 testSlowLine,
	"a hundred thousand lines":  testHeap,
	"gorilla's page":            testGorillasPage,
}

// entries is, in the page, what the log says, as an array; notices is what the page says.
const (
	entries = `$("#lines .entry .body").get().map(entry => entry.textContent)`
	notices = `$("#lines .notice").get().map(notice => notice.textContent).filter(notice => !notice.startsWith("Offline "))`
	unsent  = `$("#outbox .body").get().map(entry => entry.textContent)`
)

// enter loads the page and waits until it is connected.
func (b *browser) enter(url string) {
	b.t.Helper()
	b.visit(url)
	b.untilLive()
}

func (b *browser) untilLive() {
	b.t.Helper()
	b.until("connection", `$("#word").text() == "live"`)
}

// rename chooses a name, as a person does.
func (b *browser) rename(name string) {
	b.t.Helper()
	b.run(`$("#who").trigger("click")`, nil)
	b.until("question for the name", `document.activeElement.id == "name"`)
	b.typeKeys(name + enter)
	b.until("focus in the input", `document.activeElement.id == "msg"`)
}

// throughCuttable opens the page of the chat at addr through a network that can be cut.
func throughCuttable(t *testing.T, driver chromedriver, addr string) (network *cuttable, b *browser) {
	t.Helper()
	network = &cuttable{to: addr}
	url := network.listen(t)
	b = driver.open(t)
	b.enter(url + "/")
	return network, b
}

// besideAnother starts a chat with someone in it, and opens its page.
func besideAnother(t *testing.T, driver chromedriver) (ws *websocket.Conn, b *browser) {
	t.Helper()
	addr := startProgram(t).addr
	ws = wstest.DialWS(t, addr)
	b = driver.open(t)
	b.enter("http://" + addr + "/")
	return ws, b
}

func testTwoWindows(t *testing.T, driver chromedriver) {
	p := startProgram(t)
	addr := p.addr
	b := driver.open(t)
	ann := b.window
	b.enter("http://" + addr + "/")
	bob := b.newWindow()
	b.enter("http://" + addr + "/")
	b.until("focus in the input", `document.activeElement.id == "msg"`)

	// One types, the other reads it.
	b.typeKeys("Hello, is anyone there?" + enter)
	b.typeKeys(enter) // nothing is not sent
	b.until("empty input again", `$("#msg").val() == ""`)
	b.until("own message, set off, at its time", entries+`.join("|") == "Hello, is anyone there?" && $("#lines .own time").text().match(/^\d\d:\d\d$/) && $("#outbox *").length == 0`)
	b.turnTo(ann)
	b.until("what the other one said", entries+`.join("|") == "Hello, is anyone there?" && $(".own").length == 0`)
	b.typeKeys("I am!" + enter)
	b.turnTo(bob)
	b.until("answer", entries+`[1] == "I am!"`)
	b.typeKeys("Ελληνικά come through too, and so does the bear: ʕ•ᴥ•ʔ" + enter)
	b.until("echo", entries+`.length == 3`)

	// Who comes later, or reloads, sees what was said, and which of it is their own.
	b.visit("http://" + addr + "/")
	b.until("what was said, and own messages", entries+`.length == 3 && $(".entry").get().map(e => e.classList.contains("own")).join() == "true,false,true"`)
	b.cleanConsole()
	p.Process.Signal(syscall.SIGTERM)
	b.until("word of the end", `$("#word").text() == "offline" && $("#why").text() == "Offline: the server is shutting down." && $("#why").is(":visible")`)
}

// A room has its own page, which leads to other rooms and says where this one is.
func testRooms(t *testing.T, driver chromedriver) {
	addr := startProgram(t).addr
	elsewhere := wstest.Join(t, addr)
	b := driver.open(t)
	b.enter("http://" + addr + "/Lobby") // redirects
	b.until("name", `location.pathname == "/lobby/" && $("h1").text() == "lobby" && document.title == "lobby – Chat"`)
	b.until("people", `$("#people").text() == "1 person"`)
	b.typeKeys("hello, lobby" + enter)
	b.until("echo", entries+`.join() == "hello, lobby"`)
	there := wstest.Upgrade(t, wstest.Dial(t, addr), "/lobby/ws")
	b.until("people", `$("#people").text() == "2 people"`)
	there.Conn.Close()
	b.until("people", `$("#people").text() == "1 person"`)
	elsewhere.Send(websocket.TextFrame, "hello, everyone")
	elsewhere.Expect(websocket.TextFrame, "hello, everyone") // and not what the lobby said

	b.run(`$("#menu summary").trigger("click")`, nil)
	b.until("menu", `$("#menu").prop("open") && $("#link").val() == "http://`+addr+`/lobby/"`)
	b.screenshot("rooms.png")
	b.onPhone()
	b.screenshot("rooms-phone.png")
	b.run(`$("#share").trigger("click")`, nil)
	b.until("link", `$("#shared").text() == "Copied"`)
	b.run(`$("#other").val("kitchen table").trigger("focus"); $("#go")[0].requestSubmit()`, nil)
	b.until("refusal", `$("#other").is(":invalid") && location.pathname == "/lobby/"`)
	b.run(`$("#other").val(" Kitchen "); $("#go")[0].requestSubmit()`, nil)
	b.until("other room", `location.pathname == "/kitchen/" && $("h1").text() == "kitchen" && $("#word").text() == "live"`)
	b.until("empty log", entries+`.length == 0 && $("#outbox *").length == 0`)
	b.run(`$("#other").val(""); $("#go")[0].requestSubmit()`, nil)
	b.until("room without a name", `location.pathname == "/" && $("h1").text() == "Chat" && `+entries+`.join() == "hello, everyone"`)
	b.run(`$("#menu summary").trigger("click")`, nil)
	b.run(`$("#other").trigger("focus")`, nil)
	b.typeKeys("lobby" + enter)
	b.until("first room again", `location.pathname == "/lobby/" && `+entries+`.join() == "hello, lobby"`)

	// Where the system has a share sheet, the link goes there.
	b.onNewDocument("navigator.share = async data => window.shared = data")
	b.enter("http://" + addr + "/lobby/")
	b.run(`$("#share").trigger("click")`, nil)
	b.until("link in the share sheet", `$("#share").text() == "Share" && shared.url == "http://`+addr+`/lobby/" && shared.title == "lobby – Chat"`)
	b.cleanConsole()
}

// Where there are too many rooms, the page says so, and tries again.
func testTooManyRooms(t *testing.T, driver chromedriver) {
	addr := startProgram(t, "-rooms", "1").addr
	ann := wstest.Upgrade(t, wstest.Dial(t, addr), "/full/ws")
	b := driver.open(t)
	b.onPhone()
	b.visit("http://" + addr + "/" + strings.Repeat("other", 12) + "/")
	b.until("word of it", `$("#word").text() == "too many rooms" && /^Next try in [1-5] s.$/.test($("#wait").text()) && $("#now").is(":visible")`)
	b.until("header as wide as the phone", `document.documentElement.scrollWidth == 320`)
	b.run(`$("#menu").prop("open", true)`, nil)
	b.until("menu within the phone", `$("#menu > div")[0].getBoundingClientRect().left >= 0`)
	b.screenshot("crowded.png")
	ann.Conn.Close()
	b.untilLive()
}

// With -state, a page does not notice that the server was restarted, but for a moment.
func testRestartWithState(t *testing.T, driver chromedriver) {
	addr, dir := freeAddr(t), t.TempDir()
	p := startProgram(t, "-addr", addr, "-state", dir)
	b := driver.open(t)
	b.enter("http://" + addr + "/lobby/")
	b.typeKeys("before" + enter)
	b.until("echo", entries+`.join() == "before"`)
	p.Process.Signal(syscall.SIGTERM)
	b.until("word of it", `$("#word").text() == "offline"`)
	b.typeKeys("meanwhile" + enter)
	p.Wait()
	startProgram(t, "-addr", addr, "-state", dir)
	b.untilLive()
	b.typeKeys("after" + enter)
	b.until("each line once", entries+`.join() == "before,meanwhile,after" && $("#outbox *").length == 0`)
	b.until("no word of a restart", notices+`.length == 0`)
}

// However long the pause is, the page connects when the network comes back, or the tab
// is turned to.
func testBackAtOnce(t *testing.T, driver chromedriver) {
	addr := startProgram(t).addr
	network, b := throughCuttable(t, driver, addr)
	b.run(`const later = window.setTimeout; window.setTimeout = (f, ms) => later(f, ms < 600 ? 3600e3 : ms)`, nil)
	for _, event := range []string{`window.dispatchEvent(new Event("online"))`, `document.dispatchEvent(new Event("visibilitychange"))`} {
		network.heal() // which ends the connection
		b.until("pause", `$("#word").text() == "offline"`)
		b.run(event, nil)
		b.untilLive()
	}
}

func testName(t *testing.T, driver chromedriver) {
	addr := startProgram(t).addr
	ws := wstest.DialWS(t, addr)
	hears := wstest.LinesOf(t, ws)
	b := driver.open(t)
	b.enter("http://" + addr + "/")
	b.rename(" Ann the first ")
	b.typeKeys("that's me" + enter)
	if got := hears(); got != "Ann the first: that's me" {
		t.Errorf("heard %q", got)
	}
	b.until("echo with the name set off", `$(".own .name").text() == "Ann the first" && $(".own .text").text() == "that's me"`)
	b.visit("http://" + addr + "/")
	b.until("name again", `$("#who").text() == "Ann the first"`)
	for _, line := range []string{"Bob: hi", "Ann the first: hi", "no name here", "https://example.org/: is an address", ": nobody", "Cléo: hi"} {
		wstest.Say(t, ws, line)
	}
	b.until("names of those who have one", `$(".name").get().map(e => e.textContent).join("|") == "Ann the first|Bob|Ann the first|Cléo"`)
	b.until("a colour for each name, and the same for the same", `(([a, b, c, d]) => a == c && a != b && a != d && b != d)($(".name").get().map(e => getComputedStyle(e).color))`)
	b.cleanConsole()
}

// A log at its end stays there; one that is scrolled up stays where it is, and says
// how much has come below.
func testScrolling(t *testing.T, driver chromedriver) {
	addr := startProgram(t).addr
	b := driver.open(t)
	b.enter("http://" + addr + "/")
	const atEnd = `$("#log")[0].scrollTop + $("#log")[0].clientHeight >= $("#log")[0].scrollHeight - 1`
	ws := wstest.DialWS(t, addr)
	for n := range 100 {
		wstest.Say(t, ws, fmt.Sprint("line ", n))
	}
	b.until("entry for each line", entries+`.length == 100`)
	b.until("last entry in view", atEnd+` && $("#below").is(":hidden")`)
	b.run(`$("#log")[0].scrollTop = 200`, nil)
	for n := range 3 {
		wstest.Say(t, ws, fmt.Sprint("below ", n))
	}
	b.until("word of new entries", `$("#below").text() == "↓ 3 new messages" && $("#below").is(":visible")`)
	b.until("unmoved log", `$("#log")[0].scrollTop == 200`)
	b.screenshot("scrolled.png")
	b.run(`$("#below").trigger("click")`, nil)
	b.until("the end in view", atEnd+` && $("#below").is(":hidden")`)
	b.cleanConsole()
}

// Nothing that anyone says becomes markup, or moves what others say.
func testNoMarkup(t *testing.T, driver chromedriver) {
	addr := startProgram(t, "-max-message", "16384").addr
	ws := wstest.DialWS(t, addr)
	b := driver.open(t)
	b.onPhone()
	b.enter("http://" + addr + "/")
	said := []string{
		`<b>bold</b> <script>alert(1)</script> <img src=x onerror=alert(1)> &amp; &lt;`,
		`<svg/onload=alert(1)>: <iframe srcdoc="<script>parent.alert(1)</script>">`,
		`"><input autofocus onfocus=alert(1)> ' onmouseover='alert(1)`,
		`javascript:alert(1) data:text/html,<script>alert(1)</script> vbscript:x`,
		`https://example.org/"onmouseover="alert(1) http://<b>x</b>`,
		"\u202e\u2066bidi override\u2067 never closed",
		"\u200b\u200d\ufeff\u2060\u00ad: zero width",
		"{{max-message}} ${alert(1)} \x00 \x1b[31m \r \t end",
		strings.Repeat("🙂", 4096),
		strings.Repeat("x", 4096),
		strings.Repeat("a\u0301\u0302\u0303\u0304", 100),
		"after all",
	}
	for _, line := range said {
		wstest.Say(t, ws, line)
	}
	b.until("every line", fmt.Sprintf(entries+`.length == %d`, len(said)))
	b.until("text alone", `$("#lines").find("*").get().every(e => ["DIV", "SPAN", "BDI", "TIME", "A"].includes(e.tagName))`)
	b.until("no attribute of theirs", `$("#lines").find("*").get().every(e => [...e.attributes].every(a => ["class", "style", "datetime", "title", "dir", "href", "target", "rel"].includes(a.name)))`)
	b.until("safe links", `$("#lines a").get().every(a => /^https?:$/.test(a.protocol) && a.rel == "noopener noreferrer")`)
	b.until("the last line where it belongs", `$(".entry").last().text().endsWith("after all") && $(".entry").last().find(".body")[0].getBoundingClientRect().left == $(".entry").first().find(".body")[0].getBoundingClientRect().left`)
	b.until("nothing wider than the page", `document.documentElement.scrollWidth == 320 && $("#log")[0].scrollWidth == $("#log")[0].clientWidth`)
	var heard []string
	b.run(`return $("#lines .entry .body").get().map(e => e.textContent)`, &heard)
	for i, line := range said {
		if named := strings.Replace(line, ": ", " ", 1); heard[i] != line && heard[i] != named {
			t.Errorf("%q is shown as %q", line, heard[i])
		}
	}
	b.cleanConsole()
}

func testLinks(t *testing.T, driver chromedriver) {
	ws, b := besideAnother(t, driver)
	wstest.Say(t, ws, "see https://example.org/a_(b)?c=d&e#f, HTTP://EXAMPLE.ORG. (http://x.example/) xhttp://no ftp://no https:// http://[ mailto:a@example.org")
	b.until("links", `$("#lines a").get().map(a => a.textContent).join(" ") == "https://example.org/a_(b)?c=d&e#f HTTP://EXAMPLE.ORG http://x.example/"`)
	b.until("text unchanged", entries+`[0].startsWith("see https://example.org/a_(b)?c=d&e#f, HTTP://EXAMPLE.ORG. (http://x.example/) xhttp://no")`)
}

// The page counts against the server's limit, which is in bytes, the name's too, and cuts nothing. It
// speaks of characters.
func testLimit(t *testing.T, driver chromedriver) {
	addr := startProgram(t, "-max-message", "100").addr
	b := driver.open(t)
	b.enter("http://" + addr + "/")
	b.typeKeys("short")
	b.until("no count", `$("#left").is(":hidden")`)
	b.typeKeys(strings.Repeat("é", 45))
	b.until("count", `$("#left").text() == "about 2 characters left" && $("#left").is(":visible")`)
	b.typeKeys("éé1")
	b.until("nothing left", `$("#left").text() == "about 0 characters left" && !$("#send").prop("disabled")`)
	b.typeKeys("2" + enter)
	b.until("too long", `$("#left").text() == "1 character too long" && $("#send").prop("disabled") && $("#msg").val().endsWith("12") && $("#outbox *").length == 0`)
	b.screenshot("limit.png")
	b.typeKeys(backspace + enter)
	b.until("sent", entries+`[0] == "short" + "é".repeat(47) + "1"`)
	b.rename("Ann")
	b.run(`$("#msg").val("x".repeat(94) + "🙂").trigger("input")`, nil)
	b.until("the name's bytes, too; one character has four", `$("#left").text() == "1 character too long"`)
}

// A server that is killed and comes back on the same port is told from a pause; what
// was typed meanwhile arrives, in order, once.
func testRestart(t *testing.T, driver chromedriver) {
	addr := freeAddr(t)
	first := startProgram(t, "-addr", addr)
	b := driver.open(t)
	b.enter("http://" + addr + "/")
	b.typeKeys("before" + enter)
	b.until("echo", entries+`.join() == "before"`)
	first.Process.Kill()
	b.until("word of it", `$("#word").text() == "offline" && $("#now").is(":visible") && $("#wait").text().startsWith("Next try in ")`)
	b.typeKeys("one" + enter + "two" + enter + "three" + enter)
	b.until("unsent messages", unsent+`.join() == "one,two,three" && $("#outbox .mark").first().text() == "unsent" && $("#msg").val() == ""`)
	b.screenshot("offline.png")

	second := startProgram(t, "-addr", addr)
	b.run(`$("#now").trigger("click").trigger("click")`, nil)
	b.untilLive()
	b.until("one connection", `$("#people").text() == "1 person"`)
	b.until("everything once", entries+`.join() == "before,one,two,three" && $("#outbox *").length == 0`)
	b.until("word of the restart", notices+`.join() == "The room was restarted."`)
	ann := wstest.Upgrade(t, wstest.Dial(t, addr), "/ws?since=")
	ann.ReadFrame() // its position
	ann.ExpectLines("one", "two", "three")

	second.Process.Kill()
	b.until("word of it", `$("#word").text() == "offline"`)
	startProgram(t, "-addr", addr)
	b.untilLive() // by itself
	b.until("what was there before", entries+`.join() == "before,one,two,three" && `+notices+`.length == 2`)

	// The numbers of own messages were those of the runs before.
	ann = wstest.Join(t, addr)
	ann.Send(websocket.TextFrame, "another's")
	b.until("another's", entries+`.length == 5`)
	b.typeKeys("own" + enter)
	b.until("own", entries+`.length == 6`)
	ann.Send(websocket.TextFrame, "another's")
	b.until("own message alone set off", `$(".entry").get().slice(4).map(e => e.classList.contains("own")).join() == "false,true,false"`)
}

// A page for which there is no room says so, and comes in when someone leaves.
func testFullRoom(t *testing.T, driver chromedriver) {
	addr := startProgram(t, "-max-conns", "1").addr
	ann := wstest.DialWS(t, addr)
	b := driver.open(t)
	b.visit("http://" + addr + "/")
	b.until("word of it", `$("#word").text() == "chat is full" && $("#why").text() == "The server says: chat is full." && $("#now").is(":visible") && /^Next try in [1-5] s.$/.test($("#wait").text())`)
	b.screenshot("full.png")
	b.typeKeys("let me in" + enter)
	ann.Close()
	b.untilLive()
	b.until("echo", entries+`.join() == "let me in" && $("#outbox *").length == 0`)
}

// A message that the server does not take is seen to be not sent, and is not tried
// again for ever. Those behind it arrive.
func testRefusedMessage(t *testing.T, driver chromedriver) {
	addr := startProgram(t, "-max-message", "20").addr
	b := driver.open(t)
	b.enter("http://" + addr + "/")
	b.run(`const send = WebSocket.prototype.send; WebSocket.prototype.send = function (text) { send.call(this, text == "long" ? "x".repeat(21) : text) }`, nil)
	b.typeKeys("fine" + enter + "long" + enter + "fine, too" + enter)
	b.until("refusal in words", notices+`.join() == "A message was too long for the server."`)
	b.until("the others", entries+`.join() == "fine,long,fine, too" && $("#outbox *").length == 0`)
	b.until("the message that was not sent", `$(".refused .text").text() == "long" && $(".refused .mark").text() == "not sent"`)
}

// A network that swallows what is said, in one direction or in both, and heals: nothing
// is lost, nothing doubled.
func testCutOff(t *testing.T, driver chromedriver) {
	addr := startProgram(t).addr
	hears := wstest.LinesOf(t, wstest.DialWS(t, addr))
	network, b := throughCuttable(t, driver, addr)
	b.typeKeys("first" + enter)
	b.until("echo", entries+`.join() == "first"`)

	network.cut(true, false) // the chat hears, the page doesn't
	b.typeKeys("heard" + enter)
	for _, want := range []string{"first", "heard"} {
		if got := hears(); got != want {
			t.Fatalf("heard %q, want %q", got, want)
		}
	}
	network.cut(true, true)
	b.typeKeys("not heard" + enter)
	b.until("unsent messages", unsent+`.join() == "heard,not heard"`)
	other := wstest.DialWS(t, addr)
	wstest.Say(t, other, "from elsewhere")
	network.heal()
	b.until("everything once, and what others said meanwhile", entries+`.join() == "first,heard,from elsewhere,not heard" && $("#outbox *").length == 0`)
	b.until("own messages", `$(".own").length == 3`)
	b.until("no complaint", notices+`.length == 0`)
	for _, want := range []string{"from elsewhere", "not heard"} {
		if got := hears(); got != want {
			t.Errorf("heard %q, want %q", got, want)
		}
	}
	wstest.Say(t, other, "the end")
	if got := hears(); got != "the end" {
		t.Errorf("heard %q", got)
	}
}

// A message that was in flight when the connection broke is sent again as soon as the page
// has heard what was said before it came back, however much the room talks on; and what is
// typed then doesn't wait for that.
func testInFlight(t *testing.T, driver chromedriver) {
	for _, history := range []int{256, 0} {
		addr := startProgram(t, "-history", fmt.Sprint(history)).addr
		ws := wstest.DialWS(t, addr)
		var talking sync.WaitGroup
		ctx, silence := context.WithCancel(t.Context())
		talking.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				websocket.Message.Send(ws, fmt.Sprint("talk ", n))
				time.Sleep(time.Second / 5)
			}
		})
		network, b := throughCuttable(t, driver, addr)
		b.until("talk", entries+`.length > 2`)
		network.cut(false, true)
		b.typeKeys("in flight" + enter)
		network.heal()
		b.untilLive()
		b.typeKeys("new" + enter)
		b.until("both", entries+`.filter(line => line == "in flight" || line == "new").length == 2 && $("#outbox *").length == 0`)
		silence()
		talking.Wait()
	}
}

// What the server no longer holds is counted.
func testMissed(t *testing.T, driver chromedriver) {
	addr := startProgram(t, "-history", "2").addr
	ws := wstest.DialWS(t, addr)
	hears := wstest.LinesOf(t, ws)
	network, b := throughCuttable(t, driver, addr)
	wstest.Say(t, ws, "first")
	b.until("first line", entries+`.join() == "first"`)
	network.cut(true, false)
	b.typeKeys("mine" + enter)
	hears()
	if got := hears(); got != "mine" {
		t.Errorf("heard %q", got)
	}
	for n := range 5 {
		wstest.Say(t, ws, fmt.Sprint("line ", n))
		hears()
	}
	network.heal()
	b.until("what is held, how many are gone, and that the own one was sent",
		`$("#lines .body").get().map(e => e.textContent).join() == "first,4 messages were missed.,line 3,line 4,mine" && $("#lines .mark").text() == "sent" && $("#outbox *").length == 0`)
}

// What was typed while offline outlives a reload.
func testReloadOffline(t *testing.T, driver chromedriver) {
	addr := startProgram(t).addr
	network, b := throughCuttable(t, driver, addr)
	network.cut(true, true)
	b.typeKeys("still here" + enter)
	b.until("unsent message", unsent+`.join() == "still here"`)
	network.heal()
	b.call("POST", "/refresh", map[string]any{}, nil)
	b.untilLive()
	b.until("sent message", entries+`.join() == "still here" && $("#outbox *").length == 0`)
}

// At a thousand lines a second the page draws, answers and stays small.
func testFlood(t *testing.T, driver chromedriver) {
	const rate, seconds = 1000, 3
	const answering = "still answering, and at once, whatever is said"
	addr := startProgram(t).addr
	b := driver.open(t)
	b.enter("http://" + addr + "/")
	b.run(`window.frames_ = []; let last = performance.now();
		requestAnimationFrame(function next(now) { frames_.push(now - last); last = now; requestAnimationFrame(next); });
		window.answers = [];
		new PerformanceObserver(list => answers.push(...list.getEntries().filter(e => e.name == "keydown").map(e => e.duration))).observe({type: "event", durationThreshold: 16});`, nil)
	ws := wstest.DialWS(t, addr)
	go io.Copy(io.Discard, ws)
	ticks := time.NewTicker(10 * time.Millisecond)
	defer ticks.Stop()
	for said := 0; said < rate*seconds; {
		<-ticks.C
		for range rate / 100 {
			if err := websocket.Message.Send(ws, fmt.Sprintf("Ann: line %d of many, with https://example.org/%d", said, said)); err != nil {
				t.Fatal(err)
			}
			said++
		}
		if said == rate*seconds/2 {
			b.typeKeys(answering + enter)
			b.until("own message in the flood", `$(".own .text").text() == "`+answering+`"`)
		}
	}
	b.until("the last line", fmt.Sprintf(entries+`.at(-1).includes("line %d of")`, rate*seconds-1))
	var frames []float64
	b.run(`return frames_.sort((a, b) => a - b)`, &frames)
	t.Logf("%d frames, half of them within %.0f ms, 99 of 100 within %.0f ms, the longest %.0f ms", len(frames),
		frames[len(frames)/2], frames[len(frames)*99/100], frames[len(frames)-1])
	var answers []float64 // milliseconds from a key to the next frame; those below 16 are missing
	b.run(`return answers.sort((a, b) => a - b)`, &answers)
	if p95 := len(answers) - 1 - len(answering)*5/100; p95 >= 0 {
		t.Logf("19 of 20 keys are answered within %.0f ms", answers[p95])
	} else {
		t.Log("19 of 20 keys are answered within 16 ms")
	}
	if len(frames) < 5 {
		t.Errorf("only %d frames in %d s", len(frames), seconds)
	}
	b.until("small page", `$("#lines").children().length == 2000 && $("*").length < 15000`)
	b.cleanConsole()
}

// axe-core finds no violation, in light and dark, with everything to be seen that there is.
func testAccessibility(t *testing.T, driver chromedriver) {
	axe := axeCore(t)
	p := startProgram(t, "-max-message", "100")
	ws := wstest.DialWS(t, p.addr)
	b := driver.open(t)
	b.enter("http://" + p.addr + "/" + newcomer)
	b.run(axe, nil)
	b.rename("Name 0")
	for n := range 20 {
		wstest.Say(t, ws, fmt.Sprintf("Name %d: a message, @Name 0, and https://example.org/", n/2))
	}
	b.typeKeys("my own" + enter)
	b.until("own message", `$(".own").length > 0`)
	b.look(false)
	wstest.Say(t, ws, "new")
	b.until("rule", `$("#new").length > 0`)
	b.look(true)
	b.run(`$("#log")[0].scrollTop = 0`, nil)
	wstest.Say(t, ws, "below")
	b.typeKeys(strings.Repeat("x", 105))
	b.run(`$("#menu, #presence").prop("open", true)`, nil)
	b.until("everything to be seen", `["#below", "#left", "#speakers li", "#link", "#lines mark"].every(one => $(one).is(":visible")) && $("#lines .continued").length > 0`)
	b.checkAxe("light")
	b.checkAxe("dark")

	p.Process.Kill()
	b.run(`$("#menu, #presence").prop("open", false); $("#bell").prop("open", true); $("#msg").val("not sent").trigger("input"); $("#form").trigger("submit"); $("#who").trigger("click")`, nil)
	b.until("everything to be seen", `$("#offline").is(":visible") && $("#ask").is(":visible") && $("#bell fieldset").is(":visible") && $("#outbox .mark").is(":visible")`)
	b.screenshot("busy-dark.png")
	b.checkAxe("dark")
	b.checkAxe("light")
	b.screenshot("busy.png")
}

// checkAxe has axe-core check the page, as it is, in a colour scheme.
func (b *browser) checkAxe(scheme string) {
	b.t.Helper()
	b.media("", "prefers-color-scheme", scheme)
	b.run(`window.found = null; axe.run().then(r => { found = r.violations.map(v => v.id + ": " + v.nodes.map(n => n.html + n.failureSummary).join()); })`, nil)
	b.until("verdict", `found`)
	var found []string
	b.run(`return found`, &found)
	for _, violation := range found {
		b.t.Errorf("%s: %s", scheme, violation)
	}
}

// axeCore returns axe-core, from npm. Where that can't be had the test is skipped.
func axeCore(t *testing.T) string {
	requireProgram(t, "npm", "apt-get install npm")
	dir := t.TempDir()
	npm := exec.Command("npm", "install", "--silent", "--no-audit", "--no-fund", "--prefix", dir, "axe-core@4.11.0")
	if out, err := npm.CombinedOutput(); err != nil {
		missing(t, "axe-core from npm: %v\n%s", err, out)
	}
	axe, err := os.ReadFile(filepath.Join(dir, "node_modules/axe-core/axe.min.js"))
	if err != nil {
		t.Fatal(err)
	}
	return string(axe)
}

// Behind a proxy, below a path, and over TLS: the page finds its script and its
// WebSocket.
func testProxiedPage(t *testing.T, driver chromedriver) {
	addr := startProgram(t).addr
	proxy := httptest.NewTLSServer(http.StripPrefix("/a/room",
		httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: addr})))
	t.Cleanup(proxy.Close)
	b := driver.open(t)
	b.enter(proxy.URL + "/a/room/")
	b.typeKeys("through the proxy" + enter)
	b.until("echo", entries+`.join() == "through the proxy"`)
	b.enter(proxy.URL + "/a/room/Lobby")
	b.until("room", `location.pathname == "/a/room/lobby/" && $("#link").val() == location.href`)
	b.run(`$("#other").val(""); $("#go")[0].requestSubmit()`, nil)
	b.until("room without a name", `location.pathname == "/a/room/" && `+entries+`.join() == "through the proxy"`)
	b.cleanConsole()
}

// The README's pictures, of a conversation on a desk and on a phone.
func testPhone(t *testing.T, driver chromedriver) {
	ws, b := besideAnother(t, driver)
	b.rename("Ann")
	wstest.Say(t, ws, "Bob: Did the new boiler arrive?")
	b.until("question", entries+`.length == 1`)
	b.typeKeys("It did, and it even works. Photos: https://example.org/boiler" + enter)
	b.until("answer", entries+`.length == 2`)
	for _, line := range []string{"Cléo: Finally!", "Bob: Warm feet, after three weeks in two pullovers.", "Bob: @Ann, I owe you a dinner.", "Cléo: Ελληνικό; I know a place."} {
		wstest.Say(t, ws, line)
	}
	b.until("replies", entries+`.length == 6`)
	b.typeKeys("Saturday, then" + enter)
	b.until("conversation", entries+`.length == 7 && $("#outbox *").length == 0`)
	b.screenshot("chat.png")

	b.onPhone()
	b.media("", "prefers-color-scheme", "dark")
	wstest.Say(t, ws, "Bob: "+strings.Repeat("nowheretobreakthis", 4))
	b.until("another line", entries+`.length == 8`)
	b.until("page as wide as the phone", `document.documentElement.scrollWidth == 320 && $("#log")[0].scrollWidth == $("#log")[0].clientWidth`)
	b.until("dark page", `getComputedStyle(document.body).backgroundColor == "rgb(13, 15, 18)"`)
	b.screenshot("phone.png")
	b.cleanConsole()
}

func testNoWebSocket(t *testing.T, driver chromedriver) {
	addr := startProgram(t).addr
	b := driver.open(t)
	b.onNewDocument("delete window.WebSocket")
	b.visit("http://" + addr + "/")
	b.until("word of it", notices+`.join().includes("does not support WebSocket")`)
}

// What a browser's onclose reports for each refusal. No browser sends most of what
// is refused here, so a proxy puts it in the place of the browser's first message.
func testCloseCodes(t *testing.T, driver chromedriver) {
	p := startProgram(t)
	addr := p.addr
	refused := []struct {
		instead string
		code    int
	}{
		{string(wstest.Frame(0x81, "x")) + closes(1000, ""), 1000},
		{string(wstest.Frame(0x88, "")), 1005}, // what a browser reports where there was no code
		{closes(4321, "bye"), 4321},
		{string(wstest.Frame(0xf1, "reserved bits")), 1002},
		{string(wstest.Frame(0x83, "reserved opcode")), 1002},
		{string(wstest.Frame(0, "of nothing")), 1002},
		{string(wstest.Frame(0x82, "binary")), 1003},
		{string(wstest.Frame(0x81, "\xff")), 1007},
		{string(wstest.Frame(0x81, strings.Repeat("too long", 1<<17))), 1009},
	}
	proxy := &meddler{to: addr}
	for _, r := range refused {
		proxy.instead = append(proxy.instead, r.instead)
	}
	url := proxy.listen(t)
	b := driver.open(t)
	b.onNewDocument(`window.Socket = WebSocket; delete window.WebSocket`) // the page shall not connect by itself
	b.visit(url + "/")
	b.run(`window.ended = {};
		window.connect = name => {
			const ws = new Socket("/ws?" + name);
			ws.onopen = () => { ws.send("hello"); };
			ws.onclose = event => { ended[name] = event.code + " " + event.wasClean; };
			return ws;
		};`, nil)
	for i, r := range refused {
		b.run(fmt.Sprintf("connect(%d)", i), nil)
		b.until(fmt.Sprintf("%d for %.40q", r.code, r.instead), fmt.Sprintf(`ended[%d] == "%d true"`, i, r.code))
	}

	b.run(`window.last = connect("last")`, nil)
	b.until("connection", `last.readyState == Socket.OPEN`)
	p.Process.Signal(syscall.SIGTERM)
	b.until("1001", `ended.last == "1001 true"`)
}

// closes returns a close frame.
func closes(code uint16, reason string) string {
	return string(wstest.Frame(0x88, string(binary.BigEndian.AppendUint16(nil, code))+reason))
}

// meddler is a TCP proxy before the chat. In a connection to /ws?N it replaces what
// the browser sends first by instead[N].
type meddler struct {
	to      string // the chat's address
	instead []string
}

// listen starts the proxy for the length of the test and returns its URL.
func (m *meddler) listen(t *testing.T) string { return startProxy(t, m.relay) }

// startProxy has relay serve connections for the length of the test.
func startProxy(t *testing.T, relay func(net.Conn)) (url string) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, end := context.WithCancel(context.Background())
	var running sync.WaitGroup
	t.Cleanup(func() {
		end()
		running.Wait()
	})
	context.AfterFunc(ctx, func() { listener.Close() })
	running.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			context.AfterFunc(ctx, func() { conn.Close() }) // browsers keep connections
			running.Go(func() { relay(conn) })
		}
	})
	return "http://" + listener.Addr().String()
}

// relay connects a browser with the chat until the browser hangs up.
func (m *meddler) relay(browser net.Conn) {
	defer browser.Close()
	chat, err := net.Dial("tcp", m.to)
	if err != nil {
		return
	}
	defer chat.Close()
	go func() {
		io.Copy(browser, chat)
		browser.(*net.TCPConn).CloseWrite()
	}()
	buffer := make([]byte, 16<<10) // takes a request, or a frame, in one piece
	n, _ := browser.Read(buffer)
	chat.Write(buffer[:n])
	var i int
	if _, err := fmt.Sscanf(string(buffer[:n]), "GET /ws?%d ", &i); err == nil {
		browser.Read(buffer)
		io.WriteString(chat, m.instead[i])
	}
	io.Copy(chat, browser)
}

// cuttable is a TCP proxy before the chat, a network that can be cut.
type cuttable struct {
	to    string // the chat's address
	mu    sync.Mutex
	down  bool // what comes from the chat is swallowed
	up    bool // what goes to the chat is swallowed
	conns []net.Conn
}

// listen starts the proxy for the length of the test and returns its URL.
func (c *cuttable) listen(t *testing.T) string {
	return startProxy(t, func(browser net.Conn) {
		chat, err := net.Dial("tcp", c.to)
		if err != nil {
			browser.Close()
			return
		}
		c.mu.Lock()
		c.conns = append(c.conns, browser, chat)
		c.mu.Unlock()
		var both sync.WaitGroup
		both.Go(func() { c.relay(chat, browser, &c.up) })
		both.Go(func() { c.relay(browser, chat, &c.down) })
		both.Wait()
	})
}

// relay copies, or swallows while cut is set.
func (c *cuttable) relay(to, from net.Conn, cut *bool) {
	defer to.Close()
	buffer := make([]byte, 64<<10)
	for {
		n, err := from.Read(buffer)
		if err != nil {
			return
		}
		c.mu.Lock()
		swallow := *cut
		c.mu.Unlock()
		if !swallow {
			to.Write(buffer[:n])
		}
	}
}

// cut has the connections there are swallow what comes down, and what goes up.
func (c *cuttable) cut(down, up bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.down, c.up = down, up
}

// heal ends the connections there are; new ones are whole.
func (c *cuttable) heal() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.down, c.up = false, false
	for _, conn := range c.conns {
		conn.Close()
	}
	c.conns = nil
}
