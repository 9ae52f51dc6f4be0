package mover_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cellway/cellway/cell/fence"
	"github.com/cellway/cellway/cell/mover"
	"github.com/cellway/cellway/cell/transfer"
	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/directory/directorytest"
	"github.com/cellway/cellway/infra/problem"
)

// A silentCell answers with an error, or hangs (nil), until it is back.
type silentCell struct {
	*fakeCell
	with error
	back *time.Time
}

func (c silentCell) answer(ctx context.Context) error {
	c.w.mu.Lock()
	silent := time.Now().Before(*c.back)
	c.w.mu.Unlock()
	if !silent {
		return nil
	}
	if c.with == nil {
		<-ctx.Done()
		return ctx.Err()
	}
	return c.with
}

func (c silentCell) Fence(ctx context.Context, t directory.TenantID) (fence.Fence, error) {
	if err := c.answer(ctx); err != nil {
		return fence.Fence{}, err
	}
	return c.fakeCell.Fence(ctx, t)
}

func (c silentCell) Preflight(ctx context.Context, m transfer.Move, measure bool) (transfer.Report, error) {
	if err := c.answer(ctx); err != nil {
		return transfer.Report{}, err
	}
	return c.fakeCell.Preflight(ctx, m, measure)
}

func (c silentCell) Pull(ctx context.Context, m transfer.Move, url string, final bool) (transfer.Received, error) {
	if err := c.answer(ctx); err != nil {
		return transfer.Received{}, err
	}
	return c.fakeCell.Pull(ctx, m, url, final)
}

func (c silentCell) Discard(ctx context.Context, m transfer.Move) error {
	if err := c.answer(ctx); err != nil {
		return err
	}
	return c.fakeCell.Discard(ctx, m)
}

func (c silentCell) Release(ctx context.Context, m transfer.Move) error {
	if err := c.answer(ctx); err != nil {
		return err
	}
	return c.fakeCell.Release(ctx, m)
}

// A manyTenants is a cell that knows of tenants besides tenant 1, which none has armed.
type manyTenants struct{ *fakeCell }

func (c manyTenants) Release(ctx context.Context, m transfer.Move) error {
	if m.Tenant != 1 {
		return nil
	}
	return c.fakeCell.Release(ctx, m)
}

// crowded is a world of four cells, and a directory in which forty tenants are to move from a to b, some of which
// are cancelled, and which stop at a phase, and after them tenant 1 from c to d.
func crowded(t *testing.T, stop directory.Phase) (w *world, dir *directorytest.Memory, crowd []directory.MoveID, last directory.MoveID) {
	t.Helper()
	w = newWorld(func() fault { return none })
	for _, id := range []directory.CellID{"c", "d"} {
		w.cells[id] = newCell(w, id)
	}
	w.cells["a"].fence, w.cells["c"].fence = w.cells["c"].fence, w.cells["a"].fence
	dir = directorytest.NewMemory()
	for _, id := range []directory.CellID{"a", "b", "c", "d"} {
		if _, err := dir.AddCell(t.Context(), directory.Cell{ID: id, Address: "http://" + string(id), Capacity: 100, Incarnation: "db"}); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 41 {
		at := directory.CellID("a")
		if i == 0 {
			at = "c"
		}
		if _, err := dir.CreateTenant(t.Context(), directory.NewTenant{Slug: fmt.Sprint("t", i+1), Cell: at}); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 41 {
		n := directory.NewMove{Tenant: directory.TenantID(i + 2), Target: "b", StopAt: stop}
		if i == 40 {
			n = directory.NewMove{Tenant: 1, Target: "d"}
		}
		m, err := dir.CreateMove(t.Context(), n)
		if err != nil {
			t.Fatal(err)
		}
		crowd = append(crowd, m.ID)
		if i%4 == 3 {
			if _, err := dir.AskMove(t.Context(), m.ID, directory.Cancel); err != nil {
				t.Fatal(err)
			}
		}
	}
	return w, dir, crowd[:40], crowd[40]
}

// TestASilentCellKeepsOnlyItsOwnMoves: more moves than a mover may hold wait for a cell that is down, hangs, has
// no database or does not take the mover's word, be it their source or their target; one between other cells is
// made all the same, and they say why they wait.
func TestASilentCellKeepsOnlyItsOwnMoves(t *testing.T) {
	t.Parallel()
	for name, with := range map[string]error{
		"is down": errNet, "hangs": nil, "has no database": errors.New("connection refused"), "refuses": problem.New(problem.Unauthenticated, "token has expired"),
	} {
		for _, silent := range []directory.CellID{"a", "b"} {
			t.Run(string(silent)+" "+name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					ctx, cancel := context.WithCancel(t.Context())
					defer cancel()
					w, dir, crowd, last := crowded(t, "")
					back := time.Now().Add(24 * time.Hour)
					v := mover.New(settings("m1"), dir, func(c directory.Cell) mover.Cell {
						if c.ID == silent {
							return silentCell{w.cells[c.ID], with, &back}
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
							t.Errorf("a move of the silent cell is %s (%q), %v", m.Phase, m.Error, err)
							break
						}
					}
				})
			})
		}
	}
}

