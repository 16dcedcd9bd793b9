package e2e

import (
	"fmt"
	"strings"
	"testing"

	"example.com/chat/internal/wstest"
)

// The page asks for a name once, before the first message. Afterwards a button shows the name, which stands
// before each message and outlives a reload. A name has no colon. The person may also choose to have none.
func testNameFirst(t *testing.T, driver chromedriver) {
	b := driver.open(t)
	b.onPhone()
	addr := startProgram(t).addr
	ann := wstest.Join(t, addr)
	b.enter("http://" + addr + "/" + newcomer)
	b.until("the page does not ask", `$("#ask").is(":hidden") && $("#who").text() == "No name" && document.activeElement.id == "msg"`)
	b.typeKeys("hello" + enter)
	b.until("the page asks", `$("#ask").is(":visible") && document.activeElement.id == "name" && $("#msg").val() == "hello" && `+allSent)
	b.screenshot("name.png")
	b.typeKeys(escape)
	b.until("the page does not ask", `$("#ask").is(":hidden") && document.activeElement.id == "msg" && $("#msg").val() == "hello"`)
	b.typeKeys(enter)
	b.typeKeys("Ann: the first" + enter)
	b.until("the page refuses the name", `$("#ask").is(":visible") && $("#name").is(":invalid") && $("#naming").text().includes("can’t have a colon") && `+allSent)
	b.run(`$("#name").val("")`)
	b.typeKeys("Ann" + enter)
	ann.ExpectLines("Ann: hello")
	b.until("a button shows the name", `$("#ask").is(":hidden") && $("#who").text() == "Ann" && document.activeElement.id == "msg"`)
	b.until("the input has the whole width", `$("#msg").width() + $("#send").width() > 200 && $("#who")[0].getBoundingClientRect().bottom <= $("#msg")[0].getBoundingClientRect().top`)
	b.rename(" Bob the second ")
	b.typeKeys("hello again" + enter)
	ann.ExpectLines("Bob the second: hello again")
	b.until("the log sets the name off", `$(".own .name").last().text() == "Bob the second" && $(".own .text").last().text() == "hello again"`)
	b.reload()
	b.until("the button shows the name", `$("#who").text() == "Bob the second"`)

	b.run(`localStorage.clear(); sessionStorage.clear()`)
	b.reload()
	b.focus("#msg")
	b.typeKeys("nobody" + enter)
	b.until("the page asks", `$("#ask").is(":visible")`)
	b.click("#nameless")
	b.until("the message is sent", `$("#lines .text").last().text() == "nobody" && $("#ask").is(":hidden") && document.activeElement.id == "msg"`)
	b.typeKeys("still nobody" + enter)
	b.until("the message is sent", `$("#lines .text").last().text() == "still nobody" && $("#ask").is(":hidden")`)
	b.expectCleanConsole()
}

// The page counts a message and the name against the server's limit, which is in bytes. It shows characters,
// and cuts nothing. A message that the server refuses nevertheless is shown as not sent, and the next ones are
// sent.
func testLimit(t *testing.T, driver chromedriver) {
	_, b := openChat(t, driver, "-max-message", "100")
	b.typeKeys("short")
	b.until("the page shows no count", `$("#left").is(":hidden")`)
	b.typeKeys(strings.Repeat("é", 45))
	b.until("the page shows a count", `$("#left").text() == "about 2 characters left" && $("#left").is(":visible")`)
	b.typeKeys("éé1")
	b.until("nothing is left", `$("#left").text() == "about 0 characters left" && !$("#send").prop("disabled")`)
	b.typeKeys("2" + enter)
	b.until("the message is too long", `$("#left").text() == "1 character too long" && $("#send").prop("disabled") && $("#msg").val().endsWith("12") && `+allSent)
	b.screenshot("limit.png")
	b.typeKeys(backspace + enter)
	longest := "short" + strings.Repeat("é", 47) + "1"
	b.untilShown(longest)

	b.run(`const send = WebSocket.prototype.send; WebSocket.prototype.send = function (text) { send.call(this, text == "long" ? "x".repeat(101) : text) }`)
	b.typeKeys("fine" + enter + "long" + enter + "fine, too" + enter)
	b.until("the page says why", notices+`.join() == "A message was too long for the server."`)
	b.untilShown(longest, "fine", "long", "fine, too")
	b.until("the log marks the refused message", `$(".refused .text").text() == "long" && $(".refused .mark").text() == "not sent"`)

	b.rename("Ann")
	b.run(`$("#msg").val("x".repeat(94) + "🙂").trigger("input")`)
	b.until("the message is too long with the name, by a character of four bytes", `$("#left").text() == "1 character too long"`)
}

