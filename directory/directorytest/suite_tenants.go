package directorytest

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/infra/problem"
)

func testCreateTenant(t *testing.T, s *suite) {
	in := cell("c1")
	in.Locality, in.Tier = "eu", "gold"
	s.add(t, in)
	want := directory.NewTenant{
		Slug: "acme", Name: "Acme Ltd", Locality: "eu", Tier: "gold", Hosts: []string{"www.acme.test", "acme.test"},
	}
	var got directory.Tenant
	s.expect(t, "create", 1, 1, func() (err error) { got, err = s.CreateTenant(s.ctx, want); return err })
	wantEqual(t, "created tenant", got, directory.Tenant{
		ID: got.ID, Slug: "acme", Name: "Acme Ltd", Locality: "eu", Tier: "gold", Hosts: []string{"acme.test", "www.acme.test"},
		Placement: directory.Placement{Tenant: got.ID, Cell: "c1", Epoch: 1, State: directory.Active}, CreatedAt: got.CreatedAt,
	})
	if got.ID <= 0 || got.CreatedAt.IsZero() {
		t.Errorf("created tenant: got id %d, created at %v", got.ID, got.CreatedAt)
	}
	wantEqual(t, "stored tenant", s.tenant(t, got.ID), got)
	if c, err := s.Cell(s.ctx, "c1"); err != nil || c.Tenants != 1 {
		t.Errorf("tenants of the cell: got %d, %v, want 1", c.Tenants, err)
	}
	for kind, names := range map[string][]string{"slug": {"acme"}, "host": {"acme.test", "www.acme.test"}} {
		for _, n := range names {
			if c, err := s.FindClaim(s.ctx, kind, n); err != nil || c.Tenant != got.ID {
				t.Errorf("claim %s %s: got %+v, %v, want tenant %d", kind, n, c, err, got.ID)
			}
		}
	}
	for _, bad := range []directory.NewTenant{
		{Slug: "b", Group: "A B"},
		{Slug: "b", PauseBudget: -1},
		{Slug: "b", PauseBudget: 25 * time.Hour},
		{Slug: "Acme"},
		{Slug: "admin"},
		{Slug: ""},
		{Slug: "9lives"},
		{Slug: "b", Hosts: []string{"nodot"}},
		{Slug: "b", Hosts: []string{"b.test", "b.test"}},
		{Slug: "b", Locality: "E U"},
		{Slug: "b", Tier: "-"},
		{Slug: "b", Cell: "C"},
		{Slug: "b", Name: "a\x00b"},
	} {
		s.refuse(t, fmt.Sprintf("create %+v", bad), problem.Invalid, func() error { _, err := s.CreateTenant(s.ctx, bad); return err })
	}
}

func testCreateAllOrNothing(t *testing.T, s *suite) {
	refuse := func(what string, kind problem.Kind, n directory.NewTenant) {
		t.Helper()
		s.refuse(t, what, kind, func() error { _, err := s.CreateTenant(s.ctx, n); return err })
	}
	refuse("no cell at all", problem.Conflict, directory.NewTenant{Slug: "early"})
	small := cell("c1")
	small.Capacity = 2
	s.add(t, small)
	s.create(t, directory.NewTenant{Slug: "acme", Hosts: []string{"acme.test"}})
	refuse("slug taken", problem.Conflict, directory.NewTenant{Slug: "acme", Hosts: []string{"other.test"}})
	refuse("host taken", problem.Conflict, directory.NewTenant{Slug: "other", Hosts: []string{"other.test", "acme.test"}})
	for _, free := range []directory.Claim{{Kind: "slug", Name: "other"}, {Kind: "host", Name: "other.test"}} {
		_, err := s.FindClaim(s.ctx, free.Kind, free.Name)
		wantKind(t, "claim of a refused creation", err, problem.NotFound)
	}
	s.create(t, directory.NewTenant{Slug: "other", Hosts: []string{"other.test"}})
	refuse("no room", problem.Conflict, directory.NewTenant{Slug: "third"})
	refuse("no room in the cell asked for", problem.Conflict, directory.NewTenant{Slug: "third", Cell: "c1"})
	refuse("unknown cell", problem.NotFound, directory.NewTenant{Slug: "third", Cell: "c9"})
}

