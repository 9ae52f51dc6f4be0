package cell

import (
	"cmp"
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
	left        map[directory.TenantID]int64 // notes of the armed tenants, after the last look at all of theirs
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

// runOnce compacts, one after the other, each tenant that has many notes, and returns how
// many are gone. What fails of one keeps no other waiting.
func (c *Compactor) runOnce(ctx context.Context) (gone int64, err error) {
	rows, err := c.store.DB().Query(ctx, `SELECT * FROM cell.armed()`)
	if err != nil {
		return 0, fmt.Errorf("find armed tenants: %w", err)
	}
	tenants, err := pgx.CollectRows(rows, pgx.RowTo[directory.TenantID])
	if err != nil {
		return 0, fmt.Errorf("find armed tenants: %w", err)
	}
	left, failed := map[directory.TenantID]int64{}, 0
	for _, t := range tenants {
		n, rest, tenantErr := c.tenant(ctx, t)
		gone += n
		left[t] = rest
		if tenantErr != nil {
			failed++
			err = cmp.Or(err, tenantErr)
		}
		if ctx.Err() != nil {
			break
		}
	}
	c.left = left
	if err != nil {
		err = fmt.Errorf("%d of %d tenants, the first: %w", failed, len(tenants), err)
	}
	return gone, err
}

// tenant compacts a tenant's notes, a bounded piece at a time, if there are many, twice as
// many as were left by the last look: each look reads all of them. It returns how many are gone, and left.
func (c *Compactor) tenant(ctx context.Context, t directory.TenantID) (gone, left int64, err error) {
	left = c.left[t]
	above := max(c.least, 2*left)
	var notes, keys int64
	if err := c.store.DB().QueryRow(ctx, `SELECT cell.notes($1, $2)`, t, above+1).Scan(&notes); err != nil {
		return 0, left, fmt.Errorf("count the notes of tenant %d: %w", t, err)
	}
	if notes <= above {
		return 0, left, nil
	}
	if err := c.store.DB().QueryRow(ctx, `SELECT notes, keys FROM cell.noted($1)`, t).Scan(&notes, &keys); err != nil {
		return 0, notes, fmt.Errorf("count the noted keys of tenant %d: %w", t, err)
	}
	if 10*(notes-keys) < notes { // hardly any key was noted twice
		return 0, notes, nil
	}
	pieces := 1 + notes/c.most
	for piece := range pieces {
		var n int64
		if err := c.store.DB().QueryRow(ctx, `SELECT cell.compact($1, $2, $3)`, t, piece, pieces).Scan(&n); err != nil {
			return gone, left, fmt.Errorf("compact the noted keys of tenant %d: %w", t, err)
		}
		gone += n
	}
	return gone, notes - gone, nil
}
