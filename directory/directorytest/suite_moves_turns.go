package directorytest

import (
	"testing"
	"time"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/infra/problem"
)

// testLeaseMoveTurns: whoever looks for work is given what a tenant waits for first, in every phase in
// which it may, then an undo, then what somebody asks for by name, however old the moves of a plan are.
func testLeaseMoveTurns(t *testing.T, s *suite) {
	s.resident(t)
	begin := func(slug string, n directory.NewMove) directory.Move {
		t.Helper()
		n.Tenant = s.create(t, directory.NewTenant{Slug: slug, Cell: "c1"}).ID
		n.Target = "c2"
		return s.begin(t, n)
	}
	free := func(m directory.Move) directory.Move {
		t.Helper()
		if _, err := s.LeaseMove(s.ctx, m.ID, "m1", 0); err != nil {
			t.Fatal(err)
		}
		return s.stored(t, m.ID)
	}
	undone := s.take(t, s.hold(t, begin("undone", directory.NewMove{}).ID, "m1"), directory.Watching)
	free(undone)
	planned := begin("planned", directory.NewMove{Planned: true})
	named := begin("named", directory.NewMove{})
	undo := s.begin(t, directory.NewMove{Tenant: undone.Tenant, Target: "c1", Undoes: undone.ID})
	s.noLease(t, "where no tenant waits", problem.NotFound, directory.InPause, "m2", time.Hour)

	want := []directory.MoveID{}
	for _, p := range []directory.Phase{directory.Frozen, directory.Staged, directory.Decided} {
		m := begin("in-"+string(p), directory.NewMove{Planned: true})
		free(s.take(t, s.hold(t, m.ID, "m1"), p))
		want = append(want, m.ID)
	}
	for _, p := range []directory.Phase{directory.Armed, directory.Frozen, directory.Staged} {
		m := s.take(t, s.hold(t, begin("aborts-"+string(p), directory.NewMove{Planned: true}).ID, "m1"), p)
		m.Previous = p
		if _, err := s.say(m, directory.Aborting); err != nil {
			t.Fatal(err)
		}
		free(m)
		want = append(want, m.ID)
	}
	for i, id := range append(want, undo.ID, named.ID, planned.ID) {
		as := directory.MoveID("")
		if i%2 == 0 && i < len(want) {
			as = directory.InPause
		}
		if i == len(want) {
			s.noLease(t, "where no free move's tenant waits", problem.NotFound, directory.InPause, "m2", time.Hour)
		}
		before := s.stored(t, id)
		if before.Turn() > 0 == (i < len(want)) {
			t.Errorf("%s: got turn %d", before.Phase, before.Turn())
		}
		if got := s.hold(t, as, "m2"); got.ID != id || got.Lease != before.Lease+1 {
			t.Errorf("turn %d: got %s (%s), want %s (%s)", i, got.ID, got.Phase, id, before.Phase)
		}
	}
}
