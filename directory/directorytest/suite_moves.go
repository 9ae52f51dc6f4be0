package directorytest

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/infra/problem"
)

// RunMoves holds a Directory to the comments of directory.Moves. open gives a
// fresh, empty one; it is called once per subtest, and subtests run in parallel.
func RunMoves(t *testing.T, open func(t *testing.T) directory.Directory) {
	for _, tt := range []struct {
		name string
		test func(*testing.T, *suite)
	}{
		{"Create", testCreateMove},
		{"CreateDryRun", testCreateMoveDryRun},
		{"Rehearse", testRehearse},
		{"RehearseStolen", testRehearseStolen},
		{"RehearseMany", testRehearseMany},
		{"CreateRefused", testCreateMoveRefused},
		{"CreateTarget", testCreateMoveTarget},
		{"CreateRoom", testCreateMoveRoom},
		{"List", testListMoves},
		{"Ask", testAskMove},
		{"Switch", testSwitchMove},
		{"Begin", testBeginMove},
		{"Guards", testMoveGuards},
		{"Rest", testRestMove},
		{"GuardCells", testMoveGuardsCells},
		{"LoseCell", testMoveLosesCell},
		{"LoseCellUndoing", testMoveLosesCellUndoing},
		{"Suspend", testMoveSuspend},
		{"Lease", testLeaseMove},
		{"LeaseAny", testLeaseAnyMove},
		{"LeaseStolen", testLeaseMoveStolen},
		{"LeaseWaits", testLeaseMoveWaits},
		{"LeaseTurns", testLeaseMoveTurns},
		{"Advance", testAdvance},
		{"AdvanceRefused", testAdvanceRefused},
		{"AdvanceAgain", testAdvanceAgain},
		{"AdvanceReport", testAdvanceReport},
		{"Abort", testAbort},
		{"Verify", testVerify},
		{"Differ", testDiffer},
		{"Close", testClose},
		{"DifferBeatsComplete", testDifferBeatsComplete},
		{"CompleteSame", testCompleteSame},
		{"Retry", testRetry},
		{"RetryCancelled", testRetryCancelled},
		{"RetryUndo", testRetryUndo},
		{"RetryRefused", testRetryRefused},
		{"Planned", testPlanned},
		{"PlannedRetry", testPlannedRetry},
		{"Watch", testWatch},
		{"Undo", testUndo},
		{"UndoRefused", testUndoRefused},
		{"UndoAborted", testUndoAborted},
		{"DeleteWatched", testDeleteWatched},
		{"DeletionRaised", testDeletionRaised},
		{"Witness", testWitness},
		{"TenantsThatWereForgotten", testTenantsThatWereForgotten},
		{"AbortMoves", testAbortMoves},
		{"RaceCreate", testRaceCreateMove},
		{"RacePlanned", testRacePlanned},
		{"RaceLease", testRaceLeaseMove},
		{"RaceDecide", testRaceDecide},
		{"RacePurge", testRacePurge},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
			t.Cleanup(cancel)
			tt.test(t, &suite{Directory: open(t), ctx: directory.WithActor(ctx, Actor)})
		})
	}
}

// way is the phases of a move that goes well, after Planned.
var way = []directory.Phase{
	directory.Reserved, directory.Armed, directory.Copied, directory.CaughtUp, directory.Frozen,
	directory.Staged, directory.Decided, directory.Activated, directory.Watching,
}

// resident is a tenant on c1, beside the cells c2 and c3.
func (s *suite) resident(t *testing.T) directory.Tenant {
	t.Helper()
	for _, id := range []directory.CellID{"c1", "c2", "c3"} {
		s.add(t, cell(id))
	}
	return s.create(t, directory.NewTenant{Slug: "a", Cell: "c1"})
}

func (s *suite) begin(t *testing.T, n directory.NewMove) directory.Move {
	t.Helper()
	m, err := s.CreateMove(s.ctx, n)
	if err != nil {
		t.Fatalf("create move %+v: %v", n, err)
	}
	return m
}

