package deploy_test

import (
	"encoding/json"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var (
	// ours are the metrics of our own processes; others (go_*, up) are libraries'.
	ours    = regexp.MustCompile(`\b(?:cell:)?(?:router|cell|directory|move|build|log|tls)_[a-z0-9_:]+`)
	defined = regexp.MustCompile(`"((?:router|cell|directory|move|build|log|tls)_[a-z0-9_]+)"`)
	// A histogram is queried by these.
	series = regexp.MustCompile(`_(bucket|count|sum)$`)
	// These join series whose labels are all the same, or those that on (...) names.
	join = regexp.MustCompile(`\s(?:and|unless)\s(on \()?`)
	// Such an operand has only the labels that it asks for.
	aggregated = regexp.MustCompile(`^(?:(?:sum|max|min)\b|cell:)`)
)

// TestDashboardsNameMetricsThatExist keeps a renamed metric from leaving an
// empty panel behind.
func TestDashboardsNameMetricsThatExist(t *testing.T) {
	t.Parallel()
	known := definedMetrics(t)
	dashboards, err := filepath.Glob("grafana/*.json")
	if err != nil || len(dashboards) == 0 {
		t.Fatalf("find dashboards: %v, %v", dashboards, err)
	}
	for _, path := range dashboards {
		asked := 0
		for _, expr := range expressions(t, path) {
			for _, name := range ours.FindAllString(expr, -1) {
				asked++
				if !known[name] && !known[series.ReplaceAllString(name, "")] {
					t.Errorf("%s asks for %s, which no code defines: %s", path, name, expr)
				}
			}
		}
		if asked == 0 {
			t.Errorf("%s asks for none of our metrics", path)
		}
	}
}

// TestAlertsNameMetricsThatExist keeps a renamed metric, or labels that do not meet, from
// leaving an alert that never fires, and an alert from having nobody told what to do about it.
func TestAlertsNameMetricsThatExist(t *testing.T) {
	t.Parallel()
	known := definedMetrics(t)
	var file struct {
		Groups []struct {
			Rules []struct{ Record, Alert, Expr string }
		}
	}
	readYAML(t, "infra/deploy/prometheus/alerts.yml", &file)
	docs, err := os.ReadFile(filepath.Join(root, "docs/OPERATIONS.md"))
	if err != nil {
		t.Fatal(err)
	}
	alerts := 0
	for _, g := range file.Groups {
		for _, r := range g.Rules {
			if r.Record != "" {
				known[r.Record] = true
			} else if alerts++; !strings.Contains(string(docs), "`"+r.Alert+"`") {
				t.Errorf("docs/OPERATIONS.md does not say what to do about %s", r.Alert)
			}
			if !joins(r.Expr) {
				t.Errorf("%s joins series that need not have the same labels, and then never fires: say on (...)", r.Alert)
			}
			for _, name := range ours.FindAllString(r.Expr, -1) {
				if !known[name] && !known[series.ReplaceAllString(name, "")] {
					t.Errorf("%s%s asks for %s, which no code defines: %s", r.Alert, r.Record, name, r.Expr)
				}
			}
		}
	}
	if alerts == 0 {
		t.Error("there are no alerts")
	}
}

// joins reports whether each and, and each unless, finds the series that it means.
func joins(expr string) bool {
	operands := join.Split(expr, -1)
	for i, m := range join.FindAllStringSubmatch(expr, -1) {
		if m[1] == "" && (!aggregated.MatchString(operands[i]) || !aggregated.MatchString(operands[i+1])) {
			return false
		}
	}
	return true
}

// expressions are the queries of a dashboard.
func expressions(t *testing.T, path string) []string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var d struct {
		Panels []struct {
			Targets []struct {
				Expr string `json:"expr"`
			} `json:"targets"`
		} `json:"panels"`
	}
	if err := json.Unmarshal(b, &d); err != nil {
		t.Fatalf("read %s: %v", path, err)
	}
	var out []string
	for _, p := range d.Panels {
		for _, target := range p.Targets {
			out = append(out, target.Expr)
		}
	}
	return out
}

// definedMetrics are the names that the code gives to metrics (and to a few other things).
func definedMetrics(t *testing.T) map[string]bool {
	t.Helper()
	known := map[string]bool{}
	for _, top := range []string{"router", "cell", "directory", "infra"} {
		err := filepath.WalkDir(filepath.Join(root, top), func(path string, _ fs.DirEntry, err error) error {
			if err != nil || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return err
			}
			b, err := os.ReadFile(path)
			for _, m := range defined.FindAllStringSubmatch(string(b), -1) {
				known[m[1]] = true
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return known
}
