// Package benchmove measures the live move of a tenant on a stack of real
// processes, beside what one would do without it, and compares it with its goals.
// Where two things are compared they take turns, and the ratio is the figure.
package benchmove

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
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

// size takes the default where nothing is said.
func size(v *int, quick bool, whole, short int) {
	switch {
	case *v != 0:
	case quick:
		*v = short
	default:
		*v = whole
	}
}

func (o Options) withDefaults() (Options, error) {
	size(&o.Rounds, o.Quick, 3, 1)
	size(&o.Moves, o.Quick, 200, 10)
	size(&o.Rate, o.Quick, 250, 200)
	size(&o.Rows, o.Quick, 100_000, 10_000)
	size(&o.Others, o.Quick, 200_000, 20_000)
	size(&o.Tenants, o.Quick, 200, 8)
	size(&o.Bytes, o.Quick, 1<<20, 1<<18)
	size(&o.Changed, o.Quick, 100_000, 5_000)
	if o.Source == "" {
		o.Source = "."
	}
	if o.Progress == nil {
		o.Progress = io.Discard
	}
	for _, n := range []int{o.Rounds, o.Moves, o.Rate, o.Rows, o.Others, o.Tenants, o.Bytes, o.Changed} {
		if n < 1 {
			return o, errors.New("sizes, rates and rounds must be positive")
		}
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
		return o, fmt.Errorf("bench-move needs the source tree: %w", err)
	}
	return o, nil
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
		if len(o.Only) > 0 && !slices.Contains(o.Only, m.Name) {
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
