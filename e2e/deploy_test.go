package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/websocket"

	"example.com/chat/internal/wstest"
)

// output is what a program has written so far.
type output struct {
	mu   sync.Mutex
	text bytes.Buffer
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

// start runs a program until the end of the test.
func start(t *testing.T, name string, args ...string) (*exec.Cmd, *output) {
	t.Helper()
	out := new(output)
	cmd := exec.Command(name, args...)
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Signal(syscall.SIGTERM)
		cmd.Wait()
		if t.Failed() {
			t.Log(cmd, "\n", out)
		}
	})
	return cmd, out
}

// serves reports whether a proxy answers at addr. A proxy that starts may take a connection and reset it.
func serves(addr string) bool {
	response, err := http.Get("http://" + addr + "/chat/")
	if err != nil {
		return false
	}
	response.Body.Close()
	return true
}

// startChat runs the chat, and returns where.
func startChat(t *testing.T) (addr string, out *output) {
	t.Helper()
	_, out = start(t, built, "-addr", "127.0.0.1:0")
	url := regexp.MustCompile(`msg=listening url=http://([^/]+)/`)
	wstest.Until(t, "the chat listens", func() bool { return url.MatchString(out.String()) })
	return url.FindStringSubmatch(out.String())[1], out
}

// write writes a file of a test.
func write(t *testing.T, dir, name, content string) (path string) {
	t.Helper()
	path = filepath.Join(dir, name)
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// snippet returns a file of deploy/, with replacements that must all be needed.
func snippet(t *testing.T, name string, replace map[string]string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("../deploy", name))
	if err != nil {
		t.Fatal(err)
	}
	s := string(b)
	for from, to := range replace {
		if strings.Count(s, from) != 1 {
			t.Fatalf("%q is not once in %s", from, name)
		}
		s = strings.Replace(s, from, to, 1)
	}
	return s
}

// proxy is a proxy in front of a chat.
type proxy struct {
	addr   string
	reload func(more string) // reads its configuration again, which has it listen at more, too
}

func startNginx(t *testing.T, chat string) proxy {
	requireProgram(t, "nginx", "apt-get install nginx-light")
	dir, addr := t.TempDir(), freeAddr(t)
	write(t, dir, "chat.conf", snippet(t, "nginx.conf", map[string]string{"127.0.0.1:8080": chat}))
	config := func(listen ...string) string {
		temp := ""
		for _, kind := range []string{"client_body", "proxy", "fastcgi", "uwsgi", "scgi"} {
			temp += kind + "_temp_path " + dir + ";\n"
		}
		return "daemon off; pid " + dir + "/pid; error_log stderr; events {}\nhttp { access_log off;\n" + temp +
			"server { listen " + strings.Join(listen, "; listen ") + "; include " + dir + "/chat.conf; } }\n"
	}
	file := write(t, dir, "nginx.conf", config(addr))
	cmd, _ := start(t, "nginx", "-c", file, "-e", "stderr")
	wstest.Until(t, "nginx serves", func() bool { return serves(addr) })
	return proxy{addr, func(more string) {
		write(t, dir, "nginx.conf", config(addr, more))
		cmd.Process.Signal(syscall.SIGHUP)
	}}
}

func startHAProxy(t *testing.T, chat string) proxy {
	return runHAProxy(t, "haproxy.cfg", map[string]string{"127.0.0.1:8080": chat})
}

// runHAProxy runs haproxy with a file of deploy/, with replacements as for snippet.
func runHAProxy(t *testing.T, name string, replace map[string]string) proxy {
	requireProgram(t, "haproxy", "apt-get install haproxy")
	dir, addr := t.TempDir(), freeAddr(t)
	config := func(listen string) string {
		replace["bind :80"] = "bind " + listen
		return snippet(t, name, replace)
	}
	file := write(t, dir, "haproxy.cfg", config(addr))
	cmd, _ := start(t, "haproxy", "-W", "-db", "-f", file)
	wstest.Until(t, "haproxy serves", func() bool { return serves(addr) })
	return proxy{addr, func(more string) {
		write(t, dir, "haproxy.cfg", config(addr+","+more))
		cmd.Process.Signal(syscall.SIGUSR2)
	}}
}

// peer is someone who chats through a proxy.
type peer struct {
	t  *testing.T
	ws *websocket.Conn
}

func join(t *testing.T, addr, room string) peer {
	t.Helper()
	return joinAt(t, addr, "/chat/"+room)
}

// joinAt is join for a chat that may be at another path, or without a proxy.
func joinAt(t *testing.T, addr, path string) peer {
	t.Helper()
	ws, err := websocket.Dial("ws://"+addr+path+"ws", "", "http://"+addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ws.Close() })
	ws.SetDeadline(time.Now().Add(5 * time.Minute))
	return peer{t, ws}
}

// meet has peers hear what the first of them says.
func meet(text string, peers ...peer) {
	t := peers[0].t
	t.Helper()
	if err := websocket.Message.Send(peers[0].ws, text); err != nil {
		t.Fatal(err)
	}
	for i, p := range peers {
		var heard string
		if err := websocket.Message.Receive(p.ws, &heard); err != nil || heard != text {
			t.Fatalf("peer %d heard %q, %v; want %q", i, heard, err, text)
		}
	}
}

