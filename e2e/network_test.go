package e2e

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"example.com/chat/internal/wstest"
)

// cuttable is a TCP proxy in front of a chat. It is a network that can be cut.
type cuttable struct {
	mu sync.Mutex

	// Guarded by mu.
	down  bool // the proxy discards what comes from the chat
	up    bool // the proxy discards what goes to the chat
	conns []net.Conn
}

// throughCuttable starts a chat that ann joins, and opens its page through a network that can be cut.
func throughCuttable(t *testing.T, driver chromedriver, flags ...string) (ann *wstest.Client, network *cuttable, b *browser) {
	t.Helper()
	b = driver.open(t)
	p := startProgram(t, flags...)
	ann = wstest.Join(t, p.addr)
	network = new(cuttable)
	url := startProxy(t, func(browser net.Conn) {
		chat, err := net.Dial("tcp", p.addr)
		if err != nil {
			browser.Close()
			return
		}
		network.mu.Lock()
		network.conns = append(network.conns, browser, chat)
		network.mu.Unlock()
		var both sync.WaitGroup
		both.Go(func() { network.relay(chat, browser, &network.up) })
		both.Go(func() { network.relay(browser, chat, &network.down) })
		both.Wait()
	})
	b.enter(url + "/")
	return ann, network, b
}

// relay copies src to dst, until src ends. It discards what it reads while *cut is true.
func (c *cuttable) relay(dst, src net.Conn, cut *bool) {
	defer dst.Close()
	buffer := make([]byte, 64<<10)
	for {
		n, err := src.Read(buffer)
		if err != nil {
			return
		}
		c.mu.Lock()
		discard := *cut
		c.mu.Unlock()
		if !discard {
			dst.Write(buffer[:n])
		}
	}
}

// cut sets which directions are cut.
func (c *cuttable) cut(down, up bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.down, c.up = down, up
}

// heal closes all connections. New ones are not cut.
func (c *cuttable) heal() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.down, c.up = false, false
	for _, conn := range c.conns {
		conn.Close()
	}
	c.conns = nil
}

// startProxy has relay serve each connection to url, until the end of the test.
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
			context.AfterFunc(ctx, func() { conn.Close() }) // browsers keep connections open
			running.Go(func() { relay(conn) })
		}
	})
	return "http://" + listener.Addr().String()
}

// Messages that are typed while the server is down are sent in order and once when it is back. The page says
// that the room was restarted.
func testRestart(t *testing.T, driver chromedriver) {
	addr := freeAddr(t)
	first, b := openChat(t, driver, "-addr", addr)
	b.typeKeys("before" + enter)
	b.untilShown("before")
	first.Process.Kill()
	b.until("the page is offline", `$("#word").text() == "offline" && $("#now").is(":visible") && $("#wait").text().startsWith("Next try in ")`)
	b.typeKeys("one" + enter + "two" + enter + "three" + enter)
	b.until("the messages are unsent", unsent+`.join() == "one,two,three" && $("#outbox .mark").first().text() == "unsent" && $("#msg").val() == ""`)
	b.screenshot("offline.png")

	second := startProgram(t, "-addr", addr)
	b.run(`$("#now").trigger("click").trigger("click")`)
	b.untilLive()
	b.until("the page has one connection", `$("#people").text() == "1 person"`)
	b.untilShown("before", "one", "two", "three")
	b.until("the page says so", notices+`.join() == "The room was restarted."`)
	ann := wstest.Upgrade(t, wstest.Dial(t, addr), "/ws?since=")
	ann.ReadFrame() // the position
	ann.ExpectLines("one", "two", "three")

	second.Process.Kill()
	b.until("the page is offline", `$("#word").text() == "offline"`)
	startProgram(t, "-addr", addr)
	b.untilLive() // by itself
	b.untilShown("before", "one", "two", "three")
	b.until("the page says so again", notices+`.length == 2`)

	// The positions of own lines were those of earlier runs.
	ann = wstest.Join(t, addr)
	say(ann, "another's")
	b.until("the log has another's line", entries+`.length == 5`)
	b.typeKeys("own" + enter)
	b.until("the log has an own line", entries+`.length == 6`)
	say(ann, "another's")
	b.until("the log marks the own line alone", `$(".entry").get().slice(4).map(e => e.classList.contains("own")).join() == "false,true,false"`)
}

