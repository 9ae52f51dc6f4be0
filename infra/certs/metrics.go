package certs

import (
	"crypto/x509"

	"github.com/prometheus/client_golang/prometheus"
)

// loads counts how loading went, and shows when what serves expires.
type loads struct {
	kind    string // of certificates
	outcome *prometheus.CounterVec
	each    each
}

// An each tells of each certificate that serves now.
type each func(tell func(name string, c *x509.Certificate))

func newLoads(kind string, all each) loads {
	return loads{kind: kind, each: all, outcome: prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "tls_certificate_reloads_total", Help: "How often certificate files were read again, by what became of it.",
		ConstLabels: prometheus.Labels{"kind": kind},
	}, []string{"outcome"})}
}

func (l *loads) count(ok bool) {
	outcome := "refused"
	if ok {
		outcome = "taken"
	}
	l.outcome.WithLabelValues(outcome).Inc()
}

func (l *loads) register(reg prometheus.Registerer) {
	reg.MustRegister(l.outcome, expiry{l})
}

// An expiry is a Collector: names come and go with the files.
type expiry struct{ *loads }

func (e expiry) desc() *prometheus.Desc {
	return prometheus.NewDesc("tls_certificate_expiry_timestamp_seconds", "When the certificate that serves expires, in seconds since 1970.",
		[]string{"name"}, prometheus.Labels{"kind": e.kind})
}

// Describe implements prometheus.Collector.
func (e expiry) Describe(ch chan<- *prometheus.Desc) { ch <- e.desc() }

// Collect implements prometheus.Collector.
func (e expiry) Collect(ch chan<- prometheus.Metric) {
	desc := e.desc()
	e.each(func(name string, c *x509.Certificate) {
		ch <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, float64(c.NotAfter.Unix()), name)
	})
}
