package transfer_test

import (
	"errors"
	"testing"

	"github.com/cellway/cellway/cell/transfer"
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

// TestACopyBegunAnewIsVoid: where the source was promoted, and has lost what a kept copy has already got of it by an undo
// that was aborted, in its pause or before, no undo begins with that copy any more, also where the one that was told so is aborted.
func TestACopyBegunAnewIsVoid(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct{ final, late bool }{
		"before its pause": {}, "in its pause": {final: true}, "in its pause, and its mover reserves it once more": {final: true, late: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a, b := keyedPairOf(t, oneTable+`k integer NOT NULL, PRIMARY KEY (tenant_id, k));`, "app.one")
			ctx := t.Context()
			must(t, a.do(t, mover, 1, `INSERT INTO app.one (tenant_id, k) VALUES (7, 1)`))
			steps(t, a.cell, b.cell, there)
			must(t, b.do(t, mover, 2, `INSERT INTO app.one (tenant_id, k) VALUES (7, 2)`))
			must(t, a.Client.Reserve(ctx, back))
			must(t, b.Client.Arm(ctx, back, wait))
			_, err := a.Pull(ctx, back, b.url, false)
			must(t, err)
			if tt.final {
				must(t, b.Client.Freeze(ctx, back, wait))
				_, err = a.Pull(ctx, back, b.url, true)
				must(t, err)
			}
			must(t, b.Client.Release(ctx, back))
			must(t, a.Client.Discard(ctx, back))
			if tt.late {
				if err := a.Client.Reserve(ctx, back); !errors.Is(err, problem.Conflict) {
					t.Errorf("a late reservation: got %v, want a conflict", err)
				}
				a.wantRecord(t, "kept:mv_1")
			}
			for _, lost := range []string{ // as cell.reconcile leaves it
				`UPDATE cell.serving SET generation = generation + 1`, `DELETE FROM cell.dirty WHERE tenant_id = 7 AND pk = '["2"]'`,
				`BEGIN; SELECT set_config('cell.tenant', '7', true); DELETE FROM app.one WHERE tenant_id = 7 AND k = 2; COMMIT`,
			} {
				_, err = b.owner.Exec(ctx, lost)
				must(t, err)
			}

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
		})
	}
}

// TestALateReservationLeavesTheCopy: a mover that was suspended before it reserved the target says so when its successor has
// copied everything. The copy stays, for a move and for an undo that copies everything.
func TestALateReservationLeavesTheCopy(t *testing.T) {
	t.Parallel()
	a, b := pair(t)
	ctx := t.Context()
	late := func(from, to *cell, m transfer.Move) {
		t.Helper()
		whole := m
		whole.Undoes = ""
		must(t, to.Reserve(ctx, whole))
		must(t, from.Arm(ctx, m, wait))
		first, err := round(t, from, to, m, false)
		must(t, err)
		must(t, to.Reserve(ctx, whole))
		next, err := round(t, from, to, m, false)
		must(t, err)
		if first.Round != 0 || first.Totals.Rows == 0 || next.Round != 1 || next.Totals.Rows != 0 {
			t.Errorf("%s: got %+v, then %+v, want a copy and a round of nothing", m.ID, first, next)
		}
		must(t, from.Freeze(ctx, m, wait))
		_, err = round(t, from, to, m, true)
		must(t, err)
		must(t, to.Activate(ctx, m))
		must(t, from.Retire(ctx, m))
	}
	late(a, b, there)
	must(t, a.Reserve(ctx, back)) // with the kept copy, and then that is not to count
	late(b, a, back)
	same(t, "after the undo", contents(t, a, mover), contents(t, b, mover))
}

// wantRecord checks whose copy the cell says it has of the tenant.
func (c *cell) wantRecord(t *testing.T, want string) {
	t.Helper()
	var got string
	if err := c.owner.QueryRow(t.Context(), `SELECT move_id FROM cell.received WHERE tenant_id = $1`, mover).Scan(&got); err != nil || got != want {
		t.Errorf("the record of what was received: got %q, %v, want %q", got, err, want)
	}
}

// TestNotesOfADumpAreSentOnce: a database that was loaded from a dump has notes with numbers of transactions
// of another server, all of them later than any of its own.
func TestNotesOfADumpAreSentOnce(t *testing.T) {
	t.Parallel()
	a, b := pair(t)
	ctx := t.Context()
	steps(t, a, b, there)
	must(t, b.do(t, mover, 2, `UPDATE app.counter SET v = 5`))
	for _, sql := range []string{
		`UPDATE cell.dirty SET xid = '9000000000'`, `UPDATE cell.serving SET home = 'the other server'`,
		`SELECT cell.reconcile(0, 0, '{}', '{}', '{}', '{}', '{}', '{}', '{}')`,
	} {
		_, err := b.owner.Exec(ctx, sql)
		must(t, err)
	}
	must(t, a.Reserve(ctx, back))
	must(t, b.Arm(ctx, back, wait))
	first, err := round(t, b, a, back, false)
	must(t, err)
	second, err := round(t, b, a, back, false)
	must(t, err)
	if first.Totals.Keys == 0 || second.Totals.Keys != 0 {
		t.Errorf("got %d keys, and %d more with the next round", first.Totals.Keys, second.Totals.Keys)
	}
	must(t, b.Freeze(ctx, back, wait))
	_, err = round(t, b, a, back, true)
	must(t, err)
	must(t, a.Activate(ctx, back))
	same(t, "after the undo", contents(t, a, mover), contents(t, b, mover))
}
