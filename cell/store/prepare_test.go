package store_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cellway/cellway/cell/store"
	"github.com/cellway/cellway/infra/testkit"
)

// held is a migration that lasts until nobody has the lock 4711.
var held = notes{ddl: `SET LOCAL lock_timeout = 0; SELECT pg_advisory_xact_lock(4711);`}

// untilAdvisory waits until so many wait for an advisory lock of the database.
func untilAdvisory(t *testing.T, url string, many int) {
	t.Helper()
	conn := connect(t, url)
	const waits = `SELECT count(*)::int FROM pg_locks l JOIN pg_database d ON d.oid = l.database
		WHERE d.datname = current_database() AND l.locktype = 'advisory' AND NOT l.granted`
	for waiting := 0; waiting < many; {
		if err := conn.QueryRow(t.Context(), waits).Scan(&waiting); err != nil {
			t.Fatal(err)
		}
	}
}

// TestALongMigrationIsNotEnded by what bounds the wait for another process: it would begin
// anew with each start, and the cell never get up.
func TestALongMigrationIsNotEnded(t *testing.T) {
	t.Parallel()
	owner := testkit.Postgres(t)
	other := connect(t, owner)
	run(t, other, `SELECT pg_advisory_lock(4711)`)
	wait, over := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- store.PrepareWhile(t.Context(), wait, owner, appURL(t, owner), held) }()
	untilAdvisory(t, owner, 1)
	over()
	run(t, other, `SELECT pg_advisory_unlock(4711)`)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

// TestTheWaitToPrepareIsBounded: one that prepares and hangs is told of.
func TestTheWaitToPrepareIsBounded(t *testing.T) {
	t.Parallel()
	owner := testkit.Postgres(t)
	other := connect(t, owner)
	run(t, other, `SELECT pg_advisory_lock(4711)`)
	first, done := make(chan error, 1), make(chan error, 1)
	go func() {
		first <- store.Prepare(t.Context(), owner, appURL(t, owner), held)
	}()
	untilAdvisory(t, owner, 1) // the first one's migration
	wait, over := context.WithCancel(t.Context())
	go func() { done <- store.PrepareWhile(t.Context(), wait, owner, appURL(t, owner)) }()
	untilAdvisory(t, owner, 2)
	over()
	if err := <-done; err == nil || !strings.Contains(err.Error(), "no other process") {
		t.Errorf("got %v, want that it waited in vain", err)
	}
	run(t, other, `SELECT pg_advisory_unlock(4711)`)
	if err := <-first; err != nil {
		t.Error(err)
	}
}

// TestAutovacuumGivesWayToCapture, which waits for 100 ms at a time, also where the owner
// may not set deadlock_timeout.
func TestAutovacuumGivesWayToCapture(t *testing.T) {
	t.Parallel()
	for name, own := range map[string]bool{"of a superuser": false, "of an owner": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			super := testkit.Postgres(t)
			owner, conn := super, connect(t, super)
			if db := conn.Config().Database; own {
				run(t, conn, `CREATE ROLE own`+db+` LOGIN CREATEROLE PASSWORD 'secret'; ALTER DATABASE `+db+` OWNER TO own`+db)
				owner = testkit.SetUser(t, super, "own"+db, "secret")
			}
			full := notes{ddl: `INSERT INTO notes.note (tenant_id, id, text) SELECT 1, n, repeat('x', 1900) FROM generate_series(1, 10000) n;`}
			if err := store.Prepare(t.Context(), owner, appURL(t, super), full); err != nil {
				t.Fatal(err)
			}
			run(t, conn, `DROP TRIGGER zz_cell_capture ON notes.note`)
			testkit.Autovacuum(t, super, "notes.note", `SELECT set_config('cell.tenant', '1', false); DELETE FROM notes.note`)
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute) // and not until autovacuum ends
			defer cancel()
			if err := store.Prepare(ctx, owner, appURL(t, super), full); err != nil {
				t.Error(err)
			}
		})
	}
}

// parted has a table with partitions, too.
type parted struct{ notes }

// Tables are both.
func (parted) Tables() []string { return []string{"notes.note", "notes.parted"} }

// TestAStartKeepsNobodyWaiting: a partition that came later is protected with the next
// start, which waits for a copy that reads it, and nobody behind the start.
func TestAStartKeepsNobodyWaiting(t *testing.T) {
	t.Parallel()
	owner := testkit.Postgres(t)
	module := parted{notes{ddl: `CREATE TABLE notes.parted (tenant_id bigint NOT NULL, id bigint NOT NULL, PRIMARY KEY (tenant_id, id)) PARTITION BY RANGE (id);`}}
	if err := store.Prepare(t.Context(), owner, appURL(t, owner), module); err != nil {
		t.Fatal(err)
	}
	copies, other := connect(t, owner), connect(t, owner)
	run(t, copies, `CREATE TABLE notes.parted_1 PARTITION OF notes.parted FOR VALUES FROM (0) TO (100)`)
	run(t, copies, `BEGIN; SELECT FROM notes.parted_1`)
	done := make(chan error, 1)
	go func() { done <- store.Prepare(t.Context(), owner, appURL(t, owner), module) }()
	const waits = `SELECT count(*)::int FROM pg_locks WHERE relation = 'notes.parted_1'::regclass AND NOT granted`
	for n := 0; n == 0 && t.Context().Err() == nil; {
		if err := other.QueryRow(t.Context(), waits).Scan(&n); err != nil {
			t.Fatal(err)
		}
	}
	run(t, other, `SET statement_timeout = '10s'`)
	for range 3 {
		run(t, other, `SELECT FROM notes.parted_1`)
	}
	run(t, copies, `COMMIT`)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	run(t, other, `DO $$ BEGIN ASSERT (SELECT relforcerowsecurity FROM pg_class WHERE oid = 'notes.parted_1'::regclass); END $$`)
}

// TestOnlyWhatIsAskedForAgainIsBounded: what is done once on the session that prepares, after what needed a table's lock, may
// wait for its own.
func TestOnlyWhatIsAskedForAgainIsBounded(t *testing.T) {
	t.Parallel()
	conn := connect(t, testkit.Postgres(t))
	const bound = `SELECT current_setting('lock_timeout')`
	var within, after string
	err := store.Insist(t.Context(), conn, "any", func(tx pgx.Tx, _ int) error { return tx.QueryRow(t.Context(), bound).Scan(&within) })
	if err == nil {
		err = conn.QueryRow(t.Context(), bound).Scan(&after)
	}
	if err != nil || within != "100ms" || after != "0" {
		t.Errorf("got %s and then %s, %v, want 100ms and 0", within, after, err)
	}
}
