package directory

import (
	"context"
	"encoding/json"
	"time"

	"github.com/cellway/cellway/infra/problem"
)

// RehearsalID names a rehearsal: RehearsalIDs and a sortable suffix.
type RehearsalID string

// RehearsalIDs begins the id of each rehearsal, which is its move's at cells: so they know
// what is only tried.
const RehearsalIDs = "rh_"

// A Rehearsal is a move that is only tried: a mover goes through its steps, does those
// that change nothing, and reports what the others would have been. No tenant, cell
// or move knows of it, and it is in nobody's way.
type Rehearsal struct {
	ID      RehearsalID     `json:"id"`
	Move    Move            `json:"move"`  // as CreateMove would have made it, without an id
	Lease   int64           `json:"lease"` // fencing token of the mover that works on it
	Holder  string          `json:"holder,omitempty"`
	Leased  time.Time       `json:"leased_until,omitzero"` // when another mover may take over
	Report  json.RawMessage `json:"report,omitempty"`      // what the mover found (mover.Rehearsed)
	Created time.Time       `json:"created_at"`
	Ended   time.Time       `json:"ended_at,omitzero"` // when it was reported; zero before
	Busy    int             `json:"busy,omitempty"`    // where it has not ended: the rehearsals that movers have now; none tells that there is no mover
}

// How long a rehearsal is worked on, and kept, after it was asked for. Nobody waits for it any longer.
const (
	RehearsalTTL   = 10 * time.Minute
	RehearsalsKept = time.Hour
)

// RehearsalsOpen is how many may wait for movers or be with one at once: who asks next would wait
// for minutes behind those of which somebody may have given up.
const RehearsalsOpen = 200

// CheckRehearsals refuses one more where so many are open, of those that somebody may still begin.
func CheckRehearsals(open int) error {
	if open < RehearsalsOpen {
		return nil
	}
	return problem.New(problem.RateLimited, "%d dry runs are open: wait until movers have done some", open).After(retryRehearsal)
}

// retryRehearsal is a few of them for one mover.
const retryRehearsal = 2 * time.Second

// Rehearsals is the part of a Directory that has movers rehearse moves. CreateMove
// with DryRun makes one; no part of one is a mutation.
type Rehearsals interface {
	// Rehearsal is one rehearsal, with Busy, which the other methods do not give. NotFound after RehearsalsKept.
	Rehearsal(ctx context.Context, id RehearsalID) (Rehearsal, error)
	// LeaseRehearsal takes a rehearsal for ttl, or extends the lease that holder has; id "" takes
	// the oldest that nobody holds and that is younger than RehearsalTTL. Taking it, not extending
	// it, makes a new Lease. NotFound where none is free.
	LeaseRehearsal(ctx context.Context, id RehearsalID, holder string, ttl time.Duration) (Rehearsal, error)
	// EndRehearsal records r.Report, if r.Lease is the stored lease. Conflict otherwise; one
	// that this lease has ended already is no error and no change.
	EndRehearsal(ctx context.Context, r Rehearsal) error
}

// End is the rehearsal when the mover that has said's lease reports of it, at now.
func (r Rehearsal) End(said Rehearsal, now time.Time) (next Rehearsal, news bool, err error) {
	switch {
	case said.Lease <= 0 || said.Lease != r.Lease:
		return r, false, problem.New(problem.Conflict, "rehearsal %s has lease %d: lease %d is lost", r.ID, r.Lease, said.Lease)
	case !r.Ended.IsZero():
		return r, false, nil
	case !isStory(said.Report):
		return r, false, badStory()
	}
	r.Report, r.Ended = said.Report, now
	r.Holder, r.Leased = "", time.Time{}
	return r, true, nil
}

// isStory reports whether a mover's report can be kept.
func isStory(report json.RawMessage) bool {
	return len(report) <= largestStory && len(report) > 0 && report[0] == '{' && json.Valid(report)
}

func badStory() error {
	return problem.New(problem.Invalid, "the report is not a JSON object of at most %d bytes", largestStory)
}
