package cell

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"

	"github.com/cellway/cellway/cell/fence"
	"github.com/cellway/cellway/cell/store"
	"github.com/cellway/cellway/directory"
)

// A DB opens the transactions of the tenant whose request is served. It is all
// that a module's handlers know of the database.
type DB struct {
	store    *store.Store
	shares   *shares
	arrivals arrivals
	streams  *streams
	suspect  func() // told of a refusal because the database is suspect; nil is nobody
}

// NewDB makes a DB on the cell's store.
func NewDB(s *store.Store) *DB {
	return &DB{store: s, shares: newShares(s.Connections()), streams: newStreams()}
}

// OnSuspect names who is told when a request is refused because the database is
// suspect. It comes before the first request.
func (d *DB) OnSuspect(f func()) { d.suspect = f }

// Serving wakes the requests that wait for the database to serve again.
func (d *DB) Serving() { d.arrivals.heard("") }

// InTenant runs fn in a transaction that sees the request's tenant only, after the
// fence let it in at the request's epoch. It commits when fn returns nil. A request
// with an Idempotency-Key has one transaction for all its calls, which commits when
// the answer is known; what an fn that fails has done is undone there, too. The error
// is problem.Stale where the fence refuses; then nothing has been done in it.
func (d *DB) InTenant(ctx context.Context, fn func(ctx context.Context, tx *store.Tx) error) error {
	if c := callFrom(ctx); c != nil && c.tx != nil {
		return c.tx.Savepoint(ctx, fn)
	}
	return d.inTenantFirst(ctx, nil, fn)
}

// inTenantFirst is InTenant with first statements, as of store.InTenantFirst.
func (d *DB) inTenantFirst(ctx context.Context, first func(b *pgx.Batch), fn func(ctx context.Context, tx *store.Tx) error) error {
	c := callFrom(ctx)
	if c == nil || c.tenant == 0 {
		return errors.New("open transaction: the context has no tenant")
	}
	err := d.enter(ctx, c.tenant, c.epoch, func() error {
		return d.shares.within(ctx, c.tenant, func(ctx context.Context) error {
			return d.store.InTenantFirst(ctx, c.tenant, c.epoch, first, fn)
		})
	})
	if err == nil {
		c.committed.Store(true)
	}
	return err
}

// enter opens the transaction that run is. A tenant that was just placed here is not known to
// the fence yet: a signed assertion at the first epoch makes it known.
func (d *DB) enter(ctx context.Context, t directory.TenantID, e directory.Epoch, run func() error) error {
	err := run()
	if awaited(err, e) {
		err = d.await(ctx, t, e, run)
	}
	if e != 1 || !fence.IsAbsent(err) {
		return err
	}
	if _, err := fence.Admit(ctx, d.store.DB(), t, e); err != nil {
		return err
	}
	return run()
}
