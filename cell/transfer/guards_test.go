package transfer_test

import (
	"bytes"
	"context"
	"errors"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cellway/cellway/cell/fence"
	"github.com/cellway/cellway/cell/store"
	"github.com/cellway/cellway/cell/transfer"
	"github.com/cellway/cellway/infra/pg"
	"github.com/cellway/cellway/infra/problem"
)

// Each test here holds one guard of the protocol by itself: what random stories
// and chaos may pass by. infra/mutants takes the guards away one by one.

// there is a move of the tenant from a to b, at its first epoch.
var there = transfer.Move{ID: "mv_1", Tenant: mover, Base: 1, Source: "a", Target: "b"}

// wantFence holds where a tenant's fence is.
func (c *cell) wantFence(t *testing.T, when string, want fence.Fence) {
	t.Helper()
	got, err := c.Fence(t.Context(), mover)
	must(t, err)
	if got.State != want.State || got.Epoch != want.Epoch || got.Capture != want.Capture {
		t.Errorf("%s: fence is %s at %d, capture %v, want %s at %d, %v", when, got.State, got.Epoch, got.Capture, want.State, want.Epoch, want.Capture)
	}
}

// TestStepsWaitForOpenTransactions: to arm, to freeze and to disarm wait for the
// tenant's transactions: one that began before must not go on unnoticed after.
func TestStepsWaitForOpenTransactions(t *testing.T) {
	t.Parallel()
	a, b := pair(t)
	ctx := t.Context()
	const short = 50 * time.Millisecond
	must(t, b.Reserve(ctx, there))
	during := func(step string, f func() error) {
		t.Helper()
		must(t, a.app.InTenant(ctx, mover, 1, func(context.Context, *store.Tx) error {
			if err := f(); !errors.Is(err, problem.Unavailable) {
				t.Errorf("%s while a transaction is open: got %v, want unavailable", step, err)
			}
			return nil
		}))
	}
	during("arm", func() error { return a.Arm(ctx, there, short) })
	must(t, a.Arm(ctx, there, wait))
	during("freeze", func() error { return a.Freeze(ctx, there, short) })
	// As if the move had come to a at epoch 1: disarm ends its watch.
	arrived := transfer.Move{ID: there.ID, Tenant: mover, Base: 0, Source: "b", Target: "a"}
	during("disarm", func() error { return a.Disarm(ctx, arrived, short) })
	a.wantFence(t, "afterwards", fence.Fence{State: fence.Active, Epoch: 1, Capture: true})
}

// TestStepsWaitForPreparedTransactions: one that was prepared keeps the tenant's lock, although no session has it any
// more. Nothing is armed or frozen before it has ended, what it then commits moves along, and a preflight names it.
func TestStepsWaitForPreparedTransactions(t *testing.T) {
	t.Parallel()
	a, b := pair(t)
	ctx := t.Context()
	const short = 50 * time.Millisecond
	name := "later_" + a.owner.Config().Database // it is the server's
	exec := func(sql string) {
		t.Helper()
		_, err := a.owner.Exec(context.WithoutCancel(ctx), sql)
		must(t, err)
	}
	during := func(step string, f func() error) {
		t.Helper()
		exec(`BEGIN; SELECT cell.enter(7, 1); UPDATE app.counter SET v = v + 1 WHERE tenant_id = 7; PREPARE TRANSACTION '` + name + `'`)
		defer exec(`COMMIT PREPARED '` + name + `'`)
		if err := f(); !errors.Is(err, problem.Unavailable) {
			t.Errorf("%s while a transaction is prepared: got %v, want unavailable", step, err)
		}
	}
	must(t, b.Reserve(ctx, there))
	during("arm", func() error {
		var look transfer.Preflight
		r, err := look.Report(ctx, a.mover, mover, false)
		if err != nil || len(r.Findings) != 1 || r.Findings[0].Code != "prepared-transaction" {
			t.Errorf("preflight while a transaction is prepared: got %+v, %v", r.Findings, err)
		}
		return a.Arm(ctx, there, short)
	})
	must(t, a.Arm(ctx, there, wait))
	during("freeze", func() error {
		if _, err := round(t, a, b, there, false); err != nil {
			t.Errorf("a round while a transaction is prepared: %v", err)
		}
		return a.Freeze(ctx, there, short)
	})
	must(t, a.Freeze(ctx, there, wait))
	got, err := round(t, a, b, there, true)
	if err != nil || got.Totals.Rows != 1 {
		t.Errorf("the last round: got %+v, %v, want the row that was prepared", got, err)
	}
	must(t, b.Activate(ctx, there))
	same(t, "target", contents(t, b, mover), contents(t, a, mover))
}

