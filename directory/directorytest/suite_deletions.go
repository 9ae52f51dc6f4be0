package directorytest

import (
	"testing"
	"time"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/infra/problem"
)

// deletions is what waits for a cell, "" being every one, without the times.
func (s *suite) deletions(t *testing.T, cell directory.CellID) []directory.Deletion {
	t.Helper()
	list, err := s.ListDeletions(s.ctx, cell, 0, 1000)
	if err != nil {
		t.Fatalf("deletions of %q: %v", cell, err)
	}
	for i := range list {
		list[i].DeletedAt, list[i].PurgeAt = time.Time{}, time.Time{}
	}
	return list
}

func (s *suite) tell(cell directory.CellID, t directory.TenantID, e directory.Epoch, purged bool) func() error {
	return func() error { return s.TellDeletion(s.ctx, cell, "db-"+string(cell), t, e, purged) }
}

// testDeletions: a cell hears of its tenants' deletions, and of no others, until it
// has purged them.
func testDeletions(t *testing.T, s *suite) {
	s.add(t, cell("c1"))
	s.add(t, cell("c2"))
	stays := s.create(t, directory.NewTenant{Slug: "stays", Cell: "c1"})
	gone := s.create(t, directory.NewTenant{Slug: "gone", Cell: "c1"})
	other := s.create(t, directory.NewTenant{Slug: "other", Cell: "c2"})
	wantEqual(t, "before", s.deletions(t, ""), []directory.Deletion{})
	for _, id := range []directory.TenantID{gone.ID, other.ID} {
		if err := s.DeleteTenant(s.ctx, id); err != nil {
			t.Fatal(err)
		}
	}
	want := directory.Deletion{Tenant: gone.ID, Slug: "gone", Epoch: 2, Cells: []directory.CellID{"c1"}}
	wantEqual(t, "of c1", s.deletions(t, "c1"), []directory.Deletion{want})
	wantEqual(t, "of all", len(s.deletions(t, "")), 2)
	for after, n := range map[directory.TenantID]int{0: 1, gone.ID: 1, other.ID: 0} {
		page, err := s.ListDeletions(s.ctx, "", after, 1)
		if err != nil || len(page) != n {
			t.Errorf("page after %d: got %s, %v, want %d", after, text(page), err, n)
		}
	}
	_, err := s.ListDeletions(s.ctx, "", 0, 0)
	wantKind(t, "limit 0", err, problem.Invalid)
	full, err := s.ListDeletions(s.ctx, "c1", 0, 10)
	if err != nil || full[0].PurgeAt.Sub(full[0].DeletedAt) != directory.DefaultGrace {
		t.Errorf("grace: got %s, %v, want %s", text(full), err, directory.DefaultGrace)
	}

	hurry := func(id directory.TenantID) func() error {
		return func() error { return s.HurryDeletion(s.ctx, id) }
	}
	s.refuse(t, "hurry who is there", problem.Conflict, hurry(stays.ID))
	s.refuse(t, "hurry nobody", problem.NotFound, hurry(999999))
	s.expect(t, "hurry", 0, 1, hurry(gone.ID))
	s.expect(t, "hurry again", 0, 0, hurry(gone.ID))
	want.Due, want.Hurried = true, true
	wantEqual(t, "hurried", s.deletions(t, "c1"), []directory.Deletion{want})

	s.refuse(t, "purged at an older epoch", problem.Conflict, s.tell("c1", gone.ID, 1, true))
	s.refuse(t, "a cell that never had it", problem.NotFound, s.tell("c2", gone.ID, 2, true))
	s.refuse(t, "a tenant that is there", problem.NotFound, s.tell("c1", stays.ID, 2, false))
	s.refuse(t, "a tenant that nobody knows", problem.NotFound, s.tell("c1", 999999, 2, false))
	s.refuse(t, "unknown cell", problem.NotFound, s.tell("c9", gone.ID, 2, true))
	s.refuse(t, "another database", problem.Conflict, func() error {
		return s.TellDeletion(s.ctx, "c1", "db-c2", gone.ID, 2, true)
	})
	s.expect(t, "it is held", 0, 0, s.tell("c1", gone.ID, 2, false))
	s.expect(t, "purged", 0, 1, s.tell("c1", gone.ID, 2, true))
	s.expect(t, "purged again", 0, 0, s.tell("c1", gone.ID, 2, true))
	wantEqual(t, "after the purge", s.deletions(t, "c1"), []directory.Deletion{})

	// A backup was restored, with a fence that has seen more than this record has.
	s.expect(t, "it is held again", 0, 1, s.tell("c1", gone.ID, 5, false))
	want.Epoch = 5
	wantEqual(t, "held again", s.deletions(t, "c1"), []directory.Deletion{want})
	s.refuse(t, "purged at what was the epoch", problem.Conflict, s.tell("c1", gone.ID, 2, true))
	s.expect(t, "purged", 0, 1, s.tell("c1", gone.ID, 5, true))
	wantEqual(t, "the placement", s.tenant(t, gone.ID).Placement, directory.Placement{Tenant: gone.ID, Cell: "c1", Epoch: 2, State: directory.Deleted})
}

