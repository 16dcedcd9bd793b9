package main

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"example.com/chat/internal/wstest"
)

// Paths of the programs that TestMain builds. natsPath is the NATS server in the version that go.mod names.
var chatPath, relayPath, natsPath string

func TestMain(m *testing.M) {
	flag.Set("test.parallel", "8") // the tests wait most of the time
	os.Exit(buildAndTest(m))
}

func buildAndTest(m *testing.M) (status int) {
	dir, err := os.MkdirTemp("", "relay")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	readSources()
	for _, build := range []struct {
		path            *string
		name, from, pkg string
	}{{&chatPath, "chat", "..", "."}, {&relayPath, "relay", ".", "."}, {&natsPath, "nats", ".", "./internal/natsserver"}} {
		*build.path = filepath.Join(dir, build.name)
		cmd := exec.Command("go", "build", "-C", build.from, "-o", *build.path, build.pkg)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "%v: %v: %s\n", cmd, err, out)
			return 1
		}
	}
	return m.Run()
}

// readSources reads the directories with the programs' sources. The go command reuses a test result until a
// file or directory changes that the test has read, and it does not see what the builds above have read.
func readSources() {
	filepath.WalkDir("..", func(_ string, entry fs.DirEntry, err error) error {
		switch entry.Name() {
		case ".git", ".ci", "bench", "e2e":
			return filepath.SkipDir
		}
		return err
	})
}

// longOr returns long if CHAT_TEST_LONG is set, and otherwise short.
func longOr[T any](long, short T) T {
	if wstest.Long() {
		return long
	}
	return short
}

// ports holds the ports that freeAddr has returned. They are below 32768, where Linux starts to choose ports
// itself, so that a program can listen on its port again after a restart.
var ports = struct {
	sync.Mutex
	used map[int]bool
}{used: make(map[int]bool)}

// freeAddr returns an address at which nothing listens, another one each time.
func freeAddr(t testing.TB) string {
	t.Helper()
	ports.Lock()
	defer ports.Unlock()
	for range 1000 {
		port := 20000 + rand.N(12000)
		if ports.used[port] {
			continue
		}
		l, err := net.Listen("tcp", fmt.Sprint("127.0.0.1:", port))
		if err != nil {
			continue
		}
		l.Close()
		ports.used[port] = true
		return l.Addr().String()
	}
	t.Fatal("found no free port in 1000 attempts")
	return ""
}

// program is a program that can be started any number of times with the same arguments. Only the test's
// goroutine may use it.
type program struct {
	// Set before the first start.
	t    testing.TB
	name string
	path string
	args []string
	env  []string // added to the test's environment

	// Set by start, for the latest run.
	cmd   *exec.Cmd
	ended chan struct{} // closed when cmd has ended

	log programLog // of all runs
}

// newProgram returns a program that is not running. At the end of the test it kills the program, and logs the
// program's output if the test has failed.
func newProgram(t testing.TB, name, path string, args ...string) *program {
	p := &program{t: t, name: name, path: path, args: args}
	t.Cleanup(func() {
		p.kill()
		if t.Failed() {
			t.Logf("%s %s\n%s", name, strings.Join(args, " "), p.log.last(60))
		}
	})
	return p
}

func (p *program) start() {
	p.t.Helper()
	p.log.note("started")
	cmd, ended := exec.Command(p.path, p.args...), make(chan struct{})
	cmd.Stdout, cmd.Stderr, cmd.Env = &p.log, &p.log, append(os.Environ(), p.env...)
	if err := cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	p.cmd, p.ended = cmd, ended
	go func() {
		cmd.Wait()
		close(ended)
	}()
}

// stop sends SIGTERM and waits for the end. The test fails unless the exit status is 0.
func (p *program) stop() {
	p.t.Helper()
	p.signal("stopped", syscall.SIGTERM)
	if status := p.status(time.Minute); status != 0 {
		p.t.Errorf("%s: got exit status %d after SIGTERM, want 0", p.name, status)
	}
}

// kill sends SIGKILL and waits for the end. It does nothing if the program was never started.
func (p *program) kill() {
	if p.cmd != nil {
		p.signal("killed", syscall.SIGKILL)
		<-p.ended
	}
}

