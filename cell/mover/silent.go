package mover

import (
	"context"
	"sync"
	"time"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/infra/problem"
)

// A cell that does not answer must keep only its own moves: they rest, without a lease and a
// slot, and one mover asks such a cell no more for a while.
const (
	restTime     = 5 * time.Second
	askTimeout   = 2 * time.Second // of a question that every cell answers at once
	attendEvery  = 2 * time.Second // between questions, while a step of the move takes long
	attendMisses = 3               // answers in a row that do not come, before the step is ended
)

// silence is which cells do not answer this mover, and until when it does not ask them.
type silence struct {
	mu    sync.Mutex
	until map[directory.CellID]time.Time
}

// of is how long the cells, one of which does not answer, are still not asked; 0 where all may be.
func (s *silence) of(cells ...directory.CellID) (left time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range cells {
		left = max(left, time.Until(s.until[c]))
	}
	return left
}

// note notes whether a cell answers.
func (s *silence) note(c directory.CellID, answers bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if answers {
		delete(s.until, c)
		return
	}
	if s.until == nil {
		s.until = map[directory.CellID]time.Time{}
	}
	s.until[c] = time.Now().Add(restTime)
}

// doubtful reports whether a cell did not answer when it was asked last, and may be asked again.
func (s *silence) doubtful(c directory.CellID) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	until, ok := s.until[c]
	return ok && time.Until(until) <= 0
}

// mayRest reports whether the move may be left alone for a while: no tenant waits for it.
func (w *work) mayRest() bool {
	p := w.move.Phase
	return !w.pausing() && !mayBeFrozen(p) && p != directory.Decided
}

// rests gives the move back for a while, where an action needs a cell that does not answer.
func (w *work) rests(ctx context.Context, a Action) bool {
	if a == Wait || a == Abort || a == Restore || !w.mayRest() { // a restore looks by itself, once the source serves
		return false
	}
	doubtful := w.silent.doubtful(w.move.Source) || w.silent.doubtful(w.move.Target)
	if doubtful && w.findCells(ctx) == nil {
		w.ask(ctx, w.silent.doubtful) // costs less than the action
	}
	return w.leave(ctx)
}

// restsAfter is rests after an action has failed with err: it asks the cells whether they are there.
func (w *work) restsAfter(ctx context.Context, err error) bool {
	if !passes(err) || !w.mayRest() || w.source.ID == "" {
		return false
	}
	w.ask(ctx, func(c directory.CellID) bool { return w.silent.of(c) <= 0 })
	return w.leave(ctx)
}

// leave gives the lease back until the move's cells may be asked again; false where they may
// be now, or the directory wants something else of this mover.
func (w *work) leave(ctx context.Context) bool {
	d := w.silent.of(w.move.Source, w.move.Target)
	if d <= 0 {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	return w.dir.RestMove(ctx, w.move, d) == nil
}

// ask asks which of the move's cells answer, of those that which tells, and notes it.
func (w *work) ask(ctx context.Context, which func(directory.CellID) bool) {
	for _, c := range []directory.Cell{w.source, w.target} {
		if !which(c.ID) {
			continue
		}
		if answers := w.answers(ctx, c); ctx.Err() == nil {
			w.silent.note(c.ID, answers)
		}
	}
}

// answers asks a cell what it answers at once.
func (w *work) answers(ctx context.Context, c directory.Cell) bool {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	_, err := w.reach(c).Fence(ctx, w.move.Tenant)
	return !passes(err)
}

// attended runs what may take as long as timeout, and ends it where one of the move's cells
// does not answer any more: a process that hangs has open connections.
func (w *work) attended(ctx context.Context, timeout time.Duration, do func(ctx context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	var hung error
	var wg sync.WaitGroup
	wg.Go(func() {
		for misses := 0; sleep(ctx, attendEvery); {
			c, ok := w.source, w.answers(ctx, w.source)
			if ok {
				c, ok = w.target, w.answers(ctx, w.target)
			}
			if misses++; ok {
				misses = 0
			}
			if misses == attendMisses && ctx.Err() == nil {
				hung = problem.New(problem.Unavailable, "cell %s does not answer", c.ID)
				w.silent.note(c.ID, false)
				cancel()
			}
		}
	})
	err := do(ctx)
	cancel()
	wg.Wait()
	if err != nil && hung != nil {
		return hung
	}
	return err
}
