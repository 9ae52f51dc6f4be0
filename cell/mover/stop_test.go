package mover_test

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cellway/cellway/cell/fence"
	"github.com/cellway/cellway/cell/mover"
	"github.com/cellway/cellway/cell/transfer"
	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/directory/directorytest"
)

// A stopping is a cell at which the mover is told to stop; what it does then is lost once.
type stopping struct {
	*fakeCell
	at   string
	stop func() (first bool)
}

func (c stopping) Pull(ctx context.Context, m transfer.Move, url string, final bool) (transfer.Received, error) {
	if c.at == "copy" && c.stop() {
		<-ctx.Done()
		return transfer.Received{}, ctx.Err()
	}
	return c.fakeCell.Pull(ctx, m, url, final)
}

func (c stopping) Freeze(ctx context.Context, m transfer.Move, wait time.Duration) error {
	err := c.fakeCell.Freeze(ctx, m, wait)
	if c.at == "freeze" && c.stop() {
		return errNet
	}
	return err
}

func (c stopping) Activate(ctx context.Context, m transfer.Move) error {
	if c.at == "activate" && c.stop() {
		return errNet
	}
	return c.fakeCell.Activate(ctx, m)
}

// A stoppingRecord tells the mover to stop when the freeze is recorded.
type stoppingRecord struct {
	*directorytest.Memory
	stop func() bool
}

func (d stoppingRecord) Advance(ctx context.Context, m directory.Move, from directory.Phase) error {
	err := d.Memory.Advance(ctx, m, from)
	if m.Phase == directory.Frozen {
		d.stop()
	}
	return err
}

// TestAMoverThatStopsEndsItsPauses: what a mover does is ended when it is to stop, and a pause is brought to
// its end; none is begun. Its lease is free for the next mover.
func TestAMoverThatStopsEndsItsPauses(t *testing.T) {
	t.Parallel()
	for at, want := range map[string]directory.Phase{
		"copy": directory.Armed, "record": directory.Frozen, "freeze": directory.Activated, "activate": directory.Activated,
	} {
		t.Run(at, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(func() fault { return none })
				memory, m := moving(t, directory.NewMove{Attempts: 1, Watch: time.Hour})
				var v *mover.Mover
				var told atomic.Bool
				stop := func() (first bool) {
					v.Stop()
					time.Sleep(time.Millisecond) // virtual: it is heard
					return !told.Swap(true)
				}
				var dir mover.Directory = memory
				if at == "record" {
					dir = stoppingRecord{memory, stop}
				}
				v = mover.New(settings("m1"), dir, func(c directory.Cell) mover.Cell { return stopping{w.cells[c.ID], at, stop} }, quiet)
				if err := v.Run(t.Context()); err != nil {
					t.Fatal(err)
				}
				m, err := memory.Move(t.Context(), m.ID)
				if err != nil || m.Phase != want || m.Holder != "" {
					t.Fatalf("got %s (%s) of holder %q, %v, want %s of nobody", m.Phase, m.Error, m.Holder, err, want)
				}
				serves := directory.CellID("a")
				if want == directory.Activated {
					serves = "b"
				}
				if f := w.cells[serves].fence; f.State != fence.Active {
					t.Errorf("the fence of %s is %s", serves, f.State)
				}
			})
		})
	}
}
