package directory

import (
	"context"
	"encoding/json"
	"slices"
	"time"
)

// MoveID names a move: "mv_" and a sortable suffix.
type MoveID string

// InPause names, where a lease is asked for, any free move whose tenant waits, or may: no
// such move may wait until a mover has done with others.
const InPause MoveID = "in_pause"

// Phase is how far a move is. A phase is recorded after the step that reaches it, so a
// mover that died left at most one step done and not recorded; Frozen is recorded before,
// so that no tenant is frozen unrecorded. Every step may be done again.
type Phase string

// The phases in order. Decided is the point of no return: from it on a move is
// only taken back by undoing it.
const (
	Planned   Phase = "planned"   // recorded; nothing done
	Reserved  Phase = "reserved"  // preflight passed; the target's fence awaits the tenant
	Armed     Phase = "armed"     // the source notes the keys of rows that change
	Copied    Phase = "copied"    // round 0 is at the target
	CaughtUp  Phase = "caught_up" // the last drain is predicted to fit the pause budget; everything is verified
	Frozen    Phase = "frozen"    // the source refuses the tenant, or is about to: the pause begins
	Staged    Phase = "staged"    // the target holds everything, and says so
	Decided   Phase = "decided"   // the directory names the target: the compare-and-set was won
	Activated Phase = "activated" // the target serves: the pause is over
	Watching  Phase = "watching"  // the source keeps its copy; undo costs only what changed
	Completed Phase = "completed" // the source's copy is gone, its tombstone stays
	Aborting  Phase = "aborting"  // the directory has decided against it; the source is to serve again
	Aborted   Phase = "aborted"   // as if it had never been, but for the epoch; a Transient one is tried again by another move
	Undone    Phase = "undone"    // taken back by another move
)

// nextPhase holds every legal transition. A move may be aborted until it is Decided.
var nextPhase = map[Phase][]Phase{
	Planned:   {Reserved, Aborting},
	Reserved:  {Armed, Aborting},
	Armed:     {Copied, Frozen, Aborting}, // a small tenant is copied inside the pause
	Copied:    {CaughtUp, Aborting},
	CaughtUp:  {Frozen, Copied, Aborting},
	Frozen:    {Staged, Decided, Aborting}, // that the target has everything is the target's to record
	Staged:    {Decided, Aborting},
	Decided:   {Activated},
	Activated: {Watching},
	Watching:  {Completed, Undone},
	Aborting:  {Aborted},
}

// CanBecome reports whether a move in phase p may go to q.
func (p Phase) CanBecome(q Phase) bool { return slices.Contains(nextPhase[p], q) }

// Ended reports whether nothing is left to do: the move stands for history only.
func (p Phase) Ended() bool { return p == Completed || p == Aborted || p == Undone }

// BeforeDecision reports whether the source still owns the tenant, so that the
// move can be aborted.
func (p Phase) BeforeDecision() bool { return slices.Contains(nextPhase[p], Aborting) }

