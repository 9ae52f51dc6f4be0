package blast

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cellway/cellway/infra/testkit/product"
)

// TestMain lets this binary be a cell of the benchmark.
func TestMain(m *testing.M) {
	if len(os.Args) > 2 && os.Args[1] == Part {
		if err := RunPart(context.Background(), os.Args[2:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// TestShortRun lets every fault happen for a moment. Nothing is asked of times and
// ratios, and a router that sheds is no failure: this machine may be busy.
func TestShortRun(t *testing.T) {
	if testing.Short() || runtime.GOOS != "linux" {
		t.Skip("needs Linux, and processes")
	}
	bin, err := product.In(t.TempDir(), "router")
	if err != nil {
		t.Fatal(err)
	}
	for _, only := range [][]string{nil, {overloadName(5), "killed"}} {
		shortRun(t, Options{Only: only, Requests: 40, Rounds: 1, Window: 100 * time.Millisecond, Herd: 200, Source: "../..", BinDir: bin, Progress: t.Output()})
	}
}

func shortRun(t *testing.T, o Options) {
	t.Helper()
	r, err := Run(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	var table strings.Builder
	if err := r.WriteTable(&table); err != nil {
		t.Fatal(err)
	}
	t.Log(table.String())
	var names []string
	for _, l := range r.Lines {
		names = append(names, l.Fault)
		if bad := l.Errors - l.Shed; bad > 0 {
			t.Errorf("%s: %d errors on the other cells that no shedding explains, the first: %s", l.Fault, bad, l.Why)
		}
	}
	want := Faults()
	if len(o.Only) > 0 {
		want = []string{"killed", overloadName(5)} // the report's order
	}
	if !slices.Equal(names, want) {
		t.Errorf("got lines %v, want %v", names, want)
	}
}

func TestGoals(t *testing.T) {
	t.Parallel()
	for want, l := range map[string]Line{
		"errors":   {Errors: 1},
		"memory":   {MemoryGrowth: 33},
		"p99":      {P99Ratio: 1.06},
		"attempts": {Attempts: 1.06, Fault: none, P99Ratio: 1.06},
		"goodput":  {Goodput: new(0.89)},
		"":         {P99Ratio: 1.05, Attempts: 1.05, MemoryGrowth: 32},
	} {
		l.judge()
		if got := strings.Join(l.Missed, "; "); want == "" && got != "" || !strings.Contains(got, want) {
			t.Errorf("got %q, want one about %q", got, want)
		}
	}
}
