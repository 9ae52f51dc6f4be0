package directory

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/cellway/cellway/infra/problem"
)

// Limits of what a record of a move holds.
const (
	// LongestWatch is how long a way back can stay open.
	LongestWatch = 90 * 24 * time.Hour
	longestLease = time.Hour
	mostAttempts = 100
	largestText  = 2 << 10  // of Move.Error, in bytes; the rest is cut off
	largestStory = 32 << 10 // of Move.Report, in bytes
)

// MoveSubject is what a move's audit lines are about.
func MoveSubject(id MoveID) string { return "move/" + string(id) }

// Validate reports what is wrong with a move as it is asked for.
func (n NewMove) Validate() error {
	var bad fieldErrors
	bad.check(n.Tenant > 0, "/tenant", "must be positive")
	bad.check(cellForm.MatchString(string(n.Target)), "/target", "must match "+cellForm.String())
	bad.check(n.StopAt == "" || n.StopAt == CaughtUp || n.StopAt == Watching, "/stop_at", "must be caught_up or watching")
	bad.check(n.Watch >= 0 && n.Watch <= LongestWatch, "/watch", "must be 0 to 90 days, in nanoseconds")
	bad.check(n.Attempts >= 0 && n.Attempts <= mostAttempts, "/attempts", "must be 0 to 100")
	return bad.err("move")
}

// CheckLease reports what is wrong with a lease of the move id ("" is any) as
// holder asks for it.
func CheckLease(id MoveID, holder string, ttl time.Duration) error {
	var bad fieldErrors
	bad.check(len(holder) > 0 && len(holder) <= 100 && plain(holder), "/holder", "must be 1 to 100 bytes of printable text")
	bad.check(ttl >= 0 && ttl <= longestLease, "/ttl_ms", "must be 0 to an hour, in milliseconds")
	bad.check(ttl > 0 || id != "" && id != InPause, "/id", "must say which lease is given back")
	return bad.err("lease")
}

// Begin is the move that the record keeps when n is asked for at now: of tenant
// t, whose moves that have not ended are open, to cell to, while so many other
// tenants are coming there. kin says whether another tenant of its group is there or
// coming; it matters to a Planned move only. The error is CreateMove's.
func (n NewMove) Begin(id MoveID, t Tenant, to Cell, open []Move, coming int, kin bool, now time.Time) (Move, error) {
	m := Move{
		ID: id, Tenant: t.ID, Source: t.Placement.Cell, Target: to.ID, Base: t.Placement.Epoch, Phase: Planned,
		Undoes: n.Undoes, StopAt: n.StopAt, Watch: n.Watch, Created: now, Changed: now,
		Attempt: 1, Attempts: n.Attempts, Planned: n.Planned,
	}
	if m.Attempts == 0 {
		m.Attempts = DefaultAttempts
	}
	if m.Watch == 0 {
		m.Watch = DefaultWatch
	}
	for _, o := range open {
		if o.UnderWay() {
			return Move{}, o.inTheWay("cancel it, or wait until it has ended")
		}
	}
	switch {
	case t.Placement.State != Active:
		return Move{}, problem.New(problem.Conflict, "tenant %d is %s", t.ID, t.Placement.State)
	case m.Source == m.Target:
		return Move{}, problem.New(problem.Conflict, "tenant %d is on cell %s already", t.ID, m.Target)
	case n.Undoes != "":
		return m, n.checkUndo(to, open, now)
	case len(open) > 0:
		return Move{}, open[0].inTheWay("undo it, or complete it")
	case n.Planned && t.Pinned:
		return Move{}, problem.New(problem.Conflict, "tenant %d is pinned to %s", t.ID, m.Source)
	case n.Planned && kin:
		return Move{}, problem.New(problem.Conflict, "cell %s has a tenant of group %q, or one is on its way there", m.Target, t.Group)
	}
	to.Tenants += coming
	_, err := chooseNamed(NewTenant{Cell: to.ID, Locality: t.Locality, Tier: t.Tier}, []Cell{to})
	return m, err
}

// checkUndo reports why the way back of the move that n undoes is closed.
func (n NewMove) checkUndo(to Cell, open []Move, now time.Time) error {
	i := slices.IndexFunc(open, func(o Move) bool { return o.ID == n.Undoes })
	switch {
	case i < 0:
		return problem.New(problem.Conflict, "move %s does not watch over tenant %d", n.Undoes, n.Tenant)
	case open[i].Source != n.Target:
		return problem.New(problem.Conflict, "move %s is undone by a move to %s", n.Undoes, open[i].Source)
	case open[i].WatchOver(now):
		return problem.New(problem.Conflict, "the watch of move %s is over", n.Undoes)
	}
	return to.MayOwn()
}

