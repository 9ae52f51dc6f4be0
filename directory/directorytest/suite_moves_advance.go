package directorytest

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"unicode"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/infra/problem"
)

// counts is how many tenants the cells own.
func (s *suite) counts(t *testing.T) map[directory.CellID]int {
	t.Helper()
	cells, err := s.ListCells(s.ctx)
	if err != nil {
		t.Fatalf("list cells: %v", err)
	}
	got := map[directory.CellID]int{}
	for _, c := range cells {
		got[c.ID] = c.Tenants
	}
	return got
}

func testAdvance(t *testing.T, s *suite) {
	a := s.resident(t)
	m := s.hold(t, s.begin(t, directory.NewMove{Tenant: a.ID, Target: "c2"}).ID, "m1")
	m.Error, m.Report = "strange \x00 text \x1b]0;title\x07\nand \u009bmore"+strings.Repeat("x", 3000), json.RawMessage(`{"rows":17}`)
	for _, p := range way {
		versions, lines, at := 0, 1, "c1"
		if p == directory.Decided {
			versions, lines = 1, 2
		}
		from := m.Phase
		s.expect(t, string(p), versions, lines, func() (err error) { m, err = s.say(m, p); return err })
		got := s.stored(t, m.ID)
		if got.Phase != p || got.Previous != from || string(got.Report) != `{"rows":17}` || got.Changed.Before(m.Changed) {
			t.Errorf("%s: got %s", p, text(got))
		}
		if !strings.HasPrefix(got.Error, "strange ? text") || len(got.Error) > 2048 || strings.ContainsFunc(got.Error, unicode.IsControl) {
			t.Errorf("%s: got error %q", p, got.Error)
		}
		want := directory.Placement{Tenant: a.ID, Cell: "c1", Epoch: 1, State: directory.Active}
		if !from.BeforeDecision() || p == directory.Decided {
			at, want.Cell, want.Epoch = "c2", "c2", 2
		}
		wantEqual(t, string(p)+": placement", s.tenant(t, a.ID).Placement, want)
		if n := s.counts(t)[directory.CellID(at)]; n != 1 {
			t.Errorf("%s: got %d tenants on %s, want 1", p, n, at)
		}
		if ends := got.WatchEnds; ends.IsZero() != (p != directory.Watching) || p == directory.Watching && ends.Sub(got.Changed) != directory.DefaultWatch {
			t.Errorf("%s: got watch ends %v, changed %v", p, ends, got.Changed)
		}
	}
	s.expect(t, "completed", 0, 1, func() (err error) { _, err = s.say(m, directory.Completed); return err })

	history := directory.History(s.audit(t, directory.MoveSubject(m.ID)))
	phases := []directory.Phase{}
	for i, r := range history {
		phases = append(phases, r.Phase)
		if r.At.IsZero() || i > 0 && (r.At.Before(history[i-1].At) || r.Holder != "m1") {
			t.Errorf("history: got %+v", r)
		}
	}
	wantEqual(t, "history", phases, append(append([]directory.Phase{directory.Planned}, way...), directory.Completed))
	lines := s.audit(t, tenantSubject(a.ID))
	wantEqual(t, "the tenant's audit line", decode[directory.Placement](t, lines[len(lines)-1].After), s.tenant(t, a.ID).Placement)
	u, err := s.Changes(s.ctx, "", s.snapshot(t).Version-1, 0)
	if err != nil || len(u.Routes) != 1 || u.Routes[0].Placement != s.tenant(t, a.ID).Placement {
		t.Errorf("what routers hear: got %+v, %v", u, err)
	}
}

