package infra_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
)

// metricName is what a literal must look like to be taken for a metric's name.
var metricName = regexp.MustCompile(`^[a-z]+(_[a-z0-9]+)+$`)

// TestMetricsFollowTheConventions of Prometheus, in name, help and labels, wherever they are
// made, and name no tenant. It reads the code, as a series that counts only what is rare is in
// no registry that a test could gather.
func TestMetricsFollowTheConventions(t *testing.T) {
	t.Parallel()
	files, err := exec.CommandContext(t.Context(), "git", "-C", "..", "grep", "-l", "client_golang/prometheus", "--", "*.go", ":!*_test.go").Output()
	if err != nil {
		t.Skipf("this is no git checkout: %v", err)
	}
	m := metrics{families: map[string]string{}}
	for path := range strings.Lines(string(files)) {
		file, err := parser.ParseFile(token.NewFileSet(), "../"+strings.TrimSpace(path), nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, m.find)
	}
	for _, name := range []string{ // one for each way in which they are written
		"move_phases_total", "move_write_pause_seconds", "cell_jobs_due", "router_cell_limit", "router_upstream_connections",
	} {
		if m.families[name] == "" {
			t.Errorf("%s was not found in the code: this test has to learn how it is written now", name)
		}
	}
	for name, text := range m.families {
		found, err := promlint.New(strings.NewReader(text)).Lint()
		if err != nil {
			t.Errorf("%s: %v in\n%s", name, err, text)
		}
		for _, p := range found {
			t.Errorf("%s: %s", p.Metric, p.Text)
		}
	}
	if len(m.classic) > 0 {
		t.Errorf("histograms without native buckets: %v", m.classic)
	}
	for _, label := range []string{"tenant", "tenant_id", "user", "user_hash", "address", "path", "host"} {
		if slices.Contains(m.labels, label) {
			t.Errorf("a metric has the label %s, which has no bound", label)
		}
	}
}

// metrics are those that the code makes, as text that Prometheus could have scraped.
type metrics struct {
	families        map[string]string
	labels, classic []string // of any; histograms that have no native buckets besides
}

// find adds the metric that n makes.
func (m *metrics) find(n ast.Node) bool {
	switch n := n.(type) {
	case *ast.CompositeLit: // prometheus.CounterOpts{Name: ..., Help: ...}
		kind, ok := strings.CutSuffix(called(n.Type), "Opts")
		if !ok {
			return true
		}
		var name, help string
		native := kind != "Histogram"
		for _, e := range n.Elts {
			if kv, ok := e.(*ast.KeyValueExpr); ok {
				switch called(kv.Key) {
				case "Name":
					name = literal(kv.Value)
				case "Help":
					help = literal(kv.Value)
				case "NativeHistogramBucketFactor":
					native = true
				}
			}
		}
		if !native {
			m.classic = append(m.classic, name)
		}
		m.add(name, help, strings.ToLower(kind))
	case *ast.CallExpr:
		if len(n.Args) < 2 {
			return true
		}
		if list, ok := n.Args[1].(*ast.CompositeLit); ok && strings.HasSuffix(called(n.Fun), "Vec") {
			for _, e := range list.Elts {
				m.labels = append(m.labels, literal(e))
			}
		}
		for _, e := range n.Args[2:] {
			if called(n.Fun) == "cellDesc" {
				m.labels = append(m.labels, literal(e))
			}
		}
		// NewDesc("name", "Help.", ...) and whatever else is told both.
		if name, help := literal(n.Args[0]), literal(n.Args[1]); strings.HasSuffix(help, ".") {
			kind := "gauge"
			if strings.HasSuffix(name, "_total") {
				kind = "counter"
			}
			m.add(name, help, kind)
		}
	}
	return true
}

func (m *metrics) add(name, help, kind string) {
	if !metricName.MatchString(name) {
		return // a function's parameter: its callers are looked at
	}
	sample := name + " 0\n"
	if kind == "histogram" {
		sample = fmt.Sprintf("%[1]s_bucket{le=\"+Inf\"} 0\n%[1]s_sum 0\n%[1]s_count 0\n", name)
	}
	m.families[name] = fmt.Sprintf("# HELP %s %s\n# TYPE %[1]s %[3]s\n%[4]s", name, help, kind, sample)
}

// called is the last name of an expression such as prometheus.NewDesc.
func called(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.SelectorExpr:
		return e.Sel.Name
	case *ast.Ident:
		return e.Name
	}
	return ""
}

// literal is the value of a string that the code spells out, "" for everything else.
func literal(e ast.Expr) string {
	lit, ok := e.(*ast.BasicLit)
	if !ok {
		return ""
	}
	s, _ := strconv.Unquote(lit.Value)
	return s
}
