package cell

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cellway/cellway/cell/store"
)

// Retention of Idempotency-Keys, and how the sweep goes about it.
const (
	keepKeys   = 24 * time.Hour
	sweepEvery = 10 * time.Minute
	sweepRows  = 1000 // of one tenant in one transaction
)

// findExpired has no bound: a look costs a probe for each tenant of the cell, and what is
// found is two numbers for each.
const findExpired = `
	SELECT tenant_id, epoch
	  FROM cell.idempotency_expired($1, NULL)`

const deleteExpired = `
	DELETE FROM api.idempotency
	 WHERE tenant_id = $1
	   AND key IN (SELECT key FROM api.idempotency
	                WHERE tenant_id = $1 AND created_at < now() - $2::interval
	                ORDER BY created_at LIMIT $3)`

// A Sweeper removes Idempotency-Keys after their 24 hours.
type Sweeper struct {
	store *store.Store
	keep  time.Duration
	log   *slog.Logger
}

// NewSweeper makes a Sweeper.
func NewSweeper(s *store.Store, log *slog.Logger) *Sweeper {
	return &Sweeper{store: s, keep: keepKeys, log: log}
}

// Run sweeps every ten minutes until ctx ends. Several processes may sweep at once.
func (s *Sweeper) Run(ctx context.Context) error {
	for ctx.Err() == nil {
		n, err := s.runOnce(ctx)
		if err != nil && ctx.Err() == nil {
			s.log.WarnContext(ctx, "idempotency keys were not all swept", "removed", n, "error", err)
		}
		wait(ctx, jitter(sweepEvery))
	}
	return nil
}

// runOnce looks once at all tenants, and removes what is too old of those that have it, in
// turns. A tenant that leaves meanwhile takes its keys along.
func (s *Sweeper) runOnce(ctx context.Context) (removed int64, err error) {
	rows, err := s.store.DB().Query(ctx, findExpired, s.keep)
	if err != nil {
		return 0, fmt.Errorf("find expired idempotency keys: %w", err)
	}
	owners, err := pgx.CollectRows(rows, pgx.RowToStructByPos[store.Owner])
	if err != nil {
		return 0, fmt.Errorf("find expired idempotency keys: %w", err)
	}
	removed, err = s.store.InTurns(ctx, owners, sweepRows, deleteExpired, func(i int) []any {
		return []any{owners[i].Tenant, s.keep, sweepRows}
	})
	if err != nil {
		return removed, fmt.Errorf("remove expired idempotency keys: %w", err)
	}
	return removed, nil
}
