package store

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/infra/pg"
	"github.com/cellway/cellway/infra/problem"
)

// Both take the version after which a change is wanted; everything valid leaves
// out what no router has to know if it knows nothing.
const (
	allKeys = `
		SELECT ` + keyColumns + ` FROM directory.keys k
		 WHERE version > $1 AND revoked_at IS NULL
		   AND EXISTS (SELECT FROM directory.tenants t WHERE t.id = k.tenant AND t.state <> 'deleted')
		 ORDER BY id`
	changedKeys = `
		SELECT ` + keyColumns + ` FROM directory.keys
		 WHERE version > $1
		 ORDER BY id`
	changedTokens = `
		SELECT id, tenant, expires_at FROM directory.revoked_tokens
		 WHERE version > $1
		 ORDER BY id`
)

// Credentials implements directory.Keys.
func (s *Store) Credentials(ctx context.Context, since directory.Version, wait time.Duration) (directory.Credentials, error) {
	c, err := s.credentials(ctx, since, wait)
	return c, fail(ctx, "read credentials", err)
}

func (s *Store) credentials(ctx context.Context, since directory.Version, wait time.Duration) (directory.Credentials, error) {
	over := time.NewTimer(wait)
	defer over.Stop()
	for last := wait <= 0 || since == 0; ; {
		newer := s.hub.newer(aboutCredentials) // before the read: whatever commits after it wakes us
		now, head, err := credentialsNow(ctx, s.pool, since)
		if err != nil {
			return directory.Credentials{}, err
		}
		if now > since || since == 0 {
			return s.credentialsSince(ctx, since)
		}
		if last {
			return directory.Credentials{Since: since, Version: since, Head: head}, nil
		}
		select {
		case <-newer:
		case <-over.C:
			last = true
		case <-s.hub.closed:
			return directory.Credentials{}, problem.New(problem.Unavailable, "the directory is stopping")
		case <-ctx.Done():
			return directory.Credentials{}, ctx.Err()
		}
	}
}

// credentialsNow is the newest version with its head, or Gone where since is not on the
// way to it.
func credentialsNow(ctx context.Context, db pg.DB, since directory.Version) (directory.Version, directory.Head, error) {
	now, oldest, head, err := scanNewest(db.QueryRow(ctx, `SELECT version, oldest, head FROM directory.credentials`))
	if err == nil && since != 0 && (since < oldest || since > now) {
		err = problem.New(problem.Gone, "cannot continue from version %d", since)
	}
	return now, head, err
}

// credentialLinks are the changes after a version, in their order.
const credentialLinks = `
	SELECT id, digest FROM directory.credential_changes
	 WHERE version > $1
	 ORDER BY version`

// linksSince is the links from a version to now, or Gone where an older release wrote one
// of them, or they were pruned.
func linksSince(ctx context.Context, tx pgx.Tx, since, now directory.Version) ([]directory.Link, error) {
	rows, err := tx.Query(ctx, credentialLinks, int64(since))
	if err != nil {
		return nil, err
	}
	all, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (l directory.Link, err error) {
		var digest []byte
		err = row.Scan(&l.Credential, &digest)
		copy(l.Digest[:], digest)
		return l, err
	})
	if err == nil && directory.Version(len(all)) != now-since {
		err = problem.New(problem.Gone, "cannot continue from version %d: the chain has a gap", since)
	}
	return all, err
}

// credentialsSince reads in a transaction that sees one state of the record.
func (s *Store) credentialsSince(ctx context.Context, since directory.Version) (directory.Credentials, error) {
	c := directory.Credentials{Since: since}
	opts := pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}
	err := pgx.BeginTxFunc(ctx, s.pool, opts, func(tx pgx.Tx) (err error) {
		if c.Version, c.Head, err = credentialsNow(ctx, tx, since); err != nil {
			return err
		}
		keys := changedKeys
		if since == 0 {
			keys = allKeys
		} else if c.Links, err = linksSince(ctx, tx, since, c.Version); err != nil {
			return err
		}
		rows, err := tx.Query(ctx, keys, int64(since))
		if err != nil {
			return err
		}
		if c.Keys, err = pgx.CollectRows(rows, scanKey); err != nil {
			return err
		}
		if rows, err = tx.Query(ctx, changedTokens, int64(since)); err != nil {
			return err
		}
		c.Tokens, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (t directory.RevokedToken, err error) {
			err = row.Scan(&t.ID, &t.Tenant, &t.ExpiresAt)
			t.ExpiresAt = t.ExpiresAt.UTC()
			return t, err
		})
		return err
	})
	return c, err
}

// pruneCredentials forgets keys that have been revoked, or expired, for longer
// than a day, and those of deleted tenants of whom no cell has anything any more, and revoked tokens that have
// expired. Who has not heard of a
// forgotten key must start again: it could take a revoked one for valid. And who has
// not heard of a forgotten token would miss it where the chain has it.
const pruneCredentials = `
	  WITH gone AS (DELETE FROM directory.keys k
	                 WHERE revoked_at < now() - interval '1 day' OR expires_at < now() - interval '1 day'
	                    OR EXISTS (SELECT FROM directory.deletions d WHERE d.tenant = k.tenant AND NOT ` + someCellWaits + `)
	             RETURNING id, version),
	       free AS (DELETE FROM directory.claims WHERE kind = 'key' AND name IN (SELECT id FROM gone)),
	       past AS (DELETE FROM directory.revoked_tokens WHERE expires_at < now() - interval '1 hour' RETURNING version)
	UPDATE directory.credentials
	   SET oldest = greatest(oldest, (SELECT max(version) FROM gone), (SELECT max(version) FROM past))
	 WHERE EXISTS (SELECT FROM gone) OR EXISTS (SELECT FROM past)`