// A Move is a change of owner of one tenant.
type Move struct {
	ID        MoveID          `json:"id"`
	Tenant    TenantID        `json:"tenant"`
	Source    CellID          `json:"source"`
	Target    CellID          `json:"target"`
	Base      Epoch           `json:"base_epoch"` // the tenant's epoch when the move was made; the target will serve Base+1
	Phase     Phase           `json:"phase"`
	Previous  Phase           `json:"previous,omitempty"`   // the phase before this one
	Undoes    MoveID          `json:"undoes,omitempty"`     // this move takes that one back: its target's copy is the starting point
	UndoneBy  MoveID          `json:"undone_by,omitempty"`  // the move that takes, or took, this one back
	Wish      Wish            `json:"wish"`                 // what the operator wants next
	StopAt    Phase           `json:"stop_at,omitempty"`    // wait for the operator at this phase (CaughtUp or Watching); "" waits for nobody
	Watch     time.Duration   `json:"watch"`                // how long the way back stays open, in ns
	Lease     int64           `json:"lease"`                // fencing token of the mover that works on it
	Holder    string          `json:"holder,omitempty"`     // who that is
	Leased    time.Time       `json:"leased_until"`         // when another mover may take over; zero where nobody holds it
	Rests     time.Time       `json:"rests_until,omitzero"` // a cell of it does not answer, or fails again and again: no mover that looks for work takes it before
	Report    json.RawMessage `json:"report,omitempty"`     // the mover's progress: rows, bytes, rounds, pause (mover.Report)
	Error     string          `json:"error,omitempty"`      // why the last step failed, or why it was aborted
	Created   time.Time       `json:"created_at"`
	Changed   time.Time       `json:"changed_at"`
	WatchEnds time.Time       `json:"watch_ends,omitzero"` // when the way back closes; zero before Watching and where it stops there for the operator
	Transient bool            `json:"transient,omitempty"` // aborted by a bound (the pause, the wait of the freeze, the rounds) or a table that was rewritten meanwhile, not by a finding or an operator
	Attempt   int             `json:"attempt"`             // 1, and one more for each move that this one tries again
	Attempts  int             `json:"attempts"`            // after so many no other follows
	NotBefore time.Time       `json:"not_before,omitzero"` // when a move that tries again begins; while Watching, when its copies are compared next
	Retries   MoveID          `json:"retries,omitempty"`   // the aborted move that this one tries again
	Planned   bool            `json:"planned,omitempty"`   // as NewMove's
	RetriedBy MoveID          `json:"retried_by,omitempty"`
	Rehearsal RehearsalID     `json:"rehearsal,omitempty"` // of a dry run, which has no id: what movers find of it
}

// Wish is what an operator asks of a move that is under way.
type Wish string

// The wishes.
const (
	Proceed  Wish = ""         // go on until StopAt; too late for a move that is being aborted, or completed by wish
	Switch   Wish = "switch"   // go past CaughtUp; too late once decided
	Cancel   Wish = "cancel"   // abort; too late once decided
	Verify   Wish = "verify"   // compare both cells' copies; only while Watching. The mover's report takes it back
	Close    Wish = "close"    // let the watch end now, as it does by time: compared, then completed; not kept as a wish, and not for what stops at Watching
	Complete Wish = "complete" // end the watch: purge the source, compared or not; only while Watching, and not while an undo is under way
	// CompleteSame is Complete of who has not heard that the copies differ: then it is a Conflict. It is kept as Complete.
	CompleteSame Wish = "complete_same"
)

// NewMove is what is asked for when a move is made.
type NewMove struct {
	Tenant TenantID `json:"tenant"`
	Target CellID   `json:"target"`
	// StopAt is where the move waits for its operator: at CaughtUp for Switch or Cancel; at
	// Watching, whose end Watch then does not say, for Complete or an undo.
	StopAt Phase         `json:"stop_at,omitempty"`
	Watch  time.Duration `json:"watch,omitempty"` // how long the way back stays open, in ns; 0 is DefaultWatch
	Undoes MoveID        `json:"undoes,omitempty"`
	// Attempts is how many moves are made, one after the other, while each is
	// aborted by a bound (Move.Transient); 0 is DefaultAttempts, 1 is no retry.
	Attempts int `json:"attempts,omitempty"`
	// DryRun asks what the answer would be: it is the same, but the move has no id
	// and is not recorded. Movers are asked to rehearse it: see Rehearsals.
	DryRun bool `json:"dry_run,omitempty"`
	// Planned says that a plan asks, and nobody by name: the tenant's pin and its group
	// are respected, also where the move is tried again.
	Planned bool `json:"planned,omitempty"`
}

// DefaultAttempts is how often a move is tried where nobody says otherwise.
const DefaultAttempts = 5

// DefaultWatch is how long the way back stays open where nobody says otherwise.
const DefaultWatch = 24 * time.Hour

