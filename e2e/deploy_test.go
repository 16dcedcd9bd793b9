package e2e

import (
	"errors"
	"fmt"
	"io"
	"maps"
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

// snippet returns a file of deploy/ with replacements. Each of their keys must occur once.
func snippet(t *testing.T, name string, replace map[string]string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("../deploy", name))
	if err != nil {
		t.Fatal(err)
	}
	s := string(b)
	for from, to := range replace {
		if n := strings.Count(s, from); n != 1 {
			t.Fatalf("%s has %q %d times, want once", name, from, n)
		}
		s = strings.Replace(s, from, to, 1)
	}
	return s
}

// proxy is a proxy in front of a chat.
type proxy struct {
	addr   string
	reload func(more string) // has the proxy read its configuration again, and also listen at more
}

// startNginx runs nginx with nginx.conf in front of the chat at an address.
func startNginx(t *testing.T, chat string) proxy {
	requireProgram(t, "nginx", "nginx-light")
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
	cmd := exec.Command("nginx", "-c", write(t, dir, "nginx.conf", config(addr)), "-e", "stderr")
	start(t, cmd, syscall.SIGTERM)
	wstest.Until(t, "nginx serves", func() bool { return serves(addr) })
	return proxy{addr, func(more string) {
		write(t, dir, "nginx.conf", config(addr, more))
		cmd.Process.Signal(syscall.SIGHUP)
	}}
}

// startHAProxy runs haproxy with haproxy.cfg in front of the chat at an address.
func startHAProxy(t *testing.T, chat string) proxy {
	return runHAProxy(t, "haproxy.cfg", map[string]string{"127.0.0.1:8080": chat})
}

// runHAProxy runs haproxy with a snippet.
func runHAProxy(t *testing.T, name string, replace map[string]string) proxy {
	requireProgram(t, "haproxy", "haproxy")
	dir, addr := t.TempDir(), freeAddr(t)
	config := func(listen string) string {
		replace["bind :80"] = "bind " + listen
		return snippet(t, name, replace)
	}
	cmd := exec.Command("haproxy", "-W", "-db", "-f", write(t, dir, "haproxy.cfg", config(addr)))
	start(t, cmd, syscall.SIGTERM)
	wstest.Until(t, "haproxy serves", func() bool { return serves(addr) })
	return proxy{addr, func(more string) {
		write(t, dir, "haproxy.cfg", config(addr+","+more))
		cmd.Process.Signal(syscall.SIGUSR2)
	}}
}

// serves reports whether a proxy answers at addr. A proxy that starts may accept a connection and reset it.
func serves(addr string) bool {
	response, err := http.Get("http://" + addr + "/chat/")
	if err != nil {
		return false
	}
	response.Body.Close()
	return true
}

// join joins with the Origin of a page at addr. target is the address of a room, such as /chat/lobby/.
func join(t *testing.T, addr, target string) *websocket.Conn {
	t.Helper()
	ws, err := websocket.Dial("ws://"+addr+target+"ws", "", "http://"+addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ws.Close() })
	ws.SetDeadline(time.Now().Add(5 * time.Minute))
	return ws
}

// meet has the first of the connections say text, and all of them receive it.
func meet(t *testing.T, text string, all ...*websocket.Conn) {
	t.Helper()
	wstest.Say(t, all[0], text)
	for i, ws := range all {
		var got string
		if err := websocket.Message.Receive(ws, &got); err != nil || got != text {
			t.Fatalf("connection %d: got %q, %v; want %q", i, got, err, text)
		}
	}
}

