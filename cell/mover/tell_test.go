package mover_test

import (
	"context"
	"io"
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

// A silent is a cell that does not answer one of the questions until it wakes.
type silent struct {
	*fakeCell
	to    directory.Phase // the question's answer would lead there
	awake *atomic.Bool
}

func (s silent) hears(to directory.Phase) error {
	if s.to == to && !s.awake.Load() {
		return errNet
	}
	return nil
}

func (s silent) Preflight(ctx context.Context, m transfer.Move, measure bool) (transfer.Report, error) {
	if err := s.hears(directory.Reserved); err != nil {
		return transfer.Report{}, err
	}
	return s.fakeCell.Preflight(ctx, m, measure)
}

func (s silent) Activate(ctx context.Context, m transfer.Move) error {
	if err := s.hears(directory.Activated); err != nil {
		return err
	}
	return s.fakeCell.Activate(ctx, m)
}

func (s silent) Purge(ctx context.Context, m transfer.Move) (int64, error) {
	if err := s.hears(directory.Completed); err != nil {
		return 0, err
	}
	return s.fakeCell.Purge(ctx, m)
}

// A told counts what movers record.
type told struct {
	*directorytest.Memory
	times atomic.Int32
}

func (d *told) Advance(ctx context.Context, m directory.Move, from directory.Phase) error {
	d.times.Add(1)
	return d.Memory.Advance(ctx, m, from)
}

// TestAMoveThatWaitsSaysWhy: the record tells, as long as a cell does not answer, why
// the move does not go on; it is written once, is no news to the audit, and is gone
// when the cell is back.
func TestAMoveThatWaitsSaysWhy(t *testing.T) {
	t.Parallel()
	for at, next := range map[directory.Phase]directory.Phase{
		directory.Planned:  directory.Reserved,
		directory.Decided:  directory.Activated,
		directory.Watching: directory.Completed,
	} {
		t.Run(string(at), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				w := newWorld(func() fault { return none })
				dir, m := moving(t, directory.NewMove{Watch: time.Hour})
				recorded, awake := &told{Memory: dir}, &atomic.Bool{}
				v := mover.New(settings("m1"), recorded, func(c directory.Cell) mover.Cell { return silent{w.cells[c.ID], next, awake} },
					slog.New(slog.NewTextHandler(io.Discard, nil)))
				go func() { _ = v.Run(ctx) }()
				time.Sleep(time.Minute) // virtual
				if at == directory.Watching {
					if _, err := dir.AskMove(ctx, m.ID, directory.Complete); err != nil {
						t.Fatal(err)
					}
					time.Sleep(time.Minute) // virtual
				}
				waits, err := dir.Move(ctx, m.ID)
				if err != nil || waits.Phase != at || !strings.Contains(waits.Error, "the network is down") {
					t.Errorf("got %s (%q), %v, want %s, with why it waits", waits.Phase, waits.Error, err, at)
				}
				lines, times := lastLine(t, dir), recorded.times.Load()
				time.Sleep(time.Minute) // virtual
				if got := lastLine(t, dir); got != lines || recorded.times.Load() != times {
					t.Errorf("told %d times more, and the audit is at line %d, want %d", recorded.times.Load()-times, got, lines)
				}
				if at == directory.Planned && (w.cells["a"].fence.Capture || w.cells["b"].fence.Epoch != 0) {
					t.Errorf("fences: got %+v and %+v, want nothing noted nor reserved", w.cells["a"].fence, w.cells["b"].fence)
				}
				awake.Store(true)
				time.Sleep(2 * time.Minute) // virtual: longer than it may rest
				after, err := dir.Move(ctx, m.ID)
				if err != nil || after.Phase == at || after.Error != "" {
					t.Errorf("when it answers: got %s (%q), %v", after.Phase, after.Error, err)
				}
			})
		})
	}
}

// lastLine is the newest audit line.
func lastLine(t *testing.T, dir directory.Directory) int64 {
	t.Helper()
	lines, err := dir.Audit(t.Context(), "", 0, 1000)
	if err != nil || len(lines) == 0 {
		t.Fatal(len(lines), err)
	}
	return lines[len(lines)-1].ID
}

