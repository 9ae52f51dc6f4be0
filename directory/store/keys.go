package store

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/infra/problem"
)

const keyColumns = `id, tenant, name, hash, created_at, COALESCE(expires_at, '0001-01-01Z'), revoked_at IS NOT NULL`

func scanKey(row pgx.CollectableRow) (directory.Key, error) {
	var k directory.Key
	err := row.Scan(&k.ID, &k.Tenant, &k.Name, &k.Hash, &k.CreatedAt, &k.ExpiresAt, &k.Revoked)
	k.CreatedAt, k.ExpiresAt = k.CreatedAt.UTC(), k.ExpiresAt.UTC()
	return k, err
}

// nextCredentials takes the version row, which stays locked until the commit, and
// wakes who waits, like publish.
const nextCredentials = `
	  WITH next AS (UPDATE directory.credentials
	                   SET version = version + 1, head = sha256(head || int8send(version + 1) || $2::bytea)
	             RETURNING version),
	       line AS (INSERT INTO directory.credential_changes (version, id, digest) SELECT version, $1, $2 FROM next)
	SELECT version, pg_notify('` + channel + `', '` + aboutCredentials + `') IS NULL FROM next`

// nextVersion is the version in which the credential with an id becomes what d is of.
func nextVersion(ctx context.Context, tx pgx.Tx, id string, d directory.Digest) (v int64, err error) {
	var none bool
	err = tx.QueryRow(ctx, nextCredentials, id, d[:]).Scan(&v, &none)
	return v, err
}

// lockHolder makes the tenant wait for no other key, and not be deleted meanwhile.
func lockHolder(ctx context.Context, tx pgx.Tx, id directory.TenantID) error {
	var deleted bool
	err := tx.QueryRow(ctx, `SELECT state = 'deleted' FROM directory.tenants WHERE id = $1 FOR NO KEY UPDATE`, int64(id)).Scan(&deleted)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return problem.New(problem.NotFound, "no tenant %d", id)
	case err == nil && deleted:
		return problem.New(problem.Conflict, "tenant %d is deleted", id)
	}
	return err
}

// AddKey implements directory.Keys.
func (s *Store) AddKey(ctx context.Context, k directory.Key) (directory.Key, error) {
	if err := k.Validate(); err != nil {
		return k, err
	}
	err := s.mutate(ctx, "add key", func(tx pgx.Tx) (*change, error) {
		if err := lockHolder(ctx, tx, k.Tenant); err != nil {
			return nil, err
		}
		old, err := findKey(ctx, tx, k.ID)
		switch {
		case err == nil && old.Same(k) && !old.Revoked:
			k = old
			return nil, nil
		case err == nil:
			return nil, problem.New(problem.Conflict, "key %q is taken", k.ID)
		case !errors.Is(err, problem.NotFound):
			return nil, err
		}
		k, err = insertKey(ctx, tx, k)
		return &change{action: "key.add", subject: tenantSubject(k.Tenant), after: k}, err
	})
	return k, err
}

// insertKey claims the id and records the key, whose tenant is locked.
func insertKey(ctx context.Context, tx pgx.Tx, k directory.Key) (directory.Key, error) {
	var valid int
	err := tx.QueryRow(ctx, `SELECT count(*) FROM directory.keys WHERE tenant = $1 AND revoked_at IS NULL`, int64(k.Tenant)).Scan(&valid)
	if err != nil {
		return k, err
	}
	if valid >= directory.MaxKeys {
		return k, problem.New(problem.Conflict, "tenant %d has %d keys already", k.Tenant, directory.MaxKeys)
	}
	if err := trade(ctx, tx, k.Tenant, []claimStep{{kind: "key", name: k.ID, take: true}}); err != nil {
		return k, err
	}
	k.Revoked = false
	version, err := nextVersion(ctx, tx, k.ID, k.Digest())
	if err != nil {
		return k, err
	}
	const insert = `
		INSERT INTO directory.keys (id, tenant, name, hash, expires_at, version)
		VALUES ($1, $2, $3, $4, $5, $6)
		RETURNING ` + keyColumns
	var expires any
	if !k.ExpiresAt.IsZero() {
		expires = k.ExpiresAt
	}
	rows, err := tx.Query(ctx, insert, k.ID, int64(k.Tenant), k.Name, k.Hash, expires, version)
	if err != nil {
		return k, err
	}
	return pgx.CollectExactlyOneRow(rows, scanKey)
}

