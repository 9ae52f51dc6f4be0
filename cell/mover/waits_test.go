package mover_test

import (
	"context"
	"fmt"
	"log/slog"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cellway/cellway/cell/mover"
	"github.com/cellway/cellway/cell/transfer"
	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/directory/directorytest"
	"github.com/cellway/cellway/infra/problem"
)

// A neighbourly is a cell that does all that moves of tenants besides tenant 1 ask for; each round of
// theirs takes so long.
type neighbourly struct {
	*fakeCell
	long time.Duration
}

func (c neighbourly) of(m transfer.Move, own func() error) error {
	if m.Tenant != 1 {
		return nil
	}
	return own()
}

func (c neighbourly) Reserve(ctx context.Context, m transfer.Move) error {
	return c.of(m, func() error { return c.fakeCell.Reserve(ctx, m) })
}

func (c neighbourly) Arm(ctx context.Context, m transfer.Move, wait time.Duration) error {
	return c.of(m, func() error { return c.fakeCell.Arm(ctx, m, wait) })
}

func (c neighbourly) Freeze(ctx context.Context, m transfer.Move, wait time.Duration) error {
	return c.of(m, func() error { return c.fakeCell.Freeze(ctx, m, wait) })
}

func (c neighbourly) Activate(ctx context.Context, m transfer.Move) error {
	return c.of(m, func() error { return c.fakeCell.Activate(ctx, m) })
}

func (c neighbourly) Retire(ctx context.Context, m transfer.Move) error {
	return c.of(m, func() error { return c.fakeCell.Retire(ctx, m) })
}

func (c neighbourly) Release(ctx context.Context, m transfer.Move) error {
	return c.of(m, func() error { return c.fakeCell.Release(ctx, m) })
}

func (c neighbourly) Discard(ctx context.Context, m transfer.Move) error {
	return c.of(m, func() error { return c.fakeCell.Discard(ctx, m) })
}

func (c neighbourly) Pull(ctx context.Context, m transfer.Move, url string, final bool) (transfer.Received, error) {
	if m.Tenant == 1 {
		return c.fakeCell.Pull(ctx, m, url, final)
	}
	select {
	case <-time.After(c.long): // virtual
		return transfer.Received{Final: final}, nil
	case <-ctx.Done():
		return transfer.Received{}, ctx.Err()
	}
}

// A deadly is a cell at which a mover dies: right after it has frozen the tenant, or when it is
// about to make it served again.
type deadly struct {
	neighbourly
	at    directory.Phase
	early bool // the abort is behind no freeze
	die   func()
}

func (c deadly) Freeze(ctx context.Context, m transfer.Move, wait time.Duration) error {
	err := c.neighbourly.Freeze(ctx, m, wait)
	if m.Tenant == 1 && c.at == directory.Frozen {
		c.die()
	}
	return err
}

func (c deadly) Activate(ctx context.Context, m transfer.Move) error {
	if m.Tenant == 1 && c.at == directory.Decided {
		c.die()
		return ctx.Err()
	}
	if m.Tenant == 1 && c.at == directory.Aborting {
		return errNet
	}
	return c.neighbourly.Activate(ctx, m)
}

func (c deadly) Pull(ctx context.Context, m transfer.Move, url string, final bool) (transfer.Received, error) {
	if m.Tenant == 1 && c.at == directory.Aborting && (final || c.early) {
		return transfer.Received{}, problem.New(problem.Conflict, "a duplicate key")
	}
	return c.neighbourly.Pull(ctx, m, url, final)
}

func (c deadly) Release(ctx context.Context, m transfer.Move) error {
	if m.Tenant == 1 && c.at == directory.Aborting {
		c.die()
		return ctx.Err()
	}
	return c.neighbourly.Release(ctx, m)
}

// A deadTo directory hears nothing more of a mover that is dead, not even that it gives its leases back.
type deadTo struct {
	*directorytest.Memory
	dead *atomic.Bool
}

func (d deadTo) LeaseMove(ctx context.Context, id directory.MoveID, holder string, ttl time.Duration) (directory.Move, error) {
	if d.dead.Load() {
		return directory.Move{}, errNet
	}
	return d.Memory.LeaseMove(ctx, id, holder, ttl)
}

