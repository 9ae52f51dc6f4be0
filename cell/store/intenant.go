package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/cellway/cellway/cell/fence"
	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/infra/problem"
)

// rollbackTimeout bounds the clean-up after a failed transaction.
const rollbackTimeout = 5 * time.Second

// errEnded: fn has committed or rolled back behind our back.
var errEnded = errors.New("the transaction was ended by a statement within it")

// InTenant runs fn in a READ COMMITTED transaction of the tenant. It costs one
// round trip for BEGIN and the fence and one for COMMIT. It commits when fn
// returns nil and rolls back on an error or a panic. problem.Stale: the fence
// refused, fn was not called, nothing was done. problem.Unavailable: no
// connection. An error that begins with "commit" may have committed.
func (s *Store) InTenant(ctx context.Context, tenant directory.TenantID, epoch directory.Epoch, fn func(ctx context.Context, tx *Tx) error) error {
	return s.InTenantWith(ctx, pgx.TxOptions{}, tenant, epoch, fn)
}

// InTenantWith is InTenant at another isolation level. Above READ COMMITTED the
// fence locks its row, so such a transaction cannot be read only, and one that
// began before a freeze fails with SQLSTATE 40001.
func (s *Store) InTenantWith(ctx context.Context, opts pgx.TxOptions, tenant directory.TenantID, epoch directory.Epoch, fn func(ctx context.Context, tx *Tx) error) error {
	conn, err := s.pool.Acquire(ctx)
	if err != nil {
		return problem.Wrap(problem.Unavailable, fmt.Errorf("acquire connection: %w", err), "the cell's database does not answer")
	}
	defer conn.Release() // destroys a connection that is not idle

	tx, err := enter(ctx, conn, opts, tenant, epoch)
	committed := false
	defer func() {
		if !committed {
			rollback(ctx, tx)
		}
	}()
	if err != nil {
		return err
	}
	t := &Tx{Tenant: tenant, Epoch: epoch, Cell: s.cell, tx: tx}
	if err := fn(ctx, t); err != nil {
		return err
	}
	if conn.Conn().PgConn().TxStatus() == 'I' {
		return errEnded
	}
	if err := tx.Commit(ctx); err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	committed = true
	s.notify.send(t.notes)
	return nil
}

// enter begins a transaction and passes the fence, in one round trip. It returns
// the transaction also with an error, to be rolled back.
func enter(ctx context.Context, conn *pgxpool.Conn, opts pgx.TxOptions, tenant directory.TenantID, epoch directory.Epoch) (pgx.Tx, error) {
	var b pgx.Batch
	b.BeginTx(opts)
	b.Queue(`SELECT cell.enter($1, $2)`, int64(tenant), int64(epoch))
	br := conn.SendBatch(ctx, &b)
	if err := br.Close(); err != nil {
		return br.Tx(), fmt.Errorf("enter tenant %d: %w", tenant, fence.Refusal(err))
	}
	return br.Tx(), nil
}

// rollback must also work when ctx is what ended the transaction. Where it does
// not, pgx closes the connection, and the pool lets go of it.
func rollback(ctx context.Context, tx pgx.Tx) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), rollbackTimeout)
	defer cancel()
	_ = tx.Rollback(ctx) // the caller already has the error that matters
}
