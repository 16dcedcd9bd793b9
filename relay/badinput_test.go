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

// refusal is how long a relay that can't work may take to end. It is generous because test machines are busy.
const refusal = 15 * time.Second

// runRelay starts a relay, which runs until it ends by itself or the test ends.
func runRelay(t *testing.T, args ...string) *program {
	t.Helper()
	p := newProgram(t, "relay", relayPath, args...)
	p.start()
	return p
}

// expectRefusal waits until p has ended. It checks p's exit status, and that p has written one line with all
// of parts.
func expectRefusal(t *testing.T, p *program, status int, parts ...string) {
	t.Helper()
	if got := p.status(refusal); got != status {
		t.Errorf("%s: got exit status %d, want %d", p.name, got, status)
	}
	if n := p.log.lines(); n != 1 {
		t.Errorf("%s: got %d lines of output, want 1: %q", p.name, n, p.log.String())
	}
	for _, part := range parts {
		if !strings.Contains(p.log.String(), part) {
			t.Errorf("%s: got output %q, want it to contain %q", p.name, p.log.String(), part)
		}
	}
}

// A wrong command line ends the relay with status 2 and one line.
func TestWrongCommandLine(t *testing.T) {
	t.Parallel()
	expectRefusal(t, runRelay(t, "-chat", "127.0.0.1:9"), 2, "relay: ", "-chat", "ws://127.0.0.1:")
}

// An error that waiting can't mend ends a relay that has never worked with status 1 and one line about the
// cause. That line shows no password. A useless or incomplete credential is such an error, because the
// embedded NATS would be open to everyone.
func TestNeverWorks(t *testing.T) {
	t.Parallel()
	w := newWorld(t, currentNATS)
	w.startNATS()
	c := newChat(t, "chat", false)
	c.start()
	c.ready()
	plain := httptest.NewServer(http.NotFoundHandler())
	defer plain.Close()
	noChat := "ws" + strings.TrimPrefix(plain.URL, "http") + "/relay"
	secured, withoutJetStream := freeAddr(t), freeAddr(t)
	for addr, flags := range map[string][]string{secured: {"-js", "-user", "ann", "-pass", "right"}, withoutJetStream: nil} {
		newNATS(t, currentNATS, addr, t.TempDir(), flags...).start()
		wstest.Until(t, "NATS answers", func() bool { return answersNATS(addr) })
	}
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	embedded := []string{"-chat", c.relayURL, "-listen", freeAddr(t), "-store", t.TempDir()}
	for _, test := range []struct {
		name string
		args []string
		env  string
		want []string // parts of the output
	}{
		{"a server that is not a chat", []string{"-chat", noChat, "-nats", "nats://" + w.natsAddr}, "", []string{noChat}},
		{"the clients' address of the chat", []string{"-chat", "ws://" + c.addr + "/ws", "-nats", "nats://" + w.natsAddr}, "", []string{c.addr}},
		{"no password", []string{"-chat", c.relayURL, "-nats", "nats://" + secured}, "", []string{secured, "uthori"}},
		{"a wrong password", []string{"-chat", c.relayURL, "-nats", "nats://ann:s3cret@" + secured}, "", []string{secured, "uthori"}},
		{"no JetStream", []string{"-chat", c.relayURL, "-nats", "nats://" + withoutJetStream}, "", []string{"JetStream"}},
		{"a store that is a file", []string{"-chat", c.relayURL, "-listen", freeAddr(t), "-store", file}, "", []string{file}},
		{"a store below a file", []string{"-chat", c.relayURL, "-listen", freeAddr(t), "-store", file + "/store"}, "", []string{file}},
		{"an address in use", []string{"-chat", c.relayURL, "-listen", c.addr, "-store", t.TempDir()}, "", []string{c.addr}},
		{"an address of no interface", []string{"-chat", c.relayURL, "-listen", "192.0.2.1:4222", "-store", t.TempDir()}, "", []string{"192.0.2.1:4222"}},
		{"a user without a password", embedded, "NATS_USER=ann", []string{"NATS_USER", "NATS_PASSWORD"}},
		{"a password without a user", embedded, "NATS_PASSWORD=right", []string{"NATS_USER", "NATS_PASSWORD"}},
		{"a certificate for the embedded NATS", embedded, "NATS_CA=ca.pem", []string{"NATS_CA", "NATS_USER", "NATS_PASSWORD"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := newProgram(t, "relay", relayPath, test.args...)
			if test.env != "" {
				p.env = []string{test.env}
			}
			p.start()
			expectRefusal(t, p, 1, test.want...)
			if strings.Contains(p.log.String(), "s3cret") {
				t.Errorf("got output %q, want no password in it", p.log.String())
			}
		})
	}
}

// A relay uses a NATS that demands TLS, a password and a client certificate, if the environment has all of
// them.
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
	for n, without := range []string{"NATS_USER", "NATS_PASSWORD", "NATS_CA", "NATS_CERT", "nothing"} {
		p := newProgram(t, "relay without "+without, relayPath, "-chat", c.relayURL, "-nats", "tls://"+w.natsAddr)
		if p.env = all; n < 4 {
			p.env = slices.Delete(slices.Clone(all), n, n+1)
		}
		p.start()
		wstest.Until(t, p.name+" writes a line", func() bool { return p.log.lines() > 0 })
		if got, want := strings.Contains(p.log.String(), "msg=relaying"), n == 4; got != want {
			t.Errorf("%s: relays %v, want %v: %s", p.name, got, want, p.log.String())
		}
	}
}

// A relay waits for a chat or a NATS that does not answer yet. It logs at most 6 lines about that in 3 s, and
// works when the missing program has started.
func TestWaits(t *testing.T) {
	for _, late := range []string{"chat", "NATS"} {
		t.Run("for "+late, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, currentNATS)
			c := newChat(t, "chat", false)
			start, addr := map[string]func(){
				"chat": func() { c.start(); c.ready() },
				"NATS": w.startNATS,
			}, map[string]string{"chat": c.relayURL, "NATS": w.natsAddr}
			for name, now := range start {
				if name != late {
					now()
				}
			}
			p := runRelay(t, "-chat", c.relayURL, "-nats", "nats://"+w.natsAddr)
			wstest.Until(t, "the relay logs the missing address", func() bool { return strings.Contains(p.log.String(), addr[late]) })
			time.Sleep(3 * time.Second)
			if n := p.log.lines(); n > 6 || !p.running() {
				t.Errorf("after 3 s: got %d lines, running %v; want at most 6, true", n, p.running())
			}
			start[late]()
			wstest.Until(t, "the relay relays", func() bool { return c.count("relays") > 0 && strings.Contains(p.log.String(), "relaying") })
			p.stop()
		})
	}
}
