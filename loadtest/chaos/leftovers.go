package chaos

import (
	"context"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/loadtest"
)

// tenantTables lists the tables that hold tenants' rows.
const tenantTables = `
	SELECT c.oid::regclass::text
	  FROM pg_class c
	  JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'tenant_id' AND NOT a.attisdropped
	 WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND c.relforcerowsecurity
	 ORDER BY 1`

func tables(ctx context.Context, db *pgxpool.Pool) ([]string, error) {
	rows, err := db.Query(ctx, tenantTables)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[string])
}

// rowsOf counts what a cell holds of a tenant.
func rowsOf(ctx context.Context, db *pgxpool.Pool, t directory.TenantID) (int64, error) {
	list, err := tables(ctx, db)
	if err != nil {
		return 0, err
	}
	var total int64
	for _, name := range list {
		var n int64
		if err := db.QueryRow(ctx, "SELECT count(*) FROM "+name+" WHERE tenant_id = $1", int64(t)).Scan(&n); err != nil {
			return 0, err
		}
		total += n
	}
	return total, nil
}

// checkLeftKeys holds I11 of Redis: of a tenant that is not at a cell, and has no way back there, no durable key is
// left. Limits and caches end by themselves. A Redis that was killed may have forgotten that it
// had removed some; then they stay until the tenant comes again, or is deleted.
func (r *run) checkLeftKeys(ctx context.Context, t *loadtest.Tenant, cell directory.CellID, began time.Time) error {
	found, err := r.keepers[cell].Durable(ctx, t.ID)
	if err != nil {
		return err
	}
	k := r.kept[t.ID]
	left := slices.DeleteFunc(slices.Clone(found), func(name string) bool { return slices.Contains(k.left[cell], name) })
	k.left[cell] = found // said once is enough
	if len(left) == 0 {
		return nil
	}
	purged, err := r.purgedAt(ctx, t.ID, cell)
	if err != nil {
		return err
	}
	if mayBeBack(cell, purged, began, r.deaths()) {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.report.Keys.Back += len(left)
		return nil
	}
	r.violate("I11", "%s: %d durable keys are left in the redis of %s, such as %s", t.Slug, len(left), cell, left[0])
	return nil
}

// mayBeBack reports whether a cell's Redis, from which keys were removed by the time purged, may have them
// again: it was killed since the last look, at began, soon after.
func mayBeBack(cell directory.CellID, purged, began time.Time, deaths []death) bool {
	return slices.ContainsFunc(deaths, func(d death) bool {
		return d.cell == cell && d.after.After(began) && d.before.Sub(purged) < unwritten
	})
}

// purgedAt is when the last move ended that has removed a tenant from a cell; the epoch where there is none.
func (r *run) purgedAt(ctx context.Context, t directory.TenantID, cell directory.CellID) (at time.Time, err error) {
	const ended = `
		SELECT coalesce(max(changed_at), 'epoch')
		  FROM directory.moves
		 WHERE tenant = $1 AND (phase = 'completed' AND source = $2 OR phase = 'aborted' AND target = $2)`
	err = r.record.QueryRow(ctx, ended, int64(t), string(cell)).Scan(&at)
	return at, err
}
