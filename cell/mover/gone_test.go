package mover_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cellway/cellway/cell/mover"
	"github.com/cellway/cellway/cell/transfer"
	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/directory/directorytest"
)

// A mortal is a cell that answers nothing from the call on that kills it.
type mortal struct {
	*fakeCell
	dead *bool
	of   string // the call
}

func (c mortal) dies(of string) bool {
	*c.dead = *c.dead || c.of == of
	return *c.dead
}

func (c mortal) Pull(ctx context.Context, m transfer.Move, url string, final bool) (transfer.Received, error) {
	if c.dies("pull") {
		return transfer.Received{}, errNet
	}
	return c.fakeCell.Pull(ctx, m, url, final)
}

func (c mortal) Discard(ctx context.Context, m transfer.Move) error {
	if c.dies("discard") {
		return errNet
	}
	return c.fakeCell.Discard(ctx, m)
}

func (c mortal) Retire(ctx context.Context, m transfer.Move) error {
	if c.dies("retire") {
		return errNet
	}
	return c.fakeCell.Retire(ctx, m)
}

func (c mortal) Purge(ctx context.Context, m transfer.Move) (int64, error) {
	if c.dies("purge") {
		return 0, errNet
	}
	return c.fakeCell.Purge(ctx, m)
}

func (c mortal) Kept(ctx context.Context, m transfer.Move, keys map[string]json.RawMessage) (map[string]transfer.Digest, error) {
	if c.dies("kept") {
		return nil, errNet
	}
	return c.fakeCell.Kept(ctx, m, keys)
}

// loses has a cell of a move die at a call, and an hour later removed as lost; how the move was then, and is
// three hours after.
func loses(t *testing.T, lost directory.CellID, at string, n directory.NewMove) (before, after directory.Move) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	dir, m := moving(t, n)
	dead := false
	slow := settings("m1")
	slow.Poll = 10 * time.Second // hours go by
	v := newMover(slow, dir, func(c *fakeCell, _ *directorytest.Memory) mover.Cell {
		if c.id != lost {
			return c
		}
		return mortal{c, &dead, at}
	}, newWorld(func() fault { return none }))
	go func() { _ = v.Run(ctx) }()
	time.Sleep(time.Hour) // virtual
	if m, _ = dir.Move(ctx, m.ID); m.Phase.BeforeDecision() {
		if _, err := dir.AskMove(ctx, m.ID, directory.Cancel); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour) // virtual
	}
	before, _ = dir.Move(ctx, m.ID)
	if _, err := dir.SetCellState(ctx, lost, directory.Cordoned); err != nil {
		t.Fatal(err)
	}
	if err := dir.RemoveCell(ctx, lost, true); err != nil {
		t.Fatal(err)
	}
	time.Sleep(3 * time.Hour) // virtual
	after, err := dir.Move(ctx, m.ID)
	if err != nil {
		t.Fatal(err)
	}
	return before, after
}

// TestALostCellKeepsNoMove: what waits for a cell that is gone for good goes on when an operator
// has said so: a cancel, a retirement, a watch that is not over, and one that was and whose comparison failed.
func TestALostCellKeepsNoMove(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		lost          directory.CellID
		at            string
		watch         time.Duration
		before, after directory.Phase
	}{
		{"b", "pull", 0, directory.Aborting, directory.Aborted},
		{"a", "retire", 0, directory.Activated, directory.Watching},
		{"a", "retire", time.Minute, directory.Activated, directory.Completed},
		{"a", "kept", 24 * time.Hour, directory.Watching, directory.Completed},
		{"a", "kept", 2 * time.Minute, directory.Watching, directory.Completed},
	} {
		t.Run(fmt.Sprint(tt.lost, " dies at ", tt.at, ", watch ", tt.watch), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				before, after := loses(t, tt.lost, tt.at, directory.NewMove{Watch: tt.watch})
				if before.Phase != tt.before || after.Phase != tt.after {
					t.Errorf("got %s, then %s (%s), want %s and %s", before.Phase, after.Phase, after.Error, tt.before, tt.after)
				}
			})
		})
	}
}

// An absent is a target that is not where it was when the move began.
type absent struct {
	*fakeCell
	moves func()
}

func (c absent) Activate(context.Context, transfer.Move) error {
	c.moves()
	return errNet
}

// TestACellIsLookedForAgain: a target that comes back at another address, with its tenant waiting, is found.
func TestACellIsLookedForAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		w := newWorld(func() fault { return none })
		dir, m := moving(t, directory.NewMove{})
		v := mover.New(settings("m1"), dir, func(c directory.Cell) mover.Cell {
			if c.Address != "http://b" {
				return w.cells[c.ID]
			}
			return absent{w.cells[c.ID], func() {
				if _, err := dir.AddCell(ctx, directory.Cell{ID: "b", Address: "http://b2", Capacity: 10, Incarnation: "db"}); err != nil {
					t.Error(err)
				}
			}}
		}, slog.New(slog.DiscardHandler))
		go func() { _ = v.Run(ctx) }()
		m, err := settle(ctx, dir, m.ID)
		if err != nil || m.Phase != directory.Watching {
			t.Errorf("got %s (%s), %v; want watching", m.Phase, m.Error, err)
		}
	})
}
