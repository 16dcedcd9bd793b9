package wstest

import (
	"testing"
	"time"
)

// Until waits until done reports true. After 30 s the test fails with a message that ends in "until" and
// what.
func Until(t testing.TB, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !done(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("gave up after 30 s of waiting until ", what)
		}
	}
}
