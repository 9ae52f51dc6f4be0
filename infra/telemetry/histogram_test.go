package telemetry

import (
	"math"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
)

// TestHistogramCountsAsPrometheus: the same buckets and spans as the library's own
// histogram, for durations from a nanosecond to an hour.
func TestHistogramCountsAsPrometheus(t *testing.T) {
	t.Parallel()
	bounds := prometheus.ExponentialBuckets(0.0005, 2, 16)
	theirs := prometheus.NewHistogram(prometheus.HistogramOpts{Name: "x", Buckets: bounds, NativeHistogramBucketFactor: 1.1})
	ours := NewHistogram(prometheus.NewDesc("x", "", nil, nil), bounds, nil)
	for d := time.Duration(1); d < time.Hour; d = d + d/7 + 1 {
		theirs.Observe(d.Seconds())
		ours.Observe(d)
	}
	for e := range 20 { // values that are bounds themselves
		d := time.Duration(math.Exp2(float64(e))) * time.Second / 1024
		theirs.Observe(d.Seconds())
		ours.Observe(d)
	}
	var a, b dto.Metric
	if theirs.Write(&a) != nil || ours.Write(&b) != nil {
		t.Fatal("not written")
	}
	x, y := a.GetHistogram(), b.GetHistogram()
	if x.GetSampleCount() != y.GetSampleCount() || math.Abs(x.GetSampleSum()-y.GetSampleSum()) > 1e-3*x.GetSampleSum() || x.GetSchema() != y.GetSchema() {
		t.Errorf("got count %d, sum %v, schema %d, want %d, %v, %d", y.GetSampleCount(), y.GetSampleSum(), y.GetSchema(), x.GetSampleCount(), x.GetSampleSum(), x.GetSchema())
	}
	for i, want := range x.GetBucket() {
		if got := y.GetBucket()[i]; got.GetCumulativeCount() != want.GetCumulativeCount() || got.GetUpperBound() != want.GetUpperBound() {
			t.Errorf("bucket %d: got %v, want %v", i, got, want)
		}
	}
	want, got := expand(x), expand(y)
	for bucket, n := range want {
		if got[bucket] != n {
			t.Errorf("native bucket %d: got %d, want %d", bucket, got[bucket], n)
		}
	}
	if len(got) != len(want) {
		t.Errorf("got %d native buckets, want %d", len(got), len(want))
	}
}

// expand is the native buckets by index.
func expand(h *dto.Histogram) map[int32]int64 {
	out := map[int32]int64{}
	at, count, i := int32(0), int64(0), 0
	for _, s := range h.GetPositiveSpan() {
		at += s.GetOffset()
		for range s.GetLength() {
			count += h.GetPositiveDelta()[i]
			if count != 0 {
				out[at] = count
			}
			at++
			i++
		}
	}
	return out
}
