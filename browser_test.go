// browser_test.go: the page, in a real Chromium.

package main

import (
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"testing"
)

var screenshots = flag.String("screenshots", "", "have the browser test write its screenshots to this `directory`")

func TestBrowser(t *testing.T) {
	driver := startChromedriver(t)
	t.Run("two windows", func(t *testing.T) { testTwoWindows(t, driver) })
	t.Run("below a path, over TLS", func(t *testing.T) { testProxiedPage(t, driver) })
	t.Run("on a phone, in the dark", func(t *testing.T) { testPhone(t, driver) })
	t.Run("close codes", func(t *testing.T) { testCloseCodes(t, driver) })
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

// What a browser's onclose reports for each refusal. No browser sends most of what
// is refused here, so a proxy puts it in the place of the browser's first message.
func testCloseCodes(t *testing.T, driver chromedriver) {
	addr, stop := startServer(t, 4096)
	refused := []struct {
		instead string
		code    int
	}{
		{text("x") + closes(code(1000, "")), 1000},
		{closes(""), 1005}, // what a browser reports where there was no code
		{closes(code(4321, "bye")), 4321},
		{other(0xf1, "reserved bits"), 1002},
		{other(0x83, "reserved opcode"), 1002},
		{continues("of nothing"), 1002},
		{binaryFrame("binary"), 1003},
		{text("\xff"), 1007},
		{text(strings.Repeat("too long", 1<<17)), 1009},
	}
	proxy := &meddler{to: addr}
	for _, r := range refused {
		proxy.instead = append(proxy.instead, r.instead)
	}
	url := proxy.listen(t)
	b := driver.open(t)
	b.visit(url + "/assets/jquery.min.js") // any address of the origin that does not connect by itself
	b.run(`window.ended = {};
		window.connect = name => {
			const ws = new WebSocket("/ws?" + name);
			ws.onopen = () => { ws.send("hello"); };
			ws.onclose = event => { ended[name] = event.code + " " + event.wasClean; };
			return ws;
		};`, nil)
	for i, r := range refused {
		b.run(fmt.Sprintf("connect(%d)", i), nil)
		b.until(fmt.Sprintf("%d for %.40q", r.code, r.instead), fmt.Sprintf(`ended[%d] == "%d true"`, i, r.code))
	}

	// Too slow: while the proxy holds back what the chat sends, 16 MB are said.
	b.run(`window.slow = connect("slow")`, nil)
	b.until("connection", `slow.readyState == WebSocket.OPEN`)
	proxy.held.Lock()
	ws := join(t, addr)
	hears := lines(t, ws)
	for range 4000 {
		say(t, ws, strings.Repeat("x", 4096))
		for hears() == "hello" {
		}
	}
	proxy.held.Unlock()
	b.until("1013", `ended.slow == "1013 true"`)
	ws.Close()

	b.run(`window.last = connect("last")`, nil)
	b.until("connection", `last.readyState == WebSocket.OPEN`)
	stop()
	b.until("1001", `ended.last == "1001 true"`)
}

// meddler is a TCP proxy before the chat. In a connection to /ws?N it replaces what
// the browser sends first by instead[N].
type meddler struct {
	to      string // the chat's address
	instead []string
	held    sync.Mutex // while it is locked, nothing comes back from the chat
}

// listen starts the proxy for the length of the test and returns its URL.
func (m *meddler) listen(t *testing.T) string {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var running sync.WaitGroup
	t.Cleanup(func() {
		listener.Close()
		running.Wait()
	})
	running.Go(func() {
		for {
			browser, err := listener.Accept()
			if err != nil {
				return
			}
			running.Go(func() { m.relay(browser) })
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
		io.Copy(browser, heldReader{chat, &m.held})
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

// heldReader hands on what it has read when nobody holds its lock.
type heldReader struct {
	io.Reader
	held *sync.Mutex
}

func (r heldReader) Read(p []byte) (int, error) {
	n, err := r.Reader.Read(p)
	r.held.Lock()
	defer r.held.Unlock()
	return n, err
}
