// Package certfile serves a TLS certificate from two files, and reloads it when the files change. So a
// renewed certificate needs neither a signal nor a restart.
package certfile

import (
	"crypto/tls"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"
)

// checkPeriod is the time for which a certificate is served without a look at the files. It bounds the cost
// of a handshake, and a renewed certificate is used soon enough.
const checkPeriod = time.Second

// maxFile is the largest size of a file in bytes. A certificate with its chain has some KB.
const maxFile = 1 << 20

// Certificate is a certificate and its key, from two files. Any goroutine may call Get.
type Certificate struct {
	certFile, keyFile string // set at construction

	mu sync.Mutex

	// Guarded by mu.
	current *tls.Certificate
	version [2]time.Time // modification times of the two files from which current was read
	checked time.Time    // when Get last checked the files
	failure string       // error of that check, or empty
}

// Load reads a certificate and its key from two files in PEM. A key of another certificate is an error.
// After an error, the Certificate must not be used.
func Load(certFile, keyFile string) (*Certificate, error) {
	c := &Certificate{certFile: certFile, keyFile: keyFile}
	return c, c.reloadLocked() // no lock, because c is not shared yet
}

// Get returns the certificate for a handshake. It is for tls.Config.GetCertificate. At most once a second,
// it checks whether the files have changed, and reads them again. If that fails, it logs the error, unless
// the check before failed with the same one, and returns the certificate that it has. The error of Get is
// always nil.
func (c *Certificate) Get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if now := time.Now(); now.Sub(c.checked) >= checkPeriod {
		c.checked = now
		c.logLocked(c.reloadLocked())
	}
	return c.current, nil
}

// reloadLocked reads the files if they have changed. After an error, c is unchanged, and the next call
// tries again.
func (c *Certificate) reloadLocked() error {
	var version [2]time.Time
	for i, name := range []string{c.certFile, c.keyFile} {
		info, err := os.Stat(name)
		if err != nil {
			return err
		}
		if !info.Mode().IsRegular() || info.Size() > maxFile {
			return fmt.Errorf("%s: not a regular file of at most 1 MiB", name) // reading a pipe would hang all handshakes
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

// logLocked logs err, unless it is nil or the same as at the check before.
func (c *Certificate) logLocked(err error) {
	failure := ""
	if err != nil {
		failure = err.Error()
	}
	if failure != "" && failure != c.failure {
		slog.Warn("certificate not renewed", "err", err)
	}
	c.failure = failure
}
