package directorytest

import (
	"testing"
	"time"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/infra/problem"
)

// testVerify: a watching move is work for a mover while somebody wants its two
// copies compared, and no more once the mover has reported.
func testVerify(t *testing.T, s *suite) {
	a := s.resident(t)
	verify := func(id directory.MoveID) error { _, err := s.AskMove(s.ctx, id, directory.Verify); return err }
	early := s.begin(t, directory.NewMove{Tenant: a.ID, Target: "c2"})
	s.refuseMove(t, "verify what does not watch", problem.Conflict, early.ID, func() error { return verify(early.ID) })
	m := s.take(t, s.hold(t, early.ID, "m1"), directory.Watching)
	if _, err := s.LeaseMove(s.ctx, m.ID, "m1", 0); err != nil {
		t.Fatal(err)
	}
	s.noLease(t, "it waits", problem.NotFound, "", "m2", time.Hour)
	s.expect(t, "verify", 0, 1, func() error { return verify(m.ID) })
	s.expect(t, "verify again", 0, 0, func() error { return verify(m.ID) })

	held, err := s.LeaseMove(s.ctx, "", "m2", time.Hour)
	if err != nil || held.ID != m.ID || held.Wish != directory.Verify {
		t.Fatalf("got %s, %v", text(held), err)
	}
	held.Report = []byte(`{"differ":[]}`)
	s.expect(t, "report", 0, 0, func() error { return s.Advance(s.ctx, held, directory.Watching) })
	if got := s.stored(t, m.ID); got.Wish != directory.Proceed || string(got.Report) != `{"differ":[]}` {
		t.Errorf("reported: got %s", text(got))
	}

	if _, err := s.LeaseMove(s.ctx, m.ID, "m2", 0); err != nil {
		t.Fatal(err)
	}
	s.noLease(t, "the next comparison is not due", problem.NotFound, "", "m3", time.Hour)
	if got := s.stored(t, m.ID); got.Waits(got.NotBefore) || !got.Waits(got.NotBefore.Add(-time.Second)) || got.StopAt != "" || got.WatchEnds.IsZero() {
		t.Errorf("compared: got %s", text(got))
	}
	held = s.hold(t, m.ID, "m2")

	if err := verify(m.ID); err != nil {
		t.Fatal(err)
	}
	if _, err := s.AskMove(s.ctx, m.ID, directory.Complete); err != nil {
		t.Fatalf("complete instead: %v", err)
	}
	if err := s.Advance(s.ctx, held, directory.Watching); err != nil {
		t.Fatal(err)
	}
	if got := s.stored(t, m.ID); got.Wish != directory.Complete {
		t.Errorf("a report takes back what nobody has done: got %s", text(got))
	}
	s.refuseMove(t, "verify what is being purged", problem.Conflict, m.ID, func() error { return verify(m.ID) })
}

// testDiffer: a move whose copies differ waits for its operator.
func testDiffer(t *testing.T, s *suite) {
	a := s.resident(t)
	m := s.take(t, s.hold(t, s.begin(t, directory.NewMove{Tenant: a.ID, Target: "c2"}).ID, "m1"), directory.Watching)
	m.StopAt = directory.Watching
	if err := s.Advance(s.ctx, m, directory.Watching); err != nil {
		t.Fatal(err)
	}
	if got := s.stored(t, m.ID); got.StopAt != directory.Watching || !got.WatchEnds.IsZero() || got.WatchOver(time.Now().Add(365*24*time.Hour)) {
		t.Errorf("the copies differ: got %s", text(got))
	}
	if _, err := s.AskMove(s.ctx, m.ID, directory.Complete); err != nil {
		t.Errorf("complete all the same: %v", err)
	}
}

// testClose: a watch that is to end now is over, and its move work for a mover, which compares
// the copies before it is completed. What stops at Watching for its operator is not closed.
func testClose(t *testing.T, s *suite) {
	a := s.resident(t)
	closes := func(id directory.MoveID) error { _, err := s.AskMove(s.ctx, id, directory.Close); return err }
	early := s.begin(t, directory.NewMove{Tenant: a.ID, Target: "c2"})
	s.refuseMove(t, "close what does not watch", problem.Conflict, early.ID, func() error { return closes(early.ID) })
	m := s.take(t, s.hold(t, early.ID, "m1"), directory.Watching)
	if err := s.RestMove(s.ctx, m, time.Hour); err != nil {
		t.Fatal(err)
	}
	s.expect(t, "close", 0, 1, func() error { return closes(m.ID) })
	if got := s.stored(t, m.ID); got.Wish != directory.Proceed || !got.WatchOver(time.Now()) {
		t.Errorf("closed: got %s", text(got))
	}
	s.expect(t, "close again", 0, 0, func() error { return closes(m.ID) })
	s.refuse(t, "undo what is closed", problem.Conflict, func() error {
		_, err := s.CreateMove(s.ctx, directory.NewMove{Tenant: a.ID, Target: "c1", Undoes: m.ID})
		return err
	})
	held, err := s.LeaseMove(s.ctx, "", "m2", time.Hour)
	if err != nil || held.ID != m.ID {
		t.Fatalf("got %s, %v", text(held), err)
	}
	differ := held
	differ.StopAt = directory.Watching
	if err := s.Advance(s.ctx, differ, directory.Watching); err != nil {
		t.Fatal(err)
	}
	s.refuseMove(t, "close what differs", problem.Conflict, m.ID, func() error { return closes(m.ID) })
	s.expect(t, "complete it all the same", 0, 1, func() error { _, err := s.AskMove(s.ctx, m.ID, directory.Complete); return err })
	s.expect(t, "close what is completed", 0, 0, func() error { return closes(m.ID) })
}

