package worker

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/cellway/cellway/directory"
)

type metrics struct {
	consumed, failures, dead *prometheus.CounterVec
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
		delay: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "cell_event_delay_seconds", Help: "From the event's writing to the commit of its effect.", ConstLabels: labels,
			Buckets:                        []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60},
			NativeHistogramBucketFactor:    1.1,
			NativeHistogramMaxBucketNumber: 100,
		}, []string{"consumer"}),
	}
	reg.MustRegister(m.consumed, m.failures, m.dead, m.delay)
	return m
}
