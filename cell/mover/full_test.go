package mover_test

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cellway/cellway/cell/mover"
	"github.com/cellway/cellway/cell/transfer"
	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/directory/directorytest"
	"github.com/cellway/cellway/infra/problem"
)

// A fullCell answers what is asked and cannot do its part of a move, until it is mended.
type fullCell struct {
	manyTenants
	mended *time.Time
}

func (c fullCell) full() error {
	if time.Now().Before(*c.mended) {
		return errors.New("could not extend file: No space left on device")
	}
	return nil
}

func (c fullCell) Arm(ctx context.Context, m transfer.Move, wait time.Duration) error {
	if err := c.full(); err != nil {
		return err
	}
	return c.manyTenants.Arm(ctx, m, wait)
}

func (c fullCell) Reserve(ctx context.Context, m transfer.Move) error {
	if err := c.full(); err != nil {
		return err
	}
	return c.manyTenants.Reserve(ctx, m)
}

func (c fullCell) Purge(ctx context.Context, m transfer.Move) (int64, error) {
	if err := c.full(); err != nil {
		return 0, err
	}
	return c.manyTenants.Purge(ctx, m)
}

// TestAFullCellKeepsOnlyItsOwnMoves: more moves than a mover may hold fail at a target whose disk is full and that
// answers; one between other cells is made all the same, and they say why they wait.
func TestAFullCellKeepsOnlyItsOwnMoves(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		w, dir, crowd, last := crowded(t, "")
		mended := time.Now().Add(24 * time.Hour)
		v := mover.New(settings("m1"), dir, func(c directory.Cell) mover.Cell {
			if c.ID == "b" {
				return fullCell{manyTenants{w.cells[c.ID]}, &mended}
			}
			return manyTenants{w.cells[c.ID]}
		}, slog.New(slog.DiscardHandler))
		go func() { _ = v.Run(ctx) }()
		time.Sleep(5 * time.Minute) // virtual
		if m, err := dir.Move(ctx, last); err != nil || m.Phase != directory.Watching {
			t.Errorf("got %s (%s), %v; want watching", m.Phase, m.Error, err)
		}
		for _, id := range crowd {
			if m, err := dir.Move(ctx, id); err != nil || m.Phase.Ended() || m.Error == "" {
				t.Errorf("a move of the full cell is %s (%q), %v", m.Phase, m.Error, err)
				break
			}
		}
		if n := metric(t, v, "move_rests_total").GetCounter().GetValue(); n < float64(len(crowd)) {
			t.Errorf("%v rests of %d moves are counted", n, len(crowd))
		}
	})
}

// TestAMoveOfAFullCellGoesOn: what rested is made when its cell can do its part again, be that the one or the other.
func TestAMoveOfAFullCellGoesOn(t *testing.T) {
	t.Parallel()
	for _, full := range []directory.CellID{"a", "b"} {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			w := newWorld(func() fault { return none })
			dir, m := moving(t, directory.NewMove{})
			mended := time.Now().Add(30 * time.Second)
			v := mover.New(settings("m1"), dir, func(c directory.Cell) mover.Cell {
				if c.ID == full {
					return fullCell{manyTenants{w.cells[c.ID]}, &mended}
				}
				return w.cells[c.ID]
			}, slog.New(slog.DiscardHandler))
			go func() { _ = v.Run(ctx) }()
			time.Sleep(25 * time.Second) // virtual
			if m, _ = dir.Move(ctx, m.ID); m.Rests.IsZero() || m.Error == "" {
				t.Errorf("at %s: %s (%q), rests until %v", full, m.Phase, m.Error, m.Rests)
			}
			time.Sleep(time.Minute) // virtual: it rests half as long again as it has stood still, at most
			if m, err := dir.Move(ctx, m.ID); err != nil || m.Phase != directory.Watching {
				t.Errorf("at %s: got %s (%s), %v; want watching", full, m.Phase, m.Error, err)
			}
		})
	}
}

// A restless is an owner whose tenant's transactions never end.
type restless struct{ *fakeCell }

func (c restless) Disarm(_ context.Context, _ transfer.Move, wait time.Duration) error {
	time.Sleep(wait) // virtual
	return problem.New(problem.Unavailable, "its transactions did not end in time").With("step", "busy")
}

// TestAPurgeWaitsForABusyTenant: it rests, as behind each try to end what is noted the tenant waits, and the kept copy is looked
// for anew.
func TestAPurgeWaitsForABusyTenant(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		w := newWorld(func() fault { return none })
		dir, m := moving(t, directory.NewMove{Watch: time.Hour})
		v := newMover(settings("m1"), dir, func(c *fakeCell, _ *directorytest.Memory) mover.Cell { return restless{c} }, w)
		go func() { _ = v.Run(ctx) }()
		if m, _ = settle(ctx, dir, m.ID); m.Phase != directory.Watching {
			t.Fatalf("got %s (%s)", m.Phase, m.Error)
		}
		if _, err := dir.AskMove(ctx, m.ID, directory.Complete); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Minute) // virtual
		m, err := dir.Move(ctx, m.ID)
		if n := metric(t, v, "move_rests_total").GetCounter().GetValue(); err != nil || n == 0 || m.Phase != directory.Watching || m.Error == "" {
			t.Errorf("got %s (%q), %v, after %v rests", m.Phase, m.Error, err, n)
		}
	})
}
