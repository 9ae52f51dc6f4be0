package bench

import (
	"context"
	"errors"
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

func TestEveryGoalCanBeRead(t *testing.T) {
	t.Parallel()
	for _, m := range measures() {
		for _, v := range m.Values {
			m.Add(v.Name, 1)
		}
		m.Conclude() // panics on a goal that is none
		if m.How == "" || m.Title == "" || len(m.Values) == 0 {
			t.Errorf("%s does not say what it measures", m.Name)
		}
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
