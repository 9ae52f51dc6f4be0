package transfer_test

import (
	"context"
	"testing"

	"github.com/cellway/cellway/cell/transfer"
)

// back takes there back.
var back = transfer.Move{ID: "mv_2", Tenant: mover, Base: 2, Source: "b", Target: "a", Undoes: there.ID}

// asAny is the move as its target has to know it that begins with no kept copy.
func asAny(m transfer.Move) transfer.Move {
	m.Undoes = ""
	return m
}

// alter does the same to all cells, and starts them again.
func alter(t *testing.T, sql string, cells ...*cell) {
	t.Helper()
	for i, c := range cells {
		_, err := c.owner.Exec(context.WithoutCancel(t.Context()), sql)
		must(t, err)
		c.prepare(t, string("ab"[i]))
	}
}

// TestAnUndoWithoutTheKeptCopyBringsEverything: where both cells were altered since the switch, what was noted is of keys
// that the tables have no more, and each cell has made up values of its own. An undo that its target awaits as any move needs
// neither, also after one that was aborted, or a mover that wanted the copy; it may still be cancelled like an undo.
func TestAnUndoWithoutTheKeptCopyBringsEverything(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]string{
		"a column more in the key": `ALTER TABLE app.part ADD region integer NOT NULL DEFAULT 0, DROP CONSTRAINT part_pkey, ADD PRIMARY KEY (tenant_id, region, no, thing)`,
		"another order of the key": `ALTER TABLE app.part DROP CONSTRAINT part_pkey, ADD PRIMARY KEY (tenant_id, no, thing)`,
		"values of each cell":      `ALTER TABLE app.part ADD token uuid NOT NULL DEFAULT gen_random_uuid()`,
		"a table dropped":          `DROP TABLE app.counter`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a, b := pair(t)
			ctx := t.Context()
			steps(t, a, b, there)
			must(t, b.do(t, mover, 2, `UPDATE app.part SET label = 'acknowledged' WHERE no = 1`))
			must(t, b.do(t, mover, 2, `DELETE FROM app.part WHERE no = 2`))
			must(t, b.do(t, mover, 2, `UPDATE app.counter SET v = 5`))
			alter(t, change, a, b)

			must(t, a.Reserve(ctx, back)) // by a mover that knew of no alteration, and died
			must(t, a.Reserve(ctx, asAny(back)))
			must(t, b.Arm(ctx, back, wait))
			got, err := round(t, b, a, back, false)
			must(t, err)
			if got.Round != 0 {
				t.Errorf("round %d, want a whole copy", got.Round)
			}
			must(t, b.Release(ctx, back)) // cancelled
			must(t, a.Discard(ctx, back))

			again := back
			again.ID, again.Base = "mv_3", 4
			must(t, b.do(t, mover, 4, `UPDATE app.part SET label = 'and then' WHERE no = 3`))
			must(t, a.Reserve(ctx, asAny(again)))
			must(t, b.Arm(ctx, again, wait))
			if got, err = round(t, b, a, again, false); err != nil || got.Round != 0 {
				t.Fatalf("again: round %d, %v, want a whole copy", got.Round, err)
			}
			must(t, b.do(t, mover, 4, `UPDATE app.part SET label = 'at last' WHERE no = 4`))
			must(t, b.Freeze(ctx, again, wait))
			_, err = round(t, b, a, again, true)
			must(t, err)
			must(t, a.Activate(ctx, again))
			must(t, b.Retire(ctx, again))
			same(t, "after the undo", contents(t, a, mover), contents(t, b, mover))
		})
	}
}

// TestAnUndoIsUndoneOverAnotherSchema: what the first source noted before it gave the tenant away is forgotten when
// the undo begins, as a mover does it: its keys are those of another schema by now.
func TestAnUndoIsUndoneOverAnotherSchema(t *testing.T) {
	t.Parallel()
	a, b := pair(t)
	ctx := t.Context()
	must(t, b.Reserve(ctx, there))
	must(t, a.Arm(ctx, there, wait))
	_, err := round(t, a, b, there, false)
	must(t, err)
	must(t, a.do(t, mover, 1, `UPDATE app.counter SET v = 5`))
	must(t, a.do(t, mover, 1, `UPDATE app.part SET label = 'x'`))
	steps(t, a, b, there)
	alter(t, `DROP TABLE app.counter; ALTER TABLE app.part DROP CONSTRAINT part_pkey, ADD PRIMARY KEY (tenant_id, no, thing)`, a, b)
	must(t, a.Reserve(ctx, asAny(back)))
	_, err = a.purger.Keys(ctx, mover)
	must(t, err)
	steps(t, b, a, asAny(back))
	must(t, a.do(t, mover, 3, `UPDATE app.part SET label = 'y' WHERE no = 1`))
	redo := there
	redo.ID, redo.Base, redo.Undoes = "mv_3", 3, back.ID
	steps(t, a, b, redo)
	same(t, "after the undo was undone", contents(t, b, mover), contents(t, a, mover))
}