func testPolicy(t *testing.T, s *suite) {
	for i, c := range []directory.Cell{
		{ID: "big", Capacity: 200, Locality: "eu"},
		{ID: "small", Capacity: 100, Locality: "eu"},
		{ID: "shut", Capacity: 900, Locality: "eu"},
		{ID: "far", Capacity: 900, Locality: "us", Tier: "gold"},
		{ID: "jail", Capacity: 900, Locality: "eu"},
	} {
		c.Address, c.Incarnation = "http://cell.test", fmt.Sprint("db-", i)
		s.add(t, c)
	}
	for id, to := range map[directory.CellID]directory.CellState{"shut": directory.Cordoned, "jail": directory.Quarantine} {
		if _, err := s.SetCellState(s.ctx, id, to); err != nil {
			t.Fatalf("set %s to %s: %v", id, to, err)
		}
	}
	for i := range 30 {
		s.create(t, directory.NewTenant{Slug: fmt.Sprint("t", i), Locality: "eu"})
	}
	s.create(t, directory.NewTenant{Slug: "gold", Tier: "gold"})
	s.create(t, directory.NewTenant{Slug: "culprit", Cell: "jail"})
	s.refuse(t, "a locality nobody has", problem.Conflict, func() error {
		_, err := s.CreateTenant(s.ctx, directory.NewTenant{Slug: "x", Locality: "mars"})
		return err
	})
	s.refuse(t, "a cordoned cell by name", problem.Conflict, func() error {
		_, err := s.CreateTenant(s.ctx, directory.NewTenant{Slug: "x", Cell: "shut"})
		return err
	})
	s.refuse(t, "a cell of another locality by name", problem.Conflict, func() error {
		_, err := s.CreateTenant(s.ctx, directory.NewTenant{Slug: "x", Cell: "far", Locality: "eu"})
		return err
	})
	cells, err := s.ListCells(s.ctx)
	if err != nil {
		t.Fatalf("list cells: %v", err)
	}
	got := map[directory.CellID]int{}
	for _, c := range cells {
		got[c.ID] = c.Tenants
	}
	wantEqual(t, "tenants per cell", got, map[directory.CellID]int{"big": 20, "small": 10, "shut": 0, "far": 1, "jail": 1})
}

// testApart keeps the tenants of a group in cells of their own, but for those that
// are sent by name.
func testApart(t *testing.T, s *suite) {
	for _, id := range []directory.CellID{"c1", "c2", "c3", "c4"} {
		s.add(t, cell(id))
	}
	create := func(n directory.NewTenant) directory.Tenant { n.Group = "replicas"; return s.create(t, n) }
	one := create(directory.NewTenant{Slug: "one", PauseBudget: time.Second})
	wantEqual(t, "stored tenant", s.tenant(t, one.ID), one)
	if one.Group != "replicas" || one.PauseBudget != time.Second {
		t.Errorf("created tenant: got %+v, want its group and its budget", one)
	}
	two := create(directory.NewTenant{Slug: "two"})
	gone := create(directory.NewTenant{Slug: "gone"})
	if err := s.DeleteTenant(s.ctx, gone.ID); err != nil {
		t.Fatalf("delete: %v", err)
	}
	if _, err := s.CreateMove(s.ctx, directory.NewMove{Tenant: two.ID, Target: gone.Placement.Cell}); err != nil {
		t.Fatalf("move: %v", err)
	}
	three := create(directory.NewTenant{Slug: "three"})
	wantEqual(t, "cells", []directory.CellID{one.Placement.Cell, two.Placement.Cell, gone.Placement.Cell, three.Placement.Cell},
		[]directory.CellID{"c1", "c2", "c3", "c4"})
	s.refuse(t, "one more than there are cells", problem.Conflict, func() error {
		_, err := s.CreateTenant(s.ctx, directory.NewTenant{Slug: "four", Group: "replicas"})
		return err
	})
	if got := create(directory.NewTenant{Slug: "four", Cell: "c1"}).Placement.Cell; got != "c1" {
		t.Errorf("by name: got %s, want c1", got)
	}
	s.create(t, directory.NewTenant{Slug: "other", Group: "others"})
}

