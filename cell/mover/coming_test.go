package mover_test

import (
	"context"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cellway/cellway/cell/mover"
	"github.com/cellway/cellway/cell/transfer"
	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/directory/directorytest"
	"github.com/cellway/cellway/infra/problem"
)

// How long a copy of these tests takes, and what comes in each of its seconds.
const (
	copyTakes     = 3 * time.Minute
	rowsASecond   = 1000
	bytesASecond  = 1 << 20
	rowsOfTheCopy = rowsASecond * int64(copyTakes/time.Second)
)

// An arriving is what the copies of a tellingCell share.
type arriving struct {
	mu     sync.Mutex
	pulls  int
	failed int                             // copies that fail at once, at first
	began  time.Time                       // the copy that is under way; zero where none is
	deaf   func(ctx context.Context) error // what the target answers instead; nil is what has come
}

// A tellingCell is a target whose copies take minutes, and which tells what has come.
type tellingCell struct {
	*fakeCell
	*arriving
}

func (c tellingCell) Pull(ctx context.Context, m transfer.Move, url string, final bool) (transfer.Received, error) {
	c.mu.Lock()
	if c.pulls++; c.pulls <= c.failed {
		c.mu.Unlock()
		return transfer.Received{}, errNet
	}
	copies := len(c.received) == 0 && !final
	if copies {
		c.began = time.Now()
	}
	c.mu.Unlock()
	if !copies {
		return c.fakeCell.Pull(ctx, m, url, final)
	}
	defer func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.began = time.Time{}
	}()
	select {
	case <-time.After(copyTakes): // virtual
	case <-ctx.Done():
		return transfer.Received{}, ctx.Err()
	}
	got, err := c.fakeCell.Pull(ctx, m, url, final)
	got.Totals.Rows, got.Totals.Bytes = rowsOfTheCopy, bytesASecond*int64(copyTakes/time.Second)
	return got, err
}

func (c tellingCell) Coming(ctx context.Context, _ transfer.Move) (transfer.Coming, error) {
	if c.deaf != nil {
		return transfer.Coming{}, c.deaf(ctx)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.began.IsZero() {
		return transfer.Coming{}, nil
	}
	d := time.Since(c.began)
	return transfer.Coming{Rows: rowsASecond * int64(d/time.Second), Bytes: bytesASecond * int64(d/time.Second), Began: c.began, For: d}, nil
}

// telling begins a move whose copy takes minutes, by a mover that records in what is given over the directory.
func telling(t *testing.T, a *arriving, over func(*directorytest.Memory) mover.Directory) (*mover.Mover, *directorytest.Memory, directory.MoveID) {
	t.Helper()
	w := newWorld(func() fault { return none })
	dir, m := moving(t, directory.NewMove{Watch: time.Hour})
	open := func(c directory.Cell) mover.Cell { return tellingCell{w.cells[c.ID], a} }
	return mover.New(settings("m1"), over(dir), open, slog.New(slog.DiscardHandler)), dir, m.ID
}

// record is the move as the directory has it, and what its mover reports.
func record(t *testing.T, dir directory.Directory, id directory.MoveID) (directory.Move, mover.Report) {
	t.Helper()
	m, err := dir.Move(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	return m, reported(t, m)
}

// TestACopyTellsWhatHasCome: while it goes on, the record has it every few seconds, and the metric; it is no news to the
// audit, and leaves the rest of the record as it is. In the end each row is counted once.
func TestACopyTellsWhatHasCome(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		recorded := &told{}
		v, dir, id := telling(t, &arriving{failed: 1}, func(m *directorytest.Memory) mover.Directory { recorded.Memory = m; return recorded })
		go func() { _ = v.Run(ctx) }()
		time.Sleep(30 * time.Second) // virtual
		m, first := record(t, dir, id)
		lines, times := lastLine(t, dir), recorded.times.Load()
		time.Sleep(time.Minute) // virtual
		_, later := record(t, dir, id)
		if m.Phase != directory.Armed || m.Error == "" || first.Size == 0 || first.Rows != 0 || later.Rows != 0 {
			t.Errorf("got %s (%q), %+v, then %+v; want it armed, with why the first try failed, and nothing stored", m.Phase, m.Error, first, later)
		}
		for _, c := range []transfer.Coming{first.Coming, later.Coming} {
			if c.Rows <= 0 || c.Rows != rowsASecond*int64(c.For/time.Second) || c.Bytes != bytesASecond*int64(c.For/time.Second) || !c.Began.Equal(first.Coming.Began) {
				t.Errorf("got %+v, want what has come", c)
			}
		}
		if d := later.Coming.For - first.Coming.For; d < 50*time.Second || d > 70*time.Second {
			t.Errorf("what is told after a minute is %v newer", d)
		}
		if n := recorded.times.Load() - times; n < 8 || n > 17 || lastLine(t, dir) != lines {
			t.Errorf("told %d times within a minute, and the audit has %d lines more, want one each 5 s, and none", n, lastLine(t, dir)-lines)
		}
		rows := func() float64 { return metric(t, v, "move_copy_rows_total").GetCounter().GetValue() }
		if n := rows(); n < float64(first.Coming.Rows) || n >= float64(rowsOfTheCopy) {
			t.Errorf("the metric has %v rows while %d have come", n, later.Coming.Rows)
		}
		if m, err := settle(ctx, dir, id); err != nil || m.Phase != directory.Watching {
			t.Fatalf("got %s (%s), %v", m.Phase, m.Error, err)
		}
		_, last := record(t, dir, id)
		if last.Rows != rowsOfTheCopy || last.Coming != (transfer.Coming{}) || rows() != float64(rowsOfTheCopy) {
			t.Errorf("in the end: got %d rows, %+v, the metric has %v, want %d once", last.Rows, last.Coming, rows(), rowsOfTheCopy)
		}
	})
}

