// Package blast measures what a fault of one cell does to the others, and what
// overload does to the cell itself: a real router with eight cells under load, one
// of which is killed, stopped, slowed or made to answer nonsense. Each fault comes
// and goes several times, and every time is compared with the moment before it, so
// that what else the machine does falls on both.
package blast

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/cellway/cellway/infra/config"
	"github.com/cellway/cellway/loadtest"
	"github.com/cellway/cellway/loadtest/figure"
)

// Options say how much is measured. The zero Options are a full run.
type Options struct {
	Only     []string      // names of lines; none is all. The rate stays that of a full run
	Requests int           // to each cell that is well while another one is not; 0 is 100,000
	Rounds   int           // of each fault; 0 is 9
	Window   time.Duration // of each round, before and during the fault; 0 is 3 s
	Herd     int           // clients that come back at once; 0 is 50,000
	Quick    bool          // a look: fewer and shorter
	Source   string        // the source tree, whose version is named; "" is .
	BinDir   string        // where the router is; "" is beside this program
	Progress io.Writer

	self string // the program that has the subcommand Part
}

// none is no fault: what its line says of the others is what chance does to a ratio here.
const none = "none"

// faults are what happens to the victim.
var faults = []string{none, "killed", "hung", slow, garbage, cut, interim}

// Faults are the names of the report's lines, in order.
func Faults() []string {
	names := slices.Clone(faults)
	for _, times := range overloads {
		names = append(names, overloadName(times))
	}
	return append(names, herdName)
}

// Check refuses what is no name of a line.
func Check(only []string) error {
	for _, name := range only {
		if slices.Contains(Faults(), name) {
			continue
		}
		meant := ""
		if near, distance := config.Nearest(name, Faults()); distance <= 2 {
			meant = " (did you mean " + near + "?)"
		}
		return fmt.Errorf("no fault %q%s; there are %s", name, meant, strings.Join(Faults(), ", "))
	}
	return nil
}

// wants reports whether a line is asked for.
func (o Options) wants(line string) bool { return len(o.Only) == 0 || slices.Contains(o.Only, line) }

// victimRate is the victim's requests a second. It has connections for connsFor
// of them: as long as some are free, the router has requests that make it ask.
const (
	victimRate = 100
	connsFor   = 4 * time.Second
	wellConns  = 4
)

func (o Options) withDefaults() (_ Options, err error) {
	o.Requests = figure.Size(o.Requests, o.Quick, 100_000, 10_000)
	o.Rounds = figure.Size(o.Rounds, o.Quick, 9, 3)
	o.Herd = figure.Size(o.Herd, o.Quick, 50_000, 5_000)
	o.Window, o.Source, o.Progress = cmp.Or(o.Window, 3*time.Second), cmp.Or(o.Source, "."), cmp.Or(o.Progress, io.Discard)
	switch {
	case o.Requests < 1 || o.Rounds < 1 || o.Window < 0 || o.Herd < 1:
		return o, errors.New("requests, rounds, window and herd must be positive")
	case runtime.GOOS != "linux":
		return o, errors.New("blast needs Linux: it reads the router's memory from /proc")
	}
	if err := Check(o.Only); err != nil {
		return o, err
	}
	o.self, o.BinDir, err = loadtest.Programs(o.self, o.BinDir)
	return o, err
}

// rate is the requests a second of each cell that is well.
func (o Options) rate() float64 {
	return float64(o.Requests) / (o.Window.Seconds() * float64(o.Rounds*(len(faults)-1)))
}

// Run measures. Nothing is left running, however it ends.
func Run(ctx context.Context, o Options) (r *Report, err error) {
	if o, err = o.withDefaults(); err != nil {
		return nil, err
	}
	r = newReport(ctx, o)
	herd, err := files(o.Herd)
	switch {
	case err != nil:
		return nil, err
	case !o.wants(herdName):
	case herd < min(o.Herd, 100):
		return nil, fmt.Errorf("the limit of open files leaves room for %d clients", herd)
	case herd < o.Herd:
		_, _ = fmt.Fprintf(o.Progress, "herd: the limit of open files leaves room for %d clients\n", herd)
	}
	l, err := newLab(ctx, o)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, l.close(ctx)) }()
	m, stop := l.loaded(ctx)
	defer stop()
	if err := m.settle(ctx, 2*o.Window); err != nil {
		return nil, err
	}
	for _, fault := range faults {
		if !o.wants(fault) {
			continue
		}
		line, err := m.fault(ctx, fault)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", fault, err)
		}
		r.add(line, o.Progress)
	}
	m.stopVictim()
	lines, err := m.overload(ctx)
	if err != nil {
		return nil, fmt.Errorf("overload: %w", err)
	}
	for _, line := range lines {
		r.add(line, o.Progress)
	}
	if o.wants(herdName) {
		line, err := m.herd(ctx, herd)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", herdName, err)
		}
		r.add(line, o.Progress)
	}
	return r, nil
}
