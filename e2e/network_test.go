package e2e

import (
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/websocket"

	"example.com/chat/internal/wstest"
)

// Without a connection a bar says so, and what becomes of messages. Afterwards the log has one line,
// however often the network flickered.
func testOffline(t *testing.T, driver chromedriver) {
	addr := freeAddr(t)
	p := startProgram(t, "-addr", addr)
	b := driver.open(t)
	b.onPhone()
	b.onNewDocument(`
		const later = window.setTimeout;
		window.setTimeout = (f, ms, ...args) => later(f, ms > 200 && ms < 2000 ? ms / 4 : ms, ...args); // does not wait so long
		const {now} = Date;
		window.minutes = 0;
		Date.now = () => now() + minutes * 60000;
		Date = class extends Date { constructor(...args) { args.length ? super(...args) : super(Date.now()) } };`)
	b.enter("http://" + addr + "/")
	b.until("no bar", `$("#offline").is(":hidden")`)
	for flicker := range 3 {
		p.Process.Kill()
		p.Wait()
		b.until("bar", `/^Offline. What you write will be sent. Next try in \d+ s. Now$/.test($("#offline:visible").text().trim())`)
		b.run(`minutes += 2`, nil)
		if flicker == 0 {
			b.screenshot("offline-phone.png")
			b.until("page as wide as the phone", `document.documentElement.scrollWidth == 320`)
		}
		p = startProgram(t, "-addr", addr)
		b.run(`$("#now").trigger("click")`, nil)
		b.untilLive()
		b.until("no bar", `$("#offline").is(":hidden")`)
	}
	const outages = `$("#lines .notice").get().map(notice => notice.textContent).filter(notice => notice.startsWith("Offline "))`
	b.until("one line", outages+`.length == 1 && /^Offline \d\d:\d\d to \d\d:\d\d.$/.test(`+outages+`[0])`)
	var minutes float64
	b.run(`const [, from, to] = `+outages+`[0].match(/(\d\d:\d\d) to (\d\d:\d\d)/).map(time => new Date("2001-01-01T" + time));
		return (to - from + 24 * 3600e3) % (24 * 3600e3) / 60000`, &minutes)
	if minutes < 6 || minutes > 8 {
		t.Errorf("offline for %v minutes, want 6 or a little more", minutes)
	}
}

// A message is "unsent" after two seconds, or without a connection; and that it is, or is not any more,
// moves nothing.
func testUnsent(t *testing.T, driver chromedriver) {
	addr := startProgram(t).addr
	network, b := throughCuttable(t, driver, addr)
	const left = `$(".entry .text").last()[0].getBoundingClientRect().left`
	const shown = `getComputedStyle($("#outbox .mark")[0]).visibility == "visible"`
	network.cut(true, true)
	b.run(`window.marked = [];
		const look = began => { if (`+shown+`) window.done = true; else later_(look, 20, began); marked.push([performance.now() - began, `+shown+`, `+left+`]); };
		new MutationObserver(() => marked.length || look(performance.now())).observe($("#outbox")[0], {childList: true})`, nil)
	b.typeKeys("hello" + enter)
	b.until("mark", `window.done`)
	var marked [][3]any // milliseconds, whether, where the text is
	b.run(`return marked`, &marked)
	for _, m := range marked {
		if m[1] == true && m[0].(float64) < 1990 {
			t.Errorf("marked after %v ms", m[0])
		}
		if m[2] != marked[0][2] {
			t.Errorf("the text moved from %v to %v", marked[0][2], m[2])
		}
	}
	network.heal()
	b.until("message", entries+`.join() == "hello" && `+fmt.Sprintf(left+` == %v`, marked[0][2]))
}

// The same words from a stranger are not the person's own, and do not stand for theirs.
func testSameWords(t *testing.T, driver chromedriver) {
	addr := startProgram(t).addr
	ws := wstest.DialWS(t, addr)
	hears := wstest.LinesOf(t, ws)
	network, b := throughCuttable(t, driver, addr)
	b.until("connection", `$("#people").text() == "2 people"`)
	network.cut(false, true) // the page hears, and is not heard
	b.typeKeys("same" + enter)
	b.until("message", `$("#outbox .entry").length == 1`)
	wstest.Say(t, ws, "same")
	b.until("the stranger's line", entries+`.join() == "same" && $("#lines .own").length == 0 && $("#outbox .entry").length == 1`)
	network.heal()
	b.until("both", entries+`.join() == "same,same" && $("#outbox .entry").length == 0 && $("#lines .entry").get().map(e => e.classList.contains("own")).join() == "false,true"`)
	wstest.Say(t, ws, "the end")
	if got := hears() + hears() + hears(); got != "samesamethe end" {
		t.Errorf("heard %q", got)
	}
}

