package main

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"crypto/tls"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	pathpkg "path"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/websocket"

	"example.com/chat/internal/certfile"
	"example.com/chat/internal/wstest"
)

func TestDisplayURL(t *testing.T) {
	bound := &net.TCPAddr{IP: net.IPv6loopback, Port: 8080}
	for addr, want := range map[string]string{
		":8080":             "http://localhost:8080/",
		":0":                "http://localhost:8080/",
		"0.0.0.0:8080":      "http://localhost:8080/",
		"[::]:8080":         "http://localhost:8080/",
		"[::1]:8080":        "http://[::1]:8080/",
		"chat.example:http": "http://chat.example:8080/",
	} {
		if got := displayURL("http", addr, bound); got != want {
			t.Errorf("%s: %s, want %s", addr, got, want)
		}
	}
}

func TestHTTP(t *testing.T) {
	addr, _ := startServer(t, 4096)
	const html, js, manifest = "text/html; charset=utf-8", "text/javascript; charset=utf-8", "application/manifest+json"
	for _, test := range []struct {
		method, path string
		status       int
		contentType  string
	}{
		{"GET", "/", 200, html},
		{"HEAD", "/", 200, html},
		{"GET", "/?anything", 200, html},
		{"GET", "/assets/jquery.min.js", 200, js},
		{"HEAD", "/assets/jquery.min.js", 200, js},
		{"GET", "/assets/", 200, html}, // a room, as any name
		{"GET", "/assets/chat.js", 200, js},
		{"GET", "/assets/icon.svg", 200, "image/svg+xml"},
		{"GET", "/manifest.webmanifest", 200, manifest},
		{"HEAD", "/room/manifest.webmanifest", 200, manifest},
		{"GET", "/assets/chat.css", 404, ""}, // it is in the page
		{"GET", "/assets/home.html", 404, ""},
		{"GET", "/main.go", 404, ""},
		{"GET", "/ws/", 200, html},
		{"POST", "/a/b", 404, ""},
		{"POST", "/room", 405, ""},
		{"POST", "/", 405, ""},
		{"DELETE", "/assets/jquery.min.js", 405, ""},
		{"PUT", "/ws", 405, ""},
	} {
		t.Run(test.method+" "+test.path, func(t *testing.T) {
			r, err := http.NewRequest(test.method, "http://"+addr+test.path, nil)
			if err != nil {
				t.Fatal(err)
			}
			response := wstest.RoundTrip(t, r)
			if response.StatusCode != test.status {
				t.Fatalf("status %s, want %d", response.Status, test.status)
			}
			body, err := io.ReadAll(response.Body)
			if err != nil || (len(body) == 0) != (test.method == "HEAD") {
				t.Errorf("a body of %d bytes, %v", len(body), err)
			}
			h := response.Header
			if got := h.Get("Allow"); (test.status == 405) != (got == "GET, HEAD") {
				t.Errorf("Allow: %q", got)
			}
			if got := h.Get("Content-Type"); test.contentType != "" && got != test.contentType {
				t.Errorf("Content-Type: %q, want %q", got, test.contentType)
			}
			if got := h.Get("X-Content-Type-Options"); got != "nosniff" {
				t.Errorf("X-Content-Type-Options: %q", got)
			}
			if got := h.Get("Referrer-Policy"); got != "no-referrer" {
				t.Errorf("Referrer-Policy: %q", got)
			}
			policy := h.Get("Content-Security-Policy")
			if !strings.HasPrefix(policy, "default-src 'none';") || strings.Contains(policy, "unsafe") || strings.Contains(policy, "'self'") != (test.contentType == html) {
				t.Errorf("Content-Security-Policy: %q", policy)
			}
			if test.status == 200 {
				checkETag(t, r, h.Get("ETag"))
			}
		})
	}
}

// checkETag makes r again as a browser does that has kept the answer.
func checkETag(t *testing.T, r *http.Request, etag string) {
	t.Helper()
	for kept, status := range map[string]int{etag: 304, `"another"`: 200} {
		r = r.Clone(t.Context())
		r.Header.Set("If-None-Match", kept)
		if response := wstest.RoundTrip(t, r); response.StatusCode != status || response.Header.Get("ETag") != etag {
			t.Errorf("If-None-Match: %s: %s, ETag %s", kept, response.Status, response.Header.Get("ETag"))
		}
	}
}

