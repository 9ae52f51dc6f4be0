package peers

import (
	"encoding/xml"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/cellway/cellway/loadtest/figure"
)

const source = "../.."

// The committed table, plot and JSON are of one report, and as this version draws it.
func TestDocsAreOfOneReport(t *testing.T) {
	t.Parallel()
	names := []string{"BENCHMARKS.md", "bench-peers.svg", "bench-peers.json"}
	committed := map[string]string{}
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "docs"), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		committed[name] = read(t, filepath.Join(source, "docs", name))
	}
	const begin, end = "<!-- bench-peers:begin (written by `make bench-peers`) -->", "<!-- bench-peers:end -->"
	before, rest, _ := strings.Cut(committed[names[0]], begin)
	_, after, _ := strings.Cut(rest, end)
	put(t, filepath.Join(dir, "docs", names[0]), before+begin+end+after) // the table is to come from the JSON
	if _, err := Draw(dir, filepath.Join(source, "docs", "bench-peers.json"), true); err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if got := read(t, filepath.Join(dir, "docs", name)); got != committed[name] {
			t.Errorf("docs/%s is not what `loadtest peers --from docs/bench-peers.json` writes: run it", name)
		}
	}
}

func TestOnlyWholeRunsAreDrawn(t *testing.T) {
	t.Parallel()
	whole := committedReport(t)
	bad := filepath.Join(t.TempDir(), "bad.json")
	for name, spoil := range map[string]func(r *figure.Report){
		"another command's": func(r *figure.Report) { r.Command = "make bench" },
		"a short run's":     func(r *figure.Report) { r.Warnings = append(r.Warnings, quickly+"too few") },
		"one figure's":      func(r *figure.Report) { r.Figures = r.Figures[:1] },
	} {
		r := *whole
		spoil(&r)
		if err := r.WriteJSON(bad); err != nil {
			t.Fatal(err)
		}
		if _, err := Draw(t.TempDir(), bad, false); err == nil {
			t.Errorf("%s report was drawn", name)
		}
	}
	if err := whole.WriteJSON(bad); err != nil {
		t.Fatal(err)
	}
	if _, err := Draw(t.TempDir(), bad, true); err == nil {
		t.Error("no error where there are no docs to write to")
	}
}