// testDeleteWatched: both copies of a tenant whose move watches are purged, and the
// move has ended.
func testDeleteWatched(t *testing.T, s *suite) {
	a := s.resident(t)
	m := s.watched(t, a, 0)
	s.expect(t, "delete", 1, 2, func() error { return s.DeleteTenant(s.ctx, a.ID) })
	got := s.stored(t, m.ID)
	if got.Phase != directory.Completed || got.Previous != directory.Watching || got.Holder != "" || got.Error == "" {
		t.Errorf("the move: got %s, want it completed", text(got))
	}
	s.refuseMove(t, "its mover goes on", problem.Conflict, m.ID, func() error { return s.Advance(s.ctx, m, directory.Watching) })
	want := directory.Deletion{Tenant: a.ID, Slug: a.Slug, Epoch: 3, Cells: []directory.CellID{"c1", "c2"}}
	for _, id := range []directory.CellID{"c1", "c2"} {
		wantEqual(t, "of "+string(id), s.deletions(t, id), []directory.Deletion{want})
	}
	s.expect(t, "c2 purged", 0, 1, s.tell("c2", a.ID, 3, true))
	want.Cells = want.Cells[:1]
	wantEqual(t, "of c1", s.deletions(t, "c1"), []directory.Deletion{want})

	if _, err := s.SetCellState(s.ctx, "c1", directory.Cordoned); err != nil {
		t.Fatal(err)
	}
	if err := s.RemoveCell(s.ctx, "c1", false); err != nil {
		t.Fatalf("remove a cell with something to purge: %v", err)
	}
	wantEqual(t, "of all, without c1", s.deletions(t, ""), []directory.Deletion{})

	// Its process runs on, and its schedules are to stop, if it was not lost after all.
	want.Cells = []directory.CellID{}
	wantEqual(t, "of c1, which is retired", s.deletions(t, "c1"), []directory.Deletion{want})
	s.expect(t, "it has something", 0, 0, s.tell("c1", a.ID, 3, false))
	wantEqual(t, "of all, when c1 was heard", s.deletions(t, ""), []directory.Deletion{})
	s.expect(t, "c1 purged", 0, 1, s.tell("c1", a.ID, 3, true))
	wantEqual(t, "of c1, which has purged", s.deletions(t, "c1"), []directory.Deletion{})
	s.expect(t, "its backup has something", 0, 1, s.tell("c1", a.ID, 3, false))
	wantEqual(t, "of all, when c1 was restored", s.deletions(t, ""), []directory.Deletion{})
}

// testDeletionRaised: who keeps a copy for the deletion says at which epoch; a cell where a
// move once led cannot take back what others are to purge.
func testDeletionRaised(t *testing.T, s *suite) {
	a := s.resident(t)
	s.take(t, s.hold(t, s.begin(t, directory.NewMove{Tenant: a.ID, Target: "c2"}).ID, "m1"), directory.Armed)
	if _, err := s.AbortMoves(s.ctx, "c2", "db-c2", "lost"); err != nil {
		t.Fatal(err)
	}
	m, err := s.LeaseMove(s.ctx, "", "m2", time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.say(m, directory.Aborted); err != nil {
		t.Fatal(err)
	}
	s.expect(t, "delete", 1, 1, func() error { return s.DeleteTenant(s.ctx, a.ID) })
	want := directory.Deletion{Tenant: a.ID, Slug: a.Slug, Epoch: 4, Cells: []directory.CellID{"c1"}}
	for range 2 {
		s.refuse(t, "the target raises it", problem.NotFound, s.tell("c2", a.ID, 9, false))
		wantEqual(t, "of all", s.deletions(t, ""), []directory.Deletion{want})
		s.expect(t, "the target has something", 0, 1, s.tell("c2", a.ID, 4, false))
		want.Cells = []directory.CellID{"c1", "c2"}
		wantEqual(t, "of all", s.deletions(t, ""), []directory.Deletion{want})
		s.refuse(t, "the target raises it, listed", problem.NotFound, s.tell("c2", a.ID, 9, false))
		s.expect(t, "the target purged", 0, 1, s.tell("c2", a.ID, 4, true))
		want.Cells = []directory.CellID{"c1"}
	}
	s.expect(t, "the owner raises it", 0, 1, s.tell("c1", a.ID, 9, false))
	want.Epoch = 9
	wantEqual(t, "of c1", s.deletions(t, "c1"), []directory.Deletion{want})
	s.expect(t, "purged", 0, 1, s.tell("c1", a.ID, 9, true))
	s.expect(t, "the owner, restored, raises it", 0, 1, s.tell("c1", a.ID, 10, false))
}
