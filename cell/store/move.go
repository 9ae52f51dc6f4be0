package store

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cellway/cellway/infra/pg"
)

// uncaptured lists the tenant tables whose capture trigger is missing, or was made
// for another name or primary key.
const uncaptured = `
	SELECT c.oid::regclass::text
	  FROM pg_class c
	  JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'tenant_id' AND NOT a.attisdropped
	 WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND c.relforcerowsecurity AND NOT cell.captured(c.oid)
	 ORDER BY 1`

// installCapture gives every tenant table the trigger that notes the keys of
// changed rows while a tenant is armed. Tables that have it are not touched, so a
// start takes no lock.
func installCapture(ctx context.Context, conn *pgx.Conn) error {
	rows, err := conn.Query(ctx, uncaptured)
	if err != nil {
		return fmt.Errorf("list tables without capture: %w", err)
	}
	tables, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return fmt.Errorf("list tables without capture: %w", err)
	}
	for _, t := range tables {
		if err := capture(ctx, conn, t); err != nil {
			return fmt.Errorf("install capture on %s: %w", t, err)
		}
	}
	return nil
}

// capture installs it on one table.
func capture(ctx context.Context, conn *pgx.Conn, table string) error {
	return insist(ctx, conn, table, func(tx pgx.Tx, try int) error {
		if pg.Patient(try) { // cell.capture itself waits for 100 ms, whoever calls it
			if _, err := tx.Exec(ctx, `LOCK TABLE `+table+` IN SHARE ROW EXCLUSIVE MODE`); err != nil { // regclass has quoted it
				return err
			}
		}
		_, err := tx.Exec(ctx, `SELECT cell.capture($1::text::regclass)`, table)
		return err
	})
}

// insist does what needs a lock on the table. One that is not had at once is asked for
// again: who waits for one keeps all that come later waiting.
func insist(ctx context.Context, conn *pgx.Conn, table string, do func(tx pgx.Tx, try int) error) error {
	for try := 1; ; try++ {
		if err := pg.BoundLocks(ctx, conn, try); err != nil {
			return err
		}
		err := pg.InTx(ctx, conn, func(tx pgx.Tx) error { return do(tx, try) })
		if err == nil {
			_, err = conn.Exec(ctx, `RESET lock_timeout`) // what follows is asked for once, and may wait
			return err
		}
		if pg.Code(err) != pg.LockNotAvailable && pg.Code(err) != pg.DeadlockDetected {
			return err
		}
		if pg.Patient(try) {
			slog.WarnContext(ctx, "start waits for a table that somebody else holds", "table", table)
		}
		if Wait(ctx, 200*time.Millisecond); ctx.Err() != nil {
			return err
		}
	}
}

// PrepareMover makes the login role of the transfer endpoint, which moverURL names
// with its password. Unlike the application's, the role reads and writes past row
// security, which COPY cannot work under, and may keep the application's
// triggers and foreign keys from running in its own session. The guard triggers
// run for it all the same: it writes rows of the tenant whose fence awaits its
// move, and no others. Prepare comes first; ownerURL's role is a superuser.
func PrepareMover(ctx context.Context, ownerURL, moverURL string) error {
	ctx, cancel := context.WithTimeout(ctx, prepareTimeout)
	defer cancel()
	mover, err := pgx.ParseConfig(moverURL)
	if err != nil {
		return errors.New("parse the mover's database url: it is malformed")
	}
	conn, err := pg.Connect(ctx, ownerURL)
	if err != nil {
		return fmt.Errorf("prepare mover: %w", err)
	}
	defer conn.Close(context.WithoutCancel(ctx)) // ends the lock as well
	if _, err := conn.Exec(ctx, `SELECT pg_advisory_lock($1)`, prepareLock); err != nil {
		return fmt.Errorf("prepare mover: %w", err)
	}
	name := pgx.Identifier{mover.User}.Sanitize()
	todo := []string{
		createRole(mover.User),
		`ALTER ROLE ` + name + ` LOGIN INHERIT NOSUPERUSER BYPASSRLS NOCREATEROLE NOCREATEDB NOREPLICATION`,
		`GRANT cell_move TO ` + name,
		`GRANT SET ON PARAMETER session_replication_role TO ` + name,
		`ALTER ROLE ` + name + ` SET search_path = ''`,
	}
	if mover.Password != "" {
		verifier, err := scramVerifier(mover.Password)
		if err != nil {
			return err
		}
		todo = append(todo, `ALTER ROLE `+name+` PASSWORD '`+verifier+`'`) // base64 and punctuation: nothing to quote
	}
	for _, sql := range append(todo, grantMover) {
		if err := execShared(ctx, conn, sql); err != nil {
			return fmt.Errorf("prepare mover: %w", err)
		}
	}
	return nil
}

// grantMover opens the tenant tables, and what belongs to them, to cell_move.
const grantMover = `DO $$
DECLARE
    t record;
BEGIN
    EXECUTE format('GRANT CONNECT ON DATABASE %I TO cell_move', current_database());
    FOR t IN SELECT DISTINCT c.oid::regclass AS rel, n.nspname AS schema
               FROM pg_class c
               JOIN pg_namespace n ON n.oid = c.relnamespace
               JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'tenant_id' AND NOT a.attisdropped
              WHERE c.relkind IN ('r', 'p') AND c.relforcerowsecurity
    LOOP
        EXECUTE format('GRANT USAGE ON SCHEMA %I TO cell_move', t.schema);
        EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON %s TO cell_move', t.rel);
        EXECUTE format('GRANT USAGE, SELECT, UPDATE ON ALL SEQUENCES IN SCHEMA %I TO cell_move', t.schema);
    END LOOP;
END $$`
