package peers

import (
	"bytes"
	"fmt"
	"html"
	"strings"

	"github.com/cellway/cellway/loadtest/figure"
)

// Sizes of the plot. A letter is reckoned as wide as those of the widest usual fonts.
const (
	plotMargin  = 14
	columnWidth = 490
	columnGap   = 24
	plotWidth   = 2*(plotMargin+columnWidth) + columnGap
	chartFrom   = 120 // of the first chart
	namesWidth  = 104
	kindsWidth  = 104
	valuesWidth = 56
	barHeight   = 11
	barStep     = 14
	rowGap      = 8
	letter      = 7.1
)

// style has colours that differ also for who cannot tell red from green, on a light
// and on a dark ground: blue is ours, everywhere.
const style = `<style>
text{fill:#1f2328}.ground{fill:#fff}.small{font-size:11px}.ours{fill:#0072b2}.peer{fill:#d55e00}.floor{fill:#8c8c8c}
.spread,.goal{stroke:#1f2328}.goal{stroke-dasharray:4 3}.mark{stroke:#d0d7de}.halo{paint-order:stroke;stroke:#fff;stroke-width:3px}
@media (prefers-color-scheme:dark){text{fill:#e6edf3}.ground{fill:#0d1117}.spread,.goal{stroke:#e6edf3}.mark{stroke:#30363d}.halo{stroke:#0d1117}}
</style>
`

// plot draws the charts of a report, and tells in words what they show.
func plot(r *figure.Report) []byte {
	var body, told bytes.Buffer
	var charts []chart
	for _, p := range panels {
		if c := chartOf(r, p); len(c.rows) > 0 {
			charts = append(charts, c)
		}
	}
	y := chartFrom
	for i := 0; i < len(charts); i += 2 {
		height := 0
		for j, c := range charts[i:min(i+2, len(charts))] {
			fmt.Fprintf(&body, "<g transform=\"translate(%d %d)\">\n", plotMargin+j*(columnWidth+columnGap), y)
			height = max(height, c.draw(&body))
			body.WriteString("</g>\n")
			fmt.Fprintf(&told, "%s.\n", html.EscapeString(c.words()))
		}
		y += height + 3*rowGap
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %d %d\" font-family=\"sans-serif\" font-size=\"12\" role=\"img\" aria-labelledby=\"title desc\">\n", plotWidth, y)
	fmt.Fprintf(&b, "<title id=\"title\">The router and its peers, %s</title>\n<desc id=\"desc\">%s</desc>\n%s", html.EscapeString(r.Date), &told, style)
	fmt.Fprintf(&b, "<rect class=\"ground\" width=\"100%%\" height=\"100%%\"/>\n<text x=\"%d\" y=\"26\" font-size=\"16\" font-weight=\"bold\">The router and its peers</text>\n", plotMargin)
	for i, line := range []string{
		fmt.Sprintf("%s, %s, version %s; median of %d rounds, lines from least to most", r.Command, r.Date, r.Version, r.Rounds),
		fmt.Sprintf("%s; load average %s before the start", r.Machine, r.Load),
	} {
		fmt.Fprintf(&b, "<text x=\"%d\" y=\"%d\">%s</text>\n", plotMargin, 46+16*i, html.EscapeString(line))
	}
	for i, class := range []struct{ name, says string }{
		{"ours", "our router, by engine"}, {"peer", "its peers"}, {"floor", "the floor: decides nothing"},
	} {
		x := plotMargin + 190*i
		fmt.Fprintf(&b, "<rect class=\"%s\" x=\"%d\" y=\"77\" width=\"14\" height=\"%d\"/><text x=\"%d\" y=\"87\">%s</text>\n", class.name, x, barHeight, x+20, class.says)
	}
	fmt.Fprintf(&b, "<line class=\"goal\" x1=\"740\" x2=\"770\" y1=\"83\" y2=\"83\"/><text x=\"776\" y=\"87\">a goal of ours</text>\n%s</svg>\n", &body)
	return b.Bytes()
}

