package main

import (
	"cmp"
	"errors"
	"flag"
	"fmt"
	"io"
	"math"
	"net"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"example.com/chat/internal/certfile"
	"example.com/chat/internal/relayserver"
	"example.com/chat/internal/ws"
)

// config has the values of the flags.
type config struct {
	addr       string                // host:port to listen on
	maxMessage int                   // bytes in a client's message
	history    int                   // lines of each room that are kept in memory
	tls        *certfile.Certificate // nil without TLS
	origins    []ws.Origin           // origins whose pages may connect beside the server's own
	rate       int                   // messages a second that each connection may send; 0 for no limit
	memory     int                   // MiB for the program, about
	maxConns   int                   // connections in all rooms
	rooms      int                   // named rooms
	state      string                // directory in which rooms survive a restart, or ""
	title      string                // of the page
	relay      string                // host:port, or unix:PATH, at which to wait for a relay, or ""
	debug      string                // host:port for counters and profiles, or ""
}

// defaults is the config of a command line without flags.
var defaults = config{addr: ":8080", maxMessage: 4096, history: 256, memory: 640, rooms: 1000, title: "Chat"}

const (
	// maxTitle is the number of characters in -title.
	maxTitle = 60

	// connCost is the number of bytes that a connection takes at most, with a message of 4 KiB that has arrived in
	// part: 14 KB were measured. tlsCost is what TLS adds: 12 KB.
	connCost = 16 << 10
	tlsCost  = 16 << 10

	// headCost is the number of bytes that a connection takes at most while the head of a request arrives, with 2,000
	// headers and garbage: 125 KB were measured. With the ten headers of a browser it takes some 10 KB. responseCost
	// is what it takes at most while a response is written, with maxHeaders headers.
	headCost     = 128 << 10
	responseCost = 32 << 10

	// roomCost is the number of bytes that an empty room takes: 10 KB were measured.
	roomCost = 16 << 10
)

// lineMemory returns the number of bytes for lines of all rooms: three eighths of -memory. With what the other parts may
// take, this leaves an eighth for garbage, because a collection on a busy machine takes long.
func (c *config) lineMemory() int64 { return int64(c.memory) << 20 / 8 * 3 }

// httpConns returns the number of connections that may wait for the head of a request, and of all that may be open
// beside WebSockets. The former may take a sixteenth of -memory.
func (c *config) httpConns() (heads, all int) {
	heads = c.memory << 20 / 16 / headCost
	return heads, 2 * heads
}

// heapMemory returns the number of bytes at which garbage is collected as often as it takes. What is left of
// -memory is for the program's code, and because Go exceeds such a limit by some percent.
func (c *config) heapMemory() int64 { return int64(c.memory)<<20/16*15 - 8<<20 }

// fit returns an error if the limits do not fit into -memory. Connections may take a quarter of it, rooms an
// eighth, and one message a sixteenth. If -max-conns is 0, fit sets it to the number of connections that fit.
func (c *config) fit() error {
	bytes, cost := int64(c.memory)<<20, int64(connCost+max(0, c.maxMessage-4<<10))
	if c.tls != nil {
		cost += tlsCost
	}
	conns, rooms := bytes/4/cost, bytes/8/roomCost
	c.maxConns = cmp.Or(c.maxConns, int(min(conns, math.MaxInt32)))
	for _, limit := range []struct {
		flag  string
		value int
		most  int64
	}{{"max-message", c.maxMessage, bytes / 16}, {"max-conns", c.maxConns, conns}, {"rooms", c.rooms, rooms}} {
		if int64(limit.value) > limit.most {
			return fmt.Errorf("-%s %d does not fit into -memory %d with -max-message %d: want at most %d, or more memory", limit.flag, limit.value, c.memory, c.maxMessage, limit.most)
		}
	}
	return nil
}

