package main

import (
	"errors"
	"flag"
	"io"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

// The defaults of the flags are those that README.md documents.
func TestDefaultFlags(t *testing.T) {
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	t.Setenv("HOME", t.TempDir())
	got, err := parseFlags([]string{"-chat", "unix:/run/chat/relay.sock"}, io.Discard)
	store := got.store
	got.store = ""
	if want := (config{chat: "unix:/run/chat/relay.sock", listen: ":4222", name: "chat"}); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, %v; want %+v", got, err, want)
	}
	if want := filepath.Join("chat-relay", "4222"); !strings.HasSuffix(store, want) {
		t.Errorf("got -store %s, want it to end in %s", store, want)
	}
}

// Help lists every flag.
func TestHelp(t *testing.T) {
	var help strings.Builder
	if _, err := parseFlags([]string{"-h"}, &help); !errors.Is(err, flag.ErrHelp) {
		t.Errorf("got error %v, want %v", err, flag.ErrHelp)
	}
	for _, name := range []string{"-chat URL", "-nats URLs", "-listen host:port", "-store directory", "-name name"} {
		if !strings.Contains(help.String(), name) {
			t.Errorf("got help %q, want it to contain %q", help.String(), name)
		}
	}
}

// An error in the command line is one line that names the flag, its value, and an accepted value.
func TestWrongFlags(t *testing.T) {
	const goodChat, goodNATS = "-chat=ws://127.0.0.1:9/relay", "-nats=nats://127.0.0.1:9"
	for _, test := range []struct {
		args []string
		want []string // parts of the error
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
		{[]string{goodChat, goodNATS, "-name", strings.Repeat("x", 65)}, []string{"-name", "64 letters"}},
		{[]string{goodChat, goodNATS, "-port", "1"}, []string{"-port"}},
		{[]string{goodChat, goodNATS, "chat"}, []string{`"chat"`, "relay -h"}},
	} {
		_, err := parseFlags(test.args, io.Discard)
		if err == nil || strings.Contains(err.Error(), "\n") {
			t.Errorf("%q: got error %q, want one line", test.args, err)
			continue
		}
		for _, want := range test.want {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%q: got error %q, want it to contain %q", test.args, err, want)
			}
		}
	}
}
