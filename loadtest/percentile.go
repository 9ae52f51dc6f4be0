package loadtest

import (
	"encoding/json"
	"math"
	"slices"
	"strconv"
	"time"
)

// Millis is a duration that JSON shows as milliseconds with three decimals.
type Millis time.Duration

// MarshalJSON writes milliseconds.
func (m Millis) MarshalJSON() ([]byte, error) {
	return strconv.AppendFloat(nil, float64(m)/float64(time.Millisecond), 'f', 3, 64), nil
}

// UnmarshalJSON reads milliseconds.
func (m *Millis) UnmarshalJSON(b []byte) error {
	ms := float64(*m) / float64(time.Millisecond)
	if err := json.Unmarshal(b, &ms); err != nil { // null changes nothing
		return err
	}
	*m = Millis(math.Round(ms * float64(time.Millisecond)))
	return nil
}

// String is for tables: as many digits as matter, with the unit.
func (m Millis) String() string {
	d := time.Duration(m)
	switch {
	case d >= 100*time.Millisecond:
		return d.Round(time.Millisecond).String()
	case d >= time.Millisecond:
		return d.Round(10 * time.Microsecond).String()
	}
	return d.Round(time.Microsecond).String()
}

// A Spread says how a set of durations lies.
type Spread struct {
	N   int    `json:"n"`
	P50 Millis `json:"p50_ms"`
	P99 Millis `json:"p99_ms"`
	Max Millis `json:"max_ms"`
}

// Percentiles is the spread of durations, by nearest rank: each figure is one
// that was measured. No durations give the zero Spread.
func Percentiles(durations []time.Duration) Spread {
	if len(durations) == 0 {
		return Spread{}
	}
	sorted := slices.Clone(durations)
	slices.Sort(sorted)
	rank := func(p float64) Millis {
		return Millis(sorted[max(int(math.Ceil(p*float64(len(sorted))))-1, 0)])
	}
	return Spread{N: len(sorted), P50: rank(0.50), P99: rank(0.99), Max: Millis(sorted[len(sorted)-1])}
}

// Median is the middle of values; of an even number, the mean of the middle two.
func Median(values []float64) float64 {
	if len(values) == 0 {
		return 0
	}
	sorted := slices.Clone(values)
	slices.Sort(sorted)
	n := len(sorted)
	return (sorted[(n-1)/2] + sorted[n/2]) / 2
}
