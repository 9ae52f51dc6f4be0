package store_test

import (
	"testing"
	"time"

	"github.com/cellway/cellway/directory"
)

// TestARouterThatStartsAgainHaltsNothing: long after its wave was opened it is without the changes for a moment, until it
// is given them.
func TestARouterThatStartsAgainHaltsNothing(t *testing.T) {
	t.Parallel()
	s, pool := withCell(t)
	ctx := directory.WithActor(t.Context(), "ann")
	poll := func(has directory.Report) *directory.Part {
		t.Helper()
		all, err := s.Snapshot(ctx)
		if err != nil {
			t.Fatal(err)
		}
		u, err := s.Poll(ctx, "r1", all.Version, 0, has)
		if err != nil {
			t.Fatal(err)
		}
		return u.Part
	}
	goesOn := func(when string) {
		t.Helper()
		if r, stepped, err := s.StepRollout(ctx); err != nil || stepped {
			t.Errorf("%s: got %s (%s), %v, want no step", when, r.State, r.Reason, err)
		}
	}
	poll(directory.Report{})
	r, err := s.CreateRollout(ctx, directory.NewRollout{
		Why: "new network", Soak: 24 * time.Hour, Changes: []directory.RolloutChange{{Cell: "c1", Address: "http://new.test"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	has := directory.Report{Rollout: r.ID, Round: r.Round}
	if p := poll(directory.Report{}); p == nil || !p.Is(has) {
		t.Fatalf("its part: got %+v", p)
	}
	poll(has)
	goesOn("served")
	exec(t, pool, `UPDATE directory.rollouts SET opened_at = opened_at - interval '1 hour'`)
	poll(directory.Report{})
	goesOn("started again")
	poll(has)
	goesOn("served again")
}
