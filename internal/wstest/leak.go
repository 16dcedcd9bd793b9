package wstest

import (
	"fmt"
	"log/slog"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"
)

const module = "example.com/chat"

// Main runs the tests of a package, as its TestMain, and exits. It discards the log, and fails if a goroutine
// that the chat started outlives the tests.
func Main(m *testing.M) {
	slog.SetDefault(slog.New(slog.DiscardHandler))
	status := m.Run()
	if stacks := leftBehind(); status == 0 && stacks != "" {
		fmt.Printf("goroutines are left behind:\n%s\n", stacks)
		status = 1
	}
	os.Exit(status)
}

// leftBehind returns the stacks of the goroutines that the chat started. It waits up to 10 s for them to
// return.
func leftBehind() (stacks string) {
	all := make([]byte, 16<<20)
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		stacks = ""
		for stack := range strings.SplitSeq(string(all[:runtime.Stack(all, true)]), "\n\n") {
			if startedByChat(stack) {
				stacks += stack + "\n\n"
			}
		}
		if stacks == "" {
			break
		}
	}
	return stacks
}

// startedByChat reports whether the outermost function of the module in a goroutine's stack is neither a
// test's nor of this package. That function started the goroutine, or sync.WaitGroup.Go or net/http did in
// its name.
func startedByChat(stack string) bool {
	i := max(strings.LastIndex(stack, "\n"+module), strings.LastIndex(stack, "\ncreated by "+module))
	if i < 0 {
		return false
	}
	function, rest, _ := strings.Cut(stack[i+1:], "\n")
	file, _, _ := strings.Cut(rest, "\n")
	return !strings.Contains(file, "_test.go:") && !strings.Contains(function, module+"/internal/wstest.")
}
