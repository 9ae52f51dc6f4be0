package directorytest

import (
	"errors"
	"strings"
	"sync"
	"testing"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/infra/problem"
)

// testPlanned: two plans that were made of one state do not bring two tenants of a
// group together, nor a pinned one anywhere, when both are recorded.
func testPlanned(t *testing.T, s *suite) {
	a := s.resident(t)
	grouped := func(slug string, cell directory.CellID) directory.Tenant {
		return s.create(t, directory.NewTenant{Slug: slug, Cell: cell, Group: "g"})
	}
	b, c, alone := grouped("b", "c1"), grouped("c", "c3"), s.create(t, directory.NewTenant{Slug: "d", Cell: "c1", Group: "h"})
	refuse := func(what, why string, n directory.NewMove) {
		t.Helper()
		for _, n.DryRun = range []bool{true, false} {
			_, err := s.CreateMove(s.ctx, n)
			if !errors.Is(err, problem.Conflict) || !strings.Contains(err.Error(), why) {
				t.Errorf("%s: got %v, want a conflict that says %q", what, err, why)
			}
		}
	}
	pinned := true
	if _, err := s.UpdateTenant(s.ctx, a.ID, directory.Change{Pinned: &pinned}); err != nil {
		t.Fatal(err)
	}
	refuse("a pinned tenant", "pinned to c1", directory.NewMove{Tenant: a.ID, Target: "c2", Planned: true})
	s.begin(t, directory.NewMove{Tenant: a.ID, Target: "c2"}) // by name

	refuse("to one of its group", `group "g"`, directory.NewMove{Tenant: b.ID, Target: "c3", Planned: true})
	first := s.begin(t, directory.NewMove{Tenant: b.ID, Target: "c2", Planned: true})
	if !first.Planned || !s.stored(t, first.ID).Planned {
		t.Errorf("it is not recorded that a plan has asked: %s", text(first))
	}
	refuse("where one of its group is on the way", `group "g"`, directory.NewMove{Tenant: c.ID, Target: "c2", Planned: true})
	s.begin(t, directory.NewMove{Tenant: alone.ID, Target: "c2", Planned: true}) // of another group
	s.begin(t, directory.NewMove{Tenant: c.ID, Target: "c2"})                    // by name
	if got := s.abort(t, s.hold(t, first.ID, "m1")); got.RetriedBy != "" {
		t.Errorf("where one of its group is on the way it is tried again: %s", text(got))
	}
}

// testPlannedRetry: what a plan has asked for stays so when it is tried again, and the
// attempt before is not in its own way.
func testPlannedRetry(t *testing.T, s *suite) {
	s.resident(t)
	b := s.create(t, directory.NewTenant{Slug: "b", Cell: "c1", Group: "g"})
	m := s.begin(t, directory.NewMove{Tenant: b.ID, Target: "c2", Planned: true})
	for range 2 {
		m = s.stored(t, s.abort(t, s.hold(t, m.ID, "m1")).RetriedBy)
		if !m.Planned {
			t.Fatalf("got %s", text(m))
		}
	}
	pinned := true
	if _, err := s.UpdateTenant(s.ctx, b.ID, directory.Change{Pinned: &pinned}); err != nil {
		t.Fatal(err)
	}
	if got := s.abort(t, s.hold(t, m.ID, "m1")); got.RetriedBy != "" {
		t.Errorf("pinned meanwhile, and tried again: %s", text(got))
	}
}

// testRacePlanned: of plans that bring a group to one cell at once one wins.
func testRacePlanned(t *testing.T, s *suite) {
	s.resident(t)
	const n = 8
	errs := make([]error, n)
	var work sync.WaitGroup
	for i := range n {
		k := s.create(t, directory.NewTenant{Slug: "k" + string(rune('a'+i)), Cell: "c1", Group: "g"})
		work.Go(func() {
			_, errs[i] = s.CreateMove(s.ctx, directory.NewMove{Tenant: k.ID, Target: "c2", Planned: true})
		})
	}
	work.Wait()
	won := 0
	for _, err := range errs {
		switch {
		case err == nil:
			won++
		case !errors.Is(err, problem.Conflict):
			t.Errorf("got %v, want a conflict", err)
		}
	}
	if won != 1 {
		t.Errorf("%d of a group of %d go to one cell", won, n)
	}
}
