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

// A stopped is a target that cannot be verified, while a mover that was stopped before its
// freeze goes on and makes it.
type stopped struct {
	*fakeCell
	at *atomic.Int64
}

func (s stopped) Verify(ctx context.Context, m transfer.Move) ([]transfer.Finding, error) {
	if s.at.CompareAndSwap(0, time.Now().UnixNano()) {
		_ = s.w.cells[m.Source].Freeze(ctx, m, 0)
	}
	return nil, errNet
}

// TestALateFreezeHasABudget: a mover that was stopped before its freeze may make it when
// another one has looked, and prepares its own. That one notices, and the tenant waits no longer
// than the budget.
func TestALateFreezeHasABudget(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		w := newWorld(func() fault { return none })
		dir, m := leftFrozen(t, w, 0)
		var at atomic.Int64
		second := mover.New(settings("m2"), dir, func(c directory.Cell) mover.Cell { return stopped{w.cells[c.ID], &at} }, slog.New(slog.DiscardHandler))
		go func() { _ = second.Run(ctx) }()
		m, err := settle(ctx, dir, m.ID)
		took := time.Since(time.Unix(0, at.Load()))
		if err != nil || m.Phase != directory.Watching && m.Phase != directory.Aborted {
			t.Fatalf("got %s (%s), %v", m.Phase, m.Error, err)
		}
		if f := w.cells["a"].fence.State; f == fence.Frozen || took > 2*time.Second {
			t.Errorf("the tenant is %s, after %v", f, took)
		}
	})
}

// A migrated is a cell whose schema is another one since it was altered.
type migrated struct {
	*fakeCell
	since *atomic.Bool
	files bool // its schema is the same, and its tables were rewritten
}

func (a migrated) Preflight(ctx context.Context, m transfer.Move, measure bool) (transfer.Report, error) {
	r, err := a.fakeCell.Preflight(ctx, m, measure)
	switch {
	case !a.since.Load():
		r.Files = "as they were"
	case a.files:
		r.Files = "rewritten"
	default:
		r.Fingerprint = "another"
	}
	return r, err
}

// Freeze is refused the first time, and both cells are altered meanwhile.
func (a migrated) Freeze(ctx context.Context, m transfer.Move, wait time.Duration) error {
	if a.since.CompareAndSwap(false, true) {
		return problem.New(problem.Unavailable, "its transactions did not end in time").With("step", "busy")
	}
	return a.fakeCell.Freeze(ctx, m, wait)
}

// TestNoMoveGoesOnOverAnotherSchema: neither where both cells were altered after a freeze that
// was refused, nor where they were before another mover took over.
func TestNoMoveGoesOnOverAnotherSchema(t *testing.T) {
	t.Parallel()
	ended := func(t *testing.T, m directory.Move, why string) {
		t.Helper()
		if m.Phase != directory.Aborted || !strings.Contains(m.Error, why) {
			t.Errorf("got %s (%s), want it aborted", m.Phase, m.Error)
		}
	}
	for why, files := range map[string]bool{"altered during the move": false, "rewritten during the move": true} {
		t.Run("refused: "+why, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var since atomic.Bool
				ended(t, endsOf(t, settings("m1"), directory.NewMove{Attempts: 1, Watch: time.Hour},
					func(c *fakeCell, _ *directorytest.Memory) mover.Cell { return migrated{c, &since, files} }), why)
			})
		})
	}
	for name, small := range map[string]int64{"taken over": 0, "a small one taken over": 1 << 40} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				w := newWorld(func() fault { return none })
				dir, m := leftFrozen(t, w, small)
				var since atomic.Bool
				since.Store(true)
				second := mover.New(settings("m2"), dir, func(c directory.Cell) mover.Cell { return migrated{w.cells[c.ID], &since, false} }, slog.New(slog.DiscardHandler))
				go func() { _ = second.Run(ctx) }()
				m, err := settle(ctx, dir, m.ID)
				if err != nil {
					t.Fatal(err)
				}
				ended(t, m, "altered during the move")
			})
		})
	}
}

