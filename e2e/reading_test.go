package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"image"
	"image/png"
	"io"
	"maps"
	"math"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/websocket"

	"example.com/chat/internal/wstest"
)

// scriptedChat serves the page, and a WebSocket that sends messages, the []byte among them as events. Then it
// sends the lines from more.
func scriptedChat(t *testing.T, messages []any, more chan string) string {
	mux := http.NewServeMux()
	mux.Handle("/", httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: startProgram(t).addr}))
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

// said returns an event with 12 people, the server's time, and the times of the next lines.
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

// look lets the page believe that the person looks at it, or elsewhere.
func (b *browser) look(here bool) {
	b.t.Helper()
	event := map[bool]string{true: "focus", false: "blur"}[here]
	b.run(fmt.Sprintf(`document.hasFocus = () => %v; window.dispatchEvent(new Event(%q))`, here, event))
}

// A line shows when it was said by the server's clock, and the full date in its title. A rule divides days. The
// page ignores events that it does not know.
func testTimes(t *testing.T, driver chromedriver) {
	past := time.Date(2001, 2, 3, 4, 5, 6, 0, time.UTC)
	now := time.Now().Add(time.Hour)
	b := driver.open(t)
	b.enter(scriptedChat(t, []any{
		"EPOCH 5 8",
		said(now, past, past, past.Add(24*time.Hour)),
		[]byte(`{"future":{"x":[1,null]}}`),
		"one\ntwo",
		[]byte(`{"weather":"fine","people":13}`),
		"three\nfour",
		[]byte(`{}`),
		"five",
	}, nil))
	b.untilShown("one", "two", "three", "four", "five")
	b.until("there are 13 people", `$("#people").text() == "13 people"`)
	b.until("the lines have their times", fmt.Sprintf(`$("#lines time").get().slice(0, 3).map(time => time.dateTime).join() == "2001-02-03T04:05:06.000Z,2001-02-03T04:05:06.000Z,2001-02-04T04:05:06.000Z" &&
		$("#lines time").get().slice(3).every(time => Math.abs(new Date(time.dateTime) - %d) < 60000)`, now.UnixMilli()))
	b.until("the title has the full date", `$("#lines time")[0].title.match(/February 3, 2001.*:05:06/)`)
	b.until("rules stand between days", `$("#lines > *").get().map(e => e.classList[0] == "day" ? e.textContent : e.classList[0]).join("|").match(/^[^|]*February 3, 2001\|entry\|entry\|[^|]*February 4, 2001\|entry\|[^|]*20\d\d\|entry\|entry$/)`)
	b.expectCleanConsole()
}

// inView is an expression: the rule before new lines is in view.
const inView = `(([rule, log]) => rule.top >= log.top && rule.bottom < log.bottom)([$("#new")[0], $("#log")[0]].map(e => e.getBoundingClientRect()))`

// texts is an expression: the texts of the lines, and "new" for the rule before new lines.
const texts = `$("#lines > *").get().map(e => e.id || $(e).find(".text").text()).join()`

