package directorytest

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/infra/problem"
)

// noLease asks for a lease that must not be there.
func (s *suite) noLease(t *testing.T, what string, kind problem.Kind, id directory.MoveID, holder string, ttl time.Duration) {
	t.Helper()
	got, err := s.LeaseMove(s.ctx, id, holder, ttl)
	if !errors.Is(err, kind) {
		t.Errorf("%s: got %+v, %v, want kind %s", what, got, err, kind)
	}
}

func testLeaseMove(t *testing.T, s *suite) {
	a := s.resident(t)
	m := s.begin(t, directory.NewMove{Tenant: a.ID, Target: "c2"})
	var first directory.Move
	s.expect(t, "take", 0, 0, func() (err error) { first, err = s.LeaseMove(s.ctx, m.ID, "m1", time.Hour); return err })
	want := m
	want.Lease, want.Holder, want.Leased = 1, "m1", first.Leased
	wantEqual(t, "leased move", first, want)
	wantEqual(t, "stored move", s.stored(t, m.ID), want)
	if left := time.Until(first.Leased); left < 30*time.Minute || left > 90*time.Minute {
		t.Errorf("leased for an hour: got until %v, in %v", first.Leased, left)
	}
	s.noLease(t, "what another holds", problem.NotFound, m.ID, "m2", time.Hour)
	s.noLease(t, "what another holds, by no id", problem.NotFound, "", "m2", time.Hour)
	s.noLease(t, "what it holds itself, by no id", problem.NotFound, "", "m1", time.Hour)
	s.noLease(t, "give back what another holds", problem.NotFound, m.ID, "m2", 0)

	longer := s.hold(t, m.ID, "m1")
	if longer.Lease != first.Lease || longer.Leased.Before(first.Leased) {
		t.Errorf("extended: got lease %d until %v, want %d until after %v", longer.Lease, longer.Leased, first.Lease, first.Leased)
	}
	given, err := s.LeaseMove(s.ctx, m.ID, "m1", 0)
	if err != nil || given.Holder != "" || !given.Leased.IsZero() || given.Lease != 1 {
		t.Errorf("given back: got %+v, %v", given, err)
	}
	s.noLease(t, "give back twice", problem.NotFound, m.ID, "m1", 0)
	if again := s.hold(t, m.ID, "m1"); again.Lease != 2 {
		t.Errorf("taken by the same holder after it was given back: got lease %d, want 2", again.Lease)
	}

	s.noLease(t, "unknown move", problem.NotFound, "mv_none", "m1", time.Hour)
	s.noLease(t, "nobody", problem.Invalid, m.ID, "", time.Hour)
	s.noLease(t, "a long name", problem.Invalid, m.ID, strings.Repeat("x", 101), time.Hour)
	s.noLease(t, "a negative time", problem.Invalid, m.ID, "m1", -time.Second)
	s.noLease(t, "a long time", problem.Invalid, m.ID, "m1", 25*time.Hour)
	s.noLease(t, "give back any", problem.Invalid, "", "m1", 0)
	s.noLease(t, "give back any in its pause", problem.Invalid, directory.InPause, "m1", 0)
}

func testLeaseAnyMove(t *testing.T, s *suite) {
	s.resident(t)
	s.noLease(t, "of no moves", problem.NotFound, "", "m1", time.Hour)
	var made []directory.MoveID
	for i := range 4 {
		one := s.create(t, directory.NewTenant{Slug: fmt.Sprint("t", i), Cell: "c1"})
		made = append(made, s.begin(t, directory.NewMove{Tenant: one.ID, Target: "c2"}).ID)
	}
	s.hold(t, made[1], "other")
	for _, want := range []directory.MoveID{made[0], made[2], made[3]} {
		if got := s.hold(t, "", "m1"); got.ID != want || got.Lease != 1 {
			t.Errorf("the oldest that is free: got %s with lease %d, want %s with 1", got.ID, got.Lease, want)
		}
	}
	s.noLease(t, "of moves that are all held", problem.NotFound, "", "m1", time.Hour)
	m := s.stored(t, made[0])
	for _, p := range []directory.Phase{directory.Aborting, directory.Aborted} {
		var err error
		if m, err = s.say(m, p); err != nil {
			t.Fatal(err)
		}
	}
	s.noLease(t, "extend what has ended", problem.NotFound, m.ID, "m1", time.Hour)
	if _, err := s.LeaseMove(s.ctx, m.ID, "m1", 0); err != nil {
		t.Errorf("give back what has ended: %v", err)
	}
	s.noLease(t, "take what has ended", problem.NotFound, m.ID, "m1", time.Hour)
	s.noLease(t, "take what has ended, by no id", problem.NotFound, "", "m1", time.Hour)
}