// get asks for a page, and expects a status.
func get(t *testing.T, url string, status int) {
	t.Helper()
	response, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	if response.StatusCode != status {
		t.Errorf("%s: status %s, want %d", url, response.Status, status)
	}
}

// Behind a proxy, and there below a path, everything is as it is without; people may be
// silent for two minutes, and talk on when the proxy gets another configuration.
func TestBehindAProxy(t *testing.T) {
	for name, startProxy := range map[string]func(t *testing.T, chat string) proxy{"nginx": startNginx, "haproxy": startHAProxy} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			chat, log := startChat(t)
			p := startProxy(t, chat)
			get(t, "http://"+p.addr+"/chat/", 200)
			get(t, "http://"+p.addr+"/chat/assets/jquery.min.js", 200)
			get(t, "http://"+p.addr+"/chat/ws", 426)
			get(t, "http://"+p.addr+"/chat/Lobby", 200) // by way of /chat/lobby/
			get(t, "http://"+p.addr+"/chat/lobby/ws", 426)

			ann, bob := join(t, p.addr, ""), join(t, p.addr, "")
			meet("hello", ann, bob)
			meet("hello yourself", bob, ann)
			meet("hello, lobby", join(t, p.addr, "lobby/"), join(t, p.addr, "lobby/"))

			if _, err := websocket.Dial("ws://"+p.addr+"/chat/ws", "", "http://evil.example"); err == nil {
				t.Error("a page of another origin may connect")
			}
			wstest.Until(t, "a peer's address is logged", func() bool {
				return regexp.MustCompile(`reason="other origin" room="" peer=127\.0\.0\.1:\d+ x_forwarded_for=127\.0\.0\.1`).MatchString(log.String())
			})

			if wstest.Long() {
				silence(ann, bob, 2*time.Minute)
			} else {
				t.Log("without two minutes of silence: set CHAT_TEST_LONG for that")
			}
			meet("still here", ann, bob)

			more := freeAddr(t)
			reloaded := time.Time{}
			wstest.Until(t, "the proxy has read its configuration again", func() bool {
				if time.Since(reloaded) > 5*time.Second { // one that has just started may miss the signal
					p.reload(more)
					reloaded = time.Now()
				}
				return serves(more)
			})
			carol := join(t, more, "")
			meet("who was here before is here", ann, bob, carol)
			meet("and who is new is, too", carol, ann, bob)
		})
	}
}

// silence lets d pass, in which the peers only answer the chat's pings.
func silence(ann, bob peer, d time.Duration) {
	ann.t.Helper()
	var listening sync.WaitGroup
	for _, p := range []peer{ann, bob} {
		listening.Go(func() {
			p.ws.SetReadDeadline(time.Now().Add(d))
			var heard string
			if err := websocket.Message.Receive(p.ws, &heard); err == nil || !err.(net.Error).Timeout() {
				p.t.Errorf("heard %q, %v", heard, err)
			}
			p.ws.SetDeadline(time.Now().Add(time.Minute))
		})
	}
	listening.Wait()
}

// chats are several chats behind haproxy-rooms.cfg, and who is there.
type chats struct {
	t      *testing.T
	proxy  proxy
	all    map[string]program // by title
	people map[string][]peer  // by room
}

func startChats(t *testing.T) chats {
	requireProgram(t, "haproxy", "apt-get install haproxy")
	all, replace := map[string]program{}, map[string]string{"expire 5m": "expire 1ms", "inter 2s": "inter 1s"}
	for _, n := range []string{"1", "2", "3"} {
		all["chat"+n] = startProgram(t, "-title", "chat"+n)
		replace["10.0.0."+n+":8080"] = all["chat"+n].addr
	}
	return chats{t, runHAProxy(t, "haproxy-rooms.cfg", replace), all, map[string][]peer{}}
}

// serving returns the title of the chat that serves a room's page, or "" if none does.
func (c chats) serving(room string) string {
	c.t.Helper()
	response, err := http.Get("http://" + c.proxy.addr + "/chat/" + room)
	if err != nil {
		c.t.Fatal(err)
	}
	defer response.Body.Close()
	page, err := io.ReadAll(response.Body)
	if err != nil {
		c.t.Fatal(err)
	}
	title := regexp.MustCompile("<title>(chat.)</title>").FindSubmatch(page)
	if title == nil {
		return ""
	}
	return string(title[1])
}

// enter has one more enter a room, who is heard by everybody there, and at the chat that serves the page.
func (c chats) enter(room string) {
	c.t.Helper()
	here := joinAt(c.t, c.all[c.serving(room)].addr, "/"+room)
	defer here.ws.Close()
	c.people[room] = append(c.people[room], join(c.t, c.proxy.addr, room))
	meet("hello", append(slices.Clone(c.people[room]), here)...)
	slices.Reverse(c.people[room]) // another one speaks next time
}

