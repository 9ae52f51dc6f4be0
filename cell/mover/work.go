package mover

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"time"

	"github.com/cellway/cellway/cell/transfer"
	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/infra/problem"
)

// A Report is what a mover tells of a move while it works and after.
type Report struct {
	Size      int64         `json:"size_bytes"`              // of the tenant, by preflight
	AtLeast   bool          `json:"size_at_least,omitempty"` // it may be more: preflight does not count large tables to their end
	Rows      int64         `json:"rows"`                    // stored and compared by hash, all rounds
	Keys      int64         `json:"keys"`                    // that changed during the move
	Bytes     int64         `json:"bytes"`                   // sent
	Rounds    int           `json:"rounds"`                  // without the copy and the last
	LastRound time.Duration `json:"last_round_ns"`           // how long the newest round took
	Pause     time.Duration `json:"pause_ns"`                // from the freeze until a cell served the tenant again
	Frozen    time.Time     `json:"frozen_at,omitzero"`      // when a pause began that is not over, by the directory's clock
	Verified  time.Time     `json:"verified_at,omitzero"`    // when everything at the target was last known to be equal
	Purged    int64         `json:"purged_rows,omitempty"`
	Schema    string        `json:"schema,omitempty"` // fingerprint of both cells before the copy
	Files     files         `json:"files,omitempty"`  // of each, then
	Whole     bool          `json:"whole,omitempty"`  // the target takes everything; an undo's may begin with the copy that it kept

	Compared   time.Time           `json:"compared_at,omitzero"` // when the two copies of a watching move were compared last
	Comparison transfer.Comparison `json:"comparison,omitzero"`

	Coming transfer.Coming `json:"coming,omitzero"` // of the round that is under way, besides Rows and Bytes
}

// shifted is r, of which a clock that is so far ahead tells the time: who takes over in a pause has another one.
func (r Report) shifted(ahead time.Duration) Report {
	if !r.Frozen.IsZero() {
		r.Frozen = r.Frozen.Add(ahead)
	}
	return r
}

// A work is one move in one mover's hands.
type work struct {
	*Mover
	move           directory.Move
	facts          Facts
	report         Report
	source, target directory.Cell
	taking         context.Context // ends when the mover is to stop
	waits          atomic.Bool     // whether the tenant waits, or may in a moment: for who would end the work
	slotted        bool            // whether it has one of the mover's slots
	own            bool            // it was taken over where its tenant waits: until that is over it needs no slot
	heir           bool            // it was taken over where a freeze was recorded: who recorded it may still make it
	released       bool            // the source of an aborted move serves again
	ahead          time.Duration   // how far the directory's clock is ahead of this one
	told           string          // why the move waits, as the record has it
	cancelled      cancelled
	log            *slog.Logger
}

// run does one thing after the other until the move waits, has ended, or is lost.
func (w *work) run(ctx context.Context) {
	failed := 0
	if w.heir = mayBeFrozen(w.move.Phase); w.heir {
		w.facts.Frozen = time.Now() // taken over inside the pause: the budget counts from here
	}
	for w.goesOn(ctx) && w.placed(ctx) {
		action := Next(w.move, w.facts, w.cfg.Limits, time.Now())
		if action == Nothing || (action == Wait && (w.move.Phase == directory.Watching || w.gives(ctx))) {
			return
		}
		if w.rests(ctx, action) {
			return
		}
		from := w.move.Phase
		err := w.do(ctx, action)
		reached := w.move.Phase
		if err == nil {
			failed = 0
			if reached != from {
				w.log.InfoContext(ctx, "move", "phase", w.move.Phase)
				if w.move.Phase == directory.Watching {
					return // the record says when there is something to do again
				}
			}
			continue
		}
		if !w.goesOn(ctx) || errors.Is(err, errLost) || errors.Is(err, errRefused) && !w.refused(ctx, reached) {
			return
		}
		w.log.WarnContext(ctx, "move", "action", action, "phase", from, "error", err)
		w.failed(action, err)
		w.doubt()
		failed++
		if !w.refresh(ctx) {
			return
		}
		if w.move.Phase == reached { // else it was recorded, and only the answer was lost
			w.tell(ctx, failed)
		}
		if w.restsAfter(ctx, action, err, failed) {
			return
		}
		if !w.pausing() || failed%tellAfter == 0 {
			w.findAgain(ctx) // one that does not answer may be elsewhere by now, or lost
		}
		if !w.rest(ctx, w.backoff(failed)) || !w.pausing() && !w.refresh(ctx) {
			return
		}
	}
}