// TestAMoveOverARewrittenTableIsTriedAgain: VACUUM FULL or the like, at a moment when the move had caught up, ends the attempt and
// not the move: the next one copies everything, and arrives. A schema that was altered ends it for good.
func TestAMoveOverARewrittenTableIsTriedAgain(t *testing.T) {
	t.Parallel()
	for name, files := range map[string]bool{"rewritten": true, "altered": false} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				w := newWorld(func() fault { return none })
				dir, m := moving(t, directory.NewMove{Watch: time.Hour})
				var since atomic.Bool
				v := mover.New(settings("m1"), dir, func(c directory.Cell) mover.Cell { return migrated{w.cells[c.ID], &since, files} }, slog.New(slog.DiscardHandler))
				go func() { _ = v.Run(ctx) }()
				m, err := settle(ctx, dir, m.ID)
				if err != nil || m.Phase != directory.Aborted || m.Transient != files || (m.RetriedBy != "") != files {
					t.Fatalf("got %s (%s), transient %v, tried again by %q, %v", m.Phase, m.Error, m.Transient, m.RetriedBy, err)
				}
				if !files {
					return
				}
				if m, err = settle(ctx, dir, m.RetriedBy); err != nil || m.Phase != directory.Watching {
					t.Fatalf("tried again: got %s (%s), %v", m.Phase, m.Error, err)
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

// An impatient notes how long the tenant's lock is waited for: behind that wait, the
// tenant's own requests wait.
type impatient struct {
	*fakeCell
	longest *atomic.Int64
}

func (i impatient) note(wait time.Duration) {
	i.longest.Store(max(i.longest.Load(), int64(wait)))
}

func (i impatient) Arm(ctx context.Context, m transfer.Move, wait time.Duration) error {
	i.note(wait)
	return i.fakeCell.Arm(ctx, m, wait)
}

func (i impatient) Freeze(ctx context.Context, m transfer.Move, wait time.Duration) error {
	i.note(wait)
	return i.fakeCell.Freeze(ctx, m, wait)
}

func (i impatient) Disarm(ctx context.Context, m transfer.Move, wait time.Duration) error {
	i.note(wait)
	return i.fakeCell.Disarm(ctx, m, wait)
}

// TestNoLockIsWaitedForLong: to arm, to freeze and to disarm.
func TestNoLockIsWaitedForLong(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var longest atomic.Int64
		cfg := settings("m1")
		cfg.Limits.FreezeWait = 120 * time.Millisecond
		endsOf(t, cfg, directory.NewMove{Attempts: 1, Watch: time.Hour},
			func(c *fakeCell, _ *directorytest.Memory) mover.Cell { return impatient{c, &longest} }, directory.Complete)
		if got := time.Duration(longest.Load()); got != cfg.Limits.FreezeWait {
			t.Errorf("got %v, want %v", got, cfg.Limits.FreezeWait)
		}
	})
}

// An unarmed is a source whose tenant always has a transaction open.
type unarmed struct{ *fakeCell }

func (u unarmed) Arm(_ context.Context, _ transfer.Move, wait time.Duration) error {
	time.Sleep(wait) // virtual
	return problem.New(problem.Unavailable, "its transactions did not end in time").With("step", "busy")
}

// TestATenantThatIsNeverQuietIsNotArmedForEver: its requests wait behind each try, so there is an
// end to them, and another attempt later.
func TestATenantThatIsNeverQuietIsNotArmedForEver(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := ends(t, directory.NewMove{Attempts: 1, Watch: time.Hour}, func(c *fakeCell, _ *directorytest.Memory) mover.Cell { return unarmed{c} })
		if m.Phase != directory.Aborted || !m.Transient || !strings.Contains(m.Error, "tries to arm") {
			t.Errorf("got %s (%s), want it aborted for now", m.Phase, m.Error)
		}
	})
}
