package wstest

import "os"

// Long reports whether tests may take minutes, and All whether half an hour. Both read the environment each
// time: the go command caches results by what a test, not a variable of its package, has read there.
func Long() bool { return os.Getenv("CHAT_TEST_LONG") != "" }
func All() bool  { return os.Getenv("CHAT_TEST_LONG") == "all" }