// An empty room says that it is empty. Lines that come while the person looks elsewhere are new. The title and
// the icon count them, and a rule stands before them, in view, when the person looks again. Escape removes the
// rule.
func testUnread(t *testing.T, driver chromedriver) {
	ann, b := besideAnother(t, driver)
	const explanation = `$("#empty").is(":visible") && $("#empty").text().includes("Nobody has said anything here yet.") && $("#empty").text().includes("the last 256 messages")`
	b.until("the page explains the room", explanation)
	b.screenshot("empty.png")
	b.look(false)
	b.look(true)
	b.until("the page still explains the room", explanation)
	say(ann, "seen")
	b.until("the line is not new", texts+` == "seen" && document.title == "Chat" && $("#empty").is(":hidden")`)

	b.look(false)
	say(ann, "not seen", "nor this")
	b.until("the title and the icon count", texts+` == "seen,new,not seen,nor this" && document.title == "(2) Chat" && $("#icon").attr("href") == "assets/icon-unread.svg"`)
	b.look(true)
	b.until("the count is gone", `document.title == "Chat" && $("#icon").attr("href") == "assets/icon.svg"`)
	say(ann, "seen, too")
	b.until("the rule stays", texts+` == "seen,new,not seen,nor this,seen, too"`)
	b.screenshot("new.png")
	b.run(`$("#bell").prop("open", true).find("summary").trigger("focus")`)
	b.typeKeys(escape)
	b.until("the menu is closed, and the rule stays", `!$("#bell").prop("open") && `+texts+` == "seen,new,not seen,nor this,seen, too"`)
	b.typeKeys(escape)
	b.until("the rule is gone", texts+` == "seen,not seen,nor this,seen, too"`)

	// The same holds for a hidden tab. Even if there are many new lines, the first is in view.
	hide := func(hidden bool) {
		b.run(fmt.Sprintf(`Object.defineProperty(document, "hidden", {configurable: true, get: () => %v});
			document.dispatchEvent(new Event("visibilitychange"));`, hidden))
	}
	hide(true)
	say(ann, wstest.Numbered(0, 100)...)
	b.until("the title counts", `document.title == "(100) Chat" && $("#new").next().find(".text").text() == "line 0"`)
	hide(false)
	b.until("the rule is in view", `document.title == "Chat" && `+inView)
	b.until("there is a way down", `$("#below").is(":visible") && $("#below").text() == "↓ 100 new messages"`)

	// A new connection moves nothing.
	b.run(`$("#below").trigger("click"); window.dispatchEvent(new Event("online"))`)
	b.untilLive()
	say(ann, "still at the end")
	b.until("the end is in view", `$("#lines .text").last().text() == "still at the end" && `+atEnd)

	// An own line is not new.
	b.look(false)
	b.typeKeys("my own" + enter)
	b.until("the title does not count", `$("#lines .own").length == 1 && document.title == "Chat" && $("#new").next().find(".text").text() == "line 0"`)
	b.expectCleanConsole()
}

// Lines that were said while the connection was lost, or the page was not loaded, are new.
func testUnreadOnReturn(t *testing.T, driver chromedriver) {
	ann, network, b := throughCuttable(t, driver)
	say(ann, "seen")
	b.untilShown("seen")
	b.look(false)
	network.cut(true, true) // as a phone does with a page that is not in view
	say(ann, "not seen")
	time.Sleep(time.Second) // the times of lines have this precision
	b.look(true)
	network.heal()
	b.untilLive()
	say(ann, "seen, too")
	b.until("the rule stands before the new line", texts+` == "seen,new,not seen,seen, too"`)

	b.visit("about:blank")
	ann.ExpectLines("seen", "not seen", "seen, too")
	for _, line := range wstest.Numbered(0, 50) {
		say(ann, line)
		ann.ExpectLines(line)
	}
	b.enter(b.url)
	b.until("the rule stands before the new lines", entries+`.length == 53 && $("#new").prev().find(".text").text() == "seen, too" && document.title == "Chat"`)
	b.until("the rule is in view", inView)
	b.enter(b.url)
	b.until("nothing is new", entries+`.length == 53 && $("#new").length == 0`)
}

