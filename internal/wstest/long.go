package wstest

import "os"

// Long reports whether tests may take minutes. They may if CHAT_TEST_LONG is set.
//
// Long reads the environment at each call. The go command repeats a test instead of using its cached result
// if a variable that the test has read has changed. It does not notice reads before the first test.
func Long() bool { return os.Getenv("CHAT_TEST_LONG") != "" }
