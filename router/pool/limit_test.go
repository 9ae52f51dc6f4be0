package pool

import (
	"testing"
	"time"
)

// model is a cell that works on at most width requests at once, each for work:
// what the answers take when limit are let in.
func model(limit int64, width int64, work time.Duration) time.Duration {
	return work * time.Duration(max(1, (limit+width-1)/width))
}

// tune runs the tuner against the model under more requests than it takes.
func tune(t *tuner, now *time.Duration, windows int, width int64, work time.Duration) {
	for range windows {
		*now += tuneWindow
		t.window(*now, model(int64(t.limit), width, work), true)
	}
}

func TestTheLimitFindsWhatACellServes(t *testing.T) {
	t.Parallel()
	tn, now := newTuner(512, 0), time.Duration(0)
	tune(&tn, &now, 300, 16, 20*time.Millisecond)
	// The least is 32, with which answers take 40 ms; 100 are late.
	if tn.limit < 16 || tn.limit > 6*16 {
		t.Errorf("got a limit of %.0f for a cell that works on 16", tn.limit)
	}
	tune(&tn, &now, 300, 200, 20*time.Millisecond)
	if tn.limit < 200 {
		t.Errorf("got a limit of %.0f for a cell that now works on 200", tn.limit)
	}
}

func TestTheLimitShrinksWithASlowCellAndForgives(t *testing.T) {
	t.Parallel()
	tn, now := newTuner(512, 0), time.Duration(0)
	tune(&tn, &now, 100, 512, 5*time.Millisecond)
	if tn.limit != 512 {
		t.Fatalf("got a limit of %.0f for a cell that works on 512, want all", tn.limit)
	}
	tune(&tn, &now, 10, 512, time.Second)
	if tn.limit != 32 {
		t.Errorf("got a limit of %.0f, want the least, for a cell that is 200 times as slow", tn.limit)
	}
	tune(&tn, &now, int(3*bestPeriod/tuneWindow), 512, time.Second)
	if tn.limit < 256 {
		t.Errorf("got a limit of %.0f for a cell that has been as slow for long, want it forgiven", tn.limit)
	}
}

// TestALimitThatIsNotUsedStays: answers that take long while few are under way
// are work that takes long, until it shows that others wait.
func TestALimitThatIsNotUsedStays(t *testing.T) {
	t.Parallel()
	tn, now := newTuner(512, 0), time.Duration(0)
	for range 50 {
		now += tuneWindow
		tn.window(now, 5*time.Millisecond, false)
	}
	if tn.limit != 128 {
		t.Errorf("got a limit of %.0f, want what it began with", tn.limit)
	}
	tn.restart()
	for range 20 {
		now += tuneWindow
		tn.window(now, 5*time.Millisecond, true)
	}
	if tn.limit != 512 {
		t.Errorf("got a limit of %.0f two seconds after a restart, want all", tn.limit)
	}
}
