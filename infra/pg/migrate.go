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
	lockTries   = 20
	firstAgain  = 900 * time.Millisecond
	longestWait = 15 * time.Second
)

// boundLocks needs the right to set deadlock_timeout for the short wait alone.
const boundLocks = `
	SELECT set_config('lock_timeout', CASE WHEN may OR NOT $1 THEN '100ms' ELSE '1500ms' END, false),
	       CASE WHEN may THEN set_config('deadlock_timeout', '50ms', false) END
	  FROM has_parameter_privilege('deadlock_timeout', 'SET') AS may`

// BoundLocks makes a session wait 100 ms at most for a lock, in this try. Autovacuum gives
// a table away to who has waited for deadlock_timeout, one second: it is less for the
// session, or, where its role may not set it, a patient try waits for longer than that.
func BoundLocks(ctx context.Context, db DB, try int) error {
	if _, err := db.Exec(ctx, boundLocks, Patient(try)); err != nil {
		return fmt.Errorf("bound waits for locks: %w", err)
	}
	return nil
}

// Patient says which tries, counted from 1, may wait for longer: the second, and then
// each fifth, as everybody else waits behind them.
func Patient(try int) bool { return try%5 == 2 }

// MigrateLock is the session lock that who migrates a database holds there all the time.
const MigrateLock = lock.DefaultLockID

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
	try := 1
	db := stdlib.OpenDB(*cfg, stdlib.OptionAfterConnect(func(ctx context.Context, conn *pgx.Conn) error {
		return BoundLocks(ctx, conn, try)
	}))
	defer db.Close()
	db.SetMaxIdleConns(-1) // a session for each try
	// Asked once a second, for ten minutes: a cell's processes start together.
	locker, err := lock.NewPostgresSessionLocker(lock.WithLockID(MigrateLock), lock.WithLockTimeout(1, 600))
	if err != nil {
		return fmt.Errorf("migrate: %w", err)
	}
	p, err := goose.NewProvider(goose.DialectPostgres, db, files,
		goose.WithTableName(table), goose.WithSessionLocker(locker))
	if err != nil {
		return fmt.Errorf("migrate: %w", err)
	}
	for wait := firstAgain; ; try, wait = try+1, min(2*wait, longestWait) {
		_, err := p.Up(ctx)
		switch {
		case err == nil:
			return nil
		case Code(err) != LockNotAvailable && Code(err) != DeadlockDetected: // which of both comes first is chance
			return fmt.Errorf("migrate: %w", err)
		case try == lockTries || !run.Pause(ctx, wait):
			return fmt.Errorf("migrate: %w (fix: end what holds the table, such as a move that copies or a vacuum against wraparound, and start again)", err)
		}
	}
}