// An other is a cell of another release.
type other struct {
	*fakeCell
	migrations string
}

func (o other) Preflight(context.Context, transfer.Move, bool) (transfer.Report, error) {
	return transfer.Report{Fingerprint: "another", Migrations: o.migrations}, nil
}

// TestCellsThatDifferEndTheMove: for good, before anything is noted or reserved.
func TestCellsThatDifferEndTheMove(t *testing.T) {
	t.Parallel()
	for migrations, want := range map[string]string{
		"":        "the schemas of a and b differ",
		"notes 2": "a has other migrations () than b (notes 2)",
	} {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			w := newWorld(func() fault { return none })
			dir, m := moving(t, directory.NewMove{})
			v := mover.New(settings("m1"), dir, func(c directory.Cell) mover.Cell {
				if c.ID == "b" {
					return other{w.cells[c.ID], migrations}
				}
				return w.cells[c.ID]
			}, slog.New(slog.NewTextHandler(io.Discard, nil)))
			go func() { _ = v.Run(ctx) }()
			m, err := settle(ctx, dir, m.ID)
			if err != nil || m.Phase != directory.Aborted || m.RetriedBy != "" || !strings.Contains(m.Error, want) {
				t.Errorf("got %s (%q), tried again by %q, %v, want aborted for good: %s", m.Phase, m.Error, m.RetriedBy, err, want)
			}
			tenant, err := dir.Tenant(ctx, "acme")
			if err != nil || tenant.Placement.Cell != "a" {
				t.Fatalf("got %+v, %v, want it on a", tenant.Placement, err)
			}
			if err := w.check(tenant.Placement); err != nil {
				t.Error(err)
			}
		})
	}
}

// An unsure is a target that does not say which rows have changed until it wakes.
type unsure struct {
	*fakeCell
	awake *atomic.Bool
}

func (d unsure) Unchanged(ctx context.Context, m transfer.Move) (transfer.Part, error) {
	if !d.awake.Load() {
		return transfer.Part{}, errNet
	}
	return d.fakeCell.Unchanged(ctx, m)
}

// TestAWatchThatIsClosedIsComparedFirst: who lets a watch end now has both copies compared
// before one is purged. While a cell does not answer nothing is purged, and the record
// tells why; what differs stays until an operator completes it by name.
func TestAWatchThatIsClosedIsComparedFirst(t *testing.T) {
	t.Parallel()
	for _, damaged := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			w := newWorld(func() fault { return none })
			dir, m := moving(t, directory.NewMove{Watch: time.Hour})
			awake := &atomic.Bool{}
			v := mover.New(settings("m1"), dir, func(c directory.Cell) mover.Cell { return unsure{w.cells[c.ID], awake} }, slog.New(slog.DiscardHandler))
			go func() { _ = v.Run(ctx) }()
			if m, _ = settle(ctx, dir, m.ID); m.Phase != directory.Watching {
				t.Fatalf("got %s (%s)", m.Phase, m.Error)
			}
			w.damaged.Store(damaged)
			before := w.compared.Load()
			if _, err := dir.AskMove(ctx, m.ID, directory.Close); err != nil {
				t.Fatal(err)
			}
			time.Sleep(30 * time.Second) // virtual
			m, err := dir.Move(ctx, m.ID)
			if err != nil || m.Phase != directory.Watching || m.Wish == directory.Complete || !strings.Contains(m.Error, "the network is down") {
				t.Errorf("not compared yet: got %s, wish %q (%q), %v", m.Phase, m.Wish, m.Error, err)
			}
			awake.Store(true)
			time.Sleep(2 * time.Minute) // virtual
			if m, err = dir.Move(ctx, m.ID); err != nil || w.compared.Load() != before+1 {
				t.Errorf("got %d comparisons, %v, want 1", w.compared.Load()-before, err)
			}
			if want := map[bool]directory.Phase{false: directory.Completed, true: directory.Watching}[damaged]; m.Phase != want || damaged != (m.StopAt == directory.Watching) {
				t.Errorf("damaged %v: got %s, stops at %q, want %s", damaged, m.Phase, m.StopAt, want)
			}
		})
	}
}
