package directory

import (
	"context"
	"time"

	"github.com/cellway/cellway/infra/problem"
)

// DefaultGrace is how long cells keep what they have of a deleted tenant where nobody
// says otherwise.
const DefaultGrace = 7 * 24 * time.Hour

// A Deletion says that a tenant is deleted, for good, and which cells have something
// of it still. It is the only word on which a cell purges: that a tenant is not
// listed, or not found, says nothing.
type Deletion struct {
	Tenant    TenantID  `json:"tenant"`
	Slug      string    `json:"slug"`  // as it was; others may have it by now
	Epoch     Epoch     `json:"epoch"` // of the tombstones: a cell whose fence is above it does not purge
	DeletedAt time.Time `json:"deleted_at"`
	PurgeAt   time.Time `json:"purge_at"` // when the grace ends, or was ended
	Due       bool      `json:"due"`      // it is over by the directory's clock: purge
	Hurried   bool      `json:"hurried"`  // somebody has ended it within the last hour: at once
	Cells     []CellID  `json:"cells"`    // that have not said yet that nothing is left, sorted; none that is retired
}

// Deletions is the part of a Directory by which cells hear that their tenants are
// deleted, and say what is left of them.
//
// Deleting a tenant (Tenants.DeleteTenant) begins a grace: its cells let nobody act
// for it from when they hear of it, and keep its rows until the grace is over.
type Deletions interface {
	// ListDeletions is a page of the deletions that a cell has yet to purge, by
	// tenant, after the id given; cell "" is every cell's that is not retired. One that
	// is hears of its own still, as long as its process runs. limit is 1 to 1000.
	ListDeletions(ctx context.Context, cell CellID, after TenantID, limit int) ([]Deletion, error)
	// TellDeletion says what a cell has of a deleted tenant. purged: nothing but the
	// tombstone, at that epoch; the deletion waits for the cell no longer, which is
	// Conflict where the epoch is below the deletion's. Not purged: something, as a
	// database has that was restored; the deletion waits for the cell, at that epoch
	// where it is above its own. Repeating it is no error and no change. NotFound
	// where the record has no deletion of the tenant, or the tenant never was on the
	// cell, as far as the record knows, or where the epoch is above the deletion's and the
	// cell neither owned the tenant nor was listed by the deletion itself: nobody else may
	// take back what the others purge. Conflict where incarnation differs.
	TellDeletion(ctx context.Context, cell CellID, incarnation string, tenant TenantID, epoch Epoch, purged bool) error
	// HurryDeletion ends the grace of a deleted tenant now, and has cells that hear of
	// it late purge at once. Conflict where the tenant is not deleted; repeating it is no
	// error and no change.
	HurryDeletion(ctx context.Context, tenant TenantID) error
}

// DeletionCells is which cells have something of a tenant that is deleted: its
// owner, and the source of the move that watches, which keeps its copy.
func DeletionCells(owner CellID, ended []Move) []CellID {
	cells := []CellID{owner}
	for _, m := range ended {
		if m.Source != owner {
			cells = append(cells, m.Source)
		}
	}
	return cells
}

// WithoutTenant is the move as the deletion of its tenant at now leaves it: the watch is
// over, because nobody will undo it, and the copy is the deletion's to purge. Who
// has its lease loses it.
func (m Move) WithoutTenant(now time.Time) Move {
	m.Error = "the tenant was deleted"
	m.Lease, m.Holder, m.Leased = m.Lease+1, "", time.Time{}
	return m.reach(Completed, now)
}

// PurgedAt reports, as a Conflict, that what a cell has purged at an epoch was not
// what is deleted.
func (d Deletion) PurgedAt(e Epoch) error {
	if e < d.Epoch {
		return problem.New(problem.Conflict, "tenant %d is deleted at epoch %d, not at %d", d.Tenant, d.Epoch, e)
	}
	return nil
}

// ErrNoDeletion is the NotFound of a tenant that is not deleted, or is none of the cell's.
func ErrNoDeletion(t TenantID, cell CellID) error {
	return problem.New(problem.NotFound, "no deletion of tenant %d is cell %s's", t, cell)
}

// ErrNotDeleted is the Conflict of whoever hurries the deletion of a tenant that is there.
func ErrNotDeleted(t TenantID) error {
	return problem.New(problem.Conflict, "tenant %d is not deleted: delete it first", t)
}

// TellAction is what the audit calls a cell's word about a deletion.
func TellAction(purged bool) string {
	if purged {
		return "tenant.purged"
	}
	return "tenant.held"
}