// The log stays at its end. If it is scrolled up, it stays there, and says how many lines have come below. It
// scrolls with the keyboard from the input, and typed text goes into the input from anywhere. A printed page
// has the whole log.
func testLongLog(t *testing.T, driver chromedriver) {
	ann, b := besideAnother(t, driver)
	say(ann, wstest.Numbered(0, 100)...)
	b.until("the end is in view", entries+`.length == 100 && `+atEnd+` && $("#below").is(":hidden")`)
	b.run(`$("#log")[0].scrollTop = 200`)
	say(ann, wstest.Numbered(100, 103)...)
	b.until("the page says that lines have come", `$("#below").text() == "↓ 3 new messages" && $("#below").is(":visible") && $("#log")[0].scrollTop == 200`)
	b.screenshot("scrolled.png")
	b.run(`$("#below").trigger("click")`)
	b.until("the end is in view", atEnd+` && $("#below").is(":hidden")`)

	b.focus("#log")
	b.typeKeys("typed")
	b.until("the input has the text", `$("#msg").val() == "typed" && document.activeElement.id == "msg"`)
	b.run(`window.before = $("#log")[0].scrollTop`)
	b.typeKeys(pageUp)
	b.until("the log is a page further up", `before - $("#log")[0].scrollTop > 0.5 * $("#log")[0].clientHeight && $("#msg").val() == "typed" && document.activeElement.id == "msg"`)
	b.typeKeys(pageDown)
	b.until("the log is a page further down", `$("#log")[0].scrollTop == before`)
	b.expectCleanConsole()

	b.media("print", "prefers-color-scheme", "light")
	b.until("the paper has the whole log", `$("#log")[0].clientHeight == $("#log")[0].scrollHeight && document.documentElement.scrollHeight > 100 * 20`)
	b.until("the paper has nothing to press", `$("button:visible, textarea:visible, input:visible, summary:visible").length == 0`)
}

// Lines of one speaker within five minutes share one visible name and time. Screen readers and the clipboard
// get both for each line.
func testGroups(t *testing.T, driver chromedriver) {
	b := driver.open(t)
	noon := time.Date(2001, 2, 3, 12, 0, 0, 0, time.UTC)
	at := func(minutes int) time.Time { return noon.Add(time.Duration(minutes) * time.Minute) }
	more := make(chan string)
	defer close(more)
	b.enter(scriptedChat(t, []any{
		"EPOCH 0 9",
		said(time.Now(), at(0), at(1), at(4), at(5), at(6), at(7), at(8), at(9), at(24*60)),
		"Bob: one\nBob: two\nBob: three\nBob: four\nAnn: five\nBob: six\nseven\neight\nBob: nine",
	}, more))
	b.until("the log has the lines", entries+`.length == 9`)
	const visible = `$("#lines .entry").get().map(e => (getComputedStyle(e.querySelector("time")).opacity == "1" ? e.querySelector("time").textContent : "") + " " +
		($(e).find(".speaker").get().some(s => s.getBoundingClientRect().width > 10) ? $(e).find(".name").text() : ""))`
	b.until("the groups have names and times", visible+`.join("|") == "12:00 Bob| | |12:05 Bob|12:06 Ann|12:07 Bob|12:08 |12:09 |12:00 Bob"`)

	more <- "Bob: now"
	b.until("the line begins a group", visible+`.at(-1).endsWith(" Bob")`)
	more <- "Bob: and now"
	b.until("the line continues the group", visible+`.at(-1) == " "`)

	for _, test := range []struct {
		from, to int
		want     string
	}{
		{0, 4, "12:00 Bob: one\n12:01 Bob: two\n12:04 Bob: three\n12:05 Bob: four\n12:06 Ann: five"},
		{1, 1, "12:01 Bob: two"},
	} {
		var copied string
		b.eval(fmt.Sprintf(`const range = document.createRange();
			range.setStartBefore($("#lines .entry")[%d]);
			range.setEndAfter($("#lines .entry")[%d]);
			getSelection().removeAllRanges();
			getSelection().addRange(range);
			const event = new ClipboardEvent("copy", {clipboardData: new DataTransfer(), bubbles: true, cancelable: true});
			$("#log")[0].dispatchEvent(event);
			return event.defaultPrevented && event.clipboardData.getData("text/plain")`, test.from, test.to), &copied)
		if copied != test.want {
			t.Errorf("copied %q, want %q", copied, test.want)
		}
	}
	tree := b.accessibilityTree()
	if times, names := strings.Count(tree, "\n12:01\n"), strings.Count(tree, "\nBob\n"); times != 1 || names != 8 {
		t.Errorf("a screen reader finds 12:01 %d times and Bob %d times, want 1 and 8, in\n%s", times, names, tree)
	}
	b.expectCleanConsole()
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
	b.devtools("Accessibility.getFullAXTree", map[string]any{}, &tree)
	var texts strings.Builder
	for _, node := range tree.Nodes {
		if node.Role.Value == "StaticText" && !node.Ignored {
			fmt.Fprintf(&texts, "\n%s\n", strings.TrimSpace(fmt.Sprint(node.Name.Value)))
		}
	}
	return texts.String()
}

