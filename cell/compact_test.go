package cell_test

import (
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/cellway/cellway/cell"
)

// TestCompactionLooksAtEachTenantByItself: where one tenant's notes cannot be compacted, those of
// others are, and of who has changed many keys once each all notes are read again when there
// are twice as many.
func TestCompactionLooksAtEachTenantByItself(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	s, url := openOwned(t)
	owner, err := pgx.Connect(ctx, url)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = owner.Close(ctx) }()
	exec := func(sql string, args ...any) {
		t.Helper()
		if _, err := owner.Exec(ctx, sql, args...); err != nil {
			t.Fatal(err)
		}
	}
	exec(`INSERT INTO cell.fence (tenant_id, epoch, state, capture) SELECT n, 1, 'active', true FROM generate_series(1, 3) AS n`)
	exec(`CREATE FUNCTION public.refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'not this one'; END $$`)
	exec(`CREATE TRIGGER refuse BEFORE DELETE ON cell.dirty FOR EACH ROW WHEN (OLD.tenant_id = 1) EXECUTE FUNCTION public.refuse()`)
	note := func(tenant, keys, times int) {
		t.Helper()
		exec(`INSERT INTO cell.dirty (tenant_id, tbl, pk) SELECT $1, 'app.note', jsonb_build_array(k) FROM generate_series(1, $2::int) AS k, generate_series(1, $3::int)`, tenant, keys, times)
	}
	c := cell.SmallCompactor(s, 10)
	look := func(want int64, fails bool) {
		t.Helper()
		if gone, err := c.RunOnce(ctx); gone != want || (err != nil) != fails {
			t.Errorf("%d notes are gone, %v, want %d", gone, err, want)
		}
	}
	note(1, 5, 4)
	note(2, 5, 4)
	note(3, 50, 1)
	look(15, true)
	exec(`DROP TRIGGER refuse ON cell.dirty`)
	note(2, 1, 6) // 11 of 5 keys
	note(3, 40, 1)
	look(15+6, false) // those of tenant 1 at last
	note(3, 11, 1)    // 101
	look(51, false)
}
