package mover_test

import (
	"context"
	"encoding/json"
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
)

// A released is a cell that comes to another release, of another schema.
type released struct {
	*fakeCell
	as       *releases
	reserved *transfer.Move
}

// releases is which cells have come to it.
type releases struct {
	a, b      atomic.Bool
	meanwhile atomic.Bool // b does while copies are compared
	deaf      atomic.Bool // the answer to the next round is lost
	stale     atomic.Bool // a has what it noted before it gave the tenant away
	rewritten atomic.Bool // a table of b is, and its schema is as it was
}

func (r *releases) of(c directory.CellID) *atomic.Bool {
	if c == "a" {
		return &r.a
	}
	return &r.b
}

func (c released) Preflight(ctx context.Context, m transfer.Move, measure bool) (transfer.Report, error) {
	r, err := c.fakeCell.Preflight(ctx, m, measure)
	if c.as.of(c.id).Load() {
		r.Fingerprint = "another"
	}
	r.Files = string(c.id)
	if c.id == "b" && c.as.rewritten.Load() {
		r.Files = "rewritten"
	}
	return r, err
}

func (c released) Reserve(ctx context.Context, m transfer.Move) error {
	*c.reserved = m
	return c.fakeCell.Reserve(ctx, m)
}

func (c released) Pull(ctx context.Context, m transfer.Move, url string, final bool) (transfer.Received, error) {
	got, err := c.fakeCell.Pull(ctx, m, url, final)
	if c.as.deaf.CompareAndSwap(true, false) {
		return transfer.Received{}, errNet
	}
	return got, err
}

func (c released) Kept(ctx context.Context, m transfer.Move, keys map[string]json.RawMessage) (map[string]transfer.Digest, error) {
	if c.as.meanwhile.Load() {
		c.as.b.Store(true)
	}
	return c.fakeCell.Kept(ctx, m, keys)
}

func (c released) Retire(ctx context.Context, m transfer.Move) error {
	if c.id == "a" {
		c.as.stale.Store(true)
	}
	return c.fakeCell.Retire(ctx, m)
}

func (c released) Forget(ctx context.Context, m transfer.Move) error {
	if f, err := c.Fence(ctx, m.Tenant); err == nil && c.id == "a" && !f.Capture {
		c.as.stale.Store(false)
	}
	return c.fakeCell.Forget(ctx, m)
}

// reported is what the mover has told of a move.
func reported(t *testing.T, m directory.Move) (r mover.Report) {
	t.Helper()
	if err := json.Unmarshal(m.Report, &r); err != nil {
		t.Fatal(err)
	}
	return r
}

// watches makes a move that watches, of two cells that may come to another release. Its mover ends with ctx.
func watches(ctx context.Context, t *testing.T, w *world, as *releases, reserved *transfer.Move) (*directorytest.Memory, directory.Move) {
	t.Helper()
	dir, m := moving(t, directory.NewMove{Watch: 24 * time.Hour})
	days := settings("m1")
	days.Poll = 5 * time.Second // virtual days of it cost real minutes
	v := newMover(days, dir, func(c *fakeCell, _ *directorytest.Memory) mover.Cell { return released{c, as, reserved} }, w)
	go func() { _ = v.Run(ctx) }()
	m, err := settle(ctx, dir, m.ID)
	if err != nil || m.Phase != directory.Watching {
		t.Fatalf("got %s (%s), %v", m.Phase, m.Error, err)
	}
	return dir, m
}

