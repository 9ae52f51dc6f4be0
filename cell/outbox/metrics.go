package outbox

import (
	"context"
	"fmt"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/cellway/cellway/cell/store"
	"github.com/cellway/cellway/directory"
)

type metrics struct {
	published    prometheus.Counter
	pending, lag prometheus.Gauge
}

func newMetrics(reg prometheus.Registerer, cell directory.CellID) *metrics {
	labels := prometheus.Labels{"cell": string(cell)}
	m := &metrics{
		published: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "cell_outbox_published_total", Help: "Events sent to the streams, repeated ones included.", ConstLabels: labels,
		}),
		pending: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "cell_outbox_pending", Help: "Events committed and not yet published.", ConstLabels: labels,
		}),
		lag: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "cell_outbox_lag_seconds", Help: "Age of the oldest event that is not yet published.", ConstLabels: labels,
		}),
	}
	reg.MustRegister(m.published, m.pending, m.lag)
	return m
}

// observe keeps the gauges up to date.
func (r *Relay) observe(ctx context.Context) error {
	for ctx.Err() == nil {
		if err := r.observeOnce(ctx); err != nil && ctx.Err() == nil {
			r.o.Log.WarnContext(ctx, "measure outbox", "error", err)
		}
		store.Wait(ctx, 2*r.o.Poll)
	}
	return nil
}

func (r *Relay) observeOnce(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, opTimeout)
	defer cancel()
	var pending, lag float64
	err := r.store.DB().QueryRow(ctx, `SELECT pending, lag_seconds FROM cell.outbox_backlog()`).Scan(&pending, &lag)
	if err != nil {
		return fmt.Errorf("read backlog: %w", err)
	}
	r.metrics.pending.Set(pending)
	r.metrics.lag.Set(lag)
	return nil
}
