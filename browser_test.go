// browser_test.go: the page, in a real Chromium.

package main

import (
	"flag"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"testing"
)

var screenshots = flag.String("screenshots", "", "have the browser test write its screenshots to this `directory`")

func TestBrowser(t *testing.T) {
	driver := startChromedriver(t)
	t.Run("two windows", func(t *testing.T) { testTwoWindows(t, driver) })
	t.Run("below a path, over TLS", func(t *testing.T) { testProxiedPage(t, driver) })
	t.Run("on a phone, in the dark", func(t *testing.T) { testPhone(t, driver) })
	t.Run("without WebSocket", func(t *testing.T) { testNoWebSocket(t, driver) })
}

// entries is, in the page, what the log says, as an array.
const entries = `$("#log div").get().map(entry => entry.textContent)`

// enter loads the page and waits until it is connected.
func (b *browser) enter(url string) {
	b.t.Helper()
	b.visit(url)
	b.until("connection", `$("#state").text() == "connected"`)
}

func testTwoWindows(t *testing.T, driver chromedriver) {
	addr, stop := startServer(t, 4096)
	b := driver.open(t)
	ann := b.window
	b.enter("http://" + addr + "/")
	bob := b.newWindow()
	b.enter("http://" + addr + "/")
	b.until("focus in the input", `document.activeElement.id == "msg"`)

	// One types, the other reads it, as text.
	b.typeKeys("Hello, is anyone there?" + enter)
	b.typeKeys(enter) // nothing is not sent
	b.until("empty input again", `$("#msg").val() == ""`)
	b.turnTo(ann)
	b.until("what the other one said", entries+`.join("|") == "Hello, is anyone there?"`)
	b.typeKeys("I am! Is <b>this</b> bold where you are, or <img src=x onerror=alert(1)> &amp; such?" + enter)
	b.turnTo(bob)
	b.until("answer as it was typed", entries+`[1] == "I am! Is <b>this</b> bold where you are, or <img src=x onerror=alert(1)> &amp; such?"`)
	b.until("text without markup", `$("#log div *").length == 0`)
	b.typeKeys("No, all plain text. Ελληνικά come through too, and so does the bear: ʕ•ᴥ•ʔ" + enter)
	b.until("echo", entries+`.length == 3`)
	b.screenshot("chat.png")

	// Many lines are as many entries, however they were joined on the way.
	// A log at its end stays there, one scrolled up stays where it is.
	ws := join(t, addr)
	hears := lines(t, ws)
	for n := range 100 {
		say(t, ws, fmt.Sprint("line ", n))
		hears()
	}
	b.until("entry for each line", entries+`.length == 103`)
	b.until("last entry in view", `$("#log")[0].scrollTop + $("#log")[0].clientHeight >= $("#log")[0].scrollHeight - 1`)
	b.run(`$("#log")[0].scrollTop = 200`, nil)
	say(t, ws, "below")
	b.until("new entry", entries+`.length == 104`)
	b.until("unmoved log", `$("#log")[0].scrollTop == 200`)

	ws.Close()
	stop()
	b.until("word of the end", `$("#state").text() == "disconnected" && `+entries+`.pop().startsWith("Connection closed.")`)
	b.typeKeys("not lost" + enter)
	b.until("unsent text still there", `$("#msg").val() == "not lost"`)
	b.cleanConsole()
}

// Behind a proxy, below a path, and over TLS: the page finds its script and its
// WebSocket.
func testProxiedPage(t *testing.T, driver chromedriver) {
	addr, _ := startServer(t, 4096)
	proxy := httptest.NewTLSServer(http.StripPrefix("/a/room",
		httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: addr})))
	t.Cleanup(proxy.Close)
	b := driver.open(t)
	b.enter(proxy.URL + "/a/room/")
	b.typeKeys("through the proxy" + enter)
	b.until("echo", entries+`.join() == "through the proxy"`)
	b.cleanConsole()
}

func testPhone(t *testing.T, driver chromedriver) {
	addr, _ := startServer(t, 4096)
	b := driver.open(t)
	b.devtools("Emulation.setDeviceMetricsOverride", map[string]any{"width": 320, "height": 568, "deviceScaleFactor": 2, "mobile": true})
	b.devtools("Emulation.setEmulatedMedia", map[string]any{"features": []any{map[string]string{"name": "prefers-color-scheme", "value": "dark"}}})
	b.enter("http://" + addr + "/")
	ws := join(t, addr)
	say(t, ws, "Are you on your phone again? In the dark?")
	say(t, ws, strings.Repeat("nowheretobreakthis", 12))
	b.until("two entries", entries+`.length == 2`)
	b.until("page as wide as the phone", `document.documentElement.scrollWidth == 320 && $("#log")[0].scrollWidth == $("#log")[0].clientWidth`)
	b.until("dark page", `getComputedStyle(document.body).backgroundColor == "rgb(13, 15, 18)"`)
	b.typeKeys("Yes and yes." + enter)
	b.until("echo", entries+`.length == 3`)
	b.screenshot("phone.png")
	b.cleanConsole()
}

func testNoWebSocket(t *testing.T, driver chromedriver) {
	addr, _ := startServer(t, 4096)
	b := driver.open(t)
	b.devtools("Page.addScriptToEvaluateOnNewDocument", map[string]any{"source": "delete window.WebSocket"})
	b.visit("http://" + addr + "/")
	b.until("word of it", entries+`.join().includes("does not support WebSocket")`)
}