func testAdvanceRefused(t *testing.T, s *suite) {
	a := s.resident(t)
	id := s.begin(t, directory.NewMove{Tenant: a.ID, Target: "c2"}).ID
	s.refuseMove(t, "nobody's move", problem.Conflict, id, func() error { _, err := s.say(s.stored(t, id), directory.Reserved); return err })
	m := s.hold(t, id, "m1")
	advance := func(m directory.Move, from, to directory.Phase) func() error {
		m.Phase = to
		return func() error { return s.Advance(s.ctx, m, from) }
	}
	every := append(append([]directory.Phase{directory.Planned}, way...), directory.Completed, directory.Aborting, directory.Aborted, directory.Undone)
	for _, next := range append(way, directory.Completed) {
		s.refuseMove(t, "at "+string(m.Phase), problem.Conflict, id, func() error {
			for _, p := range every {
				if !m.Phase.CanBecome(p) && p != m.Phase {
					wantKind(t, fmt.Sprintf("%s to %s", m.Phase, p), advance(m, m.Phase, p)(), problem.Conflict)
				}
				if p != m.Phase && p.CanBecome(next) {
					wantKind(t, fmt.Sprintf("from %s to %s, at %s", p, next, m.Phase), advance(m, p, next)(), problem.Conflict)
				}
			}
			return problem.Conflict // as was each of them
		})
		stale := m
		stale.Lease++
		s.refuseMove(t, "another lease", problem.Conflict, id, advance(stale, m.Phase, next))
		var err error
		if m, err = s.say(m, next); err != nil {
			t.Fatalf("advance to %s: %v", next, err)
		}
	}
	s.refuseMove(t, "report on what has ended", problem.Conflict, id, advance(m, m.Phase, m.Phase))
	none := m
	none.ID = "mv_none"
	s.refuse(t, "unknown move", problem.NotFound, advance(none, directory.Planned, directory.Reserved))

	m = s.take(t, s.hold(t, s.begin(t, directory.NewMove{Tenant: a.ID, Target: "c1"}).ID, "m1"), directory.Watching)
	s.refuseMove(t, "undone by its own mover", problem.Conflict, m.ID, advance(m, directory.Watching, directory.Undone))
}

// testAdvanceAgain repeats what was recorded, as a mover does that got no answer.
func testAdvanceAgain(t *testing.T, s *suite) {
	a := s.resident(t)
	m := s.hold(t, s.begin(t, directory.NewMove{Tenant: a.ID, Target: "c2"}).ID, "m1")
	for _, p := range way {
		from := m
		next, err := s.say(m, p)
		if err != nil {
			t.Fatalf("advance to %s: %v", p, err)
		}
		before := s.stored(t, m.ID)
		s.expect(t, "again "+string(p), 0, 0, func() error { _, err := s.say(from, p); return err })
		wantEqual(t, "after "+string(p)+" was said again", s.stored(t, m.ID), before)
		other := from
		other.Lease++
		s.refuseMove(t, "another's again", problem.Conflict, m.ID, func() error { _, err := s.say(other, p); return err })
		m = next
	}
	early := m
	early.Phase = directory.Frozen
	s.refuseMove(t, "what was said long ago", problem.Conflict, m.ID, func() error { _, err := s.say(early, directory.Staged); return err })

	// Back and forth: the catch-up may go back to copying.
	b := s.create(t, directory.NewTenant{Slug: "b", Cell: "c1"})
	m = s.take(t, s.hold(t, s.begin(t, directory.NewMove{Tenant: b.ID, Target: "c2"}).ID, "m1"), directory.CaughtUp)
	for _, p := range []directory.Phase{directory.Copied, directory.CaughtUp, directory.Frozen, directory.Decided} {
		var err error
		if m, err = s.say(m, p); err != nil {
			t.Fatalf("advance to %s: %v", p, err)
		}
	}
}

func testAdvanceReport(t *testing.T, s *suite) {
	a := s.resident(t)
	m := s.hold(t, s.begin(t, directory.NewMove{Tenant: a.ID, Target: "c2"}).ID, "m1")
	report := func(told string) func() error {
		m.Report, m.Error = json.RawMessage(told), "slow"
		return func() error { return s.Advance(s.ctx, m, m.Phase) }
	}
	before := s.stored(t, m.ID)
	s.expect(t, "report", 0, 0, report(`{"rows":1}`))
	want := before
	want.Report, want.Error = json.RawMessage(`{"rows":1}`), "slow"
	wantEqual(t, "reported move", s.stored(t, m.ID), want)
	s.expect(t, "report again", 0, 0, report(`{"rows":1}`))
	wantEqual(t, "reported again", s.stored(t, m.ID), want)
	s.refuseMove(t, "a report that is no object", problem.Invalid, m.ID, report(`[1]`))
	s.refuseMove(t, "a long report", problem.Invalid, m.ID, report(`{"x":"`+strings.Repeat("x", 40_000)+`"}`))
	m.Report, m.Error = nil, ""
	s.expect(t, "report nothing", 0, 0, func() error { return s.Advance(s.ctx, m, m.Phase) })
	wantEqual(t, "reported nothing", s.stored(t, m.ID), before)
}

