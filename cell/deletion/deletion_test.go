package deletion_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/cellway/cellway/cell/fence"
	"github.com/cellway/cellway/cell/keep"
	"github.com/cellway/cellway/cell/store"
	"github.com/cellway/cellway/cell/transfer"
	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/directory/directorytest"
	"github.com/cellway/cellway/infra/problem"
)

func nothing(context.Context, *store.Tx) error { return nil }

func TestADeletedTenantStandsStillAndIsPurged(t *testing.T) {
	t.Parallel()
	w, c := opened(t)
	ctx := t.Context()
	gone, stays := c.tenant(t, "gone"), c.tenant(t, "stays")
	c.look(t)
	c.wantFence(t, gone, fence.Active, 1)

	must(t, w.DeleteTenant(ctx, gone))
	for range 2 { // the second look changes nothing
		c.look(t)
		c.wantFence(t, gone, fence.Deleted, 2)
		c.wantWhole(t, gone)
		if n := c.metric(t, "cell_deleted_tenants_waiting"); n != 1 {
			t.Errorf("waiting: got %v, want 1", n)
		}
	}
	for e := range directory.Epoch(4) {
		f, ok := fence.Refused(c.app.InTenant(ctx, gone, e, nothing))
		if !ok || f.State != fence.Deleted || f.Epoch != 2 {
			t.Errorf("enter at %d: got %+v, want deleted at 2", e, f)
		}
	}
	if f, err := fence.Admit(ctx, c.app.DB(), gone, 1); err != nil || f.State != fence.Deleted {
		t.Errorf("admit: got %+v, %v", f, err)
	}
	for name, sql := range map[string]string{
		"jobs and schedules": `SELECT count(*)::int FROM cell.jobs_due(ARRAY['k'], 10) WHERE tenant_id = $1`,
		"events":             `SELECT count(*)::int FROM cell.outbox_pending(ARRAY[0,1,2,3,4,5,6,7], 8, 10) WHERE tenant_id = $1`,
		"consumers":          `SELECT count(*)::int FROM cell.inbox_behind('c', ARRAY[0,1,2,3,4,5,6,7], 8, '0', 10) WHERE tenant_id = $1`,
	} {
		if of, others := value[int](t, c, sql, gone), value[int](t, c, sql, stays); of != 0 || others != 1 {
			t.Errorf("%s: got %d of the deleted tenant and %d of the other, want 0 and 1", name, of, others)
		}
	}

	must(t, w.HurryDeletion(ctx, gone))
	c.look(t)
	c.wantPurged(t, gone, 2)
	c.wantWhole(t, stays)
	c.wantFence(t, stays, fence.Active, 1)
	must(t, c.app.InTenant(ctx, stays, 1, nothing))
	if list, err := w.Memory.ListDeletions(ctx, "", 0, 10); err != nil || len(list) != 0 {
		t.Errorf("the directory: got %+v, %v, want nothing to wait", list, err)
	}
	for name, want := range map[string]float64{"cell_deleted_tenants_waiting": 1, "cell_tenants_purged_total": 1, "cell_deleted_tenants_disputed": 0} {
		if got := c.metric(t, name); got != want {
			t.Errorf("%s: got %v, want %v", name, got, want)
		}
	}
	c.look(t)
	if n := c.metric(t, "cell_deleted_tenants_waiting"); n != 0 {
		t.Errorf("waiting after the purge: got %v", n)
	}
	// What is late changes nothing: no write to Redis, no move, no row.
	if err := c.keep.Set(ctx, keep.NewKey(&store.Tx{Tenant: gone, Epoch: 1}, "app", "late"), nil, 0); !errors.Is(err, problem.Stale) {
		t.Errorf("a late write to redis: got %v, want stale", err)
	}
	c.wantPurged(t, gone, 2)
}

// TestNoMoveRisesOverADeletedTenant: whatever a mover says, at whatever epoch.
func TestNoMoveRisesOverADeletedTenant(t *testing.T) {
	t.Parallel()
	_, c, gone := deleted(t)
	ctx := t.Context()
	c.look(t)
	steps := transfer.NewSteps(c.moverPool(t), "c1")
	for _, base := range []directory.Epoch{1, 2, 9} {
		m := transfer.Move{ID: "mv_1", Tenant: gone, Base: base, Source: "c1", Target: "c2"}
		for name, err := range map[string]error{
			"arm": steps.Arm(ctx, m, time.Second), "freeze": steps.Freeze(ctx, m, time.Second), "reserve": steps.Reserve(ctx, m),
		} {
			if !errors.Is(err, problem.Conflict) {
				t.Errorf("%s at base %d: got %v, want a conflict", name, base, err)
			}
		}
		must(t, steps.Discard(ctx, m)) // there is nothing of it
		must(t, steps.Release(ctx, m))
		must(t, steps.Activate(ctx, m)) // a record that was restored may have decided: nobody is served, and the move ends
		must(t, steps.Retire(ctx, m))
		must(t, steps.Disarm(ctx, m, time.Second))
		if n, err := c.purger.Rows(ctx, transfer.Step{Move: m.ID, Tenant: gone, Epoch: base + 1}); err != nil || n != 0 {
			t.Errorf("purge by a move: got %d, %v, want nothing", n, err)
		}
	}
	c.wantFence(t, gone, fence.Deleted, 2)
	c.wantWhole(t, gone)
}

