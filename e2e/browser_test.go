package e2e

import (
	"encoding/binary"
	"encoding/json"
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
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/websocket"

	"example.com/chat/internal/wstest"
)

var screenshots = flag.String("screenshots", "", "have TestBrowser write screenshots to this `directory`")

// The page works in Chromium.
func TestBrowser(t *testing.T) {
	t.Parallel()
	driver := startChromedriver(t)
	tests := maps.Clone(pageTests)
	if wstest.Long() {
		maps.Copy(tests, longPageTests)
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, driver)
		})
	}
}

// pageTests are those that cover most of the page. All tests together would take minutes.
var pageTests = map[string]func(*testing.T, chromedriver){
	"two windows":        testTwoWindows,
	"rooms":              testRooms,
	"name first":         testNameFirst,
	"no markup":          testNoMarkup,
	"control characters": testControlCharacters,
	"limit":              testLimit,
	"restarted server":   testRestart,
	"restart with state": testRestartWithState,
	"cut off":            testCutOff,
	"unread":             testUnread,
	"notifications":      testNotifications,
}

// longPageTests also run with CHAT_TEST_LONG.
var longPageTests = map[string]func(*testing.T, chromedriver){
	"a hundred thousand lines":  testHeap,
	"a hundred thousand links":  testLongLine,
	"a thousand lines a second": testFlood,
	"accessibility":             testAccessibility,
	"below paths, over TLS":     testPaths,
	"close codes":               testCloseCodes,
	"colours of names":          testColours,
	"composition":               testComposition,
	"cuts":                      testCuts,
	"duplicated tab":            testDuplicatedTab,
	"forced colours":            testForcedColours,
	"gorilla's page":            testGorillasPage,
	"groups":                    testGroups,
	"in flight":                 testInFlight,
	"long log":                  testLongLog,
	"missed":                    testMissed,
	"names":                     testNames,
	"namesake":                  testNamesake,
	"offline":                   testOffline,
	"on a phone, in the dark":   testPhone,
	"presence":                  testPresence,
	"refused in two tabs":       testRefusedInTwoTabs,
	"refused page":              testRefusedPage,
	"reload while offline":      testReloadOffline,
	"right to left":             testRightToLeft,
	"same words":                testSameWords,
	"screen readers":            testScreenReaders,
	"several lines":             testSeveralLines,
	"slow line":                 testSlowLine,
	"stacked diacritics":        testDiacritics,
	"strange storage":           testStrangeStorage,
	"times":                     testTimes,
	"touch keyboard":            testTouchKeyboard,
	"unread on return":          testUnreadOnReturn,
	"unsent":                    testUnsent,
}

// Expressions for the page. All but allSent are arrays of strings.
const (
	entries = `$("#lines .entry .body").get().map(entry => entry.textContent)`
	notices = `$("#lines .notice").get().map(notice => notice.textContent).filter(notice => !notice.startsWith("Offline "))`
	unsent  = `$("#outbox .body").get().map(entry => entry.textContent)`
	allSent = `$("#outbox *").length == 0`
	atEnd   = `$("#log")[0].scrollTop + $("#log")[0].clientHeight >= $("#log")[0].scrollHeight - 1`
)

// openChat starts a chat, and opens its page. A test must wait for its browser first, because it may wait for
// minutes.
func openChat(t *testing.T, driver chromedriver, flags ...string) (program, *browser) {
	t.Helper()
	b := driver.open(t)
	p := startProgram(t, flags...)
	b.enter("http://" + p.addr + "/")
	return p, b
}

// besideAnother starts a chat that ann joins, and opens its page.
func besideAnother(t *testing.T, driver chromedriver, flags ...string) (ann *wstest.Client, b *browser) {
	t.Helper()
	b = driver.open(t)
	p := startProgram(t, flags...)
	ann = wstest.Join(t, p.addr)
	b.enter("http://" + p.addr + "/")
	return ann, b
}

// say has c say lines.
func say(c *wstest.Client, lines ...string) {
	c.T.Helper()
	for _, line := range lines {
		c.Send(websocket.TextFrame, line)
	}
}

// enter loads the page at url, and waits until it is connected.
func (b *browser) enter(url string) {
	b.t.Helper()
	b.url = url
	b.visit(url)
	b.untilLive()
}

// reload loads the page again, and waits until it is connected.
func (b *browser) reload() {
	b.t.Helper()
	b.call("POST", "/refresh", map[string]any{}, nil)
	b.untilLive()
}

