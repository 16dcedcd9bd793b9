// Command chat serves a web chat. Beside the standard library it needs golang.org/x/net/websocket alone.
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
	"os/signal"
	"sync"
	"syscall"
	"time"

	"example.com/chat/internal/gctune"
)

// The heap, with the stacks, is collected when it reaches minHeap, or has grown by gcPercent if that is
// later. A join leaves garbage: in a small chat that collects each 25 % it takes 1.3 times the CPU. A large
// chat is mostly idle connections, and takes gcPercent more memory than they need. GOGC in the environment
// overrides both.
const (
	minHeap   = 32 << 20
	gcPercent = 25
)

// httpShutdownTimeout is for a page that is on its way when the chat stops.
const httpShutdownTimeout = time.Second

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
	slog.SetDefault(slog.New(slog.NewTextHandler(os.Stderr, nil)))
	if err := run(cfg); err != nil {
		fmt.Fprintln(os.Stderr, "chat:", err)
		os.Exit(1)
	}
}

// run serves the chat until SIGINT or SIGTERM, or until it can't listen.
func run(cfg config) error {
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go func() {
		<-signals
		stop()
		second := <-signals // not signal.Reset: a program that was started with SIGINT ignored would ignore it again
		os.Exit(128 + int(second.(syscall.Signal)))
	}()

	listener, err := (&net.ListenConfig{KeepAlive: -1}).Listen(ctx, "tcp", cfg.addr) // the Hubs ping
	if err != nil {
		return err
	}
	defer listener.Close()
	var debugging net.Listener
	if cfg.debug != "" {
		if debugging, err = net.Listen("tcp", cfg.debug); err != nil {
			return err
		}
		defer debugging.Close()
	}
	var relays net.Listener
	if cfg.relay != "" {
		if relays, err = listenRelay(cfg.relay); err != nil {
			return err
		}
		defer relays.Close()
	}
	rooms, err := openRooms(cfg)
	if err != nil {
		return err
	}
	if debugging != nil {
		go serveDebug(debugging, &rooms.counters)
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
	err = serve(ctx, listener, relays, rooms)
	slog.Info("stopped")
	return err
}

// serve runs rooms and serves the chat on listener, and its relay on relays unless that is nil, until ctx is done.
// Then it drains rooms and waits for the connections to close. It returns the listener's error.
func serve(ctx context.Context, listener, relays net.Listener, rooms *rooms) error {
	ctx, stop := context.WithCancel(ctx)
	var running sync.WaitGroup
	running.Go(func() { rooms.run(ctx, relays) })
	server := newServer(rooms)
	running.Go(func() {
		<-ctx.Done()
		shutdownHTTP(server)
	})
	var err error
	if rooms.cfg.tls != nil {
		err = server.ServeTLS(listener, "", "")
	} else {
		err = server.Serve(listener)
	}
	stop()
	running.Wait()
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

// shutdownHTTP has server stop listening, and waits up to httpShutdownTimeout for responses.
func shutdownHTTP(server *http.Server) {
	ctx, cancel := context.WithTimeout(context.Background(), httpShutdownTimeout)
	defer cancel()
	server.Shutdown(ctx)
	server.Close()
}

// displayURL returns the URL of a server that was told to listen on addr, and listens on bound.
func displayURL(scheme, addr string, bound net.Addr) string {
	host, _, _ := net.SplitHostPort(addr)
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "localhost"
	}
	_, port, _ := net.SplitHostPort(bound.String())
	return scheme + "://" + net.JoinHostPort(host, port) + "/"
}
