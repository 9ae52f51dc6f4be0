package deletion_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cellway/cellway/cell/fence"
	"github.com/cellway/cellway/directory/directorytest"
	"github.com/cellway/cellway/infra/problem"
)

// TestNothingIsTakenBackOnceItsPurgeBegan: not by who waited for the purge's first batch,
// above READ COMMITTED neither, and not after a deletion at a later epoch.
func TestNothingIsTakenBackOnceItsPurgeBegan(t *testing.T) {
	t.Parallel()
	w, ctx := &world{Memory: directorytest.NewMemory()}, t.Context()
	c := w.open(t, "c1")
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
	w, ctx := &world{Memory: directorytest.NewMemory()}, t.Context()
	c := w.open(t, "c1")
	gone := c.tenant(t, "gone")
	must(t, w.DeleteTenant(ctx, gone))
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
	w, ctx := &world{Memory: directorytest.NewMemory()}, t.Context()
	c := w.open(t, "c1")
	gone := c.tenant(t, "gone")
	must(t, w.DeleteTenant(ctx, gone))
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
