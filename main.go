// Command chat serves a web chat on golang.org/x/net/websocket.
//
// The program mirrors the older chat example of gorilla/websocket. wsHandler makes a Conn of each WebSocket. A
// Conn has two goroutines: readPump hands the client's lines to the Hub of the room, and writePump writes the
// frames that the Hub sends. rooms.go runs a Hub for each room. The other additions, such as resuming, relays
// and persistence, are packages under internal.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"runtime/debug"
	"sync"
	"time"

	"example.com/chat/internal/gctune"
	"example.com/chat/internal/logqueue"
	"example.com/chat/internal/metrics"
	"example.com/chat/internal/relayserver"
	"example.com/chat/internal/stopsignal"
)

const (
	// minHeap is the number of bytes of heap and stacks below which the garbage collector does not run. Joins
	// leave garbage, and a small heap that is collected at each gcPercent of growth costs 1.3 times the CPU of
	// a join (bench/RESULTS.md).
	minHeap = 32 << 20

	// gcPercent is the growth, in percent, at which a larger heap is collected. Idle connections make up most
	// of such a heap, and it takes up to that much more memory than they need. GOGC in the environment
	// overrides both constants.
	gcPercent = 25

	// httpShutdownTimeout limits how long a stopping server waits for responses in progress.
	httpShutdownTimeout = time.Second
)

func main() {
	if os.Getenv("GOGC") == "" {
		gctune.Start(minHeap, gcPercent)
	}
	cfg, err := parseFlags(os.Args[1:], os.Stdout)
	if errors.Is(err, flag.ErrHelp) {
		return
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "chat:", err)
		os.Exit(2)
	}
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(cfg.heapMemory())
	}
	log := logqueue.Start()
	if err = run(cfg); err != nil {
		fmt.Fprintln(log, "chat:", err)
	}
	log.Close()
	if err != nil {
		os.Exit(1)
	}
}

// run serves the chat until a signal stops it. Its error says why the chat can't listen, open -state, or serve.
func run(cfg config) error {
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	stopsignal.Notify(stop)

	listener, err := (&net.ListenConfig{KeepAlive: -1}).Listen(ctx, "tcp", cfg.addr) // no keepalives, because the Hubs ping
	if err != nil {
		return err
	}
	defer listener.Close()
	var debugging, relays net.Listener
	if cfg.debug != "" {
		if debugging, err = net.Listen("tcp", cfg.debug); err != nil {
			return err
		}
		defer debugging.Close()
	}
	if cfg.relay != "" {
		if relays, err = relayserver.Listen(cfg.relay); err != nil {
			return err
		}
		defer relays.Close()
	}
	c, err := openChat(ctx, cfg)
	if errors.Is(err, context.Canceled) {
		slog.Info("stopped during the start")
		return nil
	}
	if err != nil {
		return err
	}
	if debugging != nil {
		go metrics.ServeDebug(debugging, c.shared.counters)
		slog.Info("counters and profiles", "url", displayURL("http", cfg.debug, debugging.Addr())+"debug/vars")
	}
	scheme := "http"
	if cfg.tls != nil {
		scheme = "https"
	}
	slog.Info("listening", "url", displayURL(scheme, cfg.addr, listener.Addr()))
	if relays != nil {
		slog.Info("waiting for a relay", "address", cfg.relay)
	}
	err = serve(ctx, listener, relays, c)
	slog.Info("stopped")
	return err
}

// serve runs c until ctx is done or listener fails, and waits until c has stopped. Clients connect to listener, and
// relays to relays, which may be nil. After a stop it returns nil, and otherwise the listener's error.
func serve(ctx context.Context, listener, relays net.Listener, c *chat) error {
	ctx, stop := context.WithCancel(ctx)
	var running sync.WaitGroup
	running.Go(func() { c.run(ctx, relays) })
	server, clients := newServer(c), clientListener{listener, c.shared.readers}
	running.Go(func() {
		<-ctx.Done()
		shutdownHTTP(server)
	})
	var err error
	if c.cfg.tls != nil {
		err = server.ServeTLS(clients, "", "")
	} else {
		err = server.Serve(clients)
	}
	stop()
	running.Wait()
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

// shutdownHTTP has server stop listening, and waits up to httpShutdownTimeout for responses in progress.
func shutdownHTTP(server *http.Server) {
	ctx, cancel := context.WithTimeout(context.Background(), httpShutdownTimeout)
	defer cancel()
	server.Shutdown(ctx)
	server.Close()
}

// displayURL returns a URL that people can open. addr is the configured address, and bound the one that the
// listener has.
func displayURL(scheme, addr string, bound net.Addr) string {
	host, _, _ := net.SplitHostPort(addr)
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "localhost"
	}
	_, port, _ := net.SplitHostPort(bound.String())
	return scheme + "://" + net.JoinHostPort(host, port) + "/"
}
