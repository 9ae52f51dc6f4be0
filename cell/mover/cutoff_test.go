package mover_test

import (
	"context"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cellway/cellway/cell/fence"
	"github.com/cellway/cellway/cell/mover"
	"github.com/cellway/cellway/cell/transfer"
	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/directory/directorytest"
)

var quiet = slog.New(slog.DiscardHandler)

// A cutOff is a mover that reaches no cell with its questions while its first copy goes
// on between the cells, which reach each other.
type cutOff struct {
	mu      sync.Mutex
	misses  int // how many questions do not get through
	asked   int // of them
	copying bool
	copies  int
	ended   int // copies that were broken off
}

type cutOffCell struct {
	*fakeCell
	p *cutOff
}

func (c cutOffCell) Fence(ctx context.Context, t directory.TenantID) (fence.Fence, error) {
	c.p.mu.Lock()
	missed := c.p.copying && c.p.asked < c.p.misses
	if missed {
		c.p.asked++
	}
	c.p.mu.Unlock()
	if missed {
		return fence.Fence{}, errNet
	}
	return c.fakeCell.Fence(ctx, t)
}

func (c cutOffCell) Pull(ctx context.Context, m transfer.Move, url string, final bool) (transfer.Received, error) {
	if len(c.received) > 0 {
		return c.fakeCell.Pull(ctx, m, url, final)
	}
	c.p.mu.Lock()
	c.p.copying = true
	c.p.copies++
	c.p.mu.Unlock()
	defer func() {
		c.p.mu.Lock()
		defer c.p.mu.Unlock()
		c.p.copying = false
	}()
	select {
	case <-time.After(10 * time.Minute): // virtual
		return c.fakeCell.Pull(ctx, m, url, final)
	case <-ctx.Done():
		c.p.mu.Lock()
		defer c.p.mu.Unlock()
		c.p.ended++
		return transfer.Received{}, ctx.Err()
	}
}

// TestAMoverThatIsCutOffEndsACopyLate: cells that reach each other go on with a copy of
// which their mover alone hears nothing. It breaks off what may have taken hours after
// the twentieth question that does not get through, and not before; then it is made again.
func TestAMoverThatIsCutOffEndsACopyLate(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ misses, ended int }{{19, 0}, {20, 1}} {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			p := &cutOff{misses: tt.misses}
			dir, m := moving(t, directory.NewMove{})
			v := newMover(settings("m1"), dir, func(c *fakeCell, _ *directorytest.Memory) mover.Cell {
				return cutOffCell{c, p}
			}, newWorld(func() fault { return none }))
			go func() { _ = v.Run(ctx) }()
			time.Sleep(30 * time.Minute) // virtual
			m, err := dir.Move(ctx, m.ID)
			if err != nil || m.Phase != directory.Watching || p.asked != tt.misses {
				t.Errorf("after %d of %d misses: got %s (%s), %v", p.asked, tt.misses, m.Phase, m.Error, err)
			}
			if p.ended != tt.ended || p.copies != tt.ended+1 {
				t.Errorf("%d misses: %d of %d copies were broken off, want %d", tt.misses, p.ended, p.copies, tt.ended)
			}
		})
	}
}
