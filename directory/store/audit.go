package store

import (
	"context"
	"math"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cellway/cellway/directory"
)

// Both pages have texts of their own for one subject: a plan that is made for any
// would read all lines to find a subject's few.
const (
	auditLines = `
		SELECT id, at, actor, action, subject, COALESCE(before::text, ''), COALESCE(after::text, '')
		  FROM directory.audit`
	ofSubject   = ` AND subject = $3`
	oldestAudit = ` ORDER BY id LIMIT $2`
	newestAudit = ` ORDER BY id DESC LIMIT $2`
)

// Audit implements directory.Feed. Lines of mutations that commit at the same
// moment may appear out of the order of their ids: who reads at the very end of
// the list has to look a little back.
func (s *Store) Audit(ctx context.Context, subject string, after int64, limit int) ([]directory.AuditEntry, error) {
	return s.auditPage(ctx, ` WHERE id > $1`, oldestAudit, subject, after, limit)
}

// NewestAudit implements directory.Feed.
func (s *Store) NewestAudit(ctx context.Context, subject string, before int64, limit int) ([]directory.AuditEntry, error) {
	if before == 0 {
		before = math.MaxInt64
	}
	return s.auditPage(ctx, ` WHERE id < $1`, newestAudit, subject, before, limit)
}

func (s *Store) auditPage(ctx context.Context, where, order, subject string, from int64, limit int) ([]directory.AuditEntry, error) {
	if err := directory.CheckLimit(limit); err != nil {
		return nil, err
	}
	args := []any{from, limit}
	if subject != "" {
		where, args = where+ofSubject, append(args, subject)
	}
	rows, err := s.pool.Query(ctx, auditLines+where+order, args...)
	if err != nil {
		return nil, fail(ctx, "read audit", err)
	}
	lines, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (e directory.AuditEntry, err error) {
		err = row.Scan(&e.ID, &e.At, &e.Actor, &e.Action, &e.Subject, &e.Before, &e.After)
		e.At = e.At.UTC()
		return e, err
	})
	return lines, fail(ctx, "read audit", err)
}

// PruneAudit forgets audit lines that are older than keep, the oldest first, and
// reports how many. Each batch commits by itself, so that who has very many to forget gets
// on, and looks at the oldest lines only: there is no index by time.
func (s *Store) PruneAudit(ctx context.Context, keep time.Duration) (pruned int64, err error) {
	const (
		batch = 10_000
		old   = `
			DELETE FROM directory.audit
			 WHERE id IN (SELECT id FROM directory.audit ORDER BY id LIMIT $2)
			   AND at < now() - $1::interval`
	)
	for {
		tag, err := s.pool.Exec(ctx, old, keep, batch)
		pruned += tag.RowsAffected()
		if err != nil || tag.RowsAffected() == 0 {
			return pruned, fail(ctx, "prune audit", err)
		}
	}
}
