package directorytest

import (
	"testing"
	"time"

	"github.com/cellway/cellway/directory"
)

// bare is u without its chain.
func bare(u directory.Update) directory.Update {
	u.Head, u.Links = directory.Head{}, nil
	return u
}

// testCredentialsChain: the same of keys and revoked tokens.
func testCredentialsChain(t *testing.T, s *suite) {
	s.add(t, cell("c1"))
	a := s.create(t, directory.NewTenant{Slug: "a"})
	heads := map[directory.Version]directory.Head{1: s.credentials(t, 0).Head}
	step := func(err error) {
		t.Helper()
		c := s.credentials(t, 0)
		if err != nil || int(c.Version) != len(heads)+1 {
			t.Fatalf("got version %d, %v, want %d", c.Version, err, len(heads)+1)
		}
		heads[c.Version] = c.Head
	}
	expires := key(a.ID, 1)
	expires.ExpiresAt = time.Now().Add(time.Hour) // with a fraction of a second that the record rounds
	k := s.addKey(t, expires)
	step(nil)
	s.addKey(t, key(a.ID, 2))
	step(nil)
	step(s.RevokeKey(s.ctx, a.ID, k.ID))
	step(s.RevokeToken(s.ctx, directory.RevokedToken{ID: "00112233445566778899", Tenant: a.ID, ExpiresAt: expires.ExpiresAt}))
	last := directory.Version(len(heads))
	for since := directory.Version(1); since <= last; since++ {
		c := s.credentials(t, since)
		if c.Head != heads[last] || len(c.Links) != int(last-since) {
			t.Errorf("since %d: got head %x, %d links", since, c.Head, len(c.Links))
		}
		for at := since; at <= last; at++ {
			if err := c.Continues(at, heads[at]); err != nil {
				t.Errorf("since %d: does not continue version %d: %v", since, at, err)
			}
		}
		if err := c.Continues(since, directory.Head{1}); err == nil {
			t.Errorf("since %d: continues another history", since)
		}
	}
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