// What a browser loads is compressed if it accepts that, and as it is if not.
func TestCompression(t *testing.T) {
	addr, _ := startServer(t, 4096)
	get := func(path, accepts string) (*http.Response, []byte) {
		r, err := http.NewRequest("GET", "http://"+addr+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Accept-Encoding", accepts) // so that the client does not decode by itself
		response := wstest.RoundTrip(t, r)
		body, err := io.ReadAll(response.Body)
		if err != nil || response.StatusCode != http.StatusOK {
			t.Errorf("%s: %s, %v", path, response.Status, err)
		}
		return response, body
	}
	var plainSize, compressedSize int
	for _, path := range []string{"/", "/lobby/", "/assets/jquery.min.js", "/assets/chat.js", "/assets/log.js", "/assets/connection.js"} {
		plain, content := get(path, "identity")
		compressed, body := get(path, "gzip, deflate, br")
		if plain.Header.Get("Content-Encoding") != "" || compressed.Header.Get("Content-Encoding") != "gzip" ||
			compressed.Header.Get("Vary") != "Accept-Encoding" || compressed.Header.Get("ETag") == plain.Header.Get("ETag") {
			t.Errorf("%s: %v and %v", path, plain.Header, compressed.Header)
		}
		unzipped, err := gzip.NewReader(bytes.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(unzipped); err != nil || !bytes.Equal(got, content) {
			t.Errorf("%s: %v, or not the same content", path, err)
		}
		plainSize, compressedSize = plainSize+len(content), compressedSize+len(body)
	}
	t.Logf("%d bytes become %d", plainSize, compressedSize)
	source, err := os.ReadFile("assets/log.js")
	if err != nil {
		t.Fatal(err)
	}
	_, content := get("/assets/log.js", "identity")
	served := string(content)
	if regexp.MustCompile(`(?m)^\s*//`).MatchString(served) || strings.Count(served, "\n") != bytes.Count(source, []byte("\n")) || !strings.Contains(served, "export function draw() {\n") {
		t.Error("there are comments in the script, or lines have other numbers")
	}
	if compressedSize > plainSize/2 {
		t.Errorf("%d bytes become %d", plainSize, compressedSize)
	}
	for accepts, want := range map[string]string{"identity": "", "gzip": "gzip", "GZIP": "gzip", "br, gzip;q=0.5": "gzip", "gzip; q=1": "gzip", "gzip;q=0": "", "gzip;q=0.0, br": "",
		"gzip;q=x": "", "br": "", "x-gzip": "", "*": ""} {
		if response, _ := get("/", accepts); response.Header.Get("Content-Encoding") != want {
			t.Errorf("Accept-Encoding: %s: Content-Encoding %q, want %q", accepts, response.Header.Get("Content-Encoding"), want)
		}
	}
}

// -title is in the page and in the manifest of each room; as text.
func TestTitle(t *testing.T) {
	cfg := defaults
	cfg.title = `Ann's <b>"chat"</b> & more`
	addr, _, _ := startWith(t, cfg)
	page, err := io.ReadAll(wstest.Get(t, addr, "/").Body)
	if want := "<h1>Ann&#39;s &lt;b&gt;&#34;chat&#34;&lt;/b&gt; &amp; more</h1>"; err != nil || !strings.Contains(string(page), want) {
		t.Errorf("%v, or no %s in the page", err, want)
	}
	for path, want := range map[string]string{"/": cfg.title, "/lobby/": "lobby – " + cfg.title} {
		var m struct {
			Name     string
			StartURL string `json:"start_url"`
			Icons    []struct{ Src string }
		}
		if err := json.NewDecoder(wstest.Get(t, addr, path+"manifest.webmanifest").Body).Decode(&m); err != nil {
			t.Fatal(err)
		}
		if m.Name != want || m.StartURL != "./" {
			t.Errorf("%s: %+v", path, m)
		}
		if icon := wstest.Get(t, addr, pathpkg.Join(path, m.Icons[0].Src)); icon.StatusCode != http.StatusOK {
			t.Errorf("%s: icon %s: %s", path, m.Icons[0].Src, icon.Status)
		}
	}
}

// jQuery is the file of its npm package, to the byte.
func TestJQueryIsGenuine(t *testing.T) {
	const want = "39a546ea9ad97f8bfaf5d3e0e8f8556adb415e470e59007ada9759dce472adaa"
	addr, _ := startServer(t, 4096)
	served, err := io.ReadAll(wstest.Get(t, addr, "/assets/jquery.min.js").Body)
	if got := fmt.Sprintf("%x", sha256.Sum256(served)); err != nil || got != want {
		t.Errorf("%v, sha256 %s, want %s", err, got, want)
	}
}

// A proxy may serve the page below any path, so nothing in it is absolute.
func TestPageHasNoAbsoluteAddress(t *testing.T) {
	content, err := os.ReadFile("assets/home.html")
	if err != nil {
		t.Fatal(err)
	}
	page := string(content)
	if bad := regexp.MustCompile(`(?:src|href|action)="(?:/|[a-z]+:)[^"]*"`).FindAllString(page, -1); bad != nil {
		t.Errorf("%q", bad)
	}
}

func TestUnfinishedRequestIsCutOff(t *testing.T) {
	for name, start := range map[string]string{
		"nothing":      "",
		"half a line":  "GET / HT",
		"half a head":  "GET / HTTP/1.1\r\nHost: chat\r\n",
		"half a body":  "POST / HTTP/1.1\r\nHost: chat\r\nContent-Length: 100\r\n\r\nhalf",
		"half a chunk": "POST /ws HTTP/1.1\r\nHost: chat\r\nTransfer-Encoding: chunked\r\n\r\n64\r\nhalf",
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l, _ := startInBubble(t)
				conn := l.Dial(t)
				began := time.Now()
				go io.WriteString(conn, start)
				io.Copy(io.Discard, conn)
				if took := time.Since(began); took != 10*time.Second {
					t.Errorf("cut off after %v", took)
				}
			})
		})
	}
}

