package assets

import (
	"cmp"
	"fmt"
	"html"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
)

// Refusals returns a handler that passes requests on to next. If next answers with an error, in plain text, and the
// client accepts HTML, the client gets a page instead. The page says what is wrong, and leads back to the chat. Other
// clients get the text.
func (p Page) Refusals(next http.Handler) http.Handler {
	_, style, _ := strings.Cut(string(mustRead("refusal.html")), "<style>")
	style, _, _ = strings.Cut(style, "</style>")
	policy := "default-src 'none'; img-src 'self'; " + styleSource(style) + "; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !accepts(r.Header["Accept"], "text/html") {
			next.ServeHTTP(w, r)
			return
		}
		answer := refusalWriter{ResponseWriter: w}
		next.ServeHTTP(&answer, r)
		if answer.status != 0 {
			w.Header().Set("Content-Security-Policy", policy)
			w.Header().Set("Content-Type", "text/html; charset=utf-8")
			w.Header().Set("Cache-Control", "no-store") // because the answer depends on Accept
			w.WriteHeader(answer.status)
			w.Write([]byte(p.refusal(r.URL, answer.status, strings.TrimSpace(answer.text))))
		}
	})
}

// refusalWriter passes a response on, unless it is an error. Of an error it keeps the status and the text.
type refusalWriter struct {
	http.ResponseWriter
	status int // of an error, or 0
	text   string
}

// Unwrap lets a handler hijack the connection (http.ResponseController).
func (w *refusalWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// WriteHeader implements http.ResponseWriter.
func (w *refusalWriter) WriteHeader(status int) {
	if status >= http.StatusBadRequest {
		w.status = status
	} else {
		w.ResponseWriter.WriteHeader(status)
	}
}

// Write implements http.ResponseWriter.
func (w *refusalWriter) Write(b []byte) (int, error) {
	if w.status == 0 {
		return w.ResponseWriter.Write(b)
	}
	w.text += string(b)
	return len(b), nil
}

// refusal returns the page for a request that was refused with a status and a text. All its links are relative to the
// requested address, because a proxy may serve the chat below a path.
func (p Page) refusal(asked *url.URL, status int, text string) string {
	path := cmp.Or(asked.RawPath, asked.EscapedPath()) // the path as the browser sees it
	root := strings.Repeat("../", max(0, strings.Count(path, "/")-1))
	heading, explanation := http.StatusText(status), "<p>"+html.EscapeString(text)+"</p>"
	if status == http.StatusNotFound {
		heading, explanation = "Page not found", "<p>There is nothing at this address.</p>"
		if name := roomIn(path); p.Rooms > 0 && name != "" && strings.ToLower(name) != roomName(name) {
			heading = "No room has this name"
			explanation = "<p>The name of a room has at most 64 characters: only a to z, 0 to 9, - and _, and no spaces.</p>"
			if right := roomName(name); right != "" {
				explanation += fmt.Sprintf("\n<p>Did you mean <a href=\"%s%s/\">%s</a>?</p>", root, right, right)
			}
		}
	}
	return strings.NewReplacer(
		"{{title}}", html.EscapeString(p.Title),
		"{{heading}}", heading,
		"{{explanation}}", explanation,
		"{{root}}", root,
		"{{back}}", cmp.Or(root, "./"),
	).Replace(string(mustRead("refusal.html")))
}

// roomIn returns the name in an escaped path /NAME or /NAME/, or "" if the path is another.
func roomIn(path string) string {
	name := strings.TrimSuffix(strings.TrimPrefix(path, "/"), "/")
	name, err := url.PathUnescape(name)
	if err != nil || strings.Count(path, "/") > 2 || strings.Count(path, "/") == 2 && !strings.HasSuffix(path, "/") {
		return ""
	}
	return name
}

// forbidden matches the characters that the name of a room may not have.
var forbidden = regexp.MustCompile(`[^a-z0-9_-]+`)

// otherLetter matches letters and digits of which a room's name may have none.
var otherLetter = regexp.MustCompile(`[^\PLa-zA-Z]|[^\PN0-9]`)

// roomName returns the valid room name that somebody means with name. It returns "" if other letters than a to z are in
// it, because a name without them would be that of another room.
func roomName(name string) string {
	if otherLetter.MatchString(name) {
		return ""
	}
	right := strings.Trim(forbidden.ReplaceAllString(strings.ToLower(name), "-"), "-")
	return strings.TrimRight(right[:min(len(right), 64)], "-")
}

// accepts reports whether a request header, such as Accept, names what with a weight above 0 (RFC 9110, section
// 12.4.2). It doesn't count wildcards.
func accepts(header []string, what string) bool {
	for item := range strings.SplitSeq(strings.Join(header, ","), ",") {
		name, parameters, _ := strings.Cut(strings.ReplaceAll(item, " ", ""), ";")
		if strings.EqualFold(name, what) {
			_, weight, weighted := strings.Cut(";"+parameters, ";q=")
			q, err := strconv.ParseFloat(weight, 64)
			return !weighted || err == nil && q > 0
		}
	}
	return false
}
