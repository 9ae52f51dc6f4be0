package reconcile

import "github.com/prometheus/client_golang/prometheus"

type metrics struct {
	suspect, tenants prometheus.Gauge
	reconciled       prometheus.Counter
}

func newMetrics(reg prometheus.Registerer) metrics {
	m := metrics{
		suspect: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "cell_suspect", Help: "1 while the database serves nobody because it may have lost something.",
		}),
		tenants: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "cell_suspect_tenants", Help: "Tenants that are placed here and refused because the database lacks what the directory says it has.",
		}),
		reconciled: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "cell_reconciliations_total", Help: "How often the database was brought in line with the directory after a loss.",
		}),
	}
	reg.MustRegister(m.suspect, m.tenants, m.reconciled)
	return m
}
