package jobs

import (
	"context"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/cellway/cellway/cell/store"
)

// fired are the times of a schedule's jobs, in milliseconds from a start, in order.
func (w *world) fired(t *testing.T, from time.Time) (out []int) {
	t.Helper()
	for _, s := range w.strings(t, `SELECT (extract(epoch FROM due_at - $1) * 1000)::integer::text FROM cell.job ORDER BY due_at`, from) {
		n, err := strconv.Atoi(s)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, n)
	}
	return out
}

func TestASchedulesTimesAreFiredOnceEach(t *testing.T) {
	t.Parallel()
	w := open(t)
	w.admit(t, 1)
	from := time.Now().Truncate(time.Millisecond)
	w.in(t, 1, 1, func(ctx context.Context, tx *store.Tx) error {
		return Plan(ctx, tx, Schedule{Name: "s", Kind: kind, Payload: "tick", Every: 100 * time.Millisecond, First: from})
	})
	for range 3 { // side by side
		start(t, w.runner(t, quick(), noting))
	}
	eventually(t, "ten times", func() bool { return len(w.effects(t, 1)) >= 10 })
	w.in(t, 1, 1, func(ctx context.Context, tx *store.Tx) error { return Unplan(ctx, tx, "s") })
	eventually(t, "the last", func() bool {
		return !slices.Contains(w.states(t, 1), "available") && !slices.Contains(w.states(t, 1), "running")
	})
	times := w.fired(t, from)
	for i, at := range times {
		if at%100 != 0 || i > 0 && at <= times[i-1] {
			t.Errorf("fired at %v", times)
		}
	}
	if n := len(w.effects(t, 1)); n != len(times) {
		t.Errorf("%d effects of %d times", n, len(times))
	}
}

// Times that nobody could act at are made up for by one job, named after the
// first of them, and the schedule keeps step.
func TestMissedTimesAreMadeUpForOnce(t *testing.T) {
	t.Parallel()
	w := open(t)
	w.admit(t, 1)
	from := time.Now().Add(-10*time.Hour - 30*time.Minute).Truncate(time.Millisecond)
	w.in(t, 1, 1, func(ctx context.Context, tx *store.Tx) error {
		return Plan(ctx, tx, Schedule{Name: "s", Kind: kind, Payload: "tick", Every: time.Hour, First: from})
	})
	r := w.runner(t, quick(), noting)
	for range 3 {
		if _, err := r.turn(t.Context(), 1, 1); err != nil {
			t.Fatal(err)
		}
	}
	if got := w.fired(t, from); !slices.Equal(got, []int{0}) {
		t.Errorf("fired at %v, want the first missed time", got)
	}
	next := w.strings(t, `SELECT (extract(epoch FROM next_run - $1) / 3600)::float8::text FROM cell.schedule`, from)
	if !slices.Equal(next, []string{"11"}) {
		t.Errorf("next after %v hours, want 11", next)
	}
}

// A schedule of a kind that nobody knows is left alone; when the kind is known again its
// missed times are made up for once.
func TestASchedulesKindMustBeKnown(t *testing.T) {
	t.Parallel()
	w := open(t)
	w.admit(t, 1)
	from := time.Now().Add(-10*time.Hour - 30*time.Minute).Truncate(time.Millisecond)
	w.in(t, 1, 1, func(ctx context.Context, tx *store.Tx) error {
		return Plan(ctx, tx, Schedule{Name: "s", Kind: "test.gone", Payload: "tick", Every: time.Hour, First: from})
	})
	r := w.runner(t, quick(), noting)
	if more, err := r.turn(t.Context(), 1, 1); more || err != nil {
		t.Errorf("a turn without the kind: %v, %v", more, err)
	}
	if got := w.fired(t, from); len(got) > 0 {
		t.Errorf("fired at %v", got)
	}
	due := func(kinds ...string) []string {
		return w.strings(t, `SELECT tenant_id::text FROM cell.jobs_due($1, 10)`, kinds)
	}
	if without, with := due(kind), due(kind, "test.gone"); len(without) > 0 || !slices.Equal(with, []string{"1"}) {
		t.Errorf("due: %v without the kind, %v with it", without, with)
	}
	r = w.runner(t, quick(), noting, Kind{Name: "test.gone", Handle: effect})
	for range 2 {
		if _, err := r.turn(t.Context(), 1, 1); err != nil {
			t.Fatal(err)
		}
	}
	if got := w.fired(t, from); !slices.Equal(got, []int{0}) {
		t.Errorf("fired at %v, want the first missed time", got)
	}
}

func TestPlanningAgainLeavesTheTimesAlone(t *testing.T) {
	t.Parallel()
	w := open(t)
	w.admit(t, 1)
	plan := func(s Schedule) string {
		t.Helper()
		s.Name, s.Kind, s.Payload = "s", kind, "tick"
		w.in(t, 1, 1, func(ctx context.Context, tx *store.Tx) error { return Plan(ctx, tx, s) })
		return w.strings(t, `SELECT next_run::text FROM cell.schedule`)[0]
	}
	day := plan(Schedule{Every: 24 * time.Hour})
	if again := plan(Schedule{Every: 24 * time.Hour}); again != day {
		t.Errorf("planned again: next was %s, is %s", day, again)
	}
	if week := plan(Schedule{Every: 7 * 24 * time.Hour}); week != day {
		t.Errorf("made rarer: next was %s, is %s", day, week)
	}
	hour := plan(Schedule{Every: time.Hour})
	if hour >= day {
		t.Errorf("made more frequent: next was %s, is %s", day, hour)
	}
	if first := plan(Schedule{Every: time.Hour, First: time.Now().Add(48 * time.Hour)}); first <= day {
		t.Errorf("with another first time: next is %s", first)
	}
	err := w.store.InTenant(t.Context(), 1, 1, func(ctx context.Context, tx *store.Tx) error {
		return Plan(ctx, tx, Schedule{Name: "s", Kind: kind, Every: time.Millisecond})
	})
	if err == nil {
		t.Error("a schedule may be as fast as it likes")
	}
}
