package transfer_test

import (
	"context"
	"errors"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/cellway/cellway/cell/transfer"
	"github.com/cellway/cellway/infra/problem"
)

// oneConnection makes the cell's transfers use one connection only, which then has all
// statements that were ever prepared.
func (c *cell) oneConnection(t *testing.T) {
	t.Helper()
	cfg := c.mover.Config()
	cfg.MaxConns = 1
	pool, err := pgxpool.NewWithConfig(t.Context(), cfg)
	must(t, err)
	t.Cleanup(pool.Close)
	c.source, c.target = transfer.NewSource(pool, nil), transfer.NewTarget(pool, nil)
}

// TestTablesMayBeAlteredWhileStatementsStayPrepared: in the middle of a move a round is
// refused once and is whole when it is asked for again; between two moves nobody
// notices.
func TestTablesMayBeAlteredWhileStatementsStayPrepared(t *testing.T) {
	t.Parallel()
	a, b := pair(t)
	a.oneConnection(t)
	b.oneConnection(t)
	ctx := t.Context()
	alter := func(sql string) {
		t.Helper()
		for _, c := range []*cell{a, b} {
			_, err := c.owner.Exec(context.WithoutCancel(ctx), sql)
			must(t, err)
		}
	}
	must(t, b.Reserve(ctx, there))
	must(t, a.Arm(ctx, there, wait))
	if _, err := round(t, a, b, there, false); err != nil {
		t.Fatal(err)
	}
	more := map[string]string{ // a column's values are sent from when it is there, also those of a default that was changed
		`ALTER TABLE app.part ADD extra integer DEFAULT 5`: `UPDATE app.part SET extra = 9 WHERE no = 1`,
	}
	for _, change := range []string{
		`SELECT`,
		`ALTER TABLE app.counter ALTER v TYPE numeric`,
		`ALTER TABLE app.part ADD extra integer DEFAULT 5`,
		`ALTER TABLE app.part DROP extra`,
		`ALTER TABLE app.counter ALTER v TYPE real`, // a value of which has the length of
		`ALTER TABLE app.counter ALTER v TYPE integer`,
	} {
		alter(change)
		must(t, a.do(t, mover, 1, `UPDATE app.counter SET v = v + 1`))
		must(t, a.do(t, mover, 1, `UPDATE app.part SET label = 'after' WHERE no = 1`))
		if sql := more[change]; sql != "" {
			must(t, a.do(t, mover, 1, sql))
		}
		_, err := round(t, a, b, there, false)
		for range 2 { // the source, then the target
			if err == nil {
				break
			}
			if errors.Is(err, problem.Conflict) {
				t.Fatalf("after %s: %v, which ends the move", change, err)
			}
			_, err = round(t, a, b, there, false)
		}
		if err != nil {
			t.Fatalf("after %s, asked again: %v", change, err)
		}
		same(t, change, contents(t, b, mover), contents(t, a, mover))
	}
	must(t, a.Freeze(ctx, there, wait))
	if _, err := round(t, a, b, there, true); err != nil {
		t.Fatal(err)
	}
	must(t, b.Activate(ctx, there))
	must(t, a.Retire(ctx, there))

	must(t, b.do(t, mover, 2, `UPDATE app.counter SET v = v + 1`))
	alter(`ALTER TABLE app.counter ALTER v TYPE real`)
	back := transfer.Move{ID: "mv_2", Tenant: mover, Base: 2, Source: "b", Target: "a", Undoes: there.ID}
	steps(t, b, a, back)
	same(t, "after the way back", contents(t, a, mover), contents(t, b, mover))
}
