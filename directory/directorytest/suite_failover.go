package directorytest

import (
	"testing"
	"time"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/infra/problem"
)

func testWitness(t *testing.T, s *suite) {
	s.add(t, cell("c1"))
	for _, tt := range []struct{ told, want int64 }{{0, 0}, {7, 7}, {3, 7}, {0, 7}, {9, 9}} {
		s.expect(t, "witness", 0, 0, func() error {
			got, err := s.Witness(s.ctx, "c1", "db-c1", tt.told, 0)
			if err == nil && got != (directory.Witnessed{Number: tt.want}) {
				t.Errorf("told %d: got %+v, want %d", tt.told, got, tt.want)
			}
			return err
		})
	}
	s.refuse(t, "other incarnation", problem.Conflict, func() error { _, err := s.Witness(s.ctx, "c1", "db-c2", 10, 0); return err })
	s.refuse(t, "unknown cell", problem.NotFound, func() error { _, err := s.Witness(s.ctx, "c9", "db-c9", 10, 0); return err })
}

// testTenantsThatWereForgotten: their ids are given to nobody else, and no cell makes ids run out.
func testTenantsThatWereForgotten(t *testing.T, s *suite) {
	s.add(t, cell("c1"))
	told := func(tenant directory.TenantID, want directory.Witnessed) {
		t.Helper()
		if got, err := s.Witness(s.ctx, "c1", "db-c1", 0, tenant); err != nil || got != want {
			t.Errorf("tenant %d: got %+v, %v, want %+v", tenant, got, err, want)
		}
	}
	told(1, directory.Witnessed{Raised: true}) // also by a record that has given none
	a := s.create(t, directory.NewTenant{Slug: "a", Cell: "c1"})
	if a.ID <= 1 {
		t.Errorf("got id %d again", a.ID)
	}
	told(a.ID, directory.Witnessed{})
	told(a.ID+directory.FarTenants+1, directory.Witnessed{Refused: true})
	if b := s.create(t, directory.NewTenant{Slug: "b", Cell: "c1"}); b.ID != a.ID+1 {
		t.Errorf("got %d after %d: a cell that is not believed changes nothing", b.ID, a.ID)
	}
	told(a.ID+700, directory.Witnessed{Raised: true})
	told(a.ID+1, directory.Witnessed{})
	if c := s.create(t, directory.NewTenant{Slug: "c", Cell: "c1"}); c.ID <= a.ID+700 {
		t.Errorf("got id %d, want one above %d", c.ID, a.ID+700)
	}
	s.refuse(t, "other incarnation", problem.Conflict, func() error { _, err := s.Witness(s.ctx, "c1", "db-c2", 0, a.ID+9999); return err })

	// Who tells again and again gets no farther than once.
	far := s.create(t, directory.NewTenant{Slug: "d", Cell: "c1"}).ID + directory.FarTenants
	told(far, directory.Witnessed{Raised: true})
	told(far+directory.MarginTenants+1, directory.Witnessed{Refused: true})
}

// testAbortMoves: what is undecided is aborted under the nose of its mover, what
// is decided is left alone, and so is what the cell has nothing to do with.
func testAbortMoves(t *testing.T, s *suite) {
	staying, leaving := s.resident(t), s.create(t, directory.NewTenant{Slug: "leaving", Cell: "c1"})
	held := s.take(t, s.hold(t, s.begin(t, directory.NewMove{Tenant: staying.ID, Target: "c2"}).ID, "m1"), directory.Frozen)
	decided := s.take(t, s.hold(t, s.begin(t, directory.NewMove{Tenant: leaving.ID, Target: "c2"}).ID, "m1"), directory.Decided)
	s.add(t, cell("c7"))
	s.refuse(t, "other incarnation", problem.Conflict, func() error { _, err := s.AbortMoves(s.ctx, "c2", "db-c1", "lost"); return err })

	abort := func(id directory.CellID, want int) func() error {
		return func() error {
			got, err := s.AbortMoves(s.ctx, id, "db-"+string(id), "lost \x00")
			if err == nil && (got.Moves != want || got.Known != leaving.ID) {
				t.Errorf("%s: got %+v, want %d moves aborted and tenant %d the last", id, got, want, leaving.ID)
			}
			return err
		}
	}
	s.expect(t, "a cell without moves", 0, 0, abort("c7", 0))
	s.expect(t, "abort", 1, 2, abort("c2", 1))
	s.expect(t, "again", 0, 0, abort("c2", 0))

	got := s.stored(t, held.ID)
	if got.Phase != directory.Aborting || got.Previous != directory.Frozen || got.Error != "lost ?" || got.Lease != held.Lease+1 || got.Holder != "" || got.Transient {
		t.Errorf("aborted: got %s", text(got))
	}
	want := directory.Placement{Tenant: staying.ID, Cell: "c1", Epoch: held.Base + 2, State: directory.Active}
	wantEqual(t, "the tenant goes back", s.tenant(t, staying.ID).Placement, want)
	s.refuse(t, "its mover goes on", problem.Conflict, func() error { _, err := s.say(held, directory.Decided); return err })
	wantEqual(t, "decided move", s.stored(t, decided.ID), decided)

	next, err := s.LeaseMove(s.ctx, "", "m2", time.Minute)
	if err != nil || next.ID != held.ID {
		t.Fatalf("lease: got %s, %v, want the aborted move", text(next), err)
	}
	if _, err := s.say(next, directory.Aborted); err != nil {
		t.Errorf("end it: %v", err)
	}
}
