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

// config holds the values of the flags. Nothing changes it after parseFlags.
type config struct {
	chat   string   // address of the chat's -relay: ws://host:port/relay, or unix: and a path
	nats   []string // URLs of the NATS servers of one cluster; empty for the embedded server
	listen string   // host:port of the embedded server
	store  string   // directory of the embedded server
	name   string   // name of the JetStream stream and first part of its subjects
}

const (
	// unixPrefix marks an address that is the path of a Unix socket.
	unixPrefix = "unix:"

	// defaultListen has NATS's own port, on all addresses: the relays of other machines must reach it.
	defaultListen = ":4222"
)

// validName matches the values of -name. NATS accepts each of them as a name of a JetStream stream and as a
// part of a subject.
var validName = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)

// parseFlags parses the command line. Its error is one line for the user. For -h it writes the usage to help
// and returns flag.ErrHelp.
func parseFlags(args []string, help io.Writer) (config, error) {
	cfg := config{listen: defaultListen, name: "chat"}
	flags := flag.NewFlagSet("relay", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	flags.Func("chat", "the `URL` of the chat's -relay: ws://127.0.0.1:8090/relay, or unix:PATH", func(s string) error {
		cfg.chat = s
		return checkChat(s)
	})
	flags.Func("nats", "`URLs` of an existing NATS with JetStream: nats://a.example:4222,nats://b.example:4222 (default: run an embedded one)", func(s string) error {
		cfg.nats = strings.Split(s, ",")
		return checkNATS(cfg.nats)
	})
	flags.Func("listen", "`host:port` at which other relays reach the embedded NATS (default "+defaultListen+")", func(s string) error {
		cfg.listen = s
		return checkListen(s)
	})
	flags.StringVar(&cfg.store, "store", "", "`directory` for the files of the embedded NATS (default: chat-relay/PORT in the user's cache directory)")
	flags.Func("name", "`name` of the JetStream stream; chats whose relays use the same name are connected (default chat)", func(s string) error {
		cfg.name = s
		if !validName.MatchString(s) {
			return errors.New("want up to 64 letters, digits, - and _")
		}
		return nil
	})
	err := flags.Parse(args)
	if errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(help, "relay connects a chat with other chats through NATS JetStream.\n\nUsage: relay -chat URL [flags]")
		flags.SetOutput(help)
		flags.PrintDefaults()
	}
	if err == nil {
		err = cfg.complete(flags)
	}
	return cfg, err
}

// complete checks the flags against each other, and sets the default of -store.
func (cfg *config) complete(flags *flag.FlagSet) (err error) {
	var embedded string // a flag on the command line that configures the embedded server
	flags.Visit(func(f *flag.Flag) {
		if f.Name == "listen" || f.Name == "store" {
			embedded = f.Name
		}
	})
	switch {
	case flags.NArg() > 0:
		return fmt.Errorf("unexpected argument %q: relay accepts flags only, see relay -h", flags.Arg(0))
	case cfg.chat == "":
		return errors.New("-chat is missing: want -chat ws://127.0.0.1:8090/relay for a chat with -relay 127.0.0.1:8090")
	case embedded != "" && len(cfg.nats) > 0:
		return fmt.Errorf("-%s and -nats exclude each other: -%[1]s configures the embedded NATS, which runs only without -nats", embedded)
	case cfg.store == "" && len(cfg.nats) == 0:
		cfg.store, err = defaultStore(cfg.listen)
	}
	return err
}

// defaultStore returns the default of -store. It depends on the port of -listen, so that two relays of one
// machine don't share a directory.
func defaultStore(listen string) (string, error) {
	caches, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("-store is missing and has no default here: %w", err)
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
