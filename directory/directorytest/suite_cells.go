package directorytest

import (
	"testing"
	"time"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/infra/problem"
)

func testAddCell(t *testing.T, s *suite) {
	in := cell("c1")
	in.Admin, in.Locality, in.Tier = "http://c1.admin", "eu", "gold"
	in.Tenants, in.Healthy, in.SeenAt = 7, false, time.Unix(1, 0) // ignored on write
	in.Announced, in.Unheard = "http://c2.test", true             // and these
	var got directory.Cell
	s.expect(t, "add", 1, 1, func() (err error) { got, err = s.AddCell(s.ctx, in); return err })
	if !got.Healthy || time.Since(got.SeenAt) > time.Hour {
		t.Errorf("a cell that registers counts as heard of: got healthy %v, seen %v", got.Healthy, got.SeenAt)
	}
	want := in
	want.State, want.Tenants, want.Healthy, want.SeenAt = directory.Ready, 0, true, got.SeenAt
	want.Announced, want.Unheard = in.Address, false
	wantEqual(t, "added cell", got, want)
	stored, err := s.Cell(s.ctx, "c1")
	if err != nil {
		t.Fatalf("find cell: %v", err)
	}
	wantEqual(t, "stored cell", stored, want)

	provisioning := cell("c2")
	provisioning.State = directory.Provisioning
	if got := s.add(t, provisioning).State; got != directory.Provisioning {
		t.Errorf("state asked for: got %s, want provisioning", got)
	}
	for what, spoil := range map[string]func(*directory.Cell){
		"id":       func(c *directory.Cell) { c.ID = "C 1" },
		"address":  func(c *directory.Cell) { c.Address = "c1:80" },
		"capacity": func(c *directory.Cell) { c.Capacity = 0 },
		"state":    func(c *directory.Cell) { c.State = "broken" },
		"retired":  func(c *directory.Cell) { c.State = directory.Retired },
		"locality": func(c *directory.Cell) { c.Locality = "E U" },
		"tier":     func(c *directory.Cell) { c.Tier = "-" },
	} {
		bad := cell("c3")
		spoil(&bad)
		s.refuse(t, "add with bad "+what, problem.Invalid, func() error { _, err := s.AddCell(s.ctx, bad); return err })
	}
}

// testAddCellUnheard: a cell that somebody else registers gets no tenant by choice before
// it was heard of; by name it does, and its first registration is enough.
func testAddCellUnheard(t *testing.T, s *suite) {
	known := cell("c1")
	known.Incarnation = ""
	for range 2 {
		if got := s.add(t, known); got.Healthy || !got.SeenAt.IsZero() || got.State != directory.Ready {
			t.Errorf("added by hand: got %+v, want it ready and never seen", got)
		}
	}
	s.refuse(t, "create", problem.Conflict, func() error { _, err := s.CreateTenant(s.ctx, directory.NewTenant{Slug: "a"}); return err })
	s.create(t, directory.NewTenant{Slug: "b", Cell: "c1"})
	if got := s.add(t, cell("c1")); !got.Healthy {
		t.Errorf("the cell itself: got %+v, want it healthy", got)
	}
	s.create(t, directory.NewTenant{Slug: "a"})
}

func testAddCellAgain(t *testing.T, s *suite) {
	c := cell("c1")
	s.add(t, c)
	s.expect(t, "same again", 0, 0, func() error { _, err := s.AddCell(s.ctx, c); return err })

	c.Capacity, c.Admin, c.Locality, c.Tier = 5, "http://elsewhere", "us", "silver"
	s.expect(t, "what routers need not know", 0, 1, func() error { _, err := s.AddCell(s.ctx, c); return err })
	c.Address = "https://new.test"
	s.expect(t, "address", 1, 1, func() error { _, err := s.AddCell(s.ctx, c); return err })

	if _, err := s.SetCellState(s.ctx, "c1", directory.Cordoned); err != nil {
		t.Fatalf("cordon: %v", err)
	}
	c.State = directory.Ready
	got := s.add(t, c)
	if got.State != directory.Cordoned || got.Address != c.Address || got.Capacity != 5 || got.Tier != "silver" {
		t.Errorf("registered again: got %+v, want the new labels and the old state", got)
	}
	other := c
	other.Incarnation = "another database"
	s.refuse(t, "another incarnation", problem.Conflict, func() error { _, err := s.AddCell(s.ctx, other); return err })

	unnamed := cell("c2")
	unnamed.Incarnation = ""
	s.add(t, unnamed)
	if got := s.add(t, cell("c2")).Incarnation; got != "db-c2" {
		t.Errorf("first incarnation named: got %q, want db-c2", got)
	}
	unnamed.Incarnation = ""
	s.refuse(t, "no incarnation any more", problem.Conflict, func() error { _, err := s.AddCell(s.ctx, unnamed); return err })
}