// found is the report of a comparison that has found damage; failed, of one that could not be made.
var (
	found  = []byte(`{"comparison":{"differ":["projects.task"]}}`)
	failed = []byte(`{"comparison":{"failed":"disk full"}}`)
)

// testDifferBeatsComplete: who wishes to complete a move while its copies are compared has
// not heard yet that they differ, also where the move stops at Watching for another reason. Who
// does so afterwards has; and what could not be compared is no damage.
func testDifferBeatsComplete(t *testing.T, s *suite) {
	complete := func(id directory.MoveID) {
		if _, err := s.AskMove(s.ctx, id, directory.Complete); err != nil {
			t.Fatal(err)
		}
	}
	a := s.resident(t)
	for _, stop := range []directory.Phase{"", directory.Watching} {
		if stop != "" {
			a = s.create(t, directory.NewTenant{Slug: "b", Cell: "c1"})
		}
		m := s.take(t, s.hold(t, s.begin(t, directory.NewMove{Tenant: a.ID, Target: "c2", StopAt: stop}).ID, "m1"), directory.Watching)
		report := func(r []byte) {
			m.StopAt, m.Report = directory.Watching, r
			if err := s.Advance(s.ctx, m, directory.Watching); err != nil {
				t.Fatal(err)
			}
		}
		complete(m.ID)
		report(failed)
		if got := s.stored(t, m.ID); got.Wish != directory.Complete || got.StopAt != directory.Watching {
			t.Errorf("stops at %q, the copies could not be compared: got %s", stop, text(got))
		}
		report(found)
		if got := s.stored(t, m.ID); got.Wish != directory.Proceed || got.StopAt != directory.Watching || !got.WatchEnds.IsZero() {
			t.Errorf("stops at %q, the copies differ: got %s", stop, text(got))
		}
		complete(m.ID)
		report(found) // of a comparison that had begun before
		m.Wish = directory.Complete
		report(found) // only why it waits
		if got := s.stored(t, m.ID); got.Wish != directory.Complete {
			t.Errorf("stops at %q, completed all the same: got %s", stop, text(got))
		}
	}
}

// testCompleteSame: who has not heard that the copies differ completes no move of which that was found meanwhile;
// who says so knowing it does.
func testCompleteSame(t *testing.T, s *suite) {
	same := func(id directory.MoveID) func() error {
		return func() error { _, err := s.AskMove(s.ctx, id, directory.CompleteSame); return err }
	}
	a := s.resident(t)
	early := s.begin(t, directory.NewMove{Tenant: a.ID, Target: "c2"})
	s.refuseMove(t, "complete what does not watch", problem.Conflict, early.ID, same(early.ID))
	m := s.take(t, s.hold(t, early.ID, "m1"), directory.Watching)
	report := func(r []byte) {
		m.Report = r
		if err := s.Advance(s.ctx, m, directory.Watching); err != nil {
			t.Fatal(err)
		}
	}
	report(failed)
	report(found)
	s.refuseMove(t, "complete what differs", problem.Conflict, m.ID, same(m.ID))
	if got := s.stored(t, m.ID); got.Wish != directory.Proceed {
		t.Errorf("refused: got %s", text(got))
	}
	s.expect(t, "complete it all the same", 0, 1, func() error { _, err := s.AskMove(s.ctx, m.ID, directory.Complete); return err })
	s.expect(t, "complete what is to be completed", 0, 0, same(m.ID))

	b := s.create(t, directory.NewTenant{Slug: "b", Cell: "c1"})
	m = s.take(t, s.hold(t, s.begin(t, directory.NewMove{Tenant: b.ID, Target: "c2"}).ID, "m1"), directory.Watching)
	report(failed)
	s.expect(t, "complete what is not known to differ", 0, 1, same(m.ID))
	if got := s.stored(t, m.ID); got.Wish != directory.Complete {
		t.Errorf("wished for: got %s", text(got))
	}
}
