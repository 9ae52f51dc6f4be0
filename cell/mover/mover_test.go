package mover_test

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/cellway/cellway/cell/mover"
	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/directory/directorytest"
)

// A story is what rapid draws: the fault of each call until they are used up, how
// movers end, and what the operator wants.
type story struct {
	Quiet  int    // calls that go well before the first fault
	Faults []int  // of calls to cells and to the directory, in the order they are made
	Ends   []end  // of movers; one more has none
	Cancel int    // milliseconds until the operator cancels; 0: never
	Then   []bool // afterwards: the way back, where one is open, is taken, or else closed; where none is, there is another move
	Small  int    // bit i: mover i takes the tenant for small, and copies all of it inside the pause
	Slow   int    // milliseconds that a call takes at most: others act between two of them
	Spread uint64 // how the movers spread their waits
	Order  uint64 // in which late calls arrive
}

func draw(t *rapid.T) story {
	ends := rapid.Custom(func(t *rapid.T) end {
		return end{
			Call: rapid.IntRange(1, 80).Draw(t, "call"),
			How:  manner(rapid.IntRange(0, int(manners)-1).Draw(t, "how")),
			Done: rapid.Bool().Draw(t, "done"),
		}
	})
	return story{
		Quiet:  rapid.IntRange(0, 45).Draw(t, "quiet"),
		Faults: rapid.SliceOfN(rapid.IntRange(0, int(faults)+1), 0, 30).Draw(t, "faults"),
		Ends:   rapid.SliceOfN(ends, 0, 4).Draw(t, "ends"),
		Cancel: rapid.SampledFrom([]int{0, 0, 1, 20, 300}).Draw(t, "cancel"),
		Then:   rapid.SliceOfN(rapid.Bool(), 0, 4).Draw(t, "then"),
		Small:  rapid.SampledFrom([]int{0, ^0, 0b10101}).Draw(t, "small"),
		Slow:   rapid.SampledFrom([]int{0, 1, 20}).Draw(t, "slow"),
		Spread: rapid.Uint64().Draw(t, "spread"),
		Order:  rapid.Uint64().Draw(t, "order"),
	}
}

// faults gives each call its fault.
func (s story) faults() func() fault {
	var mu sync.Mutex
	used := 0 // of Quiet, then of Faults
	return func() fault {
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
}

// spread follows from the mover and the time alone: whatever else is done at that instant, a story is told again as it was.
func (s story) spread(mover int) func(time.Duration) time.Duration {
	return func(below time.Duration) time.Duration {
		now := uint64(time.Now().UnixNano()) // virtual
		return time.Duration(rand.New(rand.NewPCG(s.Spread+uint64(mover), now)).Int64N(int64(below)))
	}
}

// TestRandomStories lets moves meet lost and late calls, lost answers, movers that end, die, or go on without their
// lease, cancels and undos, one move after the other, in virtual time, with rounds and without: whatever happens, at most one cell
// accepts writes, at epochs that grow, every acknowledged one is at the owner once, and once the
// faults stop each move ends, on one side. A call that arrives when all is over changes nothing.
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
	w := newWorld(s.faults())
	w.pick = rand.New(rand.NewPCG(s.Order, 0)).IntN
	dir, m := moving(t, directory.NewMove{Watch: 48 * time.Hour})
	var movers sync.WaitGroup
	for i, end := range append(slices.Clone(s.Ends), end{}) {
		movers.Go(func() { s.work(ctx, w, dir, i, end) })
	}
	err := s.tell(ctx, w, dir, m)
	cancel()
	movers.Wait()
	if err != nil {
		return err
	}
	if err := w.arrive(); err != nil {
		return err
	}
	return owned(t.Context(), w, dir)
}

// work is one mover's life.
func (s story) work(ctx context.Context, w *world, dir *directorytest.Memory, i int, end end) {
	ctx, die := context.WithCancel(ctx)
	defer die()
	time.Sleep(time.Duration(i) * time.Microsecond) // virtual: no two begin at one instant
	spread := s.spread(i)
	pace := func() time.Duration { return spread(time.Duration(s.Slow)*time.Millisecond + 1) }
	l := &line{Memory: dir, w: w, end: end, die: die, pace: pace, told: map[directory.MoveID]directory.Move{}}
	limits := mover.Limits{SmallBytes: int64(s.Small>>i&1) << 40}
	v := mover.New(mover.Config{ID: fmt.Sprintf("mover-%d", i), Parallel: 2, LeaseTTL: 2 * time.Second, Poll: 50 * time.Millisecond, Limits: limits},
		l, func(c directory.Cell) mover.Cell { return w.cells[c.ID].by(l) }, slog.New(slog.DiscardHandler))
	v.SetSpread(spread)
	_ = v.Run(ctx)
}

