package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"image"
	"image/png"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/websocket"

	"example.com/chat/internal/wstest"
)

// scriptedChat serves the page, and a WebSocket that sends each client some messages, those that are []byte as
// events. Then it sends lines from more.
func scriptedChat(t *testing.T, messages []any, more chan string) string {
	chat, _ := url.Parse("http://" + startProgram(t).addr)
	mux := http.NewServeMux()
	mux.Handle("/", httputil.NewSingleHostReverseProxy(chat))
	mux.Handle("/ws", websocket.Server{Handler: func(ws *websocket.Conn) {
		for _, message := range messages {
			websocket.Message.Send(ws, message)
		}
		go func() {
			for line := range more {
				websocket.Message.Send(ws, line)
			}
		}()
		io.Copy(io.Discard, ws)
	}})
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	return server.URL + "/"
}

// said returns the event that says when each of the lines was said that follow.
func said(now time.Time, times ...time.Time) []byte {
	var e struct {
		People int        `json:"people"`
		Now    int64      `json:"now"`
		Said   [][2]int64 `json:"said"`
	}
	e.People, e.Now = 12, now.UnixMilli()
	for _, at := range times {
		e.Said = append(e.Said, [2]int64{1, at.UnixMilli()})
	}
	event, _ := json.Marshal(e)
	return event
}

// look has the page believe that the person looks at it, or elsewhere.
func (b *browser) look(here bool) {
	b.t.Helper()
	event := map[bool]string{true: "focus", false: "blur"}[here]
	b.run(fmt.Sprintf(`document.hasFocus = () => %v; window.dispatchEvent(new Event(%q))`, here, event), nil)
}

// A line shows when it was said, by the server's clock, with the full date in its title; a rule divides
// days. The page passes over events that it doesn't know.
func testTimes(t *testing.T, driver chromedriver) {
	past := time.Date(2001, 2, 3, 4, 5, 6, 0, time.UTC)
	now := time.Now().Add(time.Hour)
	url := scriptedChat(t, []any{
		"EPOCH 5 8",
		said(now, past, past, past.Add(24*time.Hour)),
		[]byte(`{"future":{"x":[1,null]}}`),
		"one\ntwo",
		[]byte(`{"weather":"fine","people":13}`),
		"three\nfour",
		[]byte(`{}`),
		"five",
	}, nil)
	b := driver.open(t)
	b.enter(url)
	b.until("lines", entries+`.join() == "one,two,three,four,five" && $("#people").text() == "13 people"`)
	b.until("times", fmt.Sprintf(`$("#lines time").get().slice(0, 3).map(time => time.dateTime).join() == "2001-02-03T04:05:06.000Z,2001-02-03T04:05:06.000Z,2001-02-04T04:05:06.000Z" &&
		$("#lines time").get().slice(3).every(time => Math.abs(new Date(time.dateTime) - %d) < 60000)`, now.UnixMilli()))
	b.until("full date", `$("#lines time")[0].title.match(/February 3, 2001.*:05:06/)`)
	b.until("rules between days", `$("#lines > *").get().map(e => e.classList[0] == "day" ? e.textContent : e.classList[0]).join("|").match(/^[^|]*February 3, 2001\|entry\|entry\|[^|]*February 4, 2001\|entry\|[^|]*20\d\d\|entry\|entry$/)`)
	b.cleanConsole()
}

