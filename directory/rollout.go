package directory

import (
	"context"
	"errors"
	"time"
)

// RolloutID names a roll-out; it begins with "ro_".
type RolloutID string

// A Rollout is a change of many routes at once that routers get in waves, before
// it is in the record: the routers of the open wave serve the record with the
// changes laid over it, the others the record. They say how their requests end;
// where those with the changes fare worse, the roll-out halts and all routers serve the record
// again. The record has the changes once every router has served them well.
type Rollout struct {
	ID       RolloutID       `json:"id,omitempty"` // none of a dry run
	State    RolloutState    `json:"state"`
	Wave     Wave            `json:"wave"`
	Round    int             `json:"round"`   // grows each time a wave is opened
	Routers  []string        `json:"routers"` // that are to serve the changes
	Changes  []RolloutChange `json:"changes"`
	Before   []RolloutChange `json:"before"` // what the record said of each when the roll-out was made
	Why      string          `json:"why"`
	By       string          `json:"by"`
	Reason   string          `json:"reason,omitempty"` // why it halted, or who aborted it
	Soak     time.Duration   `json:"soak"`             // in ns: how long a wave lasts at least
	Requests int64           `json:"requests"`         // that a wave must have answered
	Margin   float64         `json:"margin"`           // by which its share of failed requests may exceed the others'
	Base     float64         `json:"base"`             // the others' share at the end of the wave before
	Tallies  *Tallies        `json:"tallies,omitempty"`
	Created  time.Time       `json:"created_at"`
	Opened   time.Time       `json:"opened_at"` // the wave
	Changed  time.Time       `json:"changed_at"`
}

// RolloutState is where a roll-out is in its life.
type RolloutState string

// The states of a roll-out. Of all roll-outs at most one is running or halted.
const (
	RolloutRunning RolloutState = "running"
	RolloutHalted  RolloutState = "halted"  // every router serves the record; it may be resumed
	RolloutDone    RolloutState = "done"    // the record has the changes
	RolloutAborted RolloutState = "aborted" // it never will
)

// Open reports whether the roll-out may still come to be in the record.
func (s RolloutState) Open() bool { return s == RolloutRunning || s == RolloutHalted }

// A Wave is the group of routers that a roll-out has come to.
type Wave string

// The waves, each of which has the routers of the one before.
const (
	Canary Wave = "canary" // one
	Tenth  Wave = "tenth"
	All    Wave = "all"
)

// Waves are the waves in their order.
var Waves = []Wave{Canary, Tenth, All}

// A RolloutChange changes one cell's route or one tenant's, and not who owns the
// tenant: that is what moves are for.
type RolloutChange struct {
	Cell      CellID    `json:"cell,omitempty"`
	Address   string    `json:"address,omitempty"` // of Cell
	Tenant    TenantID  `json:"tenant,omitempty"`  // where Cell is ""
	Suspended *bool     `json:"suspended,omitempty"`
	Hosts     *[]string `json:"hosts,omitempty"` // the whole new set
}

// NewRollout is what is asked for when a roll-out is made.
type NewRollout struct {
	Changes  []RolloutChange `json:"changes"`
	Why      string          `json:"why"`
	Soak     time.Duration   `json:"soak,omitempty"`     // in ns; 0 is a minute
	Requests *int64          `json:"requests,omitempty"` // nil is 100; 0 goes by time alone
	Margin   *float64        `json:"margin,omitempty"`   // nil is 0.02; 1 judges nothing
	DryRun   bool            `json:"dry_run,omitempty"`  // say what it would be, and make nothing
}

// RolloutWish is what an operator wants of a roll-out.
type RolloutWish string

// The wishes.
const (
	Halt   RolloutWish = "halt"
	Resume RolloutWish = "resume" // opens the wave that was halted once more
	Abort  RolloutWish = "abort"
)

// A Part is what a router has to do for a roll-out; the zero Part is nothing.
type Part struct {
	Rollout RolloutID   `json:"rollout,omitempty"`
	Round   int         `json:"round"`
	Watch   []CellID    `json:"watch,omitempty"`  // count the requests to these cells; "" is those that found no cell
	Cells   []CellRoute `json:"cells,omitempty"`  // whose address is to be served in place of the record's
	Routes  []Route     `json:"routes,omitempty"` // whose names are, and the state unless it is ""; the owner is the record's
}

// ErrPart says that a router took what its record brings, and cannot lay its part in a
// roll-out over it: it serves the record, says so in its reports, and asks again.
var ErrPart = errors.New("part in a roll-out is not served")

// Is reports whether the part is the one that a report is of.
func (p *Part) Is(r Report) bool { return p.Rollout == r.Rollout && p.Round == r.Round }

// Serves reports whether the part changes what the router serves.
func (p *Part) Serves() bool { return p != nil && len(p.Cells)+len(p.Routes) > 0 }

// A Report is what a router says of its part: which it has, and how the requests
// that it watches have ended since it has it.
type Report struct {
	Rollout  RolloutID `json:"rollout,omitempty"`
	Round    int       `json:"round"`
	Requests int64     `json:"requests"`
	Failed   int64     `json:"failed"` // the cell did not do what a client may expect: see router.failed
	// Refused is the last part that the router could not serve, until it serves one.
	Refused *Refusal `json:"refused,omitempty"`
}

// A Refusal is of a part that a router cannot lay over its record.
type Refusal struct {
	Rollout RolloutID `json:"rollout"`
	Round   int       `json:"round"`
	Why     string    `json:"why"`
}

// A Heard is a router that takes part in roll-outs, as the directory heard of it.
type Heard struct {
	Router string
	Live   bool // heard of within HeartbeatTTL
	Report
	Without time.Time // since when it is known to be without its part in the roll-out; zero where nobody knows
}

// A Tally is the sum of some routers' reports on the open wave.
type Tally struct {
	Routers  int   `json:"routers"`
	Requests int64 `json:"requests"`
	Failed   int64 `json:"failed"`
}

// Share is how much of the requests failed.
func (t Tally) Share() float64 {
	if t.Requests <= 0 {
		return 0
	}
	return float64(t.Failed) / float64(t.Requests)
}

// Tallies are those of the routers with the changes and of the others.
type Tallies struct {
	Wave Tally `json:"wave"`
	Rest Tally `json:"rest"`
}

// Rollouts is the part of a directory that rolls changes out in waves.
// *store.Store and *client.Client implement it; a directory without routers has
// no use for it.
type Rollouts interface {
	// CreateRollout makes a roll-out and opens its first wave. Conflict while another
	// one is open, where no live router takes part, or where a host is another
	// tenant's; Invalid where a change changes nothing, or two give one host to
	// different tenants.
	CreateRollout(ctx context.Context, n NewRollout) (Rollout, error)
	// Rollout is one roll-out, with the tallies of its wave while it is running.
	Rollout(ctx context.Context, id RolloutID) (Rollout, error)
	// ListRollouts is the newest roll-outs, newest first, without their changes.
	// limit is 1 to 1000.
	ListRollouts(ctx context.Context, limit int) ([]Rollout, error)
	// AskRollout does what an operator wishes. What is so already is no error and no
	// change; Conflict where the roll-out's state does not allow it.
	AskRollout(ctx context.Context, id RolloutID, wish RolloutWish) (Rollout, error)
	// Poll is Changes for a router that takes part in roll-outs. It also returns at
	// once where the router has another part than it should have, with that part in
	// the Update, which is of the same moment as the changes with it.
	Poll(ctx context.Context, router string, since Version, wait time.Duration, has Report) (Update, error)
}
