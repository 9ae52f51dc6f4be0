package directorytest

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/infra/problem"
)

func testClaims(t *testing.T, s *suite) {
	s.add(t, cell("c1"))
	a := s.create(t, directory.NewTenant{Slug: "a"})
	b := s.create(t, directory.NewTenant{Slug: "b"})
	ann := directory.Claim{Kind: "login", Name: "ann@example.test / Ünï", Tenant: a.ID}
	other := ann
	other.Tenant = b.ID
	s.expect(t, "take", 0, 1, func() error { return s.TakeClaim(s.ctx, ann) })
	s.expect(t, "take again", 0, 0, func() error { return s.TakeClaim(s.ctx, ann) })
	s.refuse(t, "take another's", problem.Conflict, func() error { return s.TakeClaim(s.ctx, other) })
	if got, err := s.FindClaim(s.ctx, ann.Kind, ann.Name); err != nil || got != ann {
		t.Errorf("find: got %+v, %v, want %+v", got, err, ann)
	}
	s.expect(t, "the same name of another kind", 0, 1, func() error {
		return s.TakeClaim(s.ctx, directory.Claim{Kind: "key", Name: ann.Name, Tenant: b.ID})
	})
	s.refuse(t, "release another's", problem.NotFound, func() error { return s.ReleaseClaim(s.ctx, other) })
	s.expect(t, "release", 0, 1, func() error { return s.ReleaseClaim(s.ctx, ann) })
	s.refuse(t, "release again", problem.NotFound, func() error { return s.ReleaseClaim(s.ctx, ann) })
	_, err := s.FindClaim(s.ctx, ann.Kind, ann.Name)
	wantKind(t, "find a released claim", err, problem.NotFound)
	s.expect(t, "another takes it", 0, 1, func() error { return s.TakeClaim(s.ctx, other) })

	for _, bad := range []directory.Claim{
		{Kind: "slug", Name: "x", Tenant: a.ID},
		{Kind: "host", Name: "x.test", Tenant: a.ID},
		{Kind: "Login", Name: "x", Tenant: a.ID},
		{Kind: "login", Name: "", Tenant: a.ID},
		{Kind: "login", Name: "x"},
	} {
		s.refuse(t, fmt.Sprintf("take %+v", bad), problem.Invalid, func() error { return s.TakeClaim(s.ctx, bad) })
	}
	s.refuse(t, "release a slug", problem.Invalid, func() error {
		return s.ReleaseClaim(s.ctx, directory.Claim{Kind: "slug", Name: "a", Tenant: a.ID})
	})
	s.refuse(t, "unknown tenant", problem.NotFound, func() error {
		return s.TakeClaim(s.ctx, directory.Claim{Kind: "login", Name: "x", Tenant: 999999})
	})
}

func testSnapshot(t *testing.T, s *suite) {
	wantEqual(t, "empty table", bare(s.snapshot(t)), directory.Update{})
	s.add(t, cell("c1"))
	gone := cell("c2")
	gone.State = directory.Provisioning
	s.add(t, gone)
	a := s.create(t, directory.NewTenant{Slug: "a", Hosts: []string{"a.test"}})
	b := s.create(t, directory.NewTenant{Slug: "b"})
	if err := s.RemoveCell(s.ctx, "c2", false); err != nil {
		t.Fatalf("remove: %v", err)
	}
	if err := s.DeleteTenant(s.ctx, b.ID); err != nil {
		t.Fatalf("delete: %v", err)
	}
	wantEqual(t, "table", bare(s.snapshot(t)), directory.Update{
		Version: 6,
		Cells:   []directory.CellRoute{{ID: "c1", Address: "http://c1.test", State: directory.Ready}},
		Routes:  []directory.Route{{Placement: a.Placement, Slug: "a", Hosts: []string{"a.test"}}},
	})
}

