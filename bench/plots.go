// plots.go: the plots, as SVG.

package main

import (
	"bytes"
	"fmt"
	"image/color"
	"math"
	"slices"
	"strings"
	"time"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/palette/brewer"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/plotutil"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"
)

// plots adds the plots for which there are results to files.
func (r *reporter) plots(files map[string][]byte) error {
	for _, p := range []struct {
		name string
		of   []scenario
		draw func() (*figure, error)
	}{
		{"throughput.svg", r.family("flat-out"), r.throughput},
		{"lost.svg", r.family("flat-out"), r.lost},
		{"latency.svg", r.named("busy-1000"), r.latencies},
		{"memory.svg", r.family("idle"), r.memoryBars},
		{"cpu.svg", r.named("quiet-1000", "busy-1000"), r.cpuBars},
	} {
		if len(p.of) == 0 {
			continue
		}
		f, err := p.draw()
		if err == nil {
			files["plots/"+p.name], err = f.svg()
		}
		if err != nil {
			return fmt.Errorf("%s: %w", p.name, err)
		}
	}
	return nil
}

// family returns the scenarios of a family, named those with these names.
func (p plan) family(name string) []scenario {
	return slices.DeleteFunc(slices.Clone(p.scenarios), func(s scenario) bool { return s.family != name })
}

func (p plan) named(names ...string) []scenario {
	return slices.DeleteFunc(slices.Clone(p.scenarios), func(s scenario) bool { return !slices.Contains(names, s.name()) })
}

// figure is a plot with a legend beside it, where it covers nothing, and under that the
// versions of what was measured.
type figure struct {
	*plot.Plot
	legend   plot.Legend
	versions []string
}

// svg draws the figure.
func (f *figure) svg() ([]byte, error) {
	const width, height, beside = 9 * vg.Inch, 5 * vg.Inch, 1.5 * vg.Inch
	canvas := vgsvg.New(width, height)
	whole := draw.New(canvas)
	whole.SetColor(color.White)
	whole.Fill(whole.Rectangle.Path())
	f.Draw(draw.Crop(whole, 0, -beside, 0, 0))
	f.legend.Draw(draw.Crop(whole, width-beside+6, -6, 0, -0.6*vg.Inch))
	small := f.legend.TextStyle
	small.Font.Size = 7
	for i, version := range f.versions {
		version = strings.TrimPrefix(version, "github.com/")
		whole.FillText(small, vg.Point{X: width - beside + 6, Y: vg.Length(9*(len(f.versions)-i) - 3)}, version)
	}
	var svg bytes.Buffer
	_, err := canvas.WriteTo(&svg)
	return svg.Bytes(), err
}

// newFigure returns an empty figure that says where and when it was measured.
func (r *reporter) newFigure(title, x, y string) *figure {
	f := &figure{plot.New(), plot.NewLegend(), r.About.Versions}
	f.Title.Text = title + "\n" + r.About.String()
	f.Title.TextStyle.Font.Size = 11
	f.Title.Padding = 6
	f.X.Label.Text, f.Y.Label.Text = x, y
	f.legend.Top, f.legend.Left, f.legend.Padding = true, true, 3
	f.legend.TextStyle.Font.Size = 10
	f.Add(plotter.NewGrid())
	return f
}

// addLines adds the lines of the servers. This chat's is black, thick, and on top.
func (r *reporter) addLines(f *figure, points func(server string) plotter.XYs) error {
	colors, err := brewer.GetPalette(brewer.TypeQualitative, "Paired", max(len(r.servers), 3))
	if err != nil {
		return err
	}
	var ours []plot.Plotter
	for i, s := range r.servers {
		xys := points(s.name)
		if len(xys) == 0 {
			continue
		}
		line, dots, err := plotter.NewLinePoints(xys)
		if err != nil {
			return err
		}
		line.Width, line.Color, dots.Color = 1.5, colors.Colors()[i], colors.Colors()[i]
		dots.Shape, dots.Radius = plotutil.Shape(i), 3
		f.legend.Add(s.name, line, dots)
		switch s.name {
		case "chat":
			line.Width, line.Color, dots.Color = 3, color.Black, color.Black
			ours = []plot.Plotter{line, dots}
			continue
		case "floor":
			line.Dashes, line.Color, dots.Color = plotutil.Dashes(1), color.Gray{100}, color.Gray{100}
		}
		f.Add(line, dots)
	}
	f.Add(ours...)
	return nil
}

