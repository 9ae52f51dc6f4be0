package mover_test

import (
	"context"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cellway/cellway/cell/mover"
	"github.com/cellway/cellway/cell/transfer"
	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/infra/problem"
)

// A changing is a cell that is another one, or whose copy is, once its move was held.
type changing struct {
	*fakeCell
	schema, verify *atomic.Bool
	frozen         *atomic.Bool
}

func (c changing) Preflight(ctx context.Context, m transfer.Move, measure bool) (transfer.Report, error) {
	r, err := c.fakeCell.Preflight(ctx, m, measure)
	if c.schema.Load() {
		r.Fingerprint = "another"
	}
	return r, err
}

func (c changing) Verify(context.Context, transfer.Move) (found []transfer.Finding, err error) {
	if c.verify.Load() {
		found = append(found, transfer.Finding{Code: "foreign-key", Table: "projects.task", Why: "it has orphans"})
	}
	return found, nil
}

func (c changing) Freeze(ctx context.Context, m transfer.Move, wait time.Duration) error {
	c.frozen.Store(true)
	return c.fakeCell.Freeze(ctx, m, wait)
}

// TestAHeldMoveIsCheckedAgain: what the preflight and the verification said when the move
// caught up is asked again when its operator lets it go on, also after it was held a
// second time and by a mover that took over; what is not as it was ends it, and nothing
// is frozen.
func TestAHeldMoveIsCheckedAgain(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		schema, verify, other bool
		want                  string
	}{
		"as it was":             {},
		"the schema":            {schema: true, want: "was altered during the move"},
		"the copy":              {verify: true, want: "it has orphans"},
		"the copy, taken over":  {verify: true, other: true, want: "it has orphans"},
		"as it was, taken over": {other: true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				w := newWorld(func() fault { return none })
				dir, m := moving(t, directory.NewMove{StopAt: directory.CaughtUp})
				var schema, verify, frozen atomic.Bool
				begin := func(id string) context.CancelFunc {
					ctx, cancel := context.WithCancel(ctx)
					v := mover.New(settings(id), dir, func(c directory.Cell) mover.Cell {
						return changing{w.cells[c.ID], &schema, &verify, &frozen}
					}, slog.New(slog.DiscardHandler))
					go func() { _ = v.Run(ctx) }()
					return cancel
				}
				stop := begin("m1")
				time.Sleep(time.Minute) // virtual
				if got, err := dir.Move(ctx, m.ID); err != nil || got.Phase != directory.CaughtUp {
					t.Fatalf("got %s, %v, want it held", got.Phase, err)
				}
				if tt.other {
					stop()
					begin("m2")
					time.Sleep(time.Minute) // virtual
				}
				schema.Store(tt.schema)
				verify.Store(tt.verify)
				if _, err := dir.AskMove(ctx, m.ID, directory.Switch); err != nil {
					t.Fatal(err)
				}
				m, err := settle(ctx, dir, m.ID)
				if err != nil {
					t.Fatal(err)
				}
				if tt.want == "" {
					if m.Phase != directory.Watching {
						t.Errorf("got %s (%s), want it to arrive", m.Phase, m.Error)
					}
					return
				}
				if m.Phase != directory.Aborted || m.Transient || !strings.Contains(m.Error, tt.want) || frozen.Load() {
					t.Errorf("got %s (%s), frozen %v, want aborted for good: %s, and never frozen", m.Phase, m.Error, frozen.Load(), tt.want)
				}
			})
		})
	}
}

// TestAHeldMoveIsNotSwitchedToACordonedCell: the directory refuses the wish, and the move
// waits on.
func TestAHeldMoveIsNotSwitchedToACordonedCell(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		w := newWorld(func() fault { return none })
		dir, m := moving(t, directory.NewMove{StopAt: directory.CaughtUp})
		v := mover.New(settings("m1"), dir, func(c directory.Cell) mover.Cell { return w.cells[c.ID] }, slog.New(slog.DiscardHandler))
		go func() { _ = v.Run(ctx) }()
		time.Sleep(time.Minute) // virtual
		if _, err := dir.SetCellState(ctx, "b", directory.Cordoned); err != nil {
			t.Fatal(err)
		}
		if _, err := dir.AskMove(ctx, m.ID, directory.Switch); problem.KindOf(err) != problem.Conflict {
			t.Errorf("got %v, want a conflict", err)
		}
		time.Sleep(time.Minute) // virtual
		if m, err := dir.Move(ctx, m.ID); err != nil || m.Phase != directory.CaughtUp || m.Wish != directory.Proceed {
			t.Errorf("got %s, wish %q, %v, want it to wait", m.Phase, m.Wish, err)
		}
	})
}
