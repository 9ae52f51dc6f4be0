package figure

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

func TestGoalsAndMedians(t *testing.T) {
	t.Parallel()
	f := &Figure{Values: []Value{
		Describe("rate", "1/s", ">= 1000"), Describe("p99", "ms", "<= 250"), Describe("allocations", "", "= 0"), Describe("p50", "ms", ""),
		Describe("refused", "ms", "<= 1"), Describe("skipped", "ms", ""),
	}}
	for _, v := range []float64{900, 2000, 1100} {
		f.Add("rate", v)
		f.Add("p99", v)
		f.Add("allocations", 0)
		f.Add("p50", 1)
	}
	f.Values[4].Missing = "the load was too slow"
	f.Conclude()
	verdicts := []string{">= 1000: met", "<= 250: MISSED", "= 0: met", "", "<= 1: NOT MEASURED (the load was too slow)"}
	if len(f.Values) != len(verdicts) {
		t.Fatalf("got %d values, want %d: one that was not measured and has no goal is left out", len(f.Values), len(verdicts))
	}
	for i, want := range verdicts {
		if got := f.Values[i].Verdict(); got != want {
			t.Errorf("%s: got %q, want %q", f.Values[i].Name, got, want)
		}
	}
	if got := f.Values[0].Median; got != 1100 {
		t.Errorf("median: got %v, want 1100", got)
	}
}

func TestNumber(t *testing.T) {
	t.Parallel()
	for v, want := range map[float64]string{0: "0", 12: "12", 0.98765: "0.988", 3.14159: "3.14", 31.4159: "31.4", 31415.9: "31416"} {
		if got := Number(v); got != want {
			t.Errorf("%v: got %s, want %s", v, got, want)
		}
	}
}

func TestReportStandsBetweenTheMarkers(t *testing.T) {
	t.Parallel()
	const begin, end = "<!-- bench:begin (written by `make bench`) -->", "<!-- bench:end -->"
	doc := "# Benchmarks\n\n" + begin + "\nold\n" + end + "\n\nafter\n"
	met := true
	r := &Report{Command: "make bench", Date: "today", Rounds: 3, Warnings: []string{"the machine is busy"}, Figures: []Figure{{
		Name: "claims", Title: "names", How: "by asking", Notes: []string{"a note"},
		Values: []Value{
			{Name: "rate", Unit: "claims/s", Median: 1234, Rounds: []float64{1200, 1234, 1300}, Goal: ">= 1000", Met: &met},
			{Name: "p99", Unit: "ms", Goal: "<= 1"},
			{Name: "a | b", Unit: "ms", Median: 7, Rounds: []float64{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13}},
		},
	}}}
	got, err := between([]byte(doc), r.markdown(), "bench", r.Command)
	if err != nil {
		t.Fatal(err)
	}
	text := string(got)
	for _, want := range []string{
		"# Benchmarks\n", "\nafter\n", "| claims: rate | 1234 claims/s | 1200, 1234, 1300 | >= 1000: met |", `| claims: a \| b | 7 ms | 13, 1 to 13 |`,
		"| claims: p99 | - ms |  | <= 1: NOT MEASURED |", "**claims** (names): by asking", "  - a note", "**Warning**: the machine is busy", begin, end,
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	if strings.Contains(text, "old") {
		t.Error("the old report is still there")
	}
	if again, err := between(got, r.markdown(), "bench", r.Command); err != nil || string(again) != text {
		t.Errorf("writing it again changes it: %v", err)
	}
	if _, err := between([]byte("no markers"), nil, "bench", "make bench"); err == nil {
		t.Error("no error for a document without markers")
	}
}

func TestTableShowsNotesAndWarnings(t *testing.T) {
	t.Parallel()
	r := &Report{Warnings: []string{"busy"}, Figures: []Figure{{Name: "pause", Title: "of a move", How: "by looking"}}}
	r.Figures[0].Note("first")
	r.Figures[0].Note("first") // said once
	var b strings.Builder
	if err := r.WriteTable(&b); err != nil {
		t.Fatal(err)
	}
	if got := b.String(); strings.Count(got, "- first") != 1 || !strings.Contains(got, "warning: busy") {
		t.Errorf("got\n%s", got)
	}
}

func TestReportIsReadAsItWasWritten(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "report.json")
	r := NewReport(t.Context(), "make bench", ".", 2)
	r.Took, r.Warnings = 3_180_123_000_000, []string{"busy {or not}  at all"}
	r.Figures = []Figure{{Name: "claims", Notes: []string{"a"}, Values: []Value{
		{Name: "rate", Unit: "1/s", Median: 1.0 / 3, Rounds: []float64{1.0 / 3, 1e-9}, Goal: ">= 1", Met: new(false)},
		{Name: "p99 {x}", Goal: "<= 1", Missing: "too slow"},
	}}}
	if err := r.WriteJSON(path); err != nil {
		t.Fatal(err)
	}
	got, err := ReadReport(path)
	if err != nil || !reflect.DeepEqual(got, r) {
		t.Errorf("got %+v, %v, want %+v", got, err, r)
	}
	text, err := os.ReadFile(path)
	if want := `{ "name": "rate", "unit": "1/s", "median": 0.3333333333333333, "rounds": [ 0.3333333333333333, 1e-9 ], "goal": ">= 1", "met": false },` + "\n"; err != nil || !strings.Contains(string(text), want) {
		t.Errorf("no line %q in\n%s%v", want, text, err)
	}
	for _, bad := range []string{"", "{}", `{"apiVersion":"x","kind":"BenchReport"}`, strings.Replace(string(text), "BenchReport", "BlastReport", 1), strings.Replace(string(text), "3180123.000", `"long"`, 1)} {
		if err := os.WriteFile(path, []byte(bad), 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := ReadReport(path); err == nil {
			t.Errorf("%q was read as %+v", bad, got)
		}
	}
	if _, err := ReadReport(path + "x"); err == nil {
		t.Error("no error for a file that is not there")
	}
}