// What is said while the window has no focus is new: it is counted in the title and the icon, and a
// rule stands before it when the person comes back, in view. Escape removes it.
func testUnread(t *testing.T, driver chromedriver) {
	ws, b := besideAnother(t, driver)
	const rule = `$("#lines > *").get().map(e => e.id || $(e).find(".text").text()).join()`
	wstest.Say(t, ws, "seen")
	b.until("no count", rule+` == "seen" && document.title == "Chat"`)
	b.look(false)
	wstest.Say(t, ws, "not seen")
	wstest.Say(t, ws, "nor this")
	b.until("count", rule+` == "seen,new,not seen,nor this" && document.title == "(2) Chat" && $("#icon").attr("href") == "assets/icon-unread.svg"`)
	b.look(true)
	b.until("no count", `document.title == "Chat" && $("#icon").attr("href") == "assets/icon.svg"`)
	wstest.Say(t, ws, "seen, too")
	b.until("the same rule", rule+` == "seen,new,not seen,nor this,seen, too"`)
	b.screenshot("new.png")
	b.run(`$("#bell").prop("open", true).find("summary").trigger("focus")`, nil)
	b.typeKeys(escape)
	b.until("closed menu, and the same rule", `!$("#bell").prop("open") && `+rule+` == "seen,new,not seen,nor this,seen, too"`)
	b.typeKeys(escape)
	b.until("no rule", rule+` == "seen,not seen,nor this,seen, too"`)

	// Also when the tab is hidden. However much it is, the first of it is in view.
	hide := func(hidden bool) {
		b.run(fmt.Sprintf(`Object.defineProperty(document, "hidden", {configurable: true, get: () => %v});
			document.dispatchEvent(new Event("visibilitychange"));`, hidden), nil)
	}
	hide(true)
	for n := range 100 {
		wstest.Say(t, ws, fmt.Sprint("line ", n))
	}
	b.until("count", `document.title == "(100) Chat" && $("#new").next().find(".text").text() == "line 0"`)
	hide(false)
	b.until("rule in view", `document.title == "Chat" && (([rule, log]) => rule.top >= log.top && rule.bottom < log.bottom)([$("#new")[0], $("#log")[0]].map(e => e.getBoundingClientRect()))`)
	b.until("way down", `$("#below").is(":visible") && $("#below").text() == "↓ 100 new messages"`)

	// A connection that is lost and made again moves nothing.
	b.run(`$("#below").trigger("click"); window.dispatchEvent(new Event("online"))`, nil)
	b.untilLive()
	wstest.Say(t, ws, "still at the end")
	b.until("the end in view", `$("#lines .text").last().text() == "still at the end" && $("#log")[0].scrollTop + $("#log")[0].clientHeight >= $("#log")[0].scrollHeight - 1`)

	// What the person says is not new.
	b.look(false)
	b.typeKeys("my own" + enter)
	b.until("own message, and no count", `$("#lines .own").length == 1 && document.title == "Chat" && $("#new").next().find(".text").text() == "line 0"`)
	b.cleanConsole()
}

// A phone stops a page that is not in view: what was said meanwhile comes when the person is back, and is
// new.
func testUnreadOnReturn(t *testing.T, driver chromedriver) {
	addr := startProgram(t).addr
	ws := wstest.DialWS(t, addr)
	network, b := throughCuttable(t, driver, addr)
	wstest.Say(t, ws, "seen")
	b.until("line", entries+`.join() == "seen"`)
	b.look(false)
	network.cut(true, true)
	wstest.Say(t, ws, "not seen")
	time.Sleep(time.Second) // times of lines are as precise
	b.look(true)
	network.heal()
	b.untilLive()
	wstest.Say(t, ws, "seen, too")
	b.until("rule", `$("#lines > *").get().map(e => e.id || $(e).find(".text").text()).join() == "seen,new,not seen,seen, too"`)
}

// The place where the person stopped to read is known after a reload, and in another tab.
func testUnreadAcrossReloads(t *testing.T, driver chromedriver) {
	ws, b := besideAnother(t, driver)
	wstest.Say(t, ws, "seen")
	b.until("line", entries+`.join() == "seen"`)
	var url string
	b.run(`return location.href`, &url)
	b.visit("about:blank")
	for n := range 50 {
		wstest.Say(t, ws, fmt.Sprint("line ", n))
	}
	hears := wstest.LinesOf(t, ws)
	for line := ""; line != "line 49"; {
		line = hears()
	}
	b.enter(url)
	b.until("rule before what is new", entries+`.length == 51 && $("#new").prev().find(".text").text() == "seen" && document.title == "Chat"`)
	b.until("rule in view", `(([rule, log]) => rule.top >= log.top && rule.bottom < log.bottom)([$("#new")[0], $("#log")[0]].map(e => e.getBoundingClientRect()))`)
	b.enter(url)
	b.until("nothing new", entries+`.length == 51 && $("#new").length == 0`)
}

