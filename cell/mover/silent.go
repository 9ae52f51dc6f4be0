package mover

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/cellway/cellway/cell/transfer"
	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/infra/problem"
)

// A cell that does not answer, or answers and cannot do its part, must keep only its own moves: they
// rest, without a lease and a slot, and one mover asks a cell that is silent no more for a while.
const (
	restTime     = time.Second // and twice as long each time that it does not answer, up to longestRest
	longestRest  = time.Minute
	askTimeout   = 2 * time.Second // of a question that every cell answers at once
	attendEvery  = 2 * time.Second // between questions, while a step of the move takes long
	attendMisses = 3               // answers in a row that do not come, before the step is ended
	longMisses   = 20              // the same of a step that may have taken hours
	restAfter    = 5               // failures in a row of a move whose cells answer
)

// silence is which cells do not answer this mover, and until when it does not ask them.
type silence struct {
	mu    sync.Mutex
	cells map[directory.CellID]quiet
}

type quiet struct {
	until time.Time
	rest  time.Duration // that led to until
}

// of is how long a cell is still not asked; 0 where it may be.
func (s *silence) of(c directory.CellID) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	return max(0, time.Until(s.cells[c].until))
}

// note notes whether a cell answers.
func (s *silence) note(c directory.CellID, answers bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if answers {
		delete(s.cells, c)
		return
	}
	if s.cells == nil {
		s.cells = map[directory.CellID]quiet{}
	}
	if time.Until(s.cells[c].until) > 0 {
		return // somebody has asked at the same time
	}
	rest := min(max(restTime, 2*s.cells[c].rest), longestRest)
	s.cells[c] = quiet{time.Now().Add(rest), rest}
}

// doubtful reports whether a cell did not answer when it was asked last, and may be asked again.
func (s *silence) doubtful(c directory.CellID) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	q, ok := s.cells[c]
	return ok && time.Until(q.until) <= 0
}

// mayRest reports whether the move may be left alone for a while: no tenant waits for it, and it is
// not one that its mover keeps caught up for an operator, which no other mover would take.
func (w *work) mayRest() bool {
	p := w.move.Phase
	return !w.pausing() && !mayBeFrozen(p) && p != directory.Decided && !(p == directory.CaughtUp && held(w.move))
}

// rests gives the move back for a while, where an action needs a cell that does not answer.
func (w *work) rests(ctx context.Context, a Action) bool {
	if a == Wait || a == Abort || !w.mayRest() {
		return false
	}
	doubtful := w.silent.doubtful(w.move.Source) || w.silent.doubtful(w.move.Target)
	if doubtful && w.findCells(ctx) == nil {
		w.ask(ctx, w.silent.doubtful) // costs less than the action
	}
	if a == Restore && w.silent.of(w.move.Source) <= 0 {
		return false // the source first: a restore looks by itself, once that serves
	}
	if a == Reserve && w.findCells(ctx) == nil && w.mayReserve() != nil {
		return false // neither cell is asked: it is not made
	}
	return w.leave(ctx)
}

// restsAfter is rests after actions have failed so often in a row, now a with err: it asks the cells whether they are
// there. Where they are and it fails again and again, for a full disk or the like, or because the directory
// does not take that the move is aborted, the move rests as long as it has stood still.
func (w *work) restsAfter(ctx context.Context, a Action, err error, failed int) bool {
	if !w.mayRest() || w.source.ID == "" {
		return false
	}
	if unanswered(err) {
		w.ask(ctx, func(c directory.CellID) bool { return w.silent.of(c) <= 0 })
		if w.leave(ctx) {
			return true
		}
	}
	if failed < restAfter || w.facts.Broken != "" && a != Abort || transfer.IsBusy(err) && a != Purge { // the next action is to abort it; those are counted, and end it
		return false
	}
	return w.restFor(ctx, min(max(restTime, time.Since(w.move.Changed)), longestRest))
}

// leave gives the lease back until the move's cells may be asked again, and says why; false where
// they may be now, or the directory wants something else of this mover. Those that rest do
// not wake all at once.
func (w *work) leave(ctx context.Context) bool {
	for _, c := range []directory.CellID{w.move.Source, w.move.Target} {
		d := w.silent.of(c)
		if d <= 0 {
			continue
		}
		if w.move.Error == "" || w.move.Phase == directory.Aborting && !strings.Contains(w.move.Error, unended) {
			w.waitsFor(fmt.Sprintf("cell %s does not answer", c))
		}
		w.tell(ctx, tellAfter)
		return w.restFor(ctx, d)
	}
	return false
}

// restFor gives the lease back for about d.
func (w *work) restFor(ctx context.Context, d time.Duration) bool {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	if w.dir.RestMove(ctx, w.move, d+w.spread(d/2+1)) != nil {
		return false
	}
	w.m.rests.Inc()
	return true
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
	return !unanswered(err)
}

// unanswered is passes, and also of a cell that answers without its database.
func unanswered(err error) bool {
	return err != nil && (passes(err) || problem.KindOf(err) == problem.Internal)
}

// attended runs what may take as long as timeout, and ends it where one of the move's cells
// does not answer any more: a process that hangs has open connections.
func (w *work) attended(ctx context.Context, timeout time.Duration, do func(ctx context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	most := attendMisses
	if timeout > roundTimeout {
		most = w.misses
	}
	var hung error
	var wg sync.WaitGroup
	wg.Go(func() {
		for misses := 0; w.sleep(ctx, attendEvery); {
			c, ok := w.source, w.answers(ctx, w.source)
			if ok {
				c, ok = w.target, w.answers(ctx, w.target)
			}
			if misses++; ok {
				misses = 0
			}
			if misses == most && ctx.Err() == nil {
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