// The log sets off the name that a line begins with, in a colour of that name. A message of a person without a
// name gets none, even if it looks like a name and a text, and even after a reload.
func testNames(t *testing.T, driver chromedriver) {
	ann, b := besideAnother(t, driver)
	others := []string{"Bob: hi", "Ann the first: hi", "no name here", "https://example.org/: is an address", ": nobody", "Cléo: hi", "Bob: again"}
	say(ann, others...)
	b.until("the names are set off", `$(".name").get().map(e => e.textContent).join("|") == "Bob|Ann the first|Cléo|Bob"`)
	b.until("each name has a colour", `(([a, b, c, d]) => a == d && a != b && a != c && b != c)($(".name").get().map(e => getComputedStyle(e).color))`)
	b.typeKeys("TODO: buy milk" + enter + "no colon" + enter)
	for range 2 {
		b.until("the own lines have no name", entries+`.slice(-2).join("|") == "TODO: buy milk|no colon" && $("#lines .own").length == 2 && $("#lines .own .name").length == 0`)
		b.reload()
	}
	ann.ExpectLines(append(others, " TODO: buy milk", "no colon")...)
	b.expectCleanConsole()
}

// Names have twelve different colours, with a contrast of 4.5:1 on both backgrounds in both schemes (WCAG 2.2,
// success criterion 1.4.3).
func testColours(t *testing.T, driver chromedriver) {
	ann, b := besideAnother(t, driver)
	b.rename("Ann")
	say(ann, "Bob: hello")
	b.typeKeys("hello" + enter)
	b.until("the log has two names", `$("#lines .name").length == 2`)
	for _, scheme := range []string{"light", "dark"} {
		b.media("", "prefers-color-scheme", scheme)
		for _, background := range []string{"#log", ".own"} {
			var colours [][]float64 // red, green and blue; the background comes first
			b.eval(fmt.Sprintf(`const context = document.createElement("canvas").getContext("2d");
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
					t.Errorf("%s, %s: colour %d has a contrast of %.2f, want 4.5", scheme, background, i, ratio)
				}
				for j, other := range colours[1 : 1+i] {
					if d := math.Hypot(math.Hypot(one[0]-other[0], one[1]-other[1]), one[2]-other[2]); d < 15 {
						t.Errorf("%s: colours %d and %d are %.0f apart, want 15: %v and %v", scheme, j, i, d, other, one)
					}
				}
			}
		}
	}

	// The page gives out all of them.
	for n := range 200 {
		say(ann, fmt.Sprintf("Name %d: hello", n))
	}
	b.until("names have twelve colours", `new Set($("#lines .name").get().slice(2).map(name => getComputedStyle(name).color)).size == 12`)
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

// The page shows how many people there are, and who spoke within the last hour, with the last time.
func testPresence(t *testing.T, driver chromedriver) {
	b := driver.open(t)
	now := time.Now()
	b.enter(scriptedChat(t, []any{
		"EPOCH 0 5",
		said(now, now.Add(-61*time.Minute), now.Add(-59*time.Minute), now, now, now),
		"Old: hello\nBob: hello\nAnn: hello\nnobody\nBob: and again",
	}, nil))
	b.until("the log has the lines", entries+`.length == 5`)
	b.run(`$("#people").trigger("click")`)
	b.until("the list has the speakers, the last one first", `$("#people").text() == "12 people" && $("#speakers li bdi").get().map(e => e.textContent).join() == "Bob,Ann"`)
	b.until("the list has times", `$("#speakers li small").first().text() == $("#lines time").last().text()`)
	b.screenshot("presence.png")
	b.onPhone()
	b.until("the list is within the phone", `(r => r.left >= 0 && r.right <= 320)($("#presence > div")[0].getBoundingClientRect())`)
}

// The page notifies nobody before the person has chosen so. Then a notification and a sound report mentions, or
// every line, while the person looks elsewhere.
func testNotifications(t *testing.T, driver chromedriver) {
	ann, b := besideAnother(t, driver)
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
	b.reload()
	b.rename("Ann")
	count := 0
	sayAndWait := func(line string) {
		say(ann, line)
		count++
		b.until("the log has the line", fmt.Sprintf(entries+`.length == %d`, count))
	}
	b.look(false)
	sayAndWait("Bob: hello, Ann")
	b.until("nothing is reported", `shown.length == 0 && sounds == 0 && $("#bell input:checked").val() == "nothing"`)

	b.click("#bell summary")
	b.click("#bell [value=mentions]")
	b.until("the page says what will be reported", `$("#means").text() == "A notification and a sound."`)
	b.screenshot("bell.png")
	b.look(true)
	sayAndWait("Bob: Ann, are you there?")
	b.look(false)
	sayAndWait("Bob: Annette, and Joann, and ann_x")
	sayAndWait("Bob: who is that?")
	b.until("nothing is reported", `shown.length == 0`)
	sayAndWait("Bob: I mean @ann!")
	b.until("the mention is reported", `shown.join() == "Bob – Chat|I mean @ann!" && sounds == 1`)
	sayAndWait("Ann, without a name")
	b.until("the mention is reported, without a sound so soon", `shown.at(-1) == "Chat|Ann, without a name" && sounds == 1`)
	b.until("mentions are marked, and the bell is on", `$("#lines mark").get().map(e => e.textContent).join() == "Ann,Ann,@ann,Ann" && $("#bell").is(".on")`)
	b.focus("#msg")
	b.typeKeys("Ann is me" + enter)
	count++
	b.until("the own line is neither reported nor marked", `$("#lines .own").length == 1 && shown.length == 2 && $(".own mark").length == 0`)

	b.click("#bell [value=everything]")
	sayAndWait("Bob: whatever")
	b.until("the line is reported", `shown.at(-1) == "Bob – Chat|whatever"`)
	b.reload()
	b.until("the choice is the same", `$("#bell input:checked").val() == "everything"`)
	b.expectCleanConsole()

	// The server has the manifest, and the icons of the page and the manifest.
	var missing []string
	b.eval(`const links = $("link[rel=icon], link[rel=manifest]").get().map(link => link.href);
		return (async () => {
			const {icons} = await (await fetch(links[1])).json();
			const all = [...links, ...icons.map(icon => new URL(icon.src, links[1]).href), links[0].replace("icon.svg", "icon-unread.svg")];
			return (await Promise.all(all.map(async url => (await fetch(url)).ok ? [] : [url]))).flat();
		})()`, &missing)
	if len(missing) > 0 {
		t.Errorf("got no files for %v, want all", missing)
	}
}

// Nothing that anyone says becomes markup, moves what others say, or widens the page. Addresses of the web
// become links.
func testNoMarkup(t *testing.T, driver chromedriver) {
	ann, b := besideAnother(t, driver, "-max-message", "16384")
	b.onPhone()
	lines := []string{
		"see https://example.org/a_(b)?c=d&e#f, HTTP://EXAMPLE.ORG. (http://x.example/) xhttp://no ftp://no https:// http://[ mailto:a@example.org",
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
	say(ann, lines...)
	b.until("the log has the lines", fmt.Sprintf(entries+`.length == %d`, len(lines)))
	b.until("the log has elements of the page alone", `$("#lines").find("*").get().every(e => ["DIV", "SPAN", "BDI", "TIME", "A"].includes(e.tagName))`)
	b.until("the log has attributes of the page alone", `$("#lines").find("*").get().every(e => [...e.attributes].every(a => ["class", "style", "datetime", "title", "dir", "href", "target", "rel"].includes(a.name)))`)
	b.until("links are safe", `$("#lines a").get().every(a => /^https?:$/.test(a.protocol) && a.rel == "noopener noreferrer")`)
	b.until("addresses are links", `$(".entry").first().find("a").get().map(a => a.textContent).join(" ") == "https://example.org/a_(b)?c=d&e#f HTTP://EXAMPLE.ORG http://x.example/"`)
	b.until("the last line stands in line", `$(".entry").last().text().endsWith("after all") && $(".entry").last().find(".body")[0].getBoundingClientRect().left == $(".entry").first().find(".body")[0].getBoundingClientRect().left`)
	b.until("nothing is wider than the page", `document.documentElement.scrollWidth == 320 && $("#log")[0].scrollWidth == $("#log")[0].clientWidth`)
	var shown []string
	b.eval(`return `+entries, &shown)
	visible := strings.NewReplacer("\u202e", "\ufffd", "\u2066", "\ufffd", "\u2067", "\ufffd", "\x00", "␀", "\x1b", "␛", "\r", "␍")
	for i, line := range lines {
		line = visible.Replace(line)
		if named := strings.Replace(line, ": ", " ", 1); shown[i] != line && shown[i] != named {
			t.Errorf("got %q, want %q", shown[i], line)
		}
	}
	b.expectCleanConsole()
}

// The page shows control characters, and passes none on to the clipboard, from which somebody may paste into a terminal,
// or to notifications. Tabs, line breaks, and characters that writing systems and emoji need are as they were said.
func testControlCharacters(t *testing.T, driver chromedriver) {
	ann, b := besideAnother(t, driver)
	b.onNewDocument(`
		window.shown = [];
		window.Notification = class {
			static permission = "granted";
			constructor(title, options) { shown.push(title + "|" + options.body); }
		};`)
	b.run(`localStorage["chat:notify"] = JSON.stringify("everything")`)
	b.reload()
	b.look(false)
	say(ann,
		"Bob\x1b[2J\x7f: a\x00b\x07c\x08d\re\x0b\x0cf\x1b]0;title\x07\tg\x7fh",
		"Bob: \u0085\u009b31m \u202arm \u202b\u202c\u202d\u202eelif\u2066\u2067\u2068\u2069",
		"Bob: two\u2028rows",
		"Bob: \u200eשלום\u200f \u061cمرحبا نمی\u200cخواهم 👩\u200d👩\u200d👧 🏴\U000e0067\U000e0062\U000e007f \u00a0é",
		"see https://example.org/\x1b[31m\u202e",
	)
	want := []string{
		"Bob␛[2J␡ a␀b␇c␈d␍e␋␌f␛]0;title␇\tg␡h",
		"Bob \ufffd\ufffd31m \ufffdrm \ufffd\ufffd\ufffd\ufffdelif\ufffd\ufffd\ufffd\ufffd",
		"Bob two\nrows",
		"Bob \u200eשלום\u200f \u061cمرحبا نمی\u200cخواهم 👩\u200d👩\u200d👧 🏴\U000e0067\U000e0062\U000e007f \u00a0é",
		"see https://example.org/␛[31m\ufffd",
	}
	b.untilShown(want...)
	b.until("a name and a link have none", `$("#lines .name").first().text() == "Bob␛[2J␡" && $("#lines a").attr("href") == "https://example.org/␛[31m\ufffd"`)
	b.until("a notification has none", `shown[0] == "Bob␛[2J␡ – Chat|a␀b␇c␈d␍e␋␌f␛]0;title␇\tg␡h" && shown[2] == "Bob – Chat|two\nrows"`)

	_, inText, _ := strings.Cut(want[0], " ")
	if got := b.copy(`range.selectNodeContents($("#lines .text")[0])`); got != inText {
		t.Errorf("copied %q from within a text, want %q", got, inText)
	}
	for i, line := range want[:4] {
		want[i] = strings.Replace(line, " ", ": ", 1)
	}
	got := b.copy(`range.selectNodeContents($("#lines")[0])`)
	if got = regexp.MustCompile(`(?m)^\d\d:\d\d `).ReplaceAllString(got, ""); got != strings.Join(want, "\n") {
		t.Errorf("copied %q from the log, want %q", got, strings.Join(want, "\n"))
	}

	b.run(`$("#who").trigger("click"); $("#name").val("Ann\x07"); $("#ask").trigger("submit")`)
	b.until("the person's own name has none", `$("#who").text() == "Ann␇"`)

	// These are all characters that the page replaces, and the replacements of the first of each range.
	replaced, shown := []struct{ from, to, shown rune }{
		{0x00, 0x08, '␀'}, {0x0a, 0x1f, '␊'}, {0x7f, 0x7f, '␡'}, {0x80, 0x9f, '\ufffd'}, {0x202a, 0x202e, '\ufffd'}, {0x2066, 0x2069, '\ufffd'},
	}, map[string]string{}
	for _, r := range replaced {
		for c := r.from; c <= r.to; c++ {
			shown[string(c)] = string(r.shown)
			if r.shown != '\ufffd' {
				r.shown++
			}
		}
	}
	changed := map[string]string{}
	b.eval(`return (async () => {
		const {visible} = await import(new URL("assets/log.js", location));
		const all = Array.from({length: 0x110000}, (_, c) => String.fromCodePoint(c)).filter(c => c.isWellFormed() && visible(c) !== c);
		return Object.fromEntries(all.map(c => [c, visible(c)]));
	})()`, &changed)
	if !maps.Equal(changed, shown) {
		t.Errorf("the page replaces %q, want %q", changed, shown)
	}
	b.expectCleanConsole()
}

// copy has a script select something with range, copies it as a person does, and returns what the clipboard then has.
func (b *browser) copy(script string) string {
	b.t.Helper()
	b.devtools("Browser.grantPermissions", map[string]any{"permissions": []string{"clipboardReadWrite"}}, nil)
	var got struct {
		Result           struct{ Value string }
		ExceptionDetails any
	}
	b.devtools("Runtime.evaluate", map[string]any{"userGesture": true, "awaitPromise": true, "returnByValue": true, "expression": `(() => {
		const range = document.createRange();
		` + script + `;
		getSelection().removeAllRanges();
		getSelection().addRange(range);
		document.execCommand("copy");
		return navigator.clipboard.readText();
	})()`}, &got)
	b.devtools("Browser.resetPermissions", map[string]any{}, nil)
	if got.ExceptionDetails != nil {
		b.t.Fatalf("the browser does not copy: %v", got.ExceptionDetails)
	}
	return got.Result.Value
}

// Sentences from right to left are in order and begin at the right, in lines and in the input.
func testRightToLeft(t *testing.T, driver chromedriver) {
	ann, b := besideAnother(t, driver)
	say(ann, "Bob: שלום, world!", "Bob: hello, עולם!", "دانا: مرحبا")
	b.until("the log has the lines", entries+`.length == 3`)
	const lefts = `$("#lines .text").get().map(text => [0, text.firstChild.length - 1].map(i => {
		const range = document.createRange();
		range.setStart(text.firstChild, i);
		range.setEnd(text.firstChild, i + 1);
		return range.getBoundingClientRect().left;
	}))`
	b.until("the exclamation mark is left of the first letter in Hebrew, and right of it in English", `(([[a, b], [c, d]]) => b < a && d > c)(`+lefts+`)`)
	b.until("lines have their directions", `$("#lines .body").get().map(e => getComputedStyle(e).direction).join() == "rtl,ltr,rtl"`)
	b.run(`$("#msg").val("שלום, world!").trigger("input")`)
	b.until("the input goes from the right", `getComputedStyle($("#msg")[0]).direction == "rtl"`)
	b.screenshot("rtl.png")
}

// Even with many diacritics on a letter, the rows above and below stay clean.
func testDiacritics(t *testing.T, driver chromedriver) {
	ann, b := besideAnother(t, driver)
	say(ann, " ", strings.Repeat("a"+strings.Repeat("\u0302\u0303\u0304\u0306\u0323\u0324\u032d\u0331", 5), 40), " ")
	b.until("the log has the lines", entries+`.length == 3`)
	var rows [][4]float64 // left, top, right and bottom of the empty lines
	b.eval(`return $("#lines .entry").get().filter((e, i) => i != 1).map(e => (r => [r.left + 100, r.top + 1, r.right - 2, r.bottom - 1])(e.getBoundingClientRect()))`, &rows)
	for i, r := range rows {
		if painted := b.painted(image.Rect(int(r[0]), int(r[1]), int(r[2]), int(r[3]))); painted > 0 {
			t.Errorf("empty row %d has %d painted pixels, want none", i, painted)
		}
	}
	b.screenshot("diacritics.png")
}

// painted returns the number of pixels in an area of the window that differ from its first.
func (b *browser) painted(area image.Rectangle) (n int) {
	b.t.Helper()
	picture, err := png.Decode(bytes.NewReader(b.png()))
	if err != nil {
		b.t.Fatal(err)
	}
	for y := area.Min.Y; y < area.Max.Y; y++ {
		for x := area.Min.X; x < area.Max.X; x++ {
			if picture.At(x, y) != picture.At(area.Min.X, area.Min.Y) {
				n++
			}
		}
	}
	return n
}

// A screen reader does not announce lines that were said before the page was loaded. It announces an own
// message once.
func testScreenReaders(t *testing.T, driver chromedriver) {
	ann, b := besideAnother(t, driver)
	lines := wstest.Numbered(0, 20)
	say(ann, lines...)
	b.untilShown(lines...)
	// A screen reader announces nodes that are added to the log while it is not busy.
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
	b.reload()
	b.untilShown(lines...)
	b.until("the log is not busy", `$("#log").attr("aria-busy") == "false"`)
	say(ann, "after all")
	b.untilShown(append(slices.Clone(lines), "after all")...)
	b.typeKeys("my own" + enter)
	b.until("the log has an own line", `$("#lines .own").length == 1`)
	b.until("both lines are announced", `announced.map(text => text.replace(/^\d\d:\d\d/, "")).join() == "after all,my own"`)
}

// If the system sets the colours, borders replace the backgrounds that mark the button and own lines.
func testForcedColours(t *testing.T, driver chromedriver) {
	ann, b := besideAnother(t, driver)
	say(ann, "another's")
	b.typeKeys("my own" + enter)
	b.until("the log has two lines", entries+`.length == 2`)
	b.media("", "forced-colors", "active")
	b.screenshot("forced.png")
	for selector, want := range map[string]bool{"#send": true, "#lines .entry:not(.own)": false, "#lines .own": true} {
		var edge struct{ X, Y float64 }
		b.eval(fmt.Sprintf(`return $(%q)[0].getBoundingClientRect()`, selector), &edge)
		x, y := int(edge.X), int(edge.Y)+12
		if got := b.painted(image.Rect(x, y, x+8, y+1)) > 0; got != want {
			t.Errorf("%s: got a border %v, want %v", selector, got, want)
		}
	}
}

// The page shows a line of a hundred thousand links, and the line after it.
func testLongLine(t *testing.T, driver chromedriver) {
	ann, b := besideAnother(t, driver, "-max-message", "2000000")
	say(ann, "Bob: "+strings.Repeat("http://a.b/c ", 100_000), "after all")
	b.until("the log has both lines", entries+`.length == 2 && $("#lines a").length == 100000`)
	b.expectCleanConsole()
}
