package ws

import (
	"cmp"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
)

// Origin is where a page comes from (RFC 6454, section 4), or a pattern of origins: a host that
// begins with "*." stands for any of its subdomains, at any depth. Host and scheme are in lower
// case.
type Origin struct{ scheme, host, port string }

var (
	originSyntax = regexp.MustCompile(`^(https?)://((?:\*\.)?(?:[a-z0-9_-]+\.)*[a-z0-9_-]+\.?|\[[0-9a-f:.]+\])(?::([0-9]+))?$`)
	defaultPort  = map[string]string{"http": "80", "https": "443"}
)

func parseOrigin(s string) (o Origin, ok bool) {
	match := originSyntax.FindStringSubmatch(strings.ToLower(s))
	if match == nil {
		return o, false
	}
	return Origin{match[1], match[2], cmp.Or(match[3], defaultPort[match[1]])}, true
}

// ParseOrigins reads a comma-separated list such as "https://a.example,https://*.b.example:8443".
// The error quotes what is no origin.
func ParseOrigins(list string) (all []Origin, err error) {
	for item := range strings.SplitSeq(list, ",") {
		o, ok := parseOrigin(strings.TrimSpace(item))
		if !ok {
			return nil, fmt.Errorf("invalid origin %q: want https://a.example or https://*.b.example, with commas between them", strings.TrimSpace(item))
		}
		all = append(all, o)
	}
	return all, nil
}

// originAllowed reports whether r comes from a page of the host it is sent to, or of one of
// the others, or from no page at all: browsers always send Origin, programs need not. Without TLS
// there may be a proxy that adds it.
func originAllowed(r *http.Request, others []Origin) bool {
	values := r.Header["Origin"]
	if len(values) != 1 {
		return len(values) == 0
	}
	page, ok := parseOrigin(values[0])
	own, _ := parseOrigin(page.scheme + "://" + r.Host)
	return ok && !strings.HasPrefix(page.host, "*") &&
		(page == own && (page.scheme == "https" || r.TLS == nil) || slices.ContainsFunc(others, page.matches))
}

// matches reports whether o is pattern, or of one of its subdomains.
func (o Origin) matches(pattern Origin) bool {
	if domain, wild := strings.CutPrefix(pattern.host, "*"); wild && strings.HasSuffix(o.host, domain) {
		pattern.host = o.host
	}
	return o == pattern
}