// steal takes a move, "" any, as soon as its lease has run out.
func (s *suite) steal(t *testing.T, id directory.MoveID, holder string) directory.Move {
	t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for {
		m, err := s.LeaseMove(s.ctx, id, holder, time.Hour)
		if err == nil {
			return m
		}
		if !errors.Is(err, problem.NotFound) {
			t.Fatalf("steal move %q: %v", id, err)
		}
		select {
		case <-tick.C:
		case <-s.ctx.Done():
			t.Fatalf("move %q is never free", id)
		}
	}
}

func testLeaseMoveStolen(t *testing.T, s *suite) {
	a := s.resident(t)
	id := s.begin(t, directory.NewMove{Tenant: a.ID, Target: "c2"}).ID
	brief := func(holder string) directory.Move {
		t.Helper()
		m, err := s.LeaseMove(s.ctx, id, holder, time.Millisecond)
		if err != nil {
			t.Fatalf("lease as %s: %v", holder, err)
		}
		return m
	}
	old := brief("m1")
	if same := brief("m1"); same.Lease != old.Lease {
		t.Errorf("extended what may have run out and nobody took: got lease %d, want %d", same.Lease, old.Lease)
	}
	thief := s.steal(t, id, "m2")
	if thief.Lease != old.Lease+1 || thief.Holder != "m2" {
		t.Errorf("stolen: got lease %d of %s, want %d of m2", thief.Lease, thief.Holder, old.Lease+1)
	}
	s.noLease(t, "the old holder extends", problem.NotFound, id, "m1", time.Hour)
	s.noLease(t, "the old holder gives back", problem.NotFound, id, "m1", 0)
	s.refuseMove(t, "the old holder advances", problem.Conflict, id, func() error { _, err := s.say(old, directory.Reserved); return err })
	s.refuseMove(t, "the old holder reports", problem.Conflict, id, func() error { _, err := s.say(old, old.Phase); return err })
	s.take(t, thief, directory.Reserved)

	brief("m2") // by no id even its own lease that ran out is taken anew: it may be another process
	if got := s.steal(t, "", "m2"); got.ID != id || got.Lease != thief.Lease+1 {
		t.Errorf("taken by no id: got %s with lease %d, want %s with %d", got.ID, got.Lease, id, thief.Lease+1)
	}
}

func testLeaseMoveWaits(t *testing.T, s *suite) {
	a := s.resident(t)
	m := s.begin(t, directory.NewMove{Tenant: a.ID, Target: "c2", StopAt: directory.CaughtUp})
	work := func(what string, want bool) directory.Move {
		t.Helper()
		if _, err := s.LeaseMove(s.ctx, m.ID, "m1", 0); err != nil {
			t.Fatalf("%s: give back: %v", what, err)
		}
		if stored := s.stored(t, m.ID); stored.Waits(time.Now()) == want {
			t.Errorf("%s: got waits %v", what, !want)
		}
		if !want {
			s.noLease(t, what, problem.NotFound, "", "m1", time.Hour)
			return s.hold(t, m.ID, "m1") // by its id it can be taken
		}
		return s.hold(t, "", "m1")
	}
	ask := func(w directory.Wish) {
		t.Helper()
		if _, err := s.AskMove(s.ctx, m.ID, w); err != nil {
			t.Fatalf("ask for %q: %v", w, err)
		}
	}
	m = s.take(t, s.hold(t, m.ID, "m1"), directory.Copied)
	m = work("before it waits", true)
	s.take(t, m, directory.CaughtUp)
	work("waits for its operator", false)
	ask(directory.Cancel)
	work("is to be aborted", true)
	ask(directory.Proceed)
	work("waits for its operator again", false)
	ask(directory.Switch)
	m = work("is to switch", true)
	s.take(t, m, directory.Watching)
	work("waits for its watch to end", false)
	ask(directory.Complete)
	work("is to be completed", true)
}

