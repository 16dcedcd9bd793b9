// Package e2e tests the built program from outside: its command line, signals, page in a browser,
// behaviour under attack, and what is in deploy/.
package e2e

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
)

// built is the path of the program, which is built as for deployment.
var built string

func TestMain(m *testing.M) {
	flag.Set("test.parallel", "5") // they wait for programs and browsers most of the time
	os.Exit(run(m))
}

func run(m *testing.M) (status int) {
	dir, err := os.MkdirTemp("", "chat")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	built = filepath.Join(dir, "chat")
	build := exec.Command("go", "build", "-o", built, "example.com/chat")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "%v: %s\n", err, out)
		return 1
	}
	return m.Run()
}

// readSources reads the directories of the program's files. The go command caches the results of tests
// until something changes that they have read; it does not see that these have built the program.
var readSources = sync.OnceFunc(func() {
	filepath.WalkDir("..", func(path string, entry os.DirEntry, err error) error {
		switch entry.Name() {
		case ".git", ".ci", "bench":
			return filepath.SkipDir
		}
		return err
	})
})

// chat returns a command that runs the chat from an empty directory.
func chat(t testing.TB, args ...string) *exec.Cmd {
	readSources()
	cmd := exec.Command(built, args...)
	cmd.Dir = t.TempDir()
	return cmd
}

// requireProgram skips the test if a program is not installed.
func requireProgram(t *testing.T, name, onDebian string) {
	t.Helper()
	if _, err := exec.LookPath(name); err != nil {
		missing(t, "%v; on Debian: %s", err, onDebian)
	}
}

// missing skips the test for what it needs and the machine lacks; on CI it fails it.
func missing(t *testing.T, format string, args ...any) {
	t.Helper()
	if os.Getenv("CI") != "" {
		t.Fatalf(format, args...)
	}
	t.Skipf(format, args...)
}