// An unwilling directory does not take what is told of a round that is under way.
type unwilling struct {
	*directorytest.Memory
	says func(ctx context.Context) error
}

func (d unwilling) Advance(ctx context.Context, m directory.Move, from directory.Phase) error {
	if m.Phase == directory.Armed && from == directory.Armed {
		return d.says(ctx)
	}
	return d.Memory.Advance(ctx, m, from)
}

// TestNoCopyHangsOnWhatIsTold: where the target does not say what has come, or the directory does not take it, the
// copy goes on, and is made once.
func TestNoCopyHangsOnWhatIsTold(t *testing.T) {
	t.Parallel()
	hangs := func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }
	says := func(err error) func(context.Context) error { return func(context.Context) error { return err } }
	willing := func(m *directorytest.Memory) mover.Directory { return m }
	not := func(says func(context.Context) error) func(*directorytest.Memory) mover.Directory {
		return func(m *directorytest.Memory) mover.Directory { return unwilling{m, says} }
	}
	for name, tt := range map[string]struct {
		deaf func(context.Context) error
		over func(*directorytest.Memory) mover.Directory
	}{
		"the target does not know the question": {deaf: says(problem.New(problem.NotFound, "404 page not found")), over: willing},
		"another process of the cell is asked":  {deaf: says(nil), over: willing},
		"the target hangs":                      {deaf: hangs, over: willing},
		"the directory is down":                 {over: not(says(errNet))},
		"the directory hangs":                   {over: not(hangs)},
		"the directory refuses":                 {over: not(says(problem.New(problem.Conflict, "lease 1 is lost")))},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				a := &arriving{deaf: tt.deaf}
				v, dir, id := telling(t, a, tt.over)
				go func() { _ = v.Run(ctx) }()
				began := time.Now()
				m, err := settle(ctx, dir, id)
				if err != nil || m.Phase != directory.Watching || time.Since(began) > copyTakes+10*time.Second {
					t.Fatalf("got %s (%s), %v, after %v", m.Phase, m.Error, err, time.Since(began))
				}
				if _, r := record(t, dir, id); r.Rows != rowsOfTheCopy || r.Coming != (transfer.Coming{}) {
					t.Errorf("got %d rows, %+v, want %d", r.Rows, r.Coming, rowsOfTheCopy)
				}
			})
		})
	}
}

// TestWhatCameToAMoverBeforeIsNotCounted: its copy is lost, and the next mover makes it again.
func TestWhatCameToAMoverBeforeIsNotCounted(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		a := &arriving{}
		v, dir, id := telling(t, a, func(m *directorytest.Memory) mover.Directory { return m })
		life, die := context.WithTimeout(ctx, 2*time.Minute)
		defer die()
		if err := v.Run(life); err != nil {
			t.Fatal(err)
		}
		if _, r := record(t, dir, id); r.Coming.Rows == 0 {
			t.Fatalf("got %+v, want what has come", r)
		}
		go func() { _ = v.Run(ctx) }()
		if m, err := settle(ctx, dir, id); err != nil || m.Phase != directory.Watching {
			t.Fatalf("got %s (%s), %v", m.Phase, m.Error, err)
		}
		if _, r := record(t, dir, id); r.Rows != rowsOfTheCopy || r.Coming != (transfer.Coming{}) {
			t.Errorf("got %d rows, %+v, want %d", r.Rows, r.Coming, rowsOfTheCopy)
		}
	})
}
