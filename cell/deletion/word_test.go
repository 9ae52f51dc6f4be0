package deletion_test

import (
	"context"
	"errors"
	"testing"

	"github.com/cellway/cellway/cell/fence"
	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/directory/directorytest"
	"github.com/cellway/cellway/infra/problem"
)

// forgets makes the world's directory one that was restored from before the deletion of
// every tenant of the cell: it knows them as they were created.
func (w *world) forgets(t *testing.T, c *cell, slugs ...string) {
	t.Helper()
	w.Memory = directorytest.NewMemory()
	incarnation, err := c.app.Incarnation(t.Context())
	must(t, err)
	_, err = w.AddCell(t.Context(), directory.Cell{ID: c.id, Address: "http://c", Capacity: 100, Incarnation: incarnation})
	must(t, err)
	for _, s := range slugs {
		_, err := w.CreateTenant(t.Context(), directory.NewTenant{Slug: s, Cell: c.id})
		must(t, err)
	}
}

// TestNothingIsPurgedOnSilence: neither by a directory that does not answer, nor by one
// that does not list a tenant, or has never heard of it.
func TestNothingIsPurgedOnSilence(t *testing.T) {
	t.Parallel()
	w, c := opened(t)
	ctx := t.Context()
	stays, gone := c.tenant(t, "stays"), c.tenant(t, "gone")
	must(t, w.DeleteTenant(ctx, gone))
	w.gone.Store(true)
	if err := c.agent.RunOnce(ctx); !errors.Is(err, problem.Unavailable) {
		t.Errorf("without the directory: got %v, want unavailable", err)
	}
	c.wantFence(t, gone, fence.Active, 1)
	w.gone.Store(false)
	c.look(t)
	c.wantFence(t, gone, fence.Deleted, 2)

	for name, slugs := range map[string][]string{"it has lost the deletion": {"stays", "gone"}, "it has lost the tenant": nil} {
		w.forgets(t, c, slugs...)
		c.look(t)
		c.wantFence(t, stays, fence.Active, 1)
		c.wantFence(t, gone, fence.Deleted, 2)
		c.wantWhole(t, stays)
		c.wantWhole(t, gone)
		if n := c.metric(t, "cell_deleted_tenants_disputed"); n != 1 {
			t.Errorf("%s: got %v disputed, want 1", name, n)
		}
	}

	// It is deleted again: both agree, and a grace begins again.
	w.forgets(t, c, "stays", "gone")
	must(t, w.DeleteTenant(ctx, gone))
	c.look(t)
	c.wantWhole(t, gone)
	must(t, w.HurryDeletion(ctx, gone))
	c.look(t)
	c.wantPurged(t, gone, 2)
}

// TestAnOldWordCountsNoLonger: what was due when the directory was heard last is not
// purged once it does not answer, or does not say so any more.
func TestAnOldWordCountsNoLonger(t *testing.T) {
	t.Parallel()
	w, c, gone := deleted(t)
	ctx := t.Context()
	must(t, w.HurryDeletion(ctx, gone))
	must(t, c.agent.Look(ctx))
	w.gone.Store(true)
	if err := c.agent.Look(ctx); err == nil {
		t.Error("the directory answers")
	}
	c.agent.PurgeAll(ctx)
	c.wantWhole(t, gone)
	w.gone.Store(false)
	must(t, c.agent.Look(ctx))
	w.forgets(t, c, "gone")
	must(t, c.agent.Look(ctx))
	c.agent.PurgeAll(ctx)
	c.wantWhole(t, gone)
}

// TestALostDeletionIsTakenBack: the rows are there, and the operator makes the cell
// serve them where the directory has placed the tenant since. Not once the purge began.
func TestALostDeletionIsTakenBack(t *testing.T) {
	t.Parallel()
	w, c := opened(t)
	ctx := t.Context()
	back, begun := c.tenant(t, "back"), c.tenant(t, "begun")
	for _, id := range []directory.TenantID{back, begun} {
		must(t, w.DeleteTenant(ctx, id))
	}
	c.look(t)
	c.exec(t, `SELECT cell.enter_purge($1, 2)`, begun)
	w.forgets(t, c, "back", "begun")
	c.look(t)
	for _, e := range []directory.Epoch{2, 3} {
		must(t, w.Place(ctx, directory.Placement{Tenant: back, Cell: "c1", Epoch: e, State: directory.Active}))
	}
	c.exec(t, `SELECT cell.undelete($1, 2)`, back) // not above the tombstone
	c.wantFence(t, back, fence.Deleted, 2)
	c.exec(t, `SELECT cell.undelete($1, 3)`, back)
	c.exec(t, `SELECT cell.undelete($1, 3)`, begun)
	c.wantFence(t, back, fence.Active, 3)
	c.wantFence(t, begun, fence.Deleted, 2)
	c.look(t)
	c.wantWhole(t, back)
	must(t, c.app.InTenant(ctx, back, 3, nothing))

	must(t, w.DeleteTenant(ctx, back)) // and it can be deleted again
	must(t, w.HurryDeletion(ctx, back))
	c.look(t)
	c.wantPurged(t, back, 4)
}

