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
		d.w.awaitFreeze(ctx, m)
		return transfer.Received{}, errNet
	}
	return d.fakeCell.Pull(ctx, m, url, final)
}

// A deadUntil is a cell that does not answer for tenant 1 until a time, and knows
// no other tenant.
type deadUntil struct {
	*fakeCell
	t time.Time
}

func (d deadUntil) Release(ctx context.Context, m transfer.Move) error {
	if m.Tenant != 1 {
		return nil
	}
	return d.fakeCell.Release(ctx, m)
}

func (d deadUntil) Discard(ctx context.Context, m transfer.Move) error {
	if m.Tenant != 1 {
		return nil
	}
	return d.fakeCell.Discard(ctx, m)
}

func (d deadUntil) Purge(ctx context.Context, m transfer.Move) (int64, error) {
	if m.Tenant != 1 {
		return 0, nil
	}
	return d.fakeCell.Purge(ctx, m)
}

func (d deadUntil) Preflight(ctx context.Context, m transfer.Move, measure bool) (transfer.Report, error) {
	if time.Now().Before(d.t) && m.Tenant == 1 {
		return transfer.Report{}, errNet
	}
	return d.fakeCell.Preflight(ctx, m, measure)
}

// TestMovesThatWaitKeepNobodyBack: a mover with one slot, whose oldest move waits
// for a cell that does not answer, goes on with the others; the oldest arrives
// when the cell is back.
func TestMovesThatWaitKeepNobodyBack(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		dead := newWorld(func() fault { return none })
		dir, first := moving(t, directory.NewMove{})
		back := time.Now().Add(30 * time.Second)
		if _, err := dir.CreateTenant(ctx, directory.NewTenant{Slug: "other", Cell: "a"}); err != nil {
			t.Fatal(err)
		}
		second, err := dir.CreateMove(ctx, directory.NewMove{Tenant: 2, Target: "b"})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := dir.AskMove(ctx, second.ID, directory.Cancel); err != nil { // the quickest work there is
			t.Fatal(err)
		}
		v := mover.New(settings("m1"), dir, func(c directory.Cell) mover.Cell { return deadUntil{dead.cells[c.ID], back} },
			slog.New(slog.NewTextHandler(io.Discard, nil)))
		go func() { _ = v.Run(ctx) }()
		second, _ = settle(ctx, dir, second.ID)
		if now := time.Now(); second.Phase == directory.Planned || !now.Before(back) {
			t.Errorf("the second move waited for the first: %s at %v", second.Phase, now)
		}
		if first, err = settle(ctx, dir, first.ID); err != nil || first.Phase != directory.Watching {
			t.Errorf("the first move: got %s (%s), %v", first.Phase, first.Error, err)
		}
	})
}

// TestCompareIsDoneOnceForEachWish: a mover compares the copies when somebody asks,
// lets the move go again, and hears of what is asked next.
func TestCompareIsDoneOnceForEachWish(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		w := newWorld(func() fault { return none })
		dir, m := moving(t, directory.NewMove{Watch: time.Hour})
		v := mover.New(settings("m1"), dir, func(c directory.Cell) mover.Cell { return w.cells[c.ID] }, slog.New(slog.NewTextHandler(io.Discard, nil)))
		go func() { _ = v.Run(ctx) }()
		if m, _ = settle(ctx, dir, m.ID); m.Phase != directory.Watching {
			t.Fatalf("got %s (%s)", m.Phase, m.Error)
		}
		time.Sleep(2 * time.Minute) // virtual; the first comparison needs no wish
		before := w.compared.Load()
		for _, wish := range []directory.Wish{directory.Verify, directory.Verify, directory.Complete} {
			if _, err := dir.AskMove(ctx, m.ID, wish); err != nil {
				t.Fatal(err)
			}
			time.Sleep(10 * time.Second) // virtual
			var err error
			if m, err = dir.Move(ctx, m.ID); err != nil || m.Wish == directory.Verify || m.Holder != "" {
				t.Fatalf("after %s: got %s, wish %q, held by %q, %v", wish, m.Phase, m.Wish, m.Holder, err)
			}
		}
		if n := w.compared.Load() - before; n != 2 || m.Phase != directory.Completed {
			t.Errorf("got %d comparisons and %s, want 2 and completed", n, m.Phase)
		}
	})
}

