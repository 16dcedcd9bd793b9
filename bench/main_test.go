// main_test.go: the command line, the arithmetic, and one small run of everything.

package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestCommandLine(t *testing.T) {
	for _, test := range []struct {
		args string
		says []string
	}{
		{"-servers nobody", []string{"-servers", `"nobody"`, "known are chat, coder"}},
		{"-servers chat,", []string{"-servers", `""`}},
		{"-scenarios loud", []string{"-scenarios", `"loud"`, "known are", "quiet-1000"}},
		{"-rounds 0", []string{"-rounds", `"0"`, "from 1 to 100"}},
		{"-rounds many", []string{"-rounds", `"many"`, "from 1 to 100"}},
		{"-fast", []string{"-fast"}},
		{"quick", []string{`"quick"`}},
	} {
		_, err := parseFlags(strings.Fields(test.args), io.Discard)
		for _, want := range test.says {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %v; want it to say %s", test.args, err, want)
			}
		}
	}
}

func TestPlans(t *testing.T) {
	full, err := parseFlags(nil, io.Discard)
	if err != nil || !full.full || full.out != "." || full.rounds < 5 || len(full.scenarios) != len(allScenarios(0, 0)) {
		t.Errorf("%+v %v", full, err)
	}
	part, err := parseFlags([]string{"-servers", "chat", "-scenarios", "quiet,busy-1000", "-rounds", "3"}, io.Discard)
	var names []string
	for _, s := range part.scenarios {
		names = append(names, s.name())
	}
	if want := []string{"quiet-10", "quiet-100", "quiet-1000", "quiet-5000", "busy-1000"}; err != nil || !slices.Equal(names, want) {
		t.Errorf("%v %v, want %v", names, err, want)
	}
	if part.full || part.rounds != 3 || len(part.servers) != 2 || part.servers[1].name != yardstick {
		t.Errorf("%+v", part)
	}
	quick, err := parseFlags([]string{"-quick"}, io.Discard)
	if err != nil || quick.full || quick.estimate() > 2*time.Minute {
		t.Errorf("%v for %+v, %v", quick.estimate(), quick, err)
	}
}

func TestTooFewFileDescriptors(t *testing.T) {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	p := plan{scenarios: []scenario{{family: "crowd", traffic: traffic{conns: int(min(limit.Max, 1<<30))}}}}
	if err := p.run(t.Context(), io.Discard, io.Discard); err == nil || !strings.Contains(err.Error(), "ulimit -n") {
		t.Error(err)
	}
}

func TestSpread(t *testing.T) {
	for _, test := range []struct {
		values []float64
		want   spread
	}{
		{[]float64{7}, spread{7, 7, 7}},
		{[]float64{3, 1}, spread{1.5, 2, 2.5}},
		{[]float64{5, 1, 4, 2, 3}, spread{2, 3, 4}},
	} {
		if got := spreadOf(test.values); got != test.want {
			t.Errorf("%v: %v, want %v", test.values, got, test.want)
		}
	}
}

// Ratios are taken within rounds, so that a machine that changes its speed between
// them does not count; where they differ among themselves more than from 1, there
// is no difference.
func TestRatio(t *testing.T) {
	for _, test := range []struct {
		ours, theirs []float64
		median       float64
		noDifference bool
	}{
		{[]float64{1, 10, 100}, []float64{2, 20, 200}, 0.5, false},
		{[]float64{9, 10, 12}, []float64{10, 10, 10}, 1, true},
		{[]float64{10, 30, 50}, []float64{10, 20, 20}, 1.5, true},
		{[]float64{20, 21, 22}, []float64{10, 10, 10}, 2.1, false},
	} {
		r := make(results)
		for i := range test.ours {
			sc := scenario{family: "s"}
			r.add(sc, server{name: "ours"}, sample{values: map[string]float64{cpuPerLine: test.ours[i]}})
			r.add(sc, server{name: yardstick}, sample{values: map[string]float64{cpuPerLine: test.theirs[i]}})
		}
		got, ok := r.ratio("s-0", "ours", cpuPerLine)
		if !ok || got.median != test.median || got.noDifference() != test.noDifference {
			t.Errorf("%v beside %v: %v %v", test.ours, test.theirs, got, got.noDifference())
		}
	}
}

func TestPortTaken(t *testing.T) {
	bin := t.TempDir()
	s := serverNamed(t, "gorilla")
	if err := s.build(t.Context(), bin); err != nil {
		t.Fatal(err)
	}
	taken, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	go func() { // someone who is there, and speaks no WebSocket
		for {
			conn, err := taken.Accept()
			if err != nil {
				return
			}
			conn.Close()
		}
	}()
	if _, err := s.startOn(t.Context(), bin, taken.Addr().(*net.TCPAddr)); err == nil || !strings.Contains(err.Error(), "address already in use") {
		t.Error(err)
	}
}

