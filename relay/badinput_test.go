package main

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"example.com/chat/internal/wstest"
)

// Within that time a relay that can't work has said so and ended: machines are busy.
const refusal = 15 * time.Second

// runRelay runs the relay until it ends by itself, or the test does.
func runRelay(t *testing.T, args ...string) *program {
	t.Helper()
	p := newProgram(t, "relay", relayPath, args...)
	p.start()
	return p
}

// says checks that a program has written one line, with all of what is wanted.
func (p *program) says(want ...string) {
	p.t.Helper()
	if p.log.lines() != 1 {
		p.t.Errorf("not one line: %q", p.log.String())
	}
	for _, w := range want {
		if !strings.Contains(p.log.String(), w) {
			p.t.Errorf("%q does not say %q", p.log.String(), w)
		}
	}
}

// A wrong command line ends it with status 2, and one line that names the flag, its value, and what would be right.
func TestWrongCommandLine(t *testing.T) {
	t.Parallel()
	const goodChat, goodNATS = "-chat=ws://127.0.0.1:9/relay", "-nats=nats://127.0.0.1:9"
	for _, test := range []struct {
		args []string
		says []string
	}{
		{[]string{goodNATS}, []string{"-chat", "ws://127.0.0.1:"}},
		{[]string{goodNATS, "-chat", ""}, []string{"-chat", "ws://127.0.0.1:"}},
		{[]string{goodNATS, "-chat", "127.0.0.1:9"}, []string{"-chat", `"127.0.0.1:9"`, "ws://127.0.0.1:"}},
		{[]string{goodNATS, "-chat", "http://127.0.0.1:9/relay"}, []string{"-chat", `"http://127.0.0.1:9/relay"`, "ws://127.0.0.1:"}},
		{[]string{goodNATS, "-chat", "ws:///relay"}, []string{"-chat", `"ws:///relay"`, "ws://127.0.0.1:"}},
		{[]string{goodNATS, "-chat", "ws://127.0.0.1:99999/relay"}, []string{"-chat", `"ws://127.0.0.1:99999/relay"`, "ws://127.0.0.1:"}},
		{[]string{goodNATS, "-chat", "unix:"}, []string{"-chat", `"unix:"`, "unix:/"}},
		{[]string{goodNATS, "-chat"}, []string{"-chat"}},
		{[]string{goodChat, "-nats", ""}, []string{"-nats", `""`, "nats://"}},
		{[]string{goodChat, "-nats", "127.0.0.1:4222"}, []string{"-nats", `"127.0.0.1:4222"`, "nats://"}},
		{[]string{goodChat, "-nats", "http://a.example:4222"}, []string{"-nats", `"http://a.example:4222"`, "nats://"}},
		{[]string{goodChat, "-nats", "nats://a.example:4222,"}, []string{"-nats", `"nats://a.example:4222,"`, "nats://"}},
		{[]string{goodChat, "-nats", "nats://a.example:port"}, []string{"-nats", `"nats://a.example:port"`, "nats://"}},
		{[]string{goodChat, "-nats", "nats://a.example:99999"}, []string{"-nats", `"nats://a.example:99999"`, "nats://"}},
		{[]string{goodChat, "-listen", "4222"}, []string{"-listen", `"4222"`, ":4222"}},
		{[]string{goodChat, "-listen", ":70000"}, []string{"-listen", `":70000"`, ":4222"}},
		{[]string{goodChat, "-listen", ""}, []string{"-listen", `""`, ":4222"}},
		{[]string{goodChat, goodNATS, "-listen", ":4222"}, []string{"-listen", "-nats"}},
		{[]string{goodChat, goodNATS, "-store", "/tmp"}, []string{"-store", "-nats"}},
		{[]string{goodChat, goodNATS, "-name", ""}, []string{"-name", `""`, "letters"}},
		{[]string{goodChat, goodNATS, "-name", "a.b"}, []string{"-name", `"a.b"`, "letters"}},
		{[]string{goodChat, goodNATS, "-name", "*"}, []string{"-name", `"*"`, "letters"}},
		{[]string{goodChat, goodNATS, "-port", "1"}, []string{"-port"}},
		{[]string{goodChat, goodNATS, "chat"}, []string{`"chat"`, "relay -h"}},
	} {
		t.Run(strings.Join(test.args, " "), func(t *testing.T) {
			p := runRelay(t, test.args...)
			if status := p.status(refusal); status != 2 {
				t.Errorf("exit status %d, want 2", status)
			}
			p.says(test.says...)
		})
	}
}

