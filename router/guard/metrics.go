package guard

import "github.com/prometheus/client_golang/prometheus"

// metrics carry reasons, never a tenant and never an address.
type metrics struct {
	refused *prometheus.CounterVec
	reloads *prometheus.CounterVec
	checked prometheus.Counter

	violations, looked, findings *prometheus.CounterVec
}

func newMetrics(reg prometheus.Registerer, g *Guard) *metrics {
	m := &metrics{
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "router_guard_refused_total", Help: "Requests and connections that the edge's policy refused, by reason.",
		}, []string{"reason"}),
		reloads: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "router_guard_reloads_total", Help: "Readings of a changed policy file, by outcome (ok, refused).",
		}, []string{"outcome"}),
		checked: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "router_jwt_signatures_checked_total", Help: "Signatures of issuers' tokens that were held against a key.",
		}),
		violations: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "router_contract_violations_total", Help: "Requests that are not as the contract has it, by part and by what became of them (refused, passed).",
		}, []string{"part", "outcome"}),
		looked: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "router_waf_requests_total", Help: "Requests for the WAF, by outcome: clean, refused, passed (denied by rules, and let through), skipped (not looked at), failed (the rules panicked).",
		}, []string{"outcome"}),
		findings: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "router_waf_findings_total", Help: "Groups of rules that requests were denied by.",
		}, []string{"group"}),
	}
	for _, outcome := range []string{"ok", "refused"} { // an alert sees the first one only where there was a 0 before
		m.reloads.WithLabelValues(outcome)
	}
	reg.MustRegister(m.checked, m.violations, m.looked, m.findings, m.refused, m.reloads, prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "router_guard_buckets", Help: "Rate limit allowances that are kept in memory.",
	}, func() float64 { return float64(g.buckets.len()) }), prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "router_guard_clients", Help: "Addresses that have a connection now.",
	}, func() float64 { return float64(g.conns.owners()) }))
	return m
}