func (b *browser) untilLive() {
	b.t.Helper()
	b.until("the page is connected", `$("#word").text() == "live"`)
}

// untilShown waits until the log has these lines and no others, and all messages were sent. A line begins with
// the speaker's name and a space if it has a name.
func (b *browser) untilShown(lines ...string) {
	b.t.Helper()
	want, _ := json.Marshal(append([]string{}, lines...))
	b.until("the log has these lines", fmt.Sprintf(`JSON.stringify(%s) == JSON.stringify(%s) && %s`, entries, want, allSent))
}

// rename chooses a name.
func (b *browser) rename(name string) {
	b.t.Helper()
	b.run(`$("#who").trigger("click")`)
	b.until("the page asks for the name", `document.activeElement.id == "name"`)
	b.typeKeys(name + enter)
	b.until("the input has the focus", `document.activeElement.id == "msg"`)
}

// focus gives an element the focus.
func (b *browser) focus(selector string) {
	b.t.Helper()
	b.run(fmt.Sprintf(`$(%q).trigger("focus")`, selector))
}

// Each of two windows shows what is said in the other, also after a reload, and which lines are its own.
func testTwoWindows(t *testing.T, driver chromedriver) {
	p, b := openChat(t, driver)
	first := b.window
	second := b.newWindow()
	b.enter(b.url)
	b.until("the input has the focus", `document.activeElement.id == "msg"`)

	b.typeKeys("Hello, is anyone there?" + enter)
	b.typeKeys(enter) // sends nothing
	b.untilShown("Hello, is anyone there?")
	b.until("the line is an own one, and the input is empty", `$("#lines .own time").text().match(/^\d\d:\d\d$/) && $("#msg").val() == ""`)
	b.turnTo(first)
	b.untilShown("Hello, is anyone there?")
	b.until("the line is not an own one", `$(".own").length == 0`)
	b.typeKeys("I am!" + enter)
	b.turnTo(second)
	b.untilShown("Hello, is anyone there?", "I am!")
	b.typeKeys("Ελληνικά come through too, and so does the bear: ʕ•ᴥ•ʔ" + enter)
	b.untilShown("Hello, is anyone there?", "I am!", "Ελληνικά come through too, and so does the bear: ʕ•ᴥ•ʔ")

	b.enter(b.url)
	b.until("the log has own lines", `$(".entry").get().map(e => e.classList.contains("own")).join() == "true,false,true"`)
	b.expectCleanConsole()
	p.Process.Signal(syscall.SIGTERM)
	b.until("the page says that the server stops", `$("#word").text() == "offline" && $("#why").text() == "Offline: the server is shutting down." && $("#why").is(":visible")`)
}

// A room has its own page, with a link to itself and a way to other rooms.
func testRooms(t *testing.T, driver chromedriver) {
	b := driver.open(t)
	addr := startProgram(t).addr
	elsewhere := wstest.Join(t, addr)
	b.enter("http://" + addr + "/Lobby") // redirects
	b.until("the page has the room's name", `location.pathname == "/lobby/" && $("h1").text() == "lobby" && document.title == "lobby – Chat"`)
	b.until("there is one person", `$("#people").text() == "1 person"`)
	b.typeKeys("hello, lobby" + enter)
	b.untilShown("hello, lobby")
	here := wstest.Upgrade(t, wstest.Dial(t, addr), "/lobby/ws")
	b.until("there are two people", `$("#people").text() == "2 people"`)
	here.Conn.Close()
	b.until("there is one person", `$("#people").text() == "1 person"`)
	say(elsewhere, "hello, everyone")
	elsewhere.ExpectLines("hello, everyone") // and not the line of the lobby

	b.click("#menu summary")
	b.until("the menu is open", `$("#menu").prop("open") && $("#link").val() == "http://`+addr+`/lobby/"`)
	b.screenshot("rooms.png")
	b.onPhone()
	b.screenshot("rooms-phone.png")
	b.run(`$("#share").trigger("click")`)
	b.until("the link is copied", `$("#shared").text() == "Copied"`)
	b.run(`$("#other").val("kitchen table").trigger("focus"); $("#go")[0].requestSubmit()`)
	b.until("the page refuses the name", `$("#other").is(":invalid") && location.pathname == "/lobby/"`)
	b.run(`$("#other").val(" Kitchen "); $("#go")[0].requestSubmit()`)
	b.until("the page is in another room", `location.pathname == "/kitchen/" && $("h1").text() == "kitchen" && $("#word").text() == "live"`)
	b.untilShown()
	b.run(`$("#other").val(""); $("#go")[0].requestSubmit()`)
	b.until("the page is in the nameless room", `location.pathname == "/" && $("h1").text() == "Chat"`)
	b.untilShown("hello, everyone")
	b.run(`$("#menu").prop("open", true)`)
	b.focus("#other")
	b.typeKeys("lobby" + enter)
	b.until("the page is in the first room again", `location.pathname == "/lobby/"`)
	b.untilShown("hello, lobby")

	// If the system has a share sheet, the link goes there.
	b.onNewDocument("navigator.share = async data => window.shared = data")
	b.reload()
	b.run(`$("#share").trigger("click")`)
	b.until("the share sheet has the link", `$("#share").text() == "Share" && shared.url == "http://`+addr+`/lobby/" && shared.title == "lobby – Chat"`)
	b.expectCleanConsole()
}

