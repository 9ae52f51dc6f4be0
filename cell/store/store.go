// Package store gives transactions that can see one tenant only.
//
// [Store.InTenant], with its forms [Store.InTenantFirst] and [Store.Batch], is the one
// way to a tenant's rows: its first statement passes the fence, which also names the
// tenant to row security. [Prepare] brings a
// database to the state that this rests on and [Open] refuses one that is not in it.
package store

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/infra/pg"
)

// defaultPool is the number of connections where Options names none.
const defaultPool = 20

// Options say how to open a Store.
type Options struct {
	Cell directory.CellID // which cell this is; events carry it
	Pool int32            // connections at most; 0 is 20
}

// A Store is a cell's database as the application sees it.
type Store struct {
	cell     directory.CellID
	pool     *pgxpool.Pool
	notify   *notifier
	listener *listener
}

// Open connects to url, as the role that the cell runs as. It fails where that
// role could get past row security or a tenant table is not protected: a cell
// that cannot keep tenants apart does not start.
func Open(ctx context.Context, url string, o Options) (*Store, error) {
	if o.Pool == 0 {
		o.Pool = defaultPool
	}
	pool, err := pg.Open(ctx, url, o.Pool)
	if err != nil {
		return nil, err
	}
	if err := audit(ctx, pool, ""); err != nil {
		pool.Close()
		return nil, err
	}
	s := &Store{cell: o.Cell, pool: pool, notify: newNotifier(pool)}
	s.listener = newListener(s)
	return s, nil
}

// Close ends what runs in the background and the connections.
func (s *Store) Close() {
	s.listener.close()
	s.notify.close()
	s.pool.Close()
}

// Cell is the cell whose database this is.
func (s *Store) Cell() directory.CellID { return s.cell }

// DB is for what belongs to no tenant: the fence, the functions that look for
// work, pings. A tenant's rows cannot be seen through it.
func (s *Store) DB() pg.DB { return s.pool }

// Connections is how many the pool has at most.
func (s *Store) Connections() int { return int(s.pool.Stat().MaxConns()) }

// Incarnation is the identity of the database's contents, made with the first
// migration. A cell registers with it.
func (s *Store) Incarnation(ctx context.Context) (string, error) {
	var id string
	if err := s.pool.QueryRow(ctx, `SELECT id::text FROM cell.incarnation`).Scan(&id); err != nil {
		return "", fmt.Errorf("read incarnation: %w", err)
	}
	return id, nil
}

// Ping reports whether the database answers; a readiness check.
func (s *Store) Ping(ctx context.Context) error {
	if err := s.pool.Ping(ctx); err != nil {
		return fmt.Errorf("ping database: %w", err)
	}
	return nil
}