func (p *program) freeze() { p.signal("frozen", syscall.SIGSTOP) }
func (p *program) thaw()   { p.signal("thawed", syscall.SIGCONT) }

func (p *program) signal(note string, s syscall.Signal) {
	p.log.note(note)
	p.cmd.Process.Signal(s)
}

// status waits until the program has ended and returns its exit status. The test fails if that takes longer
// than limit.
func (p *program) status(limit time.Duration) int {
	p.t.Helper()
	select {
	case <-p.ended:
		return p.cmd.ProcessState.ExitCode()
	case <-time.After(limit):
		p.t.Fatalf("%s still runs after %v, want an exit", p.name, limit)
		return 0
	}
}

func (p *program) running() bool {
	select {
	case <-p.ended:
		return false
	default:
		return true
	}
}

// programLog is a program's output, and notes of what the test did to the program. Any goroutine may use it.
type programLog struct {
	// Guarded by mu.
	mu    sync.Mutex
	text  bytes.Buffer // output
	noted bytes.Buffer // output and notes
}

func (l *programLog) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.noted.Write(b)
	return l.text.Write(b)
}

// note adds a note of what the test does.
func (l *programLog) note(what string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	fmt.Fprintf(&l.noted, "--- %s %s\n", what, time.Now().Format("15:04:05.000"))
}

// String returns the output of all runs.
func (l *programLog) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func (l *programLog) lines() int { return strings.Count(l.String(), "\n") }

// last returns the last n lines of output and notes.
func (l *programLog) last(n int) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	lines := strings.SplitAfter(l.noted.String(), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "")
}

// chatProgram is a chat. It embeds its program, so that tests stop and kill it like any other.
type chatProgram struct {
	*program
	addr     string // for clients
	debug    string // for /debug/vars
	relayURL string // for -chat of its relay
}

// newChat returns a chat that is not running. Its -history is larger than the number of lines in any test,
// unless args have another one.
func newChat(t testing.TB, name string, overUnix bool, args ...string) *chatProgram {
	t.Helper()
	c := &chatProgram{addr: freeAddr(t), debug: freeAddr(t)}
	relay := freeAddr(t)
	c.relayURL = "ws://" + relay + "/relay"
	if overUnix {
		relay = "unix:" + filepath.Join(shortDir(t), "relay")
		c.relayURL = relay
	}
	args = append([]string{"-addr", c.addr, "-debug", c.debug, "-relay", relay, "-history", "1048576"}, args...)
	c.program = newProgram(t, name, chatPath, args...)
	return c
}

// shortDir is t.TempDir with a short path, because the path of a Unix socket has at most 107 bytes.
func shortDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "relay")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// ready waits until the chat answers requests.
func (c *chatProgram) ready() {
	c.t.Helper()
	wstest.Until(c.t, c.name+" answers", func() bool {
		_, err := c.vars()
		return err == nil
	})
}

// count returns the chat's counter of that name.
func (c *chatProgram) count(name string) int {
	c.t.Helper()
	vars, err := c.vars()
	if err != nil {
		c.t.Fatal(err)
	}
	n, ok := vars[name].(float64)
	if !ok {
		c.t.Fatalf("%s: got no counter %s", c.name, name)
	}
	return int(n)
}

// vars returns the chat's /debug/vars.
func (c *chatProgram) vars() (map[string]any, error) {
	client := http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Get("http://" + c.debug + "/debug/vars")
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	var vars struct{ Chat map[string]any }
	err = json.NewDecoder(response.Body).Decode(&vars)
	return vars.Chat, err
}

// natsKind says which NATS server a test uses.
type natsKind string

const (
	currentNATS  natsKind = "current"  // the version that go.mod names
	debianNATS   natsKind = "debian"   // the version in Debian, the oldest one that relays support
	embeddedNATS natsKind = "embedded" // the server in the first relay
)

// newNATS returns a NATS server that is not running.
func newNATS(t testing.TB, kind natsKind, addr, store string, more ...string) *program {
	t.Helper()
	path := natsPath
	if kind == debianNATS {
		path = debianServer(t)
	}
	_, port, _ := net.SplitHostPort(addr)
	return newProgram(t, "NATS "+string(kind), path, append([]string{"-a", "127.0.0.1", "-p", port, "-sd", store}, more...)...)
}

