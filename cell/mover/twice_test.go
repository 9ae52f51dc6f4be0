package mover_test

import (
	"context"
	"log/slog"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cellway/cellway/cell/mover"
	"github.com/cellway/cellway/cell/transfer"
	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/directory/directorytest"
)

// A lasting is a target whose copies take a while. The first one ends when it likes, as in a process that was suspended.
type lasting struct {
	*fakeCell
	suspended *atomic.Bool
}

func (c lasting) Pull(ctx context.Context, m transfer.Move, url string, final bool) (transfer.Received, error) {
	if !final && c.suspended.CompareAndSwap(false, true) {
		time.Sleep(3 * time.Second) // virtual
		return transfer.Received{}, ctx.Err()
	}
	if !final {
		select {
		case <-time.After(3 * time.Second): // virtual
		case <-ctx.Done():
			return transfer.Received{}, errNet
		}
	}
	return c.fakeCell.Pull(ctx, m, url, final)
}

// A forgetful is a directory that extends no lease before a time.
type forgetful struct {
	*directorytest.Memory
	until time.Time
}

func (d forgetful) LeaseMove(ctx context.Context, id directory.MoveID, holder string, ttl time.Duration) (directory.Move, error) {
	if id != "" && ttl > 0 && time.Now().Before(d.until) {
		return directory.Move{}, errNet
	}
	return d.Memory.LeaseMove(ctx, id, holder, ttl)
}

// TestAMoveIsInTheHandsOfAMoverOnce: a mover that was suspended for longer than its lease takes the move anew before it has
// let it go. To let it go then gave back the new lease, which let the next one be taken and lost in the same way: the copy was
// begun again and again.
func TestAMoveIsInTheHandsOfAMoverOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		w := newWorld(func() fault { return none })
		dir, m := moving(t, directory.NewMove{Watch: time.Hour})
		cfg := settings("m1")
		cfg.Parallel = 4
		var suspended atomic.Bool
		v := mover.New(cfg, forgetful{dir, time.Now().Add(cfg.LeaseTTL)}, func(c directory.Cell) mover.Cell { return lasting{w.cells[c.ID], &suspended} }, slog.New(slog.DiscardHandler))
		go func() { _ = v.Run(ctx) }()
		m, err := settle(ctx, dir, m.ID)
		if err != nil || m.Phase != directory.Watching || m.Lease > 4 {
			t.Errorf("got %s (%s), taken %d times, %v", m.Phase, m.Error, m.Lease, err)
		}
		tenant, err := dir.Tenant(ctx, "acme")
		if err != nil {
			t.Fatal(err)
		}
		if err := w.check(tenant.Placement); err != nil {
			t.Error(err)
		}
	})
}
