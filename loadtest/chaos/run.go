package chaos

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/infra/pg"
	"github.com/cellway/cellway/infra/stack"
	"github.com/cellway/cellway/loadtest"
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
	movers  []*loadtest.Tenant                 // the tenants that move
	busy    map[directory.CellID]directory.TenantID
	resting []resting
	report  *Report
	born    int // tenants so far, for slugs

	mu   sync.Mutex // of what follows, of report's counts and of movers
	seen map[directory.TenantID]directory.Move
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
		seen: map[directory.TenantID]directory.Move{},
	}
	var err error
	if r.record, err = open(ctx, st.Directory.DatabaseURL); err != nil {
		r.close()
		return nil, err
	}
	for _, c := range st.Cells {
		if r.cells[directory.CellID(c.ID)], err = open(ctx, c.DatabaseURL); err != nil {
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

// ownName marks the run's own connections, which no fault is aimed at.
const ownName = "chaos"

func open(ctx context.Context, raw string) (*pgxpool.Pool, error) {
	u, err := url.Parse(raw)
	if err != nil {
		return nil, errors.New("parse database url: it is malformed") // it holds a password
	}
	q := u.Query()
	q.Set("application_name", ownName)
	u.RawQuery = q.Encode()
	return pg.Open(ctx, u.String(), 6)
}

func (r *run) close() {
	r.ep.Close()
	r.console.Close()
	if r.record != nil {
		r.record.Close()
	}
	for _, db := range r.cells {
		if db != nil {
			db.Close()
		}
	}
}

func (r *run) say(format string, args ...any) {
	fmt.Fprintf(r.o.Progress, "chaos: "+format+"\n", args...)
}

// cellAt is the id of the n-th cell, counted round.
func (r *run) cellAt(n int) directory.CellID {
	return directory.CellID(r.state.Cells[n%len(r.state.Cells)].ID)
}

// settleIn makes the tenants: those that move, one that rests and one that is
// busy on each cell.
func (r *run) settleIn(ctx context.Context) error {
	for i := range r.state.Cells {
		cell := r.cellAt(i)
		t, err := r.tenant(ctx, cell)
		if err != nil {
			return err
		}
		if err := r.workAWhile(ctx, t); err != nil {
			return err
		}
		if err := r.rest(ctx, t); err != nil {
			return err
		}
		busy, err := r.tenant(ctx, cell)
		if err != nil {
			return err
		}
		r.busy[cell] = busy.ID
	}
	return r.renew(ctx)
}

// renew puts the tenants that moved so far to rest and makes others in their
// place: what a tenant has written is read whole after each round.
func (r *run) renew(ctx context.Context) error {
	for _, t := range r.movers {
		if err := r.rest(ctx, t); err != nil {
			return err
		}
	}
	var movers []*loadtest.Tenant
	for i := range r.o.Tenants {
		t, err := r.tenant(ctx, r.cellAt(i))
		if err != nil {
			return err
		}
		movers = append(movers, t)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.movers = movers
	return nil
}

// tenant makes a tenant on a cell, as an operator does, and waits until every
// router routes it.
func (r *run) tenant(ctx context.Context, cell directory.CellID) (*loadtest.Tenant, error) {
	r.born++
	want := directory.NewTenant{Slug: fmt.Sprintf("chaos-%d", r.born), Name: "Chaos", Cell: cell}
	return r.console.Tenant(ctx, r.ep, r.rec, want, r.o.work())
}

func tenantPath(id directory.TenantID) string { return "/v1/tenants/" + id.String() }

// workAWhile lets a tenant write something before it rests.
func (r *run) workAWhile(ctx context.Context, t *loadtest.Tenant) error {
	stop, ended := make(chan struct{}), make(chan error, 1)
	go func() { ended <- t.Work(ctx, stop) }()
	loadtest.Pause(ctx, 500*time.Millisecond)
	close(stop)
	return <-ended
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
	for _, t := range r.movers {
		// What cannot be read now has been reported as broken before.
		if err := r.count(ctx, t); err != nil && len(r.report.Violations) == 0 {
			return nil, err
		}
	}
	r.mu.Lock()
	silent := r.report.silent()
	r.mu.Unlock()
	for _, what := range silent {
		r.violate("harness", "%s", what)
	}
	return r.finish(began), nil
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