// Moves is the part of a Directory that records moves. A step's outcome and the
// phase that it reaches are written under the mover's lease, which is a fencing
// token: what a mover that lost its lease writes late is a Conflict and changes
// nothing.
//
// A move is under way until it is Watching or has ended; a tenant has at most one
// such move. Leases and reports are no mutations: they write no audit line. The
// audit lines of a move's subject (MoveSubject) are its history: see History.
//
// A tenant may be suspended in any phase: routers refuse it at once, the cells
// do not know, and it arrives suspended. It cannot be deleted while a move is
// under way, and not be placed while one has not ended. One that watches ends when the
// tenant is deleted. A cell cannot become
// Drained while an undecided move goes to it, nor Retired while a move that has
// not ended needs it, unless it is lost; no move gives a tenant to it then.
type Moves interface {
	// CreateMove records a move in phase Planned. Conflict where the tenant is not
	// Active or has a move that has not ended, where it is on the target already, or
	// where the target may not take it: the cell's state, locality, tier or capacity,
	// which those on their way there share, forbid it; and, of a Planned one, where the
	// tenant is pinned, or another one of its Group is on the target or on its way there. A pin and a
	// group forbid no move that is asked for by name, and no undo. Undoes must name the Watching move of the tenant back to
	// whose source it goes, before its WatchEnds and a wish to complete it; then the
	// target takes the tenant back in every state but Drained and Retired, and
	// however full it is. RateLimited, with when to come back, where too many dry runs are open (RehearsalsOpen).
	CreateMove(ctx context.Context, m NewMove) (Move, error)
	// Move is one move.
	Move(ctx context.Context, id MoveID) (Move, error)
	// ListMoves is a page of the moves of a tenant (0: of all) that have not ended,
	// and with ended also of those that have: the newest first, by id, from the one
	// made last before the id given ("": the newest). limit is 1 to 1000.
	ListMoves(ctx context.Context, tenant TenantID, ended bool, before MoveID, limit int) ([]Move, error)
	// AskMove sets the wish. Conflict where it is too late for it, and for Switch also
	// where the tenant is Suspended or the target may not take it any more, as in
	// CreateMove; a wish that is there or fulfilled already is no error and no change.
	// Close sets WatchEnds instead, and is a Conflict where the move stops at Watching for its operator.
	AskMove(ctx context.Context, id MoveID, w Wish) (Move, error)
	// LeaseMove takes a move for ttl, or extends the lease that holder has, also one
	// that ran out and that nobody took since; with ttl 0 the holder gives it back.
	// Taking it, not extending it, makes a new Lease. NotFound where no move is
	// free: id "" takes any that has work to do and no holder, by Move.Turn and then the
	// oldest first, and InPause of those only one whose Turn is the first. A move that waits for its operator, for its watch to end or its next comparison, for
	// the move that undoes it, or for its NotBefore, or that rests, has none (see Move.Waits); by its id it can be taken.
	LeaseMove(ctx context.Context, id MoveID, holder string, ttl time.Duration) (Move, error)
	// RestMove gives back the lease m.Lease; for d no mover that looks for work is given the
	// move, so that others come first. Conflict where the lease is another's, or m.Wish is not the
	// wish any more: it is heard first. A wish that changes ends the rest.
	RestMove(ctx context.Context, m Move, d time.Duration) error
	// Advance records that m.Phase was reached, with m.Report and m.Error, if the
	// stored phase is from and m.Lease is the stored lease. From Planned to Reserved only where the target may
	// take the tenant still, as in CreateMove: of that Conflict TurnedAway is true, and the lease stays. To Decided it also
	// gives the tenant to the target at Base+1; to Aborting it gives the tenant
	// back to the source at Base+2, whatever phase it was in, so that what a mover
	// says late finds another epoch; each by compare-and-set on the epoch in the same
	// transaction; what is wished to be cancelled is not Decided. Watching sets WatchEnds. An undo that reaches Watching ends the
	// move that it undoes, in Undone; one that is aborted leaves the watch on. With
	// m.Phase equal to from, only Report and Error are written; while Watching that
	// reports of a comparison, of which the next one is due at NotBefore, and
	// m.StopAt Watching says that the watch does not end before an operator wishes to
	// complete the move: the copies differ, or could not be compared. Where comparison.differ of
	// the report names tables, and that of the one before named none, a wish to complete it that
	// is there already is taken back: it came before that was known. m.Wish Complete says that they
	// are equal: if the watch is over, the move is completed from then on. An Aborted move that
	// was Transient, and that nobody has cancelled, is tried again, while its
	// Attempts last and CreateMove would not refuse: the same transaction makes a
	// move of its own for it, RetriedBy, which begins at its NotBefore. What is recorded
	// already, with from as the phase before, is no error and no change: a mover
	// that got no answer may ask again. Conflict otherwise.
	Advance(ctx context.Context, m Move, from Phase) error
}