func testAbort(t *testing.T, s *suite) {
	a := s.resident(t)
	base := directory.Epoch(1)
	for _, last := range append([]directory.Phase{directory.Planned}, way[:6]...) { // until Staged
		m := s.hold(t, s.begin(t, directory.NewMove{Tenant: a.ID, Target: "c2"}).ID, "m1")
		if m.Base != base {
			t.Fatalf("base epoch: got %d, want %d", m.Base, base)
		}
		m = s.take(t, m, last)
		if last == directory.Staged {
			s.expect(t, "cancel", 0, 1, func() error { _, err := s.AskMove(s.ctx, m.ID, directory.Cancel); return err })
			s.refuseMove(t, "decide what is cancelled", problem.Conflict, m.ID, func() error { _, err := s.say(m, directory.Decided); return err })
		}
		m.Error = "the pause was too long"
		s.expect(t, "abort "+string(last), 1, 2, func() (err error) { m, err = s.say(m, directory.Aborting); return err })
		base += 2
		want := directory.Placement{Tenant: a.ID, Cell: "c1", Epoch: base, State: directory.Active}
		wantEqual(t, "placement after "+string(last), s.tenant(t, a.ID).Placement, want)
		wantEqual(t, "tenants", s.counts(t), map[directory.CellID]int{"c1": 1, "c2": 0, "c3": 0})
		s.refuseMove(t, "decide what is aborted", problem.Conflict, m.ID, func() error { _, err := s.say(m, directory.Decided); return err })
		s.expect(t, "aborted "+string(last), 0, 1, func() (err error) { m, err = s.say(m, directory.Aborted); return err })
		if got := s.stored(t, m.ID); got.Error != m.Error || !got.Phase.Ended() {
			t.Errorf("aborted move: got %s", text(got))
		}
	}
}

func testRaceDecide(t *testing.T, s *suite) {
	s.resident(t)
	for round := range 5 {
		a := s.create(t, directory.NewTenant{Slug: fmt.Sprint("t", round), Cell: "c1"})
		m := s.take(t, s.hold(t, s.begin(t, directory.NewMove{Tenant: a.ID, Target: "c2"}).ID, "m1"), directory.Staged)
		var kinds [racers]directory.Phase
		race(t, "decide or abort", func(i int) error {
			to := directory.Decided
			if i%2 == 0 {
				to = directory.Aborting
			}
			_, err := s.say(m, to)
			if err == nil {
				kinds[i] = to
			}
			return err
		})
		got := s.stored(t, m.ID)
		for i, k := range kinds {
			if k != "" && k != got.Phase {
				t.Errorf("round %d: racer %d won %s, and the move is %s", round, i, k, got.Phase)
			}
		}
		want, ok := got.Gives()
		if !ok {
			t.Fatalf("round %d: the move is %s: nobody won", round, got.Phase)
		}
		wantEqual(t, "placement", s.tenant(t, a.ID).Placement, want)
	}
}

func testRaceCreateMove(t *testing.T, s *suite) {
	s.resident(t)
	for round := range 3 {
		a := s.create(t, directory.NewTenant{Slug: fmt.Sprint("t", round), Cell: "c1"})
		won := race(t, "create", func(i int) error {
			if i == 0 {
				return s.Place(s.ctx, directory.Placement{Tenant: a.ID, Cell: "c1", Epoch: 2, State: directory.Cutover})
			}
			_, err := s.CreateMove(s.ctx, directory.NewMove{Tenant: a.ID, Target: directory.CellID(fmt.Sprint("c", 2+i%2))})
			return err
		})
		if won != 1 {
			t.Errorf("round %d: got %d winners, want one move or one placement", round, won)
		}
	}
}

// testRacePurge lets a mover take a move whose watch is ended by wish while
// others begin to undo it: never both.
func testRacePurge(t *testing.T, s *suite) {
	s.resident(t)
	for round := range 5 {
		a := s.create(t, directory.NewTenant{Slug: fmt.Sprint("t", round), Cell: "c1"})
		m := s.take(t, s.hold(t, s.begin(t, directory.NewMove{Tenant: a.ID, Target: "c2"}).ID, "m1"), directory.Watching)
		won := race(t, "complete or undo", func(i int) error {
			if i > 0 {
				_, err := s.CreateMove(s.ctx, directory.NewMove{Tenant: a.ID, Target: "c1", Undoes: m.ID})
				return err
			}
			_, err := s.AskMove(s.ctx, m.ID, directory.Complete)
			return err
		})
		got := s.stored(t, m.ID)
		if won != 1 || (got.Wish == directory.Complete) == (got.UndoneBy != "") {
			t.Errorf("round %d: got %d winners, wish %q, undone by %q", round, won, got.Wish, got.UndoneBy)
		}
		_, err := s.say(got, directory.Completed)
		if purged := err == nil; purged != (got.UndoneBy == "") || !purged && !errors.Is(err, problem.Conflict) {
			t.Errorf("round %d: complete: got %v, undone by %q", round, err, got.UndoneBy)
		}
	}
}
