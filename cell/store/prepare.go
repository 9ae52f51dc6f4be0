package store

import (
	"context"
	"embed"
	"fmt"
	"io/fs"
	"regexp"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cellway/cellway/infra/pg"
)

//go:embed migrations/*.sql
var migrations embed.FS

// A Schema is one module's part of the database. cell.Module satisfies it.
type Schema interface {
	// Name is the schema in Postgres.
	Name() string
	// Migrations are goose files at the root of the file system; nil is none.
	Migrations() fs.FS
	// Tables are the tenant tables, "schema.table".
	Tables() []string
}

// prepareTimeout bounds the wait for another process that prepares the database, and
// what has to be said about roles. No time bounds a migration.
const prepareTimeout = 2 * time.Minute

// prepareLock serialises Prepare: 0x7D in the top byte, as all our session locks.
const prepareLock = sessionLock | 1

var schemaForm = regexp.MustCompile(`^[a-z][a-z0-9_]{0,30}$`)

// Prepare brings the database behind ownerURL up to date: roles, our own schema
// and those of the modules, row security and the guard on every tenant table,
// the login role that appURL names with its password. ownerURL's role is a
// superuser, or owns the database and has CREATEROLE. It may be repeated and run
// from several processes at once. It fails, with what is wrong, where the result
// would not keep tenants apart. Migrations take as long as they take, and end with ctx:
// one that was ended for its length would only begin anew with the next start.
func Prepare(ctx context.Context, ownerURL, appURL string, modules ...Schema) error {
	wait, cancel := context.WithTimeout(ctx, prepareTimeout)
	defer cancel()
	return prepare(ctx, wait, ownerURL, appURL, modules...)
}

// prepare waits for others for as long as wait lasts.
func prepare(ctx, wait context.Context, ownerURL, appURL string, modules ...Schema) error {
	conn, err := pg.Connect(wait, ownerURL)
	if err != nil {
		return fmt.Errorf("prepare database: %w", err)
	}
	defer conn.Close(context.WithoutCancel(ctx)) // ends the lock as well
	if _, err := conn.Exec(wait, `SELECT pg_advisory_lock($1)`, prepareLock); err != nil {
		return fmt.Errorf("prepare database: wait until no other process does: %w", err)
	}
	app, err := prepareRoles(wait, conn, appURL)
	if err != nil {
		return fmt.Errorf("prepare roles: %w", err)
	}
	own, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return fmt.Errorf("prepare database: %w", err)
	}
	if err := migrate(ctx, conn, ownerURL, "cell", own); err != nil {
		return err
	}
	for _, m := range modules {
		if err := prepareModule(ctx, conn, ownerURL, m); err != nil {
			return err
		}
	}
	if err := installCapture(ctx, conn); err != nil {
		return err
	}
	return audit(ctx, conn, app)
}

func migrate(ctx context.Context, conn *pgx.Conn, url, schema string, files fs.FS) error {
	if _, err := conn.Exec(ctx, `CREATE SCHEMA IF NOT EXISTS `+pgx.Identifier{schema}.Sanitize()); err != nil {
		return fmt.Errorf("create schema %s: %w", schema, err)
	}
	if files == nil { // goose takes that for a mistake
		return nil
	}
	if err := pg.Migrate(ctx, url, schema+".schema_version", files); err != nil {
		return fmt.Errorf("schema %s: %w", schema, err)
	}
	return nil
}

func prepareModule(ctx context.Context, conn *pgx.Conn, url string, m Schema) error {
	if !schemaForm.MatchString(m.Name()) || m.Name() == "cell" || m.Name() == "public" {
		return fmt.Errorf("module %q: name must match %s and not be ours", m.Name(), schemaForm)
	}
	if err := migrate(ctx, conn, url, m.Name(), m.Migrations()); err != nil {
		return err
	}
	schema := pgx.Identifier{m.Name()}.Sanitize()
	if _, err := conn.Exec(ctx, `GRANT USAGE ON SCHEMA `+schema+` TO cell_app, cell_move`); err != nil {
		return fmt.Errorf("grant schema %s: %w", m.Name(), err)
	}
	if m.Migrations() != nil { // a move compares which ones both cells have
		if _, err := conn.Exec(ctx, `GRANT SELECT ON `+schema+`.schema_version TO cell_move`); err != nil {
			return fmt.Errorf("grant versions of %s: %w", m.Name(), err)
		}
	}
	for _, t := range m.Tables() {
		if err := insist(ctx, conn, t, func(tx pgx.Tx, _ int) error { // of a partition that came later
			_, err := tx.Exec(ctx, `SELECT cell.protect($1::text::regclass)`, t)
			return err
		}); err != nil {
			return fmt.Errorf("protect table %s: %w", t, err)
		}
	}
	if _, err := conn.Exec(ctx, `GRANT USAGE ON ALL SEQUENCES IN SCHEMA `+schema+` TO cell_app`); err != nil {
		return fmt.Errorf("grant sequences of %s: %w", m.Name(), err)
	}
	return nil
}