func (s *suite) stored(t *testing.T, id directory.MoveID) directory.Move {
	t.Helper()
	m, err := s.Move(s.ctx, id)
	if err != nil {
		t.Fatalf("find move %s: %v", id, err)
	}
	return m
}

// hold takes a move for holder, for as long as a test may take.
func (s *suite) hold(t *testing.T, id directory.MoveID, holder string) directory.Move {
	t.Helper()
	m, err := s.LeaseMove(s.ctx, id, holder, time.Hour)
	if err != nil {
		t.Fatalf("lease move %q as %s: %v", id, holder, err)
	}
	return m
}

// say advances m to a phase as its mover does, and returns m in that phase.
func (s *suite) say(m directory.Move, to directory.Phase) (directory.Move, error) {
	next := m
	next.Phase = to
	return next, s.Advance(s.ctx, next, m.Phase)
}

// take takes a leased move the way to a phase.
func (s *suite) take(t *testing.T, m directory.Move, to directory.Phase) directory.Move {
	t.Helper()
	for _, p := range way {
		if m.Phase == to {
			break
		}
		if !m.Phase.CanBecome(p) {
			continue
		}
		var err error
		if m, err = s.say(m, p); err != nil {
			t.Fatalf("advance to %s: %v", p, err)
		}
	}
	return s.stored(t, m.ID)
}

// refuseMove runs a step that must fail with kind and change nothing, the move included.
func (s *suite) refuseMove(t *testing.T, what string, kind problem.Kind, id directory.MoveID, step func() error) {
	t.Helper()
	before := s.stored(t, id)
	s.refuse(t, what, kind, step)
	wantEqual(t, what+": refused, and the move", s.stored(t, id), before)
}

func testCreateMove(t *testing.T, s *suite) {
	a := s.resident(t)
	yes := true
	if _, err := s.UpdateTenant(s.ctx, a.ID, directory.Change{Pinned: &yes}); err != nil {
		t.Fatal(err)
	}
	var got directory.Move
	n := directory.NewMove{Tenant: a.ID, Target: "c2", StopAt: directory.CaughtUp}
	s.expect(t, "create a move of a pinned tenant", 0, 1, func() (err error) { got, err = s.CreateMove(s.ctx, n); return err })
	wantEqual(t, "created move", got, directory.Move{
		ID: got.ID, Tenant: a.ID, Source: "c1", Target: "c2", Base: 1, Phase: directory.Planned, StopAt: directory.CaughtUp,
		Watch: directory.DefaultWatch, Attempt: 1, Attempts: directory.DefaultAttempts, Created: got.Created, Changed: got.Created,
	})
	if len(got.ID) < 5 || got.ID[:3] != "mv_" || got.Created.IsZero() {
		t.Errorf("created move: got id %q, created %v", got.ID, got.Created)
	}
	wantEqual(t, "stored move", s.stored(t, got.ID), got)
	wantEqual(t, "placement", s.tenant(t, a.ID).Placement, a.Placement)
	for _, id := range []directory.MoveID{"mv_none", "c1", "é"} {
		_, err := s.Move(s.ctx, id)
		wantKind(t, "find "+string(id), err, problem.NotFound)
	}
	for _, bad := range []directory.NewMove{
		{Target: "c2"},
		{Tenant: a.ID},
		{Tenant: a.ID, Target: "C 2"},
		{Tenant: a.ID, Target: "c2", StopAt: directory.Frozen},
		{Tenant: a.ID, Target: "c2", Watch: -1},
		{Tenant: a.ID, Target: "c2", Watch: 10_000 * time.Hour},
	} {
		s.refuse(t, text(bad), problem.Invalid, func() error { _, err := s.CreateMove(s.ctx, bad); return err })
	}
	over, cancel := context.WithCancel(s.ctx)
	cancel()
	if _, err := s.CreateMove(over, n); !errors.Is(err, context.Canceled) {
		t.Errorf("create when ctx is over: got %v, want canceled", err)
	}
}

