package transfer_test

import (
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/cellway/cellway/cell/transfer"
)

// TestRowsAreLookedUpByThePrimaryKey: to statistics of one row for each tenant, every
// index that begins with the tenant is as good as another. The plans of a round's
// statements take the primary key's, and delete a partition's rows by their place.
func TestRowsAreLookedUpByThePrimaryKey(t *testing.T) {
	t.Parallel()
	const ddl = `
		CREATE SCHEMA app;
		GRANT USAGE ON SCHEMA app TO cell_app;
		CREATE TABLE app.one (tenant_id bigint NOT NULL, k text NOT NULL, kind text NOT NULL, PRIMARY KEY (tenant_id, k));
		CREATE INDEX one_kind ON app.one (tenant_id, kind);
		CREATE TABLE app.two (tenant_id bigint NOT NULL, n bigint NOT NULL, k text NOT NULL, kind text NOT NULL, PRIMARY KEY (tenant_id, n, k)) PARTITION BY HASH (tenant_id);
		CREATE INDEX two_kind ON app.two (tenant_id, kind);
		CREATE TABLE app.two_0 PARTITION OF app.two FOR VALUES WITH (MODULUS 2, REMAINDER 0);
		CREATE TABLE app.two_1 PARTITION OF app.two FOR VALUES WITH (MODULUS 2, REMAINDER 1);`
	ctx := t.Context()
	c := newCell(t, "a", ddl, "app.one", "app.two")
	must(t, pgx.BeginFunc(ctx, c.owner, func(tx pgx.Tx) error { // past the guard
		_, err := tx.Exec(ctx, `
			ALTER TABLE app.one DISABLE TRIGGER ALL; ALTER TABLE app.two DISABLE TRIGGER ALL;
			INSERT INTO app.one SELECT n, 'k' || n, 'kind' FROM pg_catalog.generate_series(1, 20000) n;
			INSERT INTO app.two SELECT n, n, 'k' || n, 'kind' FROM pg_catalog.generate_series(1, 20000) n;
			ANALYZE app.one; ANALYZE app.two`)
		return err
	}))
	list, err := transfer.Tables(ctx, c.mover)
	must(t, err)
	for _, table := range list {
		if !strings.HasPrefix(table.Label, "app.") {
			continue
		}
		must(t, pgx.BeginFunc(ctx, c.mover, func(tx pgx.Tx) error {
			for what, plan := range map[string]func() ([]string, error){
				"few":  func() ([]string, error) { return transfer.PlanOfFew(ctx, tx, table) },
				"many": func() ([]string, error) { return transfer.PlanOfMany(ctx, tx, table) },
			} {
				lines, err := plan()
				if err != nil {
					return err
				}
				all := strings.Join(lines, "\n")
				if !strings.Contains(all, "_pkey") || strings.Contains(all, "kind_idx") || strings.Contains(all, "one_kind") || strings.Contains(all, "Seq Scan") || !strings.Contains(all, "Tid Scan") {
					t.Errorf("%s keys of %s:\n%s", what, table.Label, all)
				}
			}
			return nil
		}))
	}
}
