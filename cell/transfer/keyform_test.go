package transfer_test

import (
	"context"
	"slices"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/cellway/cellway/cell/fence"
	"github.com/cellway/cellway/cell/store"
	"github.com/cellway/cellway/cell/transfer"
)

// oddKeys are tables whose keys have a text that depends on the session's settings, or
// more than one text of one value.
const oddKeys = `
	CREATE SCHEMA app;
	GRANT USAGE ON SCHEMA app TO cell_app;
	CREATE DOMAIN app.day AS date;
	CREATE TABLE app.odd (tenant_id bigint NOT NULL, at timestamptz NOT NULL, d app.day NOT NULL, iv interval NOT NULL, f float8 NOT NULL,
		g real NOT NULL, by bytea NOT NULL, m money NOT NULL, v integer NOT NULL DEFAULT 0, PRIMARY KEY (tenant_id, at, d, iv, f, g, by, m));
	CREATE TABLE app.amount (tenant_id bigint NOT NULL, n numeric NOT NULL, f float8 NOT NULL, v integer NOT NULL DEFAULT 0, PRIMARY KEY (tenant_id, n, f));`

// oddSettings are sessions that write values in different ways.
var oddSettings = []string{
	`SET LOCAL timezone = 'Asia/Kathmandu'; SET LOCAL datestyle = 'SQL, DMY'; SET LOCAL intervalstyle = 'iso_8601';
	 SET LOCAL extra_float_digits = 0; SET LOCAL bytea_output = 'escape'`,
	`SET LOCAL timezone = 'America/St_Johns'; SET LOCAL datestyle = 'German'; SET LOCAL intervalstyle = 'sql_standard';
	 SET LOCAL extra_float_digits = -15; SET LOCAL bytea_output = 'hex'`,
}

// TestKeysAreNotedInOneForm: whatever the settings of the sessions that change a row,
// its key is noted with one text, which finds the row.
func TestKeysAreNotedInOneForm(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	a, b := newCell(t, "a", oddKeys, "app.odd", "app.amount"), newCell(t, "b", oddKeys, "app.odd", "app.amount")
	_, err := fence.Admit(ctx, a.app.DB(), mover, 1)
	must(t, err)
	do := func(sql string) {
		t.Helper()
		must(t, a.app.InTenant(ctx, mover, 1, func(ctx context.Context, tx *store.Tx) error { return execAll(ctx, tx, sql) }))
	}
	do(`INSERT INTO app.odd (tenant_id, at, d, iv, f, g, by, m)
		SELECT 7, '2026-03-29 01:30:00.123456+00'::timestamptz + n * interval '1 hour', '2026-02-03'::date + n, '-1 mon 2 days -03:04:05.678', 0.1::float8 + 0.2 + n,
		       1.0000001, '\x5c00ff27', '1234.56' FROM pg_catalog.generate_series(0, 5) n;
		INSERT INTO app.odd (tenant_id, at, d, iv, f, g, by, m) VALUES (7, '-infinity', 'infinity', '0', '-Infinity', 'NaN', '', '-0.01')`)
	must(t, b.Reserve(ctx, there))
	must(t, a.Arm(ctx, there, wait))
	if _, err := round(t, a, b, there, false); err != nil {
		t.Fatal(err)
	}
	many := transfer.NewSource(a.mover, nil)
	many.StreamEverything()
	for _, s := range []*transfer.Source{a.source, many} {
		a.source = s
		for _, settings := range oddSettings {
			do(settings + `; UPDATE app.odd SET v = v + 1`)
		}
		if _, err := round(t, a, b, there, false); err != nil {
			t.Fatal(err)
		}
		same(t, "after updates", contents(t, b, mover), contents(t, a, mover))
	}
	rows, err := a.owner.Query(ctx, `SELECT DISTINCT pk->>0 FROM cell.dirty ORDER BY 1`)
	must(t, err)
	texts, err := pgx.CollectRows(rows, pgx.RowTo[string])
	must(t, err)
	if len(texts) != 7 || !slices.Contains(texts, "2026-03-29 01:30:00.123456+00") {
		t.Errorf("got the times %q, want one of each row, in UTC", texts)
	}
	do(oddSettings[1] + `; DELETE FROM app.odd WHERE v > 0`)
	if _, err := round(t, a, b, there, false); err != nil {
		t.Fatal(err)
	}
	same(t, "after the rows are gone", contents(t, b, mover), contents(t, a, mover))
}

// TestKeysWithMoreThanOneTextBringTheirRowOnce: 1.0 and 1.00 are one key, and so are 0
// and -0.
func TestKeysWithMoreThanOneTextBringTheirRowOnce(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	a, b := newCell(t, "a", oddKeys, "app.odd", "app.amount"), newCell(t, "b", oddKeys, "app.odd", "app.amount")
	_, err := fence.Admit(ctx, a.app.DB(), mover, 1)
	must(t, err)
	must(t, a.do(t, mover, 1, `INSERT INTO app.amount (tenant_id, n, f) VALUES (7, 1.0, 0), (7, 2, 1)`))
	must(t, b.Reserve(ctx, there))
	must(t, a.Arm(ctx, there, wait))
	if _, err := round(t, a, b, there, false); err != nil {
		t.Fatal(err)
	}
	many := transfer.NewSource(a.mover, nil)
	many.StreamEverything()
	for _, s := range []*transfer.Source{a.source, many} {
		a.source = s
		must(t, a.do(t, mover, 1, `UPDATE app.amount SET n = CASE WHEN pg_catalog.scale(n) > 1 THEN 1.0 ELSE 1.00 END, f = '-0' WHERE n = 1`))
		must(t, a.do(t, mover, 1, `INSERT INTO app.amount (tenant_id, n, f) SELECT 7, n, 5 FROM pg_catalog.generate_series(3, 20) n ON CONFLICT DO NOTHING`))
		must(t, a.do(t, mover, 1, `UPDATE app.amount SET v = v + 1`))
		if _, err := round(t, a, b, there, false); err != nil {
			t.Fatal(err)
		}
		same(t, "another text of one key", contents(t, b, mover), contents(t, a, mover))
	}
	must(t, a.do(t, mover, 1, `UPDATE app.amount SET n = 1.000, f = 0 WHERE n = 1`)) // alone: stored one by one
	must(t, a.Freeze(ctx, there, wait))
	_, err = round(t, a, b, there, true)
	must(t, err)
	same(t, "one row of one key", contents(t, b, mover), contents(t, a, mover))
}
