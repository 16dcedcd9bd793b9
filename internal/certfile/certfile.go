// Package certfile serves a TLS certificate from files, and reloads them when they change.
package certfile

import (
	"crypto/tls"
	"log/slog"
	"os"
	"sync"
	"time"
)

// checkPeriod is how often the files are looked at.
const checkPeriod = time.Second

// Certificate is a certificate and its key, in two files. Any goroutine may call its methods.
type Certificate struct {
	certFile, keyFile string

	mu      sync.Mutex
	current *tls.Certificate
	version [2]time.Time // when the files that current is from were changed
	checked time.Time
	failure string // what was wrong when they were last looked at, if anything
}

// Load reads both files, which are in PEM. The error says what is wrong with them, or that the key
// is another certificate's.
func Load(certFile, keyFile string) (*Certificate, error) {
	c := &Certificate{certFile: certFile, keyFile: keyFile}
	return c, c.reload()
}

// Get returns the certificate for a handshake, as tls.Config.GetCertificate. Once a second it looks
// whether the files have changed. If there is something wrong with them it logs that, once, and
// returns the certificate from before.
func (c *Certificate) Get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if now := time.Now(); now.Sub(c.checked) >= checkPeriod {
		c.checked = now
		c.log(c.reload())
	}
	return c.current, nil
}

// reload reads the files if they have changed. With an error, c remains as it was.
func (c *Certificate) reload() error {
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
		slog.Info("certificate renewed", "expires", pair.Leaf.NotAfter)
	}
	c.current, c.version = &pair, version
	return nil
}

// log logs err, if that is not known already.
func (c *Certificate) log(err error) {
	failure := ""
	if err != nil {
		failure = err.Error()
	}
	if failure != "" && failure != c.failure {
		slog.Warn("certificate not renewed", "err", err)
	}
	c.failure = failure
}