// goesOn reports whether there is time for more: while the tenant waits, also where the mover is to stop.
func (w *work) goesOn(ctx context.Context) bool {
	w.waits.Store(w.pausing())
	return ctx.Err() == nil && (w.taking.Err() == nil || w.waits.Load())
}

// refused reports whether the directory has refused something of what is still this mover's, and where this
// mover has it: an operator wishes to cancel it, or the record does not fit it. No other mover would get further.
func (w *work) refused(ctx context.Context, at directory.Phase) bool {
	return w.refresh(ctx) && w.move.Phase == at
}

// backoff is short while a tenant waits.
func (w *work) backoff(failed int) time.Duration {
	if w.pausing() {
		return min(time.Duration(failed)*5*time.Millisecond, 250*time.Millisecond)
	}
	return min(time.Duration(failed)*50*time.Millisecond, 5*time.Second)
}

// errLost says that the move is another mover's now; errRefused, that the directory contradicts: it may be.
var (
	errLost    = errors.New("the lease is lost")
	errRefused = errors.New("the directory refuses")
)

// failed notes what an error means for the move. A cell that does not answer is
// tried again; a cell, or a directory, that contradicts ends a move that is not decided.
func (w *work) failed(a Action, err error) {
	w.waitsFor(err.Error())
	switch {
	case a == Abort, passes(err):
	case w.move.Phase.BeforeDecision() && problem.KindOf(err) != problem.Internal:
		w.facts.Broken, w.facts.Passing = err.Error(), errors.Is(err, errRewritten)
	}
}

// refresh reads the record again: an operator may wish something else by now, and
// an Advance whose answer was lost may have been done. It reports false where the
// record says that the lease is another's; one that cannot be read says nothing.
func (w *work) refresh(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	m, err := w.dir.Move(ctx, w.move.ID)
	if err != nil {
		return true
	}
	if m.Lease != w.move.Lease {
		return false
	}
	if m.Phase == w.move.Phase {
		m.Error = w.move.Error
	} else {
		w.told = m.Error
	}
	w.move = m
	return true
}

// timeouts of one action. A copy, the round after it, the first one of an undo, a check and a comparison may take as
// long as they need: what was ended would be begun again, with more to do.
const (
	stepTimeout  = 5 * time.Second
	roundTimeout = 10 * time.Minute // the round right before the freeze
	longTimeout  = 24 * time.Hour
)

// do does one action and records the phase that it reaches.
func (w *work) do(ctx context.Context, a Action) error {
	if err := w.findCells(ctx); err != nil {
		return err
	}
	step, cancel := context.WithTimeout(ctx, stepTimeout)
	defer cancel()
	m, src, dst := w.asked(), w.reach(w.source), w.reach(w.target)
	var err error
	switch a {
	case Wait:
		w.facts.Checked = false
		if w.rest(ctx, w.cfg.Poll) && !w.refresh(ctx) {
			return errLost
		}
		return nil
	case Reserve:
		if err = w.mayReserve(); err != nil {
			return err
		}
		if err = w.reserve(ctx, m, src, dst); err == nil && m.Undoes != "" {
			err = w.forget(ctx, m, dst) // what it noted before it gave the tenant away is no change of what is to come
		}
	case Arm:
		err = src.Arm(step, m, w.cfg.Limits.FreezeWait) // behind the wait for its lock the tenant waits, too
		if transfer.IsBusy(err) {
			w.facts.Refused++
		} else {
			w.facts.Refused = 0 // freezes count for themselves
		}
	case Copy:
		err = w.pull(ctx, longTimeout, m, dst, false)
	case Round:
		if err = w.pull(ctx, longTimeout, m, dst, false); err == nil {
			w.report.Rounds++
			if w.move.Phase == directory.CaughtUp && !held(w.move) && w.facts.Last.Took > w.cfg.Limits.Drain {
				w.facts.Refused++ // it has caught up once, and does not any more
			}
			return w.note(ctx)
		}
	case Check:
		err = w.check(ctx, m, src, dst)
		w.facts.Checked = err == nil
		if err == nil && w.move.Phase == directory.Frozen { // recorded, and not made: the tenant is served
			w.doubt()
			return w.note(ctx)
		}
	case Look:
		return w.look(ctx, m, src)
	case Freeze:
		return w.freeze(ctx, m, src, dst)
	case Stage:
		err = w.pull(ctx, w.pauseLeft(), m, dst, true)
		w.facts.Staged = err == nil
		return err
	case Decide:
	case Activate:
		if err = dst.Activate(step, m); err == nil {
			w.measured()
		}
	case Retire:
		err = src.Retire(step, m)
	case Compare:
		return w.scrub(ctx, m, src, dst)
	case Purge:
		err = w.purge(ctx, m, src, dst)
	case Abort:
		w.move.Error, w.move.Transient = giveUp(w.move, w.facts, w.cfg.Limits, time.Now())
	case Restore:
		err = w.restore(ctx, m, src, dst)
	}
	if err != nil {
		return err
	}
	return w.advance(ctx, reaches[a])
}

