package transfer_test

import (
	"context"
	"errors"
	"testing"

	"github.com/cellway/cellway/cell/transfer"
	"github.com/cellway/cellway/infra/problem"
)

// TestATableThatIsRewrittenMeanwhileIsNotLost: the snapshot of a copy sees no row of a table that was rewritten, or replaced
// by one that was filled, since; no key of them is noted, and schema and hashes are the same. Such a copy does not count.
func TestATableThatIsRewrittenMeanwhileIsNotLost(t *testing.T) {
	t.Parallel()
	const ddl = `
		CREATE SCHEMA app;
		GRANT USAGE ON SCHEMA app TO cell_app;
		CREATE TABLE app.first (tenant_id bigint NOT NULL, k integer NOT NULL, v text, PRIMARY KEY (tenant_id, k));
		CREATE TABLE app.later (tenant_id bigint NOT NULL, k integer NOT NULL, v integer, PRIMARY KEY (tenant_id, k));`
	for name, sql := range map[string]string{
		"rewritten": `ALTER TABLE app.later ALTER v TYPE integer USING v + 0`,
		"replaced": `
			CREATE TABLE app.anew (LIKE app.later INCLUDING ALL);
			INSERT INTO app.anew SELECT * FROM app.later;
			ALTER TABLE app.later RENAME TO old;
			ALTER TABLE app.anew RENAME TO later;
			DROP TABLE app.old;
			SELECT cell.protect('app.later');
			GRANT SELECT, INSERT, UPDATE, DELETE ON app.later TO cell_move`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx := t.Context()
			a, b := newCell(t, "a", ddl, "app.first", "app.later"), newCell(t, "b", ddl, "app.first", "app.later")
			_, err := a.owner.Exec(ctx, `SELECT cell.admit(7, 1)`)
			must(t, err)
			must(t, a.do(t, mover, 1, `INSERT INTO app.first SELECT 7, n, pg_catalog.repeat('x', 1000) FROM pg_catalog.generate_series(1, 200) n`))
			must(t, a.do(t, mover, 1, `INSERT INTO app.later SELECT 7, n, n FROM pg_catalog.generate_series(1, 200) n`))
			must(t, b.Reserve(ctx, there))
			must(t, a.Arm(ctx, there, wait))
			var look transfer.Preflight
			before, err := look.Report(ctx, a.mover, mover, false)
			must(t, err)
			_, err = a.source.Stream(ctx, &meanwhile{do: func() {
				_, err := a.owner.Exec(context.WithoutCancel(ctx), sql)
				must(t, err)
			}}, there.ID, mover, "")
			if !errors.Is(err, problem.Unavailable) {
				t.Errorf("got %v, want to be asked again", err)
			}
			if _, err := round(t, a, b, there, false); err != nil {
				t.Fatal(err)
			}
			same(t, "asked again", contents(t, b, mover), contents(t, a, mover))
			if after, err := look.Report(ctx, a.mover, mover, false); err != nil || after.Files == before.Files {
				t.Errorf("got %v: the preflight says nothing", err) // a move that goes on has looked before its copy, and looks again
			}
		})
	}
}
