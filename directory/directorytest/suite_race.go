package directorytest

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/infra/problem"
)

// racers is how many run at once where exactly one, or so many, may win.
const racers = 8

// race runs step for each racer at once and counts who won. Whoever did not must
// have lost with a Conflict.
func race(t *testing.T, what string, step func(i int) error) (won int) {
	t.Helper()
	start := make(chan struct{})
	results := make([]error, racers)
	var wg sync.WaitGroup
	for i := range racers {
		wg.Go(func() {
			<-start
			results[i] = step(i)
		})
	}
	close(start)
	wg.Wait()
	for _, err := range results {
		switch {
		case err == nil:
			won++
		case !errors.Is(err, problem.Conflict):
			t.Errorf("%s: got %v, want nil or a conflict", what, err)
		}
	}
	return won
}

func testRaceSlug(t *testing.T, s *suite) {
	s.add(t, cell("c1"))
	s.add(t, cell("c2"))
	for round := range 5 {
		slug := fmt.Sprint("acme-", round)
		won := race(t, "create", func(i int) error {
			_, err := s.CreateTenant(s.ctx, directory.NewTenant{Slug: slug, Cell: directory.CellID(fmt.Sprint("c", i%2+1))})
			return err
		})
		if won != 1 {
			t.Errorf("round %d: got %d owners of %s, want 1", round, won, slug)
		}
	}
	if got := len(s.snapshot(t).Routes); got != 5 {
		t.Errorf("got %d tenants, want 5", got)
	}
}

func testRaceClaim(t *testing.T, s *suite) {
	s.add(t, cell("c1"))
	tenants := make([]directory.Tenant, racers)
	for i := range tenants {
		tenants[i] = s.create(t, directory.NewTenant{Slug: fmt.Sprint("t", i)})
	}
	for round := range 10 {
		login := fmt.Sprint("ann-", round)
		won := race(t, "claim", func(i int) error {
			return s.TakeClaim(s.ctx, directory.Claim{Kind: "login", Name: login, Tenant: tenants[i].ID})
		})
		if won != 1 {
			t.Errorf("round %d: got %d owners, want 1", round, won)
		}
		if _, err := s.FindClaim(s.ctx, "login", login); err != nil {
			t.Errorf("round %d: find the owner: %v", round, err)
		}
	}
}

// testRaceHosts lets tenants trade overlapping sets of hosts in opposite orders:
// at most one may hold a name, and nobody may wait for ever.
func testRaceHosts(t *testing.T, s *suite) {
	s.add(t, cell("c1"))
	tenants := make([]directory.Tenant, racers)
	for i := range tenants {
		tenants[i] = s.create(t, directory.NewTenant{Slug: fmt.Sprint("t", i)})
	}
	names := []string{"a.test", "b.test", "c.test", "d.test"}
	for range 5 {
		race(t, "hosts", func(i int) error {
			set := []string{names[i%4], names[(i+3)%4]}
			_, err := s.UpdateTenant(s.ctx, tenants[i].ID, directory.Change{Hosts: &set})
			return err
		})
	}
	owners := map[string]directory.TenantID{}
	for _, r := range s.snapshot(t).Routes {
		for _, h := range r.Hosts {
			if other, taken := owners[h]; taken {
				t.Errorf("host %s: owned by %d and %d", h, other, r.Tenant)
			}
			owners[h] = r.Tenant
			if c, err := s.FindClaim(s.ctx, "host", h); err != nil || c.Tenant != r.Tenant {
				t.Errorf("claim of %s: got %+v, %v, want %d", h, c, err, r.Tenant)
			}
		}
	}
}

func testRaceEpoch(t *testing.T, s *suite) {
	s.add(t, cell("c1"))
	s.add(t, cell("c2"))
	a := s.create(t, directory.NewTenant{Slug: "a"})
	for e := directory.Epoch(2); e < 12; e++ {
		won := race(t, "place", func(i int) error {
			to := directory.CellID(fmt.Sprint("c", i%2+1))
			return s.Place(s.ctx, directory.Placement{Tenant: a.ID, Cell: to, Epoch: e, State: directory.Active})
		})
		if won != 1 {
			t.Errorf("epoch %d: got %d owners, want 1", e, won)
		}
	}
	if got := s.tenant(t, a.ID).Placement.Epoch; got != 11 {
		t.Errorf("epoch: got %d, want 11", got)
	}
}

func testRaceCapacity(t *testing.T, s *suite) {
	for _, id := range []directory.CellID{"c1", "c2"} {
		c := cell(id)
		c.Capacity = 2
		s.add(t, c)
	}
	won := race(t, "create", func(i int) error {
		_, err := s.CreateTenant(s.ctx, directory.NewTenant{Slug: fmt.Sprint("t", i)})
		return err
	})
	if won != 4 {
		t.Errorf("got %d tenants on 2 cells for 2 each, want 4", won)
	}
	cells, err := s.ListCells(s.ctx)
	if err != nil || cells[0].Tenants != 2 || cells[1].Tenants != 2 {
		t.Errorf("cells: got %+v, %v, want 2 tenants each", cells, err)
	}
}

