package e2e

import (
	"fmt"
	"strings"
	"testing"

	"example.com/chat/internal/wstest"
)

// Shift and Enter break a line; the input grows to six. On the wire a message is one line, with U+2028.
func testSeveralLines(t *testing.T, driver chromedriver) {
	ws, b := besideAnother(t, driver)
	hears := wstest.LinesOf(t, ws)
	b.typeKeys("one" + shift + enter + shift + "two")
	b.until("input of two lines", `$("#msg").val() == "one\ntwo"`)
	b.screenshot("lines.png")
	b.typeKeys(enter)
	if got, want := hears(), "one\u2028two"; got != want {
		t.Errorf("heard %q, want %q", got, want)
	}
	b.until("line of two rows", `$("#lines .text").text() == "one\ntwo" && $("#lines .text")[0].getBoundingClientRect().height > 40`)
	b.until("empty input of one row", `$("#msg").val() == "" && $("#msg")[0].clientHeight < 60`)

	const rows = `Math.round(($("#msg")[0].clientHeight - 2 * parseFloat(getComputedStyle($("#msg")[0]).paddingTop)) / parseFloat(getComputedStyle($("#msg")[0]).lineHeight))`
	b.until("one row", rows+` == 1`)
	b.devtools("Input.insertText", map[string]any{"text": "pasted\n\n  as it was\nfour"})
	b.until("four rows", rows+` == 4 && $("#msg").val() == "pasted\n\n  as it was\nfour"`)
	b.until("the end of the log in view", `$("#log")[0].scrollTop + $("#log")[0].clientHeight >= $("#log")[0].scrollHeight - 1`)
	b.typeKeys(enter)
	if got, want := hears(), "pasted\u2028\u2028  as it was\u2028four"; got != want {
		t.Errorf("heard %q, want %q", got, want)
	}
	b.devtools("Input.insertText", map[string]any{"text": strings.Repeat("line\n", 20) + "end\n \n"})
	b.until("six rows", rows+` == 6`)
	b.typeKeys(enter)
	if got, want := hears(), strings.Repeat("line\u2028", 20)+"end"; got != want {
		t.Errorf("heard %q, want %q", got, want)
	}

	// Spaces and breaks alone are nothing to send.
	b.rename("Ann")
	b.typeKeys("  " + shift + enter + shift + " " + enter)
	b.run(`$("#msg").val("")`, nil)
	b.typeKeys("the end" + enter)
	if got := hears(); got != "Ann: the end" {
		t.Errorf("heard %q", got)
	}
	b.until("each once", entries+`.length == 4`)
	b.cleanConsole()
}

// On a touch keyboard Enter breaks a line, and the button sends.
func testTouchKeyboard(t *testing.T, driver chromedriver) {
	b := driver.open(t)
	b.onPhone()
	b.emulate("Emulation.setTouchEmulationEnabled", map[string]any{"enabled": true}, "Emulation.setTouchEmulationEnabled", map[string]any{"enabled": false})
	b.enter("http://" + startProgram(t).addr + "/")
	b.until("key for it", `$("#msg").attr("enterkeyhint") == "enter"`)
	b.typeKeys("one" + enter + "two")
	b.until("break", `$("#msg").val() == "one\ntwo" && $("#outbox *, #lines *").length == 0`)
	b.click("#send")
	b.until("message", entries+`.join() == "one\ntwo" && $("#msg").val() == ""`)
}

// While an input method composes a word, Enter belongs to it.
func testComposition(t *testing.T, driver chromedriver) {
	b := driver.open(t)
	b.enter("http://" + startProgram(t).addr + "/")
	b.devtools("Input.imeSetComposition", map[string]any{"text": "か", "selectionStart": 1, "selectionEnd": 1})
	b.until("composition", `$("#msg").val() == "か"`)
	press := func(options string) {
		b.run(`$("#msg")[0].dispatchEvent(new KeyboardEvent("keydown", {key: "Enter", bubbles: true, cancelable: true, `+options+`}))`, nil)
	}
	press("isComposing: true")
	press("keyCode: 229")
	b.until("nothing sent", `$("#msg").val() == "か" && $("#outbox *, #lines *").length == 0`)
	b.devtools("Input.insertText", map[string]any{"text": "花"})
	press("keyCode: 13")
	b.until("message", entries+`.join() == "花"`)
}

