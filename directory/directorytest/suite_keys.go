package directorytest

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/infra/problem"
)

// key is a tenant's n-th key; its hash says so.
func key(id directory.TenantID, n int) directory.Key {
	unique := strings.Map(func(r rune) rune { return r - '0' + 'a' }, fmt.Sprintf("%08d%08d", id, n))
	return directory.Key{ID: unique, Tenant: id, Name: "ci", Hash: fmt.Sprintf("%064x", n)}
}

func (s *suite) addKey(t *testing.T, k directory.Key) directory.Key {
	t.Helper()
	got, err := s.AddKey(s.ctx, k)
	if err != nil {
		t.Fatalf("add key: %v", err)
	}
	return got
}

func (s *suite) credentials(t *testing.T, since directory.Version) directory.Credentials {
	t.Helper()
	c, err := s.Credentials(s.ctx, since, 0)
	if err != nil {
		t.Fatalf("credentials since %d: %v", since, err)
	}
	return c
}

func testKeys(t *testing.T, s *suite) {
	s.add(t, cell("c1"))
	a, b := s.create(t, directory.NewTenant{Slug: "a"}), s.create(t, directory.NewTenant{Slug: "b"})
	want := key(a.ID, 1)
	want.ExpiresAt = time.Date(2040, 1, 2, 3, 4, 5, 0, time.UTC)
	var got directory.Key
	s.expect(t, "add", 0, 1, func() (err error) { got, err = s.AddKey(s.ctx, want); return err })
	want.CreatedAt = got.CreatedAt
	wantEqual(t, "added key", got, want)
	if got.CreatedAt.IsZero() {
		t.Error("added key: no creation time")
	}
	s.expect(t, "add again", 0, 0, func() error { _, err := s.AddKey(s.ctx, want); return err })
	if c, err := s.FindClaim(s.ctx, "key", want.ID); err != nil || c.Tenant != a.ID {
		t.Errorf("claim of the key: got %+v, %v", c, err)
	}
	refuse := func(what string, kind problem.Kind, k directory.Key) {
		t.Helper()
		s.refuse(t, what, kind, func() error { _, err := s.AddKey(s.ctx, k); return err })
	}
	taken, other, nobodys := key(b.ID, 2), want, key(999999, 1)
	taken.ID, other.Hash = want.ID, strings.Repeat("f", 64)
	refuse("another tenant's id", problem.Conflict, taken)
	refuse("another hash", problem.Conflict, other)
	refuse("unknown tenant", problem.NotFound, nobodys)
	for _, change := range []func(*directory.Key){
		func(k *directory.Key) { k.ID = "short" },
		func(k *directory.Key) { k.Hash = "00" },
		func(k *directory.Key) { k.Hash = strings.Repeat("z", 64) },
		func(k *directory.Key) { k.Name = "" },
		func(k *directory.Key) { k.Name = "a\x00b" },
	} {
		bad := key(a.ID, 3)
		change(&bad)
		refuse(fmt.Sprintf("add %+v", bad), problem.Invalid, bad)
	}
	keys, err := s.ListKeys(s.ctx, a.ID)
	if err != nil {
		t.Fatal(err)
	}
	wantEqual(t, "keys", keys, []directory.Key{want})
	s.refuse(t, "revoke another's", problem.NotFound, func() error { return s.RevokeKey(s.ctx, b.ID, want.ID) })
	s.expect(t, "revoke", 0, 1, func() error { return s.RevokeKey(s.ctx, a.ID, want.ID) })
	s.expect(t, "revoke again", 0, 0, func() error { return s.RevokeKey(s.ctx, a.ID, want.ID) })
	refuse("a revoked one again", problem.Conflict, want)
	_, err = s.FindClaim(s.ctx, "key", want.ID)
	wantKind(t, "claim of a revoked key", err, problem.NotFound)
	if keys, err := s.ListKeys(s.ctx, a.ID); err != nil || len(keys) != 0 {
		t.Errorf("keys after revocation: got %v, %v", keys, err)
	}
	_, err = s.ListKeys(s.ctx, 999999)
	wantKind(t, "keys of nobody", err, problem.NotFound)
	for n := range directory.MaxKeys {
		s.addKey(t, key(b.ID, n+10))
	}
	refuse("one key too many", problem.Conflict, key(b.ID, 5))
	if err := s.DeleteTenant(s.ctx, b.ID); err != nil {
		t.Fatal(err)
	}
	refuse("of a deleted tenant", problem.Conflict, key(b.ID, 6))
	if c := s.credentials(t, 0); len(c.Keys) != 0 {
		t.Errorf("everything holds %d keys that are revoked or a deleted tenant's", len(c.Keys))
	}
}

