package mover_test

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cellway/cellway/cell/mover"
	"github.com/cellway/cellway/cell/transfer"
	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/directory/directorytest"
)

// An inOrder is a cell that notes each step that came before the directory's word
// for it.
type inOrder struct {
	*fakeCell
	dir *directorytest.Memory

	mu    *sync.Mutex
	early *[]string
}

// only notes the step unless the directory has recorded one of the phases.
func (c inOrder) only(ctx context.Context, step string, m transfer.Move, phases ...directory.Phase) {
	stored, err := c.dir.Move(ctx, m.ID)
	for _, p := range phases {
		if err == nil && stored.Phase == p {
			return
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	*c.early = append(*c.early, fmt.Sprintf("%s while the record says %s (%v)", step, stored.Phase, err))
}

func (c inOrder) Freeze(ctx context.Context, m transfer.Move, wait time.Duration) error {
	c.only(ctx, "freeze", m, directory.Frozen)
	return c.fakeCell.Freeze(ctx, m, wait)
}

func (c inOrder) Activate(ctx context.Context, m transfer.Move) error {
	c.only(ctx, "activate", m, directory.Decided)
	return c.fakeCell.Activate(ctx, m)
}

func (c inOrder) Retire(ctx context.Context, m transfer.Move) error {
	c.only(ctx, "retire", m, directory.Activated)
	return c.fakeCell.Retire(ctx, m)
}

func (c inOrder) Release(ctx context.Context, m transfer.Move) error {
	c.only(ctx, "release", m, directory.Aborting)
	return c.fakeCell.Release(ctx, m)
}

func (c inOrder) Discard(ctx context.Context, m transfer.Move) error {
	c.only(ctx, "discard", m, directory.Aborting)
	return c.fakeCell.Discard(ctx, m)
}

func (c inOrder) Purge(ctx context.Context, m transfer.Move) (int64, error) {
	c.only(ctx, "purge", m, directory.Aborting, directory.Watching)
	return c.fakeCell.Purge(ctx, m)
}

// TestTheDirectoryDecidesFirst: no cell begins to serve, none ceases to and none gives
// up what it has, before the directory has recorded that it is so. Random stories see a
// breach only where another mover's word comes between the two.
func TestTheDirectoryDecidesFirst(t *testing.T) {
	t.Parallel()
	for name, story := range map[string]struct {
		last directory.Phase // where the move ends
		ask  directory.Wish  // when it watches
		dead bool            // the target does not take the last round
	}{
		"a move that is completed": {last: directory.Completed, ask: directory.Complete},
		"a move that is aborted":   {last: directory.Aborted, dead: true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				w := newWorld(func() fault { return none })
				dir, m := moving(t, directory.NewMove{Watch: time.Hour})
				var mu sync.Mutex
				var early []string
				open := func(c directory.Cell) mover.Cell {
					cell := inOrder{w.cells[c.ID], dir, &mu, &early}
					if story.dead {
						return deadInOrder{cell}
					}
					return cell
				}
				v := mover.New(settings("m1"), dir, open, slog.New(slog.DiscardHandler))
				go func() { _ = v.Run(ctx) }()
				m, err := settle(ctx, dir, m.ID)
				if err == nil && story.ask != "" {
					if _, err = dir.AskMove(ctx, m.ID, story.ask); err == nil {
						m, err = ended(ctx, dir, m.ID)
					}
				}
				if err != nil || m.Phase != story.last {
					t.Fatalf("got %s (%s), %v, want %s", m.Phase, m.Error, err, story.last)
				}
				mu.Lock()
				defer mu.Unlock()
				for _, what := range early {
					t.Error(what)
				}
			})
		})
	}
}

// A deadInOrder does not take the last round either.
type deadInOrder struct{ inOrder }

func (d deadInOrder) Pull(ctx context.Context, m transfer.Move, url string, final bool) (transfer.Received, error) {
	return deadAtLast{d.fakeCell}.Pull(ctx, m, url, final)
}

// ended waits, in virtual time, until the move stands for history only.
func ended(ctx context.Context, dir *directorytest.Memory, id directory.MoveID) (m directory.Move, err error) {
	for range 1200 {
		if m, err = dir.Move(ctx, id); err != nil || m.Phase.Ended() {
			return m, err
		}
		time.Sleep(100 * time.Millisecond) // virtual
	}
	return m, fmt.Errorf("the move does not end: %s, %s", m.Phase, m.Error)
}