func testChanges(t *testing.T, s *suite) {
	s.add(t, cell("c1"))                                         // 1
	s.add(t, cell("c2"))                                         // 2
	a := s.create(t, directory.NewTenant{Slug: "a", Cell: "c1"}) // 3
	b := s.create(t, directory.NewTenant{Slug: "b", Cell: "c1"}) // 4
	for _, p := range []directory.Placement{
		{Tenant: a.ID, Cell: "c1", Epoch: 2, State: directory.Cutover}, // 5
		{Tenant: a.ID, Cell: "c2", Epoch: 3, State: directory.Active},  // 6
	} {
		if err := s.Place(s.ctx, p); err != nil {
			t.Fatalf("place: %v", err)
		}
	}
	if err := s.DeleteTenant(s.ctx, b.ID); err != nil { // 7
		t.Fatalf("delete: %v", err)
	}
	if _, err := s.SetCellState(s.ctx, "c1", directory.Cordoned); err != nil { // 8
		t.Fatalf("cordon: %v", err)
	}
	if err := s.RemoveCell(s.ctx, "c1", false); err != nil { // 9
		t.Fatalf("remove: %v", err)
	}
	routeA := directory.Route{Placement: s.tenant(t, a.ID).Placement, Slug: "a"}
	routeB := directory.Route{Placement: s.tenant(t, b.ID).Placement, Slug: "b"}
	c1 := directory.CellRoute{ID: "c1", Address: "http://c1.test", State: directory.Retired}
	c2 := directory.CellRoute{ID: "c2", Address: "http://c2.test", State: directory.Ready}
	for since, want := range map[directory.Version]directory.Update{
		0: {Cells: []directory.CellRoute{c1, c2}, Routes: []directory.Route{routeA, routeB}},
		2: {Cells: []directory.CellRoute{c1}, Routes: []directory.Route{routeA, routeB}},
		5: {Cells: []directory.CellRoute{c1}, Routes: []directory.Route{routeA, routeB}},
		6: {Cells: []directory.CellRoute{c1}, Routes: []directory.Route{routeB}},
		8: {Cells: []directory.CellRoute{c1}},
		9: {},
	} {
		want.Since, want.Version = since, 9
		got, err := s.Changes(s.ctx, "", since, 0)
		if err != nil {
			t.Fatalf("changes since %d: %v", since, err)
		}
		wantEqual(t, fmt.Sprint("changes since ", since), bare(got), want)
	}
	for _, since := range []directory.Version{10, -1} {
		_, err := s.Changes(s.ctx, "", since, 0)
		wantKind(t, fmt.Sprint("changes since ", since), err, problem.Gone)
	}
}

func testChangesWait(t *testing.T, s *suite) {
	s.add(t, cell("c1"))
	got, err := s.Changes(s.ctx, "r1", 1, time.Millisecond)
	if err != nil {
		t.Fatalf("changes: %v", err)
	}
	wantEqual(t, "when the wait is over", bare(got), directory.Update{Since: 1, Version: 1})

	type answer struct {
		update directory.Update
		err    error
	}
	answers := make(chan answer)
	for i := range 3 {
		go func() {
			u, err := s.Changes(s.ctx, fmt.Sprint("w", i), 1, time.Minute)
			answers <- answer{u, err}
		}()
	}
	s.live(t, 4) // the three wait now, or are about to
	a := s.create(t, directory.NewTenant{Slug: "a"})
	want := directory.Update{Since: 1, Version: 2, Routes: []directory.Route{a.Route()}}
	for range 3 {
		got := <-answers
		if got.err != nil {
			t.Fatalf("changes: %v", got.err)
		}
		wantEqual(t, "who waited", bare(got.update), want)
	}
}

// live polls until n routers are alive.
func (s *suite) live(t *testing.T, n int) directory.Watermark {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		w, err := s.Watermark(s.ctx)
		if err != nil {
			t.Fatalf("watermark: %v", err)
		}
		alive := 0
		for _, r := range w.Routers {
			if r.Live {
				alive++
			}
		}
		if alive == n {
			return w
		}
		select {
		case <-tick.C:
		case <-s.ctx.Done():
			t.Fatalf("waiting for %d live routers: %v, got %+v", n, s.ctx.Err(), w)
		}
	}
}

