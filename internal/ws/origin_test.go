package ws

import (
	"crypto/tls"
	"net/http"
	"testing"
)

// A request with two origins is refused, even if one of them may connect.
func TestTwoOrigins(t *testing.T) {
	r := &http.Request{Host: "a.example", Header: http.Header{"Origin": {"http://a.example", "http://evil.example"}}}
	if originAllowed(r, nil) {
		t.Error("the request is accepted, want refused")
	}
}

// A page may connect if its origin is in the list, or is a subdomain of a pattern in the list. A list with
// an item that is no origin is an error.
func TestOrigins(t *testing.T) {
	const allowed = "https://A.example, http://c.example:80,https://*.b.example:8443,https://[::1]:9"
	for origin, want := range map[string]bool{
		"https://a.example":                     true,
		"HTTPS://A.EXAMPLE":                     true,
		"http://a.example":                      false,
		"https://a.example:8443":                false,
		"https://x.a.example":                   false,
		"https://a.example.evil":                false,
		"http://c.example":                      true,
		"https://c.example":                     false,
		"https://x.b.example:8443":              true,
		"https://x.y.b.example:8443":            true,
		"https://b.example:8443":                false,
		"https://.b.example:8443":               false,
		"https://xb.example:8443":               false,
		"https://x.b.example":                   false,
		"https://evil/.b.example:8443":          false,
		"https://evil:1@x.b.example:8443":       false,
		"https://evil?.b.example:8443":          false,
		"https://[::1]:9":                       true,
		"https://*.b.example:8443":              false,
		"https://evil.example\\.b.example:8443": false,
		"https://x..b.example:8443":             false,
		"https://a.example:443":                 true,
		"https://user@a.example":                false,
		"https://a.example/":                    false,
		"ftp://a.example":                       false,
		"javascript://a.example":                false,
		"null":                                  false,
		"":                                      false,
	} {
		r, err := http.NewRequest("GET", "/ws", nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Origin", origin)
		list, err := ParseOrigins(allowed)
		if err != nil {
			t.Fatal(err)
		}
		if got := originAllowed(r, list); got != want {
			t.Errorf("origin %q is accepted: %v, want %v", origin, got, want)
		}
	}
	for _, list := range []string{"", ",", "a.example", "https://", "https://a.example/", "https://a.example/path",
		"ftp://a.example", "https://user@a.example", "https://a.example?", "https://a.example#x", "https://*", "https://*.",
		"https://a.*.example", "https://*a.example", "https://*.*.example", "https://a.example:", "https://a.example:x",
		"*", "null", "https://a b", "https://a.example,"} {
		if got, err := ParseOrigins(list); err == nil {
			t.Errorf("ParseOrigins(%q) is %q, want an error", list, got)
		}
	}
}

// A page may connect to the host and port from which it was loaded. Over TLS its scheme must be https.
// Without TLS it may be http or https, because a proxy may have removed the TLS.
func TestSameOrigin(t *testing.T) {
	for _, test := range []struct {
		origin, host        string
		overTLS, withoutTLS bool
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
		{"http://%zz", "chat.example", false, false},
		{"http://%zz", "%zz", false, false},
		{"https://", "", false, false},
		{"http:///", "", false, false},
		{"null", "null", false, false},
	} {
		r := &http.Request{Host: test.host, Header: http.Header{"Origin": {test.origin}}}
		if got := originAllowed(r, nil); got != test.withoutTLS {
			t.Errorf("%s at %s is accepted: %v, want %v", test.origin, test.host, got, test.withoutTLS)
		}
		r.TLS = new(tls.ConnectionState)
		if got := originAllowed(r, nil); got != test.overTLS {
			t.Errorf("%s at %s over TLS is accepted: %v, want %v", test.origin, test.host, got, test.overTLS)
		}
	}
}
