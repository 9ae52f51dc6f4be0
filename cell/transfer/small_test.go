package transfer_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cellway/cellway/cell/fence"
	driver "github.com/cellway/cellway/cell/mover"
	"github.com/cellway/cellway/cell/store"
	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/directory/directorytest"
	"github.com/cellway/cellway/infra/run"
)

// TestASmallTenantMovesInItsPause: where a mover takes a tenant for small, all of it, with rows of every type, is copied
// between the freeze and the activation. Its writers go on until they are refused: what they were told is there is at the
// target, once, and the way back brings what is written there.
func TestASmallTenantMovesInItsPause(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	a, b := keyedPairOf(t, everyType, everyTable...)
	must(t, a.app.InTenant(ctx, mover, 1, func(ctx context.Context, tx *store.Tx) error { return execAll(ctx, tx, fill) }))
	cells := map[directory.CellID]*keyed{"a": a, "b": b}
	dir := directorytest.NewMemory()
	for id, c := range cells {
		_, err := dir.AddCell(ctx, directory.Cell{ID: id, Address: c.url, Admin: c.url, Capacity: 10, Incarnation: "db-" + string(id)})
		must(t, err)
	}
	for i := range mover { // it is the seventh
		_, err := dir.CreateTenant(ctx, directory.NewTenant{Slug: fmt.Sprintf("tenant-%d", i), Cell: "a"})
		must(t, err)
	}
	v := driver.New(driver.Config{
		ID: "mover-1", Parallel: 1, LeaseTTL: 30 * time.Second, Poll: 5 * time.Millisecond,
		Limits: driver.Limits{Pause: time.Minute, FreezeWait: time.Second, SmallBytes: 1 << 30},
	}, dir, func(c directory.Cell) driver.Cell { return cells[c.ID].Client }, slog.New(slog.DiscardHandler))
	working, stop := context.WithCancel(ctx)
	var running sync.WaitGroup
	running.Go(func() { _ = v.Run(working) })
	t.Cleanup(func() {
		stop()
		running.Wait()
	})
	arrives := func(n directory.NewMove) (m directory.Move, r driver.Report) {
		t.Helper()
		n.Tenant, n.Watch, n.Attempts = mover, time.Hour, 1
		m, err := dir.CreateMove(ctx, n)
		must(t, err)
		waiting, done := context.WithTimeout(ctx, time.Minute)
		defer done()
		for m.Phase != directory.Watching {
			if m.Phase.Ended() || !run.Pause(waiting, 5*time.Millisecond) {
				t.Fatalf("the move is %s (%s)", m.Phase, m.Error)
			}
			m, err = dir.Move(ctx, m.ID)
			must(t, err)
		}
		must(t, json.Unmarshal(m.Report, &r))
		return m, r
	}

	var acked atomic.Int64
	var writers sync.WaitGroup
	t.Cleanup(writers.Wait)
	for w := range 6 {
		writers.Go(func() { acked.Add(write(ctx, a.cell, w)) })
	}
	moved, r := arrives(directory.NewMove{Target: "b"})
	writers.Wait()
	if r.Rounds != 0 || r.Keys != 0 || r.Rows < 46 || r.Pause <= 0 {
		t.Errorf("got %+v, want everything in the last round", r)
	}
	same(t, "target", contents(t, b.cell, mover), contents(t, a.cell, mover))
	b.wantFence(t, "target", fence.Fence{State: fence.Active, Epoch: 2, Capture: true})
	wrote := func(c *keyed, epoch directory.Epoch, want int64) {
		t.Helper()
		var v int64
		must(t, c.app.InTenant(ctx, mover, epoch, func(ctx context.Context, tx *store.Tx) error {
			return tx.QueryRow(ctx, `UPDATE app.counter SET v = v + 1 RETURNING v`).Scan(&v)
		}))
		if v != want+1 || want == 0 {
			t.Errorf("counter: got %d, want %d acknowledged, and one more", v, want)
		}
	}
	wrote(b, 2, acked.Load())
	_, r = arrives(directory.NewMove{Target: "a", Undoes: moved.ID})
	if r.Whole || r.Rows != 1 {
		t.Errorf("the undo: got %+v, want the one row that has changed", r)
	}
	wrote(a, 3, acked.Load()+1)
}
