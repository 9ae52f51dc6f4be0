package transfer_test

import (
	"testing"

	"github.com/cellway/cellway/cell/transfer"
)

// TestWhatADatabaseSaysOfEverySessionIsForRequests: how long a statement may take, and how transactions are isolated, is said
// of a whole database, or server, for those. A copy is one statement for each table.
func TestWhatADatabaseSaysOfEverySessionIsForRequests(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	const ddl = oneTable + `k integer NOT NULL, v text, PRIMARY KEY (tenant_id, k));`
	a, b := newCell(t, "a", ddl, "app.one"), newCell(t, "b", ddl, "app.one")
	_, err := a.owner.Exec(ctx, `SELECT cell.admit(7, 1)`)
	must(t, err)
	must(t, a.do(t, mover, 1, `INSERT INTO app.one SELECT 7, n, pg_catalog.repeat('x', 100) FROM pg_catalog.generate_series(1, 5000) n`))
	for role, c := range map[string]*cell{"mover_a": a, "mover_b": b} {
		_, err := c.owner.Exec(ctx, `DO $$
			BEGIN
				EXECUTE format('ALTER DATABASE %I SET statement_timeout = ''1ms''', current_database());
				EXECUTE format('ALTER DATABASE %I SET lock_timeout = ''1ms''', current_database());
				EXECUTE format('ALTER DATABASE %I SET default_transaction_isolation = ''serializable''', current_database());
			END $$`)
		must(t, err)
		url := as(t, c.owner.Config().ConnString(), role)
		pool, err := transfer.Open(ctx, url, 4)
		must(t, err)
		t.Cleanup(pool.Close)
		replica, err := transfer.OpenReplica(ctx, url, 4)
		must(t, err)
		t.Cleanup(replica.Close)
		c.source, c.target = transfer.NewSource(pool, nil), transfer.NewTarget(replica, nil)
		var isolation string
		must(t, replica.QueryRow(ctx, `SHOW transaction_isolation`).Scan(&isolation))
		if isolation != "read committed" {
			t.Errorf("transactions are %s", isolation)
		}
	}
	steps(t, a, b, there)
	same(t, "target", contents(t, b, mover), contents(t, a, mover))
}
