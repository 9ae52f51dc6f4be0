package store

import (
	"context"

	"github.com/jackc/pgx/v5"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/infra/pg"
)

// ReportLoad implements directory.Loads. Reports of one cell wait for each other:
// two at once would leave rows of both.
func (s *Store) ReportLoad(ctx context.Context, id directory.CellID, incarnation string, loads []directory.TenantLoad) error {
	if err := directory.CheckLoads(loads); err != nil {
		return err
	}
	const (
		lock   = `SELECT pg_advisory_xact_lock(hashtextextended('directory.loads ' || $1, 0))`
		forget = `DELETE FROM directory.loads WHERE cell = $1`
		keep   = `
			INSERT INTO directory.loads (cell, tenant, requests_per_second, busy)
			SELECT $1, * FROM unnest($2::bigint[], $3::float8[], $4::float8[])`
	)
	tenants, requests, busy := make([]int64, len(loads)), make([]float64, len(loads)), make([]float64, len(loads))
	for i, l := range loads {
		tenants[i], requests[i], busy[i] = int64(l.Tenant), l.Requests, l.Busy
	}
	err := pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		if _, err := registered(ctx, tx, id, incarnation); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, lock, string(id)); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, forget, string(id)); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, keep, string(id), tenants, requests, busy)
		return err
	})
	return fail(ctx, "report load", err)
}

// CellLoad implements directory.Loads.
func (s *Store) CellLoad(ctx context.Context, id directory.CellID) ([]directory.TenantLoad, error) {
	loads, err := cellLoad(ctx, s.pool, id)
	return loads, fail(ctx, "find load", err)
}

func cellLoad(ctx context.Context, db pg.DB, id directory.CellID) ([]directory.TenantLoad, error) {
	if _, err := getCell(ctx, db, id, ""); err != nil {
		return nil, err
	}
	const of = `SELECT tenant, requests_per_second, busy, at FROM directory.loads WHERE cell = $1 ORDER BY tenant`
	rows, err := db.Query(ctx, of, string(id))
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (l directory.TenantLoad, err error) {
		err = row.Scan(&l.Tenant, &l.Requests, &l.Busy, &l.At)
		l.At = l.At.UTC()
		return l, err
	})
}
