package store

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/infra/pg"
)

// Pruned says how many rows of each kind Prune removed.
type Pruned struct{ Changes, Routers, Cells int64 }

// Prune forgets changes older than the newest keep versions (who is further back
// starts again from a snapshot), routers and announced cells silent for longer
// than silent, rehearsals that are over, and credentials that count no more. Registered cells stay.
func (s *Store) Prune(ctx context.Context, keep int64, silent time.Duration) (Pruned, error) {
	var p Pruned
	err := pg.InTx(ctx, s.pool, func(tx pgx.Tx) error {
		for _, step := range []struct {
			rows *int64
			sql  string
			arg  any
		}{
			{&p.Routers, `DELETE FROM directory.routers WHERE seen_at < now() - $1::interval`, silent},
			{&p.Cells, `DELETE FROM directory.heartbeats WHERE seen_at < now() - $1::interval`, silent},
			{new(int64), `DELETE FROM directory.rehearsals WHERE created_at < now() - $1::interval`, directory.RehearsalsKept},
			{new(int64), `DELETE FROM directory.credential_changes WHERE version <= (SELECT version FROM directory.credentials) - $1::bigint`, keep},
			{&p.Changes, `DELETE FROM directory.changes WHERE version <= (SELECT version FROM directory.version) - $1::bigint`, keep},
		} {
			tag, err := tx.Exec(ctx, step.sql, step.arg)
			if err != nil {
				return err
			}
			*step.rows = tag.RowsAffected()
		}
		if _, err := tx.Exec(ctx, pruneCredentials); err != nil {
			return err
		}
		if p.Changes == 0 {
			return nil
		}
		// Last, like every use of this row. What was deleted ends right before the
		// first change that is left; without one, at the version itself. It never goes
		// back: changes from before a lift lead nowhere.
		const oldest = `
			UPDATE directory.version
			   SET oldest = greatest(oldest, COALESCE((SELECT min(version) - 1 FROM directory.changes), version))`
		_, err := tx.Exec(ctx, oldest)
		return err
	})
	return p, fail(ctx, "prune", err)
}