// TestStepsOfAnotherEpochChangeNothing: the move's name alone opens no fence.
func TestStepsOfAnotherEpochChangeNothing(t *testing.T) {
	t.Parallel()
	a, b := pair(t)
	ctx := t.Context()
	must(t, b.Reserve(ctx, there))
	must(t, a.Arm(ctx, there, wait))
	later := there
	later.Base = 2
	for name, step := range map[string]func() error{
		"arm":      func() error { return a.Arm(ctx, later, wait) },
		"freeze":   func() error { return a.Freeze(ctx, later, wait) },
		"activate": func() error { return b.Activate(ctx, later) },
		"retire":   func() error { return a.Retire(ctx, later) },
	} {
		if err := step(); !errors.Is(err, problem.Conflict) {
			t.Errorf("%s at another epoch: got %v, want conflict", name, err)
		}
	}
	a.wantFence(t, "source", fence.Fence{State: fence.Active, Epoch: 1, Capture: true})
	b.wantFence(t, "target", fence.Fence{State: fence.Incoming, Epoch: 2})
}

// TestReserveLeavesWhoServesAlone: a cell that serves the tenant, at whatever
// epoch, does not begin to wait for it; and an undo begins only with the copy
// that the undone move left.
func TestReserveLeavesWhoServesAlone(t *testing.T) {
	t.Parallel()
	a, b := pair(t)
	ctx := t.Context()
	wrong := transfer.Move{ID: "mv_x", Tenant: mover, Base: 5, Source: "b", Target: "a"}
	if err := a.Reserve(ctx, wrong); !errors.Is(err, problem.Conflict) {
		t.Errorf("reserve where the tenant is served: got %v, want conflict", err)
	}
	a.wantFence(t, "owner", fence.Fence{State: fence.Active, Epoch: 1})

	steps(t, a, b, there)
	undo := transfer.Move{ID: "mv_2", Tenant: mover, Base: 2, Source: "b", Target: "a", Undoes: "mv_other"}
	if err := a.Reserve(ctx, undo); !errors.Is(err, problem.Conflict) {
		t.Errorf("undo of a move that left no copy: got %v, want conflict", err)
	}
	a.wantFence(t, "source", fence.Fence{State: fence.Moved, Epoch: 2})
}

// TestArmAgainKeepsWhatWasNoted: a step that is repeated because its answer was
// lost forgets no change.
func TestArmAgainKeepsWhatWasNoted(t *testing.T) {
	t.Parallel()
	a, b := pair(t)
	ctx := t.Context()
	must(t, b.Reserve(ctx, there))
	must(t, a.Arm(ctx, there, wait))
	if _, err := round(t, a, b, there, false); err != nil {
		t.Fatal(err)
	}
	must(t, a.do(t, mover, 1, `UPDATE app.counter SET v = 7`))
	must(t, a.Arm(ctx, there, wait))
	if n := a.noted(t); n != 1 {
		t.Errorf("%d noted keys, want 1", n)
	}
	must(t, a.Freeze(ctx, there, wait))
	if _, err := round(t, a, b, there, true); err != nil {
		t.Fatal(err)
	}
	same(t, "target", contents(t, b, mover), contents(t, a, mover))
}

// TestRoundContinuesWhatIsThere: a round that begins later than the last one
// ended is refused, and so are a last one of a tenant that was not frozen then and a
// target that serves before it has everything.
func TestRoundContinuesWhatIsThere(t *testing.T) {
	t.Parallel()
	a, b := pair(t)
	ctx := t.Context()
	step := transfer.Step{Move: there.ID, Tenant: mover, Epoch: 2}
	must(t, b.Reserve(ctx, there))
	must(t, a.Arm(ctx, there, wait))
	first, err := round(t, a, b, there, false)
	must(t, err)
	must(t, a.do(t, mover, 1, `UPDATE app.counter SET v = 7`))
	var skipped bytes.Buffer
	_, err = a.source.Stream(ctx, &skipped, there.ID, mover, first.Snapshot)
	must(t, err)
	var now string
	must(t, a.owner.QueryRow(ctx, `SELECT pg_current_snapshot()::text`).Scan(&now))
	var late bytes.Buffer
	_, err = a.source.Stream(ctx, &late, there.ID, mover, now)
	must(t, err)
	if _, err := b.target.Apply(ctx, step, false, &late); !errors.Is(err, problem.Conflict) {
		t.Errorf("a round that leaves one out: got %v, want conflict", err)
	}
	must(t, a.Freeze(ctx, there, wait))
	if err := b.Activate(ctx, there); !errors.Is(err, problem.Conflict) {
		t.Errorf("activate before the last round: got %v, want conflict", err)
	}
	b.wantFence(t, "target", fence.Fence{State: fence.Incoming, Epoch: 2})
	if _, err := b.target.Apply(ctx, step, true, &skipped); !errors.Is(err, problem.Unavailable) {
		t.Errorf("a last round of before the freeze: got %v, want unavailable", err)
	}
	_, err = round(t, a, b, there, true)
	must(t, err)
	must(t, b.Activate(ctx, there))
	b.wantFence(t, "target", fence.Fence{State: fence.Active, Epoch: 2, Capture: true})
	same(t, "target", contents(t, b, mover), contents(t, a, mover))
}

