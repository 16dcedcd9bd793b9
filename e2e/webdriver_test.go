package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"example.com/chat/internal/wstest"
)

// chromedriver is a running chromedriver. The tests share its Chromiums, because a start takes more CPU than a
// test.
type chromedriver struct {
	url  string
	idle chan string // URLs of sessions, each a Chromium, that no test uses; "" for one that is not started
}

// startChromedriver starts chromedriver for the time of the test.
func startChromedriver(t *testing.T) chromedriver {
	t.Helper()
	requireProgram(t, "chromium", "chromium")
	requireProgram(t, "chromedriver", "chromium-driver")
	cmd := exec.Command("chromedriver", "--port=0")
	cmd.Env = append(os.Environ(), "TMPDIR="+t.TempDir(), "TZ=UTC", "LANGUAGE=en_US") // the page formats times for these
	out := start(t, cmd, syscall.SIGKILL)
	port := regexp.MustCompile(`started successfully on port (\d+)`)
	wstest.Until(t, "chromedriver listens", func() bool { return port.MatchString(out.String()) })
	chromiums := 2
	if wstest.Long() {
		chromiums = 3
	}
	d := chromedriver{"http://127.0.0.1:" + port.FindStringSubmatch(out.String())[1], make(chan string, chromiums)}
	for range chromiums {
		d.idle <- ""
	}
	t.Cleanup(func() {
		for range chromiums {
			if session := <-d.idle; session != "" {
				(&browser{t: t, session: session}).call("DELETE", "", nil, nil)
			}
		}
	})
	return d
}

// start starts a Chromium. On a busy machine one exited while it started ("Chrome instance exited"), and nobody
// knows why. That says nothing about the page, so start tries up to five times, and the log has each failure.
func (d chromedriver) start(t *testing.T) (session string) {
	t.Helper()
	var created struct{ SessionID string }
	capabilities := map[string]any{"capabilities": map[string]any{"alwaysMatch": map[string]any{
		"acceptInsecureCerts": true,
		"goog:loggingPrefs":   map[string]string{"browser": "ALL"},
		"goog:chromeOptions": map[string]any{"args": []string{
			"--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-component-update",
			"--disable-sync", "--disable-features=BackForwardCache,SpareRendererForSitePerProcess", "--in-process-gpu", "--window-size=720,480",
		}},
	}}}
	for try := 1; ; try++ {
		err := (&browser{t: t, session: d.url}).try("POST", "/session", capabilities, &created)
		if err == nil {
			return d.url + "/session/" + created.SessionID
		}
		if try == 5 {
			t.Fatal(err)
		}
		t.Logf("start %d of a Chromium: %v", try, err)
		time.Sleep(time.Duration(try) * time.Second)
	}
}

// browser is a Chromium that one test uses, and drives one of its windows at a time. A failed call fails the
// test.
type browser struct {
	t       *testing.T
	session string   // URL of the WebDriver session
	home    string   // handle of the window that stays for the next test
	window  string   // handle of the window that is driven
	scripts []string // identifiers of the scripts of onNewDocument in the home window
	url     string   // of the last call of enter
}

// open returns an idle Chromium with one window for the time of the test.
func (d chromedriver) open(t *testing.T) *browser {
	t.Helper()
	b := &browser{t: t, session: <-d.idle}
	t.Cleanup(func() { d.idle <- b.session })
	if b.session == "" {
		b.session = d.start(t)
	}
	b.home = b.windows()[0]
	b.window = b.home
	t.Cleanup(b.reset)
	b.prepare()
	b.console() // discards the complaints about earlier tests
	return b
}

// prepare lets pages of the window believe that they have the focus, and have nameless run in them.
func (b *browser) prepare() {
	b.t.Helper()
	b.devtools("Emulation.setFocusEmulationEnabled", map[string]any{"enabled": true}, nil)
	b.onNewDocument(nameless)
}

// reset closes all windows but the home one, and undoes what tests do to that. A new window for each test would
// take as much CPU as the test.
func (b *browser) reset() {
	for _, window := range b.windows() {
		b.turnTo(window)
		b.run("try { localStorage.clear(); sessionStorage.clear() } catch {}") // another test's chat may have the same address
		if window != b.home {
			b.call("DELETE", "/window", nil, nil)
		}
	}
	b.turnTo(b.home)
	for _, script := range b.scripts {
		b.devtools("Page.removeScriptToEvaluateOnNewDocument", map[string]any{"identifier": script}, nil)
	}
	b.devtools("Emulation.setEmulatedMedia", map[string]any{"media": "", "features": []any{}}, nil)
	b.devtools("Emulation.clearDeviceMetricsOverride", map[string]any{}, nil)
	b.devtools("Emulation.setTouchEmulationEnabled", map[string]any{"enabled": false}, nil)
	b.emulateNetwork(0, -1)
	b.visit("about:blank")
}

