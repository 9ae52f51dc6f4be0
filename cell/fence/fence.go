// Package fence answers one question: may this tenant at this epoch act in this
// cell? The answer is a row in the cell's own Postgres, read under a lock that
// lasts as long as the transaction that asked (cell.enter, see store.InTenant).
// No clock and no other process takes part in it.
package fence

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/infra/pg"
	"github.com/cellway/cellway/infra/problem"
)

// State is what a fence says of its tenant.
type State string

// The states. A tenant acts only where it is Active, and only at that epoch.
const (
	Absent   State = "absent"   // never was here; there is no row
	Active   State = "active"   // the cell serves it
	Frozen   State = "frozen"   // the cell served it; its move is being decided
	Incoming State = "incoming" // its rows are being copied here
	Moved    State = "moved"    // another cell has it; the row is a tombstone and stays
	Deleted  State = "deleted"  // for good; what is left is purged, and the row stays as a tombstone
	Suspect  State = "suspect"  // the database came back from a backup or a standby; ask the directory first
)

// A Fence is one tenant's row.
type Fence struct {
	Tenant  directory.TenantID
	Epoch   directory.Epoch
	State   State
	Capture bool             // its transactions record the keys they change
	Move    string           // the move that wrote the row last, "" where none did
	MovedTo directory.CellID // who has the tenant now, "" where that is not known
}

const columns = `tenant_id, epoch, state, capture, coalesce(move_id, ''), coalesce(moved_to, '')`

// Get is the tenant's fence; State Absent and Epoch 0 where there is none.
func Get(ctx context.Context, db pg.DB, tenant directory.TenantID) (Fence, error) {
	return one(ctx, db, tenant, "read fence", `SELECT `+columns+` FROM cell.fence_of($1)`, tenant)
}

// Admit lets a tenant into its first cell: where there is no fence and epoch is
// 1, it makes an active one, unless the fence may have been lost with what the
// database lost: that a reconciliation has settled. What is there already stays as
// it is, a tombstone above all. The caller has checked the router's assertion. It returns the fence
// as it is then.
func Admit(ctx context.Context, db pg.DB, tenant directory.TenantID, epoch directory.Epoch) (Fence, error) {
	return one(ctx, db, tenant, "admit", `SELECT `+columns+` FROM cell.admit($1, $2)`, tenant, epoch)
}

// Freeze makes a tenant stand still where it is, without a move (a move has steps
// of its own, in package transfer): active at epoch becomes frozen at epoch+1, in
// the name of move. It waits, at most wait, for those under way;
// meanwhile new ones queue behind it. When it returns nil, none is left and none
// will pass. Repeating it is no error. Conflict: the fence is something else,
// and unchanged. Unavailable: a transaction did not end within wait.
func Freeze(ctx context.Context, db pg.DB, tenant directory.TenantID, epoch directory.Epoch, move string, wait time.Duration) (Fence, error) {
	f, err := one(ctx, db, tenant, "freeze", `SELECT `+columns+` FROM cell.freeze($1, $2, $3, $4)`,
		tenant, epoch, move, max(1, wait.Milliseconds()))
	if err != nil {
		return f, err
	}
	if f.State != Frozen || f.Epoch != epoch+1 || f.Move != move {
		return f, f.conflict("freeze")
	}
	return f, nil
}

// Activate lets a tenant that Freeze stopped act at epoch to: its fence is frozen
// at epoch from, in the name of move. Repeating it is no error. Conflict and
// Unavailable as for Freeze. Only who has won the directory's decision calls it.
func Activate(ctx context.Context, db pg.DB, tenant directory.TenantID, from, to directory.Epoch, move string, wait time.Duration) (Fence, error) {
	f, err := one(ctx, db, tenant, "activate", `SELECT `+columns+` FROM cell.activate($1, $2, $3, $4, $5)`,
		tenant, from, to, move, max(1, wait.Milliseconds()))
	if err != nil {
		return f, err
	}
	if f.State != Active || f.Epoch != to || f.Move != move {
		return f, f.conflict("activate")
	}
	return f, nil
}

func (f Fence) conflict(verb string) error {
	return problem.New(problem.Conflict, "%s tenant %d: its fence is %s at epoch %d", verb, f.Tenant, f.State, f.Epoch).
		With("state", string(f.State)).With("epoch", fmt.Sprint(f.Epoch))
}

func one(ctx context.Context, db pg.DB, tenant directory.TenantID, verb, sql string, args ...any) (Fence, error) {
	f := Fence{Tenant: tenant, State: Absent}
	err := db.QueryRow(ctx, sql, args...).Scan(&f.Tenant, &f.Epoch, &f.State, &f.Capture, &f.Move, &f.MovedTo)
	if errors.Is(err, pgx.ErrNoRows) {
		return f, nil
	}
	return f, failed(verb, tenant, err)
}

// failed is err of a step of a tenant's fence.
func failed(verb string, tenant directory.TenantID, err error) error {
	switch {
	case err == nil:
		return nil
	case IsSuspect(err):
		return fmt.Errorf("%s tenant %d: %w", verb, tenant, Refusal(err))
	case pg.Code(err) == pg.LockNotAvailable:
		return problem.Wrap(problem.Unavailable, err, fmt.Sprintf("%s tenant %d: its transactions did not end in time", verb, tenant))
	}
	return fmt.Errorf("%s tenant %d: %w", verb, tenant, err)
}
