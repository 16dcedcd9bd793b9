// Package assets serves the page of the chat, with its scripts, icons and manifests.
//
// The page loads and runs nothing but these files, and connects to no server but its own: its
// Content-Security-Policy forbids the rest. The page and the files are compressed once, when their handlers are
// made. A browser may keep them, and asks before each use whether they have changed.
package assets

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"embed"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"html"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"
)

//go:embed *.html *.css *.js *.svg
var files embed.FS

// Page holds the values for home.html's placeholders.
type Page struct {
	Title      string // of the chat, as plain text
	MaxMessage int    // bytes in the longest message that the server accepts
	History    int    // lines that the server keeps for clients that join
	Rooms      int    // largest number of named rooms; 0 if there is only the nameless room
}

// Files returns a handler for each script and icon, by file name. The caller must serve them in a directory
// assets/, which Home and Manifest refer to, and must not change the map.
var Files = sync.OnceValue(func() map[string]http.Handler {
	handlers := make(map[string]http.Handler)
	for _, name := range []string{"icon.svg", "icon-unread.svg"} {
		handlers[name] = newAsset(mustRead(name), "image/svg+xml")
	}
	scripts := bundles()
	scripts["jquery.min.js"] = mustRead("jquery.min.js")
	for name, script := range scripts {
		handlers[name] = newAsset(script, "text/javascript; charset=utf-8")
	}
	return handlers
})

// Digest returns a short digest of all files of the page. Two versions of the program with different pages have
// different digests.
var Digest = sync.OnceValue(func() string {
	entries, err := files.ReadDir(".")
	if err != nil {
		panic(err)
	}
	all := sha256.New()
	for _, e := range entries {
		fmt.Fprintf(all, "%s %x\n", e.Name(), sha256.Sum256(mustRead(e.Name())))
	}
	return hex.EncodeToString(all.Sum(nil)[:8])
})

// mustRead returns the content of an embedded file.
func mustRead(name string) []byte {
	content, err := files.ReadFile(name)
	if err != nil {
		panic(err)
	}
	return content
}

// pageStyle returns the style that is part of the page, without comments and indentation.
var pageStyle = sync.OnceValue(func() string {
	return regexp.MustCompile(`(?m)\s*/\*.*\*/|^\s+`).ReplaceAllString(string(mustRead("chat.css")), "")
})

// Home returns the handler of the page. root is the relative URL of the directory that contains assets/: "" for
// the page of the nameless room, "../" for a named one.
func (p Page) Home(root string) http.Handler {
	// The Replacer makes one pass, so a title that looks like a placeholder stays as it is.
	page := strings.NewReplacer(
		"{{title}}", html.EscapeString(p.Title),
		"{{root}}", root,
		"{{style}}", pageStyle(),
		"{{max-message}}", strconv.Itoa(p.MaxMessage),
		"{{history}}", strconv.Itoa(p.History),
		"{{rooms}}", strconv.Itoa(p.Rooms),
		"{{digest}}", Digest(),
	).Replace(string(mustRead("home.html")))
	a := newAsset([]byte(page), "text/html; charset=utf-8")
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Security-Policy", pagePolicy(r.Host))
		a.ServeHTTP(w, r)
	})
}

// hostSyntax matches a host that may stand in a policy.
var hostSyntax = regexp.MustCompile(`^[A-Za-z0-9.:\[\]-]+$`)

// allowedStyle is the part of a Content-Security-Policy that allows the page's style.
var allowedStyle = styleSource(pageStyle())

// pagePolicy returns the Content-Security-Policy of the page at a host. It names the style, which is part of the page,
// by its hash, so that no other style in the page applies. It names the addresses of WebSockets, because 'self' does not
// include them in Safari before version 16.
func pagePolicy(host string) string {
	connect := "connect-src 'self'"
	if hostSyntax.MatchString(host) {
		connect += " ws://" + host + " wss://" + host
	}
	return "default-src 'none'; " + connect + "; script-src 'self'; img-src 'self'; manifest-src 'self'; " +
		allowedStyle + "; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
}

// styleSource returns the part of a policy that allows only this style.
func styleSource(style string) string {
	sum := sha256.Sum256([]byte(style))
	return "style-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"
}

// ManifestName is the file name of the manifest, which the page looks for in its own directory.
const ManifestName = "manifest.webmanifest"

// Manifest returns the handler of a room's manifest (W3C Web Application Manifest), with which a browser can
// install the room as an application. The room is the request's path value "room", or else the nameless one.
// root is the same as for Home.
func (p Page) Manifest(root string) http.Handler {
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
			"icons":      []map[string]string{{"src": root + "assets/icon.svg", "sizes": "any", "type": "image/svg+xml"}},
		})
		if err != nil {
			panic(err) // Marshal can't fail for strings
		}
		asset{contentType: "application/manifest+json", plain: newRepresentation(content)}.ServeHTTP(w, r)
	})
}

// asset serves one content, in the encoding that the request asks for.
type asset struct {
	contentType string
	plain       representation
	gzip        representation // its content is nil if compression doesn't make the asset smaller
}

// representation is the content of an asset in one encoding (RFC 9110, section 8).
type representation struct {
	content []byte
	etag    string
}

// newRepresentation returns a representation of content. The caller must not change content afterwards.
func newRepresentation(content []byte) representation {
	return representation{content, fmt.Sprintf(`"%x"`, sha256.Sum256(content))}
}

// newAsset compresses content. The caller must not change content afterwards.
func newAsset(content []byte, contentType string) asset {
	a := asset{contentType: contentType, plain: newRepresentation(content)}
	var compressed bytes.Buffer
	w, err := gzip.NewWriterLevel(&compressed, gzip.BestCompression)
	if err != nil {
		panic(err) // the level is valid
	}
	w.Write(content)
	w.Close()
	if compressed.Len() < len(content) {
		a.gzip = newRepresentation(compressed.Bytes())
	}
	return a
}

func (a asset) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	r.Header.Del("Range") // no browser asks for parts of such small files, and thousands of parts cost much
	chosen := a.plain
	if a.gzip.content != nil {
		w.Header().Set("Vary", "Accept-Encoding")
		if accepts(r.Header["Accept-Encoding"], "gzip") {
			chosen = a.gzip
			w.Header().Set("Content-Encoding", "gzip")
		}
	}
	w.Header().Set("Content-Type", a.contentType)
	w.Header().Set("Cache-Control", "no-cache")
	w.Header().Set("ETag", chosen.etag)
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(chosen.content))
}
