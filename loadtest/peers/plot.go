package peers

import (
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/cellway/cellway/loadtest/figure"
)

// A panel is one chart of the plot: for each contender, a bar for each kind of value.
type panel struct {
	figure string
	kinds  []string
	title  string
	more   bool // is better; otherwise less is
	log    bool // the scale: where values lie too far apart
}

var single = []string{""}

// panels stand two in a row. P5 and the parts are of our router alone: a table does.
var panels = []panel{
	{"P1-cpu", single, "P1: processor time per request, us", false, false},
	{"P2-rate", []string{perCore}, "P2: requests in a second of processor time", true, false},
	{"P3-latency", []string{"p50", "p99", "p99.9"}, "P3: latency added at half load, us", false, true},
	{"P6-bodies", []string{"down 1 MiB", "up 1 MiB", "down 64 MiB"}, "P6: GB relayed in a second of processor time", true, false},
	{"P4-syscalls", []string{"64 connections", "1 connection"}, "P4: system calls per request", false, false},
	{"P10-handshakes", []string{"full", "resumed"}, "P10: TLS handshakes in a second of processor time", true, false},
	{"P7-chunked", single, "P7: chunked answers in a second of processor time", true, false},
	{"P13-connections", single, "P13: one-request connections in a second of processor time", true, false},
	{"P8-idle", single, "P8: memory per idle connection, KB", false, true},
	{"P9-idle-tls", single, "P9: memory per idle TLS connection, KB", false, true},
	{"P11-tls", single, "P11: processor time per request over TLS, us", false, false},
	{"P12-h2", single, "P12: processor time per request over HTTP/2, us", false, false},
}

// A chart is what a panel shows of a report.
type chart struct {
	panel
	rows  []row
	goals []goal
}

// A row is a contender.
type row struct {
	name string
	bars []bar
}

// A bar is a median with the least and the most of its rounds.
type bar struct {
	kind                string
	median, least, most float64
	rounds              int
}

// A goal is drawn where ours would just meet it; one that compares, at its share of
// the peer's median. The verdict is of the ratios of the rounds.
type goal struct {
	at   float64
	said string
}

func chartOf(r *figure.Report, p panel) chart {
	c := chart{panel: p}
	for _, f := range r.Figures {
		if f.Name != p.figure {
			continue
		}
		for _, v := range f.Values {
			name, kind, _ := strings.Cut(v.Name, ", ")
			if !slices.Contains(p.kinds, kind) {
				continue
			}
			_, peer, compares := strings.Cut(name, " / ")
			if !compares && len(v.Rounds) > 0 {
				c.put(name, bar{kind, v.Median, slices.Min(v.Rounds), slices.Max(v.Rounds), len(v.Rounds)})
			}
			if v.Goal != "" {
				c.aim(f, v, kind, peer)
			}
		}
	}
	for _, row := range c.rows {
		slices.SortStableFunc(row.bars, func(a, b bar) int { return slices.Index(p.kinds, a.kind) - slices.Index(p.kinds, b.kind) })
	}
	return c
}

func (c *chart) put(name string, b bar) {
	i := slices.IndexFunc(c.rows, func(r row) bool { return r.name == name })
	if i < 0 {
		i = len(c.rows)
		c.rows = append(c.rows, row{name: name})
	}
	c.rows[i].bars = append(c.rows[i].bars, b)
}

// aim adds the goal of a value, unless the peer that it compares with has none.
func (c *chart) aim(f figure.Figure, v figure.Value, kind, peer string) {
	_, bound, _ := strings.Cut(v.Goal, " ")
	at, err := strconv.ParseFloat(bound, 64)
	if err != nil {
		return
	}
	said := "goal " + v.Goal
	if len(c.kinds) > 1 {
		said = "goal for " + kind + " " + v.Goal
	}
	if peer != "" {
		i := slices.IndexFunc(f.Values, func(x figure.Value) bool { return x.Name == join(peer, kind) })
		if i < 0 || len(f.Values[i].Rounds) == 0 {
			return
		}
		at *= f.Values[i].Median
		said += " x " + peer
	}
	switch {
	case v.Met == nil:
		said += ": NOT MEASURED"
	case *v.Met:
		said += ": " + figure.Number(v.Median) + ", met"
	default:
		said += ": " + figure.Number(v.Median) + ", MISSED"
	}
	c.goals = append(c.goals, goal{at, said})
}

// scale is where a value lies, from 0 to 1, and which values a reader wants marked: on
// a scale of logarithms the tens. What is not over 0 lies at its beginning.
func (c *chart) scale() (at func(v float64) float64, marks []float64) {
	var all []float64
	for _, r := range c.rows {
		for _, b := range r.bars {
			all = append(all, b.median, b.least, b.most)
		}
	}
	for _, g := range c.goals {
		all = append(all, g.at)
	}
	all = slices.DeleteFunc(all, func(v float64) bool { return v <= 0 })
	if len(all) == 0 {
		all = []float64{1}
	}
	most := slices.Max(all)
	if !c.log {
		return func(v float64) float64 { return max(0, v) / most }, nil
	}
	lowest := math.Floor(tens(slices.Min(all)))
	highest := max(tens(most), lowest+1)
	for e := lowest; e <= highest; e++ {
		marks = append(marks, math.Pow(10, e))
	}
	return func(v float64) float64 {
		return (tens(max(v, marks[0])) - lowest) / (highest - lowest)
	}, marks
}

// tens is the logarithm, whole of what is a power of ten.
func tens(v float64) float64 { return math.Round(math.Log10(v)*1e9) / 1e9 }