// tell has one move after the other, and looks at the world after each.
func (s story) tell(ctx context.Context, w *world, dir *directorytest.Memory, m directory.Move) error {
	if s.Cancel > 0 {
		time.Sleep(time.Duration(s.Cancel) * time.Millisecond) // virtual
		_, _ = dir.AskMove(ctx, m.ID, directory.Cancel)        // too late is an answer too
	}
	if err := over(ctx, w, dir, m.ID); err != nil {
		return err
	}
	for _, back := range s.Then {
		id, err := next(ctx, dir, back)
		if err != nil {
			return err
		}
		if err := over(ctx, w, dir, id); err != nil {
			return err
		}
	}
	return nil
}

// next asks for what comes after the moves that are over: for the end of the watch, for the undo, or for a move.
func next(ctx context.Context, dir *directorytest.Memory, back bool) (directory.MoveID, error) {
	open, err := dir.ListMoves(ctx, 1, false, "", 10)
	if err != nil {
		return "", err
	}
	n := directory.NewMove{Tenant: 1, Watch: 48 * time.Hour}
	switch {
	case len(open) > 0 && !back:
		_, err := dir.AskMove(ctx, open[0].ID, directory.Complete)
		return open[0].ID, err
	case len(open) > 0:
		n.Target, n.Undoes = open[0].Source, open[0].ID
	default:
		tenant, err := dir.Tenant(ctx, "acme")
		if err != nil {
			return "", err
		}
		if n.Target = "a"; tenant.Placement.Cell == "a" {
			n.Target = "b"
		}
	}
	m, err := dir.CreateMove(ctx, n)
	return m.ID, err
}

// over waits until a move, and those that try it again, need nothing more, and says what is wrong then.
func over(ctx context.Context, w *world, dir *directorytest.Memory, id directory.MoveID) error {
	m, err := settle(ctx, dir, id)
	for err == nil && m.RetriedBy != "" {
		m, err = settle(ctx, dir, m.RetriedBy)
	}
	if err == nil && m.Wish == directory.Complete {
		m, err = until(ctx, dir, m.ID, func(m directory.Move) bool { return m.Phase.Ended() })
	}
	if err != nil {
		return err
	}
	tenant, err := dir.Tenant(ctx, "acme")
	if err != nil {
		return err
	}
	want, empty := directory.Placement{Cell: m.Target, Epoch: m.Base + 1}, m.Source
	if m.Phase == directory.Aborted {
		want, empty = directory.Placement{Cell: m.Source, Epoch: m.Base + 2}, m.Target
	}
	if p := tenant.Placement; p.Cell != want.Cell || p.Epoch != want.Epoch {
		return fmt.Errorf("move %s is %s, and the directory says %s at %d", m.ID, m.Phase, p.Cell, p.Epoch)
	}
	w.mu.Lock()
	left := len(w.cells[empty].rows)
	w.mu.Unlock()
	if left > 0 && (m.Phase == directory.Completed || m.Phase == directory.Aborted && m.Undoes == "") {
		return fmt.Errorf("move %s is %s, and %d rows are left at %s", m.ID, m.Phase, left, empty)
	}
	return owned(ctx, w, dir)
}

// owned holds the world to the directory.
func owned(ctx context.Context, w *world, dir *directorytest.Memory) error {
	tenant, err := dir.Tenant(ctx, "acme")
	if err != nil {
		return err
	}
	return w.check(tenant.Placement)
}

// settle waits, in virtual time, until the move needs nothing more.
func settle(ctx context.Context, dir *directorytest.Memory, id directory.MoveID) (directory.Move, error) {
	return until(ctx, dir, id, func(m directory.Move) bool { return m.Phase.Ended() || m.Phase == directory.Watching })
}

// until waits, in virtual time, until the move is so.
func until(ctx context.Context, dir *directorytest.Memory, id directory.MoveID, so func(directory.Move) bool) (directory.Move, error) {
	for range 36_000 { // an hour: a move rests for up to a minute and a half, for each fault that it meets then
		m, err := dir.Move(ctx, id)
		if err != nil || so(m) {
			return m, err
		}
		time.Sleep(100 * time.Millisecond) // virtual
	}
	m, err := dir.Move(ctx, id)
	return m, fmt.Errorf("the move does not end: %s, %s (%v)", m.Phase, m.Error, err)
}
