package bench

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

func TestParseBench(t *testing.T) {
	t.Parallel()
	got, err := parseBench(`goos: linux
BenchmarkLookup-2         	 5000000	       210.5 ns/op	        61.2 B/tenant	       180 p50-ns	       900 p99-ns	       0 B/op	       0 allocs/op
BenchmarkEnter/with-rls-2 	    1000	   1000000 ns/op
BenchmarkColdStart        	       3	 400000000 ns/op
PASS
`)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name, unit string
		want       float64
	}{
		{"Lookup", "p99-ns", 900},
		{"Lookup", "allocs/op", 0},
		{"Lookup", "B/tenant", 61.2},
		{"Enter/with-rls", "ns/op", 1e6},
		{"ColdStart", "ns/op", 4e8},
	} {
		v, err := got.take(tt.name, tt.unit)
		if err != nil || v != tt.want {
			t.Errorf("%s %s: got %v, %v, want %v", tt.name, tt.unit, v, err, tt.want)
		}
	}
	if _, err := got.take("Lookup", "furlongs"); err == nil {
		t.Error("no error for a unit that is not there")
	}
	if _, err := parseBench("BenchmarkX-2 1 fast ns/op\n"); err == nil {
		t.Error("no error for a number that is none")
	}
}

func TestGoalsAndMedians(t *testing.T) {
	t.Parallel()
	m := &measure{Figure: Figure{Values: []Value{value("rate", "1/s", ">= 1000"), value("p99", "ms", "<= 250"), value("allocations", "", "= 0"), value("p50", "ms", "")}}}
	for _, v := range []float64{900, 2000, 1100} {
		m.add("rate", v)
		m.add("p99", v)
		m.add("allocations", 0)
		m.add("p50", 1)
	}
	m.conclude()
	for i, want := range []string{">= 1000: met", "<= 250: MISSED", "= 0: met", ""} {
		if got := m.Values[i].verdict(); got != want {
			t.Errorf("%s: got %q, want %q", m.Values[i].Name, got, want)
		}
	}
	if got := m.Values[0].Median; got != 1100 {
		t.Errorf("median: got %v, want 1100", got)
	}
}

func TestEveryGoalCanBeRead(t *testing.T) {
	t.Parallel()
	for _, m := range measures() {
		for _, v := range m.Values {
			m.add(v.Name, 1)
		}
		m.conclude() // panics on a goal that is none
		if m.How == "" || m.Title == "" || len(m.Values) == 0 {
			t.Errorf("%s does not say what it measures", m.Name)
		}
	}
}

func TestNumber(t *testing.T) {
	t.Parallel()
	for v, want := range map[float64]string{0: "0", 12: "12", 0.98765: "0.988", 3.14159: "3.14", 31.4159: "31.4", 31415.9: "31416"} {
		if got := number(v); got != want {
			t.Errorf("%v: got %s, want %s", v, got, want)
		}
	}
}

func TestReportStandsBetweenTheMarkers(t *testing.T) {
	t.Parallel()
	doc := "# Benchmarks\n\n" + markBegin + "\nold\n" + markEnd + "\n\nafter\n"
	met := true
	r := &Report{Command: "make bench", Date: "today", Rounds: 3, Figures: []Figure{{
		Name: "claims", Title: "names", How: "by asking", Values: []Value{{Name: "rate", Unit: "claims/s", Median: 1234, Rounds: []float64{1200, 1234, 1300}, Goal: ">= 1000", Met: &met}},
	}}}
	got, err := between([]byte(doc), r.markdown())
	if err != nil {
		t.Fatal(err)
	}
	text := string(got)
	for _, want := range []string{"# Benchmarks\n", "\nafter\n", "| claims: rate | 1234 claims/s | 1200, 1234, 1300 | >= 1000: met |", "**claims** (names): by asking", markBegin, markEnd} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	if strings.Contains(text, "old") {
		t.Error("the old report is still there")
	}
	if again, err := between(got, r.markdown()); err != nil || string(again) != text {
		t.Errorf("writing it again changes it: %v", err)
	}
	if _, err := between([]byte("no markers"), nil); err == nil {
		t.Error("no error for a document without markers")
	}
}

func TestHammerGivesEveryCallAndTheFirstError(t *testing.T) {
	t.Parallel()
	var calls atomic.Int64
	took, err := hammer(t.Context(), 4, 20*time.Millisecond, func(context.Context, int, int) error {
		calls.Add(1)
		return nil
	})
	if err != nil || int64(len(took)) != calls.Load() || len(took) < 4 {
		t.Errorf("got %d durations of %d calls, %v", len(took), calls.Load(), err)
	}
	broken := errors.New("broken")
	if _, err := hammer(t.Context(), 2, time.Minute, func(context.Context, int, int) error { return broken }); !errors.Is(err, broken) {
		t.Errorf("got %v, want the call's error", err)
	}
}

func TestOptionsAreChecked(t *testing.T) {
	t.Parallel()
	for _, o := range []Options{{Only: []string{"nothing"}, Source: "../.."}, {Rounds: -1, Source: "../.."}, {Source: t.TempDir()}} {
		if _, err := Run(t.Context(), o); err == nil {
			t.Errorf("%+v was accepted", o)
		}
	}
}
