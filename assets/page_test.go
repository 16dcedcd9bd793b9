package assets

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"html"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// get returns h's response to a GET request with headers, which are pairs of a name and a value.
func get(h http.Handler, headers ...string) *httptest.ResponseRecorder {
	r, w := httptest.NewRequest("GET", "/", nil), httptest.NewRecorder()
	for pair := range slices.Chunk(headers, 2) {
		r.Header.Set(pair[0], pair[1])
	}
	h.ServeHTTP(w, r)
	return w
}

// everything returns the handlers of the page, a manifest and all files, by name.
func everything() map[string]http.Handler {
	all := maps.Clone(Files())
	all["the page"] = Page{}.Home("")
	all["the manifest"] = Page{}.Manifest("")
	return all
}

// A browser asks before each use of a file that it keeps whether the file has changed, and loads it again only then.
func TestUnchangedFiles(t *testing.T) {
	for name, h := range everything() {
		for _, encoding := range []string{"identity", "gzip"} {
			kept := get(h, "Accept-Encoding", encoding).Header()
			same := get(h, "Accept-Encoding", encoding, "If-None-Match", kept.Get("ETag"))
			changed := get(h, "Accept-Encoding", encoding, "If-None-Match", `"another"`)
			if kept.Get("Cache-Control") != "no-cache" || same.Code != 304 || changed.Code != 200 {
				t.Errorf("%s: got headers %v, then status %d if unchanged and %d if changed; want no-cache, 304 and 200", name, kept, same.Code, changed.Code)
			}
		}
	}
}

// The page and its scripts are compressed if the browser accepts that, those of more than 1 KB to less than 60 %. Their
// ETags then differ.
func TestCompression(t *testing.T) {
	for name, h := range everything() {
		if name != "the page" && path.Ext(name) != ".js" {
			continue
		}
		plain, compressed := get(h, "Accept-Encoding", "identity"), get(h, "Accept-Encoding", "gzip, deflate, br")
		if p, c := plain.Header(), compressed.Header(); p.Get("Content-Encoding") != "" || c.Get("Content-Encoding") != "gzip" ||
			p.Get("Vary") != "Accept-Encoding" || c.Get("Vary") != "Accept-Encoding" || p.Get("ETag") == c.Get("ETag") {
			t.Errorf("%s: got headers %v without compression, and %v with it", name, p, c)
		}
		if got := compressed.Body.Len(); plain.Body.Len() > 1000 && got > plain.Body.Len()*6/10 {
			t.Errorf("%s: got %d bytes, want less than 60 %% of %d", name, got, plain.Body.Len())
		}
		r, err := gzip.NewReader(compressed.Body)
		if err != nil {
			t.Fatal(name, err)
		}
		if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, plain.Body.Bytes()) {
			t.Errorf("%s: got another content with compression, %v", name, err)
		}
	}
	page := Page{}.Home("")
	for accepts, want := range map[string]string{"identity": "", "gzip": "gzip", "GZIP": "gzip", "br, gzip;q=0.5": "gzip", "gzip; q=1": "gzip",
		"gzip;q=0": "", "gzip;q=0.0, br": "", "gzip;q=x": "", "br": "", "x-gzip": "", "*": ""} {
		if got := get(page, "Accept-Encoding", accepts).Header().Get("Content-Encoding"); got != want {
			t.Errorf("Accept-Encoding: %s: got Content-Encoding %q, want %q", accepts, got, want)
		}
	}
}

// The title is text, in the page and in the manifest, even if it looks like markup or a placeholder.
func TestTitle(t *testing.T) {
	p := Page{Title: `Ann's <b>"{{root}}"</b> & more`}
	page, want := get(p.Home("")).Body.String(), html.EscapeString(p.Title)
	for _, want := range []string{"<title>" + want + "</title>", "<h1>" + want + "</h1>"} {
		if !strings.Contains(page, want) {
			t.Errorf("the page does not contain %s", want)
		}
	}
	for room, want := range map[string]string{"": p.Title, "lobby": "lobby – " + p.Title} {
		r, w := httptest.NewRequest("GET", "/", nil), httptest.NewRecorder()
		r.SetPathValue("room", room)
		p.Manifest("../").ServeHTTP(w, r)
		var got struct {
			Name     string
			StartURL string `json:"start_url"`
			Icons    []struct{ Src string }
		}
		if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil || got.Name != want || got.StartURL != "./" || got.Icons[0].Src != "../assets/icon.svg" {
			t.Errorf("room %q: got manifest %+v, %v; want the name %q", room, got, err, want)
		}
	}
}

// A proxy may serve the page below any path, so the page has only relative addresses. All of them are files of this
// package, or the manifest.
func TestAddresses(t *testing.T) {
	files := Files()
	page := get(Page{}.Home("../")).Body.String()
	for _, match := range regexp.MustCompile(`(?:src|href|action)="([^"]*)"`).FindAllStringSubmatch(page, -1) {
		name, ok := strings.CutPrefix(match[1], "../assets/")
		if match[1] != ManifestName && (!ok || files[name] == nil) {
			t.Errorf("got %s, want the manifest or a file in ../assets/", match[0])
		}
	}
}

// The page's Content-Security-Policy allows the style in the page, and otherwise only what the chat serves.
func TestPolicy(t *testing.T) {
	page := get(Page{}.Home(""))
	_, style, _ := strings.Cut(page.Body.String(), "<style>")
	style, _, _ = strings.Cut(style, "</style>")
	sum := sha256.Sum256([]byte(style))
	want := "default-src 'none'; connect-src 'self' ws://example.com wss://example.com; script-src 'self'; img-src 'self'; manifest-src 'self'; style-src 'sha256-" +
		base64.StdEncoding.EncodeToString(sum[:]) + "'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
	if got := page.Header().Get("Content-Security-Policy"); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// A refusal has only relative addresses of files that the chat serves, and its policy allows its style alone.
func TestRefusalPolicy(t *testing.T) {
	refused := get(Page{Title: "Chat"}.Refusals(http.NotFoundHandler()), "Accept", "text/html")
	page := refused.Body.String()
	_, style, _ := strings.Cut(page, "<style>")
	style, _, _ = strings.Cut(style, "</style>")
	sum := sha256.Sum256([]byte(style))
	want := "default-src 'none'; img-src 'self'; style-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) +
		"'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
	if got := refused.Header().Get("Content-Security-Policy"); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	for _, match := range regexp.MustCompile(`(?:src|href|action)="([^"]*)"`).FindAllStringSubmatch(page, -1) {
		if match[1] != "assets/icon.svg" && match[1] != "./" {
			t.Errorf("got %s, want the icon or the chat", match[0])
		}
	}
	if strings.Contains(page, "style=") || strings.Contains(page, "{{") {
		t.Errorf("got %s, want no other style, and all values", page)
	}
}

// jQuery is the file of its npm package, to the byte.
func TestJQueryIsGenuine(t *testing.T) {
	const want = "39a546ea9ad97f8bfaf5d3e0e8f8556adb415e470e59007ada9759dce472adaa"
	if got := fmt.Sprintf("%x", sha256.Sum256(get(Files()["jquery.min.js"]).Body.Bytes())); got != want {
		t.Errorf("got sha256 %s, want %s", got, want)
	}
}
