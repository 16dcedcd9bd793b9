package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"testing"

	"example.com/chat/internal/stream"
	"example.com/chat/internal/ws"
	"example.com/chat/internal/wstest"
)

// The flags have the defaults and limits that docs/operations.md documents.
func TestFlags(t *testing.T) {
	origins, err := ws.ParseOrigins("https://a.example,https://*.b.example")
	if err != nil {
		t.Fatal(err)
	}
	longest := strings.Repeat("ä", 60)
	for args, want := range map[string]config{
		"": {addr: ":8080", maxMessage: 4096, history: 256, memory: 640, maxConns: 10_240, rooms: 1000, title: "Chat"},
		"-addr :http -max-message 1 -history 0 -rate 0 -max-conns 0 -rooms 0 -title x -relay localhost:0 -debug localhost:0": {
			addr: ":http", maxMessage: 1, memory: 640, maxConns: 10_240, title: "x", relay: "localhost:0", debug: "localhost:0"},
		"-addr [::1]:65535 -memory 1048576 -history 1048576 -rate 1048576 -max-conns 16777216 -rooms 1048576 -title " + longest + " -relay [::1]:1": {
			addr: "[::1]:65535", maxMessage: 4096, history: 1 << 20, rate: 1 << 20, memory: 1 << 20, maxConns: 1 << 24, rooms: 1 << 20, title: longest, relay: "[::1]:1"},
		"-memory 128": {addr: ":8080", maxMessage: 4096, history: 256, memory: 128, maxConns: 2048, rooms: 1000, title: "Chat"},
		"-memory 16384 -max-message 1073741824": {
			addr: ":8080", maxMessage: 1 << 30, history: 256, memory: 16_384, maxConns: 3, rooms: 1000, title: "Chat"},
		"-relay unix:/run/chat/relay.sock -state /var/lib/chat -origins https://a.example,https://*.b.example": {
			addr: ":8080", maxMessage: 4096, history: 256, memory: 640, maxConns: 10_240, rooms: 1000, title: "Chat", relay: "unix:/run/chat/relay.sock", state: "/var/lib/chat", origins: origins},
	} {
		if got, err := parseFlags(strings.Fields(args), io.Discard); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: got %+v, %v; want %+v", args, got, err, want)
		}
	}
}

// An invalid value is an error that names the flag, the value, and what would be right.
func TestInvalidValues(t *testing.T) {
	const address, thisMachine, upToMillion = "want host:port or :port, such as :8080", "want an address that only this machine can reach, such as 127.0.0.1:8090 or unix:/run", "want a number from 0 to 1048576"
	for name, test := range map[string]struct {
		want   string
		values []string
	}{
		"-addr":        {address, []string{"8080", ":http8", ":70000"}},
		"-debug":       {address, []string{"6060"}},
		"-max-message": {"want a number from 1 to 1073741824", []string{"4k", "0", "1073741825"}},
		"-max-conns":   {"want a number from 0 to 1073741824", []string{"many", "-1", "1073741825"}},
		"-history":     {upToMillion, []string{"all", "-1", "1048577"}},
		"-rooms":       {upToMillion, []string{"-1", "1048577"}},
		"-memory":      {"want a number from 128 to 1048576", []string{"1G", "127", "1048577"}},
		"-rate":        {upToMillion, []string{"0.5", "-1", "1048577"}},
		"-title":       {"want 1 to 60 characters, in one line", []string{"", " ", strings.Repeat("x", 61), "a\nb", "\xff"}},
		"-origins":     {`invalid origin "b.example": want a comma-separated list such as https://a.example`, []string{"https://a.example,b.example"}},
		"-relay": {thisMachine, []string{"", ":8090", "0.0.0.0:1", "[::]:1", "192.0.2.1:1", "example.com:1", "localhost.example.com:1",
			"127.0.0.1", "127.0.0.1:70000", "unix:", "/run/relay.sock"}},
	} {
		for _, value := range test.values {
			expectMistake(t, fmt.Sprintf("invalid value %q for flag %s: %s", value, name, test.want), name, value)
		}
	}
}

// Connections take at most a quarter of -memory, at 16 KiB each and what -max-message exceeds 4 KiB. Rooms take at most an
// eighth, at 16 KiB each, and a message a sixteenth.
func TestLimitsFitIntoMemory(t *testing.T) {
	for args, want := range map[string]string{
		"-max-conns 10241":                   "-max-conns 10241 does not fit into -memory 640 with -max-message 4096: want at most 10240, or more memory",
		"-max-conns 2156 -max-message 65536": "-max-conns 2156 does not fit into -memory 640 with -max-message 65536: want at most 2155, or more memory",
		"-rooms 5121":                        "-rooms 5121 does not fit into -memory 640 with -max-message 4096: want at most 5120, or more memory",
		"-max-message 8388609 -memory 128":   "-max-message 8388609 does not fit into -memory 128 with -max-message 8388609: want at most 8388608, or more memory",
		"-max-conns 10240 -rooms 5120":       "",
		"-max-message 41943040":              "",
		"-max-conns 20480 -memory 1280":      "",
		"-max-conns 2155 -max-message 65536": "",
	} {
		if want != "" {
			expectMistake(t, want, strings.Fields(args)...)
		} else if _, err := parseFlags(strings.Fields(args), io.Discard); err != nil {
			t.Errorf("%s: %v", args, err)
		}
	}
}