// TestNothingIsPurgedOnAnOlderWord: a directory that has lost what it did since, and
// deletes then, deletes something else.
func TestNothingIsPurgedOnAnOlderWord(t *testing.T) {
	t.Parallel()
	w, c := opened(t)
	ctx := t.Context()
	served, tomb := c.tenant(t, "served"), c.tenant(t, "tomb")
	c.exec(t, `UPDATE cell.fence SET epoch = 5 WHERE tenant_id = $1`, served)
	c.exec(t, `UPDATE cell.fence SET epoch = 5, state = 'deleted' WHERE tenant_id = $1`, tomb)
	for _, id := range []directory.TenantID{served, tomb} {
		must(t, w.DeleteTenant(ctx, id))
		must(t, w.HurryDeletion(ctx, id))
	}
	c.look(t)
	c.wantFence(t, served, fence.Active, 5)
	c.wantWhole(t, served)
	c.wantWhole(t, tomb) // not on this word; the directory is told what the tombstone says
	if n := c.metric(t, "cell_deleted_tenants_disputed"); n != 1 {
		t.Errorf("got %v disputed, want 1", n)
	}
	if _, _, err := c.purger.Deleted(ctx, tomb, 2); !errors.Is(err, problem.Conflict) {
		t.Errorf("purge at an older epoch: got %v, want a conflict", err)
	}
	if _, _, err := c.purger.Deleted(ctx, served, 5); !errors.Is(err, problem.Conflict) {
		t.Errorf("purge of a tenant that is served: got %v, want a conflict", err)
	}
	c.wantWhole(t, tomb)

	c.look(t)
	c.wantPurged(t, tomb, 5)
	c.wantWhole(t, served)
	// The operator says that the tenant is deleted, whatever was lost.
	c.exec(t, `SELECT cell.delete_tenant($1, 6, 1000)`, served)
	c.look(t)
	c.look(t)
	c.wantPurged(t, served, 6)
}

// failing is a purge that fails, before or after what it does.
type failing struct {
	*cell
	deleted, purged error
}

var errKilled = errors.New("killed")

func (f failing) Deleted(ctx context.Context, t directory.TenantID, at directory.Epoch) (int64, string, error) {
	n, generation, err := f.purger.Deleted(ctx, t, at)
	return n, generation, errors.Join(err, f.deleted)
}

func (f failing) Purged(ctx context.Context, t directory.TenantID, at directory.Epoch, generation string) error {
	return errors.Join(f.purger.Purged(ctx, t, at, generation), f.purged)
}

// TestAPurgeGoesOnWhereItWasKilled: after its rows, after its record, before the
// directory heard of it.
func TestAPurgeGoesOnWhereItWasKilled(t *testing.T) {
	t.Parallel()
	for name, killed := range map[string]failing{
		"after the rows": {deleted: errKilled}, "after its record": {purged: errKilled}, "before its word": {},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w, c, gone := deleted(t)
			ctx := t.Context()
			must(t, w.HurryDeletion(ctx, gone))
			killed.cell = c
			w.deaf.Store(true)
			c.restart(t, killed)
			_ = c.agent.RunOnce(ctx)
			if list, err := w.Memory.ListDeletions(ctx, "c1", 0, 10); err != nil || len(list) != 1 {
				t.Errorf("before it is done: got %+v, %v, want it to wait", list, err)
			}
			w.deaf.Store(false)
			c.restart(t, c.purger)
			c.look(t)
			c.wantPurged(t, gone, 2)
			if list, err := w.Memory.ListDeletions(ctx, "", 0, 10); err != nil || len(list) != 0 {
				t.Errorf("after it: got %+v, %v, want nothing to wait", list, err)
			}
		})
	}
}

// TestWhatABackupBroughtBackIsPurgedAgain: the directory has been told that the cell was
// done, and the cell's database is of before.
func TestWhatABackupBroughtBackIsPurgedAgain(t *testing.T) {
	t.Parallel()
	w, c, gone := deleted(t)
	ctx := t.Context()
	must(t, w.HurryDeletion(ctx, gone))
	c.look(t)
	c.wantPurged(t, gone, 2)

	c.exec(t, `ALTER TABLE cell.fence DISABLE TRIGGER USER`)
	c.exec(t, `DELETE FROM cell.fence WHERE tenant_id = $1`, gone)
	c.exec(t, `DELETE FROM cell.deletion WHERE tenant = $1`, gone)
	c.exec(t, `ALTER TABLE cell.fence ENABLE ALWAYS TRIGGER fence_deleted`)
	c.exec(t, `INSERT INTO cell.fence (tenant_id, epoch, state) VALUES ($1, 1, 'active')`, gone)
	must(t, c.redis.FlushDB(ctx).Err())
	must(t, c.fill(t, gone, 1))
	c.exec(t, `UPDATE cell.fence SET epoch = 2, state = 'deleted' WHERE tenant_id = $1`, gone) // as the reconciliation does
	c.look(t)
	c.wantWhole(t, gone)
	c.look(t)
	c.wantPurged(t, gone, 2)
}
