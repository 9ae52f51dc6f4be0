package cell

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cellway/cellway/cell/store"
	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/infra/telemetry"
)

// When notes are worth looking at, and how many at once.
const (
	compactEvery = time.Minute
	compactLeast = 10_000 // notes of one tenant
	compactMost  = 20_000 // in one transaction, about: a freeze has to wait for it
)

// A Compactor keeps what an armed tenant notes as small as the keys that it has
// changed: while a way back stays open, a row that changes all day is one note.
type Compactor struct {
	store       *store.Store
	log         *slog.Logger
	least, most int64
}

// NewCompactor makes a Compactor.
func NewCompactor(s *store.Store, log *slog.Logger) *Compactor {
	return &Compactor{store: s, log: log, least: compactLeast, most: compactMost}
}

// Run looks every minute until ctx ends. Several processes may run at once.
func (c *Compactor) Run(ctx context.Context) error {
	for ctx.Err() == nil {
		if _, err := c.runOnce(telemetry.Untraced(ctx)); err != nil && ctx.Err() == nil {
			c.log.WarnContext(ctx, "noted keys were not all compacted", "error", err)
		}
		wait(ctx, jitter(compactEvery))
	}
	return nil
}

type noted struct {
	Tenant directory.TenantID
	Notes  int64
}

// runOnce compacts each tenant that has many notes, a bounded piece at a time,
// and returns how many notes are gone.
func (c *Compactor) runOnce(ctx context.Context) (gone int64, err error) {
	rows, err := c.store.DB().Query(ctx, `SELECT tenant_id, notes FROM cell.noted($1)`, c.least)
	if err != nil {
		return 0, fmt.Errorf("find noted keys: %w", err)
	}
	tenants, err := pgx.CollectRows(rows, pgx.RowToStructByPos[noted])
	if err != nil {
		return 0, fmt.Errorf("find noted keys: %w", err)
	}
	for _, t := range tenants {
		pieces := 1 + t.Notes/c.most
		for piece := range pieces {
			var n int64
			if err := c.store.DB().QueryRow(ctx, `SELECT cell.compact($1, $2, $3)`, t.Tenant, piece, pieces).Scan(&n); err != nil {
				return gone, fmt.Errorf("compact the noted keys of tenant %d: %w", t.Tenant, err)
			}
			gone += n
		}
	}
	return gone, nil
}
