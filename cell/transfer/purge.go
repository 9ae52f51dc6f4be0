package transfer

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/infra/pg"
	"github.com/cellway/cellway/infra/problem"
)

// A Purger removes what a move leaves behind: the source's copy after the watch,
// the target's after an abort, and noted keys; and what a tenant has left that was
// deleted.
type Purger struct {
	pool  *pgxpool.Pool
	batch int           // rows per transaction
	rest  time.Duration // between two transactions, for the others in the cell

	tables tableCache
}

// NewPurger makes a Purger that deletes batch rows at a time and rests between.
func NewPurger(pool *pgxpool.Pool, batch int, rest time.Duration) *Purger {
	return &Purger{pool: pool, batch: batch, rest: rest}
}

// Rows deletes the tenant's rows from a cell whose fence is a tombstone of the
// move at the epoch, and returns how many there were. It may be stopped at any point
// and begun again. The fence's row stays. What a deleted tenant has left is its
// deletion's to purge: there is none of the move's.
func (p *Purger) Rows(ctx context.Context, s Step) (int64, error) {
	n, err := p.rows(ctx, s.Tenant, func(ctx context.Context, tx pgx.Tx) error { return enterMove(ctx, tx, s, "moved") })
	if !errors.Is(err, problem.Conflict) {
		return n, err
	}
	const ask = `SELECT EXISTS (SELECT FROM cell.fence_of($1) f WHERE f.state = 'deleted')`
	deleted := false
	if failed := p.pool.QueryRow(ctx, ask, s.Tenant).Scan(&deleted); failed != nil || !deleted {
		return n, err
	}
	return n, nil
}

// Deleted is Rows, and Keys, of a tenant whose fence says that it was deleted at the
// epoch. Conflict where it says something else. There is no way back from its first row on.
// The generation is the database's when the first transaction began.
func (p *Purger) Deleted(ctx context.Context, t directory.TenantID, at directory.Epoch) (rows int64, generation string, err error) {
	rows, err = p.rows(ctx, t, func(ctx context.Context, tx pgx.Tx) error {
		var now string
		err := tx.QueryRow(ctx, `SELECT cell.enter_purge($1, $2)`, t, at).Scan(&now)
		if pg.Code(err) == notThisMove {
			return problem.Wrap(problem.Conflict, err, fmt.Sprintf("the fence does not say that tenant %d was deleted at epoch %d", t, at))
		}
		if err == nil && generation == "" {
			generation = now
		}
		return err
	})
	if err == nil {
		_, err = p.Keys(ctx, t)
	}
	return rows, generation, err
}

// Purged records that nothing is left of a tenant that was deleted at the epoch. Conflict where
// the database was reconciled since Deleted began: what that deleted may be there again.
func (p *Purger) Purged(ctx context.Context, t directory.TenantID, at directory.Epoch, generation string) error {
	var ok bool
	if err := p.pool.QueryRow(ctx, `SELECT cell.purged($1, $2, $3)`, t, at, generation).Scan(&ok); err != nil {
		return fmt.Errorf("record the purge of tenant %d: %w", t, err)
	}
	if !ok {
		return problem.New(problem.Conflict, "tenant %d is to be purged again: the database was promoted or restored meanwhile, or it is not deleted at epoch %d", t, at)
	}
	return nil
}

// rows deletes a tenant's rows in transactions that enter lets in.
func (p *Purger) rows(ctx context.Context, tenant directory.TenantID, enter func(ctx context.Context, tx pgx.Tx) error) (int64, error) {
	list, err := p.tables.get(ctx, p.pool, true)
	if err != nil {
		return 0, err
	}
	var total int64
	for _, t := range list {
		// ctid names a row within one partition only; the table's own id goes with it.
		sql := fmt.Sprintf(`DELETE FROM %[1]s WHERE tenant_id = $1 AND (tableoid, ctid) IN (SELECT tableoid, ctid FROM %[1]s WHERE tenant_id = $1 LIMIT $2)`, t.Name)
		n, err := p.repeat(ctx, p.batch, func(tx pgx.Tx) (int64, error) {
			if err := enter(ctx, tx); err != nil {
				return 0, err
			}
			if _, err := tx.Exec(ctx, `SET LOCAL session_replication_role = replica`); err != nil {
				return 0, err
			}
			tag, err := tx.Exec(ctx, sql, tenant, p.batch)
			return tag.RowsAffected(), err
		})
		total += n
		if err != nil {
			return total, fmt.Errorf("purge %s: %w", t.Label, err)
		}
	}
	err = pgx.BeginFunc(ctx, p.pool, func(tx pgx.Tx) error {
		if err := enter(ctx, tx); err != nil { // what another move has received since is not ours
			return err
		}
		_, err := tx.Exec(ctx, `DELETE FROM cell.received WHERE tenant_id = $1`, tenant)
		return err
	})
	if err != nil {
		return total, fmt.Errorf("purge record of the move: %w", err)
	}
	return total, nil
}

// keyBatches is how many batches of rows a batch of noted keys counts for, as an undo waits for them. Nobody waits for their
// locks: notes of a tenant that is not armed are written by nobody else. A transaction of ten thousand takes
// about 50 ms, and 0.6 MB of log besides its full pages.
const keyBatches = 5

// Keys deletes the noted keys of a tenant that is not armed.
func (p *Purger) Keys(ctx context.Context, t directory.TenantID) (int64, error) {
	return p.repeat(ctx, p.batch*keyBatches, func(tx pgx.Tx) (int64, error) {
		var n int64
		err := tx.QueryRow(ctx, `SELECT cell.forget($1, $2)`, t, p.batch*keyBatches).Scan(&n)
		return n, err
	})
}

// repeat runs del, a transaction each, until it deletes less than a batch.
func (p *Purger) repeat(ctx context.Context, batch int, del func(pgx.Tx) (int64, error)) (int64, error) {
	var total int64
	for {
		var n int64
		err := pgx.BeginFunc(ctx, p.pool, func(tx pgx.Tx) (err error) {
			n, err = del(tx)
			return err
		})
		if err != nil {
			return total, err
		}
		total += n
		if n < int64(batch) {
			return total, nil
		}
		select {
		case <-ctx.Done():
			return total, ctx.Err()
		case <-time.After(p.rest):
		}
	}
}