// duplicate opens another tab from this one, as browsers duplicate tabs: with what it keeps.
func (b *browser) duplicate() {
	b.t.Helper()
	var before, after []string
	b.call("GET", "/window/handles", nil, &before)
	b.run(`window.open(location.href)`, nil)
	for deadline := time.Now().Add(20 * time.Second); len(after) <= len(before) && time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		b.call("GET", "/window/handles", nil, &after)
	}
	for _, window := range after {
		if !slices.Contains(before, window) {
			b.turnTo(window)
			b.devtools("Emulation.setFocusEmulationEnabled", map[string]any{"enabled": true})
			b.untilLive()
			return
		}
	}
	b.t.Fatal("no other window")
}

// A duplicated tab has the messages that were not sent: they are said once. And so is what is typed in
// either from then on.
func testDuplicatedTab(t *testing.T, driver chromedriver) {
	addr := startProgram(t).addr
	hears := wstest.LinesOf(t, wstest.DialWS(t, addr))
	network, b := throughCuttable(t, driver, addr)
	first := b.window
	const swallow = `WebSocket.prototype.send = function () {}`
	b.run(`window.send = WebSocket.prototype.send; `+swallow, nil)
	b.typeKeys("one" + enter + "two" + enter)
	b.until("unsent messages", unsent+`.join() == "one,two"`)
	b.duplicate()
	b.until("messages once", entries+`.join() == "one,two" && $("#outbox *").length == 0`)
	second := b.window
	b.turnTo(first)
	b.typeKeys("from the first" + enter)
	b.until("messages", `$("#outbox .entry").length == 1 && $("#lines .own").length == 2`)
	b.turnTo(second)
	b.typeKeys("from the second" + enter)
	b.until("message", entries+`.at(-1) == "from the second"`)
	b.turnTo(first)
	b.run(`WebSocket.prototype.send = send`, nil)
	network.heal()
	b.untilLive()
	b.until("messages once", `$("#outbox *").length == 0 && `+entries+`.join() == "one,two,from the second,from the first"`)
	b.typeKeys("the end" + enter)
	var heard []string
	for range 5 {
		heard = append(heard, hears())
	}
	if got, want := strings.Join(heard, "|"), "one|two|from the second|from the first|the end"; got != want {
		t.Errorf("heard %q, want %q", got, want)
	}
}

// A message that is refused keeps its number, so that in a duplicated tab the others have theirs, too.
func testRefusedInTwoTabs(t *testing.T, driver chromedriver) {
	addr := startProgram(t, "-max-message", "50").addr
	hears := wstest.LinesOf(t, wstest.DialWS(t, addr))
	b := driver.open(t)
	for tab := range 2 {
		if tab > 0 {
			b.newWindow()
		}
		b.enter("http://" + addr + "/")
		b.run(`sessionStorage["/:outbox"] = JSON.stringify([{id: "before", taken: 0, texts: ["long".repeat(20), "two", "three"]}])`, nil)
		b.call("POST", "/refresh", map[string]any{}, nil)
		b.until("messages", `$("#word").text() == "live" && `+entries+`.filter(line => line == "two" || line == "three").join() == "two,three" && $("#outbox *").length == 0`)
	}
	b.typeKeys("the end" + enter)
	if got := hears() + "|" + hears() + "|" + hears(); got != "two|three|the end" {
		t.Errorf("heard %q", got)
	}
}

