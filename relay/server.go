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
	// readyWait limits how long the embedded server may take to read its files and to listen.
	readyWait = 30 * time.Second

	// readyPoll is how often the relay looks for an error of a server that is starting.
	readyPoll = 50 * time.Millisecond

	// maxPayload is the number of bytes in the largest message that the embedded server accepts. It is the
	// most that NATS recommends, so that lines of a chat with a large -max-message fit.
	maxPayload = 8 << 20

	// maxStore limits the files of the embedded server, in bytes. The default is the free space on the disk
	// at the start, which may be too little at that moment. The JetStream stream has its own limit.
	maxStore = 1 << 40

	// syncInterval is how often the embedded server syncs its files to the disk. A power loss may cost the
	// messages since the last sync, so it must be well below the 3 minutes for which chats hold lines after
	// an acknowledgement.
	syncInterval = 10 * time.Second
)

// embeddedServer is the NATS server in this process. Only one goroutine may use it.
type embeddedServer struct {
	cfg    config
	server *server.Server // nil while it does not run
}

// runSession starts the server if it does not run, and then runs a session with it. It returns a
// permanentError if the server does not start.
func (e *embeddedServer) runSession(ctx context.Context, options []nats.Option, up func()) (err error) {
	if e.server == nil {
		if e.server, err = startServer(e.cfg); err != nil {
			return permanentError{err}
		}
	}
	cfg := e.cfg
	cfg.nats = []string{e.server.ClientURL()}
	err = runSession(ctx, cfg, options, up)
	if errors.Is(err, errNotStored) { // after a failed write a server stores nothing until it starts again
		e.stop()
	}
	return err
}

// stop stops the server if it runs.
func (e *embeddedServer) stop() {
	if e.server != nil {
		stopServer(e.server)
		e.server = nil
	}
}

// startServer starts a NATS server with JetStream in this process, and waits until it serves. Clients need
// the user and password in NATS_USER and NATS_PASSWORD if these are set.
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
		return nil, fmt.Errorf("configuring NATS: %w", err)
	}
	log := serverLog{make(chan string, 10)}
	embedded.SetLoggerV2(log, false, false, false)
	embedded.Start()
	if err := waitReady(embedded, log.fatal); err != nil {
		stopServer(embedded)
		return nil, fmt.Errorf("starting NATS with -listen %q and -store %q: %w", cfg.listen, cfg.store, err)
	}
	slog.Info("NATS is running", "listen", embedded.Addr().String(), "store", cfg.store)
	if ip := net.ParseIP(host); host != "localhost" && !ip.IsLoopback() && os.Getenv("NATS_PASSWORD") == "" {
		slog.Warn("NATS has no password, and anyone who can reach it can send lines under any name: set NATS_USER and NATS_PASSWORD for all relays, or -listen to an address of a private network")
	}
	return embedded, nil
}

// waitReady waits until the server accepts clients and JetStream works. It returns the first fatal error of
// the server, or an error after readyWait.
func waitReady(embedded *server.Server, fatal <-chan string) error {
	for began := time.Now(); time.Since(began) < readyWait; {
		select {
		case problem := <-fatal:
			return errors.New(problem)
		default:
		}
		if embedded.ReadyForConnections(readyPoll) && embedded.JetStreamEnabled() {
			return nil
		}
	}
	return fmt.Errorf("not ready after %v", readyWait)
}

// stopServer stops a server and waits until it has closed its files.
func stopServer(embedded *server.Server) {
	embedded.Shutdown()
	embedded.WaitForShutdown()
}

// serverLog is the embedded server's logger. It logs errors and warnings, and sends fatal errors to
// waitReady.
type serverLog struct{ fatal chan string }

func (l serverLog) Fatalf(format string, v ...any) {
	select {
	case l.fatal <- fmt.Sprintf(format, v...):
	default: // waitReady returns an earlier one
	}
}
func (l serverLog) Errorf(format string, v ...any) { slog.Error("NATS: " + fmt.Sprintf(format, v...)) }
func (l serverLog) Warnf(format string, v ...any)  { slog.Warn("NATS: " + fmt.Sprintf(format, v...)) }
func (l serverLog) Noticef(string, ...any)         {}
func (l serverLog) Debugf(string, ...any)          {}
func (l serverLog) Tracef(string, ...any)          {}
