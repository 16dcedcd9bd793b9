// plots.go: the plots, as SVG.

package main

import (
	"bytes"
	"fmt"
	"image/color"
	"math"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/plotutil"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
)

// plots adds the plots for which there are results to files.
func (r *reporter) plots(files map[string][]byte) error {
	for name, draw := range map[string]func() (*plot.Plot, error){
		"throughput.svg": r.throughput,
		"lost.svg":       r.lost,
		"latency.svg":    r.latencies,
		"memory.svg":     r.memoryBars,
		"cpu.svg":        r.cpuBars,
	} {
		p, err := draw()
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if p == nil {
			continue
		}
		to, err := p.WriterTo(8*vg.Inch, 5*vg.Inch, "svg")
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		var svg bytes.Buffer
		if _, err := to.WriteTo(&svg); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		files["plots/"+name] = svg.Bytes()
	}
	return nil
}

// newPlot returns an empty plot that says where and when it was measured.
func (r *reporter) newPlot(title, x, y string) *plot.Plot {
	p := plot.New()
	p.Title.Text = title + "\n" + r.About.String()
	p.Title.TextStyle.Font.Size = 11
	p.Title.Padding = 6
	p.X.Label.Text, p.Y.Label.Text = x, y
	p.Legend.Top, p.Legend.Left = true, true
	p.Legend.TextStyle.Font.Size = 9
	p.BackgroundColor = color.White
	p.Add(plotter.NewGrid())
	return p
}

// addLine adds a server's line; this chat's is the thick one.
func addLine(p *plot.Plot, index int, s server, points plotter.XYs) error {
	if len(points) == 0 {
		return nil
	}
	line, dots, err := plotter.NewLinePoints(points)
	if err != nil {
		return err
	}
	line.Color, dots.Color = plotutil.Color(index), plotutil.Color(index)
	line.Dashes, dots.Shape = plotutil.Dashes(index), plotutil.Shape(index)
	line.Width = 1
	if s.name == "chat" {
		line.Width = 3
		line.Color, dots.Color = color.Black, color.Black
		line.Dashes, dots.Shape = nil, draw.CircleGlyph{}
	}
	p.Add(line, dots)
	p.Legend.Add(s.name, line, dots)
	return nil
}

// byConnections draws a metric of the flat-out scenarios against the connections.
func (r *reporter) byConnections(p *plot.Plot, value func(s scenario, server string) (float64, bool)) (*plot.Plot, error) {
	drawn := false
	for i, server := range r.servers {
		var points plotter.XYs
		for _, s := range r.scenarios {
			if s.family != "flat-out" {
				continue
			}
			if y, ok := value(s, server.name); ok {
				points = append(points, plotter.XY{X: float64(s.conns), Y: y})
			}
		}
		if err := addLine(p, i, server, points); err != nil {
			return nil, err
		}
		drawn = drawn || len(points) > 0
	}
	if !drawn {
		return nil, nil
	}
	p.X.Scale, p.X.Tick.Marker = plot.LogScale{}, plot.LogTicks{Prec: -1}
	return p, nil
}

func (r *reporter) throughput() (*plot.Plot, error) {
	p := r.newPlot("Lines of 64 bytes delivered, 16 senders that never pause", "connections", "lines a second")
	p.Y.Scale, p.Y.Tick.Marker = plot.LogScale{}, plot.LogTicks{Prec: -1}
	return r.byConnections(p, func(s scenario, server string) (float64, bool) {
		v, err := r.Median(s.name(), server, linesPerSec)
		return max(v, 1), err == nil // nothing at all has no place on this scale
	})
}

func (r *reporter) lost() (*plot.Plot, error) {
	p := r.newPlot("Connections lost, 16 senders that never pause", "connections", "% lost")
	return r.byConnections(p, func(s scenario, server string) (float64, bool) {
		v, err := r.Median(s.name(), server, connsLost)
		return 100 * v / float64(s.conns), err == nil
	})
}

// latencies draws the distribution in the busy scenario: of all lines, how many
// took longer than that. Each point is the median of the rounds.
func (r *reporter) latencies() (*plot.Plot, error) {
	const scenario = "busy-1000"
	p := r.newPlot("Latency at 2,000 lines a second, 1,000 connections", "% of lines that took longer", "microseconds")
	p.X.Scale, p.Y.Scale = plot.InvertedScale{Normalizer: plot.LogScale{}}, plot.LogScale{}
	p.X.Tick.Marker, p.Y.Tick.Marker = plot.LogTicks{Prec: -1}, plot.LogTicks{Prec: -1}
	drawn := false
	for i, server := range r.servers {
		var points plotter.XYs
		for at, percentile := range percentiles {
			var values []float64
			for _, out := range r.results[scenario][server.name] {
				values = append(values, out.latencies[at])
			}
			if len(values) > 0 {
				points = append(points, plotter.XY{X: 100 - percentile, Y: max(spreadOf(values).median, 1)})
			}
		}
		if err := addLine(p, i, server, points); err != nil {
			return nil, err
		}
		drawn = drawn || len(points) > 0
	}
	if !drawn {
		return nil, nil
	}
	return p, nil
}

// bars draws a metric of the servers in some scenarios as bars side by side.
func (r *reporter) bars(title, unit, metric string, scenarios ...string) (*plot.Plot, error) {
	p := r.newPlot(title, "", unit)
	var names []string
	const all = 30 // points for the bars of a server
	width := vg.Points(all / float64(len(scenarios)))
	for i, scenario := range scenarios {
		var values plotter.Values
		names = nil
		for _, s := range r.servers {
			if v, err := r.Median(scenario, s.name, metric); err == nil {
				values = append(values, v)
				names = append(names, s.name)
			}
		}
		if len(values) == 0 {
			return nil, nil
		}
		bars, err := plotter.NewBarChart(values, width)
		if err != nil {
			return nil, err
		}
		bars.Color = plotutil.Color(i)
		bars.Offset = width * vg.Length(float64(i)-float64(len(scenarios)-1)/2)
		p.Add(bars)
		p.Legend.Add(scenario, bars)
	}
	p.Legend.Left = false
	p.NominalX(names...)
	p.X.Tick.Label.Rotation = math.Pi / 6
	p.X.Tick.Label.XAlign, p.X.Tick.Label.YAlign = draw.XRight, draw.YTop
	return p, nil
}

func (r *reporter) memoryBars() (*plot.Plot, error) {
	for _, s := range r.scenarios {
		if s.family == "idle" {
			return r.bars(fmt.Sprintf("Memory of the server for each of %d idle connections", s.conns), "KB", memory, s.name())
		}
	}
	return nil, nil
}

func (r *reporter) cpuBars() (*plot.Plot, error) {
	return r.bars("CPU time of the server for a line delivered to one of 1,000 connections", "microseconds", cpuPerLine, "quiet-1000", "busy-1000")
}
