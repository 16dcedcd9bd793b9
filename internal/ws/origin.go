package ws

import (
	"cmp"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
)

// Origin is the scheme, host and port from which a page was loaded (RFC 6454, section 4). It may also be a
// pattern. A host that begins with "*." matches all subdomains at any depth, but not the domain itself.
type Origin struct{ scheme, host, port string } // in lower case

var (
	originSyntax = regexp.MustCompile(`^(https?)://((?:\*\.)?(?:[a-z0-9_-]+\.)*[a-z0-9_-]+\.?|\[[0-9a-f:.]+\])(?::([0-9]+))?$`)
	defaultPort  = map[string]string{"http": "80", "https": "443"}
)

// parseOrigin parses an origin or a pattern. It adds the scheme's default port.
func parseOrigin(s string) (o Origin, ok bool) {
	match := originSyntax.FindStringSubmatch(strings.ToLower(s))
	if match == nil {
		return o, false
	}
	return Origin{match[1], match[2], cmp.Or(match[3], defaultPort[match[1]])}, true
}

// ParseOrigins parses a comma-separated list such as "https://a.example,https://*.b.example:8443". The
// error quotes the first item that is not an origin.
func ParseOrigins(list string) (all []Origin, err error) {
	for item := range strings.SplitSeq(list, ",") {
		o, ok := parseOrigin(strings.TrimSpace(item))
		if !ok {
			return nil, fmt.Errorf("invalid origin %q: want a comma-separated list such as https://a.example,https://*.b.example", strings.TrimSpace(item))
		}
		all = append(all, o)
	}
	return all, nil
}

// originAllowed reports whether the sender of r may connect. That is a page of the host to which r was
// sent, a page of one of the others, or a program. Browsers always send Origin, so a request without it is
// a program's. A request without TLS may come from a page with https, because a proxy may have
// removed the TLS.
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

// matches reports whether o equals pattern, or is one of the subdomains for which pattern stands.
func (o Origin) matches(pattern Origin) bool {
	if domain, wild := strings.CutPrefix(pattern.host, "*"); wild && strings.HasSuffix(o.host, domain) {
		pattern.host = o.host
	}
	return o == pattern
}