// TestATenantThatWaitsIsNotBehindOtherMoves: where a mover dies in a pause, the next one, which has one slot and
// two copies of minutes to make, or the same one begun anew, has the tenant served as soon as the
// lease is over. What is left of an abort then waits for the slot. Behind an abort the directory has the tenant at
// an epoch that its source does not serve before it is released, whether or not it was frozen.
func TestATenantThatWaitsIsNotBehindOtherMoves(t *testing.T) {
	t.Parallel()
	for _, death := range []struct {
		at, behind directory.Phase
	}{
		{directory.Frozen, directory.CaughtUp},
		{directory.Decided, directory.Frozen},
		{directory.Aborting, directory.Frozen},
		{directory.Aborting, directory.Armed},
	} {
		at := death.at
		for _, heir := range []string{"m1", "m2"} {
			t.Run(fmt.Sprintf("%s behind %s, %s", at, death.behind, heir), func(t *testing.T) {
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
						return deadly{neighbourly{w.cells[c.ID], 5 * time.Minute}, at, death.behind == directory.Armed, func() { dead.Store(true); kill() }}
					}, slog.New(slog.DiscardHandler))
					if err := v.Run(first); err != nil {
						t.Fatal(err)
					}
					if m, _ = dir.Move(t.Context(), m.ID); m.Phase != at || m.Previous != death.behind || m.Holder != "m1" {
						t.Fatalf("the first mover, %q, died at %s, behind %s", m.Holder, m.Phase, m.Previous)
					}

					ctx, cancel := context.WithCancel(t.Context())
					defer cancel()
					next := mover.New(settings(heir), dir, func(c directory.Cell) mover.Cell { return neighbourly{w.cells[c.ID], 5 * time.Minute} },
						slog.New(slog.DiscardHandler))
					go func() { _ = next.Run(ctx) }()
					time.Sleep(settings("").LeaseTTL + time.Second) // virtual: the lease, the pause and some polls
					served := func() {
						t.Helper()
						tenant, err := dir.Tenant(ctx, "acme")
						if err == nil {
							err = w.check(tenant.Placement)
						}
						if m, _ = dir.Move(ctx, m.ID); err != nil {
							t.Errorf("the move is %s (%s): %v", m.Phase, m.Error, err)
						}
					}
					served()
					if m.Phase != directory.Watching && m.Phase != directory.Aborting {
						t.Errorf("the move is %s", m.Phase)
					}
					if _, err := settle(ctx, dir, m.ID); err != nil {
						t.Error(err)
					}
					served()
				})
			})
		}
	}
}

// TestHeldMovesKeepNobodyBack: with more moves held, caught up, than a mover may hold, another move is made all the
// same; and each of those that are held is switched when its operator wishes it.
func TestHeldMovesKeepNobodyBack(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		w, dir, crowd, last := crowded(t, directory.CaughtUp)
		v := mover.New(settings("m1"), dir, func(c directory.Cell) mover.Cell { return neighbourly{w.cells[c.ID], time.Millisecond} }, slog.New(slog.DiscardHandler))
		go func() { _ = v.Run(ctx) }()
		time.Sleep(5 * time.Minute) // virtual
		if m, err := dir.Move(ctx, last); err != nil || m.Phase != directory.Watching {
			t.Errorf("got %s (%s), %v; want watching", m.Phase, m.Error, err)
		}
		kept := 0
		for i, id := range crowd {
			m, err := dir.Move(ctx, id)
			if want := m.Phase == directory.CaughtUp || i%4 == 3; err != nil || !want {
				t.Errorf("move %d is %s (%s), %v", i, m.Phase, m.Error, err)
			}
			if m.Holder != "" {
				kept++
			}
			if i%4 == 3 {
				continue
			}
			if _, err := dir.AskMove(ctx, id, directory.Switch); err != nil {
				t.Error(err)
			}
		}
		if kept < 14 {
			t.Errorf("%d held moves are kept caught up, of 16 that may be", kept)
		}
		time.Sleep(5 * time.Minute) // virtual
		for i, id := range crowd {
			if m, err := dir.Move(ctx, id); err != nil || m.Phase != directory.Watching && i%4 != 3 {
				t.Errorf("move %d is %s (%s), %v", i, m.Phase, m.Error, err)
			}
		}
	})
}
