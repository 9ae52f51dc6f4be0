package pg

import (
	"context"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/cellway/cellway/infra/testkit"
)

func TestMigrate(t *testing.T) {
	t.Parallel()
	url := testkit.Postgres(t)
	pool := open(t, url)
	files := fstest.MapFS{
		"1_items.sql": {Data: []byte("-- +goose Up\nCREATE TABLE items (id int);\n-- +goose Down\nDROP TABLE items;\n")},
	}
	if err := Migrate(t.Context(), url, "versions", files); err != nil {
		t.Fatal(err)
	}
	files["2_row.sql"] = &fstest.MapFile{Data: []byte("-- +goose Up\nINSERT INTO items VALUES (1);\n")}
	for range 2 { // the second time there is nothing to do
		if err := Migrate(t.Context(), url, "versions", files); err != nil {
			t.Fatal(err)
		}
	}
	if got := count(t, pool, "SELECT count(*) FROM items"); got != 1 {
		t.Errorf("the second migration ran %d times, want once", got)
	}
	files["3_bad.sql"] = &fstest.MapFile{Data: []byte("-- +goose Up\nINSERT INTO items VALUES (2); INSERT INTO nothing VALUES (1);\n")}
	if err := Migrate(t.Context(), url, "versions", files); err == nil || !strings.Contains(err.Error(), "nothing") {
		t.Errorf("got %v, want the migration's error", err)
	}
	if got := count(t, pool, "SELECT count(*) FROM items"); got != 1 {
		t.Errorf("half of a failed migration stayed: %d rows, want 1", got)
	}
}

// TestAMigrationKeepsNobodyWaiting: it waits for a table that a transaction has read, as a copy of a move does for hours,
// and others read it meanwhile.
func TestAMigrationKeepsNobodyWaiting(t *testing.T) {
	t.Parallel()
	url := testkit.Postgres(t)
	pool := open(t, url)
	files := fstest.MapFS{"1_items.sql": {Data: []byte("-- +goose Up\nCREATE TABLE items (id int);\n")}}
	if err := Migrate(t.Context(), url, "versions", files); err != nil {
		t.Fatal(err)
	}
	copying, err := pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := copying.Exec(t.Context(), `SELECT FROM items`); err != nil {
		t.Fatal(err)
	}
	files["2_more.sql"] = &fstest.MapFile{Data: []byte("-- +goose Up\nALTER TABLE items ADD more int;\n")}
	done := make(chan error, 1)
	go func() { done <- Migrate(t.Context(), url, "versions", files) }()
	const waits = `SELECT count(*)::int FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock' AND query LIKE 'ALTER TABLE%'`
	for count(t, pool, waits) == 0 && t.Context().Err() == nil {
	}
	if _, err := pool.Exec(t.Context(), `SET statement_timeout = '30s'; SELECT FROM items`); err != nil {
		t.Errorf("read behind a migration that waits: %v", err)
	}
	if err := copying.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if _, err := pool.Exec(t.Context(), `SELECT more FROM items`); err != nil {
		t.Error(err)
	}
}

// TestAutovacuumGivesWayToAMigration, also to an owner who may not set deadlock_timeout:
// Postgres asks it to only for one who waits for that long.
func TestAutovacuumGivesWayToAMigration(t *testing.T) {
	t.Parallel()
	for name, own := range map[string]bool{"of a superuser": false, "of an owner": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			super := testkit.Postgres(t)
			url, pool := super, open(t, super)
			if own {
				role := "owner_" + pool.Config().ConnConfig.Database
				if _, err := pool.Exec(t.Context(), `CREATE ROLE `+role+` LOGIN PASSWORD 'secret'; GRANT ALL ON SCHEMA public TO `+role); err != nil {
					t.Fatal(err)
				}
				url = testkit.SetUser(t, super, role, "secret")
			}
			files := fstest.MapFS{"1_items.sql": {Data: []byte("-- +goose Up\nCREATE TABLE items AS SELECT n, repeat('x', 1900) AS x FROM generate_series(1, 10000) n;\n")}}
			if err := Migrate(t.Context(), url, "versions", files); err != nil {
				t.Fatal(err)
			}
			testkit.Autovacuum(t, super, "items", `DELETE FROM items`)
			files["2_more.sql"] = &fstest.MapFile{Data: []byte("-- +goose Up\nALTER TABLE items ADD more int;\n")}
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute) // and not until autovacuum ends
			defer cancel()
			if err := Migrate(ctx, url, "versions", files); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestMigrateByTwoAtOnce(t *testing.T) {
	t.Parallel()
	url := testkit.Postgres(t)
	files := fstest.MapFS{
		"1_items.sql": {Data: []byte("-- +goose Up\nCREATE TABLE items (id int);\n")},
		"2_row.sql":   {Data: []byte("-- +goose Up\nINSERT INTO items SELECT 1 FROM pg_sleep(0.2);\n")}, // long enough to meet
	}
	errs := make(chan error, 3)
	for range cap(errs) {
		go func() { errs <- Migrate(t.Context(), url, "versions", files) }()
	}
	for range cap(errs) {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	if got := count(t, open(t, url), "SELECT count(*) FROM items"); got != 1 {
		t.Errorf("the migration ran %d times, want once", got)
	}
}
