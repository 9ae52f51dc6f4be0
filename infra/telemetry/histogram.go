package telemetry

import (
	"math"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
)

// A Histogram counts durations in classic buckets and in native ones of schema 3,
// as prometheus.Histogram does with a factor of 1.1. It allocates nothing: that
// one boxes the bucket of each observation.
type Histogram struct {
	desc    *prometheus.Desc
	labels  []*dto.LabelPair
	bounds  []float64 // of the classic buckets, in seconds
	classic []atomic.Uint64
	native  [nativeBuckets]atomic.Uint64
	sum     atomic.Int64 // ns
}

const (
	nativeSchema  = 3
	perDoubling   = 1 << nativeSchema
	lowestBucket  = -30 * perDoubling // about a nanosecond
	nativeBuckets = 42 * perDoubling  // up to an hour
)

// nativeBounds are the lower ends of the buckets of one doubling, as fractions.
var nativeBounds = func() (b [perDoubling]float64) {
	for i := range b {
		b[i] = 0.5 * math.Exp2(float64(i)/perDoubling)
	}
	return b
}()

// NewHistogram makes a Histogram with the classic buckets that end at bounds, in seconds.
func NewHistogram(desc *prometheus.Desc, bounds []float64, labels []*dto.LabelPair) *Histogram {
	return &Histogram{desc: desc, labels: labels, bounds: bounds, classic: make([]atomic.Uint64, len(bounds)+1)}
}

// Observe counts d.
func (h *Histogram) Observe(d time.Duration) {
	d = max(d, 1)
	v := d.Seconds()
	i := 0
	for i < len(h.bounds) && v > h.bounds[i] {
		i++
	}
	h.sum.Add(int64(d))
	h.native[min(max(nativeBucket(v)-lowestBucket, 0), nativeBuckets-1)].Add(1)
	h.classic[i].Add(1)
}

// nativeBucket is the bucket of v: up to 2^(n/8), over the one before.
func nativeBucket(v float64) int {
	frac, exp := math.Frexp(v)
	n := 0
	for n < perDoubling && nativeBounds[n] < frac {
		n++
	}
	return n + (exp-1)*perDoubling
}

// Describe implements prometheus.Collector.
func (h *Histogram) Describe(ch chan<- *prometheus.Desc) { ch <- h.desc }

// Collect implements prometheus.Collector.
func (h *Histogram) Collect(ch chan<- prometheus.Metric) { ch <- h }

// Desc implements prometheus.Metric.
func (h *Histogram) Desc() *prometheus.Desc { return h.desc }

// Write implements prometheus.Metric.
func (h *Histogram) Write(out *dto.Metric) error {
	schema, threshold, zeros := int32(nativeSchema), math.SmallestNonzeroFloat64, uint64(0)
	sum := float64(h.sum.Load()) / float64(time.Second)
	his := &dto.Histogram{SampleSum: &sum, Schema: &schema, ZeroThreshold: &threshold, ZeroCount: &zeros}
	count := uint64(0)
	for i := range h.bounds {
		count += h.classic[i].Load()
		upTo := count
		his.Bucket = append(his.Bucket, &dto.Bucket{CumulativeCount: &upTo, UpperBound: &h.bounds[i]})
	}
	count += h.classic[len(h.bounds)].Load()
	his.SampleCount = &count
	h.spans(his)
	out.Histogram, out.Label = his, h.labels
	return nil
}

// spans writes the native buckets that are not empty: runs of them, each count
// as the difference from the one before.
func (h *Histogram) spans(his *dto.Histogram) {
	before, next := int64(0), int32(0)
	for i := range h.native {
		n := int64(h.native[i].Load()) //nolint:gosec // a count
		if n == 0 {
			continue
		}
		at := int32(i) + lowestBucket //nolint:gosec // at most nativeBuckets
		if len(his.PositiveSpan) == 0 || at != next {
			offset, length := at-next, uint32(0)
			his.PositiveSpan = append(his.PositiveSpan, &dto.BucketSpan{Offset: &offset, Length: &length})
		}
		*his.PositiveSpan[len(his.PositiveSpan)-1].Length++
		his.PositiveDelta = append(his.PositiveDelta, n-before)
		before, next = n, at+1
	}
	if len(his.PositiveSpan) == 0 { // as prometheus says that a histogram is native
		none, length := int32(0), uint32(0)
		his.PositiveSpan = []*dto.BucketSpan{{Offset: &none, Length: &length}}
	}
}
