package deletion

import "github.com/prometheus/client_golang/prometheus"

type metrics struct {
	waiting, disputed prometheus.Gauge
	purged, rows      prometheus.Counter
}

func newMetrics(reg prometheus.Registerer) metrics {
	m := metrics{
		waiting: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "cell_deleted_tenants_waiting", Help: "Deleted tenants that stand still here and await their purge.",
		}),
		disputed: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "cell_deleted_tenants_disputed", Help: "Tenants whose deletion the directory and this cell do not agree on: nothing is purged until an operator says what is to be.",
		}),
		purged: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "cell_tenants_purged_total", Help: "Deleted tenants of which nothing is left here but the tombstone.",
		}),
		rows: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "cell_purged_rows_total", Help: "Rows of deleted tenants that were purged.",
		}),
	}
	reg.MustRegister(m.waiting, m.disputed, m.purged, m.rows)
	return m
}
