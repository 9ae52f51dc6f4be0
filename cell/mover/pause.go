package mover

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/cellway/cellway/cell/transfer"
	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/infra/problem"
)

// rest waits for about d and reports whether the work may go on. Outside the pause
// it gives its slot to another move meanwhile: one that waits for a dead cell must
// not keep those back that have work to do.
func (w *work) rest(ctx context.Context, d time.Duration) bool {
	if w.pausing() {
		return sleep(ctx, d)
	}
	<-w.slots
	w.slotted = sleep(ctx, d) && take(ctx, w.slots)
	return w.slotted
}

// pausing reports whether the tenant waits, or may: the freeze may have been done
// where its answer, or the record of it, was lost, and an abort ends no pause before
// the source serves again.
func (w *work) pausing() bool {
	switch p := w.move.Phase; p {
	case directory.Frozen, directory.Staged, directory.Decided:
		return true
	case directory.Aborting:
		return !w.released && (!w.facts.Frozen.IsZero() || mayFreeze(w.move.Previous))
	default:
		return p.BeforeDecision() && !w.facts.Frozen.IsZero()
	}
}

// mayFreeze reports whether the source of a move whose record says p may be frozen.
func mayFreeze(p directory.Phase) bool {
	switch p {
	case directory.Armed, directory.CaughtUp, directory.Frozen, directory.Staged:
		return true
	}
	return false
}

// freeze begins the pause and, so that it is short, makes a round right before it and
// has the target ask for the final one beforehand: the source gives it as soon as the
// tenant is frozen, while the directory records the phase. Where an attempt before may
// have frozen the tenant, the pause goes on: it has begun then.
func (w *work) freeze(ctx context.Context, m transfer.Move, src Source, dst Target) error {
	if w.facts.Rounds > 0 && w.facts.Frozen.IsZero() { // not where all is copied inside the pause
		if err := w.pull(ctx, roundTimeout, m, dst, false); err != nil {
			return err
		}
		if w.facts.Last.Took > w.cfg.Limits.Drain { // too much has come since: rounds again
			w.facts.Refused++
			return nil
		}
	}
	step, cancel := context.WithTimeout(ctx, stepTimeout)
	defer cancel()
	if w.facts.Frozen.IsZero() {
		w.facts.Frozen = time.Now()
	}
	pulling, giveUp := context.WithCancel(ctx)
	defer giveUp()
	staged := make(chan error, 1)
	go func() { staged <- w.pull(pulling, roundTimeout, m, dst, true) }()
	if err := src.Freeze(step, m, w.cfg.Limits.FreezeWait); err != nil {
		giveUp()
		<-staged
		w.facts.Refused++
		if errors.Is(err, problem.Conflict) || transfer.IsBusy(err) { // the cell itself says that it is not frozen
			w.facts.Frozen = time.Time{}
		}
		return fmt.Errorf("freeze: %w", err)
	}
	from, frozen := w.move.Phase, w.move
	frozen.Phase = directory.Frozen
	recorded := w.dir.Advance(step, frozen, from)
	err := <-staged
	w.facts.Staged = err == nil
	if recorded != nil {
		return lostOr(fmt.Errorf("record frozen: %w", recorded))
	}
	w.move.Phase, w.move.Previous = directory.Frozen, from
	return err
}

// A cancelled ends what takes long when the operator cancels the move meanwhile.
type cancelled struct {
	mu  sync.Mutex
	end context.CancelFunc // of what takes long now; nil where nothing does
}

func (c *cancelled) ends(end context.CancelFunc) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.end = end
}

// hear is told the record, whenever the lease is extended.
func (c *cancelled) hear(m directory.Move) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if m.Wish == directory.Cancel && m.Phase.BeforeDecision() && c.end != nil {
		c.end()
	}
}
