package fence

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/infra/pg"
)

// A Tombstone is the fence of a tenant after the directory's word that it is deleted.
type Tombstone struct {
	Epoch   directory.Epoch
	State   State // not Deleted where the fence is above the deletion's epoch, and stays as it is
	Rested  bool  // it has stood, at that epoch, for long enough to be purged
	Purged  bool  // nothing else is left here
	Changed bool  // it was something else before
}

// Delete makes the fence of a tenant that the directory says is deleted at epoch a
// tombstone, whatever it was up to that epoch, also where there was none. It waits,
// at most wait, for the transactions under way; when it returns, none is left and none
// will pass. A fence above the epoch is not changed, and is no error. Unavailable: a
// transaction did not end within wait.
func Delete(ctx context.Context, db pg.DB, tenant directory.TenantID, epoch directory.Epoch, wait time.Duration) (t Tombstone, err error) {
	const call = `SELECT epoch, state, rested, purged, changed FROM cell.delete_tenant($1, $2, $3)`
	err = db.QueryRow(ctx, call, tenant, epoch, max(1, wait.Milliseconds())).Scan(&t.Epoch, &t.State, &t.Rested, &t.Purged, &t.Changed)
	if err != nil {
		err = failed("delete", tenant, err)
	}
	return t, err
}

// A Pending is a deleted tenant of which something is left here, at its tombstone's epoch.
type Pending struct {
	Tenant directory.TenantID
	Epoch  directory.Epoch
	Rested bool // see Tombstone
}

// Unpurged is a page of the deleted tenants that are not purged, by tenant.
func Unpurged(ctx context.Context, db pg.DB, after directory.TenantID, limit int) ([]Pending, error) {
	rows, err := db.Query(ctx, `SELECT tenant, epoch, rested FROM cell.deletions($1, $2)`, after, limit)
	if err != nil {
		return nil, fmt.Errorf("list deleted tenants: %w", err)
	}
	list, err := pgx.CollectRows(rows, pgx.RowToStructByPos[Pending])
	if err != nil {
		return nil, fmt.Errorf("list deleted tenants: %w", err)
	}
	return list, nil
}
