// Package assets is the page, its scripts, style and icons, and serves them.
package assets

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"embed"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"html"
	"net/http"
	"path"
	"strconv"
	"strings"
	"time"
)

//go:embed *.html *.css *.js *.svg
var files embed.FS

// Page is what is filled in.
type Page struct {
	Title      string
	MaxMessage int // bytes
	History    int // lines
	Rooms      int // named ones that there may be
}

// contentTypes are those of files that are served by themselves, by extension. The style is served within
// the page.
var contentTypes = map[string]string{
	".js":  "text/javascript; charset=utf-8",
	".svg": "image/svg+xml",
}

// Files returns the handlers of what the page loads, by name. They are to be served beside the page, below
// assets/.
func Files() map[string]http.Handler {
	entries, err := files.ReadDir(".")
	if err != nil {
		panic(err)
	}
	handlers := make(map[string]http.Handler)
	for _, e := range entries {
		if contentType := contentTypes[path.Ext(e.Name())]; contentType != "" {
			handlers[e.Name()] = newAsset(withoutComments(mustRead(e.Name())), contentType)
		}
	}
	return handlers
}

// withoutComments empties the lines that are comments: a fifth of our scripts, which a browser on a slow
// line need not wait for. The other lines keep their numbers. jQuery and the icons have no such line.
func withoutComments(script []byte) []byte {
	lines := bytes.SplitAfter(script, []byte{'\n'})
	for i, line := range lines {
		if bytes.HasPrefix(bytes.TrimSpace(line), []byte("//")) {
			lines[i] = []byte{'\n'}
		}
	}
	return bytes.Join(lines, nil)
}

// mustRead returns an embedded file.
func mustRead(name string) []byte {
	content, err := files.ReadFile(name)
	if err != nil {
		panic(err)
	}
	return content
}

// Home serves the page. up is the relative URL of the directory in which assets/ is, or "".
func (p Page) Home(up string) http.Handler {
	page := strings.NewReplacer(
		"{{title}}", html.EscapeString(p.Title),
		"{{root}}", up,
		"{{style}}", string(mustRead("chat.css")),
		"{{max-message}}", strconv.Itoa(p.MaxMessage),
		"{{history}}", strconv.Itoa(p.History),
		"{{rooms}}", strconv.Itoa(p.Rooms),
	).Replace(string(mustRead("home.html")))
	a := newAsset([]byte(page), "text/html; charset=utf-8")
	policy := pagePolicy()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Security-Policy", policy)
		a.ServeHTTP(w, r)
	})
}

// pagePolicy is the policy with which a browser lets the page load its own scripts, style and icons,
// connect to its own server, and do nothing else.
func pagePolicy() string {
	style := sha256.Sum256(mustRead("chat.css"))
	return "default-src 'none'; connect-src 'self'; script-src 'self'; img-src 'self'; manifest-src 'self'; " +
		"style-src 'sha256-" + base64.StdEncoding.EncodeToString(style[:]) + "'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
}

// ManifestName is where the page looks for its manifest, beside it.
const ManifestName = "manifest.webmanifest"

// Manifest serves what makes a room, the one that r.PathValue has, an application of its own (W3C Web
// Application Manifest). up is as for Home.
func (p Page) Manifest(up string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name, short := p.Title, p.Title
		if room := r.PathValue("room"); room != "" {
			name, short = room+" – "+p.Title, room
		}
		content, err := json.Marshal(map[string]any{
			"name":       name,
			"short_name": short,
			"start_url":  "./",
			"display":    "standalone",
			"icons":      []map[string]string{{"src": up + "assets/icon.svg", "sizes": "any", "type": "image/svg+xml"}},
		})
		if err != nil {
			panic(err) // of strings alone
		}
		asset{contentType: "application/manifest+json", plain: newRepresentation(content)}.ServeHTTP(w, r)
	})
}

// asset is a file for browsers, which may keep it, and ask each time whether it has changed.
type asset struct {
	contentType string
	plain       representation
	gzip        representation // without content if it would not be smaller
}

// representation is the content of a file in one encoding (RFC 9110, section 8).
type representation struct {
	content []byte
	etag    string
}

func newRepresentation(content []byte) representation {
	return representation{content, fmt.Sprintf(`"%x"`, sha256.Sum256(content))}
}

// newAsset compresses content, once.
func newAsset(content []byte, contentType string) asset {
	a := asset{contentType: contentType, plain: newRepresentation(content)}
	var compressed bytes.Buffer
	w, err := gzip.NewWriterLevel(&compressed, gzip.BestCompression)
	if err != nil {
		panic(err) // of the level
	}
	w.Write(content)
	w.Close()
	if compressed.Len() < len(content) {
		a.gzip = newRepresentation(compressed.Bytes())
	}
	return a
}

func (a asset) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	chosen := a.plain
	if a.gzip.content != nil {
		w.Header().Set("Vary", "Accept-Encoding")
		if acceptsGzip(r) {
			chosen = a.gzip
			w.Header().Set("Content-Encoding", "gzip")
		}
	}
	w.Header().Set("Content-Type", a.contentType)
	w.Header().Set("Cache-Control", "no-cache")
	w.Header().Set("ETag", chosen.etag)
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(chosen.content))
}

// acceptsGzip reports whether a request names gzip among the encodings that it accepts (RFC 9110,
// section 12.5.3).
func acceptsGzip(r *http.Request) bool {
	for coding := range strings.SplitSeq(strings.Join(r.Header["Accept-Encoding"], ","), ",") {
		name, weight, weighted := strings.Cut(strings.ReplaceAll(coding, " ", ""), ";q=")
		if strings.EqualFold(name, "gzip") {
			q, err := strconv.ParseFloat(weight, 64)
			return !weighted || err == nil && q > 0
		}
	}
	return false
}