func testWatermark(t *testing.T, s *suite) {
	s.add(t, cell("c1"))
	s.add(t, cell("c2"))
	ack := func(router string, v directory.Version) {
		t.Helper()
		if _, err := s.Changes(s.ctx, router, v, 0); err != nil {
			t.Fatalf("changes as %s: %v", router, err)
		}
	}
	want := func(what string, mark directory.Version, acked map[string]directory.Version) {
		t.Helper()
		w, err := s.Watermark(s.ctx)
		if err != nil {
			t.Fatalf("watermark: %v", err)
		}
		got := map[string]directory.Version{}
		for i, r := range w.Routers {
			got[r.ID] = r.Acked
			if !r.Live || r.SeenAt.IsZero() || i > 0 && w.Routers[i-1].ID >= r.ID {
				t.Errorf("%s: got router %+v at %d, want it live and in order", what, r, i)
			}
		}
		if w.Version != 2 || w.Watermark != mark {
			t.Errorf("%s: got version %d, watermark %d, want 2, %d", what, w.Version, w.Watermark, mark)
		}
		wantEqual(t, what, got, acked)
	}
	want("no router", 2, map[string]directory.Version{})
	ack("r2", 1)
	want("one lags", 1, map[string]directory.Version{"r2": 1})
	ack("r1", 2)
	want("still lags", 1, map[string]directory.Version{"r1": 2, "r2": 1})
	ack("r2", 2)
	want("caught up", 2, map[string]directory.Version{"r1": 2, "r2": 2})
	ack("", 0)
	want("a reader without a name", 2, map[string]directory.Version{"r1": 2, "r2": 2})
	if _, err := s.Changes(s.ctx, "r1", 3, 0); !errors.Is(err, problem.Gone) {
		t.Errorf("a router ahead of the table: got %v, want gone", err)
	}
	want("which acknowledged nothing", 2, map[string]directory.Version{"r1": 2, "r2": 2})
	_, err := s.Changes(s.ctx, "no router/", 2, 0)
	wantKind(t, "a router's name", err, problem.Invalid)
}

// testLift: a record that was restored, and so is behind a router, goes on above it.
func testLift(t *testing.T, s *suite) {
	s.add(t, cell("c1"))
	ahead := func(what, router string, since, version directory.Version) {
		t.Helper()
		_, err := s.Changes(s.ctx, router, since, 0)
		wantKind(t, what, err, problem.Gone)
		if got := s.snapshot(t).Version; got != version {
			t.Errorf("%s: at version %d, want %d", what, got, version)
		}
	}
	ahead("a record without a tenant", "r1", 7, 1)
	s.create(t, directory.NewTenant{Slug: "a"})
	before := s.snapshot(t).Head
	ahead("a reader without a name", "", 7, 2)
	ahead("far ahead", "r1", 2+directory.FarVersions+1, 2)
	ahead("as far as can be", "r1", math.MaxInt64, 2)
	ahead("ahead", "r1", 7, 7+directory.MarginVersions)
	ahead("a router that serves less, as much", "r2", 7, 7+directory.MarginVersions)
	ahead("what the record had before", "r2", 2, 7+directory.MarginVersions)
	ahead("and at once again", "r2", 7+directory.MarginVersions+1, 7+directory.MarginVersions)
	if lines := s.audit(t, "table"); len(lines) != 1 || lines[0].Action != "table.lift" {
		t.Errorf("audit: got %+v, want one lift", lines)
	}
	u := s.snapshot(t)
	if u.Head == before || u.Head.IsZero() {
		t.Errorf("head: got %x, want a new one", u.Head)
	}
	b := s.create(t, directory.NewTenant{Slug: "b"})
	next, err := s.Changes(s.ctx, "r1", u.Version, 0)
	if err != nil || len(next.Routes) != 1 || next.Routes[0].Tenant != b.ID {
		t.Fatalf("after it: got %+v, %v, want tenant b", next, err)
	}
	if err := next.Continues(u.Version, u.Head); err != nil {
		t.Errorf("after it: %v", err)
	}
}

