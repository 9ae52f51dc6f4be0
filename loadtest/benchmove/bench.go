// Package benchmove measures the live move of a tenant on a stack of real
// processes, beside what one would do without it, and compares it with its goals.
// Where two things are compared they take turns, and the ratio is the figure.
package benchmove

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/cellway/cellway/loadtest"
	"github.com/cellway/cellway/loadtest/figure"
)

// Options say what is measured and how much of it. The zero value of each field
// means its default, which is smaller where Quick is set.
type Options struct {
	Only     []string // names of figures; none is all
	Quick    bool     // a minute or two, to see that it works: too little for the goals to mean much
	Rounds   int      // interleaved rounds of what is compared
	Moves    int      // whose pause is measured
	Rate     int      // writes per second on a tenant that moves
	Rows     int      // of the tenant that the rivals move
	Others   int      // rows of the others in that tenant's database
	Tenants  int      // of the cell that is drained, and as many tiny ones
	Bytes    int      // of each of those tenants
	Changed  int      // rows that an undo has to take back
	Source   string   // the source tree: "."
	BinDir   string   // where the product's binaries are; "" is this program's directory
	Dir      string   // for data: a fresh one, removed in the end, is made in it; "" is the system's
	Env      []string // further settings of the product's processes (MOVER_PARALLEL=8)
	Write    bool     // write docs/BENCHMARKS.md; needs all figures, and not Quick
	Progress io.Writer
}

// A measure is one figure and how it is measured. It makes its own rounds: what
// is compared takes turns within it.
type measure struct {
	figure.Figure
	run func(ctx context.Context, l *lab, m *measure) error
}

// measures is every figure, in the order in which it is measured and printed: what
// copies a whole database comes before what leaves rows behind, and the neighbour,
// who leaves millions, last.
func measures() []*measure {
	return []*measure{rivalsFigure(), pauseFigure(), idleFigure(), drainFigure(), undoFigure(), neighbourFigure()}
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
	for _, size := range []struct {
		of           *int
		whole, short int
	}{
		{&o.Rounds, 3, 1},
		{&o.Moves, 200, 10},
		{&o.Rate, 250, 200},
		{&o.Rows, 100_000, 10_000},
		{&o.Others, 200_000, 20_000},
		{&o.Tenants, 200, 8},
		{&o.Bytes, 1 << 20, 1 << 18},
		{&o.Changed, 100_000, 5_000},
	} {
		if *size.of = figure.Size(*size.of, o.Quick, size.whole, size.short); *size.of < 1 {
			return o, errors.New("sizes, rates and rounds must be positive")
		}
	}
	o.Source, o.Progress = cmp.Or(o.Source, "."), cmp.Or(o.Progress, io.Discard)
	return o, figure.Check(o.Only, Names(), o.Source)
}

// Run measures. Nothing is left running, however it ends. A figure that fails
// does not keep the others from being measured: the report is there beside the
// error, unless ctx has ended.
func Run(ctx context.Context, o Options) (r *figure.Report, err error) {
	o, err = o.withDefaults()
	if err != nil {
		return nil, err
	}
	began := time.Now()
	l := newLab(o)
	defer func() { err = errors.Join(err, l.close(ctx)) }()
	r = figure.NewReport(ctx, "make bench-move", o.Source, o.Rounds)
	r.Warnings = quiet(o, r.Load)
	for _, m := range measures() {
		if !m.Wanted(o.Only) {
			continue
		}
		start := time.Now()
		working, end := context.WithCancel(ctx)
		broken := m.run(working, l, m)
		end() // the clients of a figure that failed must not disturb the next one
		if broken != nil {
			if ctx.Err() != nil {
				return nil, fmt.Errorf("measure %s: %w", m.Name, broken)
			}
			err = errors.Join(err, fmt.Errorf("measure %s: %w", m.Name, broken))
			m.Note("not measured to its end: %v", broken)
		}
		m.Conclude()
		r.Figures = append(r.Figures, m.Figure)
		l.say("%s: %.0f s", m.Name, time.Since(start).Seconds())
	}
	r.Took = loadtest.Millis(time.Since(began))
	if err == nil && o.Write && !o.Quick && len(o.Only) == 0 {
		return r, r.WriteDoc(o.Source, "bench-move")
	}
	return r, err
}
