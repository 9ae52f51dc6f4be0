// Package peers measures our router beside nginx, HAProxy, Caddy, Traefik and
// net/http's ReverseProxy: the same origin, the same 100,000 tenants, the same
// load, in rounds that take turns. Each round compares within itself, and the
// median of the ratios is the figure.
//
// Proxies run on core 0, origin and load on core 1; then a part is measured again
// with nothing pinned. A run in which origin or load used more than 80 % of a core
// measured those and not the proxy: it is refused.
package peers

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"time"

	"github.com/cellway/cellway/loadtest"
	"github.com/cellway/cellway/loadtest/figure"
)

// Options say what is measured and how much of it. The zero value of each field
// means its default, which is smaller where Quick is set.
type Options struct {
	Only     []string      // names of figures; none is all
	Peers    []string      // names of proxies; none is all
	Quick    bool          // two short rounds, to see that it works
	Rounds   int           // 7
	For      time.Duration // of one load: 3 s
	Rate     int           // requests a second where cost is measured: 10,000
	Conns    int           // 64
	Idle     int           // connections whose memory is measured: 5,000
	Tenants  int           // 100,000
	Unpinned bool          // measure a part again with nothing pinned
	Build    bool          // build Caddy and Traefik where they are not built
	Source   string        // the source tree: "."
	BinDir   string        // where the product's binaries are; "" is this program's directory
	Write    bool          // write docs/BENCHMARKS.md, docs/bench-peers.json and .svg; needs all figures, and not Quick
	Progress io.Writer

	self string // the program that has the subcommand Part
}

func (o Options) withDefaults() (_ Options, err error) {
	o.Rounds = figure.Size(o.Rounds, o.Quick, 7, 2)
	o.For = figure.Size(o.For, o.Quick, 3*time.Second, time.Second)
	o.Rate, o.Conns, o.Tenants = cmp.Or(o.Rate, 10_000), cmp.Or(o.Conns, 64), cmp.Or(o.Tenants, 100_000)
	o.Idle = figure.Size(o.Idle, o.Quick, 5_000, 1_000)
	o.Source, o.Progress = cmp.Or(o.Source, "."), cmp.Or(o.Progress, io.Discard)
	if min(o.Rounds, o.Rate, o.Conns, o.Idle, o.Tenants) < 1 || o.For < 0 || o.Tenants > 1_000_000 {
		return o, errors.New("sizes, rates and rounds must be positive, and tenants at most 1,000,000")
	}
	if err := figure.Check(o.Only, Names(), o.Source); err != nil {
		return o, err
	}
	if runtime.NumCPU() < 2 {
		return o, errors.New("bench-peers needs two cores: one for the proxies and one for origin and load")
	}
	o.self, o.BinDir, err = loadtest.Programs(o.self, o.BinDir)
	return o, err
}

// Run measures. Nothing is left running, however it ends.
func Run(ctx context.Context, o Options) (r *figure.Report, err error) {
	o, err = o.withDefaults()
	if err != nil {
		return nil, err
	}
	began := time.Now()
	r = figure.NewReport(ctx, command, o.Source, o.Rounds)
	r.Warnings = quiet(o, r.Load)
	l, err := newLab(ctx, o)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, l.close(ctx)) }()
	phases := [][]*measure{l.chosen(measures())}
	if o.Unpinned {
		phases = append(phases, l.chosen(unpinned()))
	}
	for i, ms := range phases {
		if len(ms) == 0 {
			continue
		}
		if err := l.phaseOf(ctx, i == 0, ms); err != nil {
			return nil, err
		}
		for _, m := range ms {
			m.conclude(l)
			r.Figures = append(r.Figures, m.Figure)
		}
	}
	r.Warnings = append(r.Warnings, l.skipped...)
	r.Took = loadtest.Millis(time.Since(began))
	if o.Write && !o.Quick && len(o.Only) == 0 && len(o.Peers) == 0 {
		return r, writeDocs(o.Source, r)
	}
	return r, nil
}

// phaseOf starts all proxies, measures every round, and stops them.
func (l *lab) phaseOf(ctx context.Context, pin bool, ms []*measure) error {
	if err := l.begin(ctx, pin); err != nil {
		return errors.Join(err, l.end(ctx))
	}
	for round := range l.o.Rounds {
		for _, m := range ms {
			if m.rounds > 0 && round >= m.rounds {
				continue
			}
			start := time.Now()
			if err := m.round(ctx, l, round); err != nil {
				return errors.Join(fmt.Errorf("measure %s: %w", m.Name, err), l.end(ctx))
			}
			l.say("%s, round %d of %d: %.1f s", m.Name, round+1, l.o.Rounds, time.Since(start).Seconds())
		}
	}
	return l.end(ctx)
}

// quickly begins the warning of a short run.
const quickly = "--quick: "

// quiet warns of what spoils figures.
func quiet(o Options, load string) []string {
	var warnings []string
	var busy float64
	if _, err := fmt.Sscan(load, &busy); err != nil || busy > 0.5 {
		warnings = append(warnings, "the load average before the start was "+load+": only the ratios, the counts and the bytes mean something.")
	}
	if o.Quick {
		warnings = append(warnings, quickly+"too few and too short rounds for the goals to mean much.")
	}
	return warnings
}