func testAudit(t *testing.T, s *suite) {
	s.add(t, cell("c1"))
	a := s.create(t, directory.NewTenant{Slug: "a"})
	yes := true
	if _, err := s.UpdateTenant(s.ctx, a.ID, directory.Change{Pinned: &yes}); err != nil {
		t.Fatalf("pin: %v", err)
	}
	if _, err := s.SetCellState(s.ctx, "c1", directory.Cordoned); err != nil {
		t.Fatalf("cordon: %v", err)
	}
	if err := s.DeleteTenant(s.ctx, a.ID); err != nil {
		t.Fatalf("delete: %v", err)
	}
	subject := "tenant/" + a.ID.String()
	var got []string
	last := int64(0)
	for _, e := range s.audit(t, "") {
		got = append(got, e.Action+" "+e.Subject)
		if e.Actor != Actor || e.At.IsZero() || e.ID <= last {
			t.Errorf("line %+v: want actor %s, a time and an id above %d", e, Actor, last)
		}
		last = e.ID
	}
	wantEqual(t, "audit", got, []string{"cell.add cell/c1", "tenant.create " + subject, "tenant.update " + subject, "cell.state cell/c1", "tenant.delete " + subject})

	lines := s.audit(t, subject)
	if len(lines) != 3 || lines[0].Before != "" {
		t.Fatalf("audit of the tenant: got %+v, want 3 lines", lines)
	}
	before, after := decode[directory.Tenant](t, lines[1].Before), decode[directory.Tenant](t, lines[1].After)
	if before.Pinned || !after.Pinned || after.Slug != "a" {
		t.Errorf("pin: got before %+v, after %+v", before, after)
	}
	page, err := s.Audit(s.ctx, subject, lines[0].ID, 1)
	if err != nil {
		t.Fatalf("audit: %v", err)
	}
	wantEqual(t, "page", page, lines[1:2])
	newest := func(subject string, before int64, limit int) []directory.AuditEntry {
		t.Helper()
		page, err := s.NewestAudit(s.ctx, subject, before, limit)
		if err != nil {
			t.Fatalf("newest audit: %v", err)
		}
		slices.Reverse(page)
		return page
	}
	wantEqual(t, "newest page", newest(subject, 0, 2), lines[1:])
	wantEqual(t, "the page before", newest(subject, lines[1].ID, 2), lines[:1])
	wantEqual(t, "nothing before", newest(subject, lines[0].ID, 2), lines[:0])
	wantEqual(t, "newest of all", newest("", 0, 1000), s.audit(t, ""))
	for _, limit := range []int{0, 1001} {
		_, err := s.Audit(s.ctx, "", 0, limit)
		wantKind(t, fmt.Sprint("limit ", limit), err, problem.Invalid)
		_, err = s.NewestAudit(s.ctx, "", 0, limit)
		wantKind(t, fmt.Sprint("newest, limit ", limit), err, problem.Invalid)
	}
}

func testContext(t *testing.T, s *suite) {
	s.add(t, cell("c1"))
	over, cancel := context.WithCancel(s.ctx)
	waited := make(chan error, 1)
	go func() {
		_, err := s.Changes(over, "r1", 1, time.Minute)
		waited <- err
	}()
	s.live(t, 1)
	cancel()
	if err := <-waited; !errors.Is(err, context.Canceled) {
		t.Errorf("changes: got %v, want canceled", err)
	}
	for what, step := range map[string]func() error{
		"add cell":      func() error { _, err := s.AddCell(over, cell("c2")); return err },
		"create tenant": func() error { _, err := s.CreateTenant(over, directory.NewTenant{Slug: "a"}); return err },
		"snapshot":      func() error { _, err := s.Snapshot(over); return err },
		"heartbeat":     func() error { return s.Heartbeat(over, "c1", "db-c1") },
	} {
		if err := step(); !errors.Is(err, context.Canceled) {
			t.Errorf("%s: got %v, want canceled", what, err)
		}
	}
	if got := s.snapshot(t).Version; got != 1 {
		t.Errorf("version: got %d, want 1", got)
	}
}
