package deletion

import (
	"context"
	"fmt"
	"time"

	"github.com/cellway/cellway/directory"
)

// purgeAll purges what is due, one tenant after the other. Before each it looks at what
// was heard last: a directory that stops answering, or takes its word back, is heeded.
func (a *Agent) purgeAll(ctx context.Context) {
	for ctx.Err() == nil {
		d, ok := a.take()
		if !ok {
			return
		}
		if a.Rows == nil {
			a.warn(ctx, d.Tenant, d.Epoch, "a deleted tenant is not purged: the cell has no role that may (set CELL_MOVER_DATABASE_URL)")
			continue
		}
		start := time.Now()
		n, err := a.purge(ctx, d)
		if err != nil {
			if ctx.Err() == nil {
				a.Log.WarnContext(ctx, "a deleted tenant was not purged", "tenant", d.Tenant, "epoch", d.Epoch, "rows", n, "error", err)
			}
			return // the next look finds it again
		}
		a.purged(d.Tenant)
		a.m.purged.Inc()
		a.Log.InfoContext(ctx, "a deleted tenant was purged", "tenant", d.Tenant, "epoch", d.Epoch, "rows", n, "duration", time.Since(start))
	}
}

// take is one of those that are due; it is not due again before the next look.
func (a *Agent) take() (directory.Deletion, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for t, d := range a.due {
		delete(a.due, t)
		return d, true
	}
	return directory.Deletion{}, false
}

// purged is due no more, also where a look during the purge has found it so.
func (a *Agent) purged(t directory.TenantID) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.due, t)
}

// purge removes all that a tenant has left: rows of every table, noted keys, then Redis.
// That it is done is recorded here before the directory is told: whichever of that is lost
// is done again.
func (a *Agent) purge(ctx context.Context, d directory.Deletion) (rows int64, err error) {
	rows, generation, err := a.Rows.Deleted(ctx, d.Tenant, d.Epoch)
	a.m.rows.Add(float64(rows))
	if err != nil {
		return rows, err
	}
	if err := a.Keys.Erase(ctx, d.Tenant, d.Epoch, keysRest); err != nil {
		return rows, fmt.Errorf("erase keys: %w", err)
	}
	if err := a.Events.Erase(ctx, d.Tenant, keysRest); err != nil {
		return rows, err
	}
	if err := a.Rows.Purged(ctx, d.Tenant, d.Epoch, generation); err != nil {
		return rows, err
	}
	return rows, a.tell(ctx, d.Tenant, d.Epoch, true)
}
