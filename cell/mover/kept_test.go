package mover_test

import (
	"context"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cellway/cellway/cell/fence"
	"github.com/cellway/cellway/cell/mover"
	"github.com/cellway/cellway/directory"
)

// TestTheKeptCopyGoesWithTheWayBack: while a move is watched its source keeps the
// tenant's rows behind a tombstone; when the watch is over the tombstone is all it has.
func TestTheKeptCopyGoesWithTheWayBack(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		w := newWorld(func() fault { return none })
		dir, m := moving(t, directory.NewMove{Watch: time.Minute})
		v := mover.New(settings("m1"), dir, func(c directory.Cell) mover.Cell { return w.cells[c.ID] }, slog.New(slog.DiscardHandler))
		go func() { _ = v.Run(ctx) }()
		atSource := func() (rows int) {
			w.mu.Lock()
			defer w.mu.Unlock()
			a := w.cells["a"]
			if a.fence.State != fence.Moved || a.fence.MovedTo != "b" {
				t.Errorf("%s: the source's fence is %s to %q", m.Phase, a.fence.State, a.fence.MovedTo)
			}
			return len(a.rows)
		}
		m, err := settle(ctx, dir, m.ID)
		if err != nil || m.Phase != directory.Watching {
			t.Fatalf("got %s (%s), %v", m.Phase, m.Error, err)
		}
		if atSource() == 0 {
			t.Error("watched: the source has kept nothing")
		}
		if m, err = ended(ctx, dir, m.ID); err != nil || m.Phase != directory.Completed {
			t.Fatalf("got %s (%s), %v", m.Phase, m.Error, err)
		}
		if n := atSource(); n != 0 {
			t.Errorf("completed: %d rows are left at the source", n)
		}
	})
}