// With -state, a restart does not interrupt the conversation, and the page says nothing about it.
func testRestartWithState(t *testing.T, driver chromedriver) {
	addr, dir := freeAddr(t), t.TempDir()
	p := startProgram(t, "-addr", addr, "-state", dir)
	b := driver.open(t)
	b.enter("http://" + addr + "/lobby/")
	b.typeKeys("before" + enter)
	b.untilShown("before")
	p.Process.Signal(syscall.SIGTERM)
	b.until("the page is offline", `$("#word").text() == "offline"`)
	b.typeKeys("meanwhile" + enter)
	p.Wait()
	startProgram(t, "-addr", addr, "-state", dir)
	b.untilLive()
	b.typeKeys("after" + enter)
	b.untilShown("before", "meanwhile", "after")
	b.until("the page says nothing", notices+`.length == 0`)
}

// If the network loses what is sent, in one direction or in both, each message is still said once. The page
// connects at once when the network is back, or when the person looks at the page.
func testCutOff(t *testing.T, driver chromedriver) {
	ann, network, b := throughCuttable(t, driver)
	b.typeKeys("first" + enter)
	b.untilShown("first")
	network.cut(true, false)
	b.typeKeys("heard" + enter)
	ann.ExpectLines("first", "heard")
	network.cut(true, true)
	b.typeKeys("not heard" + enter)
	b.until("two messages are unsent", unsent+`.join() == "heard,not heard"`)
	say(ann, "from elsewhere")
	network.heal()
	b.untilShown("first", "heard", "from elsewhere", "not heard")
	b.until("the log has own lines", `$(".own").length == 3`)
	b.until("the page says nothing", notices+`.length == 0`)
	say(ann, "the end")
	ann.ExpectLines("from elsewhere", "not heard", "the end")

	b.run(`const later = window.setTimeout; window.setTimeout = (f, ms) => later(f, ms < 600 ? 3600e3 : ms)`) // pauses last an hour
	for _, event := range []string{`window.dispatchEvent(new Event("online"))`, `document.dispatchEvent(new Event("visibilitychange"))`} {
		network.heal()
		b.until("the page is offline", `$("#word").text() == "offline"`)
		b.run(event)
		b.untilLive()
	}
}

// If a connection breaks with a message in flight, the page sends the message again, even while others talk on.
// The next messages do not wait for that.
func testInFlight(t *testing.T, driver chromedriver) {
	for _, history := range []string{"256", "0"} {
		t.Run("-history "+history, func(t *testing.T) {
			ann, network, b := throughCuttable(t, driver, "-history", history)
			var talking sync.WaitGroup
			defer talking.Wait()
			ctx, hush := context.WithCancel(t.Context())
			defer hush()
			talking.Go(func() {
				for n := 0; ctx.Err() == nil; n++ {
					say(ann, fmt.Sprint("talk ", n))
					time.Sleep(time.Second / 5)
				}
			})
			b.until("the log has talk", entries+`.length > 2`)
			network.cut(false, true)
			b.typeKeys("in flight" + enter)
			network.heal()
			b.untilLive()
			b.typeKeys("new" + enter)
			b.until("the log has both messages", entries+`.filter(line => line == "in flight" || line == "new").length == 2 && `+allSent)
		})
	}
}

// The page counts the lines that the server no longer has. It knows that its message was among them.
func testMissed(t *testing.T, driver chromedriver) {
	ann, network, b := throughCuttable(t, driver, "-history", "2")
	say(ann, "first")
	b.untilShown("first")
	network.cut(true, false)
	b.typeKeys("mine" + enter)
	ann.ExpectLines("first", "mine")
	for _, line := range wstest.Numbered(0, 5) {
		say(ann, line)
		ann.ExpectLines(line)
	}
	network.heal()
	b.until("the log has the last lines, the number of missed ones, and the own message as sent",
		`$("#lines .body").get().map(e => e.textContent).join() == "first,4 messages were missed.,line 3,line 4,mine" && $("#lines .mark").text() == "sent" && `+allSent)
}

// Unsent messages and the draft outlive a reload.
func testReloadOffline(t *testing.T, driver chromedriver) {
	_, network, b := throughCuttable(t, driver)
	network.cut(true, true)
	b.typeKeys("unsent" + enter + "one" + shift + enter + shift + "two")
	b.until("a message is unsent", unsent+`.join() == "unsent"`)
	network.heal()
	b.reload()
	b.untilShown("unsent")
	b.until("the draft is there", `$("#msg").val() == "one\ntwo" && $("#msg")[0].clientHeight > 60`)
	b.focus("#msg")
	b.typeKeys(enter)
	b.untilShown("unsent", "one\ntwo")
	b.reload()
	b.until("there is no draft", entries+`.length == 2 && $("#msg").val() == ""`)
}

