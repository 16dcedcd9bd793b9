package certfile

import (
	"os"
	"testing"
	"time"

	"example.com/chat/internal/wstest"
)

// What changes in the files is taken over, if it is a certificate and its key.
func TestCertificateIsReadAgain(t *testing.T) {
	certFile, keyFile := wstest.NewCertificate(t)
	c, err := Load(certFile, keyFile)
	if err != nil {
		t.Fatal(err)
	}
	written := time.Now()
	expect := func(name string) {
		t.Helper()
		c.checked = time.Time{} // as if checkPeriod were over
		got, err := c.Get(nil)
		if err != nil || got.Leaf.Subject.CommonName != name {
			t.Fatal(got.Leaf.Subject, err)
		}
	}
	touch := func() { // file systems may not tell two writes in a row apart
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
	wstest.WriteCertificate(t, certFile, otherKey, "third, whose key is not there yet")
	touch()
	expect("second")
	os.Rename(otherKey, keyFile)
	touch()
	expect("third, whose key is not there yet")

	os.WriteFile(certFile, []byte("half a certif"), 0o600)
	touch()
	expect("third, whose key is not there yet")
	os.Remove(certFile)
	expect("third, whose key is not there yet")
	wstest.WriteCertificate(t, certFile, keyFile, "fourth")
	touch()
	expect("fourth")
}