// hungAt runs a move whose target hangs for a minute, or as long as it takes, from its first round on, and says how
// often a round was begun.
func hungAt(t *testing.T, n directory.NewMove, hang func(c *fakeCell, rounds *int, back *time.Time) mover.Cell, wishes ...directory.Wish) (m directory.Move, rounds int) {
	t.Helper()
	back := time.Now()
	m = ends(t, n, func(c *fakeCell, _ *directorytest.Memory) mover.Cell {
		if c.id != "b" {
			return c
		}
		return hang(c, &rounds, &back)
	}, wishes...)
	return m, rounds
}

// TestACellThatHangsEndsACopy: a copy whose target hangs is ended long before its time, and made when it is back.
func TestACellThatHangsEndsACopy(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		m, _ := hungAt(t, directory.NewMove{}, func(c *fakeCell, rounds *int, back *time.Time) mover.Cell {
			return hangsAtCopy{silentCell{c, nil, back}, rounds, 90 * time.Second}
		})
		if m.Phase != directory.Watching || time.Since(began) > 2*time.Minute {
			t.Errorf("got %s (%s) after %v", m.Phase, m.Error, time.Since(began))
		}
	})
}

// TestACellThatIsBusyKeepsItsCopy: a copy goes on where its target answers questions a little late.
func TestACellThatIsBusyKeepsItsCopy(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m, copies := hungAt(t, directory.NewMove{}, func(c *fakeCell, rounds *int, back *time.Time) mover.Cell {
			return busyInCopy{hangsAtCopy{silentCell{c, errNet, back}, rounds, 20 * time.Second}}
		})
		if m.Phase != directory.Watching || copies != 1 {
			t.Errorf("got %s (%s), %d copies", m.Phase, m.Error, copies)
		}
	})
}

// TestAHeldMoveOutlivesASilence: a move that waits for its operator is kept caught up again when its cell is back.
func TestAHeldMoveOutlivesASilence(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		w := newWorld(func() fault { return none })
		dir, m := moving(t, directory.NewMove{StopAt: directory.CaughtUp})
		silent, back := time.Now().Add(time.Minute), time.Now().Add(90*time.Second)
		v := newMover(settings("m1"), dir, func(c *fakeCell, _ *directorytest.Memory) mover.Cell {
			if c.id == "b" && time.Now().After(silent) {
				return silentCell{c, errNet, &back}
			}
			return c
		}, w)
		go func() { _ = v.Run(ctx) }()
		time.Sleep(80 * time.Second) // virtual
		if m, _ = dir.Move(ctx, m.ID); m.Phase != directory.CaughtUp || m.Error == "" {
			t.Fatalf("in the silence: %s (%q)", m.Phase, m.Error)
		}
		time.Sleep(time.Minute) // virtual
		if m, _ = dir.Move(ctx, m.ID); m.Phase != directory.CaughtUp || m.Error != "" || m.Holder == "" {
			t.Errorf("after it: %s (%q), held by %q", m.Phase, m.Error, m.Holder)
		}
	})
}

// A hangsAtCopy hangs for a while from the first round on.
type hangsAtCopy struct {
	silentCell
	rounds *int
	long   time.Duration
}

func (c hangsAtCopy) begins() {
	c.w.mu.Lock()
	defer c.w.mu.Unlock()
	if *c.rounds++; *c.rounds == 1 {
		*c.back = time.Now().Add(c.long)
	}
}

func (c hangsAtCopy) Pull(ctx context.Context, m transfer.Move, url string, final bool) (transfer.Received, error) {
	c.begins()
	return c.silentCell.Pull(ctx, m, url, final)
}

// A busyInCopy answers no questions for a while, and copies all the same; the first round takes a minute.
type busyInCopy struct{ hangsAtCopy }

func (c busyInCopy) Pull(ctx context.Context, m transfer.Move, url string, final bool) (transfer.Received, error) {
	if len(c.received) > 0 {
		return c.fakeCell.Pull(ctx, m, url, final)
	}
	c.begins()
	select {
	case <-time.After(time.Minute): // virtual
		return c.fakeCell.Pull(ctx, m, url, final)
	case <-ctx.Done():
		return transfer.Received{}, ctx.Err()
	}
}