// Behind a proxy and below a path, pages and WebSockets work, and the chat still refuses other origins. People
// may be silent for two minutes, and stay connected while the proxy reads its configuration again.
func TestBehindAProxy(t *testing.T) {
	t.Parallel()
	for name, startProxy := range map[string]func(t *testing.T, chat string) proxy{"nginx": startNginx, "haproxy": startHAProxy} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			chat := startProgram(t)
			p := startProxy(t, chat.addr)
			for path, want := range map[string]int{"": 200, "assets/jquery.min.js": 200, "ws": 426, "Lobby": 200 /* redirects */, "/lobby/": 200 /* redirects, or nginx cleans it */, "lobby/ws": 426} {
				response, err := http.Get("http://" + p.addr + "/chat/" + path)
				if err != nil {
					t.Fatal(err)
				}
				response.Body.Close()
				if response.StatusCode != want {
					t.Errorf("/chat/%s: got status %s, want %d", path, response.Status, want)
				}
			}

			ann, bob := join(t, p.addr, "/chat/"), join(t, p.addr, "/chat/")
			meet(t, "hello", ann, bob)
			meet(t, "hello yourself", bob, ann)
			meet(t, "hello, lobby", join(t, p.addr, "/chat/lobby/"), join(t, p.addr, "/chat/lobby/"))

			if _, err := websocket.Dial("ws://"+p.addr+"/chat/ws", "", "http://evil.example"); err == nil {
				t.Error("a page of another origin got in, want a refusal")
			}
			refusal := regexp.MustCompile(`reason="other origin" room="" peer=127\.0\.0\.1:\d+ x_forwarded_for=127\.0\.0\.1`)
			wstest.Until(t, "the chat logs the refusal with the client's address", func() bool { return refusal.MatchString(chat.log.String()) })

			if wstest.Long() {
				var silent sync.WaitGroup
				silent.Go(func() { silence(t, ann) })
				silent.Go(func() { silence(t, bob) })
				silent.Wait()
			}
			meet(t, "still here", ann, bob)

			more := freeAddr(t)
			var reloaded time.Time
			wstest.Until(t, "the proxy has read its configuration again", func() bool {
				if time.Since(reloaded) > 2*time.Second { // a proxy that has just started may miss the signal
					p.reload(more)
					reloaded = time.Now()
				}
				return serves(more)
			})
			carol := join(t, more, "/chat/")
			meet(t, "I was here before", ann, bob, carol)
			meet(t, "I am new", carol, ann, bob)
		})
	}
}

// silence reads for two minutes, and only answers pings. The test fails if a message comes, or the connection
// ends.
func silence(t *testing.T, ws *websocket.Conn) {
	ws.SetReadDeadline(time.Now().Add(2 * time.Minute))
	var got string
	if err := websocket.Message.Receive(ws, &got); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("got %q, %v; want two minutes of silence", got, err)
	}
	ws.SetReadDeadline(time.Now().Add(time.Minute))
}

// chats are three chats behind haproxy-rooms.cfg.
type chats struct {
	t      *testing.T
	proxy  proxy
	all    map[string]program           // by title
	people map[string][]*websocket.Conn // by room, such as "lobby/"
}

func startChats(t *testing.T) chats {
	requireProgram(t, "haproxy", "haproxy")
	all, replace := map[string]program{}, map[string]string{
		"expire 5m":             "expire 1ms",
		"option httpchk HEAD /": "option httpchk HEAD /\n    timeout check 8s", // a chat is slow when the machine is busy
		"inter 2s fall 5":       "inter 1s fall 1",
	}
	for _, n := range []string{"1", "2", "3"} {
		all["chat"+n] = startProgram(t, "-title", "chat"+n)
		replace["10.0.0."+n+":8080"] = all["chat"+n].addr
	}
	return chats{t, runHAProxy(t, "haproxy-rooms.cfg", replace), all, map[string][]*websocket.Conn{}}
}

// serving returns the title of the chat that serves the page of a room, or "" if none does. The proxy cuts an answer
// short when it finds that the chat behind it is down.
func (c chats) serving(room string) string {
	c.t.Helper()
	response, err := http.Get("http://" + c.proxy.addr + "/chat/" + room)
	if err != nil {
		c.t.Fatal(err)
	}
	defer response.Body.Close()
	page, err := io.ReadAll(response.Body)
	if err != nil {
		return ""
	}
	_, title, _ := strings.Cut(string(page), "<title>")
	title, _, _ = strings.Cut(title, "</title>")
	if _, ok := c.all[title]; !ok {
		return ""
	}
	return title
}

// enter has one more person enter a room, and another one say something. All people of the room must receive
// it, and so must a client of the chat that serves the room's page.
func (c chats) enter(room string) {
	c.t.Helper()
	direct := join(c.t, c.all[c.serving(room)].addr, "/"+room)
	defer direct.Close()
	c.people[room] = append(c.people[room], join(c.t, c.proxy.addr, "/chat/"+room))
	meet(c.t, "hello", append(slices.Clone(c.people[room]), direct)...)
	slices.Reverse(c.people[room])
}