// The systemd unit and the container say the default of -memory, and docs/operations.md adds up parts that fit into it.
func TestDocumentedMemory(t *testing.T) {
	for file, want := range map[string]string{
		"deploy/chat.service": "-memory 640 ", "deploy/Dockerfile": `"-memory", "640"`, "docs/operations.md": "| `-memory MiB` | `640` |",
	} {
		if content, err := os.ReadFile(file); err != nil || !strings.Contains(string(content), want) {
			t.Errorf("%s: want %s, as by default; %v", file, want, err)
		}
	}
	content, err := os.ReadFile("docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	sum, parts := 0, map[string]int{}
	_, table, _ := strings.Cut(string(content), "| part | MiB at most | how it is bounded |\n|---|---|---|\n")
	for row := range strings.SplitSeq(table, "\n") {
		cells := strings.Split(row, " | ")
		if len(cells) != 3 {
			break
		}
		part := strings.TrimPrefix(cells[0], "| ")
		if parts[part], err = strconv.Atoi(cells[1]); err != nil {
			t.Fatal(err)
		}
		if part != "sum" {
			sum += parts[part]
		}
	}
	cfg, err := parseFlags(nil, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	heads, all := cfg.httpConns()
	for part, want := range map[string]int{
		"lines of all rooms": int(cfg.lineMemory()),
		"connections":        cfg.maxConns * connCost,
		"rooms":              cfg.rooms * roomCost,
		"HTTP connections":   heads*headCost + (all-heads)*responseCost,
		"writes":             cap(joining) * stream.JoinLimit,
		"sum":                sum << 20,
	} {
		if got := parts[part]; got != (want+1<<20-1)>>20 {
			t.Errorf("docs/operations.md has %d MiB for %s, want %d bytes rounded up", got, part, want)
		}
	}
	if limit := int(cfg.heapMemory() >> 20); sum > limit {
		t.Errorf("the parts in docs/operations.md take %d MiB, want at most the %d MiB at which garbage is collected", sum, limit)
	}
}

// -cert and -key need each other, and belong together.
func TestCertificateFlags(t *testing.T) {
	cert, key := wstest.NewCertificate(t)
	_, otherKey := wstest.NewCertificate(t)
	missing := filepath.Join(t.TempDir(), "missing.pem")
	if cfg, err := parseFlags([]string{"-cert", cert, "-key", key}, io.Discard); err != nil || cfg.tls == nil {
		t.Errorf("got certificate %v, %v; want one", cfg.tls, err)
	}
	expectMistake(t, fmt.Sprintf("-cert %q needs its key: add -key", cert), "-cert", cert)
	expectMistake(t, fmt.Sprintf("-key %q needs its certificate: add -cert", key), "-key", key)
	for _, test := range []struct{ cert, key, want string }{
		{missing, key, "no such file"},
		{key, key, "PEM"},
		{cert, cert, "PEM"},
		{cert, otherKey, "does not match"},
	} {
		err := expectMistake(t, fmt.Sprintf("-cert %q with -key %q: ", test.cert, test.key), "-cert", test.cert, "-key", test.key)
		if !strings.Contains(err, test.want) || !strings.HasSuffix(err, "want a certificate and its key, each in PEM") {
			t.Errorf("got error %q, want it to contain %q and what would be right", err, test.want)
		}
	}
}

// Unknown flags, flags without a value, and other arguments are errors.
func TestUnknownFlags(t *testing.T) {
	expectMistake(t, "flag provided but not defined: -port", "-port", "80")
	expectMistake(t, "flag needs an argument: -max-message", "-max-message")
	expectMistake(t, `unexpected argument ":8080": there are only flags, see chat -h`, ":8080")
}

// expectMistake expects that the error of a command line is one line that begins with want. It returns the error.
func expectMistake(t *testing.T, want string, args ...string) string {
	t.Helper()
	_, err := parseFlags(args, io.Discard)
	got := fmt.Sprint(err)
	if err == nil || !strings.HasPrefix(got, want) || strings.Contains(got, "\n") {
		t.Errorf("%q: got error %q, want one line that begins with %q", args, got, want)
	}
	return got
}

// Help shows each flag in two lines.
func TestHelp(t *testing.T) {
	var help strings.Builder
	if _, err := parseFlags([]string{"-h"}, &help); !errors.Is(err, flag.ErrHelp) {
		t.Errorf("got error %v, want %v", err, flag.ErrHelp)
	}
	want := []string{"-addr host:port", "-cert file", "-debug host:port", "-history lines", "-key file", "-max-conns connections", "-max-message bytes",
		"-memory MiB", "-origins origins", "-rate messages", "-relay address", "-rooms rooms", "-state directory", "-title text"}
	var got []string
	for line := range strings.Lines(help.String()) {
		if name, ok := strings.CutPrefix(line, "  -"); ok {
			got = append(got, "-"+strings.TrimSpace(name))
		}
	}
	if !reflect.DeepEqual(got, want) || strings.Count(help.String(), "\n") != 3+2*len(want) {
		t.Errorf("got help\n%s\nwant two lines for each of %q", help.String(), want)
	}
}
