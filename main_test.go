package main

import (
	"crypto/sha256"
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"chat/internal/wstest"
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
	const html, js = "text/html; charset=utf-8", "text/javascript; charset=utf-8"
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
		{"GET", "/assets/", 404, ""},
		{"GET", "/assets/home.html", 404, ""},
		{"GET", "/main.go", 404, ""},
		{"GET", "/ws/", 404, ""},
		{"POST", "/nothing", 404, ""},
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
			if !strings.HasPrefix(policy, "default-src 'none';") || strings.Contains(policy, "unsafe") {
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

// jQuery is the file of its npm package, to the byte.
func TestJQueryIsGenuine(t *testing.T) {
	const want = "39a546ea9ad97f8bfaf5d3e0e8f8556adb415e470e59007ada9759dce472adaa"
	if got := fmt.Sprintf("%x", sha256.Sum256(mustRead("jquery.min.js"))); got != want {
		t.Errorf("sha256 %s, want %s", got, want)
	}
}

// A proxy may serve the page below any path, so nothing in it is absolute.
func TestPageHasNoAbsoluteAddress(t *testing.T) {
	page := string(mustRead("home.html"))
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

func TestHeadTooLarge(t *testing.T) {
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
