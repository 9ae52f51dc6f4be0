package worker

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cellway/cellway/cell/outbox"
	"github.com/cellway/cellway/cell/store"
	"github.com/cellway/cellway/directory"
)

const (
	scanTimeout = 10 * time.Second
	sweepLimit  = 1000        // tenants per sweep; the next one finds the others
	removeEvery = time.Minute // old events
	removeBatch = 5000        // events per transaction
)

// sweepOnce hears of tenants that have events, older than the grace, which this
// consumer has not done.
func (g *group) sweepOnce(ctx context.Context) error {
	all, _ := g.partitions()
	if len(all) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, scanTimeout)
	defer cancel()
	rows, err := g.w.store.DB().Query(ctx, `SELECT tenant_id, epoch, last FROM cell.inbox_behind($1, $2, $3, $4, $5)`,
		g.consumer.Name, all, outbox.Partitions, g.w.o.Grace, sweepLimit)
	if err != nil {
		return fmt.Errorf("look for events not done: %w", err)
	}
	var t directory.TenantID
	var e directory.Epoch
	var last int64
	if _, err := pgx.ForEachRow(rows, []any{&t, &e, &last}, func() error {
		g.lanes.hear(t, e, last, nil)
		return nil
	}); err != nil {
		return fmt.Errorf("look for events not done: %w", err)
	}
	return nil
}

// retain removes events whose time is over.
func (w *Worker) retain(ctx context.Context) error {
	for ctx.Err() == nil {
		if _, err := w.retainOnce(ctx); err != nil && ctx.Err() == nil {
			w.o.Log.WarnContext(ctx, "remove old events", "error", err)
		}
		if err := w.trimOnce(ctx); err != nil && ctx.Err() == nil {
			w.o.Log.WarnContext(ctx, "trim streams", "error", err)
		}
		store.Wait(ctx, removeEvery)
	}
	return nil
}

// retainOnce removes events that are older than Keep, published, and done by
// every consumer. It returns their number.
func (w *Worker) retainOnce(ctx context.Context) (removed int64, err error) {
	ctx, cancel := context.WithTimeout(ctx, removeEvery)
	defer cancel()
	rows, err := w.store.DB().Query(ctx, `SELECT tenant_id, epoch, upto FROM cell.outbox_expired($1, $2, $3)`, w.names(), w.o.Keep, sweepLimit)
	if err != nil {
		return 0, fmt.Errorf("look for old events: %w", err)
	}
	type old struct {
		store.Owner
		Upto int64
	}
	tenants, err := pgx.CollectRows(rows, pgx.RowToStructByPos[old])
	if err != nil {
		return 0, fmt.Errorf("look for old events: %w", err)
	}
	if err := w.hook("found old events"); err != nil {
		return 0, err
	}
	owners := make([]store.Owner, len(tenants))
	for i, t := range tenants {
		owners[i] = t.Owner
	}
	removed, err = w.store.InTurns(ctx, owners, removeBatch, removeOld, func(i int) []any {
		return []any{owners[i].Tenant, tenants[i].Upto, w.o.Keep, removeBatch}
	})
	if err != nil {
		return removed, fmt.Errorf("remove old events: %w", err)
	}
	return removed, nil
}

// trimOnce removes entries that are older than Keep from the streams, by Redis' clock. Their
// length alone bounds nothing in a quiet cell, where the entries of a tenant that has moved
// away, and was deleted elsewhere, would stay: that deletion is no matter of this cell's. Who
// has not done such an event reads it from the outbox.
func (w *Worker) trimOnce(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, scanTimeout)
	defer cancel()
	now, err := w.redis.Time(ctx).Result()
	if err != nil {
		return fmt.Errorf("ask redis for the time: %w", err)
	}
	oldest := strconv.FormatInt(now.Add(-w.o.Keep).UnixMilli(), 10)
	pipe := w.redis.Pipeline()
	for p := range outbox.Partitions {
		pipe.XTrimMinID(ctx, outbox.Stream(p), oldest)
	}
	if _, err := pipe.Exec(ctx); err != nil {
		return fmt.Errorf("trim streams: %w", err)
	}
	return nil
}

// removeOld removes the oldest events up to the first one that is young: the cells that wrote them had clocks of
// their own, and a gap behind it would end the tenant's moves.
const removeOld = `
	  WITH oldest AS (
	       SELECT seq, at FROM cell.outbox
	        WHERE tenant_id = $1 AND seq <= $2
	        ORDER BY seq LIMIT $4)
	DELETE FROM cell.outbox
	 WHERE tenant_id = $1 AND seq IN (SELECT seq FROM oldest)
	   AND seq < coalesce((SELECT min(seq) FROM oldest WHERE at > clock_timestamp() - $3::interval), $2 + 1)`
