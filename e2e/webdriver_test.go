package e2e

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"
	"time"
)

// chromedriver is a running chromedriver.
type chromedriver struct {
	url     string
	profile string      // directory for what Chromiums keep
	idle    chan string // URLs of sessions, each a Chromium, or "" where there is none yet
}

// startChromedriver starts chromedriver for the length of the test. Where it or
// Chromium is not installed the test is skipped, except on CI.
func startChromedriver(t *testing.T) chromedriver {
	t.Helper()
	requireProgram(t, "chromium", "apt-get install chromium")
	requireProgram(t, "chromedriver", "apt-get install chromium-driver")
	cmd := exec.Command("chromedriver", "--port=0")
	cmd.Env = append(os.Environ(), "TZ=UTC", "LANGUAGE=en_US") // which the page shows times and dates by
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	listening := regexp.MustCompile(`started successfully on port (\d+)`)
	for out := bufio.NewScanner(stdout); out.Scan(); {
		if port := listening.FindStringSubmatch(out.Text()); port != nil {
			d := chromedriver{"http://127.0.0.1:" + port[1], t.TempDir(), make(chan string, 3)}
			for range cap(d.idle) {
				d.idle <- ""
			}
			t.Cleanup(func() { d.close(t) })
			return d
		}
	}
	t.Fatal("chromedriver did not say where it listens")
	panic("unreachable")
}

// browser is a window of a Chromium, and those that are opened from it. Tests share a few Chromiums, one
// after the other, each with one window; what a page stores is its server's alone.
type browser struct {
	t       *testing.T
	session string // URL of the WebDriver session
	window  string // handle of the window that is driven
}

// open returns the window of an idle Chromium for the length of the test. What the test sets for it ends with the
// test.
func (d chromedriver) open(t *testing.T) *browser {
	t.Helper()
	b := &browser{t: t, session: <-d.idle}
	t.Cleanup(func() { d.idle <- b.session })
	if b.session == "" {
		b.session = d.start(t)
	}
	b.call("GET", "/window", nil, &b.window)
	home := b.window
	t.Cleanup(func() { b.reset(home) })
	b.prepare()
	b.console() // of those before
	return b
}

// prepare makes a window one in which the page always believes that it has the focus, and need not ask
// for a name.
func (b *browser) prepare() {
	b.t.Helper()
	b.devtools("Emulation.setFocusEmulationEnabled", map[string]any{"enabled": true})
	b.onNewDocument(nameless)
}

// reset closes all windows but one, and clears what their pages have stored.
func (b *browser) reset(home string) {
	var windows []string
	b.call("GET", "/window/handles", nil, &windows)
	for _, window := range windows {
		b.turnTo(window)
		b.run("try { localStorage.clear(); sessionStorage.clear() } catch {}", nil)
		if window != home {
			b.call("DELETE", "/window", nil, nil)
		}
	}
	b.turnTo(home)
	b.visit("about:blank")
}

// close ends the Chromiums, when no test uses them any more.
func (d chromedriver) close(t *testing.T) {
	for range cap(d.idle) {
		if session := <-d.idle; session != "" {
			(&browser{t: t, session: session}).call("DELETE", "", nil, nil)
		}
	}
}

// start starts a Chromium with an empty profile.
func (d chromedriver) start(t *testing.T) (session string) {
	t.Helper()
	profile, err := os.MkdirTemp(d.profile, "")
	if err != nil {
		t.Fatal(err)
	}
	var created struct{ SessionID string }
	(&browser{t: t, session: d.url}).call("POST", "/session", map[string]any{"capabilities": map[string]any{"alwaysMatch": map[string]any{
		"acceptInsecureCerts": true,
		"goog:loggingPrefs":   map[string]string{"browser": "ALL"},
		"goog:chromeOptions": map[string]any{"args": []string{
			"--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
			"--disable-component-update", "--disable-sync", "--disable-features=BackForwardCache,SpareRendererForSitePerProcess", "--in-process-gpu", "--window-size=720,480", "--user-data-dir=" + profile,
		}},
	}}}, &created)
	return d.url + "/session/" + created.SessionID
}

// call makes one WebDriver call and stores its value in result, unless that is nil.
func (b *browser) call(method, path string, body, result any) {
	b.t.Helper()
	if err := b.try(method, path, body, result); err != nil {
		b.t.Fatal(err)
	}
}

// try is call for calls that may fail.
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
	var reply struct{ Value json.RawMessage }
	if err := json.NewDecoder(response.Body).Decode(&reply); err != nil {
		return err
	}
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s %s: %s", method, path, reply.Value)
	}
	if result == nil {
		return nil
	}
	return json.Unmarshal(reply.Value, result)
}

// visit loads url in the current window.
func (b *browser) visit(url string) {
	b.t.Helper()
	b.call("POST", "/url", map[string]string{"url": url}, nil)
}

// newcomer is the fragment of an address at which the page asks for a name. In other tests it need not: nameless
// has chosen to have none. It also keeps setTimeout for untilScript, whatever a test does to it.
const (
	newcomer = "#newcomer"
	nameless = `window.later_ = setTimeout.bind(window); try { if (location.hash != "` + newcomer + `" && localStorage["chat:isNamed"] === undefined) localStorage["chat:isNamed"] = "true" } catch {}`
)