// expectClosed waits until the connections of a room are closed.
func (c chats) expectClosed(room string) {
	c.t.Helper()
	for _, ws := range c.people[room] {
		ws.SetDeadline(time.Now().Add(30 * time.Second))
		var got string
		if err := websocket.Message.Receive(ws, &got); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
			c.t.Errorf("%q: got %q, %v; want the end of the connection to the chat that stopped", room, got, err)
		}
	}
	delete(c.people, room)
}

// Behind haproxy-rooms.cfg all people of a room are at one of several chats. If that chat stops, the room moves
// to another one. It moves back after the chat has come back and the room is empty. No other room moves.
func TestRoomsAtSeveralChats(t *testing.T) {
	t.Parallel()
	c := startChats(t)
	occupied, empty := []string{""}, []string{}
	for i := range 12 {
		occupied = append(occupied, fmt.Sprintf("room-%d/", i))
		empty = append(empty, fmt.Sprintf("empty-%d/", i))
	}
	first, moved := map[string]string{}, map[string]string{} // chats by room
	for _, room := range slices.Concat(occupied, empty) {
		first[room] = c.serving(room)
	}
	if used := slices.Compact(slices.Sorted(maps.Values(first))); len(used) != len(c.all) {
		t.Fatalf("got all rooms at %q, want rooms at each chat", used)
	}
	for _, room := range occupied {
		c.enter(room)
		c.enter(room)
	}

	stopped := first[""]
	c.all[stopped].Process.Signal(syscall.SIGSTOP)
	wstest.Until(t, "another chat serves the room", func() bool { return !slices.Contains([]string{"", stopped}, c.serving("")) })
	for room, was := range first {
		moved[room] = c.serving(room)
		if (moved[room] != was) != (was == stopped) {
			t.Errorf("%q: got %q after %q when %q has stopped", room, moved[room], was, stopped)
		}
	}
	for _, room := range occupied {
		if first[room] == stopped {
			c.expectClosed(room)
			c.enter(room)
		}
		c.enter(room)
	}

	c.all[stopped].Process.Signal(syscall.SIGCONT)
	wstest.Until(t, "the empty rooms are where they were", func() bool {
		return !slices.ContainsFunc(empty, func(room string) bool { return c.serving(room) != first[room] })
	})
	for _, room := range occupied {
		if is := c.serving(room); is != moved[room] {
			t.Errorf("%q: got %q, want %q as long as people are in the room", room, is, moved[room])
		}
		c.enter(room)
	}
}

// systemd accepts the unit, and considers its sandbox good. The unit's flags are valid, and -state is its
// StateDirectory.
func TestUnit(t *testing.T) {
	requireProgram(t, "systemd-analyze", "systemd")
	unit := write(t, t.TempDir(), "chat.service", snippet(t, "chat.service", map[string]string{"=/usr/local/bin/chat": "=" + built}))
	for _, args := range [][]string{{"verify", unit}, {"security", "--offline=true", "--threshold=15", unit}} {
		if out, err := exec.Command("systemd-analyze", args...).CombinedOutput(); err != nil {
			t.Errorf("systemd-analyze %s: %v\n%s", args, err, out)
		}
	}
	text := snippet(t, "chat.service", nil)
	dir := regexp.MustCompile(`(?m)^StateDirectory=(.*)$`).FindStringSubmatch(text)
	if dir == nil || !strings.Contains(text, "-state /var/lib/"+dir[1]+"\n") {
		t.Errorf("got StateDirectory %q, want the directory of -state in\n%s", dir, text)
	}
	flags := regexp.MustCompile(`ExecStart=\S+(.*)`).FindStringSubmatch(text)
	if out, err := exec.Command(built, append(strings.Fields(flags[1]), "-h")...).CombinedOutput(); err != nil {
		t.Errorf("the flags %q: got %v, %s; want them accepted", flags[1], err, out)
	}
}

// The image can be built. It contains the program alone, which runs.
func TestImage(t *testing.T) {
	requireProgram(t, "buildah", "buildah")
	if os.Getuid() != 0 {
		missing(t, "only root can look into an image with buildah")
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
			t.Errorf("the image has a file %s, want only chat", file.Name())
		}
	}
	if out := buildah("run", "--isolation", "chroot", container, "--", "/chat", "-h"); !strings.Contains(out, "Usage: chat") {
		t.Errorf("got %q, want the usage", out)
	}
	buildah("umount", container)
}