func serverNamed(t *testing.T, name string) server {
	t.Helper()
	i := slices.IndexFunc(servers, func(s server) bool { return s.name == name })
	if i < 0 {
		t.Fatalf("no server %s", name)
	}
	return servers[i]
}

// A server that dies, and a user who has enough, leave neither results nor processes.
func TestNothingIsLeftOfARunThatFails(t *testing.T) {
	pid := 0
	for name, end := range map[string]func(running *process, interrupt func()){
		"the server dies": func(running *process, _ func()) { running.cmd.Process.Kill(); <-running.ended },
		"interrupted":     func(_ *process, interrupt func()) { interrupt() },
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			dies := scenario{family: "dies", run: func(ctx context.Context, s scenario, p *process) (sample, error) {
				pid = p.cmd.Process.Pid
				end(p, cancel)
				return sample{}, ctx.Err()
			}}
			p := plan{servers: []server{serverNamed(t, "gorilla")}, scenarios: []scenario{dies}, rounds: 1, out: t.TempDir()}
			if err := p.run(ctx, io.Discard, io.Discard); err == nil {
				t.Error("no error")
			}
			if files, _ := os.ReadDir(p.out); len(files) > 0 {
				t.Errorf("%v is left", files)
			}
			if err := unix.Kill(pid, 0); !errors.Is(err, unix.ESRCH) {
				t.Errorf("process %d: %v", pid, err)
			}
		})
	}
	if left, _ := filepath.Glob(filepath.Join(os.TempDir(), "chat-bench-*")); len(left) > 0 {
		t.Errorf("%v is left", left)
	}
}

// Every server and every scenario, as small and short as can be.
func TestEverything(t *testing.T) {
	var names []string
	for _, s := range servers {
		names = append(names, s.name)
	}
	all, err := chooseServers(strings.Join(names, ","))
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal(err)
		}
		t.Logf("without Node: %v", err)
		all, _ = chooseServers("")
	}
	p := plan{servers: all, rounds: 1, out: t.TempDir()}
	for _, s := range allScenarios(50*time.Millisecond, 100*time.Millisecond) {
		if s.conns = 10; !slices.ContainsFunc(p.scenarios, func(other scenario) bool { return other.name() == s.name() }) {
			p.scenarios = append(p.scenarios, s)
		}
	}
	var tables, progress strings.Builder
	if err := p.run(t.Context(), &tables, &progress); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(progress.String(), "1 rounds: about") {
		t.Errorf("it does not say how long it takes: %.200q", progress.String())
	}
	samples, err := os.ReadFile(filepath.Join(p.out, "samples.txt"))
	if err != nil {
		t.Fatal(err)
	}
	for _, sc := range p.scenarios {
		for _, s := range p.servers {
			if s.maxLine > 0 && s.maxLine < sc.size {
				continue
			}
			line := fmt.Sprintf("BenchmarkChat/load=%s/conns=10/server=%s 1 ", sc.family, s.name)
			_, values, found := strings.Cut(string(samples), line)
			values, _, _ = strings.Cut(values, "\n")
			switch {
			case !found:
				t.Errorf("no sample of %s in %s", s.name, sc.family)
			case sc.family == "storm" && !strings.Contains(" "+values, " 0 conns-lost"):
				t.Errorf("%s%s", line, values)
			case sc.family != "idle" && sc.family != "storm" && !strings.Contains(values, " 0 lines-wrong"):
				t.Errorf("%s%s", line, values)
			case sc.rate > 0 && (!strings.Contains(values, " 0 lines-lost") || strings.Contains(values, " 0 lines/s")):
				t.Errorf("%s%s", line, values)
			}
		}
	}
}

// The page of a full run says something of each scenario and server, whatever the figures.
func TestPage(t *testing.T) {
	r := &reporter{plan: plan{servers: servers, scenarios: allScenarios(0, 0), rounds: 2, full: true}, results: make(results)}
	for i, sc := range r.scenarios {
		for j, s := range servers {
			for round := range r.rounds {
				values := map[string]float64{linesWrong: 0}
				for k, c := range columns {
					values[c.metric] = float64(1 + (i*j+k+round)%7)
				}
				r.add(sc, s, sample{values: values, latencies: slices.Repeat([]float64{9}, len(percentiles))})
			}
		}
	}
	benchTime := flag.Lookup("test.benchtime").Value
	defer benchTime.Set(benchTime.String())
	benchTime.Set("10x")
	page, err := r.page()
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(page, []byte("–,")) || bytes.Contains(page, []byte("– of")) {
		t.Error("a figure is missing in the text")
	}
	for _, sc := range r.scenarios {
		if !bytes.Contains(page, []byte("### "+sc.name()+":")) {
			t.Errorf("nothing of %s", sc.name())
		}
	}
	files := make(map[string][]byte)
	if err := r.plots(files); err != nil || len(files) != 5 {
		t.Errorf("%d plots, %v", len(files), err)
	}
	for name := range files {
		if !bytes.Contains(page, []byte(name)) {
			t.Errorf("the page does not show %s", name)
		}
	}
}
