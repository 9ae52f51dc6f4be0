// Package store keeps the directory in Postgres. [Store] is a
// directory.Directory, [Membership] and [Leaser] are the contracts of the same
// name; several processes may use one database side by side.
//
// Invariants are the schema's (migrations/). Locks are always taken in the order
// tenant, its moves, its deletion, cells by id, claims by kind and name, creator, version, so that no
// two mutations can wait for each other.
package store

import (
	"context"
	"embed"
	"fmt"
	"io/fs"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/sync/singleflight"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/infra/pg"
)

//go:embed migrations/*.sql
var migrations embed.FS

// A Store is the record. It is safe for concurrent use.
type Store struct {
	// Quotas bound CreateTenant; set them before the first call.
	Quotas directory.Quotas
	// Grace is how long what is deleted is kept, from its deletion; 0 is directory.DefaultGrace.
	Grace time.Duration

	pool    *pgxpool.Pool
	hub     *hub
	reading singleflight.Group // what routers are told, by the version that they have
	lacking lacking
	stop    context.CancelFunc
	work    sync.WaitGroup // the hub's loop and what Join keeps alive
}

var _ directory.Directory = (*Store)(nil)

// Migrate brings the schema "directory" of the database up to date. Several
// processes may do so at once.
func Migrate(ctx context.Context, url string) error {
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return fmt.Errorf("migrate: %w", err)
	}
	defer conn.Close(ctx)
	// Two at once may both find no schema; the one that comes second is told so
	// by the catalog's unique index.
	_, err = conn.Exec(ctx, `CREATE SCHEMA IF NOT EXISTS directory`)
	if err != nil && pg.Code(err) != pg.UniqueViolation {
		return fmt.Errorf("create schema: %w", err)
	}
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return fmt.Errorf("migrate: %w", err)
	}
	return pg.Migrate(ctx, url, "directory.schema_version", files)
}

// Open opens the record of a migrated database with at most size connections
// (0: pgx's default) and one more that listens for changes. The caller closes it.
func Open(ctx context.Context, url string, size int32) (*Store, error) {
	pool, err := pg.Open(ctx, url, size)
	if err != nil {
		return nil, err
	}
	run, stop := context.WithCancel(context.WithoutCancel(ctx)) // until Close, not until Open's ctx ends
	s := &Store{pool: pool, hub: newHub(), stop: stop}
	s.work.Go(func() { s.hub.run(run, pool, s.settle) })
	return s, nil
}

// Close ends the store's background work and closes its connections. Calls that
// still wait in Changes or Members return an error.
func (s *Store) Close() {
	s.stop()
	s.hub.close()
	s.work.Wait()
	s.pool.Close()
}

// Ping reports whether the database answers.
func (s *Store) Ping(ctx context.Context) error {
	if err := s.pool.Ping(ctx); err != nil {
		return fmt.Errorf("ping the record: %w", err)
	}
	return nil
}

// Schema is the number of the newest migration that the record has.
func (s *Store) Schema(ctx context.Context) (number int64, err error) {
	if err := s.pool.QueryRow(ctx, `SELECT max(version_id) FROM directory.schema_version WHERE is_applied`).Scan(&number); err != nil {
		return 0, fmt.Errorf("read the schema's version: %w", err)
	}
	return number, nil
}
