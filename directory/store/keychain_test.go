package store_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/directory/token"
	"github.com/cellway/cellway/infra/problem"
)

// TestCredentialsAcrossAnOlderRelease: what one without a chain has written leaves a gap;
// who comes from before it starts again, and from there on the chain holds.
func TestCredentialsAcrossAnOlderRelease(t *testing.T) {
	t.Parallel()
	s, pool := withCell(t)
	a, err := s.CreateTenant(t.Context(), directory.NewTenant{Slug: "a"})
	if err != nil {
		t.Fatal(err)
	}
	token := func(digit string) directory.RevokedToken {
		return directory.RevokedToken{ID: strings.Repeat(digit, 20), Tenant: a.ID, ExpiresAt: time.Now().Add(time.Hour)}
	}
	revoke := func(digit string) {
		t.Helper()
		if err := s.RevokeToken(t.Context(), token(digit)); err != nil {
			t.Fatal(err)
		}
	}
	revoke("1") // version 2
	exec(t, pool, `WITH next AS (UPDATE directory.credentials SET version = version + 1 RETURNING version)
	               INSERT INTO directory.revoked_tokens (id, tenant, expires_at, version)
	               SELECT repeat('2', 20), $1, now() + interval '1 hour', version FROM next`, int64(a.ID))
	if _, err := s.Credentials(t.Context(), 2, 0); !errors.Is(err, problem.Gone) {
		t.Errorf("across it: got %v, want gone", err)
	}
	all, err := s.Credentials(t.Context(), 0, 0)
	if err != nil || all.Version != 3 || len(all.Tokens) != 2 {
		t.Fatalf("everything: got %+v, %v", all, err)
	}
	revoke("3")
	c, err := s.Credentials(t.Context(), 3, 0)
	if err == nil {
		err = c.Continues(all.Version, all.Head)
	}
	if err != nil {
		t.Errorf("behind it: %v", err)
	}

	// What is pruned is a gap, too: of the lines that are too many, and of tokens that expired.
	if _, err := s.Prune(t.Context(), 1, time.Hour); err != nil {
		t.Fatal(err)
	}
	exec(t, pool, `UPDATE directory.revoked_tokens SET expires_at = now() - interval '2 hours' WHERE id = repeat('3', 20)`)
	revoke("4")
	if _, err := s.Credentials(t.Context(), 3, 0); err != nil {
		t.Errorf("before the token is forgotten: %v", err)
	}
	if _, err := s.Prune(t.Context(), 1000, time.Hour); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Credentials(t.Context(), 3, 0); !errors.Is(err, problem.Gone) {
		t.Errorf("across what was forgotten: got %v, want gone", err)
	}
	if _, err := s.Credentials(t.Context(), 4, 0); err != nil {
		t.Errorf("behind it: %v", err)
	}
}

// TestAKeyThatHasExpiredIsNoKey: 1970 began with the number that stands for never where times
// are numbers. A router would have taken such a key for ever, after the record had forgotten it.
func TestAKeyThatHasExpiredIsNoKey(t *testing.T) {
	t.Parallel()
	s, _ := withCell(t)
	a, err := s.CreateTenant(t.Context(), directory.NewTenant{Slug: "a"})
	if err != nil {
		t.Fatal(err)
	}
	for name, at := range map[string]time.Time{
		"in the first second of 1970": time.Unix(0, 0), "at the end of it": time.Unix(0, 999_999_999), "before it": time.Unix(-1, 0), "a minute ago": time.Now().Add(-time.Minute),
	} {
		key, record := token.NewAPIKey()
		record.Tenant, record.Name, record.ExpiresAt = a.ID, "test", at
		if _, err := s.AddKey(t.Context(), record); err != nil {
			t.Fatal(err)
		}
		var ring token.Ring
		all, err := s.Credentials(t.Context(), 0, 0)
		if err == nil {
			err = ring.Apply(all)
		}
		if err != nil {
			t.Fatal(err)
		}
		if of, _, err := ring.Check(key, time.Now()); !errors.Is(err, problem.Unauthenticated) {
			t.Errorf("a key that expired %s: got tenant %d, %v", name, of, err)
		}
	}
}

// TestKeysEndWithTheirTenant: those of a deleted tenant, for whom routers take no request, are forgotten once no cell has
// anything of it, also where they never expire. Who knows them need not start again.
func TestKeysEndWithTheirTenant(t *testing.T) {
	t.Parallel()
	s, pool := withCell(t)
	ctx := t.Context()
	var kept directory.Key
	var gone directory.Tenant
	for _, slug := range []string{"gone", "kept"} {
		a, err := s.CreateTenant(ctx, directory.NewTenant{Slug: slug})
		if err != nil {
			t.Fatal(err)
		}
		_, k := token.NewAPIKey()
		k.Tenant, k.Name = a.ID, "test"
		if kept, err = s.AddKey(ctx, k); err != nil {
			t.Fatal(err)
		}
		if slug == "gone" {
			gone = a
		}
	}
	known, err := s.Credentials(ctx, 0, 0)
	if err != nil || len(known.Keys) != 2 {
		t.Fatalf("got %+v, %v", known, err)
	}
	if err := s.DeleteTenant(ctx, gone.ID); err != nil {
		t.Fatal(err)
	}
	keys := func() (ids []string) {
		t.Helper()
		if _, err := s.Prune(ctx, 1000, time.Hour); err != nil {
			t.Fatal(err)
		}
		rows, err := pool.Query(ctx, `SELECT id FROM directory.keys`)
		if err == nil {
			ids, err = pgx.CollectRows(rows, pgx.RowTo[string])
		}
		if err != nil {
			t.Fatal(err)
		}
		return ids
	}
	if got := keys(); len(got) != 2 {
		t.Errorf("before its cell has purged it: got %v, want both", got)
	}
	exec(t, pool, `DELETE FROM directory.deletion_cells`)
	if got := keys(); !slices.Equal(got, []string{kept.ID}) {
		t.Errorf("after that: got %v, want only %s", got, kept.ID)
	}
	if _, err := s.Credentials(ctx, known.Version, 0); err != nil {
		t.Errorf("who knows them: %v", err)
	}
}
