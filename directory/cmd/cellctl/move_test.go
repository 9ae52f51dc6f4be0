package main

import (
	"testing"
	"time"
)

func TestVerified(t *testing.T) {
	t.Parallel()
	now := time.Now()
	ago := func(d time.Duration) time.Time { return now.Add(-d) }
	for want, p := range map[string]progress{
		"":           {},
		"3h":         {Verified: ago(3 * time.Hour)},
		"stale, 30h": {Verified: ago(30 * time.Hour)},
		"60m":        {Verified: ago(30 * time.Hour), Compared: ago(time.Hour)},
		"stale, 47h": {Verified: ago(47 * time.Hour), Compared: ago(time.Hour), Comparison: compared{Failed: "no answer"}},
		"DIFFERS":    {Verified: ago(time.Hour), Compared: ago(time.Minute), Comparison: compared{Differ: []string{"projects.task"}}},
	} {
		if got := verified(now, p); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}
