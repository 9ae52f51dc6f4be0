// Package mover moves tenants between cells while they are in use.
//
// What to do next is a pure function, [Next], from what is recorded and observed
// to one step; the loop around it does the I/O. A mover that dies leaves at most
// one step done and not recorded, or a freeze recorded and not done; every step may be done again, and each says
// which move and epoch it is for, so that what a mover says after it has lost its
// lease changes nothing. docs/MOVE.md tells the protocol.
package mover

import (
	"fmt"
	"time"

	"github.com/cellway/cellway/cell/transfer"
	"github.com/cellway/cellway/directory"
)

// An Action is the one thing to do next about a move.
type Action string

// The actions, in the order in which a move that goes well needs them.
const (
	Wait     Action = "wait"     // nothing until the record changes or time passes
	Reserve  Action = "reserve"  // preflight both cells, then make the target await the tenant
	Arm      Action = "arm"      // make the source note what changes
	Copy     Action = "copy"     // round 0
	Round    Action = "round"    // bring the target to the source's present
	Check    Action = "check"    // verify the target's copy; the directory must answer
	Look     Action = "look"     // has a mover before made the freeze that is recorded?
	Freeze   Action = "freeze"   // record it, and begin the pause
	Stage    Action = "stage"    // the final round
	Decide   Action = "decide"   // the directory gives the tenant to the target
	Activate Action = "activate" // end the pause
	Retire   Action = "retire"   // the source's fence becomes a tombstone
	Compare  Action = "compare"  // while it watches: are both copies sound?
	Purge    Action = "purge"    // end the watch: remove the source's copy
	Abort    Action = "abort"    // the directory decides against the move
	Restore  Action = "restore"  // the source serves again, the target forgets
	Nothing  Action = "nothing"  // the move has ended
)

// reaches is the phase that an action, done, is recorded as.
var reaches = map[Action]directory.Phase{
	Reserve: directory.Reserved, Arm: directory.Armed, Copy: directory.Copied, Check: directory.CaughtUp, Decide: directory.Decided, Activate: directory.Activated, Retire: directory.Watching,
	Purge: directory.Completed, Abort: directory.Aborting, Restore: directory.Aborted,
}

// Limits bound a move.
type Limits struct {
	Pause      time.Duration // longest pause before the move is aborted by itself; default 300 ms
	Drain      time.Duration // longest last round, outside the pause, that lets the freeze begin; default a quarter of Pause
	Rounds     int           // rounds after which a move that does not catch up is aborted; default 50
	SmallBytes int64         // a tenant up to this size is copied inside the pause; 0: none is (docs/decisions/0004)
	FreezeWait time.Duration // how long a freeze waits for the tenant's open transactions; default 150 ms
	FreezeTry  int           // freezes that may fail before the move is aborted; default 20
}

// Default fills in what is zero.
func (l Limits) Default() Limits {
	set := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	set(&l.Pause, 300*time.Millisecond)
	set(&l.Drain, l.Pause/4)
	set(&l.FreezeWait, 150*time.Millisecond)
	if l.Rounds == 0 {
		l.Rounds = 50
	}
	if l.FreezeTry == 0 {
		l.FreezeTry = 20
	}
	return l
}

// Validate checks the relations: a round that may begin the pause must fit into it.
func (l Limits) Validate() error {
	if l = l.Default(); l.Drain >= l.Pause || l.FreezeWait >= l.Pause {
		return fmt.Errorf("the last round (%v) and the wait of the freeze (%v) must be shorter than the pause budget (%v)", l.Drain, l.FreezeWait, l.Pause)
	}
	return nil
}

// Facts are what a mover has observed of a move while it works on it. The zero
// Facts, of a mover that has just taken over, are always safe to act on: they
// lead to repeated steps, never to skipped ones. One that takes over where the pause may have
// begun has Frozen set from then on, until it has looked.
type Facts struct {
	Size     int64             // bytes of the tenant, by preflight; 0 where this mover made none
	Last     transfer.Received // the round that this mover made last
	Rounds   int               // rounds made by this mover
	Knows    bool              // this mover knows whether the freeze that is recorded was made by a mover before
	Froze    bool              // the source has told this mover that the tenant is frozen
	Staged   bool              // the target has taken the final round
	Frozen   time.Time         // when the pause began, or may have begun, or this mover took over in it; zero outside it
	Refused  int               // freezes, or before them tries to arm, that did not get through: open transactions, or too much was written right before; long rounds of a move that had caught up
	Broken   string            // a reason to give up: a finding, a mismatch
	Passing  bool              // another attempt may not meet Broken: it copies everything anew
	Checked  bool              // Check was done by this mover, and the move has not waited for its operator since
	Schema   string            // fingerprint of both cells, when the first mover looked first
	WorkedAt time.Time         // when the last round was made
}