// draw draws a chart from its upper left corner and returns its height.
func (c *chart) draw(b *bytes.Buffer) int {
	from := namesWidth
	if len(c.kinds) > 1 {
		from += kindsWidth
	}
	at, marks := c.scale()
	x := func(v float64) float64 { return float64(from) + float64(columnWidth-valuesWidth-from)*at(v) }
	fmt.Fprintf(b, "<text y=\"12\" font-weight=\"bold\">%s</text><text class=\"small\" y=\"28\">%s</text>\n", html.EscapeString(c.title), c.better())
	var bars, words bytes.Buffer // words go over the goals' lines
	top := 36 + barStep*len(c.goals)
	y := top
	for _, r := range c.rows {
		y += rowGap
		fmt.Fprintf(&words, "<text x=\"%d\" y=\"%d\" text-anchor=\"end\"%s>%s</text>\n", namesWidth-8, y+len(r.bars)*barStep/2+3, r.weight(), html.EscapeString(r.name))
		for _, v := range r.bars {
			if len(c.kinds) > 1 {
				fmt.Fprintf(&words, "<text class=\"small\" x=\"%d\" y=\"%d\" text-anchor=\"end\">%s</text>\n", from-8, y+10, html.EscapeString(v.kind))
			}
			fmt.Fprintf(&bars, "<rect class=\"%s\" x=\"%d\" y=\"%d\" width=\"%.1f\" height=\"%d\"><title>%s</title></rect>", r.class(), from, y+1, x(v.median)-float64(from), barHeight, html.EscapeString(v.words(r.name)))
			fmt.Fprintf(&bars, "<line class=\"spread\" x1=\"%.1f\" x2=\"%.1f\" y1=\"%d\" y2=\"%[3]d\"/>\n", x(v.least), x(v.most), y+6)
			fmt.Fprintf(&words, "<text class=\"small halo\" x=\"%.1f\" y=\"%d\">%s</text>\n", x(v.most)+6, y+10, figure.Number(v.median))
			y += barStep
		}
	}
	for _, m := range marks {
		fmt.Fprintf(b, "<line class=\"mark\" x1=\"%.1f\" x2=\"%.1[1]f\" y1=\"%d\" y2=\"%d\"/><text class=\"small\" x=\"%.1[1]f\" y=\"%[4]d\" text-anchor=\"middle\">%s</text>\n", x(m), top, y+4, y+16, figure.Number(m))
	}
	b.Write(bars.Bytes())
	for i, g := range c.goals {
		upper, to, anchor := 36+barStep*i, x(g.at)+4, "start"
		if wide := letter * float64(len(g.said)); to+wide > columnWidth {
			to, anchor = max(to-8, wide), "end"
		}
		fmt.Fprintf(b, "<line class=\"goal\" x1=\"%.1f\" x2=\"%.1[1]f\" y1=\"%d\" y2=\"%d\"/>\n", x(g.at), upper, y+4)
		fmt.Fprintf(&words, "<text class=\"small halo\" x=\"%.1f\" y=\"%d\" text-anchor=\"%s\">%s</text>\n", to, upper+10, anchor, html.EscapeString(g.said))
	}
	b.Write(words.Bytes())
	if len(marks) > 0 {
		return y + 20
	}
	return y + 4
}

func (c *chart) better() string {
	said := "less is better"
	if c.more {
		said = "more is better"
	}
	if c.log {
		said += "; each line is ten times the one before"
	}
	return said
}

// words is a chart for who hears it.
func (c *chart) words() string {
	said := []string{c.title + " (" + c.better() + ")"}
	for _, r := range c.rows {
		for _, b := range r.bars {
			said = append(said, join(r.name, b.kindIn(c))+": "+figure.Number(b.median))
		}
	}
	for _, g := range c.goals {
		said = append(said, g.said)
	}
	return strings.Join(said, "; ")
}

func (b bar) kindIn(c *chart) string {
	if len(c.kinds) > 1 {
		return b.kind
	}
	return ""
}

func (b bar) words(name string) string {
	return fmt.Sprintf("%s: %s, %s to %s in %d rounds", join(name, b.kind), figure.Number(b.median), figure.Number(b.least), figure.Number(b.most), b.rounds)
}

func (r row) class() string {
	switch {
	case strings.HasPrefix(r.name, "cellway"):
		return "ours"
	case r.name == floorName:
		return "floor"
	}
	return "peer"
}

func (r row) weight() string {
	if r.class() == "ours" {
		return ` font-weight="bold"`
	}
	return ""
}
