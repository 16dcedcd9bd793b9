package e2e

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"example.com/chat/internal/wstest"
)

var screenshots = flag.String("screenshots", "", "have TestPage write screenshots to this `directory`")

// engines are the programs that the tests of an engine in page/ need, with their Debian packages.
var engines = map[string]map[string]string{
	"chromium": {"chromium": "chromium"},
	"firefox":  {"firefox-esr": "firefox-esr"},
	"webkit":   {"WebKitWebDriver": "webkit2gtk-driver", "Xvfb": "xvfb"},
}

// The page keeps its promises, which are the tests in page/. Without CHAT_TEST_LONG the most important ones run, in
// Chromium alone.
func TestPage(t *testing.T) {
	t.Parallel()
	for engine, programs := range engines {
		if engine != "chromium" && !wstest.Long() {
			continue
		}
		for n, files := range testFiles(t, engine) {
			t.Run(fmt.Sprint(engine, " ", n+1), func(t *testing.T) {
				t.Parallel()
				testPage(t, engine, programs, files)
			})
		}
	}
}

// testFiles returns the files in page/ with the tests of an engine, for each process that runs some. Chromium has by far
// the most tests, which mostly wait.
func testFiles(t *testing.T, engine string) [][]string {
	files, err := filepath.Glob("page/*.test.js")
	if err != nil {
		t.Fatal(err)
	}
	processes := make([][]string, 1)
	if engine == "chromium" && wstest.Long() {
		processes = make([][]string, 2)
	}
	for i, file := range files {
		n := i % len(processes)
		processes[n] = append(processes[n], filepath.Base(file))
	}
	return processes
}

// testPage runs the tests in files, which are in page/, in an engine that needs programs.
func testPage(t *testing.T, engine string, programs map[string]string, files []string) {
	for program, onDebian := range programs {
		requireProgram(t, program, onDebian)
	}
	env := []string{"CHAT=" + built, "ENGINES=" + engine, "TMPDIR=" + t.TempDir()}
	if wstest.Long() {
		cert, key := wstest.NewCertificate(t)
		env = append(env, "CERT="+cert, "KEY="+key, "GORILLA="+gorillasPage(t))
	} else {
		env = append(env, "SHORT=1")
	}
	if *screenshots != "" {
		dir, err := filepath.Abs(*screenshots)
		if err != nil {
			t.Fatal(err)
		}
		env = append(env, "SCREENSHOTS="+dir)
	}
	runNode(t, "page", env, append([]string{"run.js"}, files...)...)
}

// The modules of the page that need no browser work in Node.
func TestPageModules(t *testing.T) {
	t.Parallel()
	readSources()
	tests, err := filepath.Glob("../assets/test/*.test.js")
	if err != nil {
		t.Fatal(err)
	}
	runNode(t, ".", nil, append([]string{"--test"}, tests...)...)
}

// runNode runs Node in a directory with additions to the environment. If Node reports failed tests, so does runNode.
func runNode(t *testing.T, dir string, env []string, args ...string) {
	t.Helper()
	requireProgram(t, "node", "nodejs")
	if _, err := os.Stat("page/node_modules"); err != nil && dir == "page" {
		missing(t, "%v; run npm ci in e2e/page", err)
	}
	readSources()
	ctx := context.Background()
	if deadline, ok := t.Deadline(); ok {
		early, cancel := context.WithDeadline(ctx, deadline.Add(-20*time.Second)) // the output shows which test didn't end
		defer cancel()
		ctx = early
	}
	cmd := exec.CommandContext(ctx, "node", append([]string{"--test-reporter=spec"}, args...)...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), env...)
	// The group has the browsers, too.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) }
	cmd.WaitDelay = 10 * time.Second
	out, err := cmd.CombinedOutput()
	if cmd.Process != nil {
		syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
	}
	if t.Logf("node wrote\n%s", out); err != nil {
		t.Error(err)
	}
}

// gorillasPage returns the file of the page of gorilla's chat example, in the module that bench compares with.
func gorillasPage(t *testing.T) string {
	download := exec.Command("go", "mod", "download", "-json", "github.com/gorilla/websocket")
	download.Dir = "../bench"
	out, err := download.Output()
	if err != nil {
		missing(t, "github.com/gorilla/websocket: %v\n%s", err, out)
	}
	var module struct{ Dir string }
	if err := json.Unmarshal(out, &module); err != nil {
		t.Fatal(err)
	}
	return filepath.Join(module.Dir, "examples/chat/home.html")
}
