// Command bench measures what a chat costs on several WebSocket libraries.
//
//	go run -C bench .           everything, into RESULTS.md, samples.txt and plots
//	go run -C bench . -quick    a first impression in two minutes, into latest/
//
//	servers.go    the servers, each built from server/ and run as a process
//	scenarios.go  what is measured of each
//	load.go       the load generator
//	storm.go      everyone returns at once
//	wire.go       frames, and lines that can be checked
//	process.go    CPU time, system calls and memory of a process
//	stats.go      medians, spreads, ratios
//	report.go     tables, results.md.tmpl, samples for benchstat
//	plots.go      the plots
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"time"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/sys/unix"
)

// plan is what a run is to do.
type plan struct {
	servers   []server
	scenarios []scenario
	rounds    int
	full      bool   // nothing is left out
	out       string // folder for the results
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	p, err := parseFlags(os.Args[1:], os.Stdout)
	if errors.Is(err, flag.ErrHelp) {
		return
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(2)
	}
	err = p.run(ctx, os.Stdout, os.Stderr)
	if ctx.Err() != nil {
		err = errors.New("interrupted; nothing was written")
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// parseFlags makes a plan of the command line.
func parseFlags(args []string, help io.Writer) (p plan, err error) {
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	quick := flags.Bool("quick", false, "a first impression: fewer scenarios, shorter, two rounds")
	servers := flags.String("servers", "", "measure only these, and "+yardstick+": a comma-separated `list`")
	scenarios := flags.String("scenarios", "", "measure only these, such as quiet or quiet-1000: a comma-separated `list`")
	flags.Func("rounds", "`number` of times that each server takes its turn (default 5, with -quick 2)", func(s string) error {
		p.rounds, err = strconv.Atoi(s)
		if err != nil || p.rounds < 1 || p.rounds > 100 {
			return errors.New("want a number from 1 to 100")
		}
		return nil
	})
	if err := flags.Parse(args); errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(help, "bench measures what a chat costs on several WebSocket libraries.\n\nUsage: go run -C bench . [flags]")
		flags.SetOutput(help)
		flags.PrintDefaults()
		return p, err
	} else if err != nil {
		return p, err
	}
	if flags.NArg() > 0 {
		return p, fmt.Errorf("unexpected argument %q: there are only flags, see -h", flags.Arg(0))
	}
	all, rounds := allScenarios(500*time.Millisecond, 1500*time.Millisecond), 5
	if *quick {
		all, rounds = quickScenarios(), 2
	}
	if p.rounds == 0 {
		p.rounds = rounds
	}
	if p.servers, err = chooseServers(*servers); err != nil {
		return p, err
	}
	if p.scenarios, err = chooseScenarios(all, *scenarios); err != nil {
		return p, err
	}
	p.full = !*quick && *servers == "" && *scenarios == ""
	p.out = "latest"
	if p.full {
		p.out = "."
	}
	return p, nil
}

// run builds the servers, has them take turns, and writes the results.
func (p plan) run(ctx context.Context, stdout, stderr io.Writer) error {
	if err := p.enoughFiles(); err != nil {
		return err
	}
	bin, err := os.MkdirTemp("", "chat-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(bin)

	steps := p.rounds * len(p.scenarios) * len(p.servers)
	fmt.Fprintf(stderr, "%d servers, %d scenarios, %d rounds: about %v\n",
		len(p.servers), len(p.scenarios), p.rounds, p.estimate().Round(time.Minute/2))
	bar := progressbar.NewOptions(len(p.servers)+steps, progressbar.OptionSetWriter(stderr),
		progressbar.OptionShowCount(), progressbar.OptionFullWidth(), progressbar.OptionSetPredictTime(true),
		progressbar.OptionThrottle(200*time.Millisecond), progressbar.OptionClearOnFinish())
	defer bar.Finish()
	for _, s := range p.servers {
		bar.Describe("building " + s.name)
		if err := s.build(ctx, bin); err != nil {
			return err
		}
		bar.Add(1)
	}
	measured := make(results)
	for round := range p.rounds {
		for _, sc := range p.scenarios {
			for i := range p.servers { // each round begins with another one
				s := p.servers[(i+round)%len(p.servers)]
				bar.Describe(sc.name() + " " + s.name)
				if err := p.measure(ctx, bin, sc, s, measured); err != nil {
					return fmt.Errorf("%s, %s: %w", sc.name(), s.name, err)
				}
				bar.Add(1)
			}
		}
	}
	return p.report(ctx, measured, stdout)
}

// measure adds a sample of one server in one scenario.
func (p plan) measure(ctx context.Context, bin string, sc scenario, s server, measured results) error {
	if s.maxLine > 0 && sc.size > s.maxLine {
		return nil
	}
	running, err := s.start(ctx, bin)
	if err != nil {
		return err
	}
	defer running.stop()
	out, err := sc.run(ctx, sc, running)
	if died := running.alive(); died != nil {
		return died
	}
	if err != nil {
		return err
	}
	measured.add(sc, s, out)
	return nil
}

// enoughFiles returns an error if the plan needs more connections than this process
// may have file descriptors. Each server, a process of its own, has the same limit.
func (p plan) enoughFiles() error {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return err
	}
	const others = 100
	for _, s := range p.scenarios {
		if need := uint64(s.conns + s.joiners + others); need > limit.Max {
			return fmt.Errorf("%s needs %d file descriptors, and the limit is %d: raise it with ulimit -n, or leave it out with -scenarios",
				s.name(), need, limit.Max)
		}
	}
	return nil
}

// estimate is how long the run will take, roughly.
func (p plan) estimate() (d time.Duration) {
	for _, s := range p.scenarios {
		const perConnection = 200 * time.Microsecond
		d += s.warmUp + s.measure + 500*time.Millisecond + time.Duration(s.conns)*perConnection
	}
	return d*time.Duration(p.rounds*len(p.servers)) + 30*time.Second
}

// chooseScenarios returns those of all that a comma-separated list names, whole or
// by family, or all of them if it is empty.
func chooseScenarios(all []scenario, list string) (chosen []scenario, err error) {
	names := make(map[string]bool)
	for _, s := range all {
		names[s.name()], names[s.family] = true, true
	}
	wanted, err := choose(list, maps.Keys(names))
	if err != nil {
		return nil, fmt.Errorf("-scenarios: %w", err)
	}
	return slices.DeleteFunc(all, func(s scenario) bool { return !wanted[s.name()] && !wanted[s.family] }), nil
}

// quickScenarios are a few of all, short and small.
func quickScenarios() (quick []scenario) {
	for _, s := range allScenarios(200*time.Millisecond, 500*time.Millisecond) {
		switch s.name() {
		case "quiet-100", "flat-out-100":
			quick = append(quick, s)
		case "idle-5000":
			s.conns = 1000
			quick = append(quick, s)
		}
	}
	return quick
}

// write puts the files, by name, into the folder out, each of them whole or not at all.
func write(out string, files map[string][]byte) error {
	for _, name := range slices.Sorted(maps.Keys(files)) {
		path := filepath.Join(out, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
			return err
		}
		if err := os.WriteFile(path+".new", files[name], 0o666); err != nil {
			return err
		}
	}
	for name := range files {
		path := filepath.Join(out, name)
		if err := os.Rename(path+".new", path); err != nil {
			return err
		}
	}
	return nil
}