// What was typed outlives a reload.
func testDraft(t *testing.T, driver chromedriver) {
	b := driver.open(t)
	b.enter("http://" + startProgram(t).addr + "/lobby/")
	b.typeKeys("one" + shift + enter + shift + "two")
	b.call("POST", "/refresh", map[string]any{}, nil)
	b.untilLive()
	b.until("draft", `$("#msg").val() == "one\ntwo" && $("#msg")[0].clientHeight > 60`)
	b.run(`$("#msg").trigger("focus")`, nil)
	b.typeKeys(enter)
	b.until("message", entries+`.join() == "one\ntwo"`)
	b.call("POST", "/refresh", map[string]any{}, nil)
	b.untilLive()
	b.until("no draft", entries+`.length == 1 && $("#msg").val() == ""`)
}

// The page asks for a name once, before the first message. Then the name is a button. A name has no
// colon.
func testNameFirst(t *testing.T, driver chromedriver) {
	addr := startProgram(t).addr
	hears := wstest.LinesOf(t, wstest.DialWS(t, addr))
	b := driver.open(t)
	b.onPhone()
	b.enter("http://" + addr + "/" + newcomer)
	b.until("nothing to answer", `$("#ask").is(":hidden") && $("#who").text() == "No name" && document.activeElement.id == "msg"`)
	b.typeKeys("hello" + enter)
	b.until("question", `$("#ask").is(":visible") && document.activeElement.id == "name" && $("#msg").val() == "hello" && $("#outbox *").length == 0`)
	b.screenshot("name.png")
	b.typeKeys(escape)
	b.until("no question", `$("#ask").is(":hidden") && document.activeElement.id == "msg" && $("#msg").val() == "hello"`)
	b.typeKeys(enter)
	b.typeKeys("Ann: the first" + enter)
	b.until("refusal", `$("#ask").is(":visible") && $("#name").is(":invalid") && $("#naming").text().includes("can’t have a colon") && $("#outbox *").length == 0`)
	b.run(`$("#name").val("")`, nil)
	b.typeKeys("Ann" + enter)
	if got := hears(); got != "Ann: hello" {
		t.Errorf("heard %q", got)
	}
	b.until("button", `$("#ask").is(":hidden") && $("#who").text() == "Ann" && document.activeElement.id == "msg"`)
	b.until("the whole width for the message", `$("#msg").width() + $("#send").width() > 200 && $("#who")[0].getBoundingClientRect().bottom <= $("#msg")[0].getBoundingClientRect().top`)
	b.rename("Bob")
	b.typeKeys("hello again" + enter)
	if got := hears(); got != "Bob: hello again" {
		t.Errorf("heard %q", got)
	}

	// Without a name is a choice, which is not questioned again.
	b.run(`localStorage.clear(); sessionStorage.clear()`, nil)
	b.call("POST", "/refresh", map[string]any{}, nil)
	b.untilLive()
	b.run(`$("#msg").trigger("focus")`, nil)
	b.typeKeys("nobody" + enter)
	b.until("question", `$("#ask").is(":visible")`)
	b.click("#nameless")
	b.until("message", `$("#lines .text").last().text() == "nobody" && $("#ask").is(":hidden") && document.activeElement.id == "msg"`)
	b.typeKeys("still nobody" + enter)
	b.until("message", `$("#lines .text").last().text() == "still nobody" && $("#ask").is(":hidden")`)
	b.cleanConsole()
}

