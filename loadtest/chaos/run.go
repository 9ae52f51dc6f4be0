package chaos

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/infra/stack"
	"github.com/cellway/cellway/loadtest"
	"github.com/cellway/cellway/loadtest/chaos/keeper"
)

// A run is one run under way.
type run struct {
	o       Options
	stack   *stack.Stack
	state   stack.State
	proxies *proxies
	ep      *loadtest.Endpoint
	console *loadtest.Console
	rec     *loadtest.Recorder
	record  *pgxpool.Pool                      // the directory's database, past its proxy
	cells   map[directory.CellID]*pgxpool.Pool // the cells' databases, as superuser, past their proxies
	keepers map[directory.CellID]*keeper.Cell  // the cells as a module has them
	movers  []*loadtest.Tenant                 // the tenants that move
	busy    map[directory.CellID]directory.TenantID
	resting []resting
	report  *Report
	born    int // tenants so far, for slugs

	// Of the tenants that move.
	kept      map[directory.TenantID]*kept            // their durable keys
	placed    map[directory.TenantID]directory.CellID // their owners at the last check
	told      map[directory.MoveID]bool               // whose last rounds went on without keys, as their targets have said
	read      map[directory.CellID]int64              // how far each cell's log was read for those
	audiences map[directory.TenantID]*audience

	mu       sync.Mutex // of what follows, of report's counts and of movers
	seen     map[directory.TenantID]directory.Move
	switched map[directory.TenantID]time.Time // when their newest move was first seen to be activated
	healed   time.Time                        // when everything ran again
	dead     []death                          // of Redis
	fallen   []death                          // of cells' APIs
}

// prepareTimeout bounds what is done before the first round.
const prepareTimeout = 3 * time.Minute

func newRun(ctx context.Context, o Options, s *stack.Stack, p *proxies) (*run, error) {
	ctx, cancel := context.WithTimeout(ctx, prepareTimeout)
	defer cancel()
	st := s.State()
	r := &run{
		o: o, stack: s, state: st, proxies: p, ep: loadtest.NewEndpoint(st.RouterURLs()...),
		console: loadtest.NewConsole(st.Directory.URL, st.OperatorToken), rec: &loadtest.Recorder{},
		cells: map[directory.CellID]*pgxpool.Pool{}, busy: map[directory.CellID]directory.TenantID{}, report: newReport(o),
		seen: map[directory.TenantID]directory.Move{}, switched: map[directory.TenantID]time.Time{},
		keepers: map[directory.CellID]*keeper.Cell{}, kept: map[directory.TenantID]*kept{}, placed: map[directory.TenantID]directory.CellID{},
		told: map[directory.MoveID]bool{}, read: map[directory.CellID]int64{}, audiences: map[directory.TenantID]*audience{},
	}
	var err error
	if r.record, err = open(ctx, st.Directory.DatabaseURL); err != nil {
		r.close()
		return nil, err
	}
	for _, c := range st.Cells {
		if err := r.openCell(ctx, c); err != nil {
			r.close()
			return nil, err
		}
	}
	if err := r.settleIn(ctx); err != nil {
		r.close()
		return nil, fmt.Errorf("prepare tenants: %w", err)
	}
	return r, nil
}

func (r *run) say(format string, args ...any) {
	fmt.Fprintf(r.o.Progress, "chaos: "+format+"\n", args...)
}

// cellAt is the id of the n-th cell, counted round.
func (r *run) cellAt(n int) directory.CellID {
	return directory.CellID(r.state.Cells[n%len(r.state.Cells)].ID)
}

// renewEvery is how many rounds a tenant moves before another takes its place.
const renewEvery = 25

// all plays rounds until enough was done or something broke.
func (r *run) all(ctx context.Context) (*Report, error) {
	began := time.Now()
	watch, stop := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer stop()
	wg.Go(func() { r.watchOwners(watch) })
	wg.Go(func() { r.watchProcesses(watch) })
	wg.Go(func() { r.follow(watch) })

	p := newPlan(r.o)
	for n := 1; r.goOn(n, began); n++ {
		if n > 1 && n%renewEvery == 1 {
			if err := r.renew(ctx); err != nil {
				return nil, fmt.Errorf("before round %d: %w", n, err)
			}
		}
		if err := r.round(ctx, n, p.next()); err != nil {
			return nil, fmt.Errorf("round %d: %w", n, err)
		}
	}
	if err := r.conclude(ctx); err != nil {
		return nil, err
	}
	r.mu.Lock()
	silent := r.report.silent()
	r.mu.Unlock()
	for _, what := range silent {
		r.violate("harness", "%s", what)
	}
	return r.finish(began), nil
}

// conclude counts what the tenants have written and lets their audiences hear the end.
// What cannot be read now has been reported as broken before.
func (r *run) conclude(ctx context.Context) error {
	broken := r.broken()
	if !broken {
		if err := r.checkStreams(ctx, true); err != nil {
			return err
		}
	}
	for _, t := range r.movers {
		if err := r.count(ctx, t); err != nil && !broken {
			return err
		}
		if broken {
			continue // nobody waits for what may never come
		}
		if err := r.dismiss(ctx, t); err != nil {
			return err
		}
	}
	return nil
}

// broken reports whether something has broken.
func (r *run) broken() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.report.Violations) > 0
}

// goOn reports whether a round n is to be played.
func (r *run) goOn(n int, began time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case len(r.report.Violations) > 0, r.o.For > 0 && time.Since(began) > r.o.For:
		return false
	case r.o.Kills > 0:
		return r.report.Kills < r.o.Kills
	}
	return n <= r.o.once()
}

// watchProcesses reports a process that ended although nobody killed it.
func (r *run) watchProcesses(ctx context.Context) {
	for {
		select {
		case err, running := <-r.stack.Failed():
			if !running {
				return
			}
			first, _, _ := strings.Cut(err.Error(), "\n")
			r.violate("processes", "a process ended that nobody killed: %s", first)
		case <-ctx.Done():
			return
		}
	}
}