func testRevokeToken(t *testing.T, s *suite) {
	s.add(t, cell("c1"))
	a := s.create(t, directory.NewTenant{Slug: "a"})
	gone := directory.RevokedToken{ID: "00112233445566778899", Tenant: a.ID, ExpiresAt: time.Date(2040, 1, 1, 0, 0, 0, 0, time.UTC)}
	s.expect(t, "revoke", 0, 1, func() error { return s.RevokeToken(s.ctx, gone) })
	s.expect(t, "revoke again", 0, 0, func() error { return s.RevokeToken(s.ctx, gone) })
	wantEqual(t, "revoked", s.credentials(t, 0).Tokens, []directory.RevokedToken{gone})
	sooner, later := gone, gone
	sooner.ExpiresAt, later.ExpiresAt = gone.ExpiresAt.Add(-time.Hour), gone.ExpiresAt.Add(time.Hour)
	before := s.credentials(t, 0)
	s.expect(t, "revoke as if it ended sooner", 0, 0, func() error { return s.RevokeToken(s.ctx, sooner) })
	s.expect(t, "revoke until later", 0, 1, func() error { return s.RevokeToken(s.ctx, later) })
	s.expect(t, "revoke until later again", 0, 0, func() error { return s.RevokeToken(s.ctx, later) })
	wantEqual(t, "revoked until later", s.credentials(t, 0).Tokens, []directory.RevokedToken{later})
	news := s.credentials(t, before.Version)
	wantEqual(t, "what routers hear", news.Tokens, []directory.RevokedToken{later})
	if err := news.Continues(before.Version, before.Head); err != nil {
		t.Errorf("what routers hear: %v", err)
	}
	odd, nobodys := gone, gone
	odd.ID, nobodys.ID, nobodys.Tenant = "x", "aa112233445566778899", 999999
	s.refuse(t, "no id", problem.Invalid, func() error { return s.RevokeToken(s.ctx, odd) })
	s.refuse(t, "unknown tenant", problem.NotFound, func() error { return s.RevokeToken(s.ctx, nobodys) })
}

func testCredentials(t *testing.T, s *suite) {
	s.add(t, cell("c1"))
	a := s.create(t, directory.NewTenant{Slug: "a"})
	first := s.credentials(t, 0)
	wantEqual(t, "at first", first, directory.Credentials{Version: 1, Head: first.Head})
	one, two := s.addKey(t, key(a.ID, 1)), s.addKey(t, key(a.ID, 2))
	all := s.credentials(t, 0)
	wantEqual(t, "everything", all, directory.Credentials{Version: 3, Head: all.Head, Keys: []directory.Key{one, two}})
	if err := s.RevokeKey(s.ctx, a.ID, one.ID); err != nil {
		t.Fatal(err)
	}
	one.Revoked = true
	head := all.Head.After(4, one.Digest())
	wantEqual(t, "what changed", s.credentials(t, 3), directory.Credentials{
		Since: 3, Version: 4, Head: head, Links: []directory.Link{{Credential: one.ID, Digest: one.Digest()}}, Keys: []directory.Key{one},
	})
	wantEqual(t, "nothing new", s.credentials(t, 4), directory.Credentials{Since: 4, Version: 4, Head: head})
	_, err := s.Credentials(s.ctx, 5, 0)
	wantKind(t, "from the future", err, problem.Gone)
}

func testCredentialsWait(t *testing.T, s *suite) {
	s.add(t, cell("c1"))
	a := s.create(t, directory.NewTenant{Slug: "a"})
	k := s.addKey(t, key(a.ID, 1))
	got := make(chan error, 1)
	go func() {
		c, err := s.Credentials(s.ctx, 2, time.Minute)
		if err == nil && (c.Version != 3 || len(c.Keys) != 1 || !c.Keys[0].Revoked) {
			err = fmt.Errorf("got %+v", c)
		}
		got <- err
	}()
	if err := s.RevokeKey(s.ctx, a.ID, k.ID); err != nil {
		t.Fatal(err)
	}
	if err := <-got; err != nil {
		t.Errorf("who waits for a revocation: %v", err)
	}
}
