package mover_test

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"sync/atomic"
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

// A refusing is a directory that does not take, until a time, that a move has reached a phase.
type refusing struct {
	*directorytest.Memory
	phase directory.Phase
	until time.Time
	times *atomic.Int32
}

func (d refusing) Advance(ctx context.Context, m directory.Move, from directory.Phase) error {
	if m.Phase == d.phase && from != m.Phase && time.Now().Before(d.until) {
		d.times.Add(1)
		return problem.New(problem.Conflict, "the tenant is on c at epoch 7")
	}
	return d.Memory.Advance(ctx, m, from)
}

// TestARefusedAbortIsTold: a directory that does not take an abort, of a move that is its mover's all the same, is asked
// again now and then, and not at each poll; the record and the log say so.
func TestARefusedAbortIsTold(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		w := newWorld(func() fault { return none })
		dir, m := moving(t, directory.NewMove{})
		if _, err := dir.AskMove(ctx, m.ID, directory.Cancel); err != nil {
			t.Fatal(err)
		}
		var times atomic.Int32
		var log bytes.Buffer
		v := mover.New(settings("m1"), refusing{dir, directory.Aborting, time.Now().Add(time.Hour), &times},
			func(c directory.Cell) mover.Cell { return w.cells[c.ID] }, slog.New(slog.NewTextHandler(&log, nil)))
		go func() { _ = v.Run(ctx) }()
		time.Sleep(59 * time.Minute) // virtual
		waits, err := dir.Move(ctx, m.ID)
		if err != nil || waits.Phase != directory.Planned || !strings.Contains(waits.Error, "the tenant is on c at epoch 7") {
			t.Errorf("got %s (%q), %v, want why it waits", waits.Phase, waits.Error, err)
		}
		if n := times.Load(); n > 500 || n < 50 {
			t.Errorf("asked %d times in an hour", n)
		}
		if rests := metric(t, v, "move_rests_total").GetCounter().GetValue(); rests == 0 {
			t.Error("it has never rested")
		}
		if m, err = settle(ctx, dir, m.ID); err != nil || m.Phase != directory.Aborted || m.Error != "cancelled" {
			t.Errorf("when it is taken: got %s (%q), %v", m.Phase, m.Error, err)
		}
		cancel()
		synctest.Wait()
		if !strings.Contains(log.String(), "action=abort") {
			t.Errorf("the log says nothing of it: %s", &log)
		}
	})
}

// TestARefusedDecisionIsNotWaitedFor: the tenant, who is frozen, is served by the source again.
func TestARefusedDecisionIsNotWaitedFor(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		w := newWorld(func() fault { return none })
		dir, m := moving(t, directory.NewMove{})
		var times atomic.Int32
		v := mover.New(settings("m1"), refusing{dir, directory.Decided, time.Now().Add(time.Hour), &times},
			func(c directory.Cell) mover.Cell { return w.cells[c.ID] }, slog.New(slog.DiscardHandler))
		go func() { _ = v.Run(ctx) }()
		m, err := settle(ctx, dir, m.ID)
		if err != nil || m.Phase != directory.Aborted || m.RetriedBy != "" || !strings.Contains(m.Error, "the tenant is on c at epoch 7") || times.Load() != 1 {
			t.Errorf("got %s (%q), tried again by %q, %v, refused %d times", m.Phase, m.Error, m.RetriedBy, err, times.Load())
		}
		if f := w.cells["a"].fence; f.State != fence.Active || f.Epoch != 3 {
			t.Errorf("the source's fence: %+v", f)
		}
	})
}

// An absentTarget answers nothing, until it is back.
type absentTarget struct {
	silentCell
}

func (c absentTarget) Reserve(ctx context.Context, m transfer.Move) error {
	if err := c.answer(ctx); err != nil {
		return err
	}
	return c.fakeCell.Reserve(ctx, m)
}

// TestAPlannedMoveEndsWithoutACordonedCell: a move that has not begun ends where its target does not answer and an
// operator has said that nobody is to go there; the tenant may go elsewhere. One that is only cancelled waits for its
// target, and says so. The source serves in both.
func TestAPlannedMoveEndsWithoutACordonedCell(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		known  bool // to the mover, that the target is silent
		cordon bool
		want   directory.Phase
		why    string
	}{
		"cordoned before it is asked": {false, true, directory.Aborted, "cell b is cordoned"},
		"cordoned while it is silent": {true, true, directory.Aborted, "cell b is cordoned"},
		"cancelled":                   {true, false, directory.Aborting, "cancelled; not ended yet: "},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				w := newWorld(func() fault { return none })
				dir, m := moving(t, directory.NewMove{Planned: true})
				back := time.Now().Add(3 * time.Hour)
				v := newMover(settings("m1"), dir, func(c *fakeCell, _ *directorytest.Memory) mover.Cell {
					if c.id == "b" {
						return absentTarget{silentCell{c, errNet, &back}}
					}
					return c
				}, w)
				start := func() { go func() { _ = v.Run(ctx) }() }
				if tt.known {
					start()
					time.Sleep(10 * time.Minute) // virtual
				}
				var err error
				if tt.cordon {
					_, err = dir.SetCellState(ctx, "b", directory.Cordoned)
				} else {
					_, err = dir.AskMove(ctx, m.ID, directory.Cancel)
				}
				if err != nil {
					t.Fatal(err)
				}
				if !tt.known {
					start()
				}
				time.Sleep(10 * time.Minute) // virtual
				if m, err = dir.Move(ctx, m.ID); err != nil || m.Phase != tt.want || !strings.Contains(m.Error, tt.why) || m.RetriedBy != "" {
					t.Errorf("got %s (%q), %v, want %s (%q)", m.Phase, m.Error, err, tt.want, tt.why)
				}
				if f := w.cells["a"].fence; f.State != fence.Active || f.Epoch != 3 {
					t.Errorf("the source's fence: %+v", f)
				}
				if tt.cordon {
					return
				}
				time.Sleep(3 * time.Hour) // virtual
				if m, err = dir.Move(ctx, m.ID); err != nil || m.Phase != directory.Aborted || m.Error != "cancelled" {
					t.Errorf("when it is back: got %s (%q), %v", m.Phase, m.Error, err)
				}
			})
		})
	}
}
