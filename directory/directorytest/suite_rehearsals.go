package directorytest

import (
	"encoding/json"
	"errors"
	"testing"
	"time"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/infra/problem"
)

// tried asks for a dry run of a tenant's move to c2.
func (s *suite) tried(t *testing.T, tenant directory.TenantID) directory.Rehearsal {
	t.Helper()
	m, err := s.CreateMove(s.ctx, directory.NewMove{Tenant: tenant, Target: "c2", DryRun: true})
	if err != nil {
		t.Fatalf("dry run: %v", err)
	}
	r, err := s.Rehearsal(s.ctx, m.Rehearsal)
	if err != nil || r.Move.Tenant != tenant || r.Move.Source != "c1" || r.Move.Target != "c2" || r.Move.ID != "" || r.Move.Base != m.Base {
		t.Fatalf("rehearsal: got %+v, %v", r, err)
	}
	return r
}

func testRehearse(t *testing.T, s *suite) {
	a := s.resident(t)
	refuse := func(what string, kind problem.Kind, do func() error) {
		t.Helper()
		s.refuse(t, what, kind, do)
	}
	refuse("lease of nothing", problem.NotFound, func() error { _, err := s.LeaseRehearsal(s.ctx, "", "m1", time.Minute); return err })
	refuse("a rehearsal that is not there", problem.NotFound, func() error { _, err := s.Rehearsal(s.ctx, "rh_0"); return err })
	first, second := s.tried(t, a.ID), s.tried(t, a.ID)
	s.begin(t, directory.NewMove{Tenant: a.ID, Target: "c2"}) // neither is in its way
	one, err := s.LeaseRehearsal(s.ctx, "", "m1", time.Minute)
	if err != nil || one.ID != first.ID || one.Holder != "m1" || one.Lease != 1 {
		t.Fatalf("lease the oldest: got %+v, %v", one, err)
	}
	if r, err := s.Rehearsal(s.ctx, second.ID); err != nil || r.Lease != 0 || r.Busy != 1 {
		t.Errorf("one that waits behind another: got %+v, %v", r, err)
	}
	if two, err := s.LeaseRehearsal(s.ctx, "", "m2", time.Minute); err != nil || two.ID != second.ID || two.Busy != 0 {
		t.Errorf("lease the next: got %+v, %v", two, err)
	}
	if more, err := s.LeaseRehearsal(s.ctx, one.ID, "m1", time.Minute); err != nil || more.Lease != one.Lease {
		t.Errorf("extend a lease: got %+v, %v", more, err)
	}
	refuse("lease of another's", problem.NotFound, func() error { _, err := s.LeaseRehearsal(s.ctx, one.ID, "m2", time.Minute); return err })
	one.Report = json.RawMessage(`["no object"]`)
	refuse("a report that is no object", problem.Invalid, func() error { return s.EndRehearsal(s.ctx, one) })
	one.Report = json.RawMessage(`{"steps":[]}`)
	for range 2 { // the answer may have been lost
		if err := s.EndRehearsal(s.ctx, one); err != nil {
			t.Fatalf("end a rehearsal: %v", err)
		}
	}
	over, err := s.Rehearsal(s.ctx, one.ID)
	if err != nil || string(over.Report) != `{"steps":[]}` || over.Ended.IsZero() || over.Busy != 0 || over.Holder != "" {
		t.Errorf("after its end: got %+v, %v", over, err)
	}
	refuse("lease of one that has ended", problem.NotFound, func() error { _, err := s.LeaseRehearsal(s.ctx, one.ID, "m1", time.Minute); return err })
	moves, err := s.ListMoves(s.ctx, 0, true, "", 10)
	if err != nil || len(moves) != 1 {
		t.Errorf("moves: got %v, %v, want the one that was made", moves, err)
	}
}

// testRehearseStolen has a mover report after another one has taken over.
func testRehearseStolen(t *testing.T, s *suite) {
	a := s.resident(t)
	s.tried(t, a.ID)
	late, err := s.LeaseRehearsal(s.ctx, "", "m1", time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	for busy := 1; busy != 0; { // until nobody has it any more
		r, err := s.Rehearsal(s.ctx, late.ID)
		if err != nil {
			t.Fatal(err)
		}
		busy = r.Busy
	}
	heir, err := s.LeaseRehearsal(s.ctx, "", "m2", time.Minute)
	for err != nil && s.ctx.Err() == nil { // until the lease is over
		heir, err = s.LeaseRehearsal(s.ctx, "", "m2", time.Minute)
	}
	if heir.Lease != late.Lease+1 {
		t.Errorf("the heir's lease: got %d after %d", heir.Lease, late.Lease)
	}
	late.Report = json.RawMessage(`{}`)
	s.refuse(t, "a late report", problem.Conflict, func() error { return s.EndRehearsal(s.ctx, late) })
}

// testRehearseMany asks for more dry runs than there may be, until one is over.
func testRehearseMany(t *testing.T, s *suite) {
	a := s.resident(t)
	ask := directory.NewMove{Tenant: a.ID, Target: "c2", DryRun: true}
	for range directory.RehearsalsOpen {
		if _, err := s.CreateMove(s.ctx, ask); err != nil {
			t.Fatalf("dry run: %v", err)
		}
	}
	s.refuse(t, "one too many", problem.RateLimited, func() error {
		_, err := s.CreateMove(s.ctx, ask)
		if e, ok := errors.AsType[*problem.Error](err); !ok || e.RetryAfter <= 0 {
			t.Errorf("one too many: %+v does not say when to come back", err)
		}
		return err
	})
	one, err := s.LeaseRehearsal(s.ctx, "", "m1", time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	s.refuse(t, "while a mover has one", problem.RateLimited, func() error { _, err := s.CreateMove(s.ctx, ask); return err })
	one.Report = json.RawMessage(`{}`)
	if err := s.EndRehearsal(s.ctx, one); err != nil {
		t.Fatal(err)
	}
	s.tried(t, a.ID)
}
