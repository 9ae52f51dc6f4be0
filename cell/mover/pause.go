package mover

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/cellway/cellway/cell/fence"
	"github.com/cellway/cellway/cell/transfer"
	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/infra/problem"
)

// rest waits for about d and reports whether the work may go on. Outside the pause
// it gives its slot to another move meanwhile: one that waits for a dead cell must
// not keep those back that have work to do.
func (w *work) rest(ctx context.Context, d time.Duration) bool {
	if w.pausing() {
		return w.sleep(ctx, d)
	}
	if w.slotted {
		<-w.slots
		w.slotted = false
	}
	return w.sleep(ctx, d) && w.placed(ctx)
}

// placed reports whether the move has a place to work in, after it has waited for a slot where
// it needs one. One that was taken over in its pause has a place of its own until a cell serves the
// tenant and the record says so, and one that is aborted until its source does; what it does then is for whoever has a slot.
func (w *work) placed(ctx context.Context) bool {
	switch {
	case w.slotted:
		return true
	case w.own && (w.move.Phase == directory.Watching || w.move.Phase.Ended()):
		return false
	case !w.released && (w.own || w.move.Phase == directory.Aborting):
		return true
	}
	w.slotted = take(ctx, w.slots)
	return w.slotted
}

// gives reports whether a move that is held, caught up, gives its place to one that has none: with
// the next wish somebody takes it again.
func (w *work) gives(ctx context.Context) bool {
	select {
	case <-w.wanted:
		w.log.InfoContext(ctx, "a held move is not kept caught up: this mover holds too many moves")
		return true
	default:
		return false
	}
}

// pausing reports whether the tenant waits, or may: the freeze may have been done where its
// answer was lost, or by a mover before, and an abort ends no pause before the source serves
// again.
func (w *work) pausing() bool {
	switch w.move.Phase {
	case directory.Frozen, directory.Staged:
		return !w.facts.Frozen.IsZero()
	case directory.Decided:
		return true
	case directory.Aborting:
		return !w.released && (!w.facts.Frozen.IsZero() || mayBeFrozen(w.move.Previous))
	}
	return false
}

// mayBeFrozen reports whether the source of a move whose record says p may be frozen.
func mayBeFrozen(p directory.Phase) bool { return p == directory.Frozen || p == directory.Staged }

// measured notes, once, how long a pause was that is over: whoever began it, and whoever serves now.
func (w *work) measured() bool {
	if w.report.Frozen.IsZero() {
		return false
	}
	w.report.Pause, w.report.Frozen = max(0, time.Since(w.report.Frozen)), time.Time{}
	w.m.pause.Observe(w.report.Pause.Seconds())
	return true
}

// freeze begins the pause. What need not be in it is done before: a round, so that the last
// one is short; the record, so that no crash leaves a frozen tenant that nobody knows of;
// and the target's question for the last round, which the source answers as soon as the
// tenant is frozen. Where an attempt before may have frozen the tenant, the pause goes on:
// it has begun then.
func (w *work) freeze(ctx context.Context, m transfer.Move, src Source, dst Cell) error {
	if w.facts.Frozen.IsZero() && (w.facts.Refused > 0 || copiesInPause(w.move) && w.facts.Size == 0) { // taken over: it was another mover that has looked
		if err := w.sameSchema(ctx, m, src, dst); err != nil {
			return err
		}
	}
	if w.facts.Frozen.IsZero() && !copiesInPause(w.move) {
		if err := w.pull(ctx, roundTimeout, m, dst, false); err != nil {
			return err
		}
		if w.facts.Last.Took > w.cfg.Limits.Drain { // too much has come since: rounds again
			w.facts.Refused++
			w.doubt()
			return nil
		}
	}
	if w.doubt() {
		if err := w.look(ctx, m, src); err != nil || w.facts.Froze {
			return err
		}
	}
	pulling, giveUp := context.WithCancel(ctx)
	defer giveUp()
	var got transfer.Received
	pulled, url := make(chan error, 1), w.source.Transfer()
	go func() {
		var err error
		got, err = dst.Pull(pulling, m, url, true)
		pulled <- err
	}()
	err := w.recordFreeze(ctx)
	if err == nil {
		select {
		case err = <-pulled: // nobody is to wait for a question that has failed
			if err != nil {
				return fmt.Errorf("round: %w", err)
			}
			pulled <- nil
		default:
		}
		err = w.freezeSource(ctx, m, src)
	}
	if err != nil {
		giveUp()
		<-pulled
		return err
	}
	defer time.AfterFunc(w.pauseLeft(), giveUp).Stop()
	if err := <-pulled; err != nil {
		return fmt.Errorf("round: %w", err)
	}
	w.took(got)
	w.facts.Staged = true
	return nil
}

