package directorytest

import (
	"testing"

	"github.com/cellway/cellway/directory"
)

// bare is u without its chain.
func bare(u directory.Update) directory.Update {
	u.Head, u.Links = directory.Head{}, nil
	return u
}

// testChain: from any version to any later one the links lead from one snapshot's
// head to the other's, and the contents are what they end with.
func testChain(t *testing.T, s *suite) {
	heads := []directory.Head{s.snapshot(t).Head}
	step := func(err error) {
		t.Helper()
		u := s.snapshot(t)
		if err != nil || int(u.Version) != len(heads) {
			t.Fatalf("got version %d, %v, want %d", u.Version, err, len(heads))
		}
		heads = append(heads, u.Head)
	}
	s.add(t, cell("c1"))
	step(nil)
	s.add(t, cell("c2"))
	step(nil)
	a := s.create(t, directory.NewTenant{Slug: "a", Cell: "c1", Hosts: []string{"b.test", "a.test"}})
	step(nil)
	step(s.Place(s.ctx, directory.Placement{Tenant: a.ID, Cell: "c2", Epoch: 2, State: directory.Cutover}))
	yes := true
	_, err := s.UpdateTenant(s.ctx, a.ID, directory.Change{Suspended: &yes, Hosts: &[]string{"c.test"}})
	step(err)
	for _, to := range []directory.CellState{directory.Cordoned, directory.Drained, directory.Retired} {
		_, err := s.SetCellState(s.ctx, "c1", to)
		step(err)
	}
	step(s.DeleteTenant(s.ctx, a.ID))
	last := directory.Version(len(heads) - 1)
	for since := range last + 1 {
		u, err := s.Changes(s.ctx, "", since, 0)
		if err != nil {
			t.Fatalf("changes since %d: %v", since, err)
		}
		if u.Head != heads[last] || len(u.Links) != int(last-since) {
			t.Errorf("since %d: got head %x, %d links", since, u.Head, len(u.Links))
		}
		for at := since; at <= last; at++ {
			if err := u.Continues(at, heads[at]); err != nil {
				t.Errorf("since %d: does not continue version %d: %v", since, at, err)
			}
		}
		if err := u.Continues(since, directory.Head{1}); err == nil {
			t.Errorf("since %d: continues another history", since)
		}
	}
}
