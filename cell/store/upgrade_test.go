package store_test

import (
	"context"
	"os"
	"slices"
	"testing"
	"testing/fstest"

	"github.com/jackc/pgx/v5"

	"github.com/cellway/cellway/cell/store"
	"github.com/cellway/cellway/infra/pg"
	"github.com/cellway/cellway/infra/testkit"
)

// before makes a database as the migrations before the one of that name leave it, and
// returns its owner's URL.
func before(t *testing.T, name string) string {
	t.Helper()
	owner, files := testkit.Postgres(t), fstest.MapFS{}
	list, err := os.ReadDir("migrations")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range list {
		if f.Name() >= name {
			break
		}
		text, err := os.ReadFile("migrations/" + f.Name())
		if err != nil {
			t.Fatal(err)
		}
		files[f.Name()] = &fstest.MapFile{Data: text}
	}
	if err := store.Prepare(t.Context(), owner, appURL(t, owner)); err != nil { // for the roles
		t.Fatal(err)
	}
	run(t, connect(t, owner), `DROP SCHEMA cell CASCADE; CREATE SCHEMA cell`)
	if err := pg.Migrate(t.Context(), owner, "cell.schema_version", files); err != nil {
		t.Fatal(err)
	}
	return owner
}

func connect(t *testing.T, url string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(context.WithoutCancel(t.Context())) })
	return conn
}

func run(t *testing.T, conn *pgx.Conn, sql string) {
	t.Helper()
	if _, err := conn.Exec(t.Context(), sql); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

// TestDeletionComesToABusyCell: its migration waits for the fences' table, as every
// transaction of a tenant holds it, and keeps nobody else waiting meanwhile.
func TestDeletionComesToABusyCell(t *testing.T) {
	t.Parallel()
	owner := before(t, "00020")
	busy, other, third := connect(t, owner), connect(t, owner), connect(t, owner)
	run(t, other, `INSERT INTO cell.fence (tenant_id, epoch, state) VALUES (1, 1, 'active'), (2, 1, 'active')`)
	run(t, busy, `BEGIN; SELECT cell.enter(1, 1)`)
	done := make(chan error, 1)
	go func() { done <- store.Prepare(t.Context(), owner, appURL(t, owner)) }()
	const waits = `SELECT count(*)::int FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() AND wait_event_type = 'Lock'
	                  AND query NOT LIKE '%advisory%' AND query NOT LIKE '%cell.enter%'`
	for n := 0; n == 0 && t.Context().Err() == nil; {
		if err := third.QueryRow(t.Context(), waits).Scan(&n); err != nil {
			t.Fatal(err)
		}
	}
	run(t, other, `SET statement_timeout = '30s'`)
	for range 3 {
		run(t, other, `BEGIN; SELECT cell.enter(2, 1); COMMIT`)
	}
	run(t, busy, `COMMIT`)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	run(t, other, `UPDATE cell.fence SET state = 'deleted' WHERE tenant_id = 1`)
}

// TestAnOlderReconciliationLeavesWhoIsDeletedAlone: a process of the release before knows no
// deletion, and makes of a tombstone what the directory's placement says to it.
func TestAnOlderReconciliationLeavesWhoIsDeletedAlone(t *testing.T) {
	t.Parallel()
	_, owner := open(t)
	run(t, owner, `INSERT INTO cell.fence (tenant_id, epoch, state) VALUES (1, 2, 'deleted'), (2, 2, 'deleted'), (3, 1, 'active')`)
	run(t, owner, `UPDATE cell.serving SET started = NULL`)
	run(t, owner, `SELECT cell.reconcile(1, 3, '{1,2,3}', '{2,5,1}', '{moved,suspect,suspect}', '{f,f,f}', '{"","",""}', '{c2,"",""}', '{"","",""}')`)
	var got []string
	if err := owner.QueryRow(t.Context(), `SELECT array_agg(state || ' ' || epoch ORDER BY tenant_id) FROM cell.fence`).Scan(&got); err != nil {
		t.Fatal(err)
	}
	if len(got) != 3 || got[0] != "deleted 2" || got[1] != "deleted 2" || got[2] != "suspect 1" {
		t.Errorf("got %v, want the deleted as they were, and the third suspect", got)
	}
}

// TestACopyOfBeforeSaysItsGeneration: an undo that was aborted in its pause has left a copy that counts for the
// source's first generation alone, also where that was before 00025, which has learnt it.
func TestACopyOfBeforeSaysItsGeneration(t *testing.T) {
	t.Parallel()
	owner := before(t, "00026")
	conn := connect(t, owner)
	run(t, conn, `INSERT INTO cell.received (tenant_id, move_id, round, snapshot) VALUES
		(1, 'kept:mv_1', 3, '3:3:'), (2, 'kept:mv_2', 3, '1/3:3:'), (3, 'mv_3', 0, '3:3:'), (4, 'void:mv_4', 0, '3:3:'), (5, 'kept:mv_5', 2, '700:700:')`)
	if err := store.Prepare(t.Context(), owner, appURL(t, owner)); err != nil {
		t.Fatal(err)
	}
	var got []string
	if err := conn.QueryRow(t.Context(), `SELECT array_agg(snapshot ORDER BY tenant_id) FROM cell.received`).Scan(&got); err != nil {
		t.Fatal(err)
	}
	if want := []string{"0/3:3:", "1/3:3:", "3:3:", "3:3:", "700:700:"}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}