// UnderWay reports whether the move may still change the tenant's owner or has
// work to do about it.
func (m Move) UnderWay() bool { return m.Phase != Watching && !m.Phase.Ended() }

// WatchOver reports whether the way back is closed at now: the source's copy may
// be gone.
func (m Move) WatchOver(now time.Time) bool {
	return m.Phase != Watching || m.Wish == Complete || !m.WatchEnds.IsZero() && !now.Before(m.WatchEnds)
}

// Waits reports whether a move that has not ended has no work to do at now: it
// rests, or waits for its time, for its operator, for its watch to end or for the
// move that undoes it.
func (m Move) Waits(now time.Time) bool {
	if now.Before(m.Rests) {
		return true
	}
	switch m.Phase {
	case Planned:
		return now.Before(m.NotBefore) && m.Wish != Cancel
	case CaughtUp:
		return m.StopAt == CaughtUp && m.Wish == Proceed
	case Watching:
		return m.UndoneBy != "" || m.Wish != Verify && !m.WatchOver(now) && now.Before(m.NotBefore)
	}
	return false
}

// Turn says which of the moves that have work comes first, the least: whose tenant waits, or
// may, as of all that are aborting: its source serves it again when it was told the epoch that the
// directory has; then undos, moves that somebody asks for by name, and all others.
func (m Move) Turn() int {
	switch {
	case m.Phase == Frozen, m.Phase == Staged, m.Phase == Decided, m.Phase == Aborting:
		return 0
	case m.UnderWay() && m.Undoes != "":
		return 1
	case m.UnderWay() && !m.Planned:
		return 2
	}
	return 3
}

// inTheWay is the Conflict of whoever wants what m forbids.
func (m Move) inTheWay(hint string) error {
	return problem.New(problem.Conflict, "tenant %d is moving (move %s is %s): %s", m.Tenant, m.ID, m.Phase, hint).
		With("move", string(m.ID))
}

// MayDelete reports, as a Conflict, one of a tenant's moves that have not ended
// that forbids to delete it.
func MayDelete(open []Move) error {
	for _, m := range open {
		if m.UnderWay() {
			return m.inTheWay("cancel the move or wait until it has ended, then delete the tenant")
		}
	}
	return nil
}

// MayPlace reports, as a Conflict, one of a tenant's moves that have not ended:
// until then only its moves place it.
func MayPlace(open []Move) error {
	if len(open) > 0 {
		return open[0].inTheWay("a tenant is placed by hand only when its moves have ended")
	}
	return nil
}

// MayEnter reports, as a Conflict, one of the moves that have not ended that
// forbids cell id to go to state to.
func MayEnter(id CellID, to CellState, open []Move) error {
	for _, m := range open {
		coming := m.Target == id && m.Phase.BeforeDecision()
		needed := m.Target == id || m.Source == id
		if to == Drained && coming || to == Retired && needed {
			return problem.New(problem.Conflict, "cell %s cannot become %s: tenant %d is moving (move %s from %s to %s is %s)",
				id, to, m.Tenant, m.ID, m.Source, m.Target, m.Phase).With("move", string(m.ID))
		}
	}
	return nil
}

// EndWithout asks for the end of moves that have not ended and one of whose cells is lost.
// What is decided goes on without being asked. Conflict, in the end, where one is being
// undone: that is cancelled, and when it has ended this can be asked again.
func EndWithout(ctx context.Context, d Moves, open []Move) error {
	var left error
	for _, m := range open {
		w := Cancel
		if m.Phase == Watching {
			w = Complete
		}
		_, err := d.AskMove(ctx, m.ID, w)
		switch {
		case err == nil:
		case !errors.Is(err, problem.Conflict):
			return err
		case m.Phase == Watching:
			left = problem.New(problem.Conflict, "the cell is removed, and move %s is being undone by move %s: remove it again when that has ended", m.ID, m.UndoneBy).
				With("move", string(m.UndoneBy))
		}
	}
	return left
}

