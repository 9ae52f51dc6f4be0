package worker

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/cellway/cellway/cell/store"
	"github.com/cellway/cellway/directory"
)

type metrics struct {
	consumed, failures, dead *prometheus.CounterVec
	lag                      *prometheus.GaugeVec
	delay                    *prometheus.HistogramVec
}

func newMetrics(reg prometheus.Registerer, cell directory.CellID) *metrics {
	labels := prometheus.Labels{"cell": string(cell)}
	counter := func(name, help string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help, ConstLabels: labels}, []string{"consumer"})
	}
	m := &metrics{
		consumed: counter("cell_events_consumed_total", "Events done, once each per consumer."),
		failures: counter("cell_event_failures_total", "Failed attempts at an event."),
		dead:     counter("cell_dead_letters_total", "Events given up after the last attempt."),
		lag: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "cell_inbox_lag_seconds", Help: "Age of the oldest event that the consumer has not done.", ConstLabels: labels,
		}, []string{"consumer"}),
		delay: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "cell_event_delay_seconds", Help: "From the event's writing to the commit of its effect.", ConstLabels: labels,
			Buckets:                        []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60},
			NativeHistogramBucketFactor:    1.1,
			NativeHistogramMaxBucketNumber: 100,
		}, []string{"consumer"}),
	}
	reg.MustRegister(m.consumed, m.failures, m.dead, m.lag, m.delay)
	return m
}

// observe keeps the gauge up to date.
func (w *Worker) observe(ctx context.Context) error {
	for ctx.Err() == nil {
		if err := w.observeOnce(ctx); err != nil && ctx.Err() == nil {
			w.o.Log.WarnContext(ctx, "measure consumers", "error", err)
		}
		store.Wait(ctx, 5*w.o.Sweep)
	}
	return nil
}

func (w *Worker) observeOnce(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, scanTimeout)
	defer cancel()
	rows, err := w.store.DB().Query(ctx, `SELECT consumer, lag_seconds FROM cell.inbox_lag($1)`, w.names())
	if err != nil {
		return fmt.Errorf("read lag: %w", err)
	}
	var consumer string
	var lag float64
	if _, err := pgx.ForEachRow(rows, []any{&consumer, &lag}, func() error {
		w.metrics.lag.WithLabelValues(consumer).Set(lag)
		return nil
	}); err != nil {
		return fmt.Errorf("read lag: %w", err)
	}
	return nil
}