// Of too many connections that are not WebSockets, those are closed at once that wait for another request,
// and later those that take long with one. All that come at once are served.
func TestTooManyHTTPConns(t *testing.T) {
	isOpen := func(conn net.Conn) bool {
		conn.SetReadDeadline(time.Now().Add(time.Millisecond))
		_, err := conn.Read(make([]byte, 1))
		return errors.Is(err, os.ErrDeadlineExceeded)
	}
	synctest.Test(t, func(t *testing.T) {
		const idle, surplus = 10, 100
		l, _ := startInBubble(t)
		connect := func(n int) (conns []net.Conn) {
			for range n {
				conns = append(conns, l.Dial(t))
				synctest.Wait()
			}
			return conns
		}
		kept := connect(idle)
		for _, conn := range kept {
			io.WriteString(conn, "GET /nothing/there HTTP/1.1\r\nHost: chat\r\n\r\n")
			response, err := http.ReadResponse(bufio.NewReader(conn), nil)
			if err != nil {
				t.Fatal(err)
			}
			io.Copy(io.Discard, response.Body)
		}
		silent := connect(maxHTTPConns - idle + 1)
		for i, conn := range kept {
			if isOpen(conn) != (i > 0) {
				t.Errorf("idle connection %d: open is %v", i, isOpen(conn))
			}
		}
		silent = append(silent, connect(idle+surplus)...)
		for _, conn := range silent[:surplus/2] {
			wstest.Upgrade(t, conn, "/ws")
		}
		time.Sleep(httpBusyTime)
		for i, conn := range silent[surplus/2:] {
			if tooMany := len(silent) - surplus/2 - maxHTTPConns; isOpen(conn) != (i >= tooMany) {
				t.Errorf("connection %d: open is %v", i, isOpen(conn))
			}
		}
	})
}