// Two chats on one host, below different paths, keep their messages apart.
func testTwoPaths(t *testing.T, driver chromedriver) {
	mux := http.NewServeMux()
	for _, path := range []string{"/a", "/b"} {
		chat := &url.URL{Scheme: "http", Host: startProgram(t).addr}
		mux.Handle(path+"/", http.StripPrefix(path, httputil.NewSingleHostReverseProxy(chat)))
	}
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	b := driver.open(t)
	b.enter(server.URL + "/a/")
	b.run(`WebSocket.prototype.send = function () {}`, nil)
	b.typeKeys("for a" + enter + "draft for a")
	b.until("unsent message", `$("#outbox .entry").length == 1`)
	b.enter(server.URL + "/b/")
	b.typeKeys("for b" + enter)
	b.until("nothing of the other", entries+`.join() == "for b" && $("#outbox *").length == 0 && $("#msg").val() == ""`)
	b.enter(server.URL + "/a/")
	b.until("message", entries+`.join() == "for a" && $("#outbox *").length == 0 && $("#msg").val() == "draft for a"`)
}

// Two tabs of one person, one of them duplicated, type while the network is cut again and again. Each
// message arrives once, in order; many have the same words.
func testCuts(t *testing.T, driver chromedriver) {
	seed := rand.Uint64()
	random := rand.New(rand.NewPCG(seed, 0))
	t.Log("seed", seed)
	addr := startProgram(t).addr
	hears := wstest.LinesOf(t, wstest.DialWS(t, addr))
	network, b := throughCuttable(t, driver, addr)
	b.rename("Ann")
	tabs := []string{b.window}
	b.run(`WebSocket.prototype.send = new Proxy(WebSocket.prototype.send, {apply: (...args) => window.swallow || Reflect.apply(...args)}); swallow = true`, nil)
	b.typeKeys("tab 0 before" + enter)
	b.until("unsent message", `$("#outbox *").length > 0`)
	b.duplicate()
	tabs = append(tabs, b.window)
	b.turnTo(tabs[0])
	b.run(`swallow = false`, nil)
	said := [][]string{{"tab 0 before"}, nil}
	for cut := range 12 {
		for tab := range tabs {
			b.turnTo(tabs[tab])
			texts := []string{fmt.Sprintf("tab %d message %d", tab, cut), "ok"}
			b.typeKeys(texts[0] + enter)
			if tab == 0 {
				network.cut(random.IntN(2) == 0, true)
			}
			b.typeKeys(texts[1] + enter)
			said[tab] = append(said[tab], texts...)
		}
		network.cut(true, random.IntN(2) == 0)
		network.heal()
	}
	total := len(said[0]) + len(said[1])
	for _, tab := range tabs {
		b.turnTo(tab)
		b.until("everything", fmt.Sprintf(`$("#outbox *").length == 0 && `+entries+`.length >= %d`, total))
	}
	b.typeKeys("the end" + enter)
	var heard []string
	for line := ""; line != "Ann: the end"; {
		line = hears()
		heard = append(heard, strings.TrimPrefix(line, "Ann: "))
	}
	if len(heard) != total+1 {
		t.Errorf("heard %d lines, want %d: %q", len(heard), total+1, heard)
	}
	for tab := range tabs {
		checkOrder(t, heard, said[tab], fmt.Sprint("tab ", tab))
	}
	for _, tab := range tabs {
		b.turnTo(tab)
		var shown []string
		b.until("the end", entries+`.at(-1).endsWith("the end")`)
		b.run(`return `+entries, &shown)
		for i := range shown {
			shown[i] = strings.TrimPrefix(shown[i], "Ann ")
		}
		if !slices.Equal(shown, heard) {
			t.Errorf("a tab shows\n%q, heard were\n%q", shown, heard)
		}
		b.until("all own", `$("#lines .entry:not(.own)").length == 0`)
		b.until("no namesake", notices+`.length == 0`)
	}
}

// checkOrder checks that of what was heard, the lines that name a tab are those that were said there.
func checkOrder(t *testing.T, heard, said []string, tab string) {
	t.Helper()
	named := func(lines []string) []string {
		return slices.DeleteFunc(slices.Clone(lines), func(line string) bool { return !strings.HasPrefix(line, tab) })
	}
	if got, want := named(heard), named(said); !slices.Equal(got, want) {
		t.Errorf("heard %q, want %q", got, want)
	}
}