func testCreateMoveRefused(t *testing.T, s *suite) {
	a := s.resident(t)
	refuse := func(what string, kind problem.Kind, n directory.NewMove) {
		t.Helper()
		s.refuse(t, what, kind, func() error { _, err := s.CreateMove(s.ctx, n); return err })
	}
	gone := s.create(t, directory.NewTenant{Slug: "gone", Cell: "c1"})
	if err := s.DeleteTenant(s.ctx, gone.ID); err != nil {
		t.Fatal(err)
	}
	held := s.create(t, directory.NewTenant{Slug: "held", Cell: "c1"})
	yes := true
	if _, err := s.UpdateTenant(s.ctx, held.ID, directory.Change{Suspended: &yes}); err != nil {
		t.Fatal(err)
	}
	byHand := s.create(t, directory.NewTenant{Slug: "by-hand", Cell: "c1"})
	if err := s.Place(s.ctx, directory.Placement{Tenant: byHand.ID, Cell: "c1", Epoch: 2, State: directory.Cutover}); err != nil {
		t.Fatal(err)
	}
	refuse("unknown tenant", problem.NotFound, directory.NewMove{Tenant: 999999, Target: "c2"})
	refuse("unknown target", problem.NotFound, directory.NewMove{Tenant: a.ID, Target: "c9"})
	refuse("to where it is", problem.Conflict, directory.NewMove{Tenant: a.ID, Target: "c1"})
	refuse("deleted tenant", problem.Conflict, directory.NewMove{Tenant: gone.ID, Target: "c2"})
	refuse("suspended tenant", problem.Conflict, directory.NewMove{Tenant: held.ID, Target: "c2"})
	refuse("tenant in cutover", problem.Conflict, directory.NewMove{Tenant: byHand.ID, Target: "c2"})
	refuse("undo of nothing", problem.Conflict, directory.NewMove{Tenant: a.ID, Target: "c2", Undoes: "mv_none"})
	m := s.begin(t, directory.NewMove{Tenant: a.ID, Target: "c2"})
	refuse("moving tenant", problem.Conflict, directory.NewMove{Tenant: a.ID, Target: "c3"})
	refuse("undo of a move that does not watch", problem.Conflict, directory.NewMove{Tenant: a.ID, Target: "c1", Undoes: m.ID})
	s.take(t, s.hold(t, m.ID, "m1"), directory.Watching)
	refuse("watched tenant", problem.Conflict, directory.NewMove{Tenant: a.ID, Target: "c3"})
	if _, err := s.CreateMove(s.ctx, directory.NewMove{Tenant: a.ID, Target: "c1", Undoes: m.ID}); err != nil {
		t.Errorf("undo of a watching move: %v", err)
	}
}

func testCreateMoveDryRun(t *testing.T, s *suite) {
	a := s.resident(t)
	n := directory.NewMove{Tenant: a.ID, Target: "c2", DryRun: true}
	var would directory.Move
	s.expect(t, "dry run", 0, 0, func() (err error) { would, err = s.CreateMove(s.ctx, n); return err })
	if open, err := s.ListMoves(s.ctx, 0, true, "", 10); err != nil || len(open) != 0 {
		t.Errorf("after a dry run: got %v, %v, want no move", open, err)
	}
	n.DryRun = false
	made := s.begin(t, n)
	if _, err := s.Rehearsal(s.ctx, would.Rehearsal); err != nil {
		t.Errorf("rehearsal of a dry run: %v", err)
	}
	would.ID, would.Created, would.Changed, would.Rehearsal = made.ID, made.Created, made.Changed, ""
	wantEqual(t, "what a dry run answers", would, made)
	n.DryRun = true
	s.refuse(t, "dry run of a second move", problem.Conflict, func() error { _, err := s.CreateMove(s.ctx, n); return err })
}

