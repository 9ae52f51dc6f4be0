// Package bench measures the figures of docs/BENCHMARKS.md: each with its goal
// and with how it was measured, in rounds that take turns, so that a machine
// that gets slower in between harms all of them alike. The median round counts.
package bench

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/cellway/cellway/loadtest"
	"github.com/cellway/cellway/loadtest/figure"
)

// Options say what is measured and where. The zero value of each field means its default.
type Options struct {
	Only     []string // names of figures; none is all
	Rounds   int      // 3
	Source   string   // the source tree: "."
	BinDir   string   // where the product's binaries are; "" is this program's directory
	Write    bool     // write docs/BENCHMARKS.md; needs all figures
	Progress io.Writer
}

// A measure adds one round to its figure.
type measure struct {
	figure.Figure
	round func(ctx context.Context, l *lab, m *measure) error
}

// measures is every figure, in the order in which it is printed.
func measures() []*measure {
	return []*measure{tableFigure(), plannerFigure(), propagationFigure(), claimsFigure(), fenceFigure(), outboxFigure(), writeFigure()}
}

// Names is the name of every figure.
func Names() []string {
	var names []string
	for _, m := range measures() {
		names = append(names, m.Name)
	}
	return names
}

func (o Options) withDefaults() (Options, error) {
	if o.Rounds == 0 {
		o.Rounds = 3
	}
	if o.Source == "" {
		o.Source = "."
	}
	if o.Progress == nil {
		o.Progress = io.Discard
	}
	if o.Rounds < 1 {
		return o, fmt.Errorf("rounds must be positive, got %d", o.Rounds)
	}
	for _, name := range o.Only {
		if !slices.Contains(Names(), name) {
			return o, fmt.Errorf("no figure %q; there are %v", name, Names())
		}
	}
	if o.BinDir == "" {
		self, err := os.Executable()
		if err != nil {
			return o, fmt.Errorf("find the binaries: %w", err)
		}
		o.BinDir = filepath.Dir(self)
	}
	if _, err := os.Stat(filepath.Join(o.Source, "go.mod")); err != nil {
		return o, fmt.Errorf("the benchmarks need the source tree: %w", err)
	}
	return o, nil
}

// Run measures. Nothing is left running, however it ends.
func Run(ctx context.Context, o Options) (r *figure.Report, err error) {
	o, err = o.withDefaults()
	if err != nil {
		return nil, err
	}
	began := time.Now()
	l := newLab(o)
	defer func() { err = firstOf(err, l.close(ctx)) }()
	r = figure.NewReport(ctx, "make bench", o.Source, o.Rounds)
	var chosen []*measure
	for _, m := range measures() {
		if len(o.Only) == 0 || slices.Contains(o.Only, m.Name) {
			chosen = append(chosen, m)
		}
	}
	for round := range o.Rounds {
		for _, m := range chosen {
			start := time.Now()
			if err := m.round(ctx, l, m); err != nil {
				return nil, fmt.Errorf("measure %s: %w", m.Name, err)
			}
			fmt.Fprintf(o.Progress, "bench: %s, round %d of %d: %.1f s\n", m.Name, round+1, o.Rounds, time.Since(start).Seconds())
		}
	}
	for _, m := range chosen {
		m.Conclude()
		r.Figures = append(r.Figures, m.Figure)
	}
	r.Took = loadtest.Millis(time.Since(began))
	if o.Write && len(o.Only) == 0 {
		return r, r.WriteDoc(o.Source, "bench")
	}
	return r, nil
}

func firstOf(a, b error) error {
	if a != nil {
		return a
	}
	return b
}