// On a line of 400 ms and 50 KB/s there is something to see before the scripts are loaded, and a
// connection soon; how soon is logged.
func testSlowLine(t *testing.T, driver chromedriver) {
	addr := startProgram(t).addr
	b := driver.open(t)
	b.emulate("Network.enable", map[string]any{}, "Network.disable", map[string]any{})
	b.emulate("Network.emulateNetworkConditions", map[string]any{"offline": false, "latency": 400, "downloadThroughput": 50_000, "uploadThroughput": 50_000},
		"Network.emulateNetworkConditions", map[string]any{"offline": false, "latency": 0, "downloadThroughput": -1, "uploadThroughput": -1})
	b.onNewDocument(`
		new MutationObserver(() => { if (document.querySelector("#word")?.textContent == "live") window.connected ??= performance.now() })
			.observe(document, {childList: true, subtree: true, characterData: true})`)
	b.enter("http://" + addr + "/")
	b.until("paint", `performance.getEntriesByType("paint").length == 2`)
	var times struct{ Paint, Scripts, Connected float64 }
	b.run(`return {
		paint: performance.getEntriesByName("first-contentful-paint")[0].startTime,
		scripts: Math.max(...performance.getEntriesByType("resource").filter(e => e.name.endsWith(".js")).map(e => e.responseEnd)),
		connected}`, &times)
	t.Logf("painted after %.0f ms, scripts loaded after %.0f ms, connected after %.0f ms", times.Paint, times.Scripts, times.Connected)
	if times.Paint >= times.Scripts {
		t.Error("nothing to see before the scripts were loaded")
	}
	b.until("compressed scripts", `performance.getEntriesByType("resource").filter(e => e.name.endsWith(".js")).every(e => e.encodedBodySize < 0.6 * e.decodedBodySize)`)
}

// gorilla's own page, served in the place of ours, works with this server.
func testGorillasPage(t *testing.T, driver chromedriver) {
	page := gorillasPage(t)
	addr := startProgram(t).addr
	ws := wstest.DialWS(t, addr)
	hears := wstest.LinesOf(t, ws)
	mux := http.NewServeMux()
	mux.HandleFunc("/{$}", func(w http.ResponseWriter, _ *http.Request) { w.Write(page) })
	mux.Handle("/ws", httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: addr}))
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	b := driver.open(t)
	b.onNewDocument(`WebSocket = class extends WebSocket { constructor(...args) { super(...args); window.opened = this } }`)
	b.visit(server.URL + "/")
	b.until("connection", `opened.readyState == WebSocket.OPEN`)
	wstest.Say(t, ws, "Ann: one")
	wstest.Say(t, ws, "Ann: a break\u2028in it")
	const lines = `[...document.querySelectorAll("#log > div")].map(line => line.textContent)`
	b.until("lines", lines+`.length == 2`)
	b.run(`document.querySelector("#msg").focus()`, nil)
	b.typeKeys("from gorilla's page" + enter)
	b.until("lines, a message each", lines+`.join("|") == "Ann: one|Ann: a break\u2028in it|from gorilla's page"`)
	if got := hears() + "|" + hears() + "|" + hears(); got != "Ann: one|Ann: a break\u2028in it|from gorilla's page" {
		t.Errorf("heard %q", got)
	}
}

// gorillasPage returns the page of gorilla's chat example, from the module that bench compares with. Where that
// can't be had the test is skipped.
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

// After a hundred thousand lines the page's heap is as small as before. The talker waits for the page, which may
// be slow beside other tests.
func testHeap(t *testing.T, driver chromedriver) {
	const lines, batch = 100_000, 2500
	addr := startProgram(t).addr
	b := driver.open(t)
	b.enter("http://" + addr + "/")
	ws := wstest.DialWS(t, addr)
	ws.SetDeadline(time.Time{}) // not that of a minute
	go io.Copy(io.Discard, ws)
	for n := range lines {
		if err := websocket.Message.Send(ws, fmt.Sprintf("Ann: line %d of many, with https://example.org/%d", n, n)); err != nil {
			t.Fatal(err)
		}
		if n%batch == batch-1 {
			b.until("the last line", fmt.Sprintf(`$("#lines .entry").last().text().includes("line %d of")`, n))
		}
	}
	b.devtools("HeapProfiler.collectGarbage", map[string]any{})
	var heap struct{ UsedSize float64 }
	b.askDevtools("Runtime.getHeapUsage", map[string]any{}, &heap)
	t.Logf("after %d lines the heap is %.1f MB", lines, heap.UsedSize/1e6)
	if heap.UsedSize > 10e6 {
		t.Errorf("a heap of %.1f MB after %d lines", heap.UsedSize/1e6, lines)
	}
}
