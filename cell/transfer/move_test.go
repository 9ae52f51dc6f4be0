package transfer_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cellway/cellway/cell/fence"
	"github.com/cellway/cellway/cell/store"
	"github.com/cellway/cellway/cell/transfer"
	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/infra/problem"
)

const (
	mover     = directory.TenantID(7) // the tenant that moves
	neighbour = directory.TenantID(8) // and one that must not notice
	wait      = 5 * time.Second
)

// pair makes two cells of one schema with the two tenants at A.
func pair(t *testing.T) (a, b *cell) {
	t.Helper()
	a, b = newCell(t, "a", everyType, everyTable...), newCell(t, "b", everyType, everyTable...)
	for _, tenant := range []directory.TenantID{mover, neighbour} {
		if _, err := fence.Admit(t.Context(), a.app.DB(), tenant, 1); err != nil {
			t.Fatal(err)
		}
		must(t, a.app.InTenant(t.Context(), tenant, 1, func(ctx context.Context, tx *store.Tx) error { return execAll(ctx, tx, fill) }))
	}
	return a, b
}

// contents is one tenant's rows in all tables, as Postgres hashes them.
func contents(t *testing.T, c *cell, tenant directory.TenantID) map[string]transfer.Digest {
	t.Helper()
	d, err := transfer.Digests(t.Context(), c.mover, tenant)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func same(t *testing.T, what string, got, want map[string]transfer.Digest) {
	t.Helper()
	for table, w := range want {
		if got[table] != w {
			t.Errorf("%s: %s: got %+v, want %+v", what, table, got[table], w)
		}
	}
}

// steps runs a whole move by hand, one step after the other, each twice.
func steps(t *testing.T, a, b *cell, m transfer.Move) {
	t.Helper()
	twice := func(f func() error) {
		t.Helper()
		must(t, f())
		must(t, f())
	}
	ctx := t.Context()
	twice(func() error { return b.Reserve(ctx, m) })
	twice(func() error { return a.Arm(ctx, m, wait) })
	if _, err := round(t, a, b, m, false); err != nil {
		t.Fatal(err)
	}
	twice(func() error { return a.Freeze(ctx, m, wait) })
	twice(func() error { _, err := round(t, a, b, m, true); return err })
	twice(func() error { return b.Activate(ctx, m) })
	twice(func() error { return a.Retire(ctx, m) })
}

func TestMoveBringsEveryTypeAndLeavesTheNeighbourAlone(t *testing.T) {
	t.Parallel()
	a, b := pair(t)
	want, other := contents(t, a, mover), contents(t, a, neighbour)
	for i, rows := range []int64{5, 20, 20, 1, 3, 20, 30, 2, 2} {
		if want[everyTable[i]].Rows != rows {
			t.Fatalf("the test's own rows of %s are not there: %+v", everyTable[i], want)
		}
	}
	m := transfer.Move{ID: "mv_1", Tenant: mover, Base: 1, Source: "a", Target: "b"}
	steps(t, a, b, m)
	same(t, "target", contents(t, b, mover), want)
	for _, table := range everyTable[1:] { // as text besides, which no hash of ours makes; that of xml, in the first, is not one
		text := `SELECT t::text FROM ` + table + ` t WHERE tenant_id = 7 ORDER BY t::text COLLATE "C"`
		if got, want := b.texts(t, text), a.texts(t, text); !slices.Equal(got, want) {
			t.Errorf("%s: got %q, want %q", table, got, want)
		}
	}
	same(t, "neighbour at the source", contents(t, a, neighbour), other)
	if n := contents(t, b, neighbour)["app.thing"].Rows; n != 0 {
		t.Errorf("neighbour has %d rows at the target", n)
	}
	if err := a.do(t, mover, 1, `UPDATE app.counter SET v = v + 1`); !errors.Is(err, problem.Stale) {
		t.Errorf("write at the source after the move: got %v, want stale", err)
	}
	must(t, b.do(t, mover, 2, `UPDATE app.counter SET v = v + 1`))
	must(t, a.do(t, neighbour, 1, `UPDATE app.counter SET v = v + 1`))

	// I9: what the sequence gives next is above everything that came along.
	must(t, b.do(t, mover, 2, `INSERT INTO app.thing (tenant_id, id) VALUES (7, '00000000-0000-0000-0000-000000000001')`))
	var above bool
	must(t, b.owner.QueryRow(t.Context(), `SELECT n > (SELECT max(n) FROM app.thing WHERE id <> '00000000-0000-0000-0000-000000000001')
		FROM app.thing WHERE id = '00000000-0000-0000-0000-000000000001'`).Scan(&above))
	if !above {
		t.Error("the target's sequence gave a number that the tenant has already")
	}
}

func TestRoundsFollowWritersAndNothingIsLost(t *testing.T) {
	t.Parallel()
	a, b := pair(t)
	m := transfer.Move{ID: "mv_1", Tenant: mover, Base: 1, Source: "a", Target: "b"}
	ctx := t.Context()
	must(t, b.Reserve(ctx, m))

	var acked, poured atomic.Int64
	var writers sync.WaitGroup
	for w := range 6 {
		writers.Go(func() { acked.Add(write(ctx, a, w)) })
	}
	owner, err := pgx.Connect(ctx, a.owner.Config().ConnString())
	must(t, err)
	t.Cleanup(func() {
		writers.Wait()
		owner.Close(context.WithoutCancel(ctx))
	})
	writers.Go(func() { poured.Add(pour(ctx, owner)) })
	must(t, a.Arm(ctx, m, wait))
	for range 6 {
		if _, err := round(t, a, b, m, false); err != nil {
			t.Fatal(err)
		}
	}
	must(t, a.Freeze(ctx, m, wait))
	writers.Wait() // each stops at the fence
	if _, err := round(t, a, b, m, true); err != nil {
		t.Fatal(err)
	}
	must(t, b.Activate(ctx, m))
	same(t, "target", contents(t, b, mover), contents(t, a, mover))
	var v, rows int64
	must(t, b.app.InTenant(ctx, mover, 2, func(ctx context.Context, tx *store.Tx) error {
		return tx.QueryRow(ctx, `SELECT v, (SELECT count(*) FROM app.place WHERE no >= 100000) FROM app.counter`).Scan(&v, &rows)
	}))
	if v != acked.Load() || v == 0 {
		t.Errorf("counter at the target: got %d, want %d acknowledged", v, acked.Load())
	}
	if rows != poured.Load() || rows == 0 {
		t.Errorf("rows of COPY at the target: got %d, want %d acknowledged", rows, poured.Load())
	}
}

func TestZombieChangesNothing(t *testing.T) {
	t.Parallel()
	a, b := pair(t)
	ctx := t.Context()
	old := transfer.Move{ID: "mv_old", Tenant: mover, Base: 1, Source: "a", Target: "b"}
	must(t, b.Reserve(ctx, old))
	must(t, a.Arm(ctx, old, wait))
	if _, err := round(t, a, b, old, false); err != nil {
		t.Fatal(err)
	}
	// The directory decided against it; another move of the tenant begins.
	must(t, a.Release(ctx, old))
	must(t, b.Discard(ctx, old))
	next := transfer.Move{ID: "mv_new", Tenant: mover, Base: 3, Source: "a", Target: "b"}
	must(t, b.Reserve(ctx, next))
	must(t, a.Arm(ctx, next, wait))

	before := contents(t, a, mover)
	for name, late := range map[string]func() error{
		"reserve":  func() error { return b.Reserve(ctx, old) },
		"arm":      func() error { return a.Arm(ctx, old, wait) },
		"freeze":   func() error { return a.Freeze(ctx, old, wait) },
		"round":    func() error { _, err := round(t, a, b, old, true); return err },
		"activate": func() error { return b.Activate(ctx, old) },
		"retire":   func() error { return a.Retire(ctx, old) },
		"purge": func() error {
			_, err := b.purger.Rows(ctx, transfer.Step{Move: old.ID, Tenant: mover, Epoch: 2})
			return err
		},
	} {
		if err := late(); !errors.Is(err, problem.Conflict) {
			t.Errorf("late %s: got %v, want conflict", name, err)
		}
	}
	must(t, b.Discard(ctx, old)) // nothing left to discard
	same(t, "source", contents(t, a, mover), before)
	for c, want := range map[*cell]fence.State{a: fence.Active, b: fence.Incoming} {
		f, err := c.Fence(ctx, mover)
		must(t, err)
		if f.State != want || f.Move != "mv_new" {
			t.Errorf("fence after the zombie: %+v, want %s of mv_new", f, want)
		}
	}
}

func TestUndoBringsOnlyWhatChanged(t *testing.T) {
	t.Parallel()
	a, b := pair(t)
	ctx := t.Context()
	m := transfer.Move{ID: "mv_1", Tenant: mover, Base: 1, Source: "a", Target: "b"}
	steps(t, a, b, m)
	must(t, b.do(t, mover, 2, `UPDATE app.counter SET v = 42`))
	must(t, b.do(t, mover, 2, `DELETE FROM app.event WHERE no = 3`))

	back := transfer.Move{ID: "mv_2", Tenant: mover, Base: 2, Source: "b", Target: "a", Undoes: "mv_1"}
	must(t, a.Reserve(ctx, back))
	must(t, b.Arm(ctx, back, wait))
	got, err := round(t, b, a, back, false)
	must(t, err)
	if got.Totals.Rows != 1 || got.Totals.Keys != 2 {
		t.Errorf("first round of the undo: got %+v, want 1 row of 2 keys", got.Totals)
	}
	// Taken back before it was decided, in its pause: the watch goes on, and another undo works. It
	// does not begin with what the pause saw, which was not on b's disk.
	must(t, b.Freeze(ctx, back, wait))
	_, err = round(t, b, a, back, true)
	must(t, err)
	must(t, b.Release(ctx, back))
	must(t, a.Discard(ctx, back))
	var since string
	must(t, a.owner.QueryRow(ctx, `SELECT snapshot FROM cell.received WHERE move_id = 'kept:mv_1'`).Scan(&since))
	if want := "0/" + transfer.Everything; since != want {
		t.Errorf("the next undo begins at %q, want %q", since, want)
	}
	must(t, b.do(t, mover, 4, `UPDATE app.counter SET v = 43`))

	again := transfer.Move{ID: "mv_3", Tenant: mover, Base: 4, Source: "b", Target: "a", Undoes: "mv_1"}
	steps(t, b, a, again)
	same(t, "source after the undo", contents(t, a, mover), contents(t, b, mover))
	var v int
	must(t, a.app.InTenant(ctx, mover, 5, func(ctx context.Context, tx *store.Tx) error {
		return tx.QueryRow(ctx, `SELECT v FROM app.counter`).Scan(&v)
	}))
	if v != 43 {
		t.Errorf("counter after the undo: got %d, want 43", v)
	}
}

func TestPurgeLeavesOnlyTheTombstone(t *testing.T) {
	t.Parallel()
	a, b := pair(t)
	ctx := t.Context()
	m := transfer.Move{ID: "mv_1", Tenant: mover, Base: 1, Source: "a", Target: "b"}
	other := contents(t, a, neighbour)
	steps(t, a, b, m)
	if _, err := a.purger.Rows(ctx, transfer.Step{Move: "mv_2", Tenant: mover, Epoch: 2}); !errors.Is(err, problem.Conflict) {
		t.Errorf("purge of another move: got %v, want conflict", err)
	}
	_, err := a.purger.Rows(ctx, transfer.Step{Move: m.ID, Tenant: mover, Epoch: 2})
	must(t, err)
	must(t, b.Disarm(ctx, m, wait))
	_, err = b.purger.Keys(ctx, mover)
	must(t, err)
	for table, d := range contents(t, a, mover) {
		if d.Rows != 0 {
			t.Errorf("%s: %d rows left", table, d.Rows)
		}
	}
	same(t, "neighbour", contents(t, a, neighbour), other)
	if f, err := a.Fence(ctx, mover); err != nil || f.State != fence.Moved || f.MovedTo != "b" {
		t.Errorf("fence after the purge: %+v, %v", f, err)
	}
	var noted int
	must(t, b.owner.QueryRow(ctx, `SELECT count(*) FROM cell.dirty`).Scan(&noted))
	if noted != 0 {
		t.Errorf("%d noted keys left", noted)
	}
}

func TestStreamCutShortCountsForNothing(t *testing.T) {
	t.Parallel()
	a, b := pair(t)
	ctx := t.Context()
	m := transfer.Move{ID: "mv_1", Tenant: mover, Base: 1, Source: "a", Target: "b"}
	must(t, b.Reserve(ctx, m))
	must(t, a.Arm(ctx, m, wait))
	whole := stream(t, a, m)
	step := transfer.Step{Move: m.ID, Tenant: mover, Epoch: 2}
	for _, n := range []int{0, 3, 100, len(whole) / 2, len(whole) - 1} {
		if _, err := b.target.Apply(ctx, step, false, cut(whole, n)); err == nil {
			t.Errorf("stream cut at %d of %d bytes was applied", n, len(whole))
		}
	}
	if d := contents(t, b, mover)["app.thing"]; d.Rows != 0 {
		t.Errorf("%d rows of streams that were cut", d.Rows)
	}
	// A row that changed on the way is found, whatever checks the network has.
	for _, at := range []int{len(whole) / 3, len(whole) / 2, len(whole) * 2 / 3} {
		bad := append([]byte(nil), whole...)
		bad[at] ^= 1
		if _, err := b.target.Apply(ctx, step, false, cut(bad, len(bad))); err == nil {
			t.Errorf("stream with a flipped bit at %d was applied", at)
		}
	}
	if _, err := b.target.Apply(ctx, step, false, cut(whole, len(whole))); err != nil {
		t.Errorf("the whole stream: %v", err)
	}
}