// Lines of one speaker within five minutes share one name and time. Screen readers, and the clipboard,
// have both for each line.
func testGroups(t *testing.T, driver chromedriver) {
	b := driver.open(t)
	today := time.Date(2001, 2, 3, 12, 0, 0, 0, time.UTC)
	at := func(minutes int) time.Time { return today.Add(time.Duration(minutes) * time.Minute) }
	more := make(chan string)
	defer close(more)
	b.enter(scriptedChat(t, []any{
		"EPOCH 0 9",
		said(time.Now(), at(0), at(1), at(4), at(5), at(6), at(7), at(8), at(9), at(24*60)),
		"Bob: one\nBob: two\nBob: three\nBob: four\nAnn: five\nBob: six\nseven\neight\nBob: nine",
	}, more))
	b.until("lines", entries+`.length == 9`)
	const visible = `$("#lines .entry").get().map(e => (getComputedStyle(e.querySelector("time")).opacity == "1" ? e.querySelector("time").textContent : "") + " " +
		($(e).find(".speaker").get().some(s => s.getBoundingClientRect().width > 10) ? $(e).find(".name").text() : ""))`
	b.until("names and times", visible+`.join("|") == "12:00 Bob| | |12:05 Bob|12:06 Ann|12:07 Bob|12:08 |12:09 |12:00 Bob"`)

	more <- "Bob: now"
	b.until("a new group", visible+`.at(-1).endsWith(" Bob")`)
	more <- "Bob: and now"
	b.until("the same group", visible+`.at(-1) == " "`)

	var copied string
	const copyLines = `const range = document.createRange();
		range.setStartBefore($("#lines .entry")[%d]);
		range.setEndAfter($("#lines .entry")[%d]);
		getSelection().removeAllRanges();
		getSelection().addRange(range);
		const event = new ClipboardEvent("copy", {clipboardData: new DataTransfer(), bubbles: true, cancelable: true});
		$("#log")[0].dispatchEvent(event);
		return event.defaultPrevented && event.clipboardData.getData("text/plain")`
	b.run(fmt.Sprintf(copyLines, 0, 4), &copied)
	if want := "12:00 Bob: one\n12:01 Bob: two\n12:04 Bob: three\n12:05 Bob: four\n12:06 Ann: five"; copied != want {
		t.Errorf("copied %q, want %q", copied, want)
	}
	b.run(fmt.Sprintf(copyLines, 1, 1), &copied)
	if want := "12:01 Bob: two"; copied != want {
		t.Errorf("copied %q, want %q", copied, want)
	}
	tree := b.accessibilityTree()
	if times, names := strings.Count(tree, "\n12:01\n"), strings.Count(tree, "\nBob\n"); times != 1 || names != 8 {
		t.Errorf("a screen reader finds 12:01 %d times and Bob %d times in\n%s", times, names, tree)
	}
	b.cleanConsole()
}

// accessibilityTree returns the texts that a screen reader finds in the page, a line each.
func (b *browser) accessibilityTree() string {
	b.t.Helper()
	var tree struct {
		Nodes []struct {
			Ignored bool
			Role    struct{ Value string }
			Name    struct{ Value any }
		}
	}
	b.askDevtools("Accessibility.getFullAXTree", map[string]any{}, &tree)
	var texts strings.Builder
	for _, node := range tree.Nodes {
		if node.Role.Value == "StaticText" && !node.Ignored {
			fmt.Fprintf(&texts, "\n%s\n", strings.TrimSpace(fmt.Sprint(node.Name.Value)))
		}
	}
	return texts.String()
}

// Names have twelve colours that differ, with a contrast of 4.5:1 on both backgrounds in both schemes
// (WCAG 2.2, success criterion 1.4.3).
func testColours(t *testing.T, driver chromedriver) {
	ws, b := besideAnother(t, driver)
	b.rename("Ann")
	wstest.Say(t, ws, "Bob: hello")
	b.typeKeys("hello" + enter)
	b.until("lines", `$("#lines .name").length == 2`)
	for _, scheme := range []string{"light", "dark"} {
		b.media("", "prefers-color-scheme", scheme)
		for _, background := range []string{"#log", ".own"} {
			var colours [][]float64 // red, green, blue; the background's are first
			b.run(fmt.Sprintf(`const context = document.createElement("canvas").getContext("2d");
				const rgb = colour => {
					context.fillStyle = colour;
					context.fillRect(0, 0, 1, 1);
					return [...context.getImageData(0, 0, 1, 1).data].slice(0, 3);
				};
				const name = $("#lines .name")[0];
				const all = [rgb(getComputedStyle($(%q)[0]).backgroundColor)];
				for (let i = 0; i < 12; i++) {
					name.style.setProperty("--hue", i * 30);
					all.push(rgb(getComputedStyle(name).color));
				}
				return all`, background), &colours)
			for i, one := range colours[1:] {
				if ratio := contrast(one, colours[0]); ratio < 4.5 {
					t.Errorf("%s, %s: colour %d has a contrast of %.2f", scheme, background, i, ratio)
				}
				for j, other := range colours[1 : 1+i] {
					if d := math.Hypot(math.Hypot(one[0]-other[0], one[1]-other[1]), one[2]-other[2]); d < 15 {
						t.Errorf("%s: colours %d and %d are %.0f apart: %v and %v", scheme, j, i, d, other, one)
					}
				}
			}
		}
	}

	// The page's own code gives out all of them.
	for n := range 200 {
		wstest.Say(t, ws, fmt.Sprintf("Name %d: hello", n))
	}
	b.until("twelve colours", `new Set($("#lines .name").get().slice(2).map(name => getComputedStyle(name).color)).size == 12`)
}