func testCreateMoveTarget(t *testing.T, s *suite) {
	s.add(t, cell("c1"))
	a := s.create(t, directory.NewTenant{Slug: "a"})
	for id, c := range map[directory.CellID]struct {
		locality, tier string
		state          directory.CellState
		want           problem.Kind // "" is none
	}{
		"cordoned": {"eu", "gold", directory.Cordoned, problem.Conflict},
		"draining": {"eu", "gold", directory.Draining, problem.Conflict},
		"retired":  {"eu", "gold", directory.Retired, problem.NotFound},
		"far":      {"us", "gold", directory.Ready, problem.Conflict},
		"cheap":    {"eu", "tin", directory.Ready, problem.Conflict},
		"jail":     {"eu", "gold", directory.Quarantine, ""},
	} {
		in := cell(id)
		in.Locality, in.Tier = c.locality, c.tier
		if c.state == directory.Retired {
			in.State = directory.Provisioning
		}
		s.add(t, in)
		if _, err := s.SetCellState(s.ctx, id, c.state); err != nil {
			t.Fatal(err)
		}
		home := cell("home-" + id)
		home.Locality, home.Tier = "eu", "gold"
		s.add(t, home)
		choosy := s.create(t, directory.NewTenant{Slug: "t-" + string(id), Locality: "eu", Tier: "gold", Cell: home.ID})
		n := directory.NewMove{Tenant: choosy.ID, Target: id}
		if c.want == "" {
			s.begin(t, n)
			continue
		}
		s.refuse(t, string(id), c.want, func() error { _, err := s.CreateMove(s.ctx, n); return err })
	}
	s.begin(t, directory.NewMove{Tenant: a.ID, Target: "far"}) // it does not mind
}

func testCreateMoveRoom(t *testing.T, s *suite) {
	s.resident(t)
	small := cell("small")
	small.Capacity = 2
	s.add(t, small)
	var tenants []directory.Tenant
	for _, slug := range []string{"t1", "t2", "t3"} {
		tenants = append(tenants, s.create(t, directory.NewTenant{Slug: slug, Cell: "c1"}))
	}
	s.create(t, directory.NewTenant{Slug: "there", Cell: "small"})
	first := s.begin(t, directory.NewMove{Tenant: tenants[0].ID, Target: "small"})
	second := directory.NewMove{Tenant: tenants[1].ID, Target: "small"}
	s.refuse(t, "the last place is promised", problem.Conflict, func() error { _, err := s.CreateMove(s.ctx, second); return err })
	late := directory.NewTenant{Slug: "late", Cell: "small"}
	s.refuse(t, "also to who signs up", problem.Conflict, func() error { _, err := s.CreateTenant(s.ctx, late); return err })
	m := s.hold(t, first.ID, "m1")
	if _, err := s.say(m, directory.Aborting); err != nil {
		t.Fatal(err)
	}
	m = s.hold(t, s.begin(t, second).ID, "m1")
	s.take(t, m, directory.Decided)
	third := directory.NewMove{Tenant: tenants[2].ID, Target: "small"}
	s.refuse(t, "full", problem.Conflict, func() error { _, err := s.CreateMove(s.ctx, third); return err })
}

