package directorytest

import (
	"errors"
	"testing"
	"time"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/infra/problem"
)

// watched is a's move to c2, watching.
func (s *suite) watched(t *testing.T, a directory.Tenant, watch time.Duration) directory.Move {
	t.Helper()
	m := s.begin(t, directory.NewMove{Tenant: a.ID, Target: "c2", Watch: watch})
	return s.take(t, s.hold(t, m.ID, "m1"), directory.Watching)
}

func testWatch(t *testing.T, s *suite) {
	a := s.resident(t)
	m := s.watched(t, a, time.Millisecond)
	if got := m.WatchEnds.Sub(m.Changed); got != time.Millisecond {
		t.Errorf("watch: got %v, want 1ms", got)
	}
	if _, err := s.LeaseMove(s.ctx, m.ID, "m1", 0); err != nil {
		t.Fatal(err)
	}
	m = s.steal(t, "", "m2") // when its watch is over there is work to do
	s.refuse(t, "undo when the watch is over", problem.Conflict, func() error {
		_, err := s.CreateMove(s.ctx, directory.NewMove{Tenant: a.ID, Target: "c1", Undoes: m.ID})
		return err
	})
	if _, err := s.say(m, directory.Completed); err != nil {
		t.Fatal(err)
	}

	m = s.begin(t, directory.NewMove{Tenant: a.ID, Target: "c1", StopAt: directory.Watching, Watch: time.Millisecond})
	m = s.take(t, s.hold(t, m.ID, "m1"), directory.Watching)
	if !m.WatchEnds.IsZero() || !m.Waits(m.NotBefore.Add(-time.Second)) {
		t.Errorf("a move that stops there: got watch ends %v, want that it waits for its operator", m.WatchEnds)
	}
}

func testUndo(t *testing.T, s *suite) {
	a := s.resident(t)
	m := s.watched(t, a, 0)
	full := cell("c1")
	full.Capacity = 1
	s.add(t, full)
	s.create(t, directory.NewTenant{Slug: "b", Cell: "c1"})
	if _, err := s.SetCellState(s.ctx, "c1", directory.Draining); err != nil { // and closed: the way back is open
		t.Fatal(err)
	}
	var u directory.Move
	n := directory.NewMove{Tenant: a.ID, Target: "c1", Undoes: m.ID}
	s.expect(t, "undo", 0, 1, func() (err error) { u, err = s.CreateMove(s.ctx, n); return err })
	if u.Source != "c2" || u.Target != "c1" || u.Base != 2 || u.Undoes != m.ID {
		t.Errorf("undo: got %s", text(u))
	}
	if got := s.stored(t, m.ID); got.UndoneBy != u.ID || got.Phase != directory.Watching {
		t.Errorf("what is undone: got %s", text(got))
	}
	s.refuseMove(t, "complete what is being undone", problem.Conflict, m.ID, func() error { _, err := s.AskMove(s.ctx, m.ID, directory.Complete); return err })
	s.refuseMove(t, "purge what is being undone", problem.Conflict, m.ID, func() error { _, err := s.say(m, directory.Completed); return err })
	s.refuse(t, "undo twice", problem.Conflict, func() error { _, err := s.CreateMove(s.ctx, n); return err })

	u = s.take(t, s.hold(t, u.ID, "m1"), directory.Activated)
	want := directory.Placement{Tenant: a.ID, Cell: "c1", Epoch: 3, State: directory.Active}
	wantEqual(t, "placement", s.tenant(t, a.ID).Placement, want)
	s.expect(t, "undo is watching", 0, 2, func() (err error) { u, err = s.say(u, directory.Watching); return err })
	s.expect(t, "said again", 0, 0, func() error {
		before := u
		before.Phase = directory.Activated
		_, err := s.say(before, directory.Watching)
		return err
	})
	got := s.stored(t, m.ID)
	if got.Phase != directory.Undone || got.Previous != directory.Watching || got.UndoneBy != u.ID {
		t.Errorf("what is undone: got %s", text(got))
	}
	s.refuse(t, "undo what is undone", problem.Conflict, func() error { _, err := s.CreateMove(s.ctx, n); return err })
	// The way back of the undo is open in turn.
	back := s.begin(t, directory.NewMove{Tenant: a.ID, Target: "c2", Undoes: u.ID})
	s.take(t, s.hold(t, back.ID, "m1"), directory.Watching)
	if got := s.stored(t, u.ID).Phase; got != directory.Undone {
		t.Errorf("the undo, undone: got %s", got)
	}
}

