// Package e2e tests the built program from outside: its command line, its signals, its page in a browser, its
// behaviour under attack, and the files in deploy/.
package e2e

import (
	"bytes"
	"flag"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/net/websocket"

	"example.com/chat/internal/wstest"
)

// built is the path of the program. TestMain builds it as for deployment.
var built string

func TestMain(m *testing.M) {
	if spec := os.Getenv(floodVariable); spec != "" {
		fmt.Fprintln(os.Stderr, "flood:", flood(spec))
		os.Exit(1)
	}
	syscall.Umask(0o022)           // otherwise the chat may refuse the directories that tests make for -state
	flag.Set("test.parallel", "8") // the tests mostly wait for programs and browsers
	os.Exit(buildAndRun(m))
}

func buildAndRun(m *testing.M) (status int) {
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

// readSources reads the directories of the program's files, so that the go command does not reuse a cached
// result after a change there. It only notices changes of files that a test has read, and the tests do not read
// the sources.
var readSources = sync.OnceFunc(func() {
	filepath.WalkDir("..", func(path string, entry os.DirEntry, err error) error {
		switch entry.Name() {
		case ".git", ".ci", "bench", "node_modules":
			return filepath.SkipDir
		}
		return err
	})
})

// chat returns a command that runs the chat in an empty directory.
func chat(t testing.TB, args ...string) *exec.Cmd {
	readSources()
	cmd := exec.Command(built, args...)
	cmd.Dir = t.TempDir()
	return cmd
}

// program is the chat as a process.
type program struct {
	*exec.Cmd
	addr  string  // where it listens
	debug string  // where it listens for -debug
	log   *output // what it has written
}

// startProgram runs the chat until the end of the test, on 127.0.0.1 unless args contain another -addr.
func startProgram(t testing.TB, args ...string) program {
	t.Helper()
	return startChat(t, chat(t, append([]string{"-addr", "127.0.0.1:0"}, args...)...))
}

// startInShell is startProgram in a shell that runs the command first before the chat.
func startInShell(t *testing.T, first string, args ...string) program {
	t.Helper()
	cmd := chat(t, append([]string{"-addr", "127.0.0.1:0"}, args...)...)
	shell := exec.Command("/bin/sh", append([]string{"-c", first + `; exec "$0" "$@"`}, cmd.Args...)...)
	shell.Dir = cmd.Dir
	return startChat(t, shell)
}

// startChat runs cmd, which must be the chat, until the end of the test. It returns when the chat listens.
func startChat(t testing.TB, cmd *exec.Cmd) program {
	t.Helper()
	p := program{Cmd: cmd, log: start(t, cmd, syscall.SIGKILL)}
	wstest.Until(t, "the chat listens", func() bool { return strings.Contains(p.log.String(), "msg=listening") })
	for _, url := range regexp.MustCompile(`https?://([0-9.]+:[1-9][0-9]*)/(debug)?`).FindAllStringSubmatch(p.log.String(), -1) {
		if url[2] == "" {
			p.addr = url[1]
		} else {
			p.debug = url[1]
		}
	}
	return p
}

// start runs cmd until the end of the test. It then sends the signal end, and waits for the exit.
func start(t testing.TB, cmd *exec.Cmd, end syscall.Signal) *output {
	t.Helper()
	out := new(output)
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Signal(end)
		cmd.Wait()
		if t.Failed() {
			t.Logf("%s wrote\n%.10000s", cmd, out)
		}
	})
	return out
}

// serves checks that a new client of p hears itself.
func (p program) serves(t *testing.T) {
	t.Helper()
	ann := wstest.Join(t, p.addr)
	defer ann.Conn.Close()
	ann.Send(websocket.TextFrame, "still here")
	ann.Expect(websocket.TextFrame, "still here")
}

// stops checks that p ends with status 0 after SIGTERM.
func (p program) stops(t *testing.T) {
	t.Helper()
	p.Process.Signal(syscall.SIGTERM)
	if err := p.Wait(); err != nil {
		t.Errorf("got %v, want exit status 0", err)
	}
}

// output collects what a process writes. Any goroutine may use it.
type output struct {
	mu   sync.Mutex
	text bytes.Buffer // guarded by mu
}

func (o *output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(b)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// freeAddr returns an address at which nothing listens. Systems choose ports from 32768 or 49152 up for ":0"
// and for clients, so they don't choose this one.
func freeAddr(t *testing.T) string {
	t.Helper()
	for range 100 {
		if l, err := net.Listen("tcp", fmt.Sprint("127.0.0.1:", 20000+rand.N(12000))); err == nil {
			l.Close()
			return l.Addr().String()
		}
	}
	t.Fatal("found no free port")
	return ""
}

// write writes a file in dir, and returns its path.
func write(t *testing.T, dir, name, content string) (path string) {
	t.Helper()
	path = filepath.Join(dir, name)
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// requireProgram skips the test if the program is not installed. On CI the test fails.
func requireProgram(t *testing.T, name, onDebian string) {
	t.Helper()
	if _, err := exec.LookPath(name); err != nil {
		missing(t, "%v; on Debian: apt-get install %s", err, onDebian)
	}
}

// missing skips the test because the machine lacks something. On CI the test fails.
func missing(t *testing.T, format string, args ...any) {
	t.Helper()
	if os.Getenv("CI") != "" {
		t.Fatalf(format, args...)
	}
	t.Skipf(format, args...)
}
