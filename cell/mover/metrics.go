package mover

import "github.com/prometheus/client_golang/prometheus"

type metrics struct {
	running prometheus.Gauge
	phases  *prometheus.CounterVec
	rows    prometheus.Counter
	pause   prometheus.Histogram
	differ  prometheus.Counter
	rests   prometheus.Counter
}

func newMetrics() *metrics {
	return &metrics{
		running: prometheus.NewGauge(prometheus.GaugeOpts{Name: "move_running", Help: "Moves that this mover works on now."}),
		phases:  prometheus.NewCounterVec(prometheus.CounterOpts{Name: "move_phases_total", Help: "Phases that moves have reached."}, []string{"phase"}),
		rows:    prometheus.NewCounter(prometheus.CounterOpts{Name: "move_copy_rows_total", Help: "Rows that have come to targets."}),
		differ:  prometheus.NewCounter(prometheus.CounterOpts{Name: "move_copies_differ_total", Help: "Comparisons of a watching move's two copies that found a difference."}),
		rests:   prometheus.NewCounter(prometheus.CounterOpts{Name: "move_rests_total", Help: "Moves that were left alone for a while, because a cell of them does not answer or fails again and again."}),
		pause: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "move_write_pause_seconds", Help: "From the freeze at the source until a cell serves the tenant again: the target, or, of an aborted move, the source.",
			Buckets:                     []float64{.002, .005, .01, .015, .025, .05, .1, .25, .5, 1, 2.5, 10},
			NativeHistogramBucketFactor: 1.1, NativeHistogramMaxBucketNumber: 100,
		}),
	}
}

// Register adds the mover's metrics to reg.
func (v *Mover) Register(reg *prometheus.Registry) {
	reg.MustRegister(v.m.running, v.m.phases, v.m.rows, v.m.pause, v.m.differ, v.m.rests)
}