// debianServer returns the path of Debian's NATS server. If it is not installed the test is skipped, or fails
// on CI.
func debianServer(t testing.TB) string {
	t.Helper()
	for _, path := range []string{"/usr/sbin/nats-server", "/usr/bin/nats-server"} {
		if _, err := os.Stat(path); err == nil {
			return path
		}
	}
	if os.Getenv("CI") != "" {
		t.Fatal("found no nats-server: apt-get install nats-server")
	}
	t.Skip("found no nats-server: apt-get install nats-server")
	return ""
}

// answersNATS reports whether a NATS server answers at addr.
func answersNATS(addr string) bool {
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		return false
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(time.Second))
	b := make([]byte, 5)
	n, _ := conn.Read(b)
	return string(b[:n]) == "INFO "
}

const (
	// linkDelay is the delay of each packet on a link.
	linkDelay = 50 * time.Millisecond

	// linkSpeed is the number of bytes a second in each direction of a link's connection.
	linkSpeed = 200_000
)

// link is a TCP proxy that acts as a slow network between a relay and NATS, and that fails when a test wants
// it to.
type link struct {
	// Set at construction.
	t            testing.TB
	addr, target string

	// Owned by the test's goroutine, which calls cut, freeze and mend.
	listener net.Listener
	whole    context.Context // done when the link is cut
	cutAll   context.CancelFunc

	// Any goroutine.
	frozen  atomic.Bool
	running sync.WaitGroup
}

// newLink returns a working link to target. It is cut at the end of the test.
func newLink(t testing.TB, target string) *link {
	t.Helper()
	l := &link{t: t, addr: freeAddr(t), target: target}
	l.whole, l.cutAll = context.WithCancel(context.Background())
	l.mend()
	t.Cleanup(func() {
		l.cut()
		l.running.Wait()
	})
	return l
}

// cut resets all connections. The link refuses new ones until mend.
func (l *link) cut() {
	l.listener.Close()
	l.cutAll()
	l.whole, l.cutAll = context.WithCancel(context.Background())
}

// freeze stops all packets without closing a connection. The link refuses new connections until mend.
func (l *link) freeze() {
	l.listener.Close()
	l.frozen.Store(true)
}

// mend makes the link work after cut or freeze. Frozen packets move on.
func (l *link) mend() {
	l.t.Helper()
	listener, err := net.Listen("tcp", l.addr)
	if err != nil {
		l.t.Fatal(err)
	}
	l.listener = listener
	l.frozen.Store(false)
	whole := l.whole
	l.running.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			l.running.Go(func() { l.join(whole, conn) })
		}
	})
}

// join carries packets between conn and a new connection to the target, until one of them is closed or whole
// is done. It closes both.
func (l *link) join(whole context.Context, conn net.Conn) {
	defer conn.Close()
	to, err := net.Dial("tcp", l.target)
	if err != nil {
		return
	}
	defer to.Close()
	defer context.AfterFunc(whole, func() {
		for _, end := range []net.Conn{conn, to} {
			end.(*net.TCPConn).SetLinger(0)
			end.Close()
		}
	})()
	var there sync.WaitGroup
	there.Go(func() { l.carry(whole, to, conn) })
	l.carry(whole, conn, to)
	there.Wait()
}

// packet holds the bytes of one read.
type packet struct {
	bytes []byte
	at    time.Time // of arrival
}

// carry carries packets in one direction, with linkDelay and linkSpeed. When one of the connections is closed
// it closes both.
func (l *link) carry(whole context.Context, to, from net.Conn) {
	packets := make(chan packet, 100)
	var reading sync.WaitGroup
	reading.Go(func() {
		defer close(packets)
		for {
			b := make([]byte, 4096)
			n, err := from.Read(b)
			if err != nil {
				return
			}
			packets <- packet{b[:n], time.Now().Add(linkDelay)}
		}
	})
	for p := range packets {
		time.Sleep(time.Until(p.at))
		for l.frozen.Load() && whole.Err() == nil {
			time.Sleep(time.Millisecond)
		}
		if _, err := to.Write(p.bytes); err != nil {
			from.Close() // ends the reading goroutine
		}
		time.Sleep(time.Duration(len(p.bytes)) * time.Second / linkSpeed)
	}
	to.Close()
	from.Close()
	reading.Wait()
}