// What others have left in the browser's storage, under the same keys, does no harm.
func testStrangeStorage(t *testing.T, driver chromedriver) {
	addr := startProgram(t).addr
	b := driver.open(t)
	b.enter("http://" + addr + "/")
	for _, value := range []string{`5`, `{}`, `[1]`, `[null]`, `[{}]`, `[{"id":"a b","taken":-1,"texts":["x"]}]`, `"a b]"`, `true`, `not JSON`} {
		b.run(fmt.Sprintf(`for (const key of ["chat:name", "chat:notify", "/:own", "/:read"]) localStorage[key] = %[1]q;
			for (const key of ["/:outbox", "/:own", "/:draft"]) sessionStorage[key] = %[1]q;`, value), nil)
		b.call("POST", "/refresh", map[string]any{}, nil)
		b.untilLive()
		b.run(`$("#msg").val("hello")[0].form.requestSubmit()`, nil)
		b.until("message", `$("#lines .text").length > 0 && $("#outbox .entry").length == 0`)
	}
	b.cleanConsole()
}

// What looks like a name, in a message of someone who has none, is none: for its sender, also after a
// reload, and for others.
func testNoName(t *testing.T, driver chromedriver) {
	ws, b := besideAnother(t, driver)
	hears := wstest.LinesOf(t, ws)
	b.typeKeys("TODO: buy milk" + enter + "no colon" + enter)
	b.until("no name", entries+`.join("|") == "TODO: buy milk|no colon" && $("#lines .name").length == 0 && $("#lines .own").length == 2`)
	if got := hears() + "|" + hears(); got != " TODO: buy milk|no colon" {
		t.Errorf("heard %q", got)
	}
	b.call("POST", "/refresh", map[string]any{}, nil)
	b.untilLive()
	b.until("no name", entries+`.join("|") == "TODO: buy milk|no colon" && $("#lines .name").length == 0`)
}

// The page points out when somebody else writes under the person's name; another tab of theirs is not
// somebody else.
func testNamesake(t *testing.T, driver chromedriver) {
	ws, b := besideAnother(t, driver)
	wstest.Say(t, ws, "Ann: from before")
	b.until("line", entries+`.length == 1`)
	b.rename("Ann")
	var url string
	b.run(`return location.href`, &url)
	first := b.window
	b.newWindow()
	b.enter(url)
	b.until("line", entries+`.length == 1`)
	second := b.window
	b.turnTo(first)
	b.look(false)
	b.turnTo(second)
	b.typeKeys("it is me" + enter)
	b.until("own line", `$("#lines .own").length == 1`)
	b.turnTo(first)
	b.until("nothing new", `$("#lines .own").length == 1 && $("#new").length == 0 && document.title == "Chat"`)
	b.look(true)
	b.until("own line of the other tab", entries+`.length == 2 && $("#lines .own .text").text() == "it is me"`)
	b.run(`window.heard = performance.now()`, nil)
	b.until("time in which the page would have said so", `performance.now() > heard + 1200`)
	b.until("no word of it", notices+`.length == 0`)
	wstest.Say(t, ws, "Anna: hello")
	wstest.Say(t, ws, "Ann: it is me, too")
	wstest.Say(t, ws, "Ann: really")
	b.until("word of it, once", notices+`.join() == "Somebody else, or you on another device, writes as Ann, too."`)
	b.rename("Bea")
	b.turnTo(second)
	b.until("name in the other tab", `$("#who").text() == "Bea"`)
	b.turnTo(first)
	b.until("lines of others", `$("#lines .own").length == 1 && `+entries+`.length == 5`)
}

// A key that would be lost goes into the input; the log scrolls from there.
func testKeys(t *testing.T, driver chromedriver) {
	ws, b := besideAnother(t, driver)
	for n := range 100 {
		wstest.Say(t, ws, fmt.Sprint("line ", n))
	}
	b.until("lines", entries+`.length == 100`)
	b.focus("#log")
	b.typeKeys("typed")
	b.until("text in the input", `$("#msg").val() == "typed" && document.activeElement.id == "msg"`)
	b.run(`window.before = $("#log")[0].scrollTop`, nil)
	b.typeKeys(pageUp)
	b.until("page further up", `before - $("#log")[0].scrollTop > 0.5 * $("#log")[0].clientHeight && $("#msg").val() == "typed" && document.activeElement.id == "msg"`)
	b.typeKeys(pageDown)
	b.until("page further down", `$("#log")[0].scrollTop == before`)
}
