package mover_test

import (
	"context"
	"io"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cellway/cellway/cell/mover"
	"github.com/cellway/cellway/cell/transfer"
	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/directory/directorytest"
)

// A deadAtLast is a target that does not answer once the source is frozen.
type deadAtLast struct{ *fakeCell }

func (d deadAtLast) Pull(ctx context.Context, m transfer.Move, url string, final bool) (transfer.Received, error) {
	if final {
		return transfer.Received{}, errNet
	}
	return d.fakeCell.Pull(ctx, m, url, final)
}

// TestPauseBudgetEndsAMoveWhoseTargetDies: a target that dies in the pause does
// not keep the tenant waiting: the move is aborted by itself and the source
// serves again, also when another mover took over in the pause.
func TestPauseBudgetEndsAMoveWhoseTargetDies(t *testing.T) {
	t.Parallel()
	for name, life := range map[string]time.Duration{"one mover": time.Hour, "taken over": 100 * time.Millisecond} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				w, dir := newWorld(func() fault { return none }), directorytest.NewMemory()
				for _, id := range []directory.CellID{"a", "b"} {
					if _, err := dir.AddCell(ctx, directory.Cell{ID: id, Address: "http://" + string(id), Capacity: 10}); err != nil {
						t.Fatal(err)
					}
				}
				if _, err := dir.CreateTenant(ctx, directory.NewTenant{Slug: "acme", Cell: "a"}); err != nil {
					t.Fatal(err)
				}
				m, err := dir.CreateMove(ctx, directory.NewMove{Tenant: 1, Target: "b"})
				if err != nil {
					t.Fatal(err)
				}
				first, die := context.WithTimeout(ctx, life)
				defer die()
				for id, ctx := range map[string]context.Context{"m1": first, "m2": ctx} {
					v := mover.New(mover.Config{ID: id, Parallel: 1, LeaseTTL: 2 * time.Second, Poll: 50 * time.Millisecond}, dir,
						func(c directory.Cell) mover.Cell { return deadAtLast{w.cells[c.ID]} }, slog.New(slog.NewTextHandler(io.Discard, nil)))
					go func() { _ = v.Run(ctx) }()
				}
				if m, err = settle(ctx, dir, m.ID); err != nil || m.Phase != directory.Aborted {
					t.Fatalf("got %s (%s), %v, want aborted", m.Phase, m.Error, err)
				}
				tenant, err := dir.Tenant(ctx, "acme")
				if err != nil {
					t.Fatal(err)
				}
				if err := w.check(tenant.Placement); err != nil {
					t.Error(err)
				}
			})
		})
	}
}