// Next says what to do next about a move. It is pure: the same record, facts,
// limits and time give the same answer.
func Next(m directory.Move, f Facts, l Limits, now time.Time) Action {
	if why, _ := giveUp(m, f, l, now); why != "" {
		return Abort
	}
	switch m.Phase {
	case directory.Planned:
		return Reserve
	case directory.Reserved:
		return Arm
	case directory.Armed:
		if m.Undoes == "" && f.Size > 0 && f.Size <= l.SmallBytes && m.StopAt != directory.CaughtUp {
			return Freeze
		}
		return Copy
	case directory.Copied:
		return catchUp(f, l)
	case directory.CaughtUp:
		return readyToFreeze(m, f, l, now)
	case directory.Frozen, directory.Staged:
		return inPause(m, f)
	case directory.Decided:
		return Activate
	case directory.Activated:
		return Retire
	case directory.Watching:
		return watch(m, now)
	case directory.Aborting:
		return Restore
	}
	return Nothing
}

// inPause goes on where the freeze is recorded. That comes before it: a mover that takes over
// looks whether it was made. Where it was not, the tenant is served, and may have been for long.
func inPause(m directory.Move, f Facts) Action {
	switch {
	case f.Staged:
		return Decide
	case f.Froze || m.Phase == directory.Staged:
		return Stage
	case !f.Knows:
		return Look
	case f.Frozen.IsZero() && !f.Checked && !copiesInPause(m):
		return Check
	}
	return Freeze
}

// copiesInPause reports whether all of the tenant, which is small, is copied inside the pause.
func copiesInPause(m directory.Move) bool {
	return m.Phase == directory.Armed || m.Phase == directory.Frozen && m.Previous == directory.Armed
}

// watch purges once the directory says that the move is completed, because an operator
// wanted it or because a last comparison, at the end of the watch, has found both copies
// equal: then the way back is closed. Until then it compares them when somebody asks,
// and by itself now and then.
func watch(m directory.Move, now time.Time) Action {
	over := !m.WatchEnds.IsZero() && now.After(m.WatchEnds)
	switch {
	case m.UndoneBy != "":
		return Wait
	case m.Wish == directory.Complete:
		return Purge
	case over, m.Wish == directory.Verify, !now.Before(m.NotBefore):
		return Compare
	}
	return Wait
}

// giveUp says why a move that is not decided should be aborted, or "". What only
// a bound forbade, or a table that was rewritten meanwhile, another attempt may reach.
func giveUp(m directory.Move, f Facts, l Limits, now time.Time) (why string, transient bool) {
	switch {
	case !m.Phase.BeforeDecision():
		return "", false
	case m.Wish == directory.Cancel:
		return "cancelled", false
	case f.Broken != "":
		return f.Broken, f.Passing
	case !f.Frozen.IsZero() && now.Sub(f.Frozen) > l.Pause:
		return fmt.Sprintf("the pause exceeded its budget of %v", l.Pause), true
	case f.Refused >= l.FreezeTry:
		return fmt.Sprintf("%d freezes, or tries to arm, did not get through", f.Refused), true
	case m.Phase == directory.Copied && f.Rounds >= l.Rounds:
		return fmt.Sprintf("the tenant changes faster than %d rounds could follow", f.Rounds), true
	}
	return "", false
}

// catchUp makes rounds until one is short enough to be made inside the pause.
func catchUp(f Facts, l Limits) Action {
	if f.Rounds == 0 || f.Last.Took > l.Drain {
		return Round
	}
	return Check
}

// idleRound is how often a move that waits for its operator, caught up, is kept so.
const idleRound = 2 * time.Second

// readyToFreeze waits for the operator where one was asked for, checks again what may
// have changed meanwhile, and goes back to rounds where a freeze did not get through or
// this mover knows nothing yet.
func readyToFreeze(m directory.Move, f Facts, l Limits, now time.Time) Action {
	switch held := held(m); {
	case held && now.Sub(f.WorkedAt) < idleRound:
		return Wait
	case !held && !f.Checked:
		return Check
	case held, f.Rounds == 0, f.Last.Took > l.Drain, now.Sub(f.WorkedAt) > time.Second:
		return Round
	}
	return Freeze
}

// held reports whether a move that has caught up waits for its operator.
func held(m directory.Move) bool {
	return m.StopAt == directory.CaughtUp && m.Wish != directory.Switch
}