func testHeartbeat(t *testing.T, s *suite) {
	before := s.add(t, cell("c1")).SeenAt
	s.expect(t, "heartbeat", 0, 0, func() error { return s.Heartbeat(s.ctx, "c1", "db-c1") })
	got, err := s.Cell(s.ctx, "c1")
	if err != nil || !got.Healthy || got.SeenAt.Before(before) {
		t.Errorf("after a heartbeat: got %+v, %v", got, err)
	}
	s.refuse(t, "other incarnation", problem.Conflict, func() error { return s.Heartbeat(s.ctx, "c1", "db-c2") })
	s.refuse(t, "unknown cell", problem.NotFound, func() error { return s.Heartbeat(s.ctx, "c9", "db-c9") })
}

func testListCells(t *testing.T, s *suite) {
	if got, err := s.ListCells(s.ctx); err != nil || len(got) != 0 {
		t.Errorf("list of nothing: got %v, %v", got, err)
	}
	s.add(t, cell("c2"))
	s.add(t, cell("c1"))
	gone := cell("c3")
	gone.State = directory.Provisioning
	s.add(t, gone)
	if err := s.RemoveCell(s.ctx, "c3", false); err != nil {
		t.Fatalf("remove: %v", err)
	}
	got, err := s.ListCells(s.ctx)
	if err != nil || len(got) != 2 || got[0].ID != "c1" || got[1].ID != "c2" {
		t.Errorf("list: got %v, %v, want c1 and c2", got, err)
	}
	_, err = s.Cell(s.ctx, "c9")
	wantKind(t, "unknown cell", err, problem.NotFound)
}

func testSetCellState(t *testing.T, s *suite) {
	s.add(t, cell("c1"))
	set := func(to directory.CellState) func() error {
		return func() error {
			got, err := s.SetCellState(s.ctx, "c1", to)
			if err == nil && got.State != to {
				t.Errorf("set state: got %s, want %s", got.State, to)
			}
			return err
		}
	}
	s.expect(t, "cordon", 1, 1, set(directory.Cordoned))
	s.expect(t, "cordon again", 0, 0, set(directory.Cordoned))
	s.expect(t, "uncordon", 1, 1, set(directory.Ready))
	s.refuse(t, "a step that CanBecome does not allow", problem.Conflict, set(directory.Drained))
	s.refuse(t, "no state", problem.Invalid, set("asleep"))
	s.refuse(t, "unknown cell", problem.NotFound, func() error {
		_, err := s.SetCellState(s.ctx, "c9", directory.Cordoned)
		return err
	})

	a := s.create(t, directory.NewTenant{Slug: "a"})
	s.expect(t, "drain", 1, 1, set(directory.Draining))
	s.refuse(t, "drained while it owns a tenant", problem.Conflict, set(directory.Drained))
	if err := s.DeleteTenant(s.ctx, a.ID); err != nil {
		t.Fatalf("delete tenant: %v", err)
	}
	s.expect(t, "drained", 1, 1, set(directory.Drained))
}

func testRemoveCell(t *testing.T, s *suite) {
	s.add(t, cell("c1"))
	a := s.create(t, directory.NewTenant{Slug: "a"})
	remove := func() error { return s.RemoveCell(s.ctx, "c1", false) }
	s.refuse(t, "remove a ready cell", problem.Conflict, remove)
	if _, err := s.SetCellState(s.ctx, "c1", directory.Cordoned); err != nil {
		t.Fatalf("cordon: %v", err)
	}
	s.refuse(t, "remove while it owns a tenant", problem.Conflict, remove)
	if err := s.DeleteTenant(s.ctx, a.ID); err != nil {
		t.Fatalf("delete tenant: %v", err)
	}
	s.expect(t, "remove", 1, 1, remove)
	s.expect(t, "remove again", 0, 0, remove)
	if got, err := s.Cell(s.ctx, "c1"); err != nil || got.State != directory.Retired {
		t.Errorf("removed cell: got %+v, %v, want retired", got, err)
	}
	other := cell("c1")
	other.Incarnation = "another database"
	s.refuse(t, "come back with another database", problem.Conflict, func() error { _, err := s.AddCell(s.ctx, other); return err })
	s.refuse(t, "unknown cell", problem.NotFound, func() error { return s.RemoveCell(s.ctx, "c9", false) })
}
