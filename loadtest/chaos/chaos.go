// Package chaos moves tenants back and forth between the cells of a real stack
// while they work, breaks every part of it meanwhile, and holds what must never
// be: a second owner, an acknowledged write that is lost or doubled, an event out
// of order, rows left behind, a neighbour changed, a move that does not end, a durable
// key or a used limit lost although Redis was there, a stream left at the old cell.
//
// What is broken, when and during which move follows from a seed, so the same
// seed replays the same plan. How processes interleave does not: the same plan
// may meet another moment of a move.
package chaos

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/cellway/cellway/infra/stack"
	"github.com/cellway/cellway/loadtest"
)

// Options say how a run goes. The zero value of each field means its default.
type Options struct {
	Dir      string        // data and logs; "" is a fresh directory, removed unless an invariant broke
	BinDir   string        // where the product's binaries are; "" is this program's directory
	Keep     bool          // leave the directory in any case
	Cells    int           // 2
	Tenants  int           // that move, all at the same time: 3
	Faults   int           // of a round; they share one recovery: 4
	Kills    int           // go on until so many processes were killed; 0: until every kind of fault was aimed once
	For      time.Duration // begin no round after so long; 0 sets no bound
	Flood    int           // rows that the busy neighbour commits in one transaction: 50,000
	Seed     uint64        // 1
	Progress io.Writer
}

// routers and movers are how many of each run: a tenant has another way in, and a
// move another mover, while one is dead.
const (
	routers = 2
	movers  = 2
)

func (o Options) withDefaults() (Options, error) {
	for v, d := range map[*int]int{&o.Cells: 2, &o.Tenants: 3, &o.Faults: 4, &o.Flood: 50_000} {
		if *v == 0 {
			*v = d
		}
	}
	if o.Seed == 0 {
		o.Seed = 1
	}
	if o.Progress == nil {
		o.Progress = io.Discard
	}
	if o.Cells < 2 || o.Tenants < 1 || o.Faults < 1 || o.Flood < 1 || o.Kills < 0 || o.For < 0 {
		return o, errors.New("chaos needs at least 2 cells, a tenant, a fault a round, and positive bounds")
	}
	return o, nil
}

// limit is how many requests a minute a tenant may make. Who reaches it waits (Tenant.Do).
const limit = 1500

// stopTimeout bounds how long the stack may take to stop.
const stopTimeout = time.Minute

// Run starts a stack, breaks it as the seed says, and stops it. The error says
// that the run could not be brought to its end; what broke is the report's to
// say. The directory stays where Keep asks for it and where something broke.
func Run(ctx context.Context, o Options) (rep *Report, err error) {
	o, err = o.withDefaults()
	if err != nil {
		return nil, err
	}
	if o.Dir == "" {
		if o.Dir, err = stack.TempDir("", "cellway-chaos-"); err != nil {
			return nil, err
		}
		defer func() {
			if err == nil && rep.OK && !o.Keep {
				err = stack.RemoveDir(o.Dir)
				rep.Data = ""
			}
		}()
	}
	fmt.Fprintf(o.Progress, "chaos: seed %d, data and logs in %s\n", o.Seed, o.Dir)
	proxies := newProxies()
	defer func() { err = errors.Join(err, proxies.close()) }()
	s, err := stack.Start(ctx, stack.Options{
		Dir: o.Dir, BinDir: o.BinDir, Cells: o.Cells, Routers: routers, Movers: movers, Log: logOf(o.Progress), Route: proxies.route,
		// A dead mover's moves are taken over soon, but not before the routers' patience (2 s) ends: clients are refused, and repeat. The pause
		// of a mover that lives ends before.
		// A tenant uses up its limit somewhat faster than it comes back, so that moves find some of it used.
		Env: []string{"MOVER_PAUSE_BUDGET=1200ms", "MOVER_LEASE_TTL=2400ms", "MOVER_POLL=50ms", fmt.Sprintf("CELL_RATE_PER_MINUTE=%d", limit)},
		// Tenants that are young are copied in their pause by one of the movers; the other may have to end what it began.
		EnvOf: map[string][]string{"mover-2": {"MOVER_SMALL_BYTES=1000000"}},
	})
	if err != nil {
		return nil, fmt.Errorf("start the stack: %w", err)
	}
	defer func() {
		// ctx may have ended: the processes still have to.
		stopping, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
		defer cancel()
		err = errors.Join(err, s.Stop(stopping))
	}()
	r, err := newRun(ctx, o, s, proxies)
	if err != nil {
		return nil, err
	}
	defer r.close()
	return r.all(ctx)
}

// logOf keeps the stack's progress out of a report that nobody watches.
func logOf(w io.Writer) io.Writer {
	if w == io.Discard {
		return nil
	}
	return w
}

// work is how the tenants work: light, so that two cores have time for the rest.
func (o Options) work() loadtest.Plan {
	return loadtest.Plan{Seed: o.Seed, Lanes: 2, Think: 50 * time.Millisecond, Dated: true, Limit: limit}
}
