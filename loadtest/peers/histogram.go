package peers

import (
	"math/bits"
	"time"
)

// A histogram counts durations in buckets that are at most 1/64 of their value
// wide, from nanoseconds to hours, without an allocation. The zero value is empty.
type histogram struct {
	counts [60 * 64]uint64
	n      uint64
}

func (h *histogram) add(d time.Duration) {
	h.counts[bucket(uint64(max(d, 0)))]++ //nolint:gosec // not negative
	h.n++
}

// bucket numbers the buckets: values below 128 have their own, above that each
// power of two has 64.
func bucket(v uint64) int {
	shift := max(0, bits.Len64(v)-7)
	return min(shift*64+int(v>>shift), len(histogram{}.counts)-1) //nolint:gosec // below 128
}

// value is the upper bound of a bucket.
func value(i int) time.Duration {
	if i < 128 {
		return time.Duration(i)
	}
	shift := i/64 - 1
	return time.Duration(((i-shift*64)+1)<<shift - 1)
}

// quantile is the duration that the share q of all is not above; 0 of none.
func (h *histogram) quantile(q float64) time.Duration {
	want := max(1, uint64(q*float64(h.n)+0.5))
	var seen uint64
	for i, c := range h.counts {
		if seen += c; seen >= want && h.n > 0 {
			return value(i)
		}
	}
	return 0
}