func testRaceLeaseMove(t *testing.T, s *suite) {
	s.resident(t)
	for i := range 5 {
		one := s.create(t, directory.NewTenant{Slug: fmt.Sprint("t", i), Cell: "c1"})
		s.begin(t, directory.NewMove{Tenant: one.ID, Target: "c2"})
	}
	got := make([]directory.Move, racers)
	won := race(t, "lease", func(i int) (err error) {
		// Whom another's lock turned away looks again, as a mover does.
		for range 20 {
			if got[i], err = s.LeaseMove(s.ctx, "", fmt.Sprint("m", i), time.Hour); err == nil {
				return nil
			}
		}
		if errors.Is(err, problem.NotFound) {
			return problem.Conflict
		}
		return err
	})
	seen := map[directory.MoveID]bool{}
	for _, m := range got {
		if m.ID != "" && (seen[m.ID] || m.Lease != 1) {
			t.Errorf("move %s was leased twice, at last as %d", m.ID, m.Lease)
		}
		seen[m.ID] = true
	}
	if won != 5 {
		t.Errorf("got %d leases of 5 moves, want 5", won)
	}
}

// testRestMove: a move that rests is given to nobody who looks for work, until its wish changes.
func testRestMove(t *testing.T, s *suite) {
	a := s.resident(t)
	m := s.take(t, s.hold(t, s.begin(t, directory.NewMove{Tenant: a.ID, Target: "c2"}).ID, "m1"), directory.Armed)
	rest := func(m directory.Move, d time.Duration) func() error {
		return func() error { return s.RestMove(s.ctx, m, d) }
	}
	late, other := m, m
	late.Lease--
	other.Wish = directory.Cancel
	s.refuseMove(t, "rest with a lost lease", problem.Conflict, m.ID, rest(late, time.Minute))
	s.refuseMove(t, "rest over another wish", problem.Conflict, m.ID, rest(other, time.Minute))
	s.refuseMove(t, "rest for less than nothing", problem.Invalid, m.ID, rest(m, -time.Second))
	s.expect(t, "rest", 0, 0, rest(m, time.Hour))
	got := s.stored(t, m.ID)
	if left := time.Until(got.Rests); got.Holder != "" || !got.Leased.IsZero() || left < 30*time.Minute || !got.Waits(got.Rests.Add(-time.Second)) {
		t.Errorf("rests: got %+v", got)
	}
	s.noLease(t, "what rests, by no id", problem.NotFound, "", "m2", time.Hour)
	m = s.hold(t, m.ID, "m2") // by its id it can be taken
	s.expect(t, "rest again", 0, 0, rest(m, time.Hour))
	if _, err := s.AskMove(s.ctx, m.ID, directory.Cancel); err != nil {
		t.Fatal(err)
	}
	if m = s.hold(t, "", "m1"); !m.Rests.IsZero() {
		t.Errorf("a wish that changes ends the rest: got %v", m.Rests)
	}
	s.expect(t, "rest briefly", 0, 0, rest(m, time.Millisecond))
	s.steal(t, "", "m2")
	s.refuse(t, "rest an unknown move", problem.NotFound, rest(directory.Move{ID: "mv_none", Lease: 1}, time.Second))
}