// asked is the move as the cells have to know it.
func (w *work) asked() transfer.Move {
	return transfer.Move{
		ID: w.move.ID, Tenant: w.move.Tenant, Base: w.move.Base,
		Source: w.move.Source, Target: w.move.Target, Undoes: w.move.Undoes,
	}
}

// findCells finds both cells, once.
func (w *work) findCells(ctx context.Context) error {
	if w.source.ID != "" {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, stepTimeout)
	defer cancel()
	return w.lookUp(ctx)
}

// findAgain finds the cells as they are now. Where the directory does not say, they are where they were.
func (w *work) findAgain(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	_ = w.lookUp(ctx)
}

func (w *work) lookUp(ctx context.Context) error {
	target, err := w.dir.Cell(ctx, w.move.Target)
	if err != nil {
		return fmt.Errorf("find target: %w", err)
	}
	source, err := w.dir.Cell(ctx, w.move.Source)
	if err != nil {
		return fmt.Errorf("find source: %w", err)
	}
	w.source, w.target = source, target
	return nil
}

// mayReserve is what the directory, which knows the tenant too, would say: neither cell is asked in vain.
func (w *work) mayReserve() error {
	return w.move.MayReach(directory.Reserved, directory.Tenant{}, w.target)
}

// reserve refuses an unsafe move before anything is done, then makes the target
// await the tenant. To measure a large tenant takes as long as its disk does.
func (w *work) reserve(ctx context.Context, m transfer.Move, src Source, dst Cell) error {
	return w.cancelable(ctx, longTimeout, func(ctx context.Context) error {
		here, err := w.preflight(ctx, m, src, dst, true)
		if err != nil {
			return err
		}
		w.facts.Size = here.Bytes + 1 // never 0: that is "not measured"
		w.report.Size, w.report.AtLeast = here.Bytes, here.AtLeast
		if m.Undoes != "" {
			why, err := w.unsound(ctx)
			if err != nil {
				return err
			}
			if w.report.Whole = why != ""; w.report.Whole {
				w.log.InfoContext(ctx, "the undo copies everything", "why", why)
				m.Undoes = "" // the target begins with nothing, as for any move
			}
		}
		return dst.Reserve(ctx, m)
	})
}

// preflight is what the source says of itself and, where measure is set, the tenant. Conflict where a cell is
// unsafe, or is not what the other one is, or what both were before.
func (w *work) preflight(ctx context.Context, m transfer.Move, src, dst Source, measure bool) (transfer.Report, error) {
	here, err := src.Preflight(ctx, m, measure)
	if err != nil {
		return here, fmt.Errorf("preflight of %s: %w", m.Source, err)
	}
	there, err := dst.Preflight(ctx, m, false)
	if err != nil {
		return here, fmt.Errorf("preflight of %s: %w", m.Target, err)
	}
	for _, f := range append(here.Findings, there.Findings...) {
		return here, problem.New(problem.Conflict, "preflight: %s: %s: %s (fix: %s)", f.Code, f.Table, f.Why, f.Fix)
	}
	if here.Migrations != there.Migrations {
		return here, problem.New(problem.Conflict, "preflight: %s has other migrations (%s) than %s (%s): the tenant's rows would miss some, or get some twice (fix: bring both to one release)",
			m.Source, here.Migrations, m.Target, there.Migrations)
	}
	if here.Fingerprint != there.Fingerprint {
		return here, problem.New(problem.Conflict, "preflight: the schemas of %s and %s differ (fix: bring both to one release)", m.Source, m.Target)
	}
	if w.facts.Schema != "" && w.facts.Schema != here.Fingerprint {
		return here, problem.New(problem.Conflict, "preflight: the schema of %s and %s was altered during the move (fix: move again)", m.Source, m.Target)
	}
	now := files{m.Source: here.Files, m.Target: there.Files}
	if c := w.report.Files.rewritten(now); c != "" {
		return here, problem.Wrap(problem.Conflict, errRewritten, fmt.Sprintf("preflight: a table of %s was rewritten during the move, and nobody noted which rows that has changed (fix: move again)", c))
	}
	w.facts.Schema, w.report.Schema, w.report.Files = here.Fingerprint, here.Fingerprint, now
	return here, nil
}

