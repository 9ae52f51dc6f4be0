// Package worker runs the reactions to events: each consumer sees each tenant's
// events in order and has its effect once.
//
// The number of the last event done is written in the transaction of the effect,
// so an event that comes twice is dropped and one that is missing is noticed.
// The streams bring events fast; Postgres is the authority. What Redis lost is
// read from the outbox: at once where a gap shows it, else by a sweep. An event
// that fails again and again holds up its own tenant only, and not for ever.
package worker

import (
	"context"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"

	"github.com/cellway/cellway/cell/outbox"
	"github.com/cellway/cellway/cell/store"
	"github.com/cellway/cellway/infra/run"
	"github.com/cellway/cellway/infra/telemetry"
)

// Options say how a Worker runs; the zero value is fit for production.
type Options struct {
	Attempts      int                   // tries of an event before it becomes a dead letter; 0 is 8
	Backoff       time.Duration         // wait after the first failure, then doubled; 0 is 200 ms
	MaxBackoff    time.Duration         // longest wait between tries; 0 is 1 min
	HandleTimeout time.Duration         // for one event; 0 is 20 s
	Sweep         time.Duration         // how often to look for events that the bus lost; 0 is 2 s
	Grace         time.Duration         // how old such an event must be; 0 is 1 s
	Parallel      int                   // tenants that one consumer works on at a time; 0 is 4
	Keep          time.Duration         // how long events stay in the outbox and the streams; 0 is 72 h
	Log           *slog.Logger          // nil is slog's default
	Registry      prometheus.Registerer // nil keeps the metrics to itself
}

func (o *Options) defaults() {
	set := func(d *time.Duration, to time.Duration) {
		if *d == 0 {
			*d = to
		}
	}
	set(&o.Backoff, 200*time.Millisecond)
	set(&o.MaxBackoff, time.Minute)
	set(&o.HandleTimeout, 20*time.Second)
	set(&o.Sweep, 2*time.Second)
	set(&o.Grace, time.Second)
	set(&o.Keep, 72*time.Hour)
	if o.Attempts == 0 {
		o.Attempts = 8
	}
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

// A Worker runs a cell's consumers. Any number may run; each consumer's share of
// a partition is worked by one of them at a time, and taken over at once when
// that one dies, within half a minute where its machine is gone.
type Worker struct {
	store     *store.Store
	redis     redis.UniversalClient
	consumers []Consumer
	o         Options
	metrics   *metrics
	hook      func(step string) error // tests stop the worker between two steps
	seen      func(delay time.Duration)
}

// New makes a Worker for s's cell. It fails where two consumers share a name.
func New(s *store.Store, rdb redis.UniversalClient, consumers []Consumer, o Options) (*Worker, error) {
	if err := validate(consumers); err != nil {
		return nil, err
	}
	o.defaults()
	m := newMetrics(o.Registry, s.Cell())
	for _, c := range consumers { // an alert sees the first one only where there was a 0 before
		m.failures.WithLabelValues(c.Name)
		m.dead.WithLabelValues(c.Name)
	}
	return &Worker{
		store: s, redis: rdb, consumers: consumers, o: o, metrics: m,
		hook: func(string) error { return nil }, seen: func(time.Duration) {},
	}, nil
}

// Run works until ctx ends; then it returns nil. What was under way is rolled
// back or done, never half done.
func (w *Worker) Run(ctx context.Context) error {
	g := run.NewGroup(telemetry.Untraced(ctx))
	var keys []int64
	var groups []*group
	for _, c := range w.consumers {
		gr := newGroup(w, c)
		groups = append(groups, gr)
		for p := range outbox.Partitions {
			keys = append(keys, store.LockKey("consumer "+c.Name, uint8(p)))
		}
		g.Go("read for "+c.Name, gr.read)
		g.Go("sweep for "+c.Name, gr.sweep)
		for range w.o.Parallel {
			g.Go("work for "+c.Name, gr.work)
		}
	}
	g.Go("own partitions", func(ctx context.Context) error {
		return w.store.Own(ctx, keys, func(ctx context.Context, i int) {
			groups[i/outbox.Partitions].own(ctx, i%outbox.Partitions)
		})
	})
	g.Go("remove old events", w.retain)
	g.Go("observe", w.observe)
	return g.Wait()
}

// names are those of the consumers.
func (w *Worker) names() []string {
	names := make([]string, len(w.consumers))
	for i, c := range w.consumers {
		names[i] = c.Name
	}
	return names
}