// A page that the chat has no place for says so, and gets in when somebody has left.
func testRefusedPage(t *testing.T, driver chromedriver) {
	for flag, word := range map[string]string{"-max-conns": "chat is full", "-rooms": "too many rooms"} {
		t.Run(flag, func(t *testing.T) {
			b := driver.open(t)
			b.onPhone()
			addr := startProgram(t, flag, "1").addr
			ann := wstest.Upgrade(t, wstest.Dial(t, addr), "/lobby/ws")
			b.visit("http://" + addr + "/" + strings.Repeat("other", 12) + "/")
			b.until("the page says why", fmt.Sprintf(`$("#word").text() == %[1]q && $("#why").text() == "The server says: " + %[1]q + "." && /^Next try in [1-5] s.$/.test($("#wait").text()) && $("#now").is(":visible")`, word))
			b.until("the header is as wide as the phone", `document.documentElement.scrollWidth == 320`)
			b.screenshot(strings.ReplaceAll(word, " ", "-") + ".png")
			b.run(`$("#menu").prop("open", true)`)
			b.until("the menu is within the phone", `$("#menu > div")[0].getBoundingClientRect().left >= 0`)
			b.run(`$("#menu").prop("open", false)`)
			b.typeKeys("let me in" + enter)
			ann.Conn.Close()
			b.untilLive()
			b.untilShown("let me in")
		})
	}
}

// Behind a TLS proxy and below a path, the page finds its scripts, rooms and WebSocket. Two chats on one host,
// below different paths, keep messages apart.
func testPaths(t *testing.T, driver chromedriver) {
	mux := http.NewServeMux()
	for _, path := range []string{"/a/room", "/b"} {
		chat := &url.URL{Scheme: "http", Host: startProgram(t).addr}
		mux.Handle(path+"/", http.StripPrefix(path, httputil.NewSingleHostReverseProxy(chat)))
	}
	proxy := httptest.NewTLSServer(mux)
	t.Cleanup(proxy.Close)
	b := driver.open(t)
	b.enter(proxy.URL + "/a/room/")
	b.typeKeys("through the proxy" + enter)
	b.untilShown("through the proxy")
	b.enter(proxy.URL + "/a/room/Lobby")
	b.until("the page is in a room", `location.pathname == "/a/room/lobby/" && $("#link").val() == location.href`)
	b.run(`$("#other").val(""); $("#go")[0].requestSubmit()`)
	b.until("the page is in the nameless room", `location.pathname == "/a/room/"`)
	b.untilShown("through the proxy")
	b.expectCleanConsole()

	b.untilLive()
	b.run(`WebSocket.prototype.send = function () {}`)
	b.typeKeys("for a" + enter + "draft for a")
	b.until("a message is unsent", unsent+`.join() == "for a"`)
	b.enter(proxy.URL + "/b/")
	b.typeKeys("for b" + enter)
	b.untilShown("for b")
	b.until("the input is empty", `$("#msg").val() == ""`)
	b.enter(proxy.URL + "/a/room/")
	b.untilShown("through the proxy", "for a")
	b.until("the draft is back", `$("#msg").val() == "draft for a"`)
}