// contrast returns the contrast ratio of two colours (WCAG 2.2, "contrast ratio").
func contrast(a, b []float64) float64 {
	luminance := func(rgb []float64) (l float64) {
		for i, weight := range []float64{0.2126, 0.7152, 0.0722} {
			c := rgb[i] / 255
			if c <= 0.04045 {
				c /= 12.92
			} else {
				c = math.Pow((c+0.055)/1.055, 2.4)
			}
			l += weight * c
		}
		return l
	}
	light, dark := luminance(a), luminance(b)
	return (max(light, dark) + 0.05) / (min(light, dark) + 0.05)
}

// The page says how many people there are, and who spoke lately, with the last time.
func testPresence(t *testing.T, driver chromedriver) {
	b := driver.open(t)
	now := time.Now()
	b.enter(scriptedChat(t, []any{
		"EPOCH 0 5",
		said(now, now.Add(-61*time.Minute), now.Add(-59*time.Minute), now, now, now),
		"Old: hello\nBob: hello\nAnn: hello\nnobody\nBob: and again",
	}, nil))
	b.until("lines", entries+`.length == 5`)
	b.run(`$("#people").trigger("click")`, nil)
	b.until("speakers, the last one first", `$("#people").text() == "12 people" && $("#speakers li bdi").get().map(e => e.textContent).join() == "Bob,Ann"`)
	b.until("time", `$("#speakers li small").first().text() == $("#lines time").last().text()`)
	b.screenshot("presence.png")
	b.onPhone()
	b.until("list within the phone", `(r => r.left >= 0 && r.right <= 320)($("#presence > div")[0].getBoundingClientRect())`)
}

// Nobody is notified of anything before they chose to be. Then a notification and a sound tell of
// mentions, or of everything, while the person looks elsewhere.
func testNotifications(t *testing.T, driver chromedriver) {
	ws, b := besideAnother(t, driver)
	b.onNewDocument(`
		window.shown = [];
		window.sounds = 0;
		window.Notification = class {
			static permission = "default";
			static async requestPermission() { return Notification.permission = "granted"; }
			constructor(title, options) { shown.push(title + "|" + options.body); }
		};
		const createOscillator = AudioContext.prototype.createOscillator;
		AudioContext.prototype.createOscillator = function () { sounds++; return createOscillator.call(this); };`)
	var url string
	b.run(`return location.href`, &url)
	b.enter(url)
	b.rename("Ann")
	count := 0
	say := func(line string) {
		wstest.Say(t, ws, line)
		count++
		b.until("line", fmt.Sprintf(entries+`.length == %d`, count))
	}
	b.look(false)
	say("Bob: hello, Ann")
	b.until("nothing", `shown.length == 0 && sounds == 0 && $("#bell input:checked").val() == "nothing"`)

	b.click("#bell summary")
	b.click("#bell [value=mentions]")
	b.until("word of what it means", `$("#means").text() == "A notification and a sound."`)
	b.screenshot("bell.png")
	b.look(true)
	say("Bob: Ann, are you there?")
	b.look(false)
	say("Bob: Annette, and Joann, and ann_x")
	say("Bob: who is that?")
	b.until("nothing of what is seen, or of others", `shown.length == 0`)
	say("Bob: I mean @ann!")
	b.until("notification", `shown.join() == "Bob – Chat|I mean @ann!"`)
	b.until("sound", `sounds == 1`)
	say("Ann, without a name")
	b.until("notification, and no sound so soon", `shown.at(-1) == "Chat|Ann, without a name" && sounds == 1`)
	b.until("mentions set off", `$("#lines mark").get().map(e => e.textContent).join() == "Ann,Ann,@ann,Ann"`)
	b.until("mark of the bell", `$("#bell").is(".on")`)
	b.focus("#msg")
	b.typeKeys("Ann is me" + enter)
	count++
	b.until("nothing of what the person says", `shown.length == 2 && $(".own mark").length == 0`)

	b.click("#bell [value=everything]")
	say("Bob: whatever")
	b.until("notification", `shown.at(-1) == "Bob – Chat|whatever"`)
	b.enter(url)
	b.until("the choice again", `$("#bell input:checked").val() == "everything"`)
	b.cleanConsole()

	// The manifest and the icons are there, as the page says.
	var missing []string
	b.run(`const links = $("link[rel=icon], link[rel=manifest]").get().map(link => link.href);
		return (async () => {
			const {icons} = await (await fetch(links[1])).json();
			const all = [...links, ...icons.map(icon => new URL(icon.src, links[1]).href), links[0].replace("icon.svg", "icon-unread.svg")];
			return (await Promise.all(all.map(async url => (await fetch(url)).ok ? [] : [url]))).flat();
		})()`, &missing)
	if len(missing) > 0 {
		t.Errorf("not there: %v", missing)
	}
}

