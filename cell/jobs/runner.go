package jobs

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/cellway/cellway/cell/store"
	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/infra/run"
	"github.com/cellway/cellway/infra/telemetry"
)

const (
	scanLimit   = 10_000 // tenants per look at the database
	scanTimeout = 10 * time.Second
	claimSlack  = 10 * time.Second // a claim lasts so much longer than a handler may
	cannotWork  = time.Second      // pause after the database has failed us
)

// Options say how a Runner runs; the zero value is fit for production.
type Options struct {
	Poll          time.Duration         // how often to look for what is due; 0 is 1 s
	Parallel      int                   // jobs at a time; 0 is 4
	HandleTimeout time.Duration         // for one job; 0 is 20 s
	Claim         time.Duration         // how long a job is left to a worker that may be dead; 0 is HandleTimeout + 10 s
	Backoff       time.Duration         // wait after the first failure, then doubled; 0 is 1 s
	MaxBackoff    time.Duration         // longest wait between attempts; 0 is 10 min
	Keep          time.Duration         // how long a job that is done is remembered; 0 is 24 h
	Log           *slog.Logger          // nil is slog's default
	Registry      prometheus.Registerer // nil keeps the metrics to itself
}

func (o *Options) defaults() {
	set := func(d *time.Duration, to time.Duration) {
		if *d == 0 {
			*d = to
		}
	}
	set(&o.Poll, time.Second)
	set(&o.HandleTimeout, 20*time.Second)
	set(&o.Claim, o.HandleTimeout+claimSlack)
	set(&o.Backoff, time.Second)
	set(&o.MaxBackoff, 10*time.Minute)
	set(&o.Keep, 24*time.Hour)
	if o.Parallel == 0 {
		o.Parallel = 4
	}
	if o.Log == nil {
		o.Log = slog.Default()
	}
	if o.Registry == nil {
		o.Registry = prometheus.NewRegistry()
	}
}

// A Runner does the cell's jobs and fires its schedules. Any number may run, in
// one process or several; what keeps them apart is the rows.
type Runner struct {
	store   *store.Store
	kinds   map[string]Kind
	names   []string // of the kinds; others are left to a worker that knows them
	o       Options
	metrics *metrics
	line    *line
	look    chan struct{}           // asks the scanner to look now
	hook    func(step string) error // tests stop the runner between two steps
}

// NewRunner makes a Runner for s's cell. It fails where two kinds share a name.
func NewRunner(s *store.Store, kinds []Kind, o Options) (*Runner, error) {
	if err := validate(kinds); err != nil {
		return nil, err
	}
	o.defaults()
	r := &Runner{
		store: s, kinds: map[string]Kind{}, names: []string{}, o: o, metrics: newMetrics(o.Registry, s.Cell()),
		line: newLine(o.Parallel), look: make(chan struct{}, 1), hook: func(string) error { return nil },
	}
	for _, k := range kinds {
		r.kinds[k.Name] = k
		r.names = append(r.names, k.Name)
	}
	return r, nil
}

// Run works until ctx ends; then it returns nil. What was under way is rolled
// back and free for others, or done, never half done.
func (r *Runner) Run(ctx context.Context) error {
	g := run.NewGroup(telemetry.Untraced(ctx))
	g.Go("listen", func(ctx context.Context) error { return r.store.Listen(ctx, channel, r.heard) })
	g.Go("scan", r.scan)
	g.Go("observe", r.observe)
	g.Go("remove what is over", r.retain)
	for range r.o.Parallel {
		g.Go("work", r.work)
	}
	return g.Wait()
}

// heard takes a notification: one tenant, or "" for look yourself.
func (r *Runner) heard(text string) {
	var t directory.TenantID
	var e directory.Epoch
	if _, err := fmt.Sscanf(text, "%d %d", &t, &e); err != nil || t <= 0 {
		select {
		case r.look <- struct{}{}:
		default:
		}
		return
	}
	r.line.add(t, e)
}

// scan finds what is due by now: time passes without a notification.
func (r *Runner) scan(ctx context.Context) error {
	for ctx.Err() == nil {
		if err := r.scanOnce(ctx); err != nil && ctx.Err() == nil {
			r.o.Log.WarnContext(ctx, "look for jobs", "error", err)
		}
		select {
		case <-ctx.Done():
		case <-r.look:
		case <-time.After(store.Jitter(r.o.Poll)):
		}
	}
	return nil
}

func (r *Runner) scanOnce(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, scanTimeout)
	defer cancel()
	rows, err := r.store.DB().Query(ctx, `SELECT tenant_id, epoch FROM cell.jobs_due($1, $2)`, r.names, scanLimit)
	if err != nil {
		return err
	}
	var t directory.TenantID
	var e directory.Epoch
	_, err = pgx.ForEachRow(rows, []any{&t, &e}, func() error {
		r.line.add(t, e)
		return nil
	})
	return err
}

// work gives the tenants in line one turn each.
func (r *Runner) work(ctx context.Context) error {
	for {
		t, e, ok := r.line.next(ctx)
		if !ok {
			return nil
		}
		more, err := r.turn(ctx, t, e)
		r.line.done(t)
		switch {
		case errors.Is(err, errStop):
			return err
		case err != nil && ctx.Err() == nil:
			r.o.Log.WarnContext(ctx, "work on jobs", "tenant", t, "error", err)
			store.Wait(ctx, cannotWork) // the scanner finds the tenant again
		case more:
			r.line.add(t, e)
		}
	}
}

// errStop is what a test's hook ends the runner with.
var errStop = errors.New("stopped by a test")
