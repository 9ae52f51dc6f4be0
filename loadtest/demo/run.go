package demo

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/infra/stack"
	"github.com/cellway/cellway/loadtest"
)

// How long each act of the demo lasts, and how fast each tenant works: enough
// for thousands of requests on two cores, without measuring their saturation.
const (
	calm      = 2 * time.Second // traffic before and after each blow
	down      = 3 * time.Second // how long the killed cell stays dead
	think     = 200 * time.Millisecond
	lanes     = 2
	newcomers = 2               // tenants that sign up once the fourth cell is there
	actLimit  = 3 * time.Minute // bounds each act, on a machine that does other work too
)

// A run is one demo under way.
type run struct {
	o       Options
	stack   *stack.Stack
	ep      *loadtest.Endpoint
	console *loadtest.Console
	rec     *loadtest.Recorder
	tenants []*loadtest.Tenant
	killed  directory.CellID
	added   directory.CellID
	blow    blow
	left    int                          // tenants on the drained cell, at the end
	lost    map[directory.TenantID]int64 // writes and events, by tenant, found at the end
	doubled map[directory.TenantID]int64
	report  *Report

	stop    chan struct{} // closed: tenants finish what they do
	traffic *errgroup.Group
	began   time.Time
}

func newRun(o Options, s *stack.Stack) *run {
	st := s.State()
	return &run{
		o: o, stack: s, ep: loadtest.NewEndpoint(st.RouterURLs()...), console: loadtest.NewConsole(st.Directory.URL, st.OperatorToken),
		lost: map[directory.TenantID]int64{}, doubled: map[directory.TenantID]int64{},
		rec: &loadtest.Recorder{}, stop: make(chan struct{}), traffic: &errgroup.Group{},
		report: &Report{APIVersion: loadtest.APIVersion, Kind: "DemoReport", OK: true, Seed: o.Seed, Routers: len(st.Routers)},
	}
}

func (r *run) close() {
	r.ep.Close()
	r.console.Close()
}

func (r *run) say(format string, args ...any) {
	fmt.Fprintf(r.o.Progress, "demo: "+format+"\n", args...)
}

// all plays the acts in order. Traffic flows from the first to the last.
func (r *run) all(ctx context.Context) (*Report, error) {
	work, cancel := context.WithCancel(ctx)
	defer cancel()
	acts := []struct {
		name string
		play func(ctx context.Context) error
	}{
		{"sign up tenants", func(ctx context.Context) error { return r.signUp(ctx, work, "tenant", r.o.Tenants) }},
		{"kill a cell", r.killCell},
		{"add a cell", func(ctx context.Context) error { return r.addCell(ctx, work) }},
		{"move a tenant and take it back", r.moveAndUndo},
		{"drain a cell", r.drainCell},
		{"measure route changes", r.measurePropagation},
		{"stop the traffic", r.stopTraffic},
		{"await the consumers", r.awaitConsumers},
		{"check every write", r.check},
	}
	for _, act := range acts {
		if err := r.play(ctx, act.name, act.play); err != nil {
			cancel()
			err = fmt.Errorf("%s: %w", act.name, err)
			if ended := r.traffic.Wait(); ended != nil && !errors.Is(ended, context.Canceled) {
				err = errors.Join(err, ended) // canceled is what we did; anything else came first
			}
			return nil, err
		}
	}
	r.judge()
	return r.report, nil
}

func (r *run) play(ctx context.Context, name string, act func(ctx context.Context) error) error {
	ctx, cancel := context.WithTimeoutCause(ctx, actLimit, fmt.Errorf("not done within %v", actLimit))
	defer cancel()
	start := time.Now()
	if err := act(ctx); err != nil {
		return err
	}
	r.say("%s: done in %.1f s", name, time.Since(start).Seconds())
	return nil
}

// signUp signs tenants up over the public API and sets each to work at once;
// work bounds the traffic, ctx the signing up.
func (r *run) signUp(ctx, work context.Context, prefix string, n int) error {
	for i := range n {
		slug := fmt.Sprintf("%s-%d", prefix, i+1)
		t, err := loadtest.SignUp(ctx, r.ep, r.rec, slug, loadtest.Plan{Seed: r.o.Seed, Lanes: lanes, Think: think})
		if err != nil {
			return err
		}
		r.tenants = append(r.tenants, t)
		r.traffic.Go(func() error { return t.Work(work, r.stop) })
	}
	if r.began.IsZero() {
		r.began = time.Now()
	}
	return nil
}

func (r *run) stopTraffic(context.Context) error {
	close(r.stop)
	return r.traffic.Wait()
}

func (r *run) awaitConsumers(ctx context.Context) error {
	for _, t := range r.tenants {
		if err := t.AwaitConsumed(ctx); err != nil {
			return err
		}
	}
	return nil
}

// check compares what was acknowledged with what is there, tenant by tenant.
func (r *run) check(ctx context.Context) error {
	for _, t := range r.tenants {
		writes, err := t.Check(ctx)
		if err != nil {
			return err
		}
		events, err := t.CheckEvents(ctx)
		if err != nil {
			return err
		}
		r.lost[t.ID] = int64(writes.Lost) + events.Lost
		r.doubled[t.ID] = int64(writes.Doubled) + events.Doubled
		r.report.Writes, r.report.Events = r.report.Writes.Plus(writes), r.report.Events.Plus(events)
	}
	overhead, err := r.overhead(ctx)
	r.report.Overhead = overhead
	return err
}