// Without a connection a bar says so, and that messages will be sent. Several outages in a row leave one line
// in the log.
func testOffline(t *testing.T, driver chromedriver) {
	addr := freeAddr(t)
	p := startProgram(t, "-addr", addr)
	b := driver.open(t)
	b.onPhone()
	b.onNewDocument(`
		const later = window.setTimeout;
		window.setTimeout = (f, ms, ...args) => later(f, ms > 200 && ms < 2000 ? ms / 4 : ms, ...args); // the bar comes sooner
		const {now} = Date;
		window.minutes = 0;
		Date.now = () => now() + minutes * 60000;
		Date = class extends Date { constructor(...args) { args.length ? super(...args) : super(Date.now()) } };`)
	b.enter("http://" + addr + "/")
	b.until("there is no bar", `$("#offline").is(":hidden")`)
	for outage := range 3 {
		p.Process.Kill()
		p.Wait()
		b.until("there is a bar", `/^Offline. What you write will be sent. Next try in \d+ s. Now$/.test($("#offline:visible").text().trim())`)
		b.run(`minutes += 2`)
		if outage == 0 {
			b.screenshot("offline-phone.png")
			b.until("the page is as wide as the phone", `document.documentElement.scrollWidth == 320`)
		}
		p = startProgram(t, "-addr", addr)
		b.run(`$("#now").trigger("click")`)
		b.untilLive()
		b.until("there is no bar", `$("#offline").is(":hidden")`)
	}
	const outages = `$("#lines .notice").get().map(notice => notice.textContent).filter(notice => notice.startsWith("Offline "))`
	b.until("the log has one line", outages+`.length == 1 && /^Offline \d\d:\d\d to \d\d:\d\d.$/.test(`+outages+`[0])`)
	var minutes float64
	b.eval(`const [, from, to] = `+outages+`[0].match(/(\d\d:\d\d) to (\d\d:\d\d)/).map(time => new Date("2001-01-01T" + time));
		return (to - from + 24 * 3600e3) % (24 * 3600e3) / 60000`, &minutes)
	if minutes < 6 || minutes > 8 {
		t.Errorf("got an outage of %v minutes, want 6 or a little more", minutes)
	}
}

// The page marks a message as unsent after 2 s without an answer. Neither the mark nor its end moves the text.
func testUnsent(t *testing.T, driver chromedriver) {
	_, network, b := throughCuttable(t, driver)
	const left = `$(".entry .text").last()[0].getBoundingClientRect().left`
	const shown = `getComputedStyle($("#outbox .mark")[0]).visibility == "visible"`
	network.cut(true, true)
	b.run(`window.looks = [];
		const look = began => { if (` + shown + `) window.done = true; else later_(look, 20, began); looks.push([performance.now() - began, ` + shown + `, ` + left + `]); };
		new MutationObserver(() => looks.length || look(performance.now())).observe($("#outbox")[0], {childList: true})`)
	b.typeKeys("hello" + enter)
	b.until("the message is marked", `window.done`)
	var looks [][3]any // milliseconds since the message came, whether it is marked, and where the text begins
	b.eval(`return looks`, &looks)
	for _, look := range looks {
		if look[1] == true && look[0].(float64) < 1990 {
			t.Errorf("marked after %v ms, want 2000", look[0])
		}
		if look[2] != looks[0][2] {
			t.Errorf("the text begins at %v after %v ms, want %v as before", look[2], look[0], looks[0][2])
		}
	}
	network.heal()
	b.until("the log has the message at the same place", entries+`.join() == "hello" && `+fmt.Sprintf(left+` == %v`, looks[0][2]))
}

// A line of another person with the same words is not an own line, and does not replace the own message.
func testSameWords(t *testing.T, driver chromedriver) {
	ann, network, b := throughCuttable(t, driver)
	b.until("the page is connected", `$("#people").text() == "2 people"`)
	network.cut(false, true)
	b.typeKeys("same" + enter)
	b.until("the message is unsent", unsent+`.length == 1`)
	say(ann, "same")
	b.until("the log has another's line", entries+`.join() == "same" && $("#lines .own").length == 0 && `+unsent+`.length == 1`)
	network.heal()
	b.untilShown("same", "same")
	b.until("the second line is an own one", `$("#lines .entry").get().map(e => e.classList.contains("own")).join() == "false,true"`)
	say(ann, "the end")
	ann.ExpectLines("same", "same", "the end")
}

