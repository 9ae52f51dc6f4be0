package peers

import (
	"bytes"
	"fmt"
	"html"
	"os"
	"path/filepath"
	"strings"

	"github.com/cellway/cellway/loadtest/figure"
)

// A panel is one chart of the plot: a value of each contender, side by side.
type panel struct{ figure, kind, title string }

var panels = []panel{
	{"P1-cpu", "", "processor time per request, us (less is better)"},
	{"P2-rate", perCore, "requests in a second of its processor time (more is better)"},
	{"P3-latency", "p50", "added latency p50, us (less is better)"},
	{"P3-latency", "p99", "added latency p99, us (less is better)"},
	{"P8-idle", "", "memory per idle connection, KB (less is better)"},
	{"P11-tls", "", "processor time per request over TLS, us (less is better)"},
	{"P12-h2", "", "processor time per request over HTTP/2, us (less is better)"},
}

// writePlot writes docs/bench-peers.svg of the source tree.
func writePlot(source string, r *figure.Report) error {
	if err := os.WriteFile(filepath.Join(source, "docs", "bench-peers.svg"), plot(r), 0o644); err != nil { //nolint:gosec // a document for everybody
		return fmt.Errorf("write plot: %w", err)
	}
	return nil
}

// A bar is a contender's median with the least and the most of its rounds.
type bar struct {
	name              string
	median, least, at float64
}

const (
	plotWidth = 760
	barFrom   = 170
	barWidth  = 470
	barStep   = 22
)

// plot draws the panels below each other, bars with whiskers from least to most.
func plot(r *figure.Report) []byte {
	var body bytes.Buffer
	y := 50
	for _, p := range panels {
		bars := barsOf(r, p)
		if len(bars) == 0 {
			continue
		}
		most := 0.0
		for _, b := range bars {
			most = max(most, b.at)
		}
		fmt.Fprintf(&body, "<text x=\"10\" y=\"%d\" font-weight=\"bold\">%s</text>\n", y, html.EscapeString(p.title))
		for _, b := range bars {
			y += barStep
			color := "#9aa5b1"
			if strings.HasPrefix(b.name, "cellway") {
				color = "#2463eb"
			}
			x := func(v float64) float64 { return barFrom + barWidth*max(0, v)/max(most, 1e-9) }
			fmt.Fprintf(&body, "<text x=\"%d\" y=\"%d\" text-anchor=\"end\">%s</text>", barFrom-8, y, html.EscapeString(b.name))
			fmt.Fprintf(&body, "<rect x=\"%d\" y=\"%d\" width=\"%.1f\" height=\"14\" fill=\"%s\"/>", barFrom, y-11, x(b.median)-barFrom, color)
			fmt.Fprintf(&body, "<line x1=\"%.1f\" x2=\"%.1f\" y1=\"%d\" y2=\"%[3]d\" stroke=\"#111\"/>", x(b.least), x(b.at), y-4)
			fmt.Fprintf(&body, "<text x=\"%.1f\" y=\"%d\">%s</text>\n", x(b.at)+6, y, figure.Number(b.median))
		}
		y += 2 * barStep
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %d %d\" font-family=\"sans-serif\" font-size=\"12\">\n", plotWidth, y)
	fmt.Fprintf(&b, "<rect width=\"100%%\" height=\"100%%\" fill=\"#fff\"/>\n<text x=\"10\" y=\"20\">%s</text>\n",
		html.EscapeString(fmt.Sprintf("%s, %s, version %s, %s; median of %d rounds, lines from least to most", r.Command, r.Date, r.Version, r.Machine, r.Rounds)))
	b.Write(body.Bytes())
	b.WriteString("</svg>\n")
	return b.Bytes()
}

// barsOf are the contenders' values of a panel; ratios are left out.
func barsOf(r *figure.Report, p panel) []bar {
	var bars []bar
	for _, f := range r.Figures {
		if f.Name != p.figure {
			continue
		}
		for _, v := range f.Values {
			name, kind, _ := strings.Cut(v.Name, ", ")
			if kind != p.kind || strings.Contains(name, " / ") || len(v.Rounds) == 0 {
				continue
			}
			b := bar{name: name, median: v.Median, least: v.Median, at: v.Median}
			for _, x := range v.Rounds {
				b.least, b.at = min(b.least, x), max(b.at, x)
			}
			bars = append(bars, b)
		}
	}
	return bars
}