// At a thousand lines a second the page draws, answers keys, and stays small. How fast it is is logged.
func testFlood(t *testing.T, driver chromedriver) {
	const rate, seconds = 1000, 3
	const answer = "still answering, and at once, whatever is said"
	ann, b := besideAnother(t, driver)
	go io.Copy(io.Discard, ann.In)
	b.run(`window.frames_ = []; let last = performance.now();
		requestAnimationFrame(function next(now) { frames_.push(now - last); last = now; requestAnimationFrame(next); });
		window.answers = [];
		new PerformanceObserver(list => answers.push(...list.getEntries().filter(e => e.name == "keydown").map(e => e.duration))).observe({type: "event", durationThreshold: 16});`)
	ticks := time.NewTicker(10 * time.Millisecond)
	defer ticks.Stop()
	for n := 0; n < rate*seconds; {
		<-ticks.C
		for range rate / 100 {
			say(ann, fmt.Sprintf("Ann: line %d of many, with https://example.org/%d", n, n))
			n++
		}
		if n == rate*seconds/2 {
			b.typeKeys(answer + enter)
			b.until("the log has an own line", `$(".own .text").text() == "`+answer+`"`)
		}
	}
	b.until("the log has the last line", fmt.Sprintf(entries+`.at(-1).includes("line %d of")`, rate*seconds-1))
	var frames, keys []float64 // milliseconds between frames, and from a key to the next frame if they are at least 16
	b.eval(`return frames_.sort((a, b) => a - b)`, &frames)
	b.eval(`return answers.sort((a, b) => a - b)`, &keys)
	if len(frames) < 5 {
		t.Fatalf("got %d frames in %d s, want at least 5", len(frames), seconds)
	}
	t.Logf("%d frames, p50 %.0f ms, p99 %.0f ms, the longest %.0f ms; %d of %d keys took at least 16 ms, the slowest %.0f", len(frames),
		frames[len(frames)/2], frames[len(frames)*99/100], frames[len(frames)-1], len(keys), len(answer), keys)
	b.until("the page is small", `$("#lines").children().length == 2000 && $("*").length < 15000`)
	b.expectCleanConsole()
}

// After a hundred thousand lines the page's heap is small. Ann waits for the page, which may be slow beside
// other tests.
func testHeap(t *testing.T, driver chromedriver) {
	const lines, batch = 100_000, 2500
	ann, b := besideAnother(t, driver)
	ann.Conn.SetDeadline(time.Time{})
	go io.Copy(io.Discard, ann.In)
	for n := range lines {
		say(ann, fmt.Sprintf("Ann: line %d of many, with https://example.org/%d", n, n))
		if n%batch == batch-1 {
			b.until("the log has the last line", fmt.Sprintf(`$("#lines .entry").last().text().includes("line %d of")`, n))
		}
	}
	b.devtools("HeapProfiler.collectGarbage", map[string]any{}, nil)
	var heap struct{ UsedSize float64 }
	b.devtools("Runtime.getHeapUsage", map[string]any{}, &heap)
	t.Logf("after %d lines the heap has %.1f MB", lines, heap.UsedSize/1e6)
	if heap.UsedSize > 10e6 {
		t.Errorf("got a heap of %.1f MB after %d lines, want at most 10 MB", heap.UsedSize/1e6, lines)
	}
}

// axe-core finds no violation in either colour scheme while the page shows all that it can show.
func testAccessibility(t *testing.T, driver chromedriver) {
	axe := axeCore(t)
	b := driver.open(t)
	p := startProgram(t, "-max-message", "100")
	ann := wstest.Join(t, p.addr)
	b.enter("http://" + p.addr + "/" + newcomer)
	b.run(axe)
	b.rename("Name 0")
	for n := range 20 {
		say(ann, fmt.Sprintf("Name %d: a message, @Name 0, and https://example.org/", n/2))
	}
	b.typeKeys("my own" + enter)
	b.until("the log has an own line", `$(".own").length > 0`)
	b.look(false)
	say(ann, "new")
	b.until("a rule stands before the new line", `$("#new").length > 0`)
	b.look(true)
	b.run(`$("#log")[0].scrollTop = 0`)
	say(ann, "below")
	b.typeKeys(strings.Repeat("x", 105))
	b.run(`$("#menu, #presence").prop("open", true)`)
	b.until("the page shows all of a conversation", `["#below", "#left", "#speakers li", "#link", "#lines mark"].every(one => $(one).is(":visible")) && $("#lines .continued").length > 0`)
	b.checkAxe("light")
	b.checkAxe("dark")

	p.Process.Kill()
	b.run(`$("#menu, #presence").prop("open", false); $("#bell").prop("open", true); $("#msg").val("not sent").trigger("input"); $("#form").trigger("submit"); $("#who").trigger("click")`)
	b.until("the page shows all of an outage", `["#offline", "#ask", "#bell fieldset", "#outbox .mark"].every(one => $(one).is(":visible"))`)
	b.screenshot("busy-dark.png")
	b.checkAxe("dark")
	b.checkAxe("light")
	b.screenshot("busy.png")
}

