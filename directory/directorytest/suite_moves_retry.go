package directorytest

import (
	"testing"
	"time"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/infra/problem"
)

// abort ends a leased move by a bound, and returns it as it is stored.
func (s *suite) abort(t *testing.T, m directory.Move) directory.Move {
	t.Helper()
	m.Transient, m.Error = true, "the pause was too long"
	for _, p := range []directory.Phase{directory.Aborting, directory.Aborted} {
		var err error
		if m, err = s.say(m, p); err != nil {
			t.Fatalf("advance to %s: %v", p, err)
		}
	}
	return s.stored(t, m.ID)
}

// testRetry: a move that a bound has aborted is tried again, later and later, by
// a move of its own, until its attempts are used up.
func testRetry(t *testing.T, s *suite) {
	a := s.resident(t)
	m := s.begin(t, directory.NewMove{Tenant: a.ID, Target: "c2", Attempts: 3, Watch: time.Hour, StopAt: directory.CaughtUp})
	if m.Attempt != 1 || m.Attempts != 3 {
		t.Fatalf("first attempt: got %s", text(m))
	}
	if _, err := s.AskMove(s.ctx, m.ID, directory.Switch); err != nil {
		t.Fatal(err)
	}
	var wait time.Duration
	for attempt := 1; ; attempt++ {
		m = s.abort(t, s.take(t, s.hold(t, m.ID, "m1"), directory.Frozen))
		if attempt == 3 {
			break
		}
		next := s.stored(t, m.RetriedBy)
		if !m.Transient || next.Retries != m.ID || next.Attempt != attempt+1 || next.Attempts != 3 {
			t.Fatalf("attempt %d is tried again by %s", attempt, text(next))
		}
		if next.Phase != directory.Planned || next.Base != m.Base+2 || next.Source != "c1" || next.Target != "c2" ||
			next.Watch != time.Hour || next.StopAt != directory.CaughtUp || next.Wish != directory.Switch || next.Report != nil {
			t.Errorf("it is not the same move over again: %s", text(next))
		}
		later := next.NotBefore.Sub(next.Created)
		if later <= wait || !next.Waits(next.Created) || next.Waits(next.NotBefore) {
			t.Errorf("attempt %d waits for %v, the one before for %v", next.Attempt, later, wait)
		}
		s.noLease(t, "it is not time yet", problem.NotFound, "", "m2", time.Hour)
		m, wait = next, later
	}
	if m.RetriedBy != "" || m.Attempt != 3 {
		t.Errorf("the last attempt: got %s", text(m))
	}
	if open, err := s.ListMoves(s.ctx, a.ID, false, "", 10); err != nil || len(open) > 0 {
		t.Errorf("after the last attempt: got %v, %v", open, err)
	}
}

// testRetryCancelled: who cancels a move means the attempts that would follow, too.
func testRetryCancelled(t *testing.T, s *suite) {
	a := s.resident(t)
	m := s.hold(t, s.begin(t, directory.NewMove{Tenant: a.ID, Target: "c2"}).ID, "m1")
	m.Transient = true
	m, err := s.say(m, directory.Aborting)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.AskMove(s.ctx, m.ID, directory.Cancel); err != nil {
		t.Fatalf("cancel what is being aborted: %v", err)
	}
	if _, err := s.say(m, directory.Aborted); err != nil {
		t.Fatal(err)
	}
	if got := s.stored(t, m.ID); got.RetriedBy != "" {
		t.Errorf("cancelled and tried again: %s", text(got))
	}
	if _, err := s.AskMove(s.ctx, m.ID, directory.Cancel); err != nil {
		t.Errorf("cancel it again: %v", err)
	}

	m = s.abort(t, s.hold(t, s.begin(t, directory.NewMove{Tenant: a.ID, Target: "c2"}).ID, "m1"))
	s.refuseMove(t, "cancel what is tried again", problem.Conflict, m.ID, func() error {
		_, err := s.AskMove(s.ctx, m.ID, directory.Cancel)
		return err
	})
	next, err := s.AskMove(s.ctx, m.RetriedBy, directory.Cancel)
	if err != nil || next.Waits(next.Created) {
		t.Fatalf("cancel the next attempt: got %s, %v", text(next), err)
	}
	if got, err := s.LeaseMove(s.ctx, "", "m1", time.Hour); err != nil || got.ID != next.ID {
		t.Errorf("to abort it a mover need not wait: got %s, %v", text(got), err)
	}
}

// testRetryUndo: an undo is tried again too, and the watch over the first move
// goes on meanwhile.
func testRetryUndo(t *testing.T, s *suite) {
	a := s.resident(t)
	m := s.watched(t, a, 0)
	u := s.abort(t, s.hold(t, s.begin(t, directory.NewMove{Tenant: a.ID, Target: "c1", Undoes: m.ID}).ID, "m1"))
	again := s.stored(t, u.RetriedBy)
	if again.Undoes != m.ID || s.stored(t, m.ID).UndoneBy != again.ID {
		t.Fatalf("got %s, which undoes %s", text(again), text(s.stored(t, m.ID)))
	}
	s.take(t, s.hold(t, again.ID, "m1"), directory.Watching)
	if got := s.stored(t, m.ID); got.Phase != directory.Undone || got.UndoneBy != again.ID {
		t.Errorf("undone: got %s", text(got))
	}
}

// testRetryRefused: what CreateMove would refuse is not tried again, and neither is
// what was aborted for a reason that stays.
func testRetryRefused(t *testing.T, s *suite) {
	a := s.resident(t)
	m := s.hold(t, s.begin(t, directory.NewMove{Tenant: a.ID, Target: "c2"}).ID, "m1")
	if _, err := s.SetCellState(s.ctx, "c2", directory.Cordoned); err != nil {
		t.Fatal(err)
	}
	if got := s.abort(t, m); got.RetriedBy != "" {
		t.Errorf("to a cordoned cell: got %s", text(got))
	}
	m = s.hold(t, s.begin(t, directory.NewMove{Tenant: a.ID, Target: "c3"}).ID, "m1")
	m, err := s.say(m, directory.Aborting)
	if err != nil {
		t.Fatal(err)
	}
	m.Transient = true // too late: the reason is recorded with the decision
	if _, err := s.say(m, directory.Aborted); err != nil {
		t.Fatal(err)
	}
	if got := s.stored(t, m.ID); got.RetriedBy != "" || got.Transient {
		t.Errorf("aborted for good: got %s", text(got))
	}
}