func testUndoRefused(t *testing.T, s *suite) {
	a := s.resident(t)
	m := s.watched(t, a, 0)
	b := s.create(t, directory.NewTenant{Slug: "b", Cell: "c2"})
	refuse := func(what string, n directory.NewMove) {
		t.Helper()
		s.refuse(t, what, problem.Conflict, func() error { _, err := s.CreateMove(s.ctx, n); return err })
	}
	undo := directory.NewMove{Tenant: a.ID, Target: "c1", Undoes: m.ID}
	refuse("to another cell", directory.NewMove{Tenant: a.ID, Target: "c3", Undoes: m.ID})
	refuse("of another tenant's move", directory.NewMove{Tenant: b.ID, Target: "c1", Undoes: m.ID})
	refuse("of an unknown move", directory.NewMove{Tenant: a.ID, Target: "c1", Undoes: "mv_none"})
	for _, state := range []directory.CellState{directory.Cordoned, directory.Drained} {
		if _, err := s.SetCellState(s.ctx, "c1", state); err != nil {
			t.Fatalf("set c1 to %s: %v", state, err)
		}
	}
	refuse("to a drained cell", undo)
	if _, err := s.SetCellState(s.ctx, "c1", directory.Cordoned); err != nil {
		t.Fatal(err)
	}
	yes, no := true, false
	for _, suspended := range []*bool{&yes, &no} {
		if _, err := s.UpdateTenant(s.ctx, a.ID, directory.Change{Suspended: suspended}); err != nil {
			t.Fatal(err)
		}
		if *suspended {
			refuse("of a suspended tenant", undo)
		}
	}
	if _, err := s.AskMove(s.ctx, m.ID, directory.Complete); err != nil {
		t.Fatal(err)
	}
	refuse("of a move that is to be completed", undo)
	if err := s.DeleteTenant(s.ctx, a.ID); err != nil { // nothing is under way
		t.Errorf("delete a watched tenant: %v", err)
	}
	refuse("of a deleted tenant", undo)
	wantEqual(t, "the move of a deleted tenant", s.stored(t, m.ID).Phase, directory.Completed)
}

func testUndoAborted(t *testing.T, s *suite) {
	a := s.resident(t)
	m := s.watched(t, a, 0)
	u := s.hold(t, s.begin(t, directory.NewMove{Tenant: a.ID, Target: "c1", Undoes: m.ID}).ID, "m1")
	u, err := s.say(u, directory.Aborting)
	if err != nil {
		t.Fatal(err)
	}
	if got := s.stored(t, m.ID); got.UndoneBy != u.ID {
		t.Errorf("while its undo is being aborted: got %s", text(got))
	}
	s.expect(t, "abort the undo", 0, 1, func() (err error) { u, err = s.say(u, directory.Aborted); return err })
	got := s.stored(t, m.ID)
	want := m
	want.UndoneBy = ""
	wantEqual(t, "the watch goes on", got, want)
	again := s.begin(t, directory.NewMove{Tenant: a.ID, Target: "c1", Undoes: m.ID})
	if again.Base != 4 { // 2, and 2 more for the abort
		t.Errorf("base epoch: got %d, want 4", again.Base)
	}
	s.take(t, s.hold(t, again.ID, "m1"), directory.Watching)
	wantEqual(t, "placement", s.tenant(t, a.ID).Placement, directory.Placement{Tenant: a.ID, Cell: "c1", Epoch: 5, State: directory.Active})
}

func testMoveGuards(t *testing.T, s *suite) {
	a := s.resident(t)
	m := s.hold(t, s.begin(t, directory.NewMove{Tenant: a.ID, Target: "c2"}).ID, "m1")
	place := func() error {
		p := s.tenant(t, a.ID).Placement
		p.Epoch++
		return s.Place(s.ctx, p)
	}
	remove := func() error { return s.DeleteTenant(s.ctx, a.ID) }
	for _, p := range way {
		s.refuseMove(t, "place when "+string(m.Phase), problem.Conflict, m.ID, place)
		s.refuseMove(t, "delete when "+string(m.Phase), problem.Conflict, m.ID, remove)
		if e, ok := errors.AsType[*problem.Error](remove()); !ok || e.Extra["move"] != string(m.ID) {
			t.Errorf("delete when %s: got %+v, want a hint at the move", m.Phase, e)
		}
		m = s.take(t, m, p)
	}
	s.refuseMove(t, "place when watched", problem.Conflict, m.ID, place)
	if _, err := s.say(m, directory.Completed); err != nil {
		t.Fatal(err)
	}
	s.expect(t, "place", 1, 1, place)
	s.expect(t, "delete", 1, 1, remove)
}

func testMoveGuardsCells(t *testing.T, s *suite) {
	a := s.resident(t)
	m := s.take(t, s.hold(t, s.begin(t, directory.NewMove{Tenant: a.ID, Target: "c2"}).ID, "m1"), directory.Reserved)
	set := func(id directory.CellID, to directory.CellState) func() error {
		return func() error { _, err := s.SetCellState(s.ctx, id, to); return err }
	}
	s.expect(t, "cordon the target", 1, 1, set("c2", directory.Cordoned)) // the move, which has begun, goes on
	s.refuse(t, "drained, and one is coming", problem.Conflict, set("c2", directory.Drained))
	s.refuse(t, "retired, and one is coming", problem.Conflict, set("c2", directory.Retired))
	s.take(t, m, directory.Watching)
	s.expect(t, "cordon the source", 1, 1, set("c1", directory.Cordoned))
	s.refuse(t, "retire the source while the way back is open", problem.Conflict, set("c1", directory.Retired))
	s.expect(t, "the source is drained", 1, 1, set("c1", directory.Drained))
	s.refuse(t, "retire it drained", problem.Conflict, func() error { return s.RemoveCell(s.ctx, "c1", false) })
	if _, err := s.say(s.stored(t, m.ID), directory.Completed); err != nil {
		t.Fatal(err)
	}
	s.expect(t, "retire the source", 1, 1, set("c1", directory.Retired))
}

