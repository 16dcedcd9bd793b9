package ws

import (
	"crypto/tls"
	"net/http"
	"testing"
)

// A second origin beside a good one is no way in.
func TestTwoOrigins(t *testing.T) {
	r := &http.Request{Host: "a.example", Header: http.Header{"Origin": {"http://a.example", "http://evil.example"}}}
	if originAllowed(r, nil) {
		t.Error("it is let in")
	}
}

func TestOrigins(t *testing.T) {
	const allowed = "https://A.example, http://c.example:80,https://*.b.example:8443,https://[::1]:9"
	for origin, status := range map[string]int{
		"https://a.example":                     101,
		"HTTPS://A.EXAMPLE":                     101,
		"http://a.example":                      403,
		"https://a.example:8443":                403,
		"https://x.a.example":                   403,
		"https://a.example.evil":                403,
		"http://c.example":                      101,
		"https://c.example":                     403,
		"https://x.b.example:8443":              101,
		"https://x.y.b.example:8443":            101,
		"https://b.example:8443":                403,
		"https://.b.example:8443":               403,
		"https://xb.example:8443":               403,
		"https://x.b.example":                   403,
		"https://evil/.b.example:8443":          403,
		"https://evil:1@x.b.example:8443":       403,
		"https://evil?.b.example:8443":          403,
		"https://[::1]:9":                       101,
		"https://*.b.example:8443":              403,
		"https://evil.example\\.b.example:8443": 403,
		"https://x..b.example:8443":             403,
		"https://a.example:443":                 101,
		"https://user@a.example":                403,
		"https://a.example/":                    403,
		"ftp://a.example":                       403,
		"javascript://a.example":                403,
		"null":                                  403,
		"":                                      403,
	} {
		r, err := http.NewRequest("GET", "/ws", nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Origin", origin)
		list, err := ParseOrigins(allowed)
		if got := originAllowed(r, list); err != nil || got != (status == 101) {
			t.Errorf("%q: %v, %v", origin, got, err)
		}
	}
	for _, nonsense := range []string{"", ",", "a.example", "https://", "https://a.example/", "https://a.example/path", "ftp://a.example",
		"https://user@a.example", "https://a.example?", "https://a.example#x", "https://*", "https://*.", "https://a.*.example",
		"https://*a.example", "https://*.*.example", "https://a.example:", "https://a.example:x", "*", "null", "https://a b", "https://a.example,"} {
		if list, err := ParseOrigins(nonsense); err == nil {
			t.Errorf("%q is taken for %q", nonsense, list)
		}
	}
}

// A page of the same host may connect, if its scheme and port are the same, too. Without TLS
// a proxy may be in front.
func TestSameOrigin(t *testing.T) {
	for _, test := range []struct {
		origin, host       string
		overTLS, inTheOpen bool
	}{
		{"https://chat.example", "chat.example", true, true},
		{"https://CHAT.example", "chat.EXAMPLE", true, true},
		{"https://chat.example:443", "chat.example", true, true},
		{"https://chat.example", "chat.example:443", true, true},
		{"https://chat.example:8443", "chat.example:8443", true, true},
		{"https://[::1]:8443", "[::1]:8443", true, true},
		{"http://chat.example", "chat.example", false, true},
		{"http://chat.example", "chat.example:80", false, true},
		{"https://chat.example", "chat.example:8443", false, false},
		{"https://chat.example", "chat.example:80", false, false},
		{"http://chat.example", "chat.example:443", false, false},
		{"https://x.chat.example", "chat.example", false, false},
		{"https://user@chat.example", "chat.example", false, false},
		{"https://user:password@chat.example", "chat.example", false, false},
		{"https://chat.example/", "chat.example", false, false},
		{"https://chat.example?", "chat.example", false, false},
		{"ftp://chat.example", "chat.example", false, false},
		{"javascript://chat.example", "chat.example", false, false},
		{"ws://chat.example", "chat.example", false, false},
		{"//chat.example", "chat.example", false, false},
		{"https://", "", false, false},
		{"null", "null", false, false},
	} {
		r := &http.Request{Host: test.host, Header: http.Header{"Origin": {test.origin}}}
		if got := originAllowed(r, nil); got != test.inTheOpen {
			t.Errorf("%s at %s: %v", test.origin, test.host, got)
		}
		r.TLS = new(tls.ConnectionState)
		if got := originAllowed(r, nil); got != test.overTLS {
			t.Errorf("%s at %s over TLS: %v", test.origin, test.host, got)
		}
	}
}
