package main

import (
	"crypto/tls"
	"log/slog"
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
