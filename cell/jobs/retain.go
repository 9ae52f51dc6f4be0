package jobs

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cellway/cellway/cell/store"
)

const (
	retainEvery = time.Minute
	retainLimit = 1000 // tenants per round; the next one finds the others
	retainBatch = 1000 // jobs of one tenant per transaction
)

const removeDone = `
	DELETE FROM cell.job
	 WHERE tenant_id = $1
	   AND id IN (SELECT id FROM cell.job
	               WHERE tenant_id = $1 AND state = 'done' AND ended_at < clock_timestamp() - $2::interval
	               LIMIT $3)`

// retain removes jobs that were done long ago. Those that were given up stay.
func (r *Runner) retain(ctx context.Context) error {
	for ctx.Err() == nil {
		if _, err := r.retainOnce(ctx); err != nil && ctx.Err() == nil {
			r.o.Log.WarnContext(ctx, "remove old jobs", "error", err)
		}
		store.Wait(ctx, retainEvery)
	}
	return nil
}

func (r *Runner) retainOnce(ctx context.Context) (removed int64, err error) {
	ctx, cancel := context.WithTimeout(ctx, retainEvery)
	defer cancel()
	rows, err := r.store.DB().Query(ctx, `SELECT tenant_id, epoch FROM cell.jobs_expired($1, $2)`, r.o.Keep, retainLimit)
	if err != nil {
		return 0, fmt.Errorf("look for old jobs: %w", err)
	}
	owners, err := pgx.CollectRows(rows, pgx.RowToStructByPos[store.Owner])
	if err != nil {
		return 0, fmt.Errorf("look for old jobs: %w", err)
	}
	removed, err = r.store.InTurns(ctx, owners, retainBatch, removeDone, func(i int) []any {
		return []any{owners[i].Tenant, r.o.Keep, retainBatch}
	})
	if err != nil {
		return removed, fmt.Errorf("remove old jobs: %w", err)
	}
	return removed, nil
}