// newWindow opens a window, and turns to it.
func (b *browser) newWindow() (handle string) {
	b.t.Helper()
	var window struct{ Handle string }
	b.call("POST", "/window/new", map[string]string{"type": "window"}, &window)
	b.turnTo(window.Handle)
	b.prepare()
	return window.Handle
}

// duplicate opens another tab from this one, with a copy of the tab's storage, as browsers duplicate tabs. It
// turns to it.
func (b *browser) duplicate() (handle string) {
	b.t.Helper()
	before := b.windows()
	b.run(`window.open(location.href)`)
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		for _, handle := range b.windows() {
			if !slices.Contains(before, handle) {
				b.turnTo(handle)
				b.devtools("Emulation.setFocusEmulationEnabled", map[string]any{"enabled": true}, nil)
				b.untilLive()
				return handle
			}
		}
	}
	b.t.Fatal("gave up after 20 s of waiting until another tab is open")
	return ""
}

// windows returns the handles of all windows and tabs.
func (b *browser) windows() (handles []string) {
	b.t.Helper()
	b.call("GET", "/window/handles", nil, &handles)
	return handles
}

// turnTo makes further calls drive another window.
func (b *browser) turnTo(window string) {
	b.t.Helper()
	b.call("POST", "/window", map[string]string{"handle": window}, nil)
	b.window = window
}

// call makes one WebDriver call, and stores the value of the answer in result unless that is nil.
func (b *browser) call(method, path string, body, result any) {
	b.t.Helper()
	if err := b.try(method, path, body, result); err != nil {
		b.t.Fatal(err)
	}
}

// try is call that returns an error instead of failing the test.
func (b *browser) try(method, path string, body, result any) error {
	var encoded bytes.Buffer
	if body != nil {
		if err := json.NewEncoder(&encoded).Encode(body); err != nil {
			return err
		}
	}
	request, err := http.NewRequest(method, b.session+path, &encoded)
	if err != nil {
		return err
	}
	request.Close = true
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	var answer struct{ Value json.RawMessage }
	if err := json.NewDecoder(response.Body).Decode(&answer); err != nil {
		return err
	}
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s %s: %s", method, path, answer.Value)
	}
	if result == nil {
		return nil
	}
	return json.Unmarshal(answer.Value, result)
}

// visit loads url in the window.
func (b *browser) visit(url string) {
	b.t.Helper()
	b.call("POST", "/url", map[string]string{"url": url}, nil)
}

// nameless runs in each page before its own scripts. It lets the person have chosen to have no name, except in
// a page with the fragment newcomer, which will ask for one. It also keeps setTimeout for untilScript, because
// tests replace that.
const (
	newcomer = "#newcomer"
	nameless = `window.later_ = setTimeout.bind(window); try { if (location.hash != "` + newcomer + `" && localStorage["chat:isNamed"] === undefined) localStorage["chat:isNamed"] = "true" } catch {}`
)

// typeKeys types into the element that has the focus.
func (b *browser) typeKeys(keys string) {
	b.t.Helper()
	b.call("POST", b.element("GET", "/element/active", nil)+"/value", map[string]string{"text": keys}, nil)
}

// click clicks an element with the mouse.
func (b *browser) click(selector string) {
	b.t.Helper()
	b.call("POST", b.element("POST", "/element", map[string]string{"using": "css selector", "value": selector})+"/click", map[string]any{}, nil)
}

// element makes a call that finds an element, and returns the path for calls about it.
func (b *browser) element(method, path string, body any) string {
	b.t.Helper()
	var found map[string]string // one entry (WebDriver, section 12.2)
	b.call(method, path, body, &found)
	return "/element/" + slices.Collect(maps.Values(found))[0]
}

// Keys (WebDriver, section 17.4.2). The second shift in a text releases the first.
const (
	enter     = "\uE007"
	backspace = "\uE003"
	shift     = "\uE008"
	escape    = "\uE00C"
	pageUp    = "\uE00E"
	pageDown  = "\uE00F"
)

// run runs a script in the page.
func (b *browser) run(script string) {
	b.t.Helper()
	b.eval(script, nil)
}

