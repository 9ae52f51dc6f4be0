package loadtest

import (
	"context"
	"fmt"
	"maps"
	"math"
	"net/http"
	"slices"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

// Metrics are the metric families of one process at one moment.
type Metrics map[string]*dto.MetricFamily

// Scrape reads the metrics of the process whose admin listener has the base URL admin.
func Scrape(ctx context.Context, admin string) (Metrics, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, admin+"/metrics", nil)
	if err != nil {
		return nil, fmt.Errorf("scrape %s: %w", admin, err)
	}
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("scrape %s: %w", admin, err)
	}
	defer resp.Body.Close()
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(resp.Body)
	if err != nil {
		return nil, fmt.Errorf("scrape %s: %w", admin, err)
	}
	return families, nil
}

// Sum adds up a counter or gauge over all its label sets; 0 where it is not there.
func (m Metrics) Sum(name string) float64 {
	total := 0.0
	for _, s := range m[name].GetMetric() {
		total += s.GetCounter().GetValue() + s.GetGauge().GetValue()
	}
	return total
}

// A Histogram is observations in buckets, as a process counted them itself.
type Histogram struct {
	Count   uint64
	Buckets map[float64]uint64 // cumulative count by upper bound, in the metric's unit
}

// Histogram adds up a histogram over all its label sets.
func (m Metrics) Histogram(name string) Histogram {
	h := Histogram{Buckets: map[float64]uint64{}}
	for _, s := range m[name].GetMetric() {
		h.Count += s.GetHistogram().GetSampleCount()
		for _, b := range s.GetHistogram().GetBucket() {
			h.Buckets[b.GetUpperBound()] += b.GetCumulativeCount()
		}
	}
	return h
}

// Plus adds up the histograms of two processes.
func (h Histogram) Plus(g Histogram) Histogram {
	out := Histogram{Count: h.Count + g.Count, Buckets: map[float64]uint64{}}
	maps.Copy(out.Buckets, h.Buckets)
	for le, n := range g.Buckets {
		out.Buckets[le] += n
	}
	return out
}

// Quantile is the q-quantile in the metric's unit, as Prometheus computes it:
// linear within a bucket, so no finer than the buckets are. It is NaN where
// nothing was observed, and the last finite bound where it lies beyond.
func (h Histogram) Quantile(q float64) float64 {
	if h.Count == 0 {
		return math.NaN()
	}
	rank, low, below := q*float64(h.Count), 0.0, uint64(0)
	for _, le := range slices.Sorted(maps.Keys(h.Buckets)) {
		if n := h.Buckets[le]; float64(n) >= rank {
			if math.IsInf(le, 1) {
				return low
			}
			return low + (le-low)*(rank-float64(below))/float64(max(n-below, 1))
		}
		low, below = le, h.Buckets[le]
	}
	return low
}