// parseFlags parses the command line. An error is one line with the flag, its value, and what would be right.
// For -h it writes the help to help and returns flag.ErrHelp.
func parseFlags(args []string, help io.Writer) (config, error) {
	cfg := defaults
	var cert, key string
	flags := flag.NewFlagSet("chat", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	flags.Func("addr", "listen on `host:port`; on every interface without a host (default :8080)", address(&cfg.addr))
	flags.Func("max-message", "longest message of a client, in `bytes` (default 4096)", number(&cfg.maxMessage, 1, 1<<30))
	flags.Func("history", "keep this many `lines` of each room in memory, for clients that join or come back (default 256)", number(&cfg.history, 0, 1<<20))
	flags.StringVar(&cert, "cert", "", "serve TLS with the certificate in this `file`, which is read again when it changes")
	flags.StringVar(&key, "key", "", "`file` with the private key of -cert")
	flags.Func("origins", "`origins` whose pages may connect beside this server's own: https://a.example,https://*.b.example", func(s string) (err error) {
		cfg.origins, err = ws.ParseOrigins(s)
		return err
	})
	flags.Func("rate", "read at most this many `messages` a second from each connection (default 0: no limit)", number(&cfg.rate, 0, 1<<20))
	flags.Func("memory", "take about this much memory, in `MiB`, for lines, connections and the rest (default 640)", number(&cfg.memory, 128, 1<<20))
	flags.Func("max-conns", "accept at most this many `connections` (default 0: as many as fit into -memory)", number(&cfg.maxConns, 0, 1<<30))
	flags.Func("rooms", "open at most this many named `rooms`, each at /NAME/; 0: only the one at / (default 1000)", number(&cfg.rooms, 0, 1<<20))
	flags.StringVar(&cfg.state, "state", "", "store the last lines of each room in this `directory`, so that they survive a restart")
	flags.Func("title", "`text` that the page shows as its title (default Chat)", title(&cfg.title))
	flags.Func("relay", "wait at this loopback `address`, or unix:PATH, for a relay that connects this chat with others (default: none)", relayAddress(&cfg.relay))
	flags.Func("debug", "serve counters and profiles, without a password, on this `host:port` (default: none)", address(&cfg.debug))
	err := flags.Parse(args)
	if errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(help, "chat serves a web chat.\n\nUsage: chat [flags]")
		flags.SetOutput(help)
		flags.PrintDefaults()
	}
	if err == nil && flags.NArg() > 0 {
		err = fmt.Errorf("unexpected argument %q: there are only flags, see chat -h", flags.Arg(0))
	}
	if err == nil && cert+key != "" {
		cfg.tls, err = loadCertificate(cert, key)
	}
	if err == nil {
		err = cfg.fit()
	}
	return cfg, err
}

// loadCertificate loads the files of -cert and -key.
func loadCertificate(cert, key string) (*certfile.Certificate, error) {
	switch {
	case key == "":
		return nil, fmt.Errorf("-cert %q needs its key: add -key file", cert)
	case cert == "":
		return nil, fmt.Errorf("-key %q needs its certificate: add -cert file", key)
	}
	c, err := certfile.Load(cert, key)
	if err != nil {
		return nil, fmt.Errorf("-cert %q with -key %q: %w; want a certificate and its key, each in PEM", cert, key, err)
	}
	return c, nil
}

// address returns a function for flag.Func that checks a host:port and stores it in to.
func address(to *string) func(string) error {
	return func(s string) error {
		*to = s
		_, port, err := net.SplitHostPort(s)
		if err == nil {
			_, err = net.LookupPort("tcp", port)
		}
		if err != nil {
			return errors.New("want host:port or :port, such as :8080")
		}
		return nil
	}
}

// relayAddress returns a function for flag.Func that checks an address that only this machine can reach, and stores
// it in to.
func relayAddress(to *string) func(string) error {
	return func(s string) error {
		*to = s
		if path, ok := strings.CutPrefix(s, relayserver.UnixPrefix); ok && path != "" {
			return nil
		}
		host, _, _ := net.SplitHostPort(s)
		if err := address(to)(s); err != nil || host != "localhost" && !net.ParseIP(host).IsLoopback() {
			return errors.New("want an address that only this machine can reach, such as 127.0.0.1:8090 or unix:/run/chat/relay.sock: a relay can speak in anyone's name")
		}
		return nil
	}
}

// number returns a function for flag.Func that checks a number and stores it in to.
func number(to *int, least, most int) func(string) error {
	return func(s string) (err error) {
		*to, err = strconv.Atoi(s)
		if err != nil || *to < least || *to > most {
			return fmt.Errorf("want a number from %d to %d", least, most)
		}
		return nil
	}
}

// title returns a function for flag.Func that checks a title and stores it in to.
func title(to *string) func(string) error {
	return func(s string) error {
		*to = strings.TrimSpace(s)
		if n := utf8.RuneCountInString(*to); n < 1 || n > maxTitle || !utf8.ValidString(s) || strings.ContainsFunc(s, unicode.IsControl) {
			return fmt.Errorf("want 1 to %d characters, in one line", maxTitle)
		}
		return nil
	}
}