// Ask is the move with the wish w, asked at now; it is m itself where there is nothing to
// change. The error is AskMove's.
func (m Move) Ask(w Wish, now time.Time) (Move, error) {
	var may, fulfilled bool
	unheard := w == CompleteSame && m.Wish != Complete && differs(m.Report)
	if w == CompleteSame {
		w = Complete
	}
	switch w {
	case Proceed:
		switched := m.StopAt == CaughtUp && (m.Phase == Frozen || m.Phase == Staged) // it does not wait there any more
		may = !m.Phase.Ended() && m.Phase != Aborting && m.Wish != Complete && !switched
	case Switch:
		may = m.Phase.BeforeDecision() && m.Wish != Cancel // what is to be cancelled is not decided any more
	case Cancel:
		// One that was aborted by a bound is cancelled so that it is not tried again.
		may = m.Phase.BeforeDecision() || m.Phase == Aborting && m.Transient
		fulfilled = !may && (m.Phase == Aborting || m.Phase == Aborted && m.RetriedBy == "")
	case Verify:
		may = m.Phase == Watching && m.UndoneBy == "" && m.Wish != Complete
	case Close:
		may = m.Phase == Watching && m.UndoneBy == "" && m.StopAt != Watching
		fulfilled = m.Phase == Completed || m.Phase == Watching && m.Wish == Complete
	case Complete:
		may, fulfilled = m.Phase == Watching && m.UndoneBy == "", m.Phase == Completed
	default:
		e := problem.New(problem.Invalid, "%q is not a wish", w)
		e.Fields = []problem.Field{{Pointer: "/wish", Detail: `must be "", switch, cancel, verify, close, complete or complete_same`}}
		return Move{}, e
	}
	switch {
	case fulfilled:
		return m, nil
	case may && unheard:
		return Move{}, problem.New(problem.Conflict, "move %s is not completed: its copies differ", m.ID)
	case !may && m.UndoneBy != "" && m.Phase == Watching:
		return Move{}, problem.New(problem.Conflict, "move %s is being undone by move %s", m.ID, m.UndoneBy)
	case !may && w == Close && m.Phase == Watching:
		why := "its copies could not be compared, or it was made to wait"
		if differs(m.Report) {
			why = "its copies differ"
		}
		return Move{}, problem.New(problem.Conflict, "move %s waits for its operator: %s", m.ID, why)
	case !may && m.RetriedBy != "":
		return Move{}, problem.New(problem.Conflict, "move %s is %s and tried again: ask move %s", m.ID, m.Phase, m.RetriedBy).
			With("move", string(m.RetriedBy))
	case !may && (w == Verify || w == Close || w == Complete) && (m.Phase.BeforeDecision() || m.Phase == Decided):
		return Move{}, problem.New(problem.Conflict, "move %s is %s: too early to %s", m.ID, m.Phase, w)
	case !may:
		return Move{}, problem.New(problem.Conflict, "move %s is %s: too late to %s", m.ID, m.Phase, orProceed(w))
	}
	switch {
	case w == Close && m.WatchOver(now):
		return m, nil
	case w == Close:
		m.WatchEnds = now
	default:
		m.Wish = w
	}
	m.Rests = time.Time{}
	return m, nil
}

// Rest is m when the mover that has said's lease gives it back, at now, for d.
func (m Move) Rest(said Move, d time.Duration, now time.Time) (Move, error) {
	switch {
	case m.Phase.Ended() || said.Lease != m.Lease || said.Lease <= 0:
		return Move{}, problem.New(problem.Conflict, "move %s is %s and has lease %d: lease %d is lost", m.ID, m.Phase, m.Lease, said.Lease)
	case said.Wish != m.Wish:
		return Move{}, problem.New(problem.Conflict, "move %s has another wish", m.ID)
	}
	m.Holder, m.Leased, m.Rests = "", time.Time{}, now.Add(d)
	return m, nil
}

// MaySwitch reports, as a Conflict, why a move that may have waited for long must not
// be let go on: what CreateMove asked of the tenant and the target does not hold any more.
func (m Move) MaySwitch(t Tenant, to Cell) error {
	if t.Placement.State == Suspended {
		return problem.New(problem.Conflict, "tenant %d is %s", t.ID, t.Placement.State)
	}
	return m.mayGo(t, to)
}

// MayReach reports, as a Conflict of which TurnedAway is true, that a move which has waited its turn must not leave
// Planned any more: its target may not take the tenant, as in CreateMove. That the tenant was
// suspended meanwhile does not matter: it arrives so.
func (m Move) MayReach(p Phase, t Tenant, to Cell) error {
	if m.Phase != Planned || p != Reserved {
		return nil
	}
	err := m.mayGo(t, to)
	if e, ok := errors.AsType[*problem.Error](err); ok {
		return e.With(turnedAway, string(to.ID))
	}
	return err
}