// pull makes the target take a round.
func (w *work) pull(ctx context.Context, timeout time.Duration, m transfer.Move, dst Target, final bool) error {
	round := func(ctx context.Context) error {
		counted := func() int64 { return 0 }
		if !final {
			counted = w.tellComing(ctx, m, dst)
		}
		got, err := dst.Pull(ctx, m, w.source.Transfer(), final) // Took is of the rows: nobody waits for Redis
		n := counted()
		if err != nil {
			return fmt.Errorf("round: %w", err)
		}
		w.took(got)
		w.m.rows.Add(float64(max(0, got.Totals.Rows-n)))
		return nil
	}
	if final { // the pause is short: nobody asks meanwhile whether the cells are there
		ctx, cancel := context.WithTimeout(ctx, timeout)
		defer cancel()
		return round(ctx)
	}
	return w.cancelable(ctx, timeout, round)
}

// cancelable is attended, of what an operator's cancel ends as well.
func (w *work) cancelable(ctx context.Context, timeout time.Duration, do func(ctx context.Context) error) error {
	ctx, cancel := context.WithCancel(ctx) // the deadline is that of who attends it
	defer cancel()
	w.cancelled.ends(cancel)
	defer w.cancelled.ends(nil)
	return w.attended(ctx, timeout, do)
}

// took notes a round.
func (w *work) took(got transfer.Received) {
	w.facts.Last, w.facts.WorkedAt, w.facts.Rounds = got, time.Now(), w.facts.Rounds+1
	w.report.Rows += got.Totals.Rows
	w.report.Keys += got.Totals.Keys
	w.report.Bytes += got.Totals.Bytes
	w.report.LastRound, w.report.Verified = got.Took, time.Now()
	w.report.Whole = w.report.Whole || got.Round == 0 // also where the source did not know of the kept copy any more
}

// check verifies what hashes do not show, and that no cell was altered under the move.
// What it finds ends the move.
func (w *work) check(ctx context.Context, m transfer.Move, src Source, dst Cell) error {
	return w.cancelable(ctx, longTimeout, func(ctx context.Context) error {
		if _, err := w.preflight(ctx, m, src, dst, false); err != nil {
			return err
		}
		if err := w.checkKept(ctx, m); err != nil {
			return err
		}
		found, err := dst.Verify(ctx, m)
		if err != nil {
			return fmt.Errorf("verify: %w", err)
		}
		for _, f := range found {
			return problem.New(problem.Conflict, "verify: %s: %s: %s", f.Code, f.Table, f.Why)
		}
		return nil
	})
}

// retryScrub is how soon a comparison is made again whose result was recorded, but
// of which the record could not be read.
const retryScrub = time.Minute

// errNotOver says that the directory's clock is behind this one.
var errNotOver = errors.New("the watch is not over by the directory's clock")

// scrub compares the two copies of a watching move and records what was found. A
// move whose copies differ waits for its operator from then on; one whose copies are
// equal, and whose watch is over, is completed.
func (w *work) scrub(ctx context.Context, m transfer.Move, src, dst Cell) error {
	over := w.move.WatchOver(time.Now())
	err := w.attended(ctx, longTimeout, func(ctx context.Context) error { return w.compare(ctx, m, src, dst) })
	asked := w.move.Wish == directory.Verify
	soon := errors.Is(err, errTwoReleases) // who asks is told so; the watch's own comparison waits for it

	// Asking again gives no other answer, or is for the next time.
	if err != nil && ctx.Err() == nil && (!passes(err) || soon && asked || !asked && !over) {
		w.report.Compared, w.report.Comparison = time.Now(), transfer.Comparison{Failed: err.Error(), Differ: w.report.Comparison.Differ} // what was found before still is
		err = nil
	}
	if err != nil {
		return err
	}
	said, c := w.move, w.report.Comparison
	switch {
	case c.Failed == "" && len(c.Differ) > 0:
		w.m.differ.Inc()
		w.move.StopAt = directory.Watching
	case c.Failed != "" && soon: // and the watch does not end by it
	case c.Failed != "" && over && w.source.State != directory.Retired:
		w.move.StopAt = directory.Watching // somebody has to look, before a copy goes
	case over:
		w.move.Wish = directory.Complete
	}
	if err := w.note(ctx); err != nil {
		w.move = said // nothing counts that is not recorded
		return err
	}
	wanted := w.move.Wish == directory.Complete
	w.move = said
	w.move.Wish, w.move.NotBefore = directory.Proceed, time.Now().Add(retryScrub) // as the record has it now, or nearly so
	w.refresh(ctx)
	if wanted && w.move.Wish != directory.Complete && w.move.UndoneBy == "" {
		return errNotOver
	}
	return nil
}

