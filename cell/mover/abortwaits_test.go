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
	"github.com/cellway/cellway/infra/problem"
)

// A copyless is a target that takes no copy of tenant 1; the mover dies when it is about to have the source serve again.
type copyless struct {
	neighbourly
	die func()
}

func (c copyless) Pull(ctx context.Context, m transfer.Move, url string, final bool) (transfer.Received, error) {
	if m.Tenant == 1 {
		return transfer.Received{}, problem.New(problem.Conflict, "a duplicate key")
	}
	return c.neighbourly.Pull(ctx, m, url, final)
}

func (c copyless) Release(ctx context.Context, m transfer.Move) error {
	if m.Tenant == 1 {
		c.die()
		return ctx.Err()
	}
	return c.neighbourly.Release(ctx, m)
}

// TestAnAbortIsNotBehindOtherMoves: the directory has the tenant at Base+2, which its source does not serve before it
// is released, whether or not it was frozen.
func TestAnAbortIsNotBehindOtherMoves(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(func() fault { return none })
		dir, m := moving(t, directory.NewMove{Attempts: 1, Watch: time.Hour})
		for i, slug := range []string{"large", "larger"} {
			if _, err := dir.CreateTenant(t.Context(), directory.NewTenant{Slug: slug, Cell: "a"}); err != nil {
				t.Fatal(err)
			}
			if _, err := dir.CreateMove(t.Context(), directory.NewMove{Tenant: directory.TenantID(i + 2), Target: "b"}); err != nil {
				t.Fatal(err)
			}
		}
		first, kill := context.WithCancel(t.Context())
		var dead atomic.Bool
		v := mover.New(settings("m1"), deadTo{dir, &dead}, func(c directory.Cell) mover.Cell {
			return copyless{neighbourly{w.cells[c.ID], 5 * time.Minute}, func() { dead.Store(true); kill() }}
		}, slog.New(slog.DiscardHandler))
		if err := v.Run(first); err != nil {
			t.Fatal(err)
		}
		if m, _ = dir.Move(t.Context(), m.ID); m.Phase != directory.Aborting || m.Previous != directory.Armed {
			t.Fatalf("the first mover died at %s, behind %s", m.Phase, m.Previous)
		}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		next := mover.New(settings("m2"), dir, func(c directory.Cell) mover.Cell { return neighbourly{w.cells[c.ID], 5 * time.Minute} },
			slog.New(slog.DiscardHandler))
		go func() { _ = next.Run(ctx) }()
		time.Sleep(settings("").LeaseTTL + time.Second) // virtual
		tenant, err := dir.Tenant(ctx, "acme")
		if err == nil {
			err = w.check(tenant.Placement)
		}
		if m, _ = dir.Move(ctx, m.ID); err != nil {
			t.Errorf("the move is %s (%s): %v", m.Phase, m.Error, err)
		}
	})
}