// gone expects that the connections of a room are closed.
func (c chats) gone(room string) {
	c.t.Helper()
	for _, p := range c.people[room] {
		p.ws.SetDeadline(time.Now().Add(10 * time.Second))
		var heard string
		if err := websocket.Message.Receive(p.ws, &heard); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
			c.t.Errorf("%q: who was at the chat that stopped heard %q, %v", room, heard, err)
		}
	}
	delete(c.people, room)
}

// Behind haproxy-rooms.cfg everything of a room is at one of several chats. When that one stops the
// room goes to another, and when it goes on the room goes back once it is empty. No other room moves.
func TestRoomsAtSeveralChats(t *testing.T) {
	t.Parallel()
	c := startChats(t)
	occupied, empty := []string{""}, []string{}
	for i := range 30 {
		occupied = append(occupied, fmt.Sprintf("room-%d/", i))
		empty = append(empty, fmt.Sprintf("empty-%d/", i))
	}
	first, moved := map[string]string{}, map[string]string{} // chats by room
	for _, room := range slices.Concat(occupied, empty) {
		first[room] = c.serving(room)
	}
	if used := slices.Compact(slices.Sorted(maps.Values(first))); len(used) != len(c.all) {
		t.Fatalf("all rooms are at %q", used)
	}
	for _, room := range occupied {
		c.enter(room)
		c.enter(room)
	}

	stopped := first[""]
	c.all[stopped].Process.Signal(syscall.SIGSTOP)
	wstest.Until(t, "a room is at another chat", func() bool { return !slices.Contains([]string{"", stopped}, c.serving("")) })
	for room, was := range first {
		moved[room] = c.serving(room)
		if (moved[room] != was) != (was == stopped) {
			t.Errorf("%q was at %q, and is at %q without %q", room, was, moved[room], stopped)
		}
	}
	for _, room := range occupied {
		if first[room] == stopped {
			c.gone(room)
			c.enter(room)
		}
		c.enter(room)
	}

	c.all[stopped].Process.Signal(syscall.SIGCONT)
	wstest.Until(t, "empty rooms are where they were", func() bool {
		return !slices.ContainsFunc(empty, func(room string) bool { return c.serving(room) != first[room] })
	})
	for _, room := range occupied {
		if is := c.serving(room); is != moved[room] {
			t.Errorf("%q was at %q, and is at %q with people in it", room, moved[room], is)
		}
		c.enter(room)
	}
}

// systemd understands the unit, and finds it well sandboxed.
func TestUnit(t *testing.T) {
	requireProgram(t, "systemd-analyze", "apt-get install systemd")
	unit := write(t, t.TempDir(), "chat.service", snippet(t, "chat.service", map[string]string{"=/usr/local/bin/chat": "=" + built}))
	for _, args := range [][]string{{"verify", unit}, {"security", "--offline=true", "--threshold=15", unit}} {
		if out, err := exec.Command("systemd-analyze", args...).CombinedOutput(); err != nil {
			t.Errorf("systemd-analyze %s: %v\n%s", args, err, out)
		}
	}
	text := snippet(t, "chat.service", nil)
	kept := regexp.MustCompile(`(?m)^StateDirectory=(.*)$`).FindStringSubmatch(text)
	if kept == nil || !strings.Contains(text, "-state /var/lib/"+kept[1]+"\n") {
		t.Errorf("-state is not the StateDirectory %q", kept)
	}
	flags := regexp.MustCompile(`ExecStart=\S+(.*)`).FindStringSubmatch(text)
	out, err := exec.Command(built, append(strings.Fields(flags[1]), "-h")...).CombinedOutput()
	if err != nil {
		t.Errorf("the flags in the unit: %v\n%s", err, out)
	}
}

// The image can be built, and has nothing in it but the program.
func TestImage(t *testing.T) {
	requireProgram(t, "buildah", "apt-get install buildah")
	if os.Getuid() != 0 {
		missing(t, "buildah can look into an image for root only")
	}
	dir := t.TempDir()
	write(t, dir, "Dockerfile", snippet(t, "Dockerfile", nil))
	program, err := os.ReadFile(built)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "chat"), program, 0o755); err != nil {
		t.Fatal(err)
	}
	buildah := func(args ...string) string {
		t.Helper()
		out, err := exec.Command("buildah", append([]string{"--root", dir + "/root", "--runroot", dir + "/run", "--storage-driver", "vfs"}, args...)...).Output()
		if err != nil {
			t.Fatalf("buildah %s: %v\n%s", args, err, out)
		}
		return strings.TrimSpace(string(out))
	}
	buildah("bud", "--isolation", "chroot", "-t", "chat", dir)
	container := buildah("from", "chat")
	files, err := os.ReadDir(buildah("mount", container))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		if file.Name() != "chat" {
			t.Errorf("%s is in the image", file.Name())
		}
	}
	out := buildah("run", "--isolation", "chroot", container, "--", "/chat", "-h")
	if !strings.Contains(out, "Usage: chat") {
		t.Errorf("it says %q", out)
	}
	buildah("umount", container)
}
