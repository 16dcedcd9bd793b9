package command

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"example.com/chat/internal/ws"
)

// A command is a JSON object, of which known keys must have the right type. Other keys are ignored, whatever they
// hold. Everything else is refused with 1007.
func TestParse(t *testing.T) {
	const refused = "refused"
	for message, want := range map[string]string{
		`{"ping":1}`:                           "1",
		`{"ping":0}`:                           "0",
		`{"ping":-1.5e3}`:                      "-1500",
		` { "ping" : 1790000000123 } `:         "1.790000000123e+12",
		`{"ping":null}`:                        "none",
		`{}`:                                   "none",
		`{"Ping":1,"PING":2}`:                  "none",
		`{"other":[{"ping":1}],"":null}`:       "none",
		`{"a":{"ping":true},"ping":7}`:         "7",
		`{"ping":1,"ping":2}`:                  "2",
		"":                                     refused,
		" ":                                    refused,
		"null":                                 refused,
		"1":                                    refused,
		`"ping"`:                               refused,
		`[{"ping":1}]`:                         refused,
		`{"ping":1`:                            refused,
		`{"ping":1}{"ping":2}`:                 refused,
		`{"ping":1} x`:                         refused,
		`{ping:1}`:                             refused,
		`{"ping":"1"}`:                         refused,
		`{"ping":true}`:                        refused,
		`{"ping":{}}`:                          refused,
		`{"ping":1e999}`:                       refused,
		`{"ping":01}`:                          refused,
		"{\"\xff\":1}":                         refused,
		"\xef\xbb\xbf{}":                       refused,
		"\x00":                                 refused,
		strings.Repeat("[", 4096):              refused,
		`{"a":` + strings.Repeat("[", 4091):    refused,
		strings.Repeat(`{"a":`, 819):           refused,
		"\x82\xa7payload\xa1\x00is not json":   refused,
		`{"` + strings.Repeat("x", 4000) + `"`: refused,
	} {
		c, err := Parse([]byte(message))
		got := "none"
		if c.Ping != nil {
			got = fmt.Sprint(*c.Ping)
		}
		if err != nil {
			got = refused
		}
		if got != want {
			t.Errorf("%.60q: got ping %s, want %s", message, got, want)
		}
		if refusal, ok := errors.AsType[*ws.CloseError](err); err != nil && (!ok || refusal.Code != 1007) {
			t.Errorf("%.60q: got %v, want 1007", message, err)
		}
	}
}

func BenchmarkParse(b *testing.B) {
	var keys []string
	for n := range 400 {
		keys = append(keys, fmt.Sprintf(`"%d":0`, n))
	}
	for name, message := range map[string]string{
		"ping":        `{"ping":1790000000123}`,
		"many keys":   "{" + strings.Join(keys, ",") + "}",
		"long string": `{"a":"` + strings.Repeat("x", 4000) + `"}`,
		"escapes":     `{"a":"` + strings.Repeat("\\n", 2000) + `"}`,
		"nested":      strings.Repeat(`{"a":`, 680) + "0" + strings.Repeat("}", 680),
		"long keys":   strings.Repeat(`[`, 2000),
	} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(message)))
			for b.Loop() {
				Parse([]byte(message))
			}
		})
	}
}