// eval runs a script in the page, and stores what the script returns in result.
func (b *browser) eval(script string, result any) {
	b.t.Helper()
	b.call("POST", "/execute/sync", map[string]any{"script": script, "args": []any{}}, result)
}

// devtools makes one call of the Chrome DevTools Protocol, and stores the answer in result unless that is nil.
func (b *browser) devtools(method string, params map[string]any, result any) {
	b.t.Helper()
	b.call("POST", "/goog/cdp/execute", map[string]any{"cmd": method, "params": params}, result)
}

// onNewDocument has each page of the window run a script before its own.
func (b *browser) onNewDocument(script string) {
	b.t.Helper()
	var added struct{ Identifier string }
	b.devtools("Page.addScriptToEvaluateOnNewDocument", map[string]any{"source": script}, &added)
	if b.window == b.home {
		b.scripts = append(b.scripts, added.Identifier)
	}
}

// media shows the page for a media type, such as "print", and with a value of a media feature, such as "dark"
// of "prefers-color-scheme".
func (b *browser) media(kind, feature, value string) {
	b.t.Helper()
	features := []any{map[string]string{"name": feature, "value": value}}
	b.devtools("Emulation.setEmulatedMedia", map[string]any{"media": kind, "features": features}, nil)
}

// emulateNetwork limits the network of the window to a latency in milliseconds, and a speed in bytes a second.
// A speed of -1 is no limit.
func (b *browser) emulateNetwork(latency, speed int) {
	b.t.Helper()
	b.devtools("Network.emulateNetworkConditions", map[string]any{"offline": false, "latency": latency, "downloadThroughput": speed, "uploadThroughput": speed}, nil)
}

// onPhone makes the window as small as a phone's.
func (b *browser) onPhone() {
	b.t.Helper()
	scale := 1
	if *screenshots != "" {
		scale = 2
	}
	b.devtools("Emulation.setDeviceMetricsOverride", map[string]any{"width": 320, "height": 568, "deviceScaleFactor": scale, "mobile": true}, nil)
}

// untilScript waits in the page, for up to 2 s, until an expression is true. That takes less CPU than a call
// for each look.
const untilScript = `return new Promise((resolve, reject) => {
	const end = performance.now() + 2000;
	(function look() {
		try {
			const done = Boolean(%s);
			done || performance.now() > end ? resolve(done) : later_(look, 20);
		} catch (error) {
			reject(error);
		}
	})();
})`

// until waits until an expression is true in the page, which may be loaded anew meanwhile. After 20 s it fails
// the test with a message that ends in "until" and what.
func (b *browser) until(what, expression string) {
	b.t.Helper()
	script := map[string]any{"script": fmt.Sprintf(untilScript, expression), "args": []any{}}
	var done bool
	for deadline := time.Now().Add(20 * time.Second); !done; {
		err := b.try("POST", "/execute/sync", script, &done)
		if err != nil {
			time.Sleep(50 * time.Millisecond)
		}
		if !done && time.Now().After(deadline) {
			var page string
			b.eval(`return document.body.innerText`, &page)
			b.t.Fatalf("got the page\n%.1000s\n%v; want %s: gave up after 20 s of waiting until %s", page, err, expression, what)
		}
	}
}

// console returns what the browser has complained about since the last call.
func (b *browser) console() (complaints []string) {
	b.t.Helper()
	var entries []struct{ Level, Message string }
	b.call("POST", "/se/log", map[string]string{"type": "browser"}, &entries)
	for _, e := range entries {
		complaints = append(complaints, e.Level+" "+e.Message)
	}
	return complaints
}

// expectCleanConsole fails the test if the browser has complained about a page.
func (b *browser) expectCleanConsole() {
	b.t.Helper()
	if complaints := b.console(); len(complaints) > 0 {
		b.t.Errorf("got in the console\n%s\nwant nothing", strings.Join(complaints, "\n"))
	}
}

// screenshot writes a picture of the window to a file if -screenshots is set.
func (b *browser) screenshot(name string) {
	b.t.Helper()
	if *screenshots == "" {
		return
	}
	if err := os.MkdirAll(*screenshots, 0o777); err != nil {
		b.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(*screenshots, name), b.png(), 0o666); err != nil {
		b.t.Fatal(err)
	}
}

// png returns a picture of the window.
func (b *browser) png() (picture []byte) {
	b.t.Helper()
	b.call("GET", "/screenshot", nil, &picture) // the answer is in base64, as encoding/json expects for bytes
	return picture
}