func testListMoves(t *testing.T, s *suite) {
	a := s.resident(t)
	b := s.create(t, directory.NewTenant{Slug: "b", Cell: "c1"})
	var want []directory.MoveID
	for range 3 {
		m := s.hold(t, s.begin(t, directory.NewMove{Tenant: a.ID, Target: "c2"}).ID, "m1")
		for _, p := range []directory.Phase{directory.Aborting, directory.Aborted} {
			var err error
			if m, err = s.say(m, p); err != nil {
				t.Fatal(err)
			}
		}
		want = append([]directory.MoveID{m.ID}, want...)
	}
	running := s.begin(t, directory.NewMove{Tenant: a.ID, Target: "c2"}).ID
	others := s.begin(t, directory.NewMove{Tenant: b.ID, Target: "c3"}).ID
	want = append([]directory.MoveID{running}, want...)
	page := func(tenant directory.TenantID, ended bool, before directory.MoveID, limit int) []directory.MoveID {
		t.Helper()
		moves, err := s.ListMoves(s.ctx, tenant, ended, before, limit)
		if err != nil {
			t.Fatalf("list moves: %v", err)
		}
		ids := []directory.MoveID{}
		for _, m := range moves {
			wantEqual(t, "listed move", m, s.stored(t, m.ID))
			ids = append(ids, m.ID)
		}
		return ids
	}
	list := func(tenant directory.TenantID, ended bool, limit int) []directory.MoveID {
		t.Helper()
		return page(tenant, ended, "", limit)
	}
	wantEqual(t, "running", list(a.ID, false, 10), want[:1])
	wantEqual(t, "all of one", list(a.ID, true, 10), want)
	wantEqual(t, "the newest two", list(a.ID, true, 2), want[:2])
	wantEqual(t, "running of all", list(0, false, 1000), []directory.MoveID{others, running})
	wantEqual(t, "all of all", list(0, true, 1000), append([]directory.MoveID{others}, want...))
	wantEqual(t, "the next two", page(a.ID, true, want[1], 2), want[2:4])
	wantEqual(t, "what runs before the newest", page(0, false, others, 10), want[:1])
	wantEqual(t, "before the oldest", page(0, true, want[3], 10), []directory.MoveID{})
	wantEqual(t, "of nobody", list(999999, true, 10), []directory.MoveID{})
	for _, limit := range []int{-1, 0, 1001} {
		_, err := s.ListMoves(s.ctx, 0, true, "", limit)
		wantKind(t, "limit", err, problem.Invalid)
	}
}

func testAskMove(t *testing.T, s *suite) {
	a := s.resident(t)
	m := s.begin(t, directory.NewMove{Tenant: a.ID, Target: "c2"})
	ask := func(w directory.Wish) func() error {
		return func() error {
			got, err := s.AskMove(s.ctx, m.ID, w)
			if err == nil {
				wantEqual(t, "asked move", got, s.stored(t, m.ID))
			}
			return err
		}
	}
	s.refuse(t, "unknown move", problem.NotFound, func() error { _, err := s.AskMove(s.ctx, "mv_none", directory.Cancel); return err })
	s.refuseMove(t, "no wish", problem.Invalid, m.ID, ask("sing"))
	s.expect(t, "switch", 0, 1, ask(directory.Switch))
	s.expect(t, "switch again", 0, 0, ask(directory.Switch))
	s.expect(t, "cancel", 0, 1, ask(directory.Cancel))
	s.refuseMove(t, "switch what is to be cancelled", problem.Conflict, m.ID, ask(directory.Switch))
	s.expect(t, "proceed after all", 0, 1, ask(directory.Proceed))
	s.refuseMove(t, "complete too early", problem.Conflict, m.ID, ask(directory.Complete))
	if got := s.stored(t, m.ID).Wish; got != directory.Proceed {
		t.Errorf("wish: got %q, want none", got)
	}
	m = s.take(t, s.hold(t, m.ID, "m1"), directory.Decided)
	s.refuseMove(t, "cancel too late", problem.Conflict, m.ID, ask(directory.Cancel))
	s.refuseMove(t, "switch too late", problem.Conflict, m.ID, ask(directory.Switch))
	m = s.take(t, m, directory.Watching)
	s.expect(t, "complete", 0, 1, ask(directory.Complete))
	s.refuseMove(t, "the purge may have begun", problem.Conflict, m.ID, ask(directory.Proceed))
	if _, err := s.say(m, directory.Completed); err != nil {
		t.Fatal(err)
	}
	s.expect(t, "complete what is completed", 0, 0, ask(directory.Complete))
	s.refuseMove(t, "cancel what is completed", problem.Conflict, m.ID, ask(directory.Cancel))

	m = s.hold(t, s.begin(t, directory.NewMove{Tenant: a.ID, Target: "c1"}).ID, "m1")
	m, err := s.say(m, directory.Aborting)
	if err != nil {
		t.Fatal(err)
	}
	s.expect(t, "cancel what is being aborted", 0, 0, ask(directory.Cancel))
	s.refuseMove(t, "go on with what is being aborted", problem.Conflict, m.ID, ask(directory.Proceed))
}
