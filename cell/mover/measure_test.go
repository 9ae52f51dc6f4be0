package mover_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cellway/cellway/cell/mover"
	"github.com/cellway/cellway/cell/transfer"
	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/directory/directorytest"
)

// A hugeTenant is a cell that takes eleven minutes to tell how much there is to move.
type hugeTenant struct{ *fakeCell }

func (c hugeTenant) Preflight(ctx context.Context, m transfer.Move, measure bool) (transfer.Report, error) {
	if measure {
		select {
		case <-time.After(11 * time.Minute): // virtual
		case <-ctx.Done():
			return transfer.Report{}, errNet
		}
	}
	return c.fakeCell.Preflight(ctx, m, measure)
}

// TestATenantThatTakesLongToMeasureMoves: a preflight that was ended would be begun again, and end at the same place.
func TestATenantThatTakesLongToMeasureMoves(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		dir, m := moving(t, directory.NewMove{Watch: time.Hour})
		v := newMover(settings("m1"), dir, func(c *fakeCell, _ *directorytest.Memory) mover.Cell { return hugeTenant{c} }, newWorld(func() fault { return none }))
		go func() { _ = v.Run(ctx) }()
		time.Sleep(12 * time.Minute) // virtual
		if m, err := dir.Move(ctx, m.ID); err != nil || m.Phase != directory.Watching {
			t.Errorf("got %s (%s), %v, want it to watch", m.Phase, m.Error, err)
		}
	})
}
