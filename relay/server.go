package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
)

const (
	// Time for the embedded server to read its files and to listen.
	readyWait = 30 * time.Second
	readyPoll = 50 * time.Millisecond

	// Bytes in a message that the embedded server takes: the most that NATS recommends. A line of a chat with a
	// large -max-message has to fit in.
	maxPayload = 8 << 20

	// Bytes that the embedded server may store. By default it takes what is free on the disk when it starts, which may
	// be nothing for the moment; streams have limits of their own.
	maxStore = 1 << 40

	// What the embedded server has acknowledged is written onto the disk with this period. A chat holds it longer.
	syncInterval = 10 * time.Second
)

// ownServer is the NATS that the relay runs.
type ownServer struct {
	cfg    config
	server *server.Server // nil while it does not run
}

// runSession is runSession with the embedded server, which it starts if it does not run.
func (e *ownServer) runSession(ctx context.Context, options []nats.Option, up func()) (err error) {
	if e.server == nil {
		if e.server, err = startServer(e.cfg); err != nil {
			return permanentError{err}
		}
	}
	cfg := e.cfg
	cfg.nats = []string{e.server.ClientURL()}
	err = runSession(ctx, cfg, options, up)
	if errors.Is(err, errNotStored) { // it stores nothing any more once it could not write, also if it could now
		e.stop()
	}
	return err
}

func (e *ownServer) stop() {
	if e.server != nil {
		stopServer(e.server)
		e.server = nil
	}
}

// startServer runs a NATS server with JetStream in this process. Clients need the user and password that the
// environment names, if it does.
func startServer(cfg config) (*server.Server, error) {
	host, port, _ := net.SplitHostPort(cfg.listen)
	number, err := net.LookupPort("tcp", port)
	if err != nil {
		return nil, err
	}
	if host == "" {
		host = server.DEFAULT_HOST
	}
	if number == 0 {
		number = server.RANDOM_PORT
	}
	embedded, err := server.NewServer(&server.Options{
		Host: host, Port: number, Username: os.Getenv("NATS_USER"), Password: os.Getenv("NATS_PASSWORD"),
		JetStream: true, JetStreamMaxStore: maxStore, StoreDir: cfg.store, SyncInterval: syncInterval, MaxPayload: maxPayload, NoSigs: true,
	})
	if err != nil {
		return nil, fmt.Errorf("NATS: %w", err)
	}
	log := serverLog{make(chan string, 10)}
	embedded.SetLoggerV2(log, false, false, false)
	embedded.Start()
	if problem := waitReady(embedded, log.fatal); problem != "" {
		stopServer(embedded)
		return nil, fmt.Errorf("NATS does not run with -listen %q and -store %q: %s", cfg.listen, cfg.store, problem)
	}
	slog.Info("NATS is running", "listen", embedded.Addr().String(), "store", cfg.store)
	if ip := net.ParseIP(host); host != "localhost" && !ip.IsLoopback() && os.Getenv("NATS_PASSWORD") == "" {
		slog.Warn("anyone who can reach this NATS can speak in anyone's name: set NATS_USER and NATS_PASSWORD for all relays, or -listen to an address of a private network")
	}
	return embedded, nil
}

// waitReady waits until the server can be used. It returns why it can't be.
func waitReady(embedded *server.Server, fatal <-chan string) (problem string) {
	for began := time.Now(); time.Since(began) < readyWait; {
		select {
		case problem := <-fatal:
			return problem
		default:
		}
		if embedded.ReadyForConnections(readyPoll) && embedded.JetStreamEnabled() {
			return ""
		}
	}
	return fmt.Sprint("it is not ready after ", readyWait)
}

func stopServer(embedded *server.Server) {
	embedded.Shutdown()
	embedded.WaitForShutdown()
}

// serverLog logs what the embedded server says of problems.
type serverLog struct{ fatal chan string }

func (l serverLog) Fatalf(format string, v ...any) {
	select {
	case l.fatal <- fmt.Sprintf(format, v...):
	default: // it fails already
	}
}
func (l serverLog) Errorf(format string, v ...any) { slog.Error("NATS: " + fmt.Sprintf(format, v...)) }
func (l serverLog) Warnf(format string, v ...any)  { slog.Warn("NATS: " + fmt.Sprintf(format, v...)) }
func (l serverLog) Noticef(string, ...any)         {}
func (l serverLog) Debugf(string, ...any)          {}
func (l serverLog) Tracef(string, ...any)          {}
