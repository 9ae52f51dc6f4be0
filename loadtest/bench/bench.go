// Package bench measures the figures of docs/BENCHMARKS.md: each with its goal
// and with how it was measured, in rounds that take turns, so that a machine
// that gets slower in between harms all of them alike. The median round counts.
package bench

import (
	"cmp"
	"context"
	"fmt"
	"io"
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
	o.Rounds, o.Source, o.Progress = cmp.Or(o.Rounds, 3), cmp.Or(o.Source, "."), cmp.Or(o.Progress, io.Discard)
	if o.Rounds < 1 {
		return o, fmt.Errorf("rounds must be positive, got %d", o.Rounds)
	}
	return o, figure.Check(o.Only, Names(), o.Source)
}

// Run measures. Nothing is left running, however it ends.
func Run(ctx context.Context, o Options) (r *figure.Report, err error) {
	o, err = o.withDefaults()
	if err != nil {
		return nil, err
	}
	began := time.Now()
	l := newLab(o)
	defer func() { err = cmp.Or(err, l.close(ctx)) }()
	r = figure.NewReport(ctx, "make bench", o.Source, o.Rounds)
	chosen := slices.DeleteFunc(measures(), func(m *measure) bool { return !m.Wanted(o.Only) })
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
