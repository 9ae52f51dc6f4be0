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
	"github.com/cellway/cellway/directory/directorytest"
	"github.com/cellway/cellway/infra/problem"
)

// A pause is what tenant 1's cells and its directory do at the freeze.
type pause struct {
	freezeLost   bool          // the first freeze is done, and its answer lost
	recordFails  bool          // the first record of it is not written
	recordLost   bool          // it is written, and the answer lost
	busy         int           // how often transactions hold the freeze off
	dead         bool          // the target does not take the last round
	refuses      int           // how often the source does not hear the release
	forgets      time.Duration // how long it takes to remove what was noted
	forgot       bool
	began, ended atomic.Int64
}

// A pausing is a cell of tenant 1; about any other tenant it takes very long.
type pausing struct {
	*fakeCell
	p *pause
}

func (c pausing) Preflight(ctx context.Context, m transfer.Move, measure bool) (transfer.Report, error) {
	if m.Tenant != 1 {
		select {
		case <-time.After(30 * time.Second): // virtual
		case <-ctx.Done():
		}
		return transfer.Report{}, errNet
	}
	return c.fakeCell.Preflight(ctx, m, measure)
}

func (c pausing) Freeze(ctx context.Context, m transfer.Move, wait time.Duration) error {
	if c.p.busy--; c.p.busy >= 0 {
		time.Sleep(wait) // virtual
		return problem.New(problem.Unavailable, "its transactions did not end in time").With("step", "busy")
	}
	err := c.fakeCell.Freeze(ctx, m, wait)
	if c.p.began.CompareAndSwap(0, time.Now().UnixNano()) && c.p.freezeLost {
		return errNet
	}
	return err
}

func (c pausing) Pull(ctx context.Context, m transfer.Move, url string, final bool) (transfer.Received, error) {
	if final && c.p.dead {
		c.w.awaitFreeze(ctx, m)
		return transfer.Received{}, errNet
	}
	return c.fakeCell.Pull(ctx, m, url, final)
}

func (c pausing) Activate(ctx context.Context, m transfer.Move) error {
	defer c.p.ended.CompareAndSwap(0, time.Now().UnixNano())
	return c.fakeCell.Activate(ctx, m)
}

func (c pausing) Release(ctx context.Context, m transfer.Move) error {
	if c.p.refuses--; c.p.refuses >= 0 {
		return errNet
	}
	defer c.p.ended.CompareAndSwap(0, time.Now().UnixNano())
	return c.fakeCell.Release(ctx, m)
}

func (c pausing) Forget(ctx context.Context, m transfer.Move) error {
	select {
	case <-time.After(c.p.forgets): // virtual
	case <-ctx.Done():
		return errNet
	}
	c.p.forgot = true
	return c.fakeCell.Forget(ctx, m)
}

// A pausingDirectory loses the first record of a freeze.
type pausingDirectory struct {
	*directorytest.Memory
	p *pause
}

func (d pausingDirectory) Advance(ctx context.Context, m directory.Move, from directory.Phase) error {
	fails, answerLost := d.p.recordFails, d.p.recordLost
	if m.Phase != directory.Frozen || m.Phase == from || !fails && !answerLost {
		return d.Memory.Advance(ctx, m, from)
	}
	d.p.recordFails, d.p.recordLost = false, false
	if answerLost {
		_ = d.Memory.Advance(ctx, m, from)
	}
	return errNet
}

// TestAFrozenTenantKeepsItsMover: whatever is lost at the freeze, or fails when the
// source is to serve again, the move keeps its slot and its lease until the tenant is
// served: another move, that waits for the slot, takes very long.
func TestAFrozenTenantKeepsItsMover(t *testing.T) {
	t.Parallel()
	for name, p := range map[string]*pause{
		"the freeze's answer is lost":          {freezeLost: true},
		"the freeze is not recorded":           {recordFails: true},
		"the answer to the record is lost":     {recordLost: true},
		"the freeze's answer, and the target":  {freezeLost: true, dead: true},
		"the source does not hear the release": {dead: true, refuses: 3},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				w := newWorld(func() fault { return none })
				dir, m := moving(t, directory.NewMove{Attempts: 1, Watch: time.Hour})
				if _, err := dir.CreateTenant(ctx, directory.NewTenant{Slug: "other", Cell: "a"}); err != nil {
					t.Fatal(err)
				}
				if _, err := dir.CreateMove(ctx, directory.NewMove{Tenant: 2, Target: "b"}); err != nil {
					t.Fatal(err)
				}
				v := mover.New(settings("m1"), pausingDirectory{dir, p}, func(c directory.Cell) mover.Cell { return pausing{w.cells[c.ID], p} },
					slog.New(slog.DiscardHandler))
				go func() { _ = v.Run(ctx) }()
				want := directory.Watching
				if p.dead {
					want = directory.Aborted
				}
				m, err := settle(ctx, dir, m.ID)
				if err != nil || m.Phase != want || m.Lease != 1 {
					t.Errorf("got %s (%s) under lease %d, %v, want %s under the first", m.Phase, m.Error, m.Lease, err, want)
				}
				if took := time.Duration(p.ended.Load() - p.began.Load()); took < 0 || took > time.Second {
					t.Errorf("the tenant waited %v", took)
				}
			})
		})
	}
}

// A behind is a target whose rounds are short until it has caught up, and long then.
type behind struct {
	*fakeCell
	dir *directorytest.Memory
}

