package store

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/infra/pg"
)

// Witness implements directory.Failover.
func (s *Store) Witness(ctx context.Context, id directory.CellID, incarnation string, number int64, tenant directory.TenantID) (w directory.Witnessed, err error) {
	const keep = `
		INSERT INTO directory.witnesses AS w (cell, number) VALUES ($1, $2)
		    ON CONFLICT (cell) DO UPDATE SET number = greatest(w.number, excluded.number)
		RETURNING number`
	const ask = `SELECT coalesce((SELECT number FROM directory.witnesses WHERE cell = $1), 0)`
	_, err = registered(ctx, s.pool, id, incarnation)
	if err == nil && tenant > 0 {
		w, err = s.raise(ctx, tenant)
	}
	switch {
	case err != nil:
	case number > 0:
		err = s.pool.QueryRow(ctx, keep, id, number).Scan(&w.Number)
	default:
		err = s.pool.QueryRow(ctx, ask, id).Scan(&w.Number)
	}
	return w, fail(ctx, "keep witness", err)
}

// raise has tenants that are created from now on get ids above the one that is told of. It is
// done again, should what follows fail. The sequence is no transaction's: ids that are given
// between the two statements are below the margin.
func (s *Store) raise(ctx context.Context, tenant directory.TenantID) (directory.Witnessed, error) {
	const given = `
		SELECT last_value - CASE WHEN is_called THEN 0 ELSE 1 END, (SELECT coalesce(max(id), 0) FROM directory.tenants)
		  FROM directory.tenants_id_seq`
	var last, known directory.TenantID
	if err := s.pool.QueryRow(ctx, given).Scan(&last, &known); err != nil {
		return directory.Witnessed{}, err
	}
	w, to := directory.RaisedBy(tenant, last, known)
	if !w.Raised {
		return w, nil
	}
	_, err := s.pool.Exec(ctx, `SELECT setval('directory.tenants_id_seq', $1) FROM directory.tenants_id_seq WHERE last_value < $1`, int64(to))
	return w, err
}

// registered is the cell, if it is registered with the incarnation.
func registered(ctx context.Context, db pg.DB, id directory.CellID, incarnation string) (directory.Cell, error) {
	c, err := getCell(ctx, db, id, "")
	if err != nil {
		return c, err
	}
	return c, c.MustBe(incarnation)
}

// AbortMoves implements directory.Failover. Each move is a mutation of its own: a
// cell may take part in very many.
func (s *Store) AbortMoves(ctx context.Context, id directory.CellID, incarnation, why string) (did directory.Recovery, err error) {
	if _, err := registered(ctx, s.pool, id, incarnation); err != nil {
		return did, fail(ctx, "abort moves", err)
	}
	// A move whose making commits after this look finds a cell that answers no mover
	// before it is reconciled.
	rows, err := s.pool.Query(ctx, `SELECT id FROM directory.moves WHERE $1 IN (source, target) AND`+undecided+`ORDER BY id`, id)
	if err != nil {
		return did, fail(ctx, "abort moves", err)
	}
	list, err := pgx.CollectRows(rows, pgx.RowTo[directory.MoveID])
	if err != nil {
		return did, fail(ctx, "abort moves", err)
	}
	for _, move := range list {
		if err := s.abort(ctx, move, why, &did.Moves); err != nil {
			return did, err
		}
	}
	did.Known, err = s.known(ctx, id)
	return did, fail(ctx, "abort moves", err)
}

// known is the greatest id of a tenant. Who creates a tenant holds the cells before
// it gets an id: those that came before us are visible, and later ids are greater.
func (s *Store) known(ctx context.Context, id directory.CellID) (most directory.TenantID, err error) {
	err = pg.InTx(ctx, s.pool, func(tx pgx.Tx) error {
		if _, err := getCell(ctx, tx, id, forChange); err != nil {
			return err
		}
		return tx.QueryRow(ctx, `SELECT coalesce(max(id), 0) FROM directory.tenants`).Scan(&most)
	})
	return most, err
}

// abort takes one move to Aborting, if it is undecided still, and counts it.
func (s *Store) abort(ctx context.Context, id directory.MoveID, why string, aborted *int) error {
	aborts := false
	var old directory.Move
	var now time.Time
	var to recipient
	lock := func(b *pgx.Batch) {
		queueLock(b, id, &old, &now, lockTenantOf)
		queueGiven(b, id, &to)
	}
	err := s.mutateAfter(ctx, "abort move", lock, func(tx pgx.Tx) (*change, error) {
		var next directory.Move
		if next, aborts = old.Abort(why, now); !aborts {
			return nil, nil
		}
		const free = `UPDATE directory.moves SET lease = $2, holder = '', leased_until = NULL WHERE id = $1`
		if _, err := tx.Exec(ctx, free, id, next.Lease); err != nil {
			return nil, err
		}
		return s.reach(ctx, tx, old, next, to)
	})
	if err == nil && aborts {
		*aborted++
	}
	return err
}

// lockTenantOf locks the tenant of the move $1, which comes before its moves.
const lockTenantOf = `SELECT FROM directory.tenants WHERE id = (SELECT tenant FROM directory.moves WHERE id = $1) FOR NO KEY UPDATE`
