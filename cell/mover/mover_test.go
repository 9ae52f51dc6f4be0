package mover_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/cellway/cellway/cell/mover"
	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/directory/directorytest"
)

// A story is what rapid draws: the fault of each call until they are used up, when
// movers die, and what the operator wants.
type story struct {
	Quiet  int   // calls that go well before the first fault
	Faults []int // of calls to cells and to the directory, in the order they are made
	Deaths []int // milliseconds that each mover lives before it is killed
	Cancel int   // milliseconds until the operator cancels; 0: never
	Undo   bool  // afterwards, the move is taken back
	Small  int   // bit i: mover i takes the tenant for small, and copies all of it inside the pause
}

func draw(t *rapid.T) story {
	return story{
		Quiet:  rapid.IntRange(0, 45).Draw(t, "quiet"),
		Faults: rapid.SliceOfN(rapid.IntRange(0, int(faults)+1), 0, 30).Draw(t, "faults"),
		Deaths: rapid.SliceOfN(rapid.IntRange(1, 3000), 0, 4).Draw(t, "deaths"),
		Cancel: rapid.SampledFrom([]int{0, 0, 1, 20, 300}).Draw(t, "cancel"),
		Undo:   rapid.Bool().Draw(t, "undo"),
		Small:  rapid.SampledFrom([]int{0, ^0, 0b10101}).Draw(t, "small"),
	}
}

// flaky is a Directory whose answers get lost.
type flaky struct {
	*directorytest.Memory
	fault func() fault
}

func (f flaky) Advance(ctx context.Context, m directory.Move, from directory.Phase) error {
	switch f.fault() {
	case lost:
		return errNet
	case answerLost, late:
		_ = f.Memory.Advance(ctx, m, from) // done, and nobody knows
		return errNet
	}
	return f.Memory.Advance(ctx, m, from)
}

// TestRandomStories lets moves meet lost and late calls, lost answers, dying
// movers, cancels and undos, in virtual time, with rounds and without: whatever happens, at most one cell
// accepts writes, every acknowledged one is at the owner once, and once the
// faults stop the move ends.
func TestRandomStories(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(r *rapid.T) {
		s := draw(r)
		var failed error
		synctest.Test(t, func(t *testing.T) { failed = s.run(t) })
		if failed != nil {
			r.Fatalf("%+v: %v", s, failed)
		}
	})
}

func (s story) run(t *testing.T) error {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	used := 0 // of Quiet, then of Faults
	var mu sync.Mutex
	next := func() fault {
		mu.Lock()
		defer mu.Unlock()
		used++
		if used <= s.Quiet || used > s.Quiet+len(s.Faults) {
			return none
		}
		if f := fault(s.Faults[used-s.Quiet-1]); f < faults {
			return f
		}
		return none
	}
	w := newWorld(next)
	dir := directorytest.NewMemory()
	for _, id := range []directory.CellID{"a", "b"} {
		if _, err := dir.AddCell(ctx, directory.Cell{ID: id, Address: "http://" + string(id), Capacity: 10, Incarnation: "db"}); err != nil {
			return err
		}
	}
	if _, err := dir.CreateTenant(ctx, directory.NewTenant{Slug: "acme", Cell: "a"}); err != nil {
		return err
	}
	m, err := dir.CreateMove(ctx, directory.NewMove{Tenant: 1, Target: "b", Watch: time.Hour})
	if err != nil {
		return err
	}
	open := func(c directory.Cell) mover.Cell { return w.cells[c.ID] }
	start := func(ctx context.Context, id int) {
		limits := mover.Limits{SmallBytes: int64(s.Small>>id&1) << 40}
		v := mover.New(mover.Config{ID: fmt.Sprintf("mover-%d", id), Parallel: 2, LeaseTTL: 2 * time.Second, Poll: 50 * time.Millisecond, Limits: limits},
			flaky{dir, next}, open, slog.New(slog.NewTextHandler(io.Discard, nil)))
		go func() { _ = v.Run(ctx) }()
	}
	for i, ms := range s.Deaths {
		life, die := context.WithTimeout(ctx, time.Duration(ms)*time.Millisecond)
		defer die()
		start(life, i)
	}
	start(ctx, len(s.Deaths))
	if s.Cancel > 0 {
		time.Sleep(time.Duration(s.Cancel) * time.Millisecond) // virtual
		_, _ = dir.AskMove(ctx, m.ID, directory.Cancel)        // too late is an answer too
	}
	if m, err = settle(ctx, dir, m.ID); err != nil {
		return err
	}
	if s.Undo && m.Phase == directory.Watching {
		back, err := dir.CreateMove(ctx, directory.NewMove{Tenant: 1, Target: "a", Undoes: m.ID, Watch: time.Hour})
		if err != nil {
			return err
		}
		if _, err := settle(ctx, dir, back.ID); err != nil {
			return err
		}
	}
	tenant, err := dir.Tenant(ctx, "acme")
	if err != nil {
		return err
	}
	return w.check(tenant.Placement)
}

// settle waits, in virtual time, until the move needs nothing more.
func settle(ctx context.Context, dir *directorytest.Memory, id directory.MoveID) (directory.Move, error) {
	for range 36_000 { // an hour: a move rests for up to a minute and a half, for each fault that it meets then
		m, err := dir.Move(ctx, id)
		if err != nil || m.Phase.Ended() || m.Phase == directory.Watching {
			return m, err
		}
		time.Sleep(100 * time.Millisecond) // virtual
	}
	m, err := dir.Move(ctx, id)
	return m, fmt.Errorf("the move does not end: %s, %s (%v)", m.Phase, m.Error, err)
}

func (f flaky) Move(ctx context.Context, id directory.MoveID) (directory.Move, error) {
	if f.fault() != none {
		return directory.Move{}, errNet
	}
	return f.Memory.Move(ctx, id)
}
