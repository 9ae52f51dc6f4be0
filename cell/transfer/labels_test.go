package transfer_test

import (
	"errors"
	"testing"

	"github.com/cellway/cellway/cell/fence"
	"github.com/cellway/cellway/infra/problem"
)

// oneTable is a cell whose application has one table, of the columns and constraints given.
const oneTable = `
	CREATE SCHEMA app;
	GRANT USAGE ON SCHEMA app TO cell_app;
	CREATE TABLE app.one (tenant_id bigint NOT NULL, `

// TestKeysOfANewTableAreNotDropped: the source asks the catalog anew when keys of a table
// were noted that it does not know, in rounds of few keys and of many, and refuses the
// round where the table is not there.
func TestKeysOfANewTableAreNotDropped(t *testing.T) {
	t.Parallel()
	for name, few := range map[string]bool{"few keys": true, "many keys": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx := t.Context()
			const ddl = oneTable + `k text NOT NULL, PRIMARY KEY (tenant_id, k));`
			a, b := newCell(t, "a", ddl, "app.one"), newCell(t, "b", ddl, "app.one")
			_, err := fence.Admit(ctx, a.app.DB(), mover, 1)
			must(t, err)
			if !few {
				a.source.StreamEverything()
			}
			must(t, b.Reserve(ctx, there))
			must(t, a.Arm(ctx, there, wait))
			if _, err := round(t, a, b, there, false); err != nil {
				t.Fatal(err)
			}
			for _, c := range []*cell{a, b} {
				for _, sql := range []string{
					`CREATE TABLE app.late (tenant_id bigint NOT NULL, k text NOT NULL, PRIMARY KEY (tenant_id, k))`,
					`SELECT cell.protect('app.late'::regclass)`, `SELECT cell.capture('app.late'::regclass)`, `GRANT SELECT, INSERT, DELETE ON app.late TO cell_move`,
				} {
					_, err := c.owner.Exec(ctx, sql)
					must(t, err)
				}
			}
			must(t, a.do(t, mover, 1, `INSERT INTO app.late (tenant_id, k) VALUES (7, 'a')`))
			if _, err := round(t, a, b, there, false); err != nil {
				t.Fatal(err)
			}
			same(t, "a new table", contents(t, b, mover), contents(t, a, mover))

			must(t, a.do(t, mover, 1, `INSERT INTO app.late (tenant_id, k) VALUES (7, 'b')`))
			_, err = a.owner.Exec(ctx, `ALTER TABLE app.late RENAME TO later`)
			must(t, err)
			_, err = round(t, a, b, there, false)
			if err == nil {
				t.Error("a round of a table that is gone was sent")
			}
			if _, err := round(t, a, b, there, false); !errors.Is(err, problem.Conflict) { // asked again, with the catalog as it is
				t.Errorf("a table that is gone: got %v, want a conflict", err)
			}
		})
	}
}

// TestIncludedColumnsAreNoKey: a primary key's INCLUDE columns may change, and be null.
func TestIncludedColumnsAreNoKey(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	const ddl = oneTable + `k integer NOT NULL, v text, PRIMARY KEY (tenant_id, k) INCLUDE (v));`
	a, b := newCell(t, "a", ddl, "app.one"), newCell(t, "b", ddl, "app.one")
	_, err := fence.Admit(ctx, a.app.DB(), mover, 1)
	must(t, err)
	must(t, a.do(t, mover, 1, `INSERT INTO app.one (tenant_id, k) SELECT 7, n FROM pg_catalog.generate_series(1, 3) n`))
	must(t, b.Reserve(ctx, there))
	must(t, a.Arm(ctx, there, wait))
	for _, change := range []string{`SELECT`, `UPDATE app.one SET v = 'x' WHERE k = 1`, `UPDATE app.one SET v = NULL WHERE k = 1`, `DELETE FROM app.one WHERE k = 2`} {
		must(t, a.do(t, mover, 1, change))
		if _, err := round(t, a, b, there, false); err != nil {
			t.Fatalf("%s: %v", change, err)
		}
		same(t, change, contents(t, b, mover), contents(t, a, mover))
	}
}