// click clicks on an element, as a mouse does.
func (b *browser) click(selector string) {
	b.t.Helper()
	var element map[string]string
	b.call("POST", "/element", map[string]string{"using": "css selector", "value": selector}, &element)
	for _, id := range element {
		b.call("POST", "/element/"+id+"/click", map[string]any{}, nil)
	}
}

// Sentences from right to left are in the right order, and begin at the right, in lines and in the input.
func testRightToLeft(t *testing.T, driver chromedriver) {
	ws, b := besideAnother(t, driver)
	wstest.Say(t, ws, "Bob: שלום, world!")
	wstest.Say(t, ws, "Bob: hello, עולם!")
	wstest.Say(t, ws, "دانا: مرحبا")
	b.until("lines", entries+`.length == 3`)
	const lefts = `$("#lines .text").get().map(text => [0, text.firstChild.length - 1].map(i => {
		const range = document.createRange();
		range.setStart(text.firstChild, i);
		range.setEnd(text.firstChild, i + 1);
		return range.getBoundingClientRect().left;
	}))`
	b.until("the exclamation mark left of the first letter in Hebrew, right of it in English", `(([[a, b], [c, d]]) => b < a && d > c)(`+lefts+`)`)
	b.until("lines at their sides", `$("#lines .body").get().map(e => getComputedStyle(e).direction).join() == "rtl,ltr,rtl"`)
	b.run(`$("#msg").val("שלום, world!").trigger("input")`, nil)
	b.until("input from the right", `getComputedStyle($("#msg")[0]).direction == "rtl"`)
	b.screenshot("rtl.png")
}

// However many diacritics are on a letter, the rows above and below stay as they are.
func testDiacritics(t *testing.T, driver chromedriver) {
	ws, b := besideAnother(t, driver)
	wstest.Say(t, ws, " ")
	wstest.Say(t, ws, strings.Repeat("a"+strings.Repeat("\u0302\u0303\u0304\u0306\u0323\u0324\u032d\u0331", 5), 40))
	wstest.Say(t, ws, " ")
	b.until("lines", entries+`.length == 3`)
	var rows [][4]float64 // left, top, right, bottom of the empty ones
	b.run(`return $("#lines .entry").get().filter((e, i) => i != 1).map(e => (r => [r.left + 100, r.top + 1, r.right - 2, r.bottom - 1])(e.getBoundingClientRect()))`, &rows)
	shown, err := png.Decode(bytes.NewReader(b.png()))
	if err != nil {
		t.Fatal(err)
	}
	for i, row := range rows {
		if painted := differing(shown, image.Rect(int(row[0]), int(row[1]), int(row[2]), int(row[3]))); painted > 0 {
			t.Errorf("%d pixels of empty row %d are painted over", painted, i)
		}
	}
	b.screenshot("diacritics.png")
}

// differing counts the pixels in an area that differ from its first.
func differing(shown image.Image, area image.Rectangle) (n int) {
	for y := area.Min.Y; y < area.Max.Y; y++ {
		for x := area.Min.X; x < area.Max.X; x++ {
			if shown.At(x, y) != shown.At(area.Min.X, area.Min.Y) {
				n++
			}
		}
	}
	return n
}