// TestCopiesAreComparedWithoutBeingAsked: a minute after the switch, every few hours, and
// once more before the kept copy goes. One that is damaged keeps the way back open.
func TestCopiesAreComparedWithoutBeingAsked(t *testing.T) {
	t.Parallel()
	for _, damaged := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			w := newWorld(func() fault { return none })
			dir, m := moving(t, directory.NewMove{Watch: 24 * time.Hour})
			slow := settings("m1")
			slow.Poll = time.Minute
			v := mover.New(slow, dir, func(c directory.Cell) mover.Cell { return w.cells[c.ID] }, slog.New(slog.NewTextHandler(io.Discard, nil)))
			go func() { _ = v.Run(ctx) }()
			if m, _ = settle(ctx, dir, m.ID); m.Phase != directory.Watching {
				t.Fatalf("got %s (%s)", m.Phase, m.Error)
			}
			after := func(d time.Duration, compared int32) {
				t.Helper()
				time.Sleep(d) // virtual
				var err error
				if m, err = dir.Move(ctx, m.ID); err != nil || w.compared.Load() != compared || m.Holder != "" {
					t.Fatalf("got %d comparisons, want %d; %s, held by %q, %v", w.compared.Load(), compared, m.Phase, m.Holder, err)
				}
			}
			after(50*time.Second, 0) // those who wait for a move have the machine first
			after(5*time.Minute, 1)
			after(7*time.Hour, 2)
			w.damaged.Store(damaged)
			if !damaged {
				after(17*time.Hour, 5) // twice more, and before the end
				if m.Phase != directory.Completed {
					t.Errorf("got %s, want completed", m.Phase)
				}
				return
			}
			after(50*time.Hour, 10)
			if m.Phase != directory.Watching || m.StopAt != directory.Watching || !m.WatchEnds.IsZero() {
				t.Errorf("got %s, ends %v: the copies differ, and the way back must stay open", m.Phase, m.WatchEnds)
			}
			if _, err := dir.AskMove(ctx, m.ID, directory.Complete); err != nil {
				t.Fatal(err)
			}
			after(5*time.Minute, 10)
			if m.Phase != directory.Completed {
				t.Errorf("got %s, want completed: the operator has said so", m.Phase)
			}
		})
	}
}

// A deadOnce is a target that does not answer in the first pause.
type deadOnce struct {
	*fakeCell
	first directory.MoveID
}

func (d deadOnce) Pull(ctx context.Context, m transfer.Move, url string, final bool) (transfer.Received, error) {
	if final && m.ID == d.first {
		return transfer.Received{}, errNet
	}
	return d.fakeCell.Pull(ctx, m, url, final)
}

// moving is a directory in which tenant 1 of cell a is to move to b.
func moving(t *testing.T, n directory.NewMove) (*directorytest.Memory, directory.Move) {
	t.Helper()
	dir := directorytest.NewMemory()
	for _, id := range []directory.CellID{"a", "b"} {
		if _, err := dir.AddCell(t.Context(), directory.Cell{ID: id, Address: "http://" + string(id), Capacity: 10, Incarnation: "db"}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := dir.CreateTenant(t.Context(), directory.NewTenant{Slug: "acme", Cell: "a"}); err != nil {
		t.Fatal(err)
	}
	n.Tenant, n.Target = 1, "b"
	m, err := dir.CreateMove(t.Context(), n)
	if err != nil {
		t.Fatal(err)
	}
	return dir, m
}

// settings are a mover's in these tests.
func settings(id string) mover.Config {
	return mover.Config{ID: id, Parallel: 1, LeaseTTL: 2 * time.Second, Poll: 50 * time.Millisecond}
}

// TestAbortedByTheBudgetIsTriedAgain: a move that its pause budget has aborted is
// tried again by itself, and arrives when the target answers.
func TestAbortedByTheBudgetIsTriedAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		w := newWorld(func() fault { return none })
		dir, m := moving(t, directory.NewMove{})
		v := mover.New(settings("m1"), dir, func(c directory.Cell) mover.Cell { return deadOnce{w.cells[c.ID], m.ID} },
			slog.New(slog.NewTextHandler(io.Discard, nil)))
		go func() { _ = v.Run(ctx) }()
		m, err := settle(ctx, dir, m.ID)
		if err != nil || m.Phase != directory.Aborted || !m.Transient || m.RetriedBy == "" {
			t.Fatalf("got %s (%s), tried again by %q, %v", m.Phase, m.Error, m.RetriedBy, err)
		}
		again, err := settle(ctx, dir, m.RetriedBy)
		if err != nil || again.Phase != directory.Watching || again.Attempt != 2 {
			t.Fatalf("attempt %d: got %s (%s), %v", again.Attempt, again.Phase, again.Error, err)
		}
		tenant, err := dir.Tenant(ctx, "acme")
		if err != nil || tenant.Placement.Cell != "b" {
			t.Fatalf("got %+v, %v", tenant.Placement, err)
		}
		if err := w.check(tenant.Placement); err != nil {
			t.Error(err)
		}
	})
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
				w := newWorld(func() fault { return none })
				dir, m := moving(t, directory.NewMove{Attempts: 1})
				first, die := context.WithTimeout(ctx, life)
				defer die()
				for id, ctx := range map[string]context.Context{"m1": first, "m2": ctx} {
					v := mover.New(settings(id), dir,
						func(c directory.Cell) mover.Cell { return deadAtLast{w.cells[c.ID]} }, slog.New(slog.NewTextHandler(io.Discard, nil)))
					go func() { _ = v.Run(ctx) }()
				}
				m, err := settle(ctx, dir, m.ID)
				if err != nil || m.Phase != directory.Aborted {
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