func findKey(ctx context.Context, tx pgx.Tx, id string) (directory.Key, error) {
	rows, err := tx.Query(ctx, `SELECT `+keyColumns+` FROM directory.keys WHERE id = $1 FOR UPDATE`, id)
	if err != nil {
		return directory.Key{}, err
	}
	k, err := pgx.CollectExactlyOneRow(rows, scanKey)
	if errors.Is(err, pgx.ErrNoRows) {
		return k, problem.New(problem.NotFound, "no key %q", id)
	}
	return k, err
}

// ListKeys implements directory.Keys.
func (s *Store) ListKeys(ctx context.Context, id directory.TenantID) ([]directory.Key, error) {
	if _, err := s.Tenant(ctx, id.String()); err != nil {
		return nil, err
	}
	rows, err := s.pool.Query(ctx, `SELECT `+keyColumns+` FROM directory.keys WHERE tenant = $1 AND revoked_at IS NULL ORDER BY id`, int64(id))
	if err != nil {
		return nil, fail(ctx, "list keys", err)
	}
	keys, err := pgx.CollectRows(rows, scanKey)
	return keys, fail(ctx, "list keys", err)
}

// RevokeKey implements directory.Keys.
func (s *Store) RevokeKey(ctx context.Context, id directory.TenantID, key string) error {
	return s.mutate(ctx, "revoke key", func(tx pgx.Tx) (*change, error) {
		k, err := findKey(ctx, tx, key)
		if errors.Is(err, problem.NotFound) || err == nil && k.Tenant != id {
			return nil, problem.New(problem.NotFound, "tenant %d has no key %q", id, key)
		}
		if err != nil || k.Revoked {
			return nil, err
		}
		// The tenant may have been deleted, and its claims with it.
		if _, err := tx.Exec(ctx, `DELETE FROM directory.claims WHERE kind = 'key' AND name = $1 AND tenant = $2`, key, int64(id)); err != nil {
			return nil, err
		}
		gone := k
		gone.Revoked = true
		version, err := nextVersion(ctx, tx, key, gone.Digest())
		if err != nil {
			return nil, err
		}
		_, err = tx.Exec(ctx, `UPDATE directory.keys SET revoked_at = now(), version = $2 WHERE id = $1`, key, version)
		return &change{action: "key.revoke", subject: tenantSubject(id), before: k}, err
	})
}

// RevokeToken implements directory.Keys.
func (s *Store) RevokeToken(ctx context.Context, t directory.RevokedToken) error {
	if err := t.Validate(); err != nil {
		return err
	}
	return s.mutate(ctx, "revoke token", func(tx pgx.Tx) (*change, error) {
		if err := lockHolder(ctx, tx, t.Tenant); err != nil && !errors.Is(err, problem.Conflict) {
			return nil, err
		}
		var before any
		old := directory.RevokedToken{ID: t.ID}
		err := tx.QueryRow(ctx, `SELECT tenant, expires_at FROM directory.revoked_tokens WHERE id = $1 FOR UPDATE`, t.ID).Scan(&old.Tenant, &old.ExpiresAt)
		switch {
		case errors.Is(err, pgx.ErrNoRows):
		case err != nil || !t.Outlives(old):
			return nil, err
		default:
			before, t.Tenant = old, old.Tenant
		}
		version, err := nextVersion(ctx, tx, t.ID, t.Digest())
		if err != nil {
			return nil, err
		}
		_, err = tx.Exec(ctx, `
			INSERT INTO directory.revoked_tokens (id, tenant, expires_at, version)
			VALUES ($1, $2, $3, $4)
			    ON CONFLICT (id) DO UPDATE SET expires_at = EXCLUDED.expires_at, version = EXCLUDED.version`, t.ID, int64(t.Tenant), t.ExpiresAt, version)
		return &change{action: "token.revoke", subject: tenantSubject(t.Tenant), before: before, after: t}, err
	})
}