// TestATenantThatNeverCameLeavesATombstone: a router's old word admits nobody late.
func TestATenantThatNeverCameLeavesATombstone(t *testing.T) {
	t.Parallel()
	w, c := opened(t)
	ctx := t.Context()
	made, err := w.CreateTenant(ctx, directory.NewTenant{Slug: "a", Cell: "c1"})
	must(t, err)
	must(t, w.DeleteTenant(ctx, made.ID))
	must(t, w.HurryDeletion(ctx, made.ID))
	c.look(t)
	if f, err := fence.Admit(ctx, c.app.DB(), made.ID, 1); err != nil || f.State != fence.Deleted {
		t.Errorf("admit: got %+v, %v, want it deleted", f, err)
	}
	c.wantPurged(t, made.ID, 2)
}

// TestWhoIsUnderWayEndsFirst: the fence waits for open transactions, and not for long.
func TestWhoIsUnderWayEndsFirst(t *testing.T) {
	t.Parallel()
	w, c := opened(t)
	ctx := t.Context()
	gone, other := c.tenant(t, "gone"), c.tenant(t, "other")
	for _, id := range []directory.TenantID{gone, other} {
		must(t, w.DeleteTenant(ctx, id))
		must(t, w.HurryDeletion(ctx, id))
	}
	err := c.app.InTenant(ctx, gone, 1, func(context.Context, *store.Tx) error {
		if err := c.agent.RunOnce(ctx); !errors.Is(err, problem.Unavailable) {
			t.Errorf("while a transaction is open: got %v, want unavailable", err)
		}
		return nil
	})
	must(t, err)
	c.wantFence(t, gone, fence.Active, 1)
	c.wantPurged(t, other, 2) // one does not stand in another's way
	c.look(t)
	c.wantPurged(t, gone, 2)
}

// TestTheKeptCopyOfAWatchIsPurged: a deleted tenant is purged where it was served, and
// where the source of its last move keeps a copy for the way back.
func TestTheKeptCopyOfAWatchIsPurged(t *testing.T) {
	t.Parallel()
	w, ctx := &world{Memory: directorytest.NewMemory()}, t.Context()
	c1, c2 := w.open(t, "c1"), w.open(t, "c2")
	gone := c1.tenant(t, "gone")
	m, err := w.CreateMove(ctx, directory.NewMove{Tenant: gone, Target: "c2"})
	must(t, err)
	m, err = w.LeaseMove(ctx, m.ID, "m", time.Hour)
	must(t, err)
	for _, p := range []directory.Phase{
		directory.Reserved, directory.Armed, directory.Copied, directory.CaughtUp, directory.Frozen, directory.Decided, directory.Activated, directory.Watching,
	} {
		from := m.Phase
		m.Phase = p
		must(t, w.Advance(ctx, m, from))
	}
	c1.exec(t, `UPDATE cell.fence SET state = 'moved', epoch = 2, move_id = $2, moved_to = 'c2' WHERE tenant_id = $1`, gone, string(m.ID))
	c1.exec(t, `INSERT INTO cell.received (tenant_id, move_id, round, snapshot) VALUES ($1, 'kept', 0, '3:3:')`, gone)
	c2.exec(t, `INSERT INTO cell.fence (tenant_id, epoch, state, capture, move_id) VALUES ($1, 2, 'active', true, $2)`, gone, string(m.ID))
	must(t, c2.fill(t, gone, 2))
	if value[int](t, c2, `SELECT count(*)::int FROM cell.dirty WHERE tenant_id = $1`, gone) == 0 {
		t.Error("nothing is noted at the owner: the test tests less than it should")
	}

	must(t, w.DeleteTenant(ctx, gone))
	for _, c := range []*cell{c1, c2} {
		c.look(t)
		c.wantFence(t, gone, fence.Deleted, 3)
		c.wantWhole(t, gone)
	}
	must(t, w.HurryDeletion(ctx, gone))
	c2.look(t)
	c2.wantPurged(t, gone, 3)
	c1.wantWhole(t, gone)
	c1.look(t)
	c1.wantPurged(t, gone, 3)
}
