package loadtest

import (
	"encoding/json"
	"testing"
	"time"
)

func TestPercentilesAreMeasuredValues(t *testing.T) {
	t.Parallel()
	var in []time.Duration
	for i := 100; i >= 1; i-- {
		in = append(in, time.Duration(i)*time.Millisecond)
	}
	got := Percentiles(in)
	want := Spread{N: 100, P50: Millis(50 * time.Millisecond), P99: Millis(99 * time.Millisecond), Max: Millis(100 * time.Millisecond)}
	if got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if in[0] != 100*time.Millisecond {
		t.Error("the input was sorted in place")
	}
	if got := Percentiles(nil); got != (Spread{}) {
		t.Errorf("of nothing: got %+v, want zero", got)
	}
	if got := Percentiles(in[:1]); got.P50 != got.P99 || got.N != 1 {
		t.Errorf("of one: got %+v", got)
	}
}

func TestMedian(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		in   []float64
		want float64
	}{{nil, 0}, {[]float64{3}, 3}, {[]float64{9, 1, 5}, 5}, {[]float64{4, 1, 2, 3}, 2.5}} {
		if got := Median(tt.in); got != tt.want {
			t.Errorf("median of %v: got %v, want %v", tt.in, got, tt.want)
		}
	}
}

func TestMillisAsTextAndJSON(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		in         time.Duration
		text, json string
	}{
		{1234 * time.Nanosecond, "1µs", "0.001"},
		{1234567 * time.Nanosecond, "1.23ms", "1.235"},
		{250*time.Millisecond + 600*time.Microsecond, "251ms", "250.600"},
	} {
		got, err := json.Marshal(Millis(tt.in))
		if err != nil || string(got) != tt.json {
			t.Errorf("%v: JSON is %s (%v), want %s", tt.in, got, err, tt.json)
		}
		if got := Millis(tt.in).String(); got != tt.text {
			t.Errorf("%v: text is %s, want %s", tt.in, got, tt.text)
		}
	}
}
