package wstest

import "os"

// Long is set where tests may take minutes, and All where they may take half an hour.
var (
	Long = os.Getenv("CHAT_TEST_LONG") != ""
	All  = os.Getenv("CHAT_TEST_LONG") == "all"
)
