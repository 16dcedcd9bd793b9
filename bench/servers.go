// servers.go: the servers that are measured, each a process of its own.

package main

import (
	"bytes"
	"context"
	"fmt"
	"iter"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// server is one that can be measured.
type server struct {
	name string
	what string   // in a table
	dir  string   // where it is built, relative to bench
	pkg  string   // what is built there; "" for Node
	args []string // besides -addr

	// The longest line it takes, in bytes, if it can't take all.
	maxLine int

	since bool // it can tell a client what that missed
}

// yardstick is the server that all others are compared with.
const yardstick = "gorilla-example"

// wsVersion is the version of Node's ws that is measured.
const wsVersion = "8.23.0"

var servers = []server{
	{name: "chat", what: "**this chat**, on x/net", dir: "..", pkg: ".", args: []string{"-max-message", "65536", "-memory", "2048"}, since: true},
	{name: yardstick, what: "gorilla's chat example as it ships", dir: ".", pkg: "github.com/gorilla/websocket/examples/chat", maxLine: 512},
	{name: "xnet", what: "x/net as it comes, classic hub", dir: ".", pkg: "./server/xnet"},
	{name: "gorilla", what: "gorilla, classic hub", dir: ".", pkg: "./server/gorilla"},
	{name: "gorilla-prepared", what: "gorilla with PreparedMessage, classic hub", dir: ".", pkg: "./server/prepared"},
	{name: "coder", what: "coder/websocket, classic hub", dir: ".", pkg: "./server/coder"},
	{name: "gobwas", what: "gobwas/ws with compiled frames, classic hub", dir: ".", pkg: "./server/gobwas"},
	{name: "gws", what: "lxzan/gws with its Broadcaster, classic hub", dir: ".", pkg: "./server/gws"},
	{name: "melody", what: "olahol/melody, its own hub", dir: ".", pkg: "./server/melody"},
	{name: "node", what: "Node's ws", dir: "server/node"},
	{name: "floor", what: "raw epoll, no library: the floor", dir: ".", pkg: "./server/floor"},
}

func (s server) node() bool { return s.pkg == "" }

// build makes the server's program in the folder out.
func (s server) build(ctx context.Context, out string) error {
	if s.node() {
		return s.installNode(ctx, out)
	}
	cmd := exec.CommandContext(ctx, "go", "build", "-o", filepath.Join(out, s.name), s.pkg)
	cmd.Dir = s.dir
	return runBuild(cmd)
}

// installNode copies the server to out, and installs the ws package there.
func (s server) installNode(ctx context.Context, out string) error {
	if err := os.CopyFS(out, os.DirFS(s.dir)); err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, "npm", "install", "--no-save", "--no-package-lock", "--no-audit", "--no-fund", "ws@"+wsVersion)
	cmd.Dir = out
	return runBuild(cmd)
}

func runBuild(cmd *exec.Cmd) error {
	if output, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", strings.Join(cmd.Args, " "), err, output)
	}
	return nil
}

// command returns the command that runs the program built in the folder bin.
func (s server) command(ctx context.Context, bin, addr string) *exec.Cmd {
	if s.node() {
		return exec.CommandContext(ctx, "node", filepath.Join(bin, "server.mjs"), addr)
	}
	return exec.CommandContext(ctx, filepath.Join(bin, s.name), append([]string{"-addr", addr}, s.args...)...)
}

// process is a running server.
type process struct {
	server
	addr   *net.TCPAddr
	cmd    *exec.Cmd
	output bytes.Buffer
	ended  chan struct{} // closed when it has ended
}

// start runs the server on a free port of 127.0.0.1, and returns when it answers
// handshakes. It does not outlive ctx, nor this process.
func (s server) start(ctx context.Context, bin string) (*process, error) {
	addr, err := freePort()
	if err != nil {
		return nil, err
	}
	return s.startOn(ctx, bin, addr)
}

func (s server) startOn(ctx context.Context, bin string, addr *net.TCPAddr) (*process, error) {
	p := &process{server: s, addr: addr, ended: make(chan struct{})}
	p.cmd = s.command(ctx, bin, addr.String())
	p.cmd.Dir = os.TempDir()
	p.cmd.Stdout, p.cmd.Stderr = &p.output, &p.output
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting %s: %w", s.name, err)
	}
	go func() {
		p.cmd.Wait()
		close(p.ended)
	}()
	if err := p.untilReady(ctx); err != nil {
		p.stop()
		return nil, err
	}
	return p, nil
}

// freePort returns an address of 127.0.0.1 on which nobody listens.
func freePort() (*net.TCPAddr, error) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	return l.Addr().(*net.TCPAddr), l.Close()
}

// untilReady waits until a handshake succeeds.
func (p *process) untilReady(ctx context.Context) error {
	for end := time.Now().Add(10 * time.Second); ; {
		err := p.tryHandshake()
		if err == nil {
			return p.alive()
		}
		if time.Now().After(end) {
			return fmt.Errorf("%s does not answer on %s: %w", p.name, p.addr, err)
		}
		select {
		case <-time.After(10 * time.Millisecond):
		case <-p.ended:
			return p.alive()
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (p *process) tryHandshake() error {
	conn, err := net.Dial("tcp4", p.addr.String())
	if err != nil {
		return err
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(5 * time.Second))
	_, err = shakeHands(conn, "")
	return err
}

// alive returns an error with the server's last words if it has ended.
func (p *process) alive() error {
	select {
	case <-p.ended:
		return fmt.Errorf("%s ended by itself: %v\n%s", p.name, p.cmd.ProcessState, bytes.TrimSpace(p.output.Bytes()))
	default:
		return nil
	}
}

// stop ends the server, and returns when it has ended.
func (p *process) stop() {
	p.cmd.Process.Kill()
	<-p.ended
}

// chooseServers returns the servers of a comma-separated list and the yardstick, in
// the order of servers; all of them for an empty list. Node may be missing on a
// machine, and is then left out, unless the list names it.
func chooseServers(list string) (chosen []server, err error) {
	names, err := choose(list, func(yield func(string) bool) {
		for _, s := range servers {
			if !yield(s.name) {
				return
			}
		}
	})
	if err != nil {
		return nil, fmt.Errorf("-servers: %w", err)
	}
	for _, s := range servers {
		if s.node() {
			if err := nodeInstalled(); err != nil && names[s.name] && list != "" {
				return nil, fmt.Errorf("-servers: %s: %w", s.name, err)
			} else if err != nil {
				continue
			}
		}
		if names[s.name] || s.name == yardstick {
			chosen = append(chosen, s)
		}
	}
	return chosen, nil
}

func nodeInstalled() error {
	_, err := exec.LookPath("node")
	if err == nil {
		_, err = exec.LookPath("npm")
	}
	return err
}

// choose returns the set of the names in a comma-separated list, or of all names if
// the list is empty. An error names what is unknown and what is known.
func choose(list string, all iter.Seq[string]) (map[string]bool, error) {
	known := slices.Sorted(all)
	chosen := make(map[string]bool)
	names := strings.Split(list, ",")
	if list == "" {
		names = known
	}
	for _, name := range names {
		if !slices.Contains(known, name) {
			return nil, fmt.Errorf("%q is unknown; known are %s", name, strings.Join(known, ", "))
		}
		chosen[name] = true
	}
	return chosen, nil
}