// passes reports whether an error says only that somebody does not answer just now, or does not
// take this mover's word: a key or a clock is to be put right, and no move is at fault.
func passes(err error) bool {
	return errors.Is(err, problem.Unavailable) || errors.Is(err, problem.Timeout) || errors.Is(err, context.DeadlineExceeded) ||
		errors.Is(err, problem.Unauthenticated) || errors.Is(err, problem.Forbidden)
}

func (w *work) purge(ctx context.Context, m transfer.Move, src Source, dst Target) error {
	return w.attended(ctx, longTimeout, func(ctx context.Context) error {
		n, err := src.Purge(ctx, m)
		if err != nil {
			return fmt.Errorf("purge %s: %w", m.Source, err)
		}
		w.report.Purged += n
		return dst.Disarm(ctx, m, w.cfg.Limits.FreezeWait)
	})
}

// restore ends an aborted move. The source first: its tenant waits. That ends the
// pause; to forget what was noted during a long copy may take longer than any. An undo's
// target keeps its rows, since they are what the next undo begins with.
func (w *work) restore(ctx context.Context, m transfer.Move, src, dst Cell) error {
	step, cancel := context.WithTimeout(ctx, stepTimeout)
	defer cancel()
	if err := src.Release(step, m); err != nil {
		return fmt.Errorf("release: %w", err)
	}
	w.released = true
	if w.measured() {
		if err := w.note(ctx); err != nil { // at once: the move may rest before it ends
			return err
		}
	}
	if !w.placed(ctx) { // nobody waits any more, and what is left may take long
		return ctx.Err()
	}
	if err := w.forget(ctx, m, src); err != nil {
		return err
	}
	if w.silent.of(w.move.Target) > 0 {
		if m.Undoes == "" && w.move.Previous == directory.Planned && !w.target.State.TakesTenants() {
			return nil // at most a fence there awaits the tenant, whom nobody sends there now; the next move takes it
		}
		return problem.New(problem.Unavailable, "discard: cell %s does not answer", w.move.Target)
	}
	step, cancel = context.WithTimeout(ctx, stepTimeout)
	defer cancel()
	if err := dst.Discard(step, m); err != nil {
		return fmt.Errorf("discard: %w", err)
	}
	if m.Undoes != "" {
		return nil
	}
	err := w.attended(ctx, longTimeout, func(ctx context.Context) error {
		_, err := dst.Purge(ctx, m)
		return err
	})
	if errors.Is(err, problem.Conflict) {
		return nil // the target never awaited the tenant: there is nothing of the move's there
	}
	return err
}

// forget removes what was noted at a cell of the move where the tenant is not armed.
func (w *work) forget(ctx context.Context, m transfer.Move, at Source) error {
	return w.attended(ctx, longTimeout, func(ctx context.Context) error {
		if err := at.Forget(ctx, m); err != nil {
			return fmt.Errorf("forget: %w", err)
		}
		return nil
	})
}

// advance records a phase.
func (w *work) advance(ctx context.Context, to directory.Phase) error {
	next := w.move
	if next.Phase = to; to != w.move.Phase {
		next.Previous = w.move.Phase
	}
	switch to {
	case directory.Aborting:
	case directory.Aborted:
		next.Error, _, _ = strings.Cut(next.Error, unended)
	default:
		next.Error = ""
	}
	err := w.record(ctx, next)
	if err == nil {
		w.m.phases.WithLabelValues(string(to)).Inc()
	}
	return err
}

// record records the move as it is next, with the report.
func (w *work) record(ctx context.Context, next directory.Move) error {
	next.Report, _ = json.Marshal(w.report.shifted(w.ahead)) // plain numbers and times: it cannot fail
	ctx, cancel := context.WithTimeout(ctx, stepTimeout)
	defer cancel()
	if err := w.dir.Advance(ctx, next, w.move.Phase); err != nil {
		return refusedOr(fmt.Errorf("record %s: %w", next.Phase, err))
	}
	w.move, w.told = next, next.Error
	return nil
}

// note records how far the rounds are.
func (w *work) note(ctx context.Context) error { return w.advance(ctx, w.move.Phase) }

// refusedOr tells a directory that contradicts from one that does not answer, and from one that only does not
// let the move begin. What
// was asked of one that did not answer is in doubt: run reads the record again
// before it does anything else.
func refusedOr(err error) error {
	if !directory.TurnedAway(err) && (errors.Is(err, problem.Conflict) || errors.Is(err, problem.NotFound)) {
		return fmt.Errorf("%w: %w", errRefused, err)
	}
	return err
}
