package pool

import "time"

// A tuner finds how many requests a cell serves at once without making them
// wait for each other. It knows no clock and no lock: every window of requests
// it is told how long their answers took, and it gives the limit for the next.
//
// The limit grows while it is used up and answers take about as long as the
// best window lately, and shrinks by as much as they take longer. The best is
// forgotten after a while, so that a cell whose work has become slower for good
// is not punished for its past; and where the limit had to shrink, few requests
// are let in for a moment then, so that the new best is not that of a crowd.
type tuner struct {
	least, most int64
	limit       float64
	rising      bool // doubles each window, until the cell first shows that it is enough

	best, before time.Duration // of this period and of the one before; 0: no window yet
	turned       time.Duration // when this period began
	shrank       bool          // in this period

	kept   float64 // the limit before few were let in; 0: they are not
	passed int     // windows since
}

const (
	tuneWindow  = 100 * time.Millisecond // at least, and
	tuneSamples = 10                     // at least
	bestPeriod  = 15 * time.Second

	// An answer is late at tolerance times the best and slack more: under slack a
	// machine's own noise would do the tuning.
	tolerance = 2
	slack     = 20 * time.Millisecond

	shrinkMost = 0.5 // of the limit, in one window
)

// newTuner starts at a quarter of most, where the cell shows what it can do
// before much waits in it, and never goes under least (0: a sixteenth): a limit that wrong
// measurements could bring to nothing would be an outage of our own making.
func newTuner(most, least int) tuner {
	t := tuner{least: max(1, int64(most)/16, min(int64(least), int64(most))), most: int64(most), rising: true}
	t.limit = float64(max(t.least, int64(most)/4, min(16, int64(most))))
	return t
}

// restart goes back to a sixteenth, also where that is under the least: the cell was away and is cold.
func (t *tuner) restart() {
	t.limit, t.rising, t.kept = float64(max(1, t.most/16)), true, 0
}

// window is told the mean of the time that answers took, at now since whenever,
// and whether the limit was used up meanwhile. It gives the new limit.
func (t *tuner) window(now, mean time.Duration, full bool) int64 {
	late := tolerance*t.floor(now, mean) + slack
	switch {
	case t.kept > 0:
		t.look()
	case t.turned == now && t.shrank:
		t.shrank, t.kept, t.passed = false, t.limit, 0
		t.limit = float64(t.least)
	case mean > late:
		t.rising, t.shrank = false, true
		t.limit *= max(shrinkMost, float64(late)/float64(mean))
	case full && t.rising:
		t.limit *= 2
	case full:
		t.limit += max(1, t.limit/16)
	}
	t.limit = min(max(t.limit, float64(t.least)), float64(t.most))
	return int64(t.limit)
}

// look ends the moment in which few are let in: in its first window the crowd
// goes, the second shows how long answers take without one.
func (t *tuner) look() {
	if t.passed++; t.passed == 2 {
		t.limit, t.kept = t.kept, 0
	}
}

// floor is the best window of this period and the last, mean among them.
func (t *tuner) floor(now, mean time.Duration) time.Duration {
	if t.best == 0 || now-t.turned >= bestPeriod {
		t.before, t.best, t.turned = t.best, mean, now
	}
	t.best = min(t.best, mean)
	if t.before == 0 {
		return t.best
	}
	return min(t.best, t.before)
}