// checkAxe has axe-core check the page in a colour scheme.
func (b *browser) checkAxe(scheme string) {
	b.t.Helper()
	b.media("", "prefers-color-scheme", scheme)
	b.run(`window.found = null; axe.run().then(r => { found = r.violations.map(v => v.id + ": " + v.nodes.map(n => n.html + n.failureSummary).join()); })`)
	b.until("axe-core has finished", `found`)
	var found []string
	b.eval(`return found`, &found)
	for _, violation := range found {
		b.t.Errorf("%s: got the violation %s, want none", scheme, violation)
	}
}

// axeCore returns the script of axe-core from npm.
func axeCore(t *testing.T) string {
	requireProgram(t, "npm", "npm")
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

// A conversation looks good at a desk, and on a phone with dark colours. Its screenshots are the README's
// pictures.
func testPhone(t *testing.T, driver chromedriver) {
	ann, b := besideAnother(t, driver)
	b.rename("Ann")
	say(ann, "Bob: Did the new boiler arrive?")
	b.until("the question is there", entries+`.length == 1`)
	b.typeKeys("It did, and it even works. Photos: https://example.org/boiler" + enter)
	b.until("the answer is there", entries+`.length == 2`)
	say(ann, "Cléo: Finally!", "Bob: Warm feet, after three weeks in two pullovers.", "Bob: @Ann, I owe you a dinner.", "Cléo: Ελληνικό; I know a place.")
	b.until("the replies are there", entries+`.length == 6`)
	b.typeKeys("Saturday, then" + enter)
	b.until("the conversation is complete", entries+`.length == 7 && `+allSent)
	b.screenshot("chat.png")

	b.onPhone()
	b.media("", "prefers-color-scheme", "dark")
	say(ann, "Bob: "+strings.Repeat("nowheretobreakthis", 4))
	b.until("another line is there", entries+`.length == 8`)
	b.until("the page is as wide as the phone", `document.documentElement.scrollWidth == 320 && $("#log")[0].scrollWidth == $("#log")[0].clientWidth`)
	b.until("the page is dark", `getComputedStyle(document.body).backgroundColor == "rgb(13, 15, 18)"`)
	b.screenshot("phone.png")
	b.expectCleanConsole()
}

// On a line of 400 ms and 50 KB/s the page paints before its scripts are loaded. How soon it is connected is
// logged.
func testSlowLine(t *testing.T, driver chromedriver) {
	addr := startProgram(t).addr
	b := driver.open(t)
	b.devtools("Network.enable", map[string]any{}, nil)
	b.emulateNetwork(400, 50_000)
	b.onNewDocument(`
		new MutationObserver(() => { if (document.querySelector("#word")?.textContent == "live") window.connected ??= performance.now() })
			.observe(document, {childList: true, subtree: true, characterData: true})`)
	b.enter("http://" + addr + "/")
	b.until("the page has painted", `performance.getEntriesByType("paint").length == 2`)
	const scripts = `performance.getEntriesByType("resource").filter(e => e.name.endsWith(".js"))`
	b.until("the scripts are loaded, and were compressed", scripts+`.length > 0 && `+scripts+`.every(e => e.encodedBodySize < 0.6 * e.decodedBodySize)`)
	var times struct{ Paint, Scripts, Connected float64 }
	b.eval(`return {
		paint: performance.getEntriesByName("first-contentful-paint")[0].startTime,
		scripts: Math.max(...`+scripts+`.map(e => e.responseEnd)),
		connected}`, &times)
	t.Logf("painted after %.0f ms, scripts loaded after %.0f ms, connected after %.0f ms", times.Paint, times.Scripts, times.Connected)
	if times.Paint >= times.Scripts {
		t.Errorf("painted after %.0f ms, want that before the scripts are loaded, %.0f ms", times.Paint, times.Scripts)
	}
}

// The page of gorilla's chat example works with this server.
func testGorillasPage(t *testing.T, driver chromedriver) {
	page := gorillasPage(t)
	b := driver.open(t)
	addr := startProgram(t).addr
	ann := wstest.Join(t, addr)
	mux := http.NewServeMux()
	mux.HandleFunc("/{$}", func(w http.ResponseWriter, _ *http.Request) { w.Write(page) })
	mux.Handle("/ws", httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: addr}))
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	b.onNewDocument(`WebSocket = class extends WebSocket { constructor(...args) { super(...args); window.opened = this } }`)
	b.visit(server.URL + "/")
	b.until("the page is connected", `opened.readyState == WebSocket.OPEN`)
	say(ann, "Ann: one", "Ann: a break\u2028in it")
	const lines = `[...document.querySelectorAll("#log > div")].map(line => line.textContent)`
	b.until("the page shows two lines", lines+`.length == 2`)
	b.run(`document.querySelector("#msg").focus()`)
	b.typeKeys("from gorilla's page" + enter)
	b.until("the page shows three lines", lines+`.join("|") == "Ann: one|Ann: a break\u2028in it|from gorilla's page"`)
	ann.ExpectLines("Ann: one", "Ann: a break\u2028in it", "from gorilla's page")
}