// mayGo reports, as a Conflict, that the target may not take the tenant.
func (m Move) mayGo(t Tenant, to Cell) error {
	if err := to.MayOwn(); err != nil || m.Undoes != "" {
		return err
	}
	_, err := chooseNamed(NewTenant{Cell: to.ID, Locality: t.Locality, Tier: t.Tier}, []Cell{to})
	return err
}

// turnedAway is the member of the problem of a move that may not begin; it names the target.
const turnedAway = "turned_away"

// TurnedAway reports whether err is the directory's word that a move may not begin, also on the far side of
// an HTTP hop: the move is its mover's as before.
func TurnedAway(err error) bool {
	p, ok := errors.AsType[*problem.Error](err)
	return ok && p.Extra[turnedAway] != ""
}

func orProceed(w Wish) string {
	if w == Proceed {
		return "proceed otherwise"
	}
	return string(w)
}

// Advanced is the move that the record keeps when its mover says, at now, that
// said.Phase was reached from from. news is false where that is recorded already.
// The error is Advance's, but for the placement.
func (m Move) Advanced(said Move, from Phase, now time.Time) (next Move, news bool, err error) {
	moves := said.Phase != from
	switch {
	case said.Lease <= 0 || said.Lease != m.Lease:
		err = problem.New(problem.Conflict, "move %s has lease %d: lease %d is lost", m.ID, m.Lease, said.Lease)
	case moves && m.Phase == said.Phase && m.Previous == from:
		return m, false, nil
	case m.Phase != from || m.Phase.Ended():
		err = problem.New(problem.Conflict, "move %s is %s", m.ID, m.Phase)
	case moves && !from.CanBecome(said.Phase):
		err = problem.New(problem.Conflict, "a move cannot go from %s to %q", from, said.Phase)
	case moves && said.Phase == Decided && m.Wish == Cancel:
		err = problem.New(problem.Conflict, "move %s is cancelled", m.ID)
	case said.Phase == Undone:
		err = problem.New(problem.Conflict, "move %s ends as undone when the move that undoes it is watching", m.ID)
	case said.Phase == Completed && m.UndoneBy != "":
		err = problem.New(problem.Conflict, "move %s is being undone by move %s", m.ID, m.UndoneBy)
	case len(said.Report) > 0 && !isStory(said.Report):
		err = badStory()
	}
	if err != nil {
		return Move{}, false, err
	}
	found := differs(said.Report) && !differs(m.Report)
	m.Report, m.Error = said.Report, cut(said.Error)
	if !moves && m.Phase == Watching {
		m = m.compared(said, found, now)
	}
	if moves {
		m = m.reach(said.Phase, now)
		m.Transient = m.Transient || said.Transient && said.Phase == Aborting
	}
	return m, true, nil
}

// Retry is the move that tries again what m, just Aborted, was: of tenant t, whose
// moves that have not ended are open, to cell to. The other parameters are
// Begin's. again is false where nothing is tried again.
func (m Move) Retry(id MoveID, t Tenant, to Cell, open []Move, coming int, kin bool, now time.Time) (next Move, again bool) {
	if !m.Retryable() {
		return Move{}, false
	}
	next, err := NewMove{
		Tenant: m.Tenant, Target: m.Target, StopAt: m.StopAt, Watch: m.Watch, Undoes: m.Undoes, Attempts: m.Attempts, Planned: m.Planned,
	}.Begin(id, t, to, open, coming, kin, now)
	if err != nil {
		return Move{}, false // what forbids it now would have forbidden it at first
	}
	next.Attempt, next.Retries, next.NotBefore = m.Attempt+1, m.ID, now.Add(retryWait(m.Attempt))
	if m.Wish == Switch {
		next.Wish = Switch // the operator has said so once
	}
	return next, true
}

// Retryable reports whether m, once Aborted, is to be tried again.
func (m Move) Retryable() bool {
	return m.Phase == Aborted && m.Transient && m.Wish != Cancel && m.Attempt < m.Attempts
}

// The waits between attempts grow from the first to the longest.
const (
	firstRetry   = time.Second
	longestRetry = time.Minute
)

func retryWait(attempt int) time.Duration {
	wait := firstRetry
	for range attempt - 1 {
		if wait *= 2; wait >= longestRetry {
			return longestRetry
		}
	}
	return wait
}

