package mover_test

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cellway/cellway/cell/mover"
	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/infra/problem"
)

// TestAMoveThatStopsWhileItWatchesStays: its watch has no end, whatever it was to last. Its
// copies are compared as ever, equal ones too complete nothing, and the way back stays open
// until its operator completes the move by name, or takes it back.
func TestAMoveThatStopsWhileItWatchesStays(t *testing.T) {
	t.Parallel()
	for _, undone := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			w := newWorld(func() fault { return none })
			dir, m := moving(t, directory.NewMove{StopAt: directory.Watching, Watch: time.Hour})
			slow := settings("m1")
			slow.Poll = time.Minute
			v := mover.New(slow, dir, func(c directory.Cell) mover.Cell { return w.cells[c.ID] }, slog.New(slog.DiscardHandler))
			go func() { _ = v.Run(ctx) }()
			if m, _ = settle(ctx, dir, m.ID); m.Phase != directory.Watching {
				t.Fatalf("got %s (%s)", m.Phase, m.Error)
			}
			time.Sleep(10 * 24 * time.Hour) // virtual
			m, err := dir.Move(ctx, m.ID)
			if err != nil || m.Phase != directory.Watching || !m.WatchEnds.IsZero() || m.Wish != directory.Proceed || w.compared.Load() < 30 {
				t.Errorf("got %s, ends %v, wish %q after %d comparisons, %v", m.Phase, m.WatchEnds, m.Wish, w.compared.Load(), err)
			}
			if _, err := dir.AskMove(ctx, m.ID, directory.Close); !errors.Is(err, problem.Conflict) {
				t.Errorf("close: got %v, want a conflict", err)
			}
			want := directory.Completed
			if undone {
				want = directory.Undone
				u, err := dir.CreateMove(ctx, directory.NewMove{Tenant: m.Tenant, Target: m.Source, Undoes: m.ID})
				if err != nil {
					t.Fatal(err)
				}
				settle(ctx, dir, u.ID)
			} else if _, err := dir.AskMove(ctx, m.ID, directory.Complete); err != nil {
				t.Fatal(err)
			}
			time.Sleep(5 * time.Minute) // virtual
			if m, err = dir.Move(ctx, m.ID); err != nil || m.Phase != want {
				t.Errorf("got %s, %v, want %s", m.Phase, err, want)
			}
		})
	}
}
