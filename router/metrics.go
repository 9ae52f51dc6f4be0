package router

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/cellway/cellway/infra/telemetry"
	"github.com/cellway/cellway/router/table"
)

// metrics carry the cell and never the tenant. Cells are few and come from the
// directory, so nobody outside can make up labels.
type metrics struct {
	requests  *prometheus.CounterVec
	cells     *cells // requests, and their duration
	overhead  *telemetry.Histogram
	held      prometheus.Gauge
	holdTime  prometheus.Histogram
	heldTotal *prometheus.CounterVec
	refused   *prometheus.CounterVec
	repeats   *prometheus.CounterVec
	malformed *prometheus.CounterVec

	distrusted *prometheus.CounterVec
}

func newMetrics(reg *prometheus.Registry, t *table.Table) *metrics {
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "router_requests_total", Help: "Requests answered, by owning cell (none: no tenant) and status.",
		}, []string{"cell", "code"}),
		overhead: telemetry.NewHistogram(prometheus.NewDesc("router_overhead_seconds",
			"What the router added before the answer began: all but the cell, the client's upload and holding.", nil, nil),
			prometheus.ExponentialBuckets(0.00001, 1.6, 24), nil),
		held: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "router_held_requests", Help: "Requests that wait for a change of owner now.",
		}),
		holdTime: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "router_hold_duration_seconds", Help: "How long requests waited for a change of owner.",
			Buckets: prometheus.ExponentialBuckets(0.001, 2, 13), NativeHistogramBucketFactor: 1.1, NativeHistogramMaxBucketNumber: 100,
		}),
		heldTotal: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "router_holds_total", Help: "Waits for a change of owner, by how they ended.",
		}, []string{"outcome"}),
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "router_refused_total", Help: "Requests that the router itself refused, by the problem's code.",
		}, []string{"reason"}),
		repeats: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "router_stale_epochs_total", Help: "Requests that a cell called stale, by what became of the repeat.",
		}, []string{"outcome"}),
	}
	m.distrusted = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "router_assertions_refused_total", Help: "Requests whose assertion the cell did not take: its clock or keys are not the router's, or it is another cell.",
	}, []string{"cell"})
	m.cells = &cells{
		requests: m.requests, bounds: prometheus.ExponentialBuckets(0.0005, 2, 16),
		duration: prometheus.NewDesc("router_request_duration_seconds", "From the request's head to the end of the answer.", []string{"cell"}, nil),
	}
	m.malformed = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "router_malformed_total", Help: "Requests that are not HTTP as the router takes it, in head or body, by what is wrong.",
	}, []string{"reason"})
	reg.MustRegister(m.malformed, m.distrusted, m.requests, m.cells, m.overhead, m.held, m.holdTime, m.heldTotal, m.refused, m.repeats)
	reg.MustRegister(tableMetrics(t)...)
	return m
}

// tableMetrics say which table is served.
func tableMetrics(t *table.Table) []prometheus.Collector {
	gauge := func(name, help string, value func() float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, value)
	}
	from := func(source string) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "router_snapshot_source", Help: "1 for where the table came from.", ConstLabels: prometheus.Labels{"kind": source},
		}, func() float64 {
			if t.View().Source() == source {
				return 1
			}
			return 0
		})
	}
	var all []prometheus.Collector
	for _, reason := range table.Reasons {
		all = append(all, prometheus.NewCounterFunc(prometheus.CounterOpts{
			Name: "router_directory_breaches_total", Help: "Answers of the directory that do not continue the table, by why: see the log.",
			ConstLabels: prometheus.Labels{"reason": reason},
		}, func() float64 { return float64(t.Breaches(reason)) }))
	}
	return append(all,
		gauge("router_directory_version", "Version of the table that is served.", func() float64 { return float64(t.View().Version()) }),
		gauge("router_directory_age_seconds", "Since the directory last confirmed the table; -1: never in this process.", func() float64 { return age(t) }),
		gauge("router_table_tenants", "Tenants in the table.", func() float64 { return float64(t.View().Tenants()) }),
		gauge("router_table_bytes", "Memory of the table's tenants.", func() float64 { return float64(t.View().Bytes()) }),
		prometheus.NewCounterFunc(prometheus.CounterOpts{
			Name: "router_table_files_refused_total", Help: "Table files on disk that were not as they were written: see the log.",
		}, func() float64 { return float64(t.RefusedFiles()) }),
		gauge("router_rollout_serving", "1 while the router serves the changes of a roll-out, which the directory's record does not have yet.", func() float64 {
			if t.Part().Serves() {
				return 1
			}
			return 0
		}),
		gauge("router_table_refusing_version", "Version of the table that takes too many tenants away to be served unasked; 0: none.", func() float64 {
			v, _ := t.Refusing()
			return float64(v)
		}),
		prometheus.NewCounterFunc(prometheus.CounterOpts{
			Name: "router_table_updates_refused_total", Help: "Updates that took too many tenants away at once.",
		}, func() float64 {
			_, n := t.Refusing()
			return float64(n)
		}),
		from(table.FromDisk), from(table.FromDirectory),
	)
}

// age is the seconds since the directory last spoke, -1 if it never has.
func age(t *table.Table) float64 {
	at := t.Confirmed()
	if at.IsZero() {
		return -1
	}
	return time.Since(at).Seconds()
}

// done counts a request that has ended.
func (m *metrics) done(x *exchange, status int, took time.Duration) {
	c := m.cells.of(string(x.entry.Cell))
	c.code(status).Inc()
	if x.streams {
		took = x.toHeaders // what takes time of a stream is to open it
	}
	c.duration.Observe(took)
	if d, ok := x.overhead(); ok {
		m.overhead.Observe(d)
	}
	if x.held > 0 {
		m.holdTime.Observe(x.held.Seconds())
	}
}
