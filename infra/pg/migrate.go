package pg

import (
	"context"
	"fmt"
	"io/fs"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"

	"github.com/cellway/cellway/infra/run"
)

// Who waits for a table's exclusive lock keeps all that come later waiting, of every
// tenant, and a copy of a move holds the tables that it has read for hours. So a
// migration waits not long, but again, and less and less often: some four minutes.
const (
	boundLocks  = `SET lock_timeout = '100ms'`
	lockTries   = 20
	firstAgain  = 900 * time.Millisecond
	longestWait = 15 * time.Second
)

// Migrate applies the migrations in files (goose's format, *.sql at its root)
// that the database does not have yet, under a session lock so that several
// processes may start at once. table keeps the versions, for example
// "cell.schema_version". A migration that does not get a lock at once is rolled back
// and tried again: no other statement waits behind it for long.
func Migrate(ctx context.Context, url, table string, files fs.FS) error {
	cfg, err := pgx.ParseConfig(url)
	if err != nil {
		return fmt.Errorf("parse database url: %w", redact(err))
	}
	setLiveness(cfg)
	db := stdlib.OpenDB(*cfg, stdlib.OptionAfterConnect(func(ctx context.Context, conn *pgx.Conn) error {
		_, err := conn.Exec(ctx, boundLocks)
		return err
	}))
	defer db.Close()
	// Asked once a second, for ten minutes: a cell's processes start together.
	locker, err := lock.NewPostgresSessionLocker(lock.WithLockTimeout(1, 600))
	if err != nil {
		return fmt.Errorf("migrate: %w", err)
	}
	p, err := goose.NewProvider(goose.DialectPostgres, db, files,
		goose.WithTableName(table), goose.WithSessionLocker(locker))
	if err != nil {
		return fmt.Errorf("migrate: %w", err)
	}
	for try, wait := 1, firstAgain; ; try, wait = try+1, min(2*wait, longestWait) {
		_, err := p.Up(ctx)
		switch {
		case err == nil:
			return nil
		case Code(err) != LockNotAvailable:
			return fmt.Errorf("migrate: %w", err)
		case try == lockTries || !run.Pause(ctx, wait):
			return fmt.Errorf("migrate: %w (fix: end what holds the table, such as a move that copies, and start again)", err)
		}
	}
}
