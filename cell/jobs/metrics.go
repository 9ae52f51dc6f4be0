package jobs

import (
	"context"
	"fmt"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/cellway/cellway/cell/store"
	"github.com/cellway/cellway/directory"
)

type metrics struct {
	attempts          *prometheus.CounterVec
	wait              *prometheus.HistogramVec
	due, oldest, dead prometheus.Gauge
}

func newMetrics(reg prometheus.Registerer, cell directory.CellID) *metrics {
	labels := prometheus.Labels{"cell": string(cell)}
	gauge := func(name, help string) prometheus.Gauge {
		return prometheus.NewGauge(prometheus.GaugeOpts{Name: name, Help: help, ConstLabels: labels})
	}
	m := &metrics{
		attempts: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "cell_jobs_total", Help: "Attempts at jobs, by what became of them.", ConstLabels: labels,
		}, []string{"kind", "outcome"}),
		wait: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "cell_jobs_queue_wait_seconds", Help: "From when a job was due to its claim by the attempt that did it.", ConstLabels: labels,
			Buckets:                        []float64{.005, .025, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300, 1800},
			NativeHistogramBucketFactor:    1.1,
			NativeHistogramMaxBucketNumber: 100,
		}, []string{"kind"}),
		due:    gauge("cell_jobs_due", "Jobs that are due and not begun."),
		oldest: gauge("cell_jobs_oldest_age_seconds", "For how long the oldest of them has been due."),
		dead:   gauge("cell_jobs_dead", "Jobs that were given up after their last attempt."),
	}
	reg.MustRegister(m.attempts, m.wait, m.due, m.oldest, m.dead)
	return m
}

// observe keeps the gauges up to date.
func (r *Runner) observe(ctx context.Context) error {
	for ctx.Err() == nil {
		if err := r.observeOnce(ctx); err != nil && ctx.Err() == nil {
			r.o.Log.WarnContext(ctx, "measure jobs", "error", err)
		}
		store.Wait(ctx, 5*r.o.Poll)
	}
	return nil
}

func (r *Runner) observeOnce(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, scanTimeout)
	defer cancel()
	var due, oldest, dead float64
	if err := r.store.DB().QueryRow(ctx, `SELECT due, oldest_seconds, dead FROM cell.jobs_backlog()`).Scan(&due, &oldest, &dead); err != nil {
		return fmt.Errorf("read backlog: %w", err)
	}
	r.metrics.due.Set(due)
	r.metrics.oldest.Set(oldest)
	r.metrics.dead.Set(dead)
	return nil
}
