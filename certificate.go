// certificate.go: TLS: the certificate, read again when its file changes, and connections
// that are read to the end when the chat stops.

package main

import (
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"os"
	"sync"
	"time"
)

// certificate is a certificate and its key, in two files. Its get may be called from any
// goroutine.
type certificate struct {
	certFile, keyFile string

	mu      sync.Mutex
	current *tls.Certificate
	version [2]time.Time // when the files that current is from were changed
	checked time.Time
	failure string // what was wrong when they were last looked at, if anything
}

// checkPeriod is how often the files are looked at.
const checkPeriod = time.Second

// loadCertificate reads both files, which must be in PEM, and belong together.
func loadCertificate(certFile, keyFile string) (*certificate, error) {
	c := &certificate{certFile: certFile, keyFile: keyFile}
	return c, c.load()
}

// load reads the files if they have changed. With an error, c remains as it was.
func (c *certificate) load() error {
	var version [2]time.Time
	for i, name := range []string{c.certFile, c.keyFile} {
		info, err := os.Stat(name)
		if err != nil {
			return err
		}
		version[i] = info.ModTime()
	}
	if version == c.version {
		return nil
	}
	pair, err := tls.LoadX509KeyPair(c.certFile, c.keyFile)
	if err != nil {
		return err
	}
	if c.current != nil {
		slog.Info("the certificate was renewed", "expires", pair.Leaf.NotAfter)
	}
	c.current, c.version = &pair, version
	return nil
}

// get returns the certificate for a handshake. As long as there is something wrong with
// changed files, that is the one from before.
func (c *certificate) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if now := time.Now(); now.Sub(c.checked) >= checkPeriod {
		c.checked = now
		c.report(c.load())
	}
	return c.current, nil
}

// report logs err, if that is not known already.
func (c *certificate) report(err error) {
	failure := ""
	if err != nil {
		failure = err.Error()
	}
	if failure != "" && failure != c.failure {
		slog.Warn("the certificate can't be renewed", "err", err)
	}
	c.failure = failure
}

// patientListener accepts the connections under those of crypto/tls, which reads several
// times for a record. Any of these reads may find that the deadline has passed while its
// goroutine was not awake; when the chat stops it tries again, so that nothing is left
// that had come before.
type patientListener struct {
	net.Listener
	hub *Hub
}

func (l patientListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return patientConn{conn, l.hub}, nil
}

type patientConn struct {
	net.Conn
	hub *Hub
}

func (c patientConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if errors.Is(err, os.ErrDeadlineExceeded) && c.hub.stopping() {
		c.Conn.SetReadDeadline(time.Now().Add(lastPause))
		n, err = c.Conn.Read(p)
	}
	return n, err
}
