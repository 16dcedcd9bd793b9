package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
)

// config is what the flags set.
type config struct {
	chat   string   // ws://host:port/relay, or unix: and a path
	nats   []string // URLs of NATS servers of one cluster; none for an embedded server
	listen string   // host:port of the embedded server
	store  string   // its directory
	name   string   // of the stream
}

const (
	unixPrefix    = "unix:"
	defaultListen = ":4222"
)

// streamName is the syntax of -name: what NATS takes as the name of a stream and as part of a subject.
var streamName = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)

// parseFlags reads the command line. The error is one line that says what is wrong with it, or flag.ErrHelp where
// help was asked for and written to help.
func parseFlags(args []string, help io.Writer) (config, error) {
	cfg := config{listen: defaultListen, name: "chat"}
	flags := flag.NewFlagSet("relay", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	flags.Func("chat", "the `URL` of the chat's -relay: ws://127.0.0.1:8090/relay, or unix:PATH", func(s string) error {
		cfg.chat = s
		return checkChat(s)
	})
	flags.Func("nats", "`URLs` of an existing NATS with JetStream: nats://a.example:4222,nats://b.example:4222 (default: run one)", func(s string) error {
		cfg.nats = strings.Split(s, ",")
		return checkNATS(cfg.nats)
	})
	flags.Func("listen", "`host:port` for others to reach the NATS that is run (default "+defaultListen+")", func(s string) error {
		cfg.listen = s
		return checkListen(s)
	})
	flags.StringVar(&cfg.store, "store", "", "`directory` for the files of the NATS that is run (default: chat-relay/PORT where the user's caches are)")
	flags.Func("name", "`name` of the stream; chats whose relays use the same one are connected (default chat)", func(s string) error {
		cfg.name = s
		if !streamName.MatchString(s) {
			return errors.New("want up to 64 letters, digits, - and _")
		}
		return nil
	})
	err := flags.Parse(args)
	if errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(help, "relay connects a chat with others through NATS.\n\nUsage: relay -chat URL [flags]")
		flags.SetOutput(help)
		flags.PrintDefaults()
	}
	if err == nil {
		err = cfg.complete(flags)
	}
	return cfg, err
}

// complete checks flags that depend on each other, and fills in what depends on others.
func (cfg *config) complete(flags *flag.FlagSet) (err error) {
	var own string // a flag of the embedded server
	flags.Visit(func(f *flag.Flag) {
		if f.Name == "listen" || f.Name == "store" {
			own = f.Name
		}
	})
	switch {
	case flags.NArg() > 0:
		return fmt.Errorf("unexpected argument %q: there are only flags, see relay -h", flags.Arg(0))
	case cfg.chat == "":
		return errors.New("-chat is missing: want -chat ws://127.0.0.1:8090/relay for a chat with -relay 127.0.0.1:8090")
	case own != "" && len(cfg.nats) > 0:
		return fmt.Errorf("-%s is of no use with -nats: want one of them, since it is about the NATS that is run without -nats", own)
	case cfg.store == "" && len(cfg.nats) == 0:
		cfg.store, err = defaultStore(cfg.listen)
	}
	return err
}

// defaultStore returns the directory for a server that listens on an address.
func defaultStore(listen string) (string, error) {
	caches, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("-store is missing, and there is no default: %w", err)
	}
	_, port, _ := net.SplitHostPort(listen)
	return filepath.Join(caches, "chat-relay", port), nil
}

func checkChat(s string) error {
	if path, ok := strings.CutPrefix(s, unixPrefix); ok && path != "" {
		return nil
	}
	if u, err := url.Parse(s); err != nil || u.Scheme != "ws" || u.Hostname() == "" || !isPort(u.Port()) || u.Path == "" {
		return errors.New("want the address of a chat's -relay, such as ws://127.0.0.1:8090/relay or unix:/run/chat/relay.sock")
	}
	return nil
}

func checkNATS(urls []string) error {
	for _, s := range urls {
		u, err := url.Parse(s)
		if err != nil || u.Hostname() == "" || u.Port() != "" && !isPort(u.Port()) || u.Scheme != "nats" && u.Scheme != "tls" && u.Scheme != "ws" && u.Scheme != "wss" {
			return errors.New("want URLs of NATS servers, such as nats://a.example:4222,nats://b.example:4222")
		}
	}
	return nil
}

func isPort(s string) bool {
	n, err := strconv.ParseUint(s, 10, 16)
	return err == nil && n > 0
}

func checkListen(s string) error {
	_, port, err := net.SplitHostPort(s)
	if err == nil {
		_, err = net.LookupPort("tcp", port)
	}
	if err != nil {
		return errors.New("want host:port or :port, such as :4222")
	}
	return nil
}