// TestAnUndoOverAnotherSchemaCopiesEverything: it begins with the copy that was kept only where that is known to be
// what the switch has left, but for the keys that were noted.
func TestAnUndoOverAnotherSchemaCopiesEverything(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		since func(*world, *releases)
		whole bool
	}{
		"as it was": {since: func(*world, *releases) {}},
		"both cells altered": {whole: true, since: func(_ *world, as *releases) {
			as.a.Store(true)
			as.b.Store(true)
		}},
		"both cells altered, and the copy's answer lost": {whole: true, since: func(_ *world, as *releases) {
			as.a.Store(true)
			as.b.Store(true)
			as.deaf.Store(true)
		}},
		"a table rewritten": {whole: true, since: func(_ *world, as *releases) { as.rewritten.Store(true) }},
		"copies that differ": {whole: true, since: func(w *world, _ *releases) {
			w.damaged.Store(true)
			time.Sleep(2 * time.Minute) // virtual: compared
		}},
		"copies that differ, and could not be compared since": {whole: true, since: func(w *world, as *releases) {
			w.damaged.Store(true)
			time.Sleep(2 * time.Minute) // virtual: compared
			as.a.Store(true)
			time.Sleep(7 * time.Hour) // virtual: and again
			as.a.Store(false)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var as releases
				var reserved transfer.Move
				w := newWorld(func() fault { return none })
				dir, m := watches(t.Context(), t, w, &as, &reserved)
				tt.since(w, &as)
				back, err := dir.CreateMove(t.Context(), directory.NewMove{Tenant: 1, Target: "a", Undoes: m.ID, Watch: time.Hour})
				if err != nil {
					t.Fatal(err)
				}
				if back, err = settle(t.Context(), dir, back.ID); err != nil || back.Phase != directory.Watching {
					t.Fatalf("got %s (%s), %v", back.Phase, back.Error, err)
				}
				if whole := reserved.Undoes == ""; whole != tt.whole || reported(t, back).Whole != tt.whole {
					t.Errorf("reserved for a whole copy: %v, made one: %v, want %v", whole, reported(t, back).Whole, tt.whole)
				}
				if as.stale.Load() {
					t.Error("the target has kept what it noted when it was the source: an undo of the undo would bring that again")
				}
				tenant, err := dir.Tenant(t.Context(), "acme")
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

// A damning is a directory that tells of damage in the move undone, once somebody has found it.
type damning struct {
	*directorytest.Memory
	undone directory.MoveID
	found  *atomic.Bool
}

func (d damning) Move(ctx context.Context, id directory.MoveID) (directory.Move, error) {
	m, err := d.Memory.Move(ctx, id)
	if err == nil && id == d.undone && d.found.Load() {
		m.Report = []byte(`{"schema":"same","comparison":{"differ":["projects.task"]}}`)
	}
	return m, err
}

// A scrubbed is a cell whose copies are known to differ once it is armed.
type scrubbed struct {
	*fakeCell
	found *atomic.Bool
}

func (c scrubbed) Arm(ctx context.Context, m transfer.Move, wait time.Duration) error {
	c.found.Store(true)
	return c.fakeCell.Arm(ctx, m, wait)
}

// TestAnUndoEndsWhereItsCopyIsFoundToDiffer: a comparison that was under way when the undo began with the kept copy
// has found damage. The undo is not switched to it.
func TestAnUndoEndsWhereItsCopyIsFoundToDiffer(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(func() fault { return none })
		begin, stop := context.WithCancel(t.Context())
		dir, m := watches(begin, t, w, new(releases), new(transfer.Move))
		stop()
		var found atomic.Bool
		v := mover.New(settings("m2"), damning{dir, m.ID, &found}, func(c directory.Cell) mover.Cell { return scrubbed{w.cells[c.ID], &found} }, slog.New(slog.DiscardHandler))
		go func() { _ = v.Run(t.Context()) }()
		back, err := dir.CreateMove(t.Context(), directory.NewMove{Tenant: 1, Target: "a", Undoes: m.ID, Watch: time.Hour})
		if err != nil {
			t.Fatal(err)
		}
		if back, err = settle(t.Context(), dir, back.ID); err != nil || back.Phase != directory.Aborted || back.Transient || !strings.Contains(back.Error, "undo again") {
			t.Errorf("got %s (%s), transient %v, %v; want it aborted for good", back.Phase, back.Error, back.Transient, err)
		}
	})
}

// TestCellsOfTwoReleasesAreNotCompared: rows are damaged where they differ under one schema, the switch's. Under
// two nothing is said, and the watch ends by itself; under another one only that they are equal.
func TestCellsOfTwoReleasesAreNotCompared(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		a, b, meanwhile bool
		rewritten       bool
		equal           bool
		differ          bool
		failed          string
	}{
		"one release":                         {differ: true},
		"one cell altered":                    {b: true, failed: "the schemas of a and b differ"},
		"one cell altered while it is hashed": {meanwhile: true, failed: "the schemas of a and b differ"},
		"a table rewritten since the switch":  {rewritten: true, failed: "rewritten since the switch"},
		"both altered since the switch":       {a: true, b: true, failed: "altered since the switch"},
		"both altered, and equal":             {a: true, b: true, equal: true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var as releases
				w := newWorld(func() fault { return none })
				dir, m := watches(t.Context(), t, w, &as, new(transfer.Move))
				as.a.Store(tt.a)
				as.b.Store(tt.b)
				as.meanwhile.Store(tt.meanwhile)
				as.rewritten.Store(tt.rewritten)
				w.damaged.Store(!tt.equal)
				time.Sleep(2 * time.Minute) // virtual
				m, err := dir.Move(t.Context(), m.ID)
				if err != nil {
					t.Fatal(err)
				}
				got := reported(t, m)
				if got.Compared.IsZero() || len(got.Comparison.Differ) > 0 != tt.differ || !strings.Contains(got.Comparison.Failed, tt.failed) || tt.failed == "" && got.Comparison.Failed != "" {
					t.Errorf("compared at %v: got %+v", got.Compared, got.Comparison)
				}
				if stopped := m.WatchEnds.IsZero(); stopped != tt.differ {
					t.Errorf("waits for its operator: got %v, want %v", stopped, tt.differ)
				}
				if w.compared.Load() == 0 != (tt.a != tt.b) {
					t.Errorf("hashed %d times", w.compared.Load())
				}
			})
		})
	}
}

// TestWhoAsksToVerifyTwoReleasesIsTold: an operator's comparison of cells of two releases is answered, and not tried for as
// long as that takes; the watch goes on, also where it was about to end, and ends when both are of one.
func TestWhoAsksToVerifyTwoReleasesIsTold(t *testing.T) {
	t.Parallel()
	for name, over := range map[string]bool{"in the watch": false, "at its end": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var as releases
				w := newWorld(func() fault { return none })
				dir, m := watches(t.Context(), t, w, &as, new(transfer.Move))
				as.b.Store(true)
				if over {
					if _, err := dir.AskMove(t.Context(), m.ID, directory.Close); err != nil {
						t.Fatal(err)
					}
				}
				if _, err := dir.AskMove(t.Context(), m.ID, directory.Verify); err != nil {
					t.Fatal(err)
				}
				time.Sleep(5 * time.Minute) // virtual
				m, err := dir.Move(t.Context(), m.ID)
				if err != nil {
					t.Fatal(err)
				}
				if got := reported(t, m); m.Wish != directory.Proceed || m.Phase != directory.Watching || !strings.Contains(got.Comparison.Failed, "the schemas of a and b differ") || m.StopAt != "" {
					t.Errorf("got %s, wish %q, stops at %q, %+v", m.Phase, m.Wish, m.StopAt, got.Comparison)
				}
				as.a.Store(true)
				time.Sleep(49 * time.Hour) // virtual
				if m, err = dir.Move(t.Context(), m.ID); err != nil || m.Phase != directory.Completed {
					t.Errorf("got %s (%s), %v, want completed", m.Phase, m.Error, err)
				}
			})
		})
	}
}
