package certfile

import (
	"os"
	"strings"
	"testing"
	"time"

	"example.com/chat/internal/wstest"
)

// After a change of the files, Get returns the new certificate if they are a certificate and its key, and
// otherwise the one before.
func TestCertificateIsReadAgain(t *testing.T) {
	certFile, keyFile := wstest.NewCertificate(t)
	c, err := Load(certFile, keyFile)
	if err != nil {
		t.Fatal(err)
	}
	written := time.Now()
	expect := func(name string) {
		t.Helper()
		c.checked = time.Time{} // lets Get check the files now
		got, err := c.Get(nil)
		if err != nil {
			t.Fatal(err)
		}
		if got := got.Leaf.Subject.CommonName; got != name {
			t.Fatalf("got certificate %q, want %q", got, name)
		}
	}
	touch := func() { // two writes in a row may get the same modification time
		written = written.Add(time.Second)
		for _, file := range []string{certFile, keyFile} {
			os.Chtimes(file, written, written)
		}
	}
	expect("first")
	wstest.WriteCertificate(t, certFile, keyFile, "second")
	touch()
	expect("second")

	otherKey := keyFile + ".new"
	wstest.WriteCertificate(t, certFile, otherKey, "third")
	touch()
	expect("second") // keyFile has the key of "second" still
	os.Rename(otherKey, keyFile)
	touch()
	expect("third")

	os.WriteFile(certFile, []byte("half a certif"), 0o600)
	touch()
	expect("third")
	os.Remove(certFile)
	expect("third")
	os.Mkdir(certFile, 0o700)
	expect("third")
	os.Remove(certFile)
	os.WriteFile(certFile, nil, 0o600)
	os.Truncate(certFile, 1<<30) // reading it would take a gigabyte of memory
	touch()
	expect("third")
	if want := "not a regular file of at most 1 MiB"; !strings.Contains(c.failure, want) {
		t.Errorf("got the failure %q, want %q", c.failure, want)
	}
	os.Remove(certFile)
	wstest.WriteCertificate(t, certFile, keyFile, "fourth")
	touch()
	expect("fourth")
}