// sameSchema finds out whether somebody has altered both cells since the check, while freezes
// were refused or nobody had the move.
func (w *work) sameSchema(ctx context.Context, m transfer.Move, src, dst Source) error {
	ctx, cancel := context.WithTimeout(ctx, stepTimeout)
	defer cancel()
	_, err := w.preflight(ctx, m, src, dst, false)
	return err
}

// recordFreeze records that the source is to be frozen, before each attempt: where one was refused the tenant was
// served, and who takes over counts from the one that held.
func (w *work) recordFreeze(ctx context.Context) error {
	w.facts.Knows = true // also where the answer is lost: no mover before has frozen it
	if !w.facts.Frozen.IsZero() {
		return nil // an attempt before may have, and is recorded
	}
	w.report.Frozen = time.Now()                     // nearly
	defer func() { w.report.Frozen = time.Time{} }() // as it is
	if w.move.Phase == directory.Frozen {
		return w.record(ctx, w.move) // with why it waits
	}
	return w.advance(ctx, directory.Frozen)
}

// look finds out whether a mover before has made the freeze that is recorded.
func (w *work) look(ctx context.Context, m transfer.Move, src Source) error {
	left := stepTimeout
	if !w.facts.Frozen.IsZero() {
		left = w.pauseLeft()
	}
	ctx, cancel := context.WithTimeout(ctx, left)
	defer cancel()
	f, err := src.Fence(ctx, m.Tenant)
	if err != nil {
		return fmt.Errorf("look at the fence: %w", err)
	}
	w.facts.Knows, w.facts.Froze = true, f.State == fence.Frozen && f.Move == string(m.ID) && f.Epoch == m.Base+1
	switch {
	case !w.facts.Froze:
		w.facts.Frozen, w.report.Frozen = time.Time{}, time.Time{}
	case w.facts.Frozen.IsZero():
		w.facts.Frozen = time.Now()
		w.report.Frozen = w.facts.Frozen
	case w.report.Frozen.IsZero(): // the mover before was of an older release
		w.report.Frozen = w.facts.Frozen
	}
	return nil
}

// doubt has an heir look at the fence again, and reports it: a mover that was stopped before
// its freeze makes it when it goes on, and then the tenant waits.
func (w *work) doubt() bool {
	doubts := w.heir && w.move.Phase == directory.Frozen && w.facts.Frozen.IsZero()
	w.facts.Knows = w.facts.Knows && !doubts
	return doubts
}

// freezeSource freezes the tenant.
func (w *work) freezeSource(ctx context.Context, m transfer.Move, src Source) error {
	step, cancel := context.WithTimeout(ctx, stepTimeout)
	defer cancel()
	first := w.facts.Frozen.IsZero()
	if first {
		w.waits.Store(true) // before the look: nobody ends the pause that is begun now
		if err := w.taking.Err(); err != nil {
			return err
		}
		w.facts.Frozen = time.Now()
		w.report.Frozen = w.facts.Frozen
	}
	err := src.Freeze(step, m, w.cfg.Limits.FreezeWait)
	if err == nil {
		w.facts.Froze = true
		return nil
	}
	w.facts.Refused++
	if errors.Is(err, problem.Conflict) || first && transfer.IsBusy(err) { // the cell itself says that it is not frozen; an attempt before may be what it is busy with
		w.facts.Frozen, w.report.Frozen = time.Time{}, time.Time{}
	}
	return fmt.Errorf("freeze: %w", err)
}

// pauseLeft is how long the last round may take: a pause that is over its budget is
// aborted at once, and not when a cell that hangs answers.
func (w *work) pauseLeft() time.Duration {
	return max(time.Until(w.facts.Frozen.Add(w.cfg.Limits.Pause)), 0) + 50*time.Millisecond
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