func TestHeadTooLarge(t *testing.T) {
	t.Parallel()
	addr, _ := startServer(t, 4096)
	r, err := http.NewRequest("GET", "http://"+addr+"/", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Cookie", strings.Repeat("x", 64<<10))
	if response := wstest.RoundTrip(t, r); response.StatusCode != 431 {
		t.Errorf("status %s", response.Status)
	}
}

// startTLSServer runs the chat with TLS.
func startTLSServer(t testing.TB) (addr string) {
	t.Helper()
	cfg := defaults
	cfg.tls = newCertificate(t)
	addr, _, _ = startWith(t, cfg)
	return addr
}

// newCertificate returns a self-signed certificate.
func newCertificate(t testing.TB) *certfile.Certificate {
	t.Helper()
	c, err := certfile.Load(wstest.NewCertificate(t))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestTLS(t *testing.T) {
	addr := startTLSServer(t)
	ann, bob := wstest.Upgrade(t, wstest.DialTLS(t, addr), "/ws"), wstest.Upgrade(t, wstest.DialTLS(t, addr), "/ws")
	ann.Send(websocket.TextFrame, "hello")
	ann.Expect(websocket.TextFrame, "hello")
	bob.Expect(websocket.TextFrame, "hello")
	bob.Send(websocket.CloseFrame, "\x03\xe8")
	bob.ExpectClose(1000)
}

// Browsers ask for the page over HTTP/2, and for the WebSocket over HTTP/1.1. A request for the
// WebSocket over HTTP/2 gets 426.
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

// Of the requests in one HTTP/2 connection few are served at the same time: each may hold memory (RFC 9113,
// section 6.5.2).
func TestHTTP2Streams(t *testing.T) {
	conn, err := tls.Dial("tcp", startTLSServer(t), &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	io.WriteString(conn, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00")
	head := make([]byte, 9)
	if _, err := io.ReadFull(conn, head); err != nil || head[3] != 4 {
		t.Fatalf("% x, %v; want SETTINGS", head, err)
	}
	settings := make([]byte, binary.BigEndian.Uint32(head[:4])>>8)
	if _, err := io.ReadFull(conn, settings); err != nil {
		t.Fatal(err)
	}
	const maxConcurrentStreams = 3
	for s := range slices.Chunk(settings, 6) {
		if binary.BigEndian.Uint16(s) == maxConcurrentStreams && binary.BigEndian.Uint32(s[2:]) <= 16 {
			return
		}
	}
	t.Errorf("settings are % x", settings)
}

// A last message and the end of a TLS connection may come in one read, before TLS 1.3.
func TestLastWordsOverTLS(t *testing.T) {
	addr := startTLSServer(t)
	ann := wstest.Upgrade(t, wstest.DialTLS(t, addr), "/ws")
	held := &holding{Conn: wstest.Dial(t, addr)}
	bob := tls.Client(held, &tls.Config{InsecureSkipVerify: true, MaxVersion: tls.VersionTLS12})
	p := wstest.Upgrade(t, bob, "/ws")
	text := strings.Repeat("x", 3000)
	held.hold = true
	p.Send(websocket.TextFrame, text)
	bob.CloseWrite()
	held.SetDeadline(time.Now().Add(time.Minute)) // CloseWrite has let that for writing pass
	if _, err := held.Conn.Write(held.held); err != nil {
		t.Fatal(err)
	}
	ann.Expect(websocket.TextFrame, text)
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

// A running server takes a new certificate over, and keeps its connections.
func TestRenewal(t *testing.T) {
	t.Parallel()
	certFile, keyFile := wstest.NewCertificate(t)
	cfg := defaults
	cfg.tls, _ = certfile.Load(certFile, keyFile)
	addr, _, _ := startWith(t, cfg)
	ann := wstest.Upgrade(t, wstest.DialTLS(t, addr), "/ws")
	wstest.WriteCertificate(t, certFile, keyFile, "second")
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(100 * time.Millisecond) {
		conn := wstest.DialTLS(t, addr)
		conn.Close()
		if conn.ConnectionState().PeerCertificates[0].Subject.CommonName == "second" {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("still the old certificate")
		}
	}
	ann.Send(websocket.TextFrame, "still here")
	ann.Expect(websocket.TextFrame, "still here")
}

// A client may ask for a new key when nothing has been written for long (RFC 8446, section
// 4.6.3). crypto/tls answers that by itself, in the goroutine that reads, and must not find
// the write deadline of the last message.
func TestKeyUpdateAfterALongSilence(t *testing.T) {
	cfg := defaults
	cfg.tls = newCertificate(t)
	synctest.Test(t, func(t *testing.T) {
		l, _ := startInBubbleWith(t, cfg)
		ann := wstest.Upgrade(t, tls.Client(l.Dial(t), &tls.Config{InsecureSkipVerify: true}), "/ws")
		var keys strings.Builder
		raw := l.Dial(t)
		bob := tls.Client(raw, &tls.Config{InsecureSkipVerify: true, KeyLogWriter: &keys})
		p := wstest.Upgrade(t, bob, "/ws") // one record
		ann.Send(websocket.TextFrame, "hello")
		ann.Expect(websocket.TextFrame, "hello")
		p.Expect(websocket.TextFrame, "hello")
		time.Sleep(writeWait + time.Second)
		raw.Write(keyUpdate(t, bob.ConnectionState().CipherSuite, keys.String(), 1))
		ann.Send(websocket.TextFrame, "with another key")
		ann.Expect(websocket.TextFrame, "with another key")
		p.Expect(websocket.TextFrame, "with another key")
	})
}

// keyUpdate returns a client's KeyUpdate record (RFC 8446, section 4.6.3) that requests the same of
// the server, for a connection on which the client has sent that many records of data.
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
