package mover_test

import (
	"context"
	"encoding/json"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cellway/cellway/cell/mover"
	"github.com/cellway/cellway/cell/transfer"
	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/directory/directorytest"
)

// A longWork is a cell at which it takes eleven minutes to tell how much there is to move, and so do the first round
// after the copy, each check and each comparison.
type longWork struct {
	*fakeCell
	measures, rounds, checks *int
}

func (c longWork) takesLong(ctx context.Context) error {
	select {
	case <-time.After(11 * time.Minute): // virtual
		return nil
	case <-ctx.Done():
		return errNet
	}
}

func (c longWork) Preflight(ctx context.Context, m transfer.Move, measure bool) (transfer.Report, error) {
	if measure {
		*c.measures++
		if err := c.takesLong(ctx); err != nil {
			return transfer.Report{}, err
		}
	}
	return c.fakeCell.Preflight(ctx, m, measure)
}

func (c longWork) Pull(ctx context.Context, m transfer.Move, url string, final bool) (transfer.Received, error) {
	had := c.received[string(m.ID)]
	if had.Round == 1 && !final {
		*c.rounds++
		if err := c.takesLong(ctx); err != nil {
			return transfer.Received{}, err
		}
	}
	got, err := c.fakeCell.Pull(ctx, m, url, final)
	if had.Round == 0 {
		got.Took = time.Hour // of the copy: a round has to follow
	}
	return got, err
}

func (c longWork) Verify(ctx context.Context, m transfer.Move) ([]transfer.Finding, error) {
	*c.checks++
	if err := c.takesLong(ctx); err != nil {
		return nil, err
	}
	return c.fakeCell.Verify(ctx, m)
}

func (c longWork) Kept(ctx context.Context, m transfer.Move, keys map[string]json.RawMessage) (map[string]transfer.Digest, error) {
	if err := c.takesLong(ctx); err != nil {
		return nil, err
	}
	return c.fakeCell.Kept(ctx, m, keys)
}

// TestLongWorkEnds: a preflight, the first round after a copy of hours, or of an undo after a day, a check and a
// comparison of a large tenant are made once, however long they take; the watch ends by itself.
func TestLongWorkEnds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		w := newWorld(func() fault { return none })
		dir, m := moving(t, directory.NewMove{Watch: time.Hour})
		measures, rounds, checks := 0, 0, 0
		v := newMover(settings("m1"), dir, func(c *fakeCell, _ *directorytest.Memory) mover.Cell { return longWork{c, &measures, &rounds, &checks} }, w)
		go func() { _ = v.Run(ctx) }()
		time.Sleep(34 * time.Minute) // virtual
		m, err := dir.Move(ctx, m.ID)
		if err != nil || m.Phase != directory.Watching || measures != 1 || rounds != 1 || checks != 1 {
			t.Fatalf("got %s (%s), %v, after %d preflights, %d long rounds and %d checks, want watching after one each", m.Phase, m.Error, err, measures, rounds, checks)
		}
		time.Sleep(2 * time.Hour) // virtual
		if m, err = dir.Move(ctx, m.ID); err != nil || m.Phase != directory.Completed {
			t.Errorf("got %s (%s), %v, want completed: its copies were compared", m.Phase, m.Error, err)
		}
	})
}
