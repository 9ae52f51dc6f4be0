package transfer_test

import (
	"slices"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/cellway/cellway/cell/fence"
	"github.com/cellway/cellway/cell/transfer"
)

// TestManyKeysAreFoundByTheCheaperWay: whatever the statistics say, the rows of some
// keys are looked up and those of a great many are found in one reading of the table,
// also where its rows are in partitions.
func TestManyKeysAreFoundByTheCheaperWay(t *testing.T) {
	t.Parallel()
	const ddl = `
		CREATE SCHEMA app;
		GRANT USAGE ON SCHEMA app TO cell_app;
		CREATE TABLE app.plain (tenant_id bigint NOT NULL, k integer NOT NULL, pad text, PRIMARY KEY (tenant_id, k));
		CREATE TABLE app.parted (LIKE app.plain INCLUDING ALL) PARTITION BY HASH (tenant_id);
		CREATE TABLE app.parted_0 PARTITION OF app.parted FOR VALUES WITH (MODULUS 1, REMAINDER 0);`
	ctx := t.Context()
	c := newCell(t, "a", ddl, "app.plain", "app.parted")
	_, err := fence.Admit(ctx, c.app.DB(), mover, 1)
	must(t, err)
	list, err := transfer.Tables(ctx, c.mover)
	must(t, err)
	for _, name := range []string{"app.plain", "app.parted"} {
		i := slices.IndexFunc(list, func(t transfer.Table) bool { return t.Label == name })
		must(t, c.do(t, mover, 1, `INSERT INTO `+name+` SELECT 7, n, pg_catalog.repeat('x', 1500) FROM pg_catalog.generate_series(1, 500) n`)) // 100 pages of 5
		for keys, want := range map[int64]bool{1: false, 100: false, 1000: true} {
			must(t, pgx.BeginFunc(ctx, c.mover, func(tx pgx.Tx) error {
				scans, err := transfer.Scans(ctx, tx, list[i], keys)
				if scans != want {
					t.Errorf("%d keys in the 100 pages of %s: found by reading all: %v", keys, name, scans)
				}
				return err
			}))
		}
	}
}