// newWindow opens a window and turns to it.
func (b *browser) newWindow() (handle string) {
	b.t.Helper()
	var window struct{ Handle string }
	b.call("POST", "/window/new", map[string]string{"type": "window"}, &window)
	b.turnTo(window.Handle)
	b.prepare()
	return window.Handle
}

// turnTo makes the calls that follow go to a window.
func (b *browser) turnTo(window string) {
	b.t.Helper()
	b.call("POST", "/window", map[string]string{"handle": window}, nil)
	b.window = window
}

// typeKeys types into the element that has the focus, as a keyboard does.
func (b *browser) typeKeys(keys string) {
	b.t.Helper()
	var element map[string]string
	b.call("GET", "/element/active", nil, &element)
	for _, id := range element {
		b.call("POST", "/element/"+id+"/value", map[string]string{"text": keys}, nil)
	}
}

// Keys (WebDriver, section 17.4.2). A modifier is released by its second occurrence.
const (
	enter     = "\uE007"
	backspace = "\uE003"
	shift     = "\uE008"
	escape    = "\uE00C"
	pageUp    = "\uE00E"
	pageDown  = "\uE00F"
)

// focus gives an element the focus.
func (b *browser) focus(selector string) {
	b.t.Helper()
	b.run(fmt.Sprintf("$(%q).trigger(%q)", selector, "focus"), nil)
}

// run runs a script in the page and stores what it returns in result, unless
// that is nil.
func (b *browser) run(script string, result any) {
	b.t.Helper()
	b.call("POST", "/execute/sync", map[string]any{"script": script, "args": []any{}}, result)
}

// devtools makes one call of the Chrome DevTools Protocol.
func (b *browser) devtools(method string, params map[string]any) {
	b.t.Helper()
	b.askDevtools(method, params, nil)
}

// askDevtools is devtools for calls that return something.
func (b *browser) askDevtools(method string, params map[string]any, result any) {
	b.t.Helper()
	b.call("POST", "/goog/cdp/execute", map[string]any{"cmd": method, "params": params}, result)
}

// emulate makes a call of the Chrome DevTools Protocol, and another at the end of the test, in the same window.
func (b *browser) emulate(method string, params map[string]any, undo string, undoParams map[string]any) {
	b.t.Helper()
	b.devtools(method, params)
	window := b.window
	b.t.Cleanup(func() {
		b.turnTo(window)
		b.devtools(undo, undoParams)
	})
}

// onNewDocument has a script run in each page of the window before its own.
func (b *browser) onNewDocument(script string) {
	b.t.Helper()
	var added struct{ Identifier string }
	b.askDevtools("Page.addScriptToEvaluateOnNewDocument", map[string]any{"source": script}, &added)
	window := b.window
	b.t.Cleanup(func() {
		b.turnTo(window)
		b.devtools("Page.removeScriptToEvaluateOnNewDocument", map[string]any{"identifier": added.Identifier})
	})
}

// media has the window show the page as with a media type and a media feature.
func (b *browser) media(kind, feature, value string) {
	b.t.Helper()
	b.emulate("Emulation.setEmulatedMedia", map[string]any{"media": kind, "features": []any{map[string]string{"name": feature, "value": value}}},
		"Emulation.setEmulatedMedia", map[string]any{"media": "", "features": []any{}})
}

// onPhone makes the window as small as a phone's.
func (b *browser) onPhone() {
	b.t.Helper()
	scale := 1
	if *screenshots != "" {
		scale = 2
	}
	b.emulate("Emulation.setDeviceMetricsOverride", map[string]any{"width": 320, "height": 568, "deviceScaleFactor": scale, "mobile": true},
		"Emulation.clearDeviceMetricsOverride", map[string]any{})
}

// untilScript looks at an expression for two seconds, in the page: that costs less than to ask again and again.
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

// until waits for an expression in the page to become true. Pages may come and go meanwhile.
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
			b.run(`return document.body.innerText`, &page)
			b.t.Fatalf("no %s: %s\n%v\nThe page says:\n%.1000s", what, expression, err, page)
		}
	}
}

// console returns what the browser has complained of since it was called last.
func (b *browser) console() (complaints []struct{ Level, Message string }) {
	b.t.Helper()
	b.call("POST", "/se/log", map[string]string{"type": "browser"}, &complaints)
	return complaints
}

// cleanConsole fails the test if the browser complained of the page.
func (b *browser) cleanConsole() {
	b.t.Helper()
	for _, complaint := range b.console() {
		b.t.Errorf("console: %s %s", complaint.Level, complaint.Message)
	}
}

// screenshot writes what the window shows to a file, if screenshots are wanted.
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

// png returns what the window shows.
func (b *browser) png() (image []byte) {
	b.t.Helper()
	b.call("GET", "/screenshot", nil, &image) // comes in base64, as encoding/json takes bytes
	return image
}
