package front

import "github.com/prometheus/client_golang/prometheus"

// Metrics count what happens before a request is one.
type Metrics struct {
	handshakes *prometheus.CounterVec
	floods     *prometheus.CounterVec
	errors     *prometheus.CounterVec
	crowd      *prometheus.CounterVec
}

// NewMetrics makes Metrics on a registry.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	m := &Metrics{
		handshakes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "router_tls_handshakes_total", Help: "TLS handshakes, by how they ended: full, resumed, failed, or crowded (too many at once, of all or of the address).",
		}, []string{"outcome"}),
		floods: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "router_http2_floods_total", Help: "HTTP/2 connections closed because their frames only cost, by kind.",
		}, []string{"kind"}),
		errors: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "router_http2_errors_total", Help: "Errors of HTTP/2 connections and streams, as net/http names them.",
		}, []string{"type"}),
		crowd: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "router_http2_crowded_total", Help: "Requests over HTTP/2 whose clients are waited for and that were too many, of all or of their address: refused (503, 429), cut for others after a second or longer (429), or hurried (a refusal has a second to be taken).",
		}, []string{"outcome"}),
	}
	reg.MustRegister(m.handshakes, m.floods, m.errors, m.crowd)
	return m
}

func (m *Metrics) handshake(outcome string) { m.handshakes.WithLabelValues(outcome).Inc() }
func (m *Metrics) flood(kind string)        { m.floods.WithLabelValues(kind).Inc() }
func (m *Metrics) failed(kind string)       { m.errors.WithLabelValues(kind).Inc() }
func (m *Metrics) crowded(outcome string)   { m.crowd.WithLabelValues(outcome).Inc() }
