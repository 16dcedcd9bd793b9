// certificate_test.go: TLS, and certificates that change.

package main

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/websocket"
)

// writeCertificate writes a certificate that nobody has signed, for 127.0.0.1, and its key.
func writeCertificate(t testing.TB, certFile, keyFile, name string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name},
		NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	writePEM(t, keyFile, "PRIVATE KEY", der)
	writePEM(t, certFile, "CERTIFICATE", cert)
}

func writePEM(t testing.TB, file, kind string, der []byte) {
	t.Helper()
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
}

// newCertificate makes one, called "first".
func newCertificate(t testing.TB) *certificate {
	t.Helper()
	dir := t.TempDir()
	certFile, keyFile := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	writeCertificate(t, certFile, keyFile, "first")
	c, err := loadCertificate(certFile, keyFile)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// startTLSServer runs the chat with TLS.
func startTLSServer(t testing.TB) (addr string) {
	t.Helper()
	return startWithCertificate(t, newCertificate(t))
}

func startWithCertificate(t testing.TB, c *certificate) (addr string) {
	t.Helper()
	cfg := defaults
	cfg.tls = c
	addr, _, _ = startWith(t, cfg)
	return addr
}

// dialTLS connects without asking who has signed the certificate.
func dialTLS(t testing.TB, addr string) *tls.Conn {
	t.Helper()
	conn := tls.Client(dial(t, addr), &tls.Config{InsecureSkipVerify: true})
	if err := conn.Handshake(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

func TestTLS(t *testing.T) {
	addr := startTLSServer(t)
	ann, bob := upgrade(t, dialTLS(t, addr)), upgrade(t, dialTLS(t, addr))
	ann.send(websocket.TextFrame, "hello")
	ann.expect(websocket.TextFrame, "hello")
	bob.expect(websocket.TextFrame, "hello")
	bob.send(websocket.CloseFrame, "\x03\xe8")
	bob.expectClose(1000)
}

// Browsers ask for the page over HTTP/2, and for the WebSocket over HTTP/1.1. Whoever
// does otherwise is told so.
func TestHTTP2(t *testing.T) {
	addr := startTLSServer(t)
	transport := &http.Transport{ForceAttemptHTTP2: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
	defer transport.CloseIdleConnections()
	for path, status := range map[string]int{"/": 200, "/assets/jquery.min.js": 200, "/ws": 426} {
		r, err := http.NewRequest("GET", "https://"+addr+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		if path == "/ws" {
			r.Header = http.Header{"Sec-Websocket-Version": {"13"}, "Sec-Websocket-Key": {"dGhlIHNhbXBsZSBub25jZQ=="}}
		}
		response, err := transport.RoundTrip(r)
		if err != nil {
			t.Fatal(err)
		}
		if h := response.Header; h.Get("Connection")+h.Get("Upgrade") != "" {
			t.Errorf("%s: headers that HTTP/2 forbids (RFC 9113, section 8.2.2): %v", path, h)
		}
		body, err := io.ReadAll(response.Body)
		response.Body.Close()
		if response.ProtoMajor != 2 || response.StatusCode != status || len(body) == 0 || err != nil {
			t.Errorf("%s: %s %s, %d bytes, %v", path, response.Proto, response.Status, len(body), err)
		}
	}
}

// A last message and the end of a TLS connection may come in one read, before TLS 1.3.
func TestLastWordsOverTLS(t *testing.T) {
	addr := startTLSServer(t)
	ann := upgrade(t, dialTLS(t, addr))
	held := &holding{Conn: dial(t, addr)}
	bob := tls.Client(held, &tls.Config{InsecureSkipVerify: true, MaxVersion: tls.VersionTLS12})
	p := upgrade(t, bob)
	text := strings.Repeat("x", 3000)
	held.hold = true
	p.send(websocket.TextFrame, text)
	bob.CloseWrite()
	held.SetDeadline(time.Now().Add(time.Minute)) // CloseWrite has let that for writing pass
	if _, err := held.Conn.Write(held.held); err != nil {
		t.Fatal(err)
	}
	ann.expect(websocket.TextFrame, text)
}

// holding is a connection that holds back what is written when it is told to.
type holding struct {
	net.Conn
	hold bool
	held []byte
}

func (h *holding) Write(b []byte) (int, error) {
	if h.hold {
		h.held = append(h.held, b...)
		return len(b), nil
	}
	return h.Conn.Write(b)
}

func TestCertificateIsReadAgain(t *testing.T) {
	c := newCertificate(t)
	certFile, keyFile := c.certFile, c.keyFile
	written := time.Now()
	expect := func(name string) {
		t.Helper()
		c.checked = time.Time{} // as if checkPeriod were over
		got, err := c.get(nil)
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
	writeCertificate(t, certFile, keyFile, "second")
	touch()
	expect("second")

	otherKey := keyFile + ".new"
	writeCertificate(t, certFile, otherKey, "third, whose key is not there yet")
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
	writeCertificate(t, certFile, keyFile, "fourth")
	touch()
	expect("fourth")
}

// A running server takes a new certificate over, and keeps its connections.
func TestRenewal(t *testing.T) {
	t.Parallel()
	c := newCertificate(t)
	addr := startWithCertificate(t, c)
	ann := upgrade(t, dialTLS(t, addr))
	writeCertificate(t, c.certFile, c.keyFile, "second")
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(checkPeriod / 10) {
		conn := dialTLS(t, addr)
		conn.Close()
		if conn.ConnectionState().PeerCertificates[0].Subject.CommonName == "second" {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("still the old certificate")
		}
	}
	ann.send(websocket.TextFrame, "still here")
	ann.expect(websocket.TextFrame, "still here")
}

// A client may ask for a new key when nothing has been written for long (RFC 8446, section
// 4.6.3). crypto/tls answers that by itself, in the goroutine that reads, and must not find
// the write deadline of the last message.
func TestKeyUpdateAfterALongSilence(t *testing.T) {
	cfg := defaults
	cfg.tls = newCertificate(t)
	synctest.Test(t, func(t *testing.T) {
		l, _ := startInBubbleWith(t, cfg)
		ann := upgrade(t, tls.Client(l.dial(t), &tls.Config{InsecureSkipVerify: true}))
		var keys strings.Builder
		raw := l.dial(t)
		bob := tls.Client(raw, &tls.Config{InsecureSkipVerify: true, KeyLogWriter: &keys})
		p := upgrade(t, bob) // one record
		ann.send(websocket.TextFrame, "hello")
		ann.expect(websocket.TextFrame, "hello")
		p.expect(websocket.TextFrame, "hello")
		time.Sleep(writeWait + time.Second)
		raw.Write(keyUpdate(t, bob.ConnectionState().CipherSuite, keys.String(), 1))
		ann.send(websocket.TextFrame, "with another key")
		ann.expect(websocket.TextFrame, "with another key")
		p.expect(websocket.TextFrame, "with another key")
	})
}

// keyUpdate returns a client's record that tells its key will change, and asks for the same
// of the server, of a connection on which the client has sent so many records of data.
func keyUpdate(t *testing.T, suite uint16, keyLog string, sent byte) []byte {
	t.Helper()
	if suite != tls.TLS_AES_128_GCM_SHA256 {
		t.Skipf("this test speaks %s alone", tls.CipherSuiteName(tls.TLS_AES_128_GCM_SHA256))
	}
	var secret []byte
	for line := range strings.Lines(keyLog) {
		if fields := strings.Fields(line); fields[0] == "CLIENT_TRAFFIC_SECRET_0" {
			secret, _ = hex.DecodeString(fields[2])
		}
	}
	// RFC 8446, sections 7.1 and 7.3: HKDF-Expand-Label(secret, label, "", length).
	expand := func(label string, length int) []byte {
		info := append([]byte{0, byte(length), byte(len("tls13 " + label))}, "tls13 "+label...)
		out, err := hkdf.Expand(sha256.New, secret, string(append(info, 0)), length)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	block, err := aes.NewCipher(expand("key", 16))
	if err != nil {
		t.Fatal(err)
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		t.Fatal(err)
	}
	nonce := expand("iv", aead.NonceSize())
	nonce[len(nonce)-1] ^= sent // section 5.3
	const handshake, applicationData, keyUpdate, requested = 22, 23, 24, 1
	inner := []byte{keyUpdate, 0, 0, 1, requested, handshake}
	header := []byte{applicationData, 3, 3, 0, byte(len(inner) + aead.Overhead())}
	return aead.Seal(header, nonce, inner, header)
}
