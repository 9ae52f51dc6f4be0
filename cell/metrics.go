package cell

import (
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics of the API. No label ever names a tenant.
type metrics struct {
	duration *prometheus.HistogramVec
	rejected *prometheus.CounterVec
}

func newMetrics(reg prometheus.Registerer) *metrics {
	m := &metrics{
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:                        "cell_http_request_duration_seconds",
			Help:                        "Time from a request's arrival to the end of its answer.",
			Buckets:                     []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10},
			NativeHistogramBucketFactor: 1.1,
		}, []string{"module", "route", "method", "code"}),
		rejected: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "cell_admission_rejected_total",
			Help: "Requests turned away before their operation ran.",
		}, []string{"reason"}),
	}
	for _, reason := range []string{rejectAssertion, rejectToken, rejectRate, rejectStale} {
		m.rejected.WithLabelValues(reason)
	}
	reg.MustRegister(m.duration, m.rejected)
	return m
}

// observe counts one request. Methods that the contract cannot have share a label.
func (m *metrics) observe(c *call, method string, status int, took time.Duration) {
	switch method {
	case "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS":
	default:
		method = "other"
	}
	m.duration.WithLabelValues(c.module, c.route, method, strconv.Itoa(status)).Observe(took.Seconds())
}
