package transfer_test

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/cellway/cellway/cell/fence"
	"github.com/cellway/cellway/cell/store"
	"github.com/cellway/cellway/cell/transfer"
	"github.com/cellway/cellway/infra/pg"
)

// likeNames are tables whose capture functions had one name: because of '.' and '_', and
// because a name ends after 63 bytes.
const likeNames = `
	CREATE SCHEMA app; CREATE SCHEMA app_one;
	GRANT USAGE ON SCHEMA app, app_one TO cell_app;
	CREATE TABLE app.one_x (tenant_id bigint NOT NULL, k integer NOT NULL, PRIMARY KEY (tenant_id, k));
	CREATE TABLE app_one.x (tenant_id bigint NOT NULL, k integer NOT NULL, PRIMARY KEY (tenant_id, k));
	CREATE TABLE app.a_name_that_is_so_long_that_the_functions_end_before_it_one (tenant_id bigint NOT NULL, k integer NOT NULL, PRIMARY KEY (tenant_id, k));
	CREATE TABLE app.a_name_that_is_so_long_that_the_functions_end_before_it_two (tenant_id bigint NOT NULL, k integer NOT NULL, PRIMARY KEY (tenant_id, k));`

var likeTables = []string{
	"app.a_name_that_is_so_long_that_the_functions_end_before_it_one",
	"app.a_name_that_is_so_long_that_the_functions_end_before_it_two", "app.one_x", "app_one.x",
}

// prepare is what each start of the cell does.
func (c *cell) prepare(t *testing.T, id string) {
	t.Helper()
	owner := c.owner.Config().ConnString()
	must(t, store.Prepare(t.Context(), owner, as(t, owner, "app_"+id)))
}

// notes are the labels that one new row in each of the tables is noted under.
func (c *cell) notes(t *testing.T, tables []string, k int) []string {
	t.Helper()
	for _, table := range tables {
		must(t, c.do(t, mover, 1, `INSERT INTO `+table+` (tenant_id, k) VALUES (7, $1)`, k))
	}
	rows, err := c.owner.Query(t.Context(), `SELECT tbl FROM cell.dirty WHERE pk->>0 = $1::integer::text ORDER BY tbl COLLATE "C"`, k)
	must(t, err)
	labels, err := pgx.CollectRows(rows, pgx.RowTo[string])
	must(t, err)
	return labels
}

// TestTablesOfLikeNamesNoteTheirOwn: also where the triggers of a cell that is in use
// share a function, as they did before.
func TestTablesOfLikeNamesNoteTheirOwn(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	a := newCell(t, "a", likeNames, likeTables...)
	_, err := fence.Admit(ctx, a.app.DB(), mover, 1)
	must(t, err)
	must(t, a.Arm(ctx, there, wait))
	if got := a.notes(t, likeTables, 1); !slices.Equal(got, likeTables) {
		t.Fatalf("noted under %q, want each under its own", got)
	}
	var shared string
	must(t, a.owner.QueryRow(ctx, `SELECT cell.capture_function('app.one_x')`).Scan(&shared))
	for _, sql := range []string{
		`CREATE OR REPLACE TRIGGER zz_cell_capture AFTER INSERT OR UPDATE OR DELETE ON app_one.x FOR EACH ROW WHEN (pg_catalog.current_setting('cell.capture', true) = 'on') EXECUTE FUNCTION ` + shared + `()`,
		`ALTER TABLE app_one.x ENABLE ALWAYS TRIGGER zz_cell_capture`,
	} {
		_, err := a.owner.Exec(ctx, sql)
		must(t, err)
	}
	if got := a.notes(t, likeTables, 2); slices.Equal(got, likeTables) {
		t.Fatal("the tables share no function: nothing is tried")
	}
	writer, err := pgx.Connect(ctx, a.owner.Config().ConnString())
	must(t, err)
	defer writer.Close(context.WithoutCancel(ctx))
	_, err = writer.Exec(ctx, `BEGIN; LOCK app_one.x IN ROW EXCLUSIVE MODE`)
	must(t, err)
	if _, err := a.owner.Exec(ctx, `SELECT cell.capture('app_one.x')`); pg.Code(err) != pg.LockNotAvailable {
		t.Errorf("while somebody writes: got %v, want it to wait no longer", err)
	}
	_, err = writer.Exec(ctx, `COMMIT`)
	must(t, err)
	for k := range 2 { // twice
		a.prepare(t, "a")
		if got := a.notes(t, likeTables, 3+k); !slices.Equal(got, likeTables) {
			t.Errorf("noted under %q, want each under its own", got)
		}
	}
}

// TestARenamedTableMoves: before the cell is started again its moves are refused. The
// start waits for nobody who writes the table.
func TestARenamedTableMoves(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	const ddl = oneTable + `k integer NOT NULL, PRIMARY KEY (tenant_id, k));`
	a, b := newCell(t, "a", ddl, "app.one"), newCell(t, "b", ddl, "app.one")
	_, err := fence.Admit(ctx, a.app.DB(), mover, 1)
	must(t, err)
	must(t, a.do(t, mover, 1, `INSERT INTO app.one (tenant_id, k) SELECT 7, n FROM pg_catalog.generate_series(1, 3) n`))
	for id, c := range map[string]*cell{"a": a, "b": b} {
		_, err := c.owner.Exec(ctx, `ALTER TABLE app.one RENAME TO two; ALTER TABLE app.two RENAME k TO key`)
		must(t, err)
		var look transfer.Preflight
		r, err := look.Report(ctx, c.mover, mover, false)
		must(t, err)
		if len(r.Findings) != 1 || r.Findings[0].Code != "no-capture" || !strings.Contains(r.Findings[0].Why, "another name") {
			t.Errorf("renamed: got %+v, want what notes the old name", r.Findings)
		}
		tx, err := c.mover.Begin(ctx)
		must(t, err)
		_, err = tx.Exec(ctx, `LOCK app.two IN ROW EXCLUSIVE MODE`)
		must(t, err)
		c.prepare(t, id)
		must(t, tx.Rollback(ctx))
		if r, err = look.Report(ctx, c.mover, mover, true); err != nil || len(r.Findings) > 0 {
			t.Errorf("prepared again: got %+v, %v", r.Findings, err)
		}
	}
	must(t, b.Reserve(ctx, there))
	must(t, a.Arm(ctx, there, wait))
	for _, change := range []string{`SELECT`, `DELETE FROM app.two WHERE key = 2`, `UPDATE app.two SET key = 9 WHERE key = 1`} {
		must(t, a.do(t, mover, 1, change))
		if _, err := round(t, a, b, there, false); err != nil {
			t.Fatalf("%s: %v", change, err)
		}
		same(t, change, contents(t, b, mover), contents(t, a, mover))
	}
}