// A screen reader is not told lines that were said before the page came, nor an own message when it is
// typed and again when it is heard.
func testScreenReaders(t *testing.T, driver chromedriver) {
	ws, b := besideAnother(t, driver)
	for n := range 20 {
		wstest.Say(t, ws, fmt.Sprint("line ", n))
	}
	b.until("lines", entries+`.length == 20`)
	// Note what is added to the log while it is not busy: that is announced.
	b.onNewDocument(`
		window.announced = [];
		document.addEventListener("DOMContentLoaded", () => new MutationObserver(records => {
			for (const {target, addedNodes} of records) {
				const live = target.closest("[aria-live], [role=log]");
				for (const node of addedNodes) {
					if (live && live.ariaLive != "off" && document.querySelector("#log").ariaBusy != "true") announced.push(node.textContent);
				}
			}
		}).observe(document.querySelector("#log"), {childList: true, subtree: true}));`)
	var url string
	b.run(`return location.href`, &url)
	b.enter(url)
	b.until("lines", entries+`.length == 20 && $("#log").attr("aria-busy") == "false"`)
	wstest.Say(t, ws, "after all")
	b.until("line", entries+`.length == 21`)
	b.typeKeys("my own" + enter)
	b.until("own line", `$("#lines .own").length == 1`)
	b.until("what is announced", `announced.map(text => text.replace(/^\d\d:\d\d/, "")).join() == "after all,my own"`)
}

// A printed page has the whole log, and nothing to press.
func testPrint(t *testing.T, driver chromedriver) {
	ws, b := besideAnother(t, driver)
	for n := range 100 {
		wstest.Say(t, ws, fmt.Sprint("line ", n))
	}
	b.until("lines", entries+`.length == 100`)
	b.media("print", "prefers-color-scheme", "light")
	b.until("the whole log", `$("#log")[0].clientHeight == $("#log")[0].scrollHeight && document.documentElement.scrollHeight > 100 * 20`)
	b.until("nothing to press", `$("button:visible, textarea:visible, input:visible, summary:visible").length == 0`)
}

// Where the system sets the colours, borders show what backgrounds did.
func testForcedColours(t *testing.T, driver chromedriver) {
	ws, b := besideAnother(t, driver)
	wstest.Say(t, ws, "another's")
	b.typeKeys("my own" + enter)
	b.until("lines", entries+`.length == 2`)
	b.media("", "forced-colors", "active")
	b.screenshot("forced.png")
	var edges [3]struct{ X, Y float64 } // of the button, of the other's line, and of the own one
	b.run(`return ["#send", "#lines .entry:not(.own)", "#lines .own"].map(selector => $(selector)[0].getBoundingClientRect())`, &edges)
	shown, err := png.Decode(bytes.NewReader(b.png()))
	if err != nil {
		t.Fatal(err)
	}
	for i, what := range []string{"border of the button", "no border of the other's line", "mark of the own line"} {
		x, y := int(edges[i].X), int(edges[i].Y)+12
		if bordered := differing(shown, image.Rect(x, y, x+8, y+1)) > 0; bordered != (i != 1) {
			t.Errorf("no %s", what)
		}
	}
}

// A line of a hundred thousand links is shown, and so is what follows.
func testLongLine(t *testing.T, driver chromedriver) {
	addr := startProgram(t, "-max-message", "2000000").addr
	ws := wstest.DialWS(t, addr)
	b := driver.open(t)
	b.enter("http://" + addr + "/")
	wstest.Say(t, ws, "Bob: "+strings.Repeat("http://a.b/c ", 100_000))
	wstest.Say(t, ws, "after all")
	b.until("both", entries+`.length == 2 && $("#lines a").length == 100000`)
	b.cleanConsole()
}

// An empty room says that it is empty, until something is said.
func testEmptyRoom(t *testing.T, driver chromedriver) {
	ws, b := besideAnother(t, driver)
	b.until("explanation", `$("#empty").is(":visible") && $("#empty").text().includes("Nobody has said anything here yet.") && $("#empty").text().includes("the last 256 messages")`)
	b.screenshot("empty.png")
	b.look(false)
	b.look(true)
	b.until("explanation", `$("#empty").is(":visible")`)
	wstest.Say(t, ws, "hello")
	b.until("line alone", entries+`.join() == "hello" && $("#empty").is(":hidden")`)
}
