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