// A duplicated tab has a copy of the unsent messages. They are said once, and so is what is typed in both tabs
// afterwards.
func testDuplicatedTab(t *testing.T, driver chromedriver) {
	ann, network, b := throughCuttable(t, driver)
	first := b.window
	b.run(`window.send = WebSocket.prototype.send; WebSocket.prototype.send = function () {}`)
	b.typeKeys("one" + enter + "two" + enter)
	b.until("the messages are unsent", unsent+`.join() == "one,two"`)
	second := b.duplicate()
	b.untilShown("one", "two")
	b.turnTo(first)
	b.typeKeys("from the first" + enter)
	b.until("the message is unsent", unsent+`.length == 1 && $("#lines .own").length == 2`)
	b.turnTo(second)
	b.typeKeys("from the second" + enter)
	b.untilShown("one", "two", "from the second")
	b.turnTo(first)
	b.run(`WebSocket.prototype.send = send`)
	network.heal()
	b.untilLive()
	b.untilShown("one", "two", "from the second", "from the first")
	b.typeKeys("the end" + enter)
	ann.ExpectLines("one", "two", "from the second", "from the first", "the end")
}

// A message that the server refuses keeps its number. So the messages after it have the same numbers in a
// duplicated tab, and are said once.
func testRefusedInTwoTabs(t *testing.T, driver chromedriver) {
	ann, b := besideAnother(t, driver, "-max-message", "50")
	for tab := range 2 {
		if tab > 0 {
			b.newWindow()
			b.enter(b.url)
		}
		b.run(`sessionStorage["/:outbox"] = JSON.stringify([{id: "before", taken: 0, texts: ["long".repeat(20), "two", "three"]}])`)
		b.reload()
		b.until("the log has the others", entries+`.filter(line => line == "two" || line == "three").join() == "two,three" && `+allSent)
	}
	b.typeKeys("the end" + enter)
	ann.ExpectLines("two", "three", "the end")
}

// Two tabs of one person, one of them duplicated, type while the network is cut repeatedly. Each message is
// said once and in order, although many have the same words.
func testCuts(t *testing.T, driver chromedriver) {
	seed := rand.Uint64()
	random := rand.New(rand.NewPCG(seed, 0))
	t.Log("seed", seed)
	ann, network, b := throughCuttable(t, driver)
	b.rename("Ann")
	tabs := []string{b.window}
	b.run(`WebSocket.prototype.send = new Proxy(WebSocket.prototype.send, {apply: (...args) => window.swallow || Reflect.apply(...args)}); swallow = true`)
	b.typeKeys("tab 0 before" + enter)
	b.until("a message is unsent", unsent+`.length > 0`)
	tabs = append(tabs, b.duplicate())
	b.turnTo(tabs[0])
	b.run(`swallow = false`)
	typed := [][]string{{"tab 0 before"}, nil} // by tab
	for cut := range 12 {
		for tab := range tabs {
			b.turnTo(tabs[tab])
			texts := []string{fmt.Sprintf("tab %d message %d", tab, cut), "ok"}
			b.typeKeys(texts[0] + enter)
			if tab == 0 {
				network.cut(random.IntN(2) == 0, true)
			}
			b.typeKeys(texts[1] + enter)
			typed[tab] = append(typed[tab], texts...)
		}
		network.cut(true, random.IntN(2) == 0)
		network.heal()
	}
	total := len(typed[0]) + len(typed[1])
	for _, tab := range tabs {
		b.turnTo(tab)
		b.until("everything is sent", fmt.Sprintf(entries+`.length >= %d && `+allSent, total))
	}
	b.typeKeys("the end" + enter)
	var heard []string
	for next := ann.Lines(); len(heard) == 0 || heard[len(heard)-1] != "the end"; {
		line, err := next()
		if err != nil {
			t.Fatalf("got %v after %q, want more lines", err, heard)
		}
		heard = append(heard, strings.TrimPrefix(line, "Ann: "))
	}
	if len(heard) != total+1 {
		t.Errorf("got %d lines, want %d: %q", len(heard), total+1, heard)
	}
	for tab, handle := range tabs {
		named := func(lines []string) []string {
			return slices.DeleteFunc(slices.Clone(lines), func(line string) bool { return !strings.HasPrefix(line, fmt.Sprint("tab ", tab)) })
		}
		if got, want := named(heard), named(typed[tab]); !slices.Equal(got, want) {
			t.Errorf("tab %d: got the lines %q, want %q", tab, got, want)
		}
		b.turnTo(handle)
		b.until("the log is complete", entries+`.at(-1).endsWith("the end")`)
		var shown []string
		b.eval(`return `+entries+`.map(line => line.replace(/^Ann /, ""))`, &shown)
		if !slices.Equal(shown, heard) {
			t.Errorf("tab %d: got in the log %q, want %q", tab, shown, heard)
		}
		b.until("all lines are own ones, and the page sees no namesake", `$("#lines .entry:not(.own)").length == 0 && `+notices+`.length == 0`)
	}
}