// The copies of a watching move are compared soon after the switch, and then again
// and again while the way back is open.
const (
	firstScrub = time.Minute
	scrubEvery = 6 * time.Hour
)

// differs reports whether a mover's report says that the copies of its move are not the same.
func differs(report json.RawMessage) bool {
	var r struct {
		Comparison struct {
			Differ []string `json:"differ"`
		} `json:"comparison"`
	}
	return json.Unmarshal(report, &r) == nil && len(r.Comparison.Differ) > 0
}

// compared is a watching move whose mover has reported of a comparison. One whose
// copies differ, or could not be compared in the end, stops there for its operator: its watch does not end by
// itself; where that they differ was found only now, nor by the wish of who did not know
// it yet. One whose copies are equal at the end of its watch is completed from now on: nobody
// takes back what is about to be purged.
func (m Move) compared(said Move, found bool, now time.Time) Move {
	over := m.WatchOver(now) && m.UndoneBy == ""
	m.NotBefore = now.Add(scrubEvery)
	if m.Wish == Verify {
		m.Wish = Proceed // it is in the report
	}
	if found || said.StopAt == Watching && m.StopAt != Watching {
		m.StopAt, m.WatchEnds = Watching, time.Time{}
	}
	switch {
	case found:
		m.Wish = Proceed
	case m.Wish == Complete:
	case said.Wish == Complete && over:
		m.Wish = Complete
	}
	return m
}

// reach is the move in its next phase.
func (m Move) reach(p Phase, now time.Time) Move {
	m.Previous, m.Phase, m.Changed = m.Phase, p, now
	if p == Watching {
		m.NotBefore = now.Add(firstScrub)
		if m.StopAt != Watching {
			m.WatchEnds = now.Add(m.Watch)
		}
	}
	return m
}

// cut makes an error's text one that can be kept, and shown at a terminal: a strange one,
// as a cell may answer, must not stop a move.
func cut(s string) string {
	s = strings.Map(func(r rune) rune {
		switch {
		case r == '\n', r == '\r', r == '\t':
			return ' '
		case unicode.IsControl(r):
			return '?'
		}
		return r
	}, strings.ToValidUTF8(s, "?"))
	if len(s) > largestText {
		s = strings.ToValidUTF8(s[:largestText], "")
	}
	return s
}

// Follow is the move that m undoes when m has gone on: Undone where m is
// Watching, watching as before where m is Aborted. follows is false where
// nothing changes for it.
func (m Move) Follow(undone Move) (next Move, follows bool) {
	switch {
	case m.Undoes == "" || m.Undoes != undone.ID:
		return undone, false
	case m.Phase == Watching:
		return undone.reach(Undone, m.Changed), true
	case m.Phase == Aborted:
		undone.UndoneBy = ""
		return undone, true
	}
	return undone, false
}

// Gives is the placement that the phase just reached gives the tenant, if it does.
func (m Move) Gives() (p Placement, ok bool) {
	switch m.Phase {
	case Decided:
		return Placement{Tenant: m.Tenant, Cell: m.Target, Epoch: m.Base + 1, State: Active}, true
	case Aborting:
		return Placement{Tenant: m.Tenant, Cell: m.Source, Epoch: m.Base + 2, State: Active}, true
	}
	return Placement{}, false
}

// Owns reports, as a Conflict, that the tenant is no longer placed as it was when
// the move was made: it is not the move's to give.
func (m Move) Owns(p Placement) error {
	if p.State == Deleted || p.Cell != m.Source || p.Epoch != m.Base {
		return problem.New(problem.Conflict, "tenant %d is %s on %s at epoch %d, not on %s at %d: move %s may not place it",
			m.Tenant, p.State, p.Cell, p.Epoch, m.Source, m.Base, m.ID)
	}
	return nil
}

// Reached says when a move reached a phase.
type Reached struct {
	Phase  Phase     `json:"phase"`
	At     time.Time `json:"at"`
	Holder string    `json:"holder,omitempty"` // the mover that recorded it
	Error  string    `json:"error,omitempty"`  // why, where it was aborted
}

// History is when a move reached its phases, from its audit lines, oldest first.
func History(lines []AuditEntry) []Reached {
	var all []Reached
	for _, line := range lines {
		var m Move
		if json.Unmarshal([]byte(line.After), &m) != nil {
			continue // not a line of a move
		}
		if len(all) == 0 || all[len(all)-1].Phase != m.Phase {
			all = append(all, Reached{Phase: m.Phase, At: line.At, Holder: m.Holder, Error: m.Error})
		}
	}
	return all
}
