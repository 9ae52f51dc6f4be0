package mover_test

import (
	"context"
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
)

// A silentCell does not answer: at once, or by hanging, until it is back.
type silentCell struct {
	*fakeCell
	hangs bool
	back  *time.Time
}

func (c silentCell) answer(ctx context.Context) error {
	if !time.Now().Before(*c.back) {
		return nil
	}
	if c.hangs {
		<-ctx.Done()
		return ctx.Err()
	}
	return errNet
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

// A manyTenants is a cell that knows of tenants besides tenant 1, which none has armed.
type manyTenants struct{ *fakeCell }

func (c manyTenants) Release(ctx context.Context, m transfer.Move) error {
	if m.Tenant != 1 {
		return nil
	}
	return c.fakeCell.Release(ctx, m)
}

// crowded is a directory in which forty tenants are to move to cell b, some of which are cancelled, and
// after them tenant 1 to c.
func crowded(t *testing.T) (dir *directorytest.Memory, last directory.Move) {
	t.Helper()
	dir = directorytest.NewMemory()
	for _, id := range []directory.CellID{"a", "b", "c"} {
		if _, err := dir.AddCell(t.Context(), directory.Cell{ID: id, Address: "http://" + string(id), Capacity: 100}); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 41 {
		if _, err := dir.CreateTenant(t.Context(), directory.NewTenant{Slug: fmt.Sprint("t", i+1), Cell: "a"}); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 41 {
		n := directory.NewMove{Tenant: directory.TenantID(i + 2), Target: "b"}
		if i == 40 {
			n = directory.NewMove{Tenant: 1, Target: "c"}
		}
		m, err := dir.CreateMove(t.Context(), n)
		if err != nil {
			t.Fatal(err)
		}
		if i%4 == 3 {
			if _, err := dir.AskMove(t.Context(), m.ID, directory.Cancel); err != nil {
				t.Fatal(err)
			}
		}
		last = m
	}
	return dir, last
}

// TestASilentCellKeepsOnlyItsOwnMoves: more moves than a mover may hold wait for a cell that is down, or hangs;
// one between other cells is made all the same.
func TestASilentCellKeepsOnlyItsOwnMoves(t *testing.T) {
	t.Parallel()
	for _, hangs := range []bool{false, true} {
		t.Run(fmt.Sprint("hangs ", hangs), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				w := newWorld(func() fault { return none })
				w.cells["c"] = &fakeCell{w: w, id: "c", received: map[string]transfer.Received{}}
				dir, last := crowded(t)
				back := time.Now().Add(24 * time.Hour)
				v := mover.New(settings("m1"), dir, func(c directory.Cell) mover.Cell {
					if c.ID == "b" {
						return silentCell{w.cells["b"], hangs, &back}
					}
					return manyTenants{w.cells[c.ID]}
				}, slog.New(slog.DiscardHandler))
				go func() { _ = v.Run(ctx) }()
				time.Sleep(3 * time.Minute) // virtual
				if m, err := dir.Move(ctx, last.ID); err != nil || m.Phase != directory.Watching {
					t.Errorf("got %s (%s), %v; want watching", m.Phase, m.Error, err)
				}
			})
		})
	}
}

// TestACellThatHangsEndsACopy: a copy whose target hangs is ended long before its time, and made when it is back.
func TestACellThatHangsEndsACopy(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		back, began, hung := time.Now(), time.Now(), false
		m := ends(t, directory.NewMove{}, func(c *fakeCell, _ *directorytest.Memory) mover.Cell {
			if c.id != "b" {
				return c
			}
			return hangsAtCopy{silentCell{c, true, &back}, &hung}
		})
		if m.Phase != directory.Watching || time.Since(began) > 5*time.Minute {
			t.Errorf("got %s (%s) after %v", m.Phase, m.Error, time.Since(began))
		}
	})
}

// A hangsAtCopy hangs for a minute from the first round on.
type hangsAtCopy struct {
	silentCell
	hung *bool
}

func (c hangsAtCopy) Pull(ctx context.Context, m transfer.Move, url string, final bool) (transfer.Received, error) {
	if !*c.hung {
		*c.hung, *c.back = true, time.Now().Add(time.Minute)
	}
	return c.silentCell.Pull(ctx, m, url, final)
}