// What no waiting mends ends a relay that has never worked with status 1, and one line that says what is wrong.
func TestNeverWorks(t *testing.T) {
	t.Parallel()
	w := newWorld(t, currentNATS)
	w.startNATS()
	c := newChat(t, "chat", false)
	c.start()
	c.ready()
	plain, noChat := httptest.NewServer(http.NotFoundHandler()), ""
	defer plain.Close()
	noChat = "ws" + strings.TrimPrefix(plain.URL, "http") + "/relay"
	users, without := freeAddr(t), freeAddr(t)
	for addr, flags := range map[string][]string{users: {"-js", "-user", "ann", "-pass", "right"}, without: nil} {
		newNATS(t, currentNATS, addr, t.TempDir(), flags...).start()
		wstest.Until(t, "NATS answers", func() bool { return answersNATS(addr) })
	}
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name string
		args []string
		says []string
	}{
		{"a server that is no chat", []string{"-chat", noChat, "-nats", "nats://" + w.natsAddr}, []string{noChat}},
		{"people's side of the chat", []string{"-chat", "ws://" + c.addr + "/ws", "-nats", "nats://" + w.natsAddr}, []string{c.addr}},
		{"no password", []string{"-chat", c.relayURL, "-nats", "nats://" + users}, []string{users, "uthori"}},
		{"a wrong password", []string{"-chat", c.relayURL, "-nats", "nats://ann:s3cret@" + users}, []string{users, "uthori"}},
		{"no JetStream", []string{"-chat", c.relayURL, "-nats", "nats://" + without}, []string{"JetStream"}},
		{"a store that is a file", []string{"-chat", c.relayURL, "-listen", freeAddr(t), "-store", file}, []string{file}},
		{"a store below a file", []string{"-chat", c.relayURL, "-listen", freeAddr(t), "-store", file + "/store"}, []string{file}},
		{"an address that is taken", []string{"-chat", c.relayURL, "-listen", c.addr, "-store", t.TempDir()}, []string{c.addr}},
		{"nobody's address", []string{"-chat", c.relayURL, "-listen", "192.0.2.1:4222", "-store", t.TempDir()}, []string{"192.0.2.1:4222"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := runRelay(t, test.args...)
			if status := p.status(refusal); status != 1 {
				t.Errorf("exit status %d, want 1", status)
			}
			p.says(test.says...)
			if strings.Contains(p.log.String(), "s3cret") {
				t.Error("it shows a password")
			}
		})
	}
}

// What a NATS with TLS asks for is in the environment: a password, and a certificate of the relay's own.
func TestSecuredNATS(t *testing.T) {
	t.Parallel()
	w, c := newWorld(t, currentNATS), newChat(t, "chat", false)
	cert, key := wstest.NewCertificate(t)
	secured := newNATS(t, currentNATS, w.natsAddr, w.store, "-js", "-user", "ann", "-pass", "right",
		"--tlsverify", "--tlscert", cert, "--tlskey", key, "--tlscacert", cert)
	secured.start()
	wstest.Until(t, "NATS answers", func() bool { return answersNATS(w.natsAddr) })
	c.start()
	c.ready()
	all := []string{"NATS_USER=ann", "NATS_PASSWORD=right", "NATS_CA=" + cert, "NATS_CERT=" + cert, "NATS_KEY=" + key}
	for n, missing := range []string{"a user", "a password", "who has signed", "a certificate", "a mistake"} {
		p := newProgram(t, "relay without "+missing, relayPath, "-chat", c.relayURL, "-nats", "tls://"+w.natsAddr)
		if p.env = all; n < 4 {
			p.env = slices.Delete(slices.Clone(all), n, n+1)
		}
		p.start()
		wstest.Until(t, p.name+" works, or says why not", func() bool { return p.log.lines() > 0 })
		if works := strings.Contains(p.log.String(), "msg=relaying"); works != (n == 4) {
			t.Errorf("%s works: %v: %s", p.name, works, p.log.String())
		}
	}
}

// A user without a password, or a password without a user, does not leave the NATS that is run open to everybody,
// nor does what that can't use.
func TestCredentialsOfTheOwnNATS(t *testing.T) {
	t.Parallel()
	c := newChat(t, "chat", false)
	c.start()
	c.ready()
	for _, useless := range []string{"NATS_USER=ann", "NATS_PASSWORD=right", "NATS_CA=ca.pem"} {
		p := newProgram(t, "relay with "+useless, relayPath, "-chat", c.relayURL, "-listen", freeAddr(t), "-store", t.TempDir())
		p.env = []string{useless}
		p.start()
		if status := p.status(refusal); status != 1 {
			t.Errorf("%s: exit status %d, want 1", useless, status)
		}
		p.says("NATS_USER", "NATS_PASSWORD")
	}
}

// A relay waits for a chat and for NATS that are not there yet, says so, but not again and again, and works when
// they come.
func TestWaits(t *testing.T) {
	for _, later := range []string{"chat", "NATS"} {
		t.Run("for "+later, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, currentNATS)
			c := newChat(t, "chat", false)
			start, addr := map[string]func(){
				"chat": func() { c.start(); c.ready() },
				"NATS": w.startNATS,
			}, map[string]string{"chat": c.relayURL, "NATS": w.natsAddr}
			for name, now := range start {
				if name != later {
					now()
				}
			}
			p := runRelay(t, "-chat", c.relayURL, "-nats", "nats://"+w.natsAddr)
			wstest.Until(t, "it says that it waits", func() bool { return strings.Contains(p.log.String(), addr[later]) })
			time.Sleep(3 * time.Second)
			if n := p.log.lines(); n > 6 || !p.running() {
				t.Errorf("after 3 s it has written %d lines, and runs: %v", n, p.running())
			}
			start[later]()
			wstest.Until(t, "it relays", func() bool { return c.count("relays") > 0 && strings.Contains(p.log.String(), "relaying") })
			p.stop()
		})
	}
}
