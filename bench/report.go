// report.go: what a run leaves behind: tables, a page around them, samples for
// benchstat.

package main

import (
	"bytes"
	"context"
	_ "embed"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"text/template"
	"time"
)

// report writes the results into p.out: the page of a full run, or only its tables,
// with the plots and the samples. It prints the tables, too.
func (p plan) report(ctx context.Context, measured results, stdout io.Writer) error {
	about, err := p.about(ctx)
	if err != nil {
		return err
	}
	r := &reporter{plan: p, results: measured, About: about}
	page, err := r.page()
	if err != nil {
		return err
	}
	files := map[string][]byte{"RESULTS.md": page, "samples.txt": r.samples()}
	if err := r.plots(files); err != nil {
		return err
	}
	if err := write(p.out, files); err != nil {
		return err
	}
	_, err = fmt.Fprintf(stdout, "%s\nWritten to %s: RESULTS.md, samples.txt, plots\n", r.Tables(), p.out)
	return err
}

// reporter makes texts and plots of results. Its exported methods are
// for the template of the page.
type reporter struct {
	plan
	results
	About facts
}

// facts are where and when the results were measured, and of what.
type facts struct {
	Date, Machine, System, Go string
	Versions                  []string // of libraries
}

// about gathers the facts.
func (p plan) about(ctx context.Context) (f facts, err error) {
	f.Date = time.Now().UTC().Format(time.DateOnly)
	f.Machine = fmt.Sprintf("%d cores, %s", runtime.NumCPU(), firstField("/proc/cpuinfo", "model name"))
	f.System = "Linux " + strings.TrimSpace(readAll("/proc/sys/kernel/osrelease"))
	f.Go = runtime.Version()
	modules := []string{"golang.org/x/net", "github.com/gorilla/websocket", "github.com/coder/websocket",
		"github.com/gobwas/ws", "github.com/lxzan/gws", "github.com/olahol/melody"}
	out, err := exec.CommandContext(ctx, "go", append([]string{"list", "-m"}, modules...)...).Output()
	if err != nil {
		return f, fmt.Errorf("versions of the libraries: %w", err)
	}
	f.Versions = strings.Split(strings.TrimSpace(string(out)), "\n")
	for _, s := range p.servers {
		if s.node() {
			node, err := exec.CommandContext(ctx, "node", "--version").Output()
			if err != nil {
				return f, fmt.Errorf("version of Node: %w", err)
			}
			f.Versions = append(f.Versions, "ws v"+wsVersion+" on Node "+strings.TrimSpace(string(node)))
		}
	}
	return f, nil
}

func (f facts) String() string {
	return fmt.Sprintf("%s, %s, %s, %s", f.Machine, f.System, f.Go, f.Date)
}

func readAll(path string) string {
	content, _ := os.ReadFile(path) // what can't be told is left empty
	return string(content)
}

// firstField returns what stands behind the first "name :" in a file.
func firstField(path, name string) string {
	_, rest, _ := strings.Cut(readAll(path), name)
	_, rest, _ = strings.Cut(rest, ":")
	value, _, _ := strings.Cut(rest, "\n")
	return strings.TrimSpace(value)
}

//go:embed results.md.tmpl
var pageTemplate string

// page renders results.md.tmpl for a full run, and else the tables alone.
func (r *reporter) page() ([]byte, error) {
	if !r.full {
		return []byte("# " + r.About.String() + "\n\n" + r.Tables()), nil
	}
	page, err := template.New("results.md.tmpl").Parse(pageTemplate)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	err = page.Execute(&out, r)
	return out.Bytes(), err
}

// column is a column of the tables. It is left out where nothing was measured of it.
type column struct {
	metric, title string
	format        string  // of a number
	unit          float64 // of the metric, if not 1
	spread        bool    // the quartiles stand beside the median
	ratio         bool    // so does the ratio to the yardstick
	more          bool    // is better
	rare          bool    // it is left out where all is zero, too
}

// number writes a value of the column's metric.
func (c column) number(v float64) string {
	if c.unit != 0 {
		v /= c.unit
	}
	return fmt.Sprintf(c.format, v)
}