// Shift and Enter break a line. The input grows to six rows. On the wire a message is one line, in which U+2028
// stands for a break.
func testSeveralLines(t *testing.T, driver chromedriver) {
	ann, b := besideAnother(t, driver)
	b.typeKeys("one" + shift + enter + shift + "two")
	b.until("the input has two lines", `$("#msg").val() == "one\ntwo"`)
	b.screenshot("lines.png")
	b.typeKeys(enter)
	ann.ExpectLines("one\u2028two")
	b.until("the line has two rows", `$("#lines .text").text() == "one\ntwo" && $("#lines .text")[0].getBoundingClientRect().height > 40`)

	const rows = `Math.round(($("#msg")[0].clientHeight - 2 * parseFloat(getComputedStyle($("#msg")[0]).paddingTop)) / parseFloat(getComputedStyle($("#msg")[0]).lineHeight))`
	b.until("the input is empty, with one row", `$("#msg").val() == "" && `+rows+` == 1`)
	b.devtools("Input.insertText", map[string]any{"text": "pasted\n\n  as it was\nfour"}, nil)
	b.until("the input has four rows", rows+` == 4 && $("#msg").val() == "pasted\n\n  as it was\nfour"`)
	b.until("the end of the log is in view", atEnd)
	b.typeKeys(enter)
	ann.ExpectLines("pasted\u2028\u2028  as it was\u2028four")
	b.devtools("Input.insertText", map[string]any{"text": strings.Repeat("line\n", 20) + "end\n \n"}, nil)
	b.until("the input has six rows", rows+` == 6`)
	b.typeKeys(enter)
	ann.ExpectLines(strings.Repeat("line\u2028", 20) + "end")

	// Spaces and breaks alone are not sent.
	b.rename("Ann")
	b.typeKeys("  " + shift + enter + shift + " " + enter)
	b.run(`$("#msg").val("")`)
	b.typeKeys("the end" + enter)
	ann.ExpectLines("Ann: the end")
	b.until("the log has each line once", entries+`.length == 4`)
	b.expectCleanConsole()
}

// With a touch keyboard Enter breaks a line, and the button sends.
func testTouchKeyboard(t *testing.T, driver chromedriver) {
	b := driver.open(t)
	b.onPhone()
	b.devtools("Emulation.setTouchEmulationEnabled", map[string]any{"enabled": true}, nil)
	b.enter("http://" + startProgram(t).addr + "/")
	b.until("the keyboard shows a key for breaks", `$("#msg").attr("enterkeyhint") == "enter"`)
	b.typeKeys("one" + enter + "two")
	b.until("the input has two lines", `$("#msg").val() == "one\ntwo" && $("#outbox *, #lines *").length == 0`)
	b.click("#send")
	b.untilShown("one\ntwo")
	b.until("the input is empty", `$("#msg").val() == ""`)
}

// While an input method composes a word, Enter belongs to it.
func testComposition(t *testing.T, driver chromedriver) {
	_, b := openChat(t, driver)
	b.devtools("Input.imeSetComposition", map[string]any{"text": "か", "selectionStart": 1, "selectionEnd": 1}, nil)
	b.until("the input has the composition", `$("#msg").val() == "か"`)
	press := func(options string) {
		b.run(`$("#msg")[0].dispatchEvent(new KeyboardEvent("keydown", {key: "Enter", bubbles: true, cancelable: true, ` + options + `}))`)
	}
	press("isComposing: true")
	press("keyCode: 229")
	b.until("nothing is sent", `$("#msg").val() == "か" && $("#outbox *, #lines *").length == 0`)
	b.devtools("Input.insertText", map[string]any{"text": "花"}, nil)
	press("keyCode: 13")
	b.untilShown("花")
}

// The page survives what other programs have stored in the browser under the same keys.
func testStrangeStorage(t *testing.T, driver chromedriver) {
	_, b := openChat(t, driver)
	for _, value := range []string{`5`, `{}`, `[1]`, `[null]`, `[{}]`, `[{"id":"a b","taken":-1,"texts":["x"]}]`, `"a b]"`, `true`, `not JSON`} {
		b.run(fmt.Sprintf(`for (const key of ["chat:name", "chat:notify", "/:own", "/:read"]) localStorage[key] = %[1]q;
			for (const key of ["/:outbox", "/:own", "/:draft"]) sessionStorage[key] = %[1]q;`, value))
		b.reload()
		b.run(`$("#msg").val("hello")[0].form.requestSubmit()`)
		b.until("the message is sent", `$("#lines .text").length > 0 && $("#outbox .entry").length == 0`)
	}
	b.expectCleanConsole()
}

// The page reports that somebody else uses the person's name. Another tab of the same browser is nobody else.
func testNamesake(t *testing.T, driver chromedriver) {
	ann, b := besideAnother(t, driver)
	say(ann, "Ann: from before")
	b.until("the log has the line", entries+`.length == 1`)
	b.rename("Ann")
	first := b.window
	second := b.newWindow()
	b.enter(b.url)
	b.until("the log has the line", entries+`.length == 1`)
	b.turnTo(first)
	b.look(false)
	b.turnTo(second)
	b.typeKeys("it is me" + enter)
	b.until("the log has an own line", `$("#lines .own").length == 1`)
	b.turnTo(first)
	b.until("the own line of the other tab is not new", `$("#lines .own .text").text() == "it is me" && $("#new").length == 0 && document.title == "Chat"`)
	b.look(true)
	b.run(`window.heard = performance.now()`)
	b.until("the page has had time for a report", `performance.now() > heard + 1200`)
	b.until("the page says nothing", entries+`.length == 2 && `+notices+`.length == 0`)
	say(ann, "Anna: hello", "Ann: it is me, too", "Ann: really")
	b.until("the page says so once", notices+`.join() == "Somebody else, or you on another device, writes as Ann, too."`)
	b.rename("Bea")
	b.turnTo(second)
	b.until("the other tab has the new name", `$("#who").text() == "Bea"`)
	b.turnTo(first)
	b.until("the lines are not own ones", `$("#lines .own").length == 1 && `+entries+`.length == 5`)
}