func testFindTenant(t *testing.T, s *suite) {
	s.add(t, cell("c1"))
	a := s.create(t, directory.NewTenant{Slug: "a"})
	for _, ref := range []string{"a", a.ID.String()} {
		if got, err := s.Tenant(s.ctx, ref); err != nil || got.ID != a.ID {
			t.Errorf("find %q: got %+v, %v", ref, got, err)
		}
	}
	for _, ref := range []string{"b", "é", "999999", "0", "-1", "99999999999999999999"} {
		_, err := s.Tenant(s.ctx, ref)
		wantKind(t, "find "+ref, err, problem.NotFound)
	}
	if err := s.DeleteTenant(s.ctx, a.ID); err != nil {
		t.Fatalf("delete: %v", err)
	}
	_, err := s.Tenant(s.ctx, "a")
	wantKind(t, "find a deleted tenant by slug", err, problem.NotFound)
	if got := s.tenant(t, a.ID).Placement.State; got != directory.Deleted {
		t.Errorf("deleted tenant by id: got state %s, want deleted", got)
	}
}

func testListTenants(t *testing.T, s *suite) {
	s.add(t, cell("c1"))
	s.add(t, cell("c2"))
	var all, onC2 []directory.TenantID
	for i := range 7 {
		id := directory.CellID("c1")
		if i%2 == 0 {
			id = "c2"
		}
		n := s.create(t, directory.NewTenant{Slug: fmt.Sprint("t", i), Cell: id})
		all = append(all, n.ID)
		if id == "c2" {
			onC2 = append(onC2, n.ID)
		}
	}
	gone := s.create(t, directory.NewTenant{Slug: "gone"})
	if err := s.DeleteTenant(s.ctx, gone.ID); err != nil {
		t.Fatalf("delete: %v", err)
	}
	page := func(cell directory.CellID, limit int) (ids []directory.TenantID) {
		for after := directory.TenantID(0); ; after = ids[len(ids)-1] {
			list, err := s.ListTenants(s.ctx, directory.TenantFilter{Cell: cell}, after, limit)
			if err != nil || len(list) > limit {
				t.Fatalf("list %q after %d: got %d tenants, %v", cell, after, len(list), err)
			}
			for _, one := range list {
				ids = append(ids, one.ID)
			}
			if len(list) < limit {
				return ids
			}
		}
	}
	wantEqual(t, "every cell, by twos", page("", 2), all)
	wantEqual(t, "one cell, by threes", page("c2", 3), onC2)
	wantEqual(t, "all at once", page("", 1000), all)
	for _, limit := range []int{-1, 0, 1001} {
		_, err := s.ListTenants(s.ctx, directory.TenantFilter{}, 0, limit)
		wantKind(t, fmt.Sprint("limit ", limit), err, problem.Invalid)
	}
}

func testUpdateTenant(t *testing.T, s *suite) {
	s.add(t, cell("c1"))
	a := s.create(t, directory.NewTenant{Slug: "a", Name: "old", Hosts: []string{"a.test"}})
	yes, no, named := true, false, "new"
	update := func(c directory.Change) func() error {
		return func() error { _, err := s.UpdateTenant(s.ctx, a.ID, c); return err }
	}
	s.expect(t, "nothing", 0, 0, update(directory.Change{}))
	s.expect(t, "what is so already", 0, 0, update(directory.Change{Pinned: &no, Suspended: &no, Hosts: &[]string{"a.test"}}))
	s.expect(t, "pin and rename", 0, 1, update(directory.Change{Pinned: &yes, Name: &named}))
	group, budget, long := "replicas", 2*time.Second, 25*time.Hour
	s.expect(t, "group and budget", 0, 1, update(directory.Change{Group: &group, PauseBudget: &budget}))
	s.expect(t, "the same again", 0, 0, update(directory.Change{Group: &group, PauseBudget: &budget}))
	s.refuse(t, "a budget of more than a day", problem.Invalid, update(directory.Change{PauseBudget: &long}))
	s.expect(t, "suspend", 1, 1, update(directory.Change{Suspended: &yes}))
	s.expect(t, "suspend again", 0, 0, update(directory.Change{Suspended: &yes}))
	want := a
	want.Name, want.Pinned, want.Placement.State = "new", true, directory.Suspended
	want.Group, want.PauseBudget = group, budget
	wantEqual(t, "suspended tenant", s.tenant(t, a.ID), want)
	s.expect(t, "resume", 1, 1, update(directory.Change{Suspended: &no}))
	want.Placement.State = directory.Active
	wantEqual(t, "resumed tenant", s.tenant(t, a.ID), want)
	nobody, none := "", time.Duration(0)
	s.expect(t, "neither group nor budget", 0, 1, update(directory.Change{Group: &nobody, PauseBudget: &none}))
	want.Group, want.PauseBudget = "", 0
	wantEqual(t, "tenant by itself", s.tenant(t, a.ID), want)

	for what, name := range map[string]string{"too long": strings.Repeat("x", 201), "with a NUL": "a\x00b"} {
		s.refuse(t, "a name "+what, problem.Invalid, update(directory.Change{Name: &name}))
	}
	s.refuse(t, "unknown tenant", problem.NotFound, func() error {
		_, err := s.UpdateTenant(s.ctx, 999999, directory.Change{Pinned: &yes})
		return err
	})
	if err := s.DeleteTenant(s.ctx, a.ID); err != nil {
		t.Fatalf("delete: %v", err)
	}
	s.refuse(t, "a deleted tenant", problem.Conflict, update(directory.Change{Pinned: &no}))
}

