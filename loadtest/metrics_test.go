package loadtest

import (
	"math"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

func TestScrapeAndQuantiles(t *testing.T) {
	t.Parallel()
	reg := prometheus.NewRegistry()
	h := prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "x_seconds", Buckets: []float64{1, 2, 4}}, []string{"cell"})
	n := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "x_total"}, []string{"cell"})
	reg.MustRegister(h, n)
	for range 50 {
		h.WithLabelValues("c1").Observe(0.5)
		h.WithLabelValues("c2").Observe(1.5)
		n.WithLabelValues("c1").Inc()
		n.WithLabelValues("c2").Inc()
	}
	srv := httptest.NewServer(promhttp.HandlerFor(reg, promhttp.HandlerOpts{}))
	defer srv.Close()

	m, err := Scrape(t.Context(), srv.URL)
	if err != nil {
		t.Fatal(err)
	}
	if got := m.Sum("x_total"); got != 100 {
		t.Errorf("sum: got %v, want 100", got)
	}
	if got := m.Sum("absent_total"); got != 0 {
		t.Errorf("sum of an absent metric: got %v, want 0", got)
	}
	got := m.Histogram("x_seconds")
	for q, want := range map[float64]float64{0.25: 0.5, 0.5: 1, 0.75: 1.5, 1: 2} {
		if v := got.Quantile(q); math.Abs(v-want) > 1e-9 {
			t.Errorf("quantile %v: got %v, want %v", q, v, want)
		}
	}
	if d := (Histogram{}).Plus(got).Plus(got); d.Count != 200 || d.Quantile(0.5) != 1 {
		t.Errorf("twice the same: got %+v", d)
	}
	if v := (Histogram{}).Quantile(0.5); !math.IsNaN(v) {
		t.Errorf("of nothing: got %v, want NaN", v)
	}
	h.Reset()
	h.WithLabelValues("c1").Observe(100)
	if m, err = Scrape(t.Context(), srv.URL); err != nil {
		t.Fatal(err)
	}
	if v := m.Histogram("x_seconds").Quantile(0.99); v != 4 {
		t.Errorf("beyond the last bucket: got %v, want its bound 4", v)
	}
}

func TestScrapeOfNobody(t *testing.T) {
	t.Parallel()
	srv := httptest.NewServer(http.NotFoundHandler())
	srv.Close()
	if _, err := Scrape(t.Context(), srv.URL); err == nil {
		t.Error("no error from a process that is not there")
	}
}

func TestUntilEndsWithItsContext(t *testing.T) {
	t.Parallel()
	ctx, cancel := timeout(t, 10*time.Millisecond)
	defer cancel()
	err := Until(ctx, "the impossible", time.Millisecond, never)
	if err == nil || err.Error() != "wait for the impossible: context deadline exceeded" {
		t.Errorf("got %v", err)
	}
}