// gorillasPage returns the page of gorilla's chat example, from the module that bench compares with.
func gorillasPage(t *testing.T) []byte {
	download := exec.Command("go", "mod", "download", "-json", "github.com/gorilla/websocket")
	download.Dir = "../bench"
	out, err := download.Output()
	if err != nil {
		missing(t, "github.com/gorilla/websocket: %v\n%s", err, out)
	}
	var module struct{ Dir string }
	if err := json.Unmarshal(out, &module); err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile(filepath.Join(module.Dir, "examples/chat/home.html"))
	if err != nil {
		t.Fatal(err)
	}
	return page
}

// The onclose of a browser reports the code of each refusal. Browsers don't send most of what is refused, so a
// proxy replaces their first message. A page in a browser without WebSocket says so.
func testCloseCodes(t *testing.T, driver chromedriver) {
	p := startProgram(t)
	refused := []struct {
		instead string
		code    int
	}{
		{string(wstest.Frame(0x81, "x")) + closes(1000, ""), 1000},
		{string(wstest.Frame(0x88, "")), 1005}, // the browser's code for a close frame without one
		{closes(4321, "bye"), 4321},
		{string(wstest.Frame(0xf1, "reserved bits")), 1002},
		{string(wstest.Frame(0x83, "reserved opcode")), 1002},
		{string(wstest.Frame(0, "of nothing")), 1002},
		{string(wstest.Frame(0x82, "binary")), 1003},
		{string(wstest.Frame(0x81, "\xff")), 1007},
		{string(wstest.Frame(0x81, strings.Repeat("too long", 1<<17))), 1009},
	}
	meddler := startProxy(t, func(browser net.Conn) {
		defer browser.Close()
		chat, err := net.Dial("tcp", p.addr)
		if err != nil {
			return
		}
		defer chat.Close()
		go func() {
			io.Copy(browser, chat)
			browser.(*net.TCPConn).CloseWrite()
		}()
		buffer := make([]byte, 16<<10) // holds a whole request, or a whole frame
		n, _ := browser.Read(buffer)
		chat.Write(buffer[:n])
		var i int
		if _, err := fmt.Sscanf(string(buffer[:n]), "GET /ws?%d ", &i); err == nil {
			browser.Read(buffer)
			io.WriteString(chat, refused[i].instead)
		}
		io.Copy(chat, browser)
	})
	b := driver.open(t)
	b.onNewDocument(`window.Socket = WebSocket; delete window.WebSocket`)
	b.visit(meddler + "/")
	b.until("the page says what the browser lacks", notices+`.join().includes("does not support WebSocket")`)
	b.run(`window.ended = {};
		window.connect = name => {
			const ws = new Socket("/ws?" + name);
			ws.onopen = () => { ws.send("hello"); };
			ws.onclose = event => { ended[name] = event.code + " " + event.wasClean; };
			return ws;
		};`)
	for i, r := range refused {
		b.run(fmt.Sprintf("connect(%d)", i))
		b.until(fmt.Sprintf("onclose reports %d for %.40q", r.code, r.instead), fmt.Sprintf(`ended[%d] == "%d true"`, i, r.code))
	}

	b.run(`window.last = connect("last")`)
	b.until("the last connection is open", `last.readyState == Socket.OPEN`)
	p.Process.Signal(syscall.SIGTERM)
	b.until("onclose reports 1001", `ended.last == "1001 true"`)
}

// closes returns a close frame.
func closes(code uint16, reason string) string {
	return string(wstest.Frame(0x88, string(binary.BigEndian.AppendUint16(nil, code))+reason))
}