func testUpdateHosts(t *testing.T, s *suite) {
	s.add(t, cell("c1"))
	a := s.create(t, directory.NewTenant{Slug: "a", Hosts: []string{"one.test", "two.test"}})
	s.create(t, directory.NewTenant{Slug: "b", Hosts: []string{"b.test"}})
	hosts := func(h ...string) func() error {
		return func() error {
			_, err := s.UpdateTenant(s.ctx, a.ID, directory.Change{Hosts: &h})
			return err
		}
	}
	s.expect(t, "the whole new set", 1, 1, hosts("two.test", "three.test"))
	got := s.tenant(t, a.ID).Hosts
	if want := []string{"three.test", "two.test"}; !slices.Equal(got, want) {
		t.Errorf("hosts: got %v, want %v", got, want)
	}
	table := s.snapshot(t)
	u, err := s.Changes(s.ctx, "", table.Version-1, 0)
	if err != nil {
		t.Fatalf("changes: %v", err)
	}
	wantEqual(t, "changed routes", u.Routes, []directory.Route{s.tenant(t, a.ID).Route()})
	wantEqual(t, "whole table", table.Routes[0], u.Routes[0])
	_, err = s.FindClaim(s.ctx, "host", "one.test")
	wantKind(t, "a host given back", err, problem.NotFound)
	s.refuse(t, "a host taken", problem.Conflict, hosts("four.test", "b.test"))
	_, err = s.FindClaim(s.ctx, "host", "four.test")
	wantKind(t, "a host of a refused change", err, problem.NotFound)
	s.refuse(t, "no host name", problem.Invalid, hosts("UPPER.test"))
	s.expect(t, "none", 1, 1, hosts())
	if got := s.tenant(t, a.ID).Hosts; len(got) != 0 {
		t.Errorf("hosts: got %v, want none", got)
	}
}

func testDeleteTenant(t *testing.T, s *suite) {
	s.add(t, cell("c1"))
	a := s.create(t, directory.NewTenant{Slug: "a", Hosts: []string{"a.test"}})
	login := directory.Claim{Kind: "login", Name: "ann", Tenant: a.ID}
	if err := s.TakeClaim(s.ctx, login); err != nil {
		t.Fatalf("claim: %v", err)
	}
	remove := func() error { return s.DeleteTenant(s.ctx, a.ID) }
	s.expect(t, "delete", 1, 1, remove)
	s.expect(t, "delete again", 0, 0, remove)
	s.refuse(t, "unknown tenant", problem.NotFound, func() error { return s.DeleteTenant(s.ctx, 999999) })
	want := directory.Placement{Tenant: a.ID, Cell: "c1", Epoch: 2, State: directory.Deleted}
	wantEqual(t, "placement", s.tenant(t, a.ID).Placement, want)
	if c, err := s.Cell(s.ctx, "c1"); err != nil || c.Tenants != 0 {
		t.Errorf("tenants of the cell: got %d, %v, want 0", c.Tenants, err)
	}
	for kind, n := range map[string]string{"slug": "a", "host": "a.test", "login": "ann"} {
		_, err := s.FindClaim(s.ctx, kind, n)
		wantKind(t, "claim "+kind, err, problem.NotFound)
	}
	s.refuse(t, "claim for a deleted tenant", problem.Conflict, func() error { return s.TakeClaim(s.ctx, login) })
	s.refuse(t, "place a deleted tenant", problem.Conflict, func() error {
		return s.Place(s.ctx, directory.Placement{Tenant: a.ID, Cell: "c1", Epoch: 3, State: directory.Active})
	})
	if b := s.create(t, directory.NewTenant{Slug: "a", Hosts: []string{"a.test"}}); b.ID == a.ID {
		t.Errorf("the number of a deleted tenant was given again")
	}
}