// committedReport is docs/bench-peers.json.
func committedReport(t *testing.T) *figure.Report {
	t.Helper()
	r, err := Draw("", filepath.Join(source, "docs", "bench-peers.json"), false)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestPlotShowsGoals(t *testing.T) {
	t.Parallel()
	l := &lab{ours: "cellway-h1", contenders: []*contender{{name: "cellway-h1"}, {name: "nginx"}, {name: "haproxy"}}}
	cpu, latency, rate := cpuFigure(), latencyFigure(), rateFigure()
	cpu.keep(l, map[string]map[string]float64{"cellway-h1": {"": 10}, "nginx": {"": 20}})
	latency.keep(l, map[string]map[string]float64{"cellway-h1": {"p50": 100, "p99": -1}, "nginx": {"p99": 1000}})
	r := &figure.Report{Command: command, Machine: "<two> & more", Figures: []figure.Figure{}}
	for _, m := range []*measure{cpu, latency, rate} {
		m.conclude(l)
		r.Figures = append(r.Figures, m.Figure)
	}
	c := chartOf(r, panels[0])
	if len(c.goals) != 1 || c.goals[0] != (goal{15, "goal <= 0.75 x nginx: 0.5, met"}) { // haproxy has no value to compare with
		t.Errorf("P1: got goals %+v", c.goals)
	}
	c = chartOf(r, panels[2])
	at, marks := c.scale()
	if fmt.Sprint(c.goals) != "[{30 goal for p50 <= 30: 100, MISSED} {1000 goal for p99 <= 1 x nginx: -0.001, met}]" {
		t.Errorf("P3: got goals %+v", c.goals)
	}
	if fmt.Sprint(marks) != "[10 100 1000]" || at(-1) != 0 || at(10) != 0 || at(100) != 0.5 || at(1000) != 1 {
		t.Errorf("P3: got marks %v, and %v, %v, %v, %v", marks, at(-1), at(10), at(100), at(1000))
	}
	svg := string(plot(r))
	for _, want := range []string{
		`role="img" aria-labelledby="title desc"`, `<title id="title">`, "P1: processor time per request, us (less is better); cellway-h1: 10; nginx: 20; goal &lt;= 0.75 x nginx: 0.5, met.",
		"prefers-color-scheme:dark", `<rect class="ours" x="104"`, `<rect class="peer" x="104"`, "&lt;two&gt; &amp; more", `<text class="small" x="200" y="`,
	} {
		if !strings.Contains(svg, want) {
			t.Errorf("no %q in\n%s", want, svg)
		}
	}
	if strings.Contains(svg, "P2:") {
		t.Error("a chart of nothing is there")
	}
}

// An element is one of SVG's.
type element struct {
	XMLName xml.Name
	Attrs   []xml.Attr `xml:",any,attr"`
	Words   string     `xml:",chardata"`
	Inner   []element  `xml:",any"`
}

func (e element) attr(name string) string {
	for _, a := range e.Attrs {
		if a.Name.Local == name {
			return a.Value
		}
	}
	return ""
}

// No word leaves its chart, whatever the values are.
func TestWordsOfThePlotStayInside(t *testing.T) {
	t.Parallel()
	r := committedReport(t)
	for _, times := range []float64{1, 0.01, 7, 10} {
		for i := range r.Figures {
			for j, v := range r.Figures[i].Values {
				if strings.HasPrefix(v.Name, "nginx") { // goals are shares of its values
					v.Median *= times
					v.Rounds[0] *= times
					r.Figures[i].Values[j] = v
				}
			}
		}
		var svg element
		if err := xml.Unmarshal(plot(r), &svg); err != nil {
			t.Fatal(err)
		}
		var height float64
		if _, err := fmt.Sscanf(svg.attr("viewBox"), "0 0 "+strconv.Itoa(plotWidth)+" %f", &height); err != nil {
			t.Fatal(err)
		}
		charts := 0
		for _, e := range svg.Inner {
			if e.XMLName.Local != "g" {
				inside(t, e, 0, plotWidth-plotMargin, height)
				continue
			}
			charts++
			var x, y float64
			if _, err := fmt.Sscanf(e.attr("transform"), "translate(%f %f)", &x, &y); err != nil {
				t.Fatal(err)
			}
			for _, word := range e.Inner {
				inside(t, word, 0, columnWidth, height-y)
			}
		}
		if charts != len(panels) {
			t.Errorf("%d charts, want %d", charts, len(panels))
		}
	}
}

// inside reckons a letter as wide as draw does, a bold or a big one a little wider.
func inside(t *testing.T, e element, from, to, height float64) {
	t.Helper()
	if e.XMLName.Local != "text" {
		return
	}
	x, _ := strconv.ParseFloat("0"+e.attr("x"), 64)
	y, err := strconv.ParseFloat(e.attr("y"), 64)
	wide := letter * float64(len(e.Words))
	if e.attr("class") == "" {
		wide *= 1.1
	}
	switch e.attr("text-anchor") {
	case "end":
		x -= wide
	case "middle":
		x -= wide / 2
	}
	if err != nil || x < from-0.5 || x+wide > to+0.5 || y > height {
		t.Errorf("%q goes from %.0f to %.0f at %.0f, not inside %.0f to %.0f, %.0f", e.Words, x, x+wide, y, from, to, height)
	}
}

// Reports of the same rounds are the same.
func TestGoalsAreInOneOrder(t *testing.T) {
	t.Parallel()
	for range 50 {
		m := syscallsFigure()
		m.conclude(&lab{ours: "cellway-h1"})
		if len(m.Values) != 2 || m.Values[0].Name != "cellway-h1, 1 connection" {
			t.Fatalf("got %+v", m.Values)
		}
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func put(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