func (b behind) Pull(ctx context.Context, m transfer.Move, url string, final bool) (transfer.Received, error) {
	stored, err := b.dir.Move(ctx, m.ID)
	if err != nil {
		return transfer.Received{}, err
	}
	got, err := b.fakeCell.Pull(ctx, m, url, final)
	if stored.Phase == directory.CaughtUp {
		time.Sleep(200 * time.Millisecond) // virtual
		got.Took = 200 * time.Millisecond
	}
	return got, err
}

// TestAMoveThatCatchesUpNoMoreEnds: one that has caught up once does not make long
// rounds for ever.
func TestAMoveThatCatchesUpNoMoreEnds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := ends(t, directory.NewMove{Attempts: 1}, func(c *fakeCell, dir *directorytest.Memory) mover.Cell { return behind{c, dir} })
		if m.Phase != directory.Aborted || !m.Transient {
			t.Errorf("got %s (%s), want aborted by a bound", m.Phase, m.Error)
		}
	})
}

// A slowRedis is a target whose rounds are short, but not the answers about them.
type slowRedis struct{ *fakeCell }

func (s slowRedis) Pull(ctx context.Context, m transfer.Move, url string, final bool) (transfer.Received, error) {
	got, err := s.fakeCell.Pull(ctx, m, url, final)
	time.Sleep(100 * time.Millisecond) // virtual
	got.Took = time.Millisecond
	return got, err
}

// TestASlowRedisKeepsNoMoveFromCatchingUp: what counts is how long the rows take.
func TestASlowRedisKeepsNoMoveFromCatchingUp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := ends(t, directory.NewMove{Attempts: 1}, func(c *fakeCell, _ *directorytest.Memory) mover.Cell { return slowRedis{c} })
		if m.Phase != directory.Watching {
			t.Errorf("got %s (%s), want it to arrive", m.Phase, m.Error)
		}
	})
}

// An altered is a cell that gets another schema after it was looked at first.
type altered struct {
	*fakeCell
	looks *atomic.Int32
}

func (a altered) Preflight(ctx context.Context, m transfer.Move, measure bool) (transfer.Report, error) {
	r, err := a.fakeCell.Preflight(ctx, m, measure)
	if a.looks.Add(1) > 2 { // once at each cell
		r.Fingerprint = "another"
	}
	return r, err
}

// TestCellsAlteredUnderAMoveEndIt: before the freeze, also where both are altered alike.
func TestCellsAlteredUnderAMoveEndIt(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var looks atomic.Int32
		m := ends(t, directory.NewMove{}, func(c *fakeCell, _ *directorytest.Memory) mover.Cell { return altered{c, &looks} })
		if m.Phase != directory.Aborted || m.Transient || !strings.Contains(m.Error, "was altered") {
			t.Errorf("got %s (%s), want aborted for good", m.Phase, m.Error)
		}
	})
}

// An endless is a target whose rounds do not end by themselves.
type endless struct{ *fakeCell }

func (endless) Pull(ctx context.Context, _ transfer.Move, _ string, _ bool) (transfer.Received, error) {
	<-ctx.Done()
	return transfer.Received{}, ctx.Err()
}

// A thorough is a target whose checks do not end by themselves.
type thorough struct{ *fakeCell }

func (thorough) Verify(ctx context.Context, _ transfer.Move) ([]transfer.Finding, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

// TestACancelIsHeardDuringLongWork: what was cancelled is not copied, or checked, to its end first.
func TestACancelIsHeardDuringLongWork(t *testing.T) {
	t.Parallel()
	for name, open := range map[string]func(*fakeCell, *directorytest.Memory) mover.Cell{
		"a copy":  func(c *fakeCell, _ *directorytest.Memory) mover.Cell { return endless{c} },
		"a check": func(c *fakeCell, _ *directorytest.Memory) mover.Cell { return thorough{c} },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				began := time.Now()
				m := ends(t, directory.NewMove{}, open, directory.Cancel)
				if took := time.Since(began); m.Phase != directory.Aborted || m.Error != "cancelled" || took > time.Minute {
					t.Errorf("got %s (%s) after %v, want cancelled at once", m.Phase, m.Error, took)
				}
			})
		})
	}
}

// ends is how a move ends, or watches, whose cells are as open makes them, and for
// which the operator has those wishes after ten seconds.
func ends(t *testing.T, n directory.NewMove, open func(*fakeCell, *directorytest.Memory) mover.Cell, wishes ...directory.Wish) directory.Move {
	t.Helper()
	return endsOf(t, settings("m1"), n, open, wishes...)
}

// newMover is a mover of w's cells as open makes them.
func newMover(cfg mover.Config, dir *directorytest.Memory, open func(*fakeCell, *directorytest.Memory) mover.Cell, w *world) *mover.Mover {
	return mover.New(cfg, dir, func(c directory.Cell) mover.Cell { return open(w.cells[c.ID], dir) }, slog.New(slog.DiscardHandler))
}

// endsOf is ends with a mover of other settings.
func endsOf(t *testing.T, cfg mover.Config, n directory.NewMove, open func(*fakeCell, *directorytest.Memory) mover.Cell, wishes ...directory.Wish) directory.Move {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	w := newWorld(func() fault { return none })
	dir, m := moving(t, n)
	v := newMover(cfg, dir, open, w)
	go func() { _ = v.Run(ctx) }()
	for _, wish := range wishes {
		time.Sleep(10 * time.Second) // virtual
		if _, err := dir.AskMove(ctx, m.ID, wish); err != nil {
			t.Fatal(err)
		}
	}
	m, err := settle(ctx, dir, m.ID)
	if err != nil {
		t.Fatal(err)
	}
	tenant, err := dir.Tenant(ctx, "acme")
	if err != nil {
		t.Fatal(err)
	}
	if err := w.check(tenant.Placement); err != nil {
		t.Error(err)
	}
	return m
}