var columns = []column{
	{metric: cpuPerLine, title: "CPU µs a line", format: "%.3g", spread: true, ratio: true},
	{metric: linesPerSec, title: "lines/s", format: "%.0f", ratio: true, more: true},
	{metric: p50, title: "p50 µs", format: "%.0f"},
	{metric: p99, title: "p99 µs", format: "%.0f", spread: true, ratio: true},
	{metric: maximum, title: "max µs", format: "%.0f"},
	{metric: connsLost, title: "connections lost", format: "%.0f"},
	{metric: linesLost, title: "lines lost", format: "%.0f"},
	{metric: linesWrong, title: "lines repeated or out of order", format: "%.0f", rare: true},
	{metric: callsPerLine, title: "reads and writes a line", format: "%.3g"},
	{metric: joinsPerSec, title: "joins/s", format: "%.0f", spread: true, ratio: true, more: true},
	{metric: cpuPerJoin, title: "CPU µs a join", format: "%.0f", spread: true, ratio: true},
	{metric: servedAll, title: "ms until all are served", format: "%.0f", spread: true, ratio: true},
	{metric: peakMemory, title: "peak MB", format: "%.0f", spread: true, ratio: true},
	{metric: memory, title: "KB a connection", format: "%.1f", spread: true, ratio: true},
}

// Tables returns a table for each scenario.
func (r *reporter) Tables() string {
	var out strings.Builder
	for _, s := range r.scenarios {
		fmt.Fprintf(&out, "### %s: %s, %d connections\n\n%s\n", s.name(), s.what, s.conns, r.table(s.name(), columns))
	}
	return out.String()
}

// table returns the columns that were measured in a scenario, a row for each server.
func (r *reporter) table(scenario string, columns []column) string {
	columns = slices.DeleteFunc(slices.Clone(columns), func(c column) bool {
		return !slices.ContainsFunc(r.servers, func(s server) bool {
			values := r.values(scenario, s.name, c.metric)
			return len(values) > 0 && (!c.rare || slices.Max(values) > 0)
		})
	})
	head := []string{"server"}
	for _, c := range columns {
		head = append(head, c.title)
	}
	rows := [][]string{head}
	for _, s := range r.servers {
		row := []string{s.what}
		for _, c := range columns {
			row = append(row, r.cell(scenario, s.name, c))
		}
		rows = append(rows, row)
	}
	return markdown(rows)
}

// markdown returns rows, of which the first is the head, as a table.
func markdown(rows [][]string) string {
	var out strings.Builder
	for i, row := range rows {
		fmt.Fprintf(&out, "| %s |\n", strings.Join(row, " | "))
		if i == 0 {
			fmt.Fprintf(&out, "|%s\n", strings.Repeat("---|", len(row)))
		}
	}
	return out.String()
}

// cell is what a table says of one metric: the median, and what the column asks
// for beside it. A ratio that is spread more widely than it is away from 1 is no
// difference, and is shown as ≈.
func (r *reporter) cell(scenario, server string, c column) string {
	values := r.values(scenario, server, c.metric)
	if len(values) == 0 {
		return "–"
	}
	number := c.number
	s := spreadOf(values)
	cell := number(s.median)
	if c.spread && number(s.low) != number(s.high) {
		cell += fmt.Sprintf(" (%s–%s)", number(s.low), number(s.high))
	}
	if ratio, ok := r.ratio(scenario, server, c.metric); ok && c.ratio && server != yardstick {
		if ratio.noDifference() {
			return cell + ", ≈"
		}
		return cell + fmt.Sprintf(", %.2g×", ratio.median)
	}
	return cell
}

