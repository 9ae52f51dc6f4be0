package directorytest

import (
	"testing"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/infra/problem"
)

// testSwitchMove: a move that waited, caught up, is let go on only if it could begin
// now. It stays as it is where it could not, and goes on when it can.
func testSwitchMove(t *testing.T, s *suite) {
	a := s.resident(t)
	m := s.take(t, s.hold(t, s.begin(t, directory.NewMove{Tenant: a.ID, Target: "c2", StopAt: directory.CaughtUp}).ID, "m1"), directory.CaughtUp)
	ask := func() error { _, err := s.AskMove(s.ctx, m.ID, directory.Switch); return err }
	cell := func(to directory.CellState) {
		t.Helper()
		if _, err := s.SetCellState(s.ctx, "c2", to); err != nil {
			t.Fatal(err)
		}
	}
	suspend := func(is bool) {
		t.Helper()
		if _, err := s.UpdateTenant(s.ctx, a.ID, directory.Change{Suspended: &is}); err != nil {
			t.Fatal(err)
		}
	}
	cell(directory.Cordoned)
	s.refuseMove(t, "to a cordoned cell", problem.Conflict, m.ID, ask)
	cell(directory.Ready)
	suspend(true)
	s.refuseMove(t, "of a suspended tenant", problem.Conflict, m.ID, ask)
	suspend(false)
	s.expect(t, "when it may", 0, 1, ask)
	cell(directory.Cordoned)
	s.expect(t, "asked already", 0, 0, ask)
}

// testBeginMove: a move that has waited its turn, as the many of a drain do, begins only if it could be made now. Where it
// could not, it is its mover's still, who aborts it.
func testBeginMove(t *testing.T, s *suite) {
	a := s.resident(t)
	m := s.hold(t, s.begin(t, directory.NewMove{Tenant: a.ID, Target: "c2"}).ID, "m1")
	reserved := func() error { _, err := s.say(m, directory.Reserved); return err }
	refuse := func(what string) {
		t.Helper()
		s.refuseMove(t, what, problem.Conflict, m.ID, func() error {
			err := reserved()
			if !directory.TurnedAway(err) {
				t.Errorf("%s: %v is no word that the move may not begin", what, err)
			}
			return err
		})
	}
	cell2 := func(state directory.CellState, change func(c *directory.Cell)) {
		t.Helper()
		c := cell("c2")
		change(&c)
		s.add(t, c)
		if _, err := s.SetCellState(s.ctx, "c2", state); err != nil {
			t.Fatal(err)
		}
	}
	same := func(*directory.Cell) {}
	cell2(directory.Cordoned, same)
	refuse("to a cordoned cell")
	cell2(directory.Draining, same)
	refuse("to one that is drained")
	cell2(directory.Ready, func(c *directory.Cell) { c.Capacity = 1 })
	b := s.create(t, directory.NewTenant{Slug: "b", Cell: "c3"})
	if err := s.Place(s.ctx, directory.Placement{Tenant: b.ID, Cell: "c2", Epoch: 2, State: directory.Active}); err != nil {
		t.Fatal(err)
	}
	refuse("to a full cell")
	cell2(directory.Ready, same)
	s.expect(t, "when it may", 0, 1, reserved)
	cell2(directory.Cordoned, same)
	s.expect(t, "begun already", 0, 0, reserved)

	cell2(directory.Ready, same)
	m = s.hold(t, s.begin(t, directory.NewMove{Tenant: b.ID, Target: "c1"}).ID, "m1")
	if _, err := s.SetCellState(s.ctx, "c1", directory.Cordoned); err != nil {
		t.Fatal(err)
	}
	s.expect(t, "abort what may not begin", 1, 2, func() error { _, err := s.say(m, directory.Aborting); return err })
}
