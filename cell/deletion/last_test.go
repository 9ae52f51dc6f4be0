package deletion_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cellway/cellway/cell/fence"
	"github.com/cellway/cellway/cell/transfer"
	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/infra/problem"
)

// TestNothingIsTakenBackOnceItsPurgeBegan: not by who waited for the purge's first batch,
// above READ COMMITTED neither, and not after a deletion at a later epoch.
func TestNothingIsTakenBackOnceItsPurgeBegan(t *testing.T) {
	t.Parallel()
	w, c := opened(t)
	ctx := t.Context()
	for _, level := range []pgx.TxIsoLevel{pgx.ReadCommitted, pgx.RepeatableRead} {
		gone := c.tenant(t, "gone-"+strings.ReplaceAll(string(level), " ", "-"))
		must(t, w.DeleteTenant(ctx, gone))
		c.look(t)
		batch, err := c.moverPool(t).Begin(ctx)
		must(t, err)
		_, err = batch.Exec(ctx, `SELECT cell.enter_purge($1, 2)`, gone)
		must(t, err)
		_, err = batch.Exec(ctx, `DELETE FROM app.line WHERE tenant_id = $1`, gone)
		must(t, err)
		operator, err := pgx.ConnectConfig(ctx, c.owner.Config())
		must(t, err)
		done := make(chan error, 1)
		go func() {
			done <- pgx.BeginTxFunc(ctx, operator, pgx.TxOptions{IsoLevel: level}, func(tx pgx.Tx) error {
				_, err := tx.Exec(ctx, `SELECT cell.undelete($1, 3)`, gone)
				return err
			})
		}()
		const waits = `SELECT count(*)::int FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock' AND query LIKE '%undelete%'`
		for value[int](t, c, waits) == 0 && ctx.Err() == nil {
		}
		must(t, batch.Commit(ctx))
		if err := <-done; err != nil && level == pgx.ReadCommitted {
			t.Errorf("%s: %v", level, err)
		}
		must(t, operator.Close(ctx))
		c.wantFence(t, gone, fence.Deleted, 2)

		must(t, w.HurryDeletion(ctx, gone))
		c.look(t)
		c.wantPurged(t, gone, 2)
		c.exec(t, `SELECT cell.delete_tenant($1, 4, 1000)`, gone)
		c.exec(t, `SELECT cell.undelete($1, 5)`, gone)
		c.wantFence(t, gone, fence.Deleted, 4)
	}
}

// TestAPurgeThatAPromotionHasLostIsDoneAgain: its batches are gone, its record of having
// begun is not, and the process that made them goes on.
func TestAPurgeThatAPromotionHasLostIsDoneAgain(t *testing.T) {
	t.Parallel()
	w, c, gone := deleted(t)
	ctx := t.Context()
	must(t, w.HurryDeletion(ctx, gone))
	must(t, c.agent.Look(ctx))
	_, at, err := c.purger.Deleted(ctx, gone, 2)
	must(t, err)
	c.exec(t, `UPDATE cell.serving SET generation = generation + 1`)
	if err := c.purger.Purged(ctx, gone, 2, at); !errors.Is(err, problem.Conflict) {
		t.Errorf("got %v, want a conflict", err)
	}
	if n := value[int](t, c, `SELECT count(*)::int FROM cell.deletions(0, 10)`); n != 1 {
		t.Errorf("got %d that wait, want 1", n)
	}
	c.look(t)
	c.wantPurged(t, gone, 2)
	if n := value[int](t, c, `SELECT count(*)::int FROM cell.deletions(0, 10)`); n != 0 {
		t.Errorf("got %d that wait after the next purge, want none", n)
	}
}

// TestATombstoneStandsAnHourBeforeItsPurge: a cell that hears of a deletion when it is due, from
// a directory that was away for long, keeps what was written since.
func TestATombstoneStandsAnHourBeforeItsPurge(t *testing.T) {
	t.Parallel()
	w, c, gone := deleted(t)
	w.Now = func() time.Time { return time.Now().Add(8 * 24 * time.Hour) }
	for range 2 {
		c.look(t)
		c.wantFence(t, gone, fence.Deleted, 2)
		c.wantWhole(t, gone)
		if n := c.metric(t, "cell_deleted_tenants_waiting"); n != 1 {
			t.Errorf("waiting: got %v, want 1", n)
		}
	}
	c.exec(t, `UPDATE cell.deletion SET since = since - interval '59 minutes'`)
	c.look(t)
	c.wantWhole(t, gone)
	c.exec(t, `UPDATE cell.deletion SET since = since - interval '1 minute'`)
	c.look(t)
	c.wantPurged(t, gone, 2)
}

