package pgproxy

import (
	"testing"
	"time"
)

func TestTakes(t *testing.T) {
	t.Parallel()
	const ms = time.Millisecond
	now := time.Now()
	pace := Pace{Latency: 10 * ms, Rate: 1000}
	for name, tt := range map[string]struct {
		pace  Pace
		until time.Duration // from now
		bytes int
		last  bool
		want  time.Duration
	}{
		"quick":                 {Pace{}, 0, 100, true, 0},
		"alone":                 {pace, time.Hour, 5, true, 15 * ms},
		"others follow":         {pace, time.Hour, 5, false, 5 * ms},
		"no bound":              {Pace{Latency: 10 * ms}, time.Hour, 1 << 20, true, 10 * ms},
		"over while under way":  {pace, 3 * ms, 5, true, 3 * ms},
		"over before":           {pace, -ms, 5, true, 0},
		"neither slow nor over": {Pace{}, time.Hour, 5, true, 0},
	} {
		var l line
		l.slow(tt.pace, now.Add(tt.until))
		if got := l.takes(tt.bytes, tt.last, now); got != tt.want {
			t.Errorf("%s: got %v, want %v", name, got, tt.want)
		}
	}
}

func TestJitterFollowsFromTheSeed(t *testing.T) {
	t.Parallel()
	now := time.Now()
	draw := func(seed uint64) (all [20]time.Duration) {
		var l line
		l.slow(Pace{Latency: time.Second, Jitter: time.Second, Seed: seed}, now.Add(time.Hour))
		for i := range all {
			if all[i] = l.takes(1, true, now); all[i] < time.Second || all[i] >= 2*time.Second {
				t.Errorf("got %v", all[i])
			}
		}
		return all
	}
	first := draw(7)
	if again := draw(7); again != first {
		t.Error("the same seed gave another jitter")
	}
	if draw(8) == first {
		t.Error("another seed gave the same jitter")
	}
}
