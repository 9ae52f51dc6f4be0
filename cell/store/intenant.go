package store

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/cellway/cellway/cell/fence"
	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/infra/pg"
	"github.com/cellway/cellway/infra/problem"
)

// rollbackTimeout bounds the clean-up after a failed transaction.
const rollbackTimeout = 5 * time.Second

// ErrArgument is a queued statement's argument that is no value of its parameter's
// type. Nothing was done.
var ErrArgument = errors.New("an argument of a queued statement does not fit")

// errEnded: fn has committed or rolled back behind our back.
var errEnded = errors.New("the transaction was ended by a statement within it")

// InTenant runs fn in a READ COMMITTED transaction of the tenant. It costs one
// round trip for BEGIN and the fence and one for COMMIT. It commits when fn
// returns nil and rolls back on an error or a panic. problem.Stale: the fence
// refused, fn was not called, nothing was done. problem.Unavailable: no
// connection, unless ctx was cancelled. An error that begins with "commit" may have committed.
func (s *Store) InTenant(ctx context.Context, tenant directory.TenantID, epoch directory.Epoch, fn func(ctx context.Context, tx *Tx) error) error {
	return s.inTenant(ctx, pgx.TxOptions{}, tenant, epoch, nil, fn)
}

// InTenantWith is InTenant at another isolation level. Above READ COMMITTED the
// fence locks its row, so such a transaction cannot be read only, and one that
// began before a freeze fails with SQLSTATE 40001.
func (s *Store) InTenantWith(ctx context.Context, opts pgx.TxOptions, tenant directory.TenantID, epoch directory.Epoch, fn func(ctx context.Context, tx *Tx) error) error {
	return s.inTenant(ctx, opts, tenant, epoch, nil, fn)
}

// InTenantFirst is InTenant whose first statements are known beforehand: they go
// out with BEGIN and the fence, in the same round trip, and are answered when fn
// is called.
func (s *Store) InTenantFirst(ctx context.Context, tenant directory.TenantID, epoch directory.Epoch, first func(b *pgx.Batch), fn func(ctx context.Context, tx *Tx) error) error {
	return s.inTenant(ctx, pgx.TxOptions{}, tenant, epoch, first, fn)
}

func (s *Store) inTenant(ctx context.Context, opts pgx.TxOptions, tenant directory.TenantID, epoch directory.Epoch, first func(b *pgx.Batch), fn func(ctx context.Context, tx *Tx) error) error {
	conn, err := s.acquire(ctx)
	if err != nil {
		return err
	}
	defer conn.Release() // destroys a connection that is not idle

	e := entry{opts: opts, tenant: tenant, epoch: epoch, then: first}
	tx, err := e.send(ctx, conn)
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
	if err := t.commit(ctx); err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	committed = true
	s.notify.send(t.notes)
	return nil
}

// Batch runs a whole READ COMMITTED transaction of the tenant, BEGIN, the fence,
// what statements queues and COMMIT, in one round trip. problem.Stale and an error
// of Postgres: nothing was done. Another error, and that of a callback of a
// statement, may come after the commit.
func (s *Store) Batch(ctx context.Context, tenant directory.TenantID, epoch directory.Epoch, statements func(b *pgx.Batch)) error {
	conn, err := s.acquire(ctx)
	if err != nil {
		return err
	}
	defer conn.Release()
	var committed *bool
	e := entry{tenant: tenant, epoch: epoch, then: func(b *pgx.Batch) {
		statements(b)
		committed = pg.QueueCommit(b)
	}}
	tx, err := e.send(ctx, conn)
	if *committed {
		return nil
	}
	rollback(ctx, tx)
	return err
}

func (s *Store) acquire(ctx context.Context) (*pgxpool.Conn, error) {
	conn, err := s.pool.Acquire(ctx)
	if err == nil {
		return conn, nil
	}
	err = fmt.Errorf("acquire connection: %w", err)
	switch {
	case errors.Is(ctx.Err(), context.Canceled): // the caller went away
		return nil, err
	case ctx.Err() != nil:
		return nil, problem.Wrap(problem.Unavailable, err, "no connection to the cell's database came free in time")
	}
	return nil, problem.Wrap(problem.Unavailable, err, "the cell's database does not answer")
}

// An entry begins a transaction and passes the fence; what follows them may go along.
type entry struct {
	opts   pgx.TxOptions
	tenant directory.TenantID
	epoch  directory.Epoch
	then   func(b *pgx.Batch) // nil is nothing
}

// send makes one round trip. It returns the transaction also with an error, to be
// rolled back. Behind a refusal Postgres runs nothing: it skips what was sent along.
func (e entry) send(ctx context.Context, conn *pgxpool.Conn) (pgx.Tx, error) {
	var b pgx.Batch
	entered := false
	b.BeginTx(e.opts)
	b.Queue(`SELECT cell.enter($1, $2)`, int64(e.tenant), int64(e.epoch)).Exec(func(pgconn.CommandTag) error {
		entered = true
		return nil
	})
	if e.then != nil {
		e.then(&b)
	}
	br := conn.SendBatch(ctx, &b)
	err := br.Close()
	if err != nil && !entered {
		err = fmt.Errorf("enter tenant %d: %w", e.tenant, fence.Refusal(err))
	}
	return br.Tx(), err
}

// commit commits, with what was queued in the same round trip.
func (t *Tx) commit(ctx context.Context) error {
	t.queued.QueuedQueries = append(t.queued.QueuedQueries, t.last.QueuedQueries...)
	if t.queued.Len() == 0 {
		return t.tx.Commit(ctx)
	}
	committed := pg.QueueCommit(&t.queued)
	err := t.send(ctx, &t.queued)
	if *committed {
		return nil
	}
	return err
}

// send sends what was queued. An argument that panics where it is written down is one
// that does not fit: whoever has queued it is no longer there to recover.
func (t *Tx) send(ctx context.Context, b *pgx.Batch) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%w: panic: %v", ErrArgument, p)
		}
	}()
	err = t.tx.SendBatch(ctx, b).Close()
	build, ok := errors.AsType[pgx.ErrPreprocessingBatch](err)
	if ok && strings.HasPrefix(build.Error(), "error preprocessing batch (build)") { // pgx has no other way to say which step
		return fmt.Errorf("%w: %w", ErrArgument, err)
	}
	return err
}

// rollback must also work when ctx is what ended the transaction. Where it does
// not, pgx closes the connection, and the pool lets go of it.
func rollback(ctx context.Context, tx pgx.Tx) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), rollbackTimeout)
	defer cancel()
	_ = tx.Rollback(ctx) // the caller already has the error that matters
}
