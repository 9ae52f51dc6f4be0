package benchmove

import (
	"slices"
	"strings"
	"testing"

	"github.com/cellway/cellway/infra/testkit/product"
	"github.com/cellway/cellway/loadtest/figure"
)

func TestEveryFigureSaysWhatItMeasures(t *testing.T) {
	t.Parallel()
	for _, m := range measures() {
		for _, v := range m.Values {
			m.Add(v.Name, 1)
		}
		m.Conclude() // panics on a goal that is none
		if m.How == "" || m.Title == "" || len(m.Values) == 0 || m.run == nil {
			t.Errorf("figure %s does not say what it measures", m.Name)
		}
	}
	if want := []string{"rivals", "pause", "idle", "drain", "undo", "neighbour"}; !slices.Equal(Names(), want) {
		t.Errorf("got %v, want %v", Names(), want)
	}
}

func TestOptionsAreChecked(t *testing.T) {
	t.Parallel()
	for _, o := range []Options{{Only: []string{"nothing"}, Source: "../.."}, {Moves: -1, Source: "../.."}, {Source: t.TempDir()}} {
		if _, err := Run(t.Context(), o); err == nil {
			t.Errorf("%+v was accepted", o)
		}
	}
	whole, err := Options{Source: "../..", BinDir: "x", Moves: 7}.withDefaults()
	if err != nil || whole.Moves != 7 || whole.Tenants != 200 {
		t.Errorf("got %+v, %v", whole, err)
	}
	quick, err := Options{Source: "../..", BinDir: "x", Quick: true}.withDefaults()
	if err != nil || quick.Moves >= 200 || quick.Rounds != 1 {
		t.Errorf("got %+v, %v", quick, err)
	}
}

func TestQuietWarnsOfWhatSpoilsFigures(t *testing.T) {
	t.Parallel()
	if got := quiet(Options{Dir: t.TempDir()}, "0.10"); len(got) > 1 { // the directory itself may be in memory
		t.Errorf("got %v of a quiet machine", got)
	}
	got := strings.Join(quiet(Options{Quick: true, Env: []string{"MOVER_X=1"}}, "3.50"), "; ")
	for _, want := range []string{"3.50", "--quick", "MOVER_X=1"} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in %q", want, got)
		}
	}
}

// TestFiguresOfARealStack measures a little of what moves, on real processes.
func TestFiguresOfARealStack(t *testing.T) {
	if testing.Short() {
		t.Skip("needs a whole stack")
	}
	bin, err := product.In(t.TempDir(), "directory", "router", "cell")
	if err != nil {
		t.Fatal(err)
	}
	r, err := Run(t.Context(), Options{
		Only: []string{"pause", "drain", "undo"}, Rounds: 1, Moves: 2, Rate: 20, Tenants: 2, Bytes: 1 << 14, Changed: 100, Quick: true,
		Source: "../..", BinDir: bin, Dir: t.TempDir(), Progress: t.Output(),
		Env: []string{"MOVER_PAUSE_BUDGET=1900ms"}, // what must not happen is tested here, not how fast
	})
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]float64{
		"pause: moves": 2, "pause: client-visible errors": 0, "pause: acknowledged writes lost": 0,
		"drain: tenants": 2, "drain: failed requests": 0, "undo: client-visible errors": 0,
	} {
		if got := median(t, r, name); got != want {
			t.Errorf("%s: got %v, want %v", name, got, want)
		}
	}
	for _, name := range []string{"pause: p50", "pause: mover's own p50", "pause: step: decide", "drain: tiny tenants' moves", "undo: pause", "undo: rows brought back"} {
		if got := median(t, r, name); got <= 0 {
			t.Errorf("%s: got %v, want more than 0", name, got)
		}
	}
}

// median is the value "figure: name" of a report.
func median(t *testing.T, r *figure.Report, name string) float64 {
	t.Helper()
	for _, f := range r.Figures {
		for _, v := range f.Values {
			if f.Name+": "+v.Name == name {
				return v.Median
			}
		}
	}
	t.Fatalf("the report has no %q", name)
	return 0
}