// testRaceRemoveCell retires a cell while tenants are sent there.
func testRaceRemoveCell(t *testing.T, s *suite) {
	for round := range 5 {
		id := directory.CellID(fmt.Sprint("q", round))
		s.add(t, cell(id))
		if _, err := s.SetCellState(s.ctx, id, directory.Quarantine); err != nil {
			t.Fatalf("quarantine: %v", err)
		}
		race(t, "create or remove", func(i int) error {
			if i == 0 {
				return s.RemoveCell(s.ctx, id, false)
			}
			_, err := s.CreateTenant(s.ctx, directory.NewTenant{Slug: fmt.Sprintf("t%d-%d", round, i), Cell: id})
			if errors.Is(err, problem.NotFound) {
				return problem.Conflict // it was removed first
			}
			return err
		})
		c, err := s.Cell(s.ctx, id)
		if err != nil || c.State == directory.Retired && c.Tenants > 0 {
			t.Errorf("round %d: got %+v, %v: retired with tenants", round, c, err)
		}
	}
}

// testFollow changes the table from many sides while followers rebuild it from
// Changes: each must see versions that only grow, and at each version that a
// snapshot shows too, the same table.
func testFollow(t *testing.T, s *suite) {
	for i := range 3 {
		s.add(t, cell(directory.CellID(fmt.Sprint("c", i))))
	}
	const writers, steps = 6, 12
	stop := make(chan struct{})
	snapshots := make(chan map[directory.Version]string, 1)
	go func() { snapshots <- s.collectSnapshots(t, stop) }()
	followers := make([]map[directory.Version]string, 3)
	var follow, write sync.WaitGroup
	end := make(chan directory.Version, len(followers))
	for i := range followers {
		follow.Go(func() { followers[i] = s.follow(t, fmt.Sprint("r", i), end) })
	}
	for w := range writers {
		write.Go(func() { s.disturb(t, w, steps) })
	}
	write.Wait()
	last := s.snapshot(t)
	for range followers {
		end <- last.Version
	}
	follow.Wait()
	close(stop)
	seen := <-snapshots
	seen[last.Version] = text(newTable(last))
	if want := directory.Version(3 + writers*steps); last.Version != want {
		t.Errorf("version: got %d, want %d: one per mutation", last.Version, want)
	}
	for i, f := range followers {
		if f[last.Version] == "" {
			t.Errorf("follower %d never reached version %d", i, last.Version)
		}
		for v, got := range f {
			if want, ok := seen[v]; ok && got != want {
				t.Errorf("follower %d at version %d:\n got %s\nwant %s", i, v, got, want)
			}
		}
	}
}

// disturb makes exactly steps mutations that routers have to know.
func (s *suite) disturb(t *testing.T, writer, steps int) {
	var live []directory.Tenant
	flip := map[directory.TenantID]bool{}
	for i := range steps {
		if len(live) == 0 || rand.IntN(3) == 0 {
			n, err := s.CreateTenant(s.ctx, directory.NewTenant{Slug: fmt.Sprintf("w%d-%d", writer, i)})
			if err != nil {
				t.Errorf("create: %v", err)
				return
			}
			live = append(live, n)
			continue
		}
		k := rand.IntN(len(live))
		n := &live[k]
		var err error
		switch rand.IntN(3) {
		case 0:
			n.Placement.Epoch++
			n.Placement.Cell = directory.CellID(fmt.Sprint("c", rand.IntN(3)))
			err = s.Place(s.ctx, n.Placement)
		case 1:
			on := !flip[n.ID]
			flip[n.ID] = on
			_, err = s.UpdateTenant(s.ctx, n.ID, directory.Change{Suspended: &on})
		case 2:
			err = s.DeleteTenant(s.ctx, n.ID)
			live = append(live[:k], live[k+1:]...)
		}
		if err != nil {
			t.Errorf("disturb: %v", err)
			return
		}
	}
}

// follow rebuilds the table from Changes until the version that end names, and
// returns what it was at each version reached.
func (s *suite) follow(t *testing.T, router string, end <-chan directory.Version) map[directory.Version]string {
	tb, at := newTable(directory.Update{}), directory.Version(0)
	seen := map[directory.Version]string{}
	const notTold = directory.Version(1 << 60)
	last := notTold
	for at < last {
		u, err := s.Changes(s.ctx, router, at, 20*time.Millisecond)
		if err != nil {
			t.Errorf("changes since %d: %v", at, err)
			return seen
		}
		if u.Since != at || u.Version < at {
			t.Errorf("changes since %d: got since %d, version %d", at, u.Since, u.Version)
			return seen
		}
		tb.apply(u)
		at = u.Version
		seen[at] = text(tb)
		if last != notTold {
			continue // there is one word for each follower: a second one would be another's
		}
		select {
		case last = <-end:
		default:
		}
	}
	return seen
}

func (s *suite) collectSnapshots(t *testing.T, stop <-chan struct{}) map[directory.Version]string {
	seen := map[directory.Version]string{}
	for {
		select {
		case <-stop:
			return seen
		default:
		}
		u, err := s.Snapshot(s.ctx)
		if err != nil {
			t.Errorf("snapshot: %v", err)
			return seen
		}
		seen[u.Version] = text(newTable(u))
	}
}

// A table is what a router makes of updates.
type table struct {
	Cells  map[directory.CellID]directory.CellRoute
	Routes map[directory.TenantID]directory.Route
}

func newTable(u directory.Update) *table {
	tb := &table{map[directory.CellID]directory.CellRoute{}, map[directory.TenantID]directory.Route{}}
	tb.apply(u)
	return tb
}

func (tb *table) apply(u directory.Update) {
	for _, c := range u.Cells {
		tb.Cells[c.ID] = c
		if c.State == directory.Retired {
			delete(tb.Cells, c.ID)
		}
	}
	for _, r := range u.Routes {
		tb.Routes[r.Tenant] = r
		if r.State == directory.Deleted {
			delete(tb.Routes, r.Tenant)
		}
	}
}