// TestAMoveOfALostDeletionEndsAndItIsDeletedAgain: the directory, which has lost the deletion, moves a
// tenant whose cell lets nobody act for it.
func TestAMoveOfALostDeletionEndsAndItIsDeletedAgain(t *testing.T) {
	t.Parallel()
	w, c, gone := deleted(t)
	ctx := t.Context()
	c.look(t)
	w.forgets(t, c, "gone")
	_, err := w.AddCell(ctx, directory.Cell{ID: "c2", Address: "http://c2", Capacity: 100, Incarnation: "db-c2"})
	must(t, err)
	m, err := w.CreateMove(ctx, directory.NewMove{Tenant: gone, Target: "c2"})
	must(t, err)
	m, err = w.LeaseMove(ctx, m.ID, "m", time.Hour)
	must(t, err)
	steps, asked := transfer.NewSteps(c.moverPool(t), "c1"), transfer.Move{ID: m.ID, Tenant: gone, Base: m.Base, Source: "c1", Target: "c2"}
	for _, p := range []directory.Phase{directory.Reserved, directory.Aborting, directory.Aborted} {
		from := m.Phase
		m.Phase = p
		switch p {
		case directory.Aborting:
			if err := steps.Arm(ctx, asked, time.Second); !errors.Is(err, problem.Conflict) {
				t.Errorf("arm: got %v, want a conflict", err)
			}
		case directory.Aborted:
			must(t, steps.Release(ctx, asked))
		}
		must(t, w.Advance(ctx, m, from))
	}
	c.wantFence(t, gone, fence.Deleted, 2)
	c.wantWhole(t, gone)

	must(t, w.DeleteTenant(ctx, gone))
	c.look(t)
	must(t, w.HurryDeletion(ctx, gone))
	c.look(t)
	c.wantPurged(t, gone, 4)
}

// TestARaiseThatIsRefusedIsDisputed: the directory lists the deletion at an older epoch and does
// not take a later one from this cell.
func TestARaiseThatIsRefusedIsDisputed(t *testing.T) {
	t.Parallel()
	w, c := opened(t)
	ctx := t.Context()
	gone := c.tenant(t, "gone")
	c.exec(t, `UPDATE cell.fence SET epoch = 5, state = 'deleted' WHERE tenant_id = $1`, gone)
	must(t, w.DeleteTenant(ctx, gone))
	must(t, w.HurryDeletion(ctx, gone))
	w.denies.Store(true)
	c.look(t)
	c.wantWhole(t, gone)
	if n := c.metric(t, "cell_deleted_tenants_disputed"); n != 1 {
		t.Errorf("got %v disputed, want 1", n)
	}
}

// TestWhatTheDirectoryDoesNotKnowIsNotAskedAtEachLook: it may be very much, and stays disputed.
func TestWhatTheDirectoryDoesNotKnowIsNotAskedAtEachLook(t *testing.T) {
	t.Parallel()
	w, c, _ := deleted(t)
	c.look(t)
	w.forgets(t, c, "gone")
	for range 3 {
		c.look(t)
		if n, told := c.metric(t, "cell_deleted_tenants_disputed"), w.told.Load(); n != 1 || told != 1 {
			t.Errorf("got %v disputed and told %d times, want 1 and 1", n, told)
		}
	}
}

// looking is a purge during which the agent looks.
type looking struct {
	*cell
	purges int
}

func (l *looking) Deleted(ctx context.Context, t directory.TenantID, at directory.Epoch) (int64, string, error) {
	l.purges++
	n, generation, err := l.purger.Deleted(ctx, t, at)
	return n, generation, errors.Join(err, l.agent.Look(ctx))
}

func (l *looking) Purged(ctx context.Context, t directory.TenantID, at directory.Epoch, generation string) error {
	return l.purger.Purged(ctx, t, at, generation)
}

// TestALookDuringAPurgeDoesNotRepeatIt: what it finds due is done when it is.
func TestALookDuringAPurgeDoesNotRepeatIt(t *testing.T) {
	t.Parallel()
	w, c, gone := deleted(t)
	ctx := t.Context()
	must(t, w.HurryDeletion(ctx, gone))
	l := &looking{cell: c}
	c.restart(t, l)
	c.look(t)
	c.wantPurged(t, gone, 2)
	if l.purges != 1 {
		t.Errorf("got %d purges, want 1", l.purges)
	}
}