func testPlace(t *testing.T, s *suite) {
	s.add(t, cell("c1"))
	s.add(t, cell("c2"))
	a := s.create(t, directory.NewTenant{Slug: "a", Cell: "c1"})
	place := func(cell directory.CellID, e directory.Epoch, state directory.State) func() error {
		p := directory.Placement{Tenant: a.ID, Cell: cell, Epoch: e, State: state}
		return func() error { return s.Place(s.ctx, p) }
	}
	for _, state := range []directory.State{directory.Suspended, directory.Deleted, "", "odd"} {
		s.refuse(t, fmt.Sprintf("state %q", state), problem.Invalid, place("c2", 2, state))
	}
	for _, e := range []directory.Epoch{3, 900} {
		s.refuse(t, fmt.Sprint("epoch ", e), problem.Conflict, place("c2", e, directory.Active))
	}
	s.refuse(t, "the first epoch", problem.Invalid, place("c2", 1, directory.Active))
	s.refuse(t, "unknown cell", problem.NotFound, place("c9", 2, directory.Active))
	s.refuse(t, "unknown tenant", problem.NotFound, func() error {
		return s.Place(s.ctx, directory.Placement{Tenant: 999999, Cell: "c2", Epoch: 2, State: directory.Active})
	})
	s.expect(t, "cutover", 1, 1, place("c1", 2, directory.Cutover))
	s.refuse(t, "the same step again", problem.Conflict, place("c1", 2, directory.Cutover))
	s.expect(t, "switch", 1, 1, place("c2", 3, directory.Active))
	want := directory.Placement{Tenant: a.ID, Cell: "c2", Epoch: 3, State: directory.Active}
	wantEqual(t, "placement", s.tenant(t, a.ID).Placement, want)
	for id, want := range map[directory.CellID]int{"c1": 0, "c2": 1} {
		if c, err := s.Cell(s.ctx, id); err != nil || c.Tenants != want {
			t.Errorf("tenants of %s: got %d, %v, want %d", id, c.Tenants, err, want)
		}
	}
	if _, err := s.SetCellState(s.ctx, "c1", directory.Cordoned); err != nil {
		t.Fatalf("cordon: %v", err)
	}
	if err := s.RemoveCell(s.ctx, "c1", false); err != nil {
		t.Fatalf("remove: %v", err)
	}
	s.refuse(t, "a retired cell", problem.Conflict, place("c1", 4, directory.Active))
	drained := cell("c3")
	drained.State = directory.Drained
	s.add(t, drained)
	s.refuse(t, "a drained cell", problem.Conflict, place("c3", 4, directory.Active))
}

func testPlaceSuspended(t *testing.T, s *suite) {
	s.add(t, cell("c1"))
	s.add(t, cell("c2"))
	a := s.create(t, directory.NewTenant{Slug: "a", Cell: "c1"})
	yes, no := true, false
	if _, err := s.UpdateTenant(s.ctx, a.ID, directory.Change{Suspended: &yes}); err != nil {
		t.Fatalf("suspend: %v", err)
	}
	want := directory.Placement{Tenant: a.ID, Cell: "c2", Epoch: 2, State: directory.Cutover}
	if err := s.Place(s.ctx, want); err != nil {
		t.Fatalf("place: %v", err)
	}
	want.State = directory.Suspended
	wantEqual(t, "placed while suspended", s.tenant(t, a.ID).Placement, want)
	if _, err := s.UpdateTenant(s.ctx, a.ID, directory.Change{Suspended: &no}); err != nil {
		t.Fatalf("resume: %v", err)
	}
	want.State = directory.Cutover
	wantEqual(t, "resumed", s.tenant(t, a.ID).Placement, want)
}
