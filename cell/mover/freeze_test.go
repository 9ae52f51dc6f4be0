package mover_test

import (
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

// A dying is a source whose mover dies when it is about to freeze it.
type dying struct {
	*fakeCell
	die func()
}

func (d dying) Freeze(ctx context.Context, _ transfer.Move, _ time.Duration) error {
	d.die()
	return ctx.Err()
}

// leftFrozen is a move whose mover has died between the record of the freeze and the freeze. Tenants of so many bytes
// it copies in their pause.
func leftFrozen(t *testing.T, w *world, small int64) (*directorytest.Memory, directory.Move) {
	t.Helper()
	cfg := settings("m1")
	cfg.Limits.SmallBytes = small
	dir, m := moving(t, directory.NewMove{Attempts: 1, Watch: time.Hour})
	life, die := context.WithCancel(t.Context())
	defer die()
	v := mover.New(cfg, dir, func(c directory.Cell) mover.Cell { return dying{w.cells[c.ID], die} }, slog.New(slog.DiscardHandler))
	if err := v.Run(life); err != nil {
		t.Fatal(err)
	}
	left, err := dir.Move(t.Context(), m.ID)
	if f := w.cells["a"].fence; err != nil || left.Phase != directory.Frozen || f.State != fence.Active {
		t.Fatalf("left at %s with a fence that is %s, %v", left.Phase, f.State, err)
	}
	return dir, m
}

// TestARecordedFreezeIsMade: the record of a freeze comes before it, so a mover that takes
// over where it was not made makes it, as carefully as if it were the first: the tenant was
// served meanwhile, and the copy is as old as the other mover's death.
func TestARecordedFreezeIsMade(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		w := newWorld(func() fault { return none })
		dir, m := leftFrozen(t, w, 0)
		var looks atomic.Int32
		var early atomic.Bool
		second := mover.New(settings("m2"), dir, func(c directory.Cell) mover.Cell { return careful{w.cells[c.ID], &looks, &early} }, slog.New(slog.DiscardHandler))
		go func() { _ = second.Run(ctx) }()
		if m, err := settle(ctx, dir, m.ID); err != nil || m.Phase != directory.Watching {
			t.Errorf("got %s (%s), %v, want it to arrive", m.Phase, m.Error, err)
		}
		if early.Load() {
			t.Error("frozen before both cells were looked at and a round was made")
		}
	})
}

// A careful notes a freeze that comes before both cells were looked at and a round was made.
type careful struct {
	*fakeCell
	looks *atomic.Int32
	early *atomic.Bool
}

func (c careful) Preflight(ctx context.Context, m transfer.Move, measure bool) (transfer.Report, error) {
	c.looks.Add(1)
	return c.fakeCell.Preflight(ctx, m, measure)
}

func (c careful) Pull(ctx context.Context, m transfer.Move, url string, final bool) (transfer.Received, error) {
	if !final {
		c.looks.Add(1)
	}
	return c.fakeCell.Pull(ctx, m, url, final)
}

func (c careful) Freeze(ctx context.Context, m transfer.Move, wait time.Duration) error {
	if c.looks.Load() < 3 {
		c.early.Store(true)
	}
	return c.fakeCell.Freeze(ctx, m, wait)
}

// A busy is a source whose tenant's transactions hold the freeze off a few times, and which
// notes where the record says nothing of that when the next freeze comes.
type busy struct {
	*fakeCell
	dir          *directorytest.Memory
	tries, times *atomic.Int32
	untold       *atomic.Bool
}

func (b busy) Freeze(ctx context.Context, m transfer.Move, wait time.Duration) error {
	try := b.tries.Add(1)
	if stored, err := b.dir.Move(ctx, m.ID); err != nil || try > 1 && !strings.Contains(stored.Error, "did not end in time") {
		b.untold.Store(true)
	}
	if try <= b.times.Load() {
		time.Sleep(wait) // virtual
		return problem.New(problem.Unavailable, "its transactions did not end in time").With("step", "busy")
	}
	return b.fakeCell.Freeze(ctx, m, wait)
}

// TestABusyTenantIsFrozenLater: a freeze that does not get through is tried again after another
// round, is told from the first time on, costs the tenant no pause budget, and ends the move
// when it fails too often.
func TestABusyTenantIsFrozenLater(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		times int32
		small int64
		want  directory.Phase
	}{
		"a few times": {5, 0, directory.Watching}, "for ever": {100, 0, directory.Aborted},
		"a small one, a few times": {5, 1 << 40, directory.Watching}, "a small one, for ever": {100, 1 << 40, directory.Aborted},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var tries, times atomic.Int32
				var untold atomic.Bool
				times.Store(tt.times)
				cfg := settings("m1")
				cfg.Limits.SmallBytes = tt.small
				m := endsOf(t, cfg, directory.NewMove{Attempts: 1, Watch: time.Hour},
					func(c *fakeCell, dir *directorytest.Memory) mover.Cell { return busy{c, dir, &tries, &times, &untold} })
				if untold.Load() {
					t.Error("the record did not say why the move waits")
				}
				if m.Phase != tt.want || m.Phase == directory.Aborted && (!m.Transient || !strings.Contains(m.Error, "freezes")) {
					t.Errorf("got %s (%s), want %s", m.Phase, m.Error, tt.want)
				}
			})
		})
	}
}

// A deaf is a cell that refuses the first question for a last round, and notes when, and
// when the tenant is frozen.
type deaf struct {
	*fakeCell
	refused, frozen *atomic.Int64
}

func (d deaf) Pull(ctx context.Context, m transfer.Move, url string, final bool) (transfer.Received, error) {
	if final && d.refused.CompareAndSwap(0, time.Now().UnixNano()) {
		return transfer.Received{}, errNet
	}
	return d.fakeCell.Pull(ctx, m, url, final)
}

func (d deaf) Freeze(ctx context.Context, m transfer.Move, wait time.Duration) error {
	d.frozen.CompareAndSwap(0, time.Now().UnixNano())
	return d.fakeCell.Freeze(ctx, m, wait)
}

// A slowDirectory takes a while to record a freeze.
type slowDirectory struct{ *directorytest.Memory }

const slowRecord = 10 * time.Millisecond

func (d slowDirectory) Advance(ctx context.Context, m directory.Move, from directory.Phase) error {
	if m.Phase == directory.Frozen && from != m.Phase {
		time.Sleep(slowRecord) // virtual
	}
	return d.Memory.Advance(ctx, m, from)
}

// TestAFailedQuestionFreezesNobody: where the question for the last round has failed while the
// directory recorded the freeze, the freeze waits for the next attempt.
func TestAFailedQuestionFreezesNobody(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		w := newWorld(func() fault { return none })
		dir, m := moving(t, directory.NewMove{Attempts: 1, Watch: time.Hour})
		var refused, frozen atomic.Int64
		v := mover.New(settings("m1"), slowDirectory{dir}, func(c directory.Cell) mover.Cell { return deaf{w.cells[c.ID], &refused, &frozen} },
			slog.New(slog.DiscardHandler))
		go func() { _ = v.Run(ctx) }()
		m, err := settle(ctx, dir, m.ID)
		if err != nil || m.Phase != directory.Watching {
			t.Fatalf("got %s (%s), %v, want it to arrive", m.Phase, m.Error, err)
		}
		if after := time.Duration(frozen.Load() - refused.Load()); after <= slowRecord {
			t.Errorf("frozen %v after the question was refused: in the same attempt", after)
		}
	})
}
