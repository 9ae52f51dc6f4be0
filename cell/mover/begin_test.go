package mover_test

import (
	"context"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/cellway/cellway/cell/mover"
	"github.com/cellway/cellway/cell/transfer"
	"github.com/cellway/cellway/directory"
)

// A cordoning is a target that is cordoned while it is asked for its preflight; it notes whether the tenant was copied.
type cordoning struct {
	*fakeCell
	cordon func()
	copied *atomic.Bool
}

func (c cordoning) Preflight(ctx context.Context, m transfer.Move, measure bool) (transfer.Report, error) {
	c.cordon()
	return c.fakeCell.Preflight(ctx, m, measure)
}

func (c cordoning) Pull(ctx context.Context, m transfer.Move, url string, final bool) (transfer.Received, error) {
	c.copied.Store(true)
	return c.fakeCell.Pull(ctx, m, url, final)
}

// TestAMoveDoesNotBeginTowardsACordonedCell: one that has waited its turn, as the many of a drain do, ends for good, and
// says why, where its target may not take the tenant any more: before its mover takes it, and while that looks at the
// cells. Its mover does not take the directory's word for the loss of its lease, and nobody takes the move anew.
func TestAMoveDoesNotBeginTowardsACordonedCell(t *testing.T) {
	t.Parallel()
	for name, early := range map[string]bool{"before": true, "meanwhile": false} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				w := newWorld(func() fault { return none })
				dir, m := moving(t, directory.NewMove{})
				cordon := func() {
					if _, err := dir.SetCellState(ctx, "b", directory.Cordoned); err != nil {
						t.Error(err)
					}
				}
				if early {
					cordon()
				}
				var copied atomic.Bool
				v := mover.New(settings("m1"), dir, func(c directory.Cell) mover.Cell {
					if c.ID == "a" {
						return w.cells["a"]
					}
					return cordoning{w.cells["b"], cordon, &copied}
				}, slog.New(slog.DiscardHandler))
				go func() { _ = v.Run(ctx) }()
				m, err := settle(ctx, dir, m.ID)
				if err != nil || m.Phase != directory.Aborted || m.Transient || !strings.Contains(m.Error, "cell b is cordoned") || strings.Contains(m.Error, "lease") {
					t.Errorf("got %s (%s), %v, want it aborted for good, because of the cell", m.Phase, m.Error, err)
				}
				if m.RetriedBy != "" || m.Lease != 1 || copied.Load() {
					t.Errorf("tried again by %q, taken %d times, copied %v", m.RetriedBy, m.Lease, copied.Load())
				}
				tenant, err := dir.Tenant(ctx, "acme")
				if err != nil || tenant.Placement.Cell != "a" {
					t.Fatalf("placed at %s, %v", tenant.Placement.Cell, err)
				}
				if err := w.check(tenant.Placement); err != nil {
					t.Error(err)
				}
			})
		})
	}
}