// byConnections draws a metric of the flat-out scenarios against the connections.
func (r *reporter) byConnections(f *figure, value func(s scenario, server string) (float64, bool)) (*figure, error) {
	var ticks plot.ConstantTicks
	err := r.addLines(f, func(server string) (points plotter.XYs) {
		ticks = nil
		for _, s := range r.scenarios {
			if s.family != "flat-out" {
				continue
			}
			ticks = append(ticks, plot.Tick{Value: float64(s.conns), Label: fmt.Sprint(s.conns)})
			if y, ok := value(s, server); ok {
				points = append(points, plotter.XY{X: float64(s.conns), Y: y})
			}
		}
		return points
	})
	f.X.Scale, f.X.Tick.Marker = plot.LogScale{}, ticks
	return f, err
}

func (r *reporter) throughput() (*figure, error) {
	f := r.newFigure("Lines of 64 bytes delivered, 16 senders that never pause", "connections", "lines a second")
	f.Y.Scale, f.Y.Tick.Marker = plot.LogScale{}, logTicks(thousands)
	return r.byConnections(f, func(s scenario, server string) (float64, bool) {
		v, ok := r.Median(s.name(), server, linesPerSec)
		return max(v, 1), ok // nothing at all has no place on this scale
	})
}

func (r *reporter) lost() (*figure, error) {
	f := r.newFigure("Connections lost, 16 senders that never pause", "connections", "% lost")
	return r.byConnections(f, func(s scenario, server string) (float64, bool) {
		v, ok := r.Median(s.name(), server, connsLost)
		return 100 * v / float64(s.conns), ok
	})
}

// latencies draws the distribution in the busy scenario: of all lines, how many
// took longer than that. Each point is the median of the rounds.
func (r *reporter) latencies() (*figure, error) {
	const scenario = "busy-1000"
	f := r.newFigure("Latency at 2,000 lines a second, 1,000 connections", "% of lines that took longer", "")
	f.X.Scale, f.Y.Scale = plot.InvertedScale{Normalizer: plot.LogScale{}}, plot.LogScale{}
	f.X.Tick.Marker = plot.LogTicks{Prec: -1}
	f.Y.Tick.Marker = logTicks(func(us float64) string { return (time.Duration(us) * time.Microsecond).String() })
	return f, r.addLines(f, func(server string) (points plotter.XYs) {
		for at, percentile := range percentiles {
			var values []float64
			for _, out := range r.results[scenario][server] {
				if at < len(out.latencies) {
					values = append(values, out.latencies[at])
				}
			}
			if len(values) > 0 {
				points = append(points, plotter.XY{X: 100 - percentile, Y: max(spreadOf(values).median, 1)})
			}
		}
		return points
	})
}

// logTicks are the powers of ten, with labels by format.
type logTicks func(v float64) string

func (format logTicks) Ticks(low, high float64) []plot.Tick {
	ticks := plot.LogTicks{Prec: -1}.Ticks(low, high)
	for i, tick := range ticks {
		if !tick.IsMinor() {
			ticks[i].Label = format(tick.Value)
		}
	}
	return ticks
}

// thousands writes a number as in 10k or 100M.
func thousands(v float64) string {
	switch {
	case v >= 1e6:
		return fmt.Sprintf("%gM", v/1e6)
	case v >= 1e3:
		return fmt.Sprintf("%gk", v/1e3)
	}
	return fmt.Sprintf("%g", v)
}

// bars draws a metric of the servers in some scenarios as bars side by side.
func (r *reporter) bars(title, unit, metric string, scenarios ...string) (*figure, error) {
	f := r.newFigure(title, "", unit)
	const all = 30 // points for the bars of a server
	width := vg.Points(all / float64(len(scenarios)))
	var names []string
	for _, s := range r.servers {
		names = append(names, s.name)
	}
	for i, scenario := range scenarios {
		values := make(plotter.Values, len(r.servers))
		for j, s := range r.servers {
			values[j], _ = r.Median(scenario, s.name, metric) // what wasn't measured has no bar
		}
		bars, err := plotter.NewBarChart(values, width)
		if err != nil {
			return nil, err
		}
		bars.Color = plotutil.Color(i)
		bars.Offset = width * vg.Length(float64(i)-float64(len(scenarios)-1)/2)
		f.Add(bars)
		f.legend.Add(scenario, bars)
	}
	f.NominalX(names...)
	f.X.Min, f.X.Max = -0.6, float64(len(names))-0.4
	f.X.Tick.Label.Rotation = math.Pi / 6
	f.X.Tick.Label.XAlign, f.X.Tick.Label.YAlign = draw.XRight, draw.YTop
	return f, nil
}

func (r *reporter) memoryBars() (*figure, error) {
	idle := r.family("idle")[0]
	return r.bars(fmt.Sprintf("Memory of the server for each of %d idle connections", idle.conns), "KB", memory, idle.name())
}

func (r *reporter) cpuBars() (*figure, error) {
	return r.bars("CPU time of the server for a line delivered to one of 1,000 connections", "microseconds", cpuPerLine, "quiet-1000", "busy-1000")
}
