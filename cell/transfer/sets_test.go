package transfer_test

import (
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/cellway/cellway/cell/transfer"
	"github.com/cellway/cellway/infra/testkit"
)

// TestWhatIsComparedIsReadOnce: a tenant that has just come is one row to the target's statistics, with which a nested loop looks
// cheapest: for each child all parents of the tenant. A tenant of a hundred thousand rows would be compared for hours.
func TestWhatIsComparedIsReadOnce(t *testing.T) {
	t.Parallel()
	const (
		ddl = `
			CREATE SCHEMA app;
			GRANT USAGE ON SCHEMA app TO cell_app;
			CREATE TABLE app.parent (tenant_id bigint NOT NULL, id text NOT NULL, PRIMARY KEY (tenant_id, id));
			CREATE TABLE app.child (tenant_id bigint NOT NULL, id text NOT NULL, of text NOT NULL, PRIMARY KEY (tenant_id, id),
			                        FOREIGN KEY (tenant_id, of) REFERENCES app.parent (tenant_id, id));
			CREATE INDEX child_of ON app.child (tenant_id, of);`
		parents, children = 200, 2000
	)
	ctx := t.Context()
	c := newCell(t, "a", ddl, "app.parent", "app.child")
	must(t, pgx.BeginFunc(ctx, c.owner, func(tx pgx.Tx) error { // past the guard; the statistics are of many small tenants
		_, err := tx.Exec(ctx, `
			ALTER TABLE app.parent DISABLE TRIGGER ALL; ALTER TABLE app.child DISABLE TRIGGER ALL;
			INSERT INTO app.parent SELECT 1000 + n, 'p' FROM pg_catalog.generate_series(1, 20000) n;
			INSERT INTO app.child SELECT 1000 + n, 'c', 'p' FROM pg_catalog.generate_series(1, 20000) n;
			ANALYZE app.parent; ANALYZE app.child`)
		if err == nil {
			_, err = tx.Exec(ctx, `INSERT INTO app.parent SELECT 7, 'p' || n FROM pg_catalog.generate_series(1, $1::integer) n`, parents)
		}
		if err == nil {
			_, err = tx.Exec(ctx, `INSERT INTO app.child SELECT 7, 'c' || n, 'p' || (1 + n % $2::integer) FROM pg_catalog.generate_series(1, $1::integer) n`, children, parents)
		}
		return err
	}))
	must(t, pgx.BeginFunc(ctx, c.mover, func(tx pgx.Tx) error {
		sql, err := transfer.OrphansSQL(ctx, tx)
		if err != nil {
			return err
		}
		if n, how := testkit.RowsRead(t, tx, sql, 7); n < children || n > 2*(parents+children) {
			t.Errorf("read %v rows of %d children and %d parents:\n%s", n, children, parents, how)
		}
		return nil
	}))
}