// TestMoverWritesItsTenantOnly: the mover's role reads past row security and may
// switch triggers off; the guard holds it to the tenant that the fence awaits.
func TestMoverWritesItsTenantOnly(t *testing.T) {
	t.Parallel()
	a, b := pair(t)
	ctx := t.Context()
	must(t, b.Reserve(ctx, there))
	must(t, a.Arm(ctx, there, wait))
	const theirs = `INSERT INTO app.counter (tenant_id, v) VALUES (8, 1)`
	for name, enter := range map[string]string{
		"inside its move":  `SELECT cell.enter_move(7, 'mv_1', 2, '{incoming}')`,
		"outside any move": `SELECT 1`,
	} {
		err := pgx.BeginFunc(ctx, b.mover, func(tx pgx.Tx) error {
			if _, err := tx.Exec(ctx, `SET LOCAL session_replication_role = replica`); err != nil {
				return err
			}
			if _, err := tx.Exec(ctx, enter); err != nil {
				return err
			}
			_, err := tx.Exec(ctx, theirs)
			return err
		})
		if pg.Code(err) != "CF010" {
			t.Errorf("row of another tenant, %s: got %v, want the guard's refusal", name, err)
		}
	}
}

// TestEventsMoveWithTheirCursor: the target goes on where the source's relay
// stopped, with the next number.
func TestEventsMoveWithTheirCursor(t *testing.T) {
	t.Parallel()
	a, b := pair(t)
	ctx := t.Context()
	must(t, a.do(t, mover, 1, `INSERT INTO cell.outbox_counter (tenant_id, last) VALUES (7, 3)`))
	must(t, a.do(t, mover, 1, `INSERT INTO cell.outbox (tenant_id, seq, id, cell, epoch, type, subject, data)
		SELECT 7, n, gen_random_uuid(), 'a', 1, 'thing.made.v1', 'thing/1', '{}' FROM generate_series(1, 3) n`))
	must(t, a.do(t, mover, 1, `INSERT INTO cell.outbox_cursor (tenant_id, published) VALUES (7, 2)`))
	steps(t, a, b, there)
	var last, published, events int
	must(t, b.owner.QueryRow(ctx, `
		SELECT (SELECT max(last) FROM cell.outbox_counter WHERE tenant_id = 7), (SELECT coalesce(max(published), 0) FROM cell.outbox_cursor WHERE tenant_id = 7),
		       (SELECT count(*) FROM cell.outbox WHERE tenant_id = 7)`).Scan(&last, &published, &events))
	if last != 3 || published != 2 || events != 3 {
		t.Errorf("at the target: last %d, published %d, %d events, want 3, 2, 3", last, published, events)
	}
}

// TestLateRoundIsRefused: rows that were sent before the move was given up do not
// arrive in the one that came after it.
func TestLateRoundIsRefused(t *testing.T) {
	t.Parallel()
	a, b := pair(t)
	ctx := t.Context()
	must(t, b.Reserve(ctx, there))
	must(t, a.Arm(ctx, there, wait))
	late := stream(t, a, there)
	must(t, a.Release(ctx, there))
	must(t, b.Discard(ctx, there))
	must(t, b.Reserve(ctx, transfer.Move{ID: "mv_2", Tenant: mover, Base: 3, Source: "a", Target: "b"}))
	step := transfer.Step{Move: there.ID, Tenant: mover, Epoch: 2}
	if _, err := b.target.Apply(ctx, step, false, bytes.NewReader(late)); !errors.Is(err, problem.Conflict) {
		t.Errorf("a round of the move before: got %v, want conflict", err)
	}
	if n := contents(t, b, mover)["app.thing"].Rows; n != 0 {
		t.Errorf("%d rows of it are there", n)
	}
}