// glance is what tells the servers apart, in a few figures.
var glance = []struct {
	scenario string
	column
}{
	{"quiet-1000", column{metric: cpuPerLine, title: "CPU µs a line, 50 lines/s", format: "%.3g", ratio: true}},
	{"busy-1000", column{metric: cpuPerLine, title: "CPU µs a line, 2,000 lines/s", format: "%.3g", ratio: true}},
	{"busy-1000", column{metric: p99, title: "p99 ms, 2,000 lines/s", format: "%.0f", unit: 1e3, ratio: true}},
	{"flat-out-1000", column{metric: linesPerSec, title: "million lines/s, flat out", format: "%.3g", unit: 1e6, ratio: true}},
	{"flat-out-1000", column{metric: connsLost, title: "connections lost, flat out", format: "%.0f"}},
	{"idle-5000", column{metric: memory, title: "KB an idle connection (of 5,000)", format: "%.1f", ratio: true}},
}

// Glance is the table with which the page begins.
func (r *reporter) Glance() string {
	head := []string{"1,000 connections"}
	for _, g := range glance {
		head = append(head, g.title)
	}
	rows := [][]string{head}
	for _, s := range r.servers {
		row := []string{s.what}
		for _, g := range glance {
			row = append(row, r.cell(g.scenario, s.name, g.column))
		}
		rows = append(rows, row)
	}
	return markdown(rows)
}

// Better returns in what others are better than this chat, beyond the spread of both.
func (r *reporter) Better() (better []string) {
	for _, s := range r.scenarios {
		for _, c := range columns {
			if !c.ratio || c.metric == linesPerSec && s.family != "flat-out" { // else it is given
				continue
			}
			if who := r.betterAt(s.name(), c); len(who) > 0 {
				ours, _ := r.Median(s.name(), "chat", c.metric)
				better = append(better, fmt.Sprintf("%s, %s: %s; this chat %s", s.name(), c.title, strings.Join(who, ", "), c.number(ours)))
			}
		}
	}
	return better
}

// betterAt returns who has better figures in a scenario, and these.
func (r *reporter) betterAt(scenario string, c column) (who []string) {
	ours := r.values(scenario, "chat", c.metric)
	for _, s := range r.servers {
		theirs := r.values(scenario, s.name, c.metric)
		if len(ours) == 0 || len(theirs) == 0 {
			continue
		}
		a, b := spreadOf(theirs), spreadOf(ours)
		if c.more && a.low > b.high || !c.more && a.high < b.low {
			who = append(who, s.name+" "+c.number(a.median))
		}
	}
	return who
}

// Rounds is how often each server took its turn.
func (r *reporter) Rounds() int { return r.rounds }

// Median returns the median of a metric, and false if it was not measured.
func (r *reporter) Median(scenario, server, metric string) (float64, bool) {
	values := r.values(scenario, server, metric)
	if len(values) == 0 {
		return 0, false
	}
	return spreadOf(values).median, true
}

// Figure is a median in the text of the page.
func (r *reporter) Figure(scenario, metric, server string) string {
	if v, ok := r.Median(scenario, server, metric); ok {
		return fmt.Sprintf("%.3g", v)
	}
	return "–"
}

// Times is the ratio of one server's median to another's in the text of the page.
func (r *reporter) Times(scenario, metric, server, other string) string {
	a, ok := r.Median(scenario, server, metric)
	b, ok2 := r.Median(scenario, other, metric)
	if !ok || !ok2 || b == 0 {
		return "–"
	}
	return fmt.Sprintf("%.2f", a/b)
}

// samples returns all that was measured in Go's benchmark format.
func (r *reporter) samples() []byte {
	var out bytes.Buffer
	fmt.Fprintf(&out, "goos: %s\ngoarch: %s\ncpu: %s\ndate: %s\nsystem: %s\ngo: %s\n", runtime.GOOS, runtime.GOARCH,
		r.About.Machine, r.About.Date, r.About.System, r.About.Go)
	for round := range r.rounds {
		for _, sc := range r.scenarios {
			for _, s := range r.servers {
				if all := r.results[sc.name()][s.name]; round < len(all) {
					fmt.Fprintf(&out, "BenchmarkChat/load=%s/conns=%d/server=%s 1", sc.family, sc.conns, s.name)
					for _, metric := range slices.Sorted(maps.Keys(all[round].values)) {
						fmt.Fprintf(&out, " %.6g %s", all[round].values[metric], metric)
					}
					fmt.Fprintln(&out)
				}
			}
		}
	}
	return out.Bytes()
}
