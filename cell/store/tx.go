package store

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/cellway/cellway/directory"
)

// A Tx is a transaction of one tenant. It begins, commits and rolls back in
// InTenant and is of no use after it. It is not for concurrent use.
type Tx struct {
	Tenant directory.TenantID
	Epoch  directory.Epoch
	Cell   directory.CellID // the cell that runs it

	tx           pgx.Tx
	queued, last pgx.Batch // go out with the commit, last behind the others
	notes        []note
	savepoints   int // so many were made
}

// Exec runs a statement.
func (t *Tx) Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error) {
	return t.tx.Exec(ctx, sql, args...)
}

// Query runs a query; the rows must be read or closed before the next statement.
func (t *Tx) Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error) {
	return t.tx.Query(ctx, sql, args...)
}

// QueryRow runs a query for one row; Scan returns pgx.ErrNoRows where there is none.
func (t *Tx) QueryRow(ctx context.Context, sql string, args ...any) pgx.Row {
	return t.tx.QueryRow(ctx, sql, args...)
}

// SendBatch sends several statements in one round trip.
func (t *Tx) SendBatch(ctx context.Context, b *pgx.Batch) pgx.BatchResults {
	return t.tx.SendBatch(ctx, b)
}

// Queue adds a statement that goes out with the COMMIT, all queued ones and it in
// one round trip, in order, after everything else: also after a savepoint that is
// rolled back, and unseen by the statements before; but what is queued in a Savepoint goes out at its end. What it locks is locked no
// longer than the commit takes. Its error is InTenant's, and then nothing was done
// (ErrArgument where it could not be sent); nobody sees its result. The arguments
// must not change any more.
func (t *Tx) Queue(sql string, args ...any) { t.queued.Queue(sql, args...) }

// QueueLast is Queue for rows that many transactions of the tenant write, such as
// the number of its events: behind it come only the checks that are deferred to the
// commit.
func (t *Tx) QueueLast(sql string, args ...any) { t.last.Queue(sql, args...) }

// Notify sends payload to whoever listens on channel (see Listen), after the
// commit and apart from it: NOTIFY within the transaction would make all commits
// of the database wait for each other. It is lost when the process dies in
// between, so a listener also looks for itself from time to time.
func (t *Tx) Notify(channel, payload string) {
	t.notes = append(t.notes, note{channel, payload})
}

// Savepoint runs fn as a part of t. Where fn fails, or panics, nothing of it is left,
// nor of what it has queued and would notify, and t can go on; else that is the
// commit's to decide. What it has queued (not last) is a part of it: it is sent at its end, and its
// error is fn's. It costs one round trip, and one for what is queued.
func (t *Tx) Savepoint(ctx context.Context, fn func(ctx context.Context, tx *Tx) error) (err error) {
	t.savepoints++
	name := fmt.Sprintf("part_%d", t.savepoints)
	queued, last, notes := t.queued.Len(), t.last.Len(), len(t.notes)
	if _, err := t.tx.Exec(ctx, "SAVEPOINT "+name); err != nil {
		return fmt.Errorf("begin a part of the transaction: %w", err)
	}
	failed := true
	defer func() {
		if !failed {
			return // the commit releases it
		}
		t.queued.QueuedQueries, t.last.QueuedQueries, t.notes = t.queued.QueuedQueries[:queued], t.last.QueuedQueries[:last], t.notes[:notes]
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), rollbackTimeout) // as rollback
		defer cancel()
		if _, undo := t.tx.Exec(ctx, "ROLLBACK TO SAVEPOINT "+name); undo != nil { // nothing can commit any more
			err = errors.Join(err, fmt.Errorf("undo a part of the transaction: %w", undo))
		}
	}()
	if err = fn(ctx, t); err == nil && t.queued.Len() > queued {
		part := pgx.Batch{QueuedQueries: t.queued.QueuedQueries[queued:]}
		err = t.send(ctx, &part)
		if err == nil {
			t.queued.QueuedQueries = t.queued.QueuedQueries[:queued]
		}
	}
	failed = err != nil
	return err
}