// testMoveLosesCell: a cell that is lost is kept by no move, and no move gives it a tenant.
func testMoveLosesCell(t *testing.T, s *suite) {
	a := s.resident(t)
	lose := func(id directory.CellID) func() error {
		return func() error { return s.RemoveCell(s.ctx, id, true) }
	}
	for _, id := range []directory.CellID{"c1", "c2"} {
		if _, err := s.SetCellState(s.ctx, id, directory.Cordoned); err != nil {
			t.Fatal(err)
		}
	}
	s.refuse(t, "lose a cell that owns a tenant", problem.Conflict, lose("c1"))
	if _, err := s.SetCellState(s.ctx, "c2", directory.Ready); err != nil {
		t.Fatal(err)
	}
	watched := s.take(t, s.hold(t, s.begin(t, directory.NewMove{Tenant: a.ID, Target: "c2"}).ID, "m1"), directory.Watching)
	b := s.create(t, directory.NewTenant{Slug: "b", Cell: "c3"})
	if _, err := s.SetCellState(s.ctx, "c1", directory.Ready); err != nil {
		t.Fatal(err)
	}
	coming := s.take(t, s.hold(t, s.begin(t, directory.NewMove{Tenant: b.ID, Target: "c1"}).ID, "m2"), directory.Staged)
	if _, err := s.SetCellState(s.ctx, "c1", directory.Cordoned); err != nil {
		t.Fatal(err)
	}
	s.expect(t, "lose a cell", 1, 3, lose("c1")) // and two wishes
	s.expect(t, "lose it again", 0, 0, lose("c1"))
	if got := s.stored(t, watched.ID).Wish; got != directory.Complete {
		t.Errorf("the move that it kept the way back of: got wish %q, want complete", got)
	}
	if got := s.stored(t, coming.ID).Wish; got != directory.Cancel {
		t.Errorf("the move to it: got wish %q, want cancel", got)
	}
	if _, err := s.AskMove(s.ctx, coming.ID, directory.Proceed); err != nil {
		t.Fatal(err)
	}
	coming = s.stored(t, coming.ID)
	s.refuseMove(t, "decide for a lost cell", problem.Conflict, coming.ID, func() error { _, err := s.say(coming, directory.Decided); return err })
	if _, err := s.say(coming, directory.Aborting); err != nil {
		t.Errorf("abort: %v", err)
	}
}

// testMoveLosesCellUndoing: the cell that an undo goes to is lost. The undo is cancelled; the watch ends when it is asked again.
func testMoveLosesCellUndoing(t *testing.T, s *suite) {
	a := s.resident(t)
	first := s.take(t, s.hold(t, s.begin(t, directory.NewMove{Tenant: a.ID, Target: "c2"}).ID, "m1"), directory.Watching)
	undo := s.take(t, s.hold(t, s.begin(t, directory.NewMove{Tenant: a.ID, Target: "c1", Undoes: first.ID}).ID, "m2"), directory.Armed)
	if _, err := s.SetCellState(s.ctx, "c1", directory.Cordoned); err != nil {
		t.Fatal(err)
	}
	lose := func() error { return s.RemoveCell(s.ctx, "c1", true) }
	if err := lose(); !errors.Is(err, problem.Conflict) {
		t.Errorf("lost while a move to it is cancelled: got %v, want a conflict that says so", err)
	}
	if c, err := s.Cell(s.ctx, "c1"); err != nil || c.State != directory.Retired || s.stored(t, undo.ID).Wish != directory.Cancel {
		t.Errorf("got %s, %v, and the undo has wish %q", c.State, err, s.stored(t, undo.ID).Wish)
	}
	undo = s.stored(t, undo.ID)
	for _, p := range []directory.Phase{directory.Aborting, directory.Aborted} {
		var err error
		if undo, err = s.say(undo, p); err != nil {
			t.Fatal(err)
		}
	}
	if err := lose(); err != nil || s.stored(t, first.ID).Wish != directory.Complete {
		t.Errorf("asked again: %v, wish %q", err, s.stored(t, first.ID).Wish)
	}
}

func testMoveSuspend(t *testing.T, s *suite) {
	a := s.resident(t)
	m := s.hold(t, s.begin(t, directory.NewMove{Tenant: a.ID, Target: "c2"}).ID, "m1")
	suspended := false
	for _, p := range way { // in every phase, on or off
		suspended = !suspended
		s.expect(t, "suspend or resume when "+string(m.Phase), 1, 1, func() error {
			_, err := s.UpdateTenant(s.ctx, a.ID, directory.Change{Suspended: &suspended})
			return err
		})
		m = s.take(t, m, p)
		if got := s.tenant(t, a.ID).Placement.State == directory.Suspended; got != suspended {
			t.Errorf("%s: got suspended %v, want %v", p, got, suspended)
		}
	}
}
