package transfer_test

import (
	"errors"
	"testing"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/infra/problem"
)

// TestAVoidCopyStaysVoid: an undo that is aborted before it has copied everything leaves the kept copy as a failover has
// left it. The next one must not begin with it.
func TestAVoidCopyStaysVoid(t *testing.T) {
	t.Parallel()
	a, b := pair(t)
	ctx := t.Context()
	steps(t, a, b, there)
	_, err := a.owner.Exec(ctx, `
		INSERT INTO cell.received AS r (tenant_id, move_id, round, snapshot) VALUES (7, 'void:mv_1', 0, '3:3:')
		    ON CONFLICT (tenant_id) DO UPDATE SET move_id = excluded.move_id, round = 0, final = false`) // as cell.reconcile
	must(t, err)
	_, err = a.owner.Exec(ctx, `BEGIN; SELECT set_config('cell.tenant', '7', true); DELETE FROM app.part WHERE tenant_id = 7 AND no = 4; COMMIT`)
	must(t, err)
	must(t, b.do(t, mover, 2, `UPDATE app.counter SET v = 5`))

	m := back
	for range 2 { // one that was reserved, and one that never was
		must(t, a.Reserve(ctx, m))
		a.wantRecord(t, "void:mv_1") // also where the database is lost once more now
		must(t, b.Release(ctx, m))
		must(t, a.Discard(ctx, m))
		m.ID, m.Base = m.ID+"x", m.Base+2
		must(t, b.Release(ctx, m))
		must(t, a.Discard(ctx, m))
		m.ID, m.Base = m.ID+"y", m.Base+2
	}
	must(t, a.Reserve(ctx, m))
	must(t, b.Arm(ctx, m, wait))
	got, err := round(t, b, a, m, false)
	must(t, err)
	if got.Round != 0 {
		t.Errorf("the undo's first round is %d, want a whole copy", got.Round)
	}
	// From here on there is a copy that the next undo may begin with.
	must(t, b.Release(ctx, m))
	must(t, a.Discard(ctx, m))
	m.ID, m.Base = m.ID+"z", m.Base+2
	must(t, b.do(t, mover, m.Base, `UPDATE app.counter SET v = 6`))
	must(t, a.Reserve(ctx, m))
	must(t, b.Arm(ctx, m, wait))
	if got, err = round(t, b, a, m, false); err != nil || got.Round != 1 || got.Totals.Keys != 1 {
		t.Errorf("the next undo: got %+v, %v, want a round of one key", got, err)
	}
	must(t, b.Freeze(ctx, m, wait))
	_, err = round(t, b, a, m, true)
	must(t, err)
	must(t, a.Activate(ctx, m))
	same(t, "after the undo", contents(t, a, mover), contents(t, b, mover))
}

// TestACopyBegunAnewIsVoid: where the source has lost what it knew of the changes since a kept copy, which may hold more
// than the source has, no undo begins with that copy any more, also where the one that was told so is aborted.
func TestACopyBegunAnewIsVoid(t *testing.T) {
	t.Parallel()
	a, b := keyedPairOf(t, oneTable+`k integer NOT NULL, PRIMARY KEY (tenant_id, k));`, "app.one")
	ctx := t.Context()
	insert := func(e int, k int) {
		t.Helper()
		c := map[bool]*keyed{true: a, false: b}[e == 1]
		must(t, c.do(t, mover, directory.Epoch(e), `INSERT INTO app.one (tenant_id, k) VALUES (7, $1)`, k))
	}
	insert(1, 1)
	steps(t, a.cell, b.cell, there)
	insert(2, 2)
	must(t, a.Client.Reserve(ctx, back))
	must(t, b.Client.Arm(ctx, back, wait))
	_, err := a.Pull(ctx, back, b.url, false)
	must(t, err)
	must(t, b.Client.Release(ctx, back))
	must(t, a.Client.Discard(ctx, back))
	_, err = b.owner.Exec(ctx, `
		UPDATE cell.serving SET generation = 1; DELETE FROM cell.dirty WHERE tenant_id = 7 AND pk = '["2"]';
		BEGIN; SELECT set_config('cell.tenant', '7', true); DELETE FROM app.one WHERE tenant_id = 7 AND k = 2; COMMIT`) // b was promoted, and lacks it
	must(t, err)

	m := back
	m.ID, m.Base = "mv_3", 4
	must(t, a.Client.Reserve(ctx, m))
	must(t, b.Client.Arm(ctx, m, wait))
	if _, err = a.Pull(ctx, m, b.url, false); !errors.Is(err, problem.Unavailable) {
		t.Fatalf("got %v, want the copy to begin anew", err)
	}
	a.wantRecord(t, "void:mv_1")
	must(t, b.Client.Release(ctx, m))
	must(t, a.Client.Discard(ctx, m))
	m.ID, m.Base = "mv_4", 6
	must(t, a.Client.Reserve(ctx, m))
	must(t, b.Client.Arm(ctx, m, wait))
	got, err := a.Pull(ctx, m, b.url, false)
	if err != nil || got.Round != 0 {
		t.Errorf("the next undo: got %+v, %v, want a whole copy", got, err)
	}
	same(t, "at the target of the undo", contents(t, a.cell, mover), contents(t, b.cell, mover))
}

// wantRecord checks whose copy the cell says it has of the tenant.
func (c *cell) wantRecord(t *testing.T, want string) {
	t.Helper()
	var got string
	if err := c.owner.QueryRow(t.Context(), `SELECT move_id FROM cell.received WHERE tenant_id = $1`, mover).Scan(&got); err != nil || got != want {
		t.Errorf("the record of what was received: got %q, %v, want %q", got, err, want)
	}
}
