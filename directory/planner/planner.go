// Package planner says which tenants should move where: to drain a cell, to even
// out the load, to put one tenant by itself, to leave a locality.
//
// It is pure: no I/O, no clock, no randomness. The same input, in any order, gives
// the same plan, so that a plan can be shown, confirmed and made again. A plan
// never breaks a tenant's locality, tier, pin, anti-affinity or unavailability
// budget, nor a cell's capacity at any moment while it is carried out, in
// whatever order: what a move frees at its source is not given away again. Moves
// that are under way count as done: a plan made while another one is carried out
// goes on from there.
package planner

import (
	"fmt"
	"math"
	"time"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/infra/problem"
)

// A Load is what tenants need and what a cell gives.
type Load struct {
	Requests    float64 `json:"requests"`    // per second
	Bytes       int64   `json:"bytes"`       // of rows at rest
	Connections float64 `json:"connections"` // open at once
}

func (l Load) add(m Load) Load {
	return Load{Requests: l.Requests + m.Requests, Bytes: l.Bytes + m.Bytes, Connections: l.Connections + m.Connections}
}

func (l Load) sub(m Load) Load {
	return Load{Requests: l.Requests - m.Requests, Bytes: l.Bytes - m.Bytes, Connections: l.Connections - m.Connections}
}

func (l Load) valid() bool {
	ok := func(f float64) bool { return f >= 0 && !math.IsInf(f, 0) }
	return ok(l.Requests) && ok(l.Connections) && l.Bytes >= 0
}

// A Cell is what a plan has to know of a cell.
type Cell struct {
	ID       directory.CellID
	State    directory.CellState
	Healthy  bool
	Locality string
	Tier     string
	Capacity int  // tenants; > 0
	Limit    Load // what it can bear; a part that is 0 is not limited
}

// Unlimited is the Budget of a tenant that nobody counts for.
const Unlimited time.Duration = math.MaxInt64

// A Tenant is what a plan has to know of a tenant.
type Tenant struct {
	ID       directory.TenantID
	Cell     directory.CellID
	Locality string          // where its data may be; "" is anywhere
	Tier     string          // which class of cell serves it; "" is any
	Pinned   bool            // stays where it is
	State    directory.State // of its placement; "" is Active, and only an Active tenant moves
	Open     Open            // its move that has not ended
	Group    string          // anti-affinity: no two of a group come together; "" is none
	Load     Load            // as measured
	Budget   time.Duration   // unavailability that it may still suffer
	Moved    time.Time       // when it last moved; zero is never
}

// Open is a tenant's move that has not ended; the zero Open is none. A plan counts
// the tenant where an undecided move takes it, and leaves it alone.
type Open struct {
	Move  directory.MoveID
	Phase directory.Phase
	To    directory.CellID
}

// undecided reports whether the move may still bring its tenant to o.To.
func (o Open) undecided() bool { return o.Move != "" && o.Phase.BeforeDecision() }

// A State is the fleet as it is. Plans do not change it.
type State struct {
	Cells   []Cell
	Tenants []Tenant
}

// Options are what an operator may set. Default has values that work.
type Options struct {
	Now      time.Time     // compared with Moved only
	Cooldown time.Duration // Rebalance leaves a tenant alone for so long after a move
	Spread   float64       // Rebalance stops when the busiest and the idlest cell differ by no more, 0 to 1
	MaxMoves int           // Rebalance plans no more; 0 is no limit
	MaxShare float64       // a plan that moves a larger share of all tenants needs to be confirmed, 0 to 1

	BytesPerSecond  int64         // how fast rows are copied
	Overhead        time.Duration // what a move takes besides copying
	Pause           time.Duration // what the pause is of a tenant at rest
	PausePerRequest time.Duration // what a request per second adds to the pause
}

// Default is a plan's options. What a move takes is assumed, and no bound: on a busy machine it takes several times as
// long. Who knows how moves went says so in its place.
func Default() Options {
	return Options{
		Cooldown: 24 * time.Hour, Spread: 0.1, MaxShare: 0.1,
		BytesPerSecond: 10_000_000, Overhead: 500 * time.Millisecond,
		Pause: 30 * time.Millisecond, PausePerRequest: 100 * time.Microsecond,
	}
}

// Slower is o where a move takes factor times as long; its pause is as it was.
func (o Options) Slower(factor float64) Options {
	o.Overhead = nanoseconds(float64(o.Overhead) * factor)
	o.BytesPerSecond = max(1, int64(float64(o.BytesPerSecond)/factor))
	return o
}

// Validate reports an option outside its range.
func (o Options) Validate() error {
	switch {
	case !(o.Spread >= 0 && o.Spread <= 1):
		return problem.New(problem.Invalid, "spread %v is not between 0 and 1", o.Spread)
	case !(o.MaxShare >= 0 && o.MaxShare <= 1):
		return problem.New(problem.Invalid, "share %v is not between 0 and 1", o.MaxShare)
	case o.BytesPerSecond <= 0:
		return problem.New(problem.Invalid, "bytes per second must be positive")
	case o.MaxMoves < 0 || min(o.Cooldown, o.Overhead, o.Pause, o.PausePerRequest) < 0:
		return problem.New(problem.Invalid, "a number or a time is negative")
	}
	return nil
}

// A Forecast is what a move is expected to cost.
type Forecast struct {
	Bytes    int64         `json:"bytes"`    // copied
	Duration time.Duration `json:"duration"` // in ns, from the start to the switch
	Pause    time.Duration `json:"pause"`    // in ns, how long the tenant's requests wait
}

// Forecast is what the move of a tenant with the load l is expected to cost.
func (o Options) Forecast(l Load) Forecast {
	return Forecast{
		Bytes:    l.Bytes,
		Duration: plus(o.Overhead, nanoseconds(float64(l.Bytes)/float64(o.BytesPerSecond)*float64(time.Second))),
		Pause:    plus(o.Pause, nanoseconds(l.Requests*float64(o.PausePerRequest))),
	}
}

// nanoseconds is that many, and the longest time there is where they are more: what is
// measured comes from cells, and a time that has turned negative is within every budget.
func nanoseconds(n float64) time.Duration {
	if n >= math.MaxInt64 {
		return math.MaxInt64
	}
	return time.Duration(n)
}

// plus is the sum of two times that are not negative, and no longer than the longest.
func plus(a, b time.Duration) time.Duration {
	if sum := a + b; sum >= 0 {
		return sum
	}
	return math.MaxInt64
}

// A PlannedMove is one move that a plan asks for.
type PlannedMove struct {
	Tenant   directory.TenantID `json:"tenant"`
	From     directory.CellID   `json:"from"`
	To       directory.CellID   `json:"to"`
	Why      string             `json:"why"` // for people
	Forecast Forecast           `json:"forecast"`
}

// A Refusal is a tenant that should have moved and will not.
type Refusal struct {
	Tenant directory.TenantID `json:"tenant"`
	Reason Reason             `json:"reason"`
	Why    string             `json:"why"` // for people
}

// Reason is why a tenant is not moved.
type Reason string

// The reasons.
const (
	Pinned    Reason = "pinned"     // unpin it, or move it by name
	NotActive Reason = "not_active" // it is suspended, or held by hand
	Moving    Reason = "moving"     // a move of it is under way
	Watched   Reason = "watched"    // it has moved, and the way back is still open
	NoBudget  Reason = "no_budget"  // the forecast pause exceeds its unavailability budget
	Recent    Reason = "recent"     // it moved a short while ago
	Silent    Reason = "silent"     // its cell is not healthy: it cannot give it away
	Bound     Reason = "bound"      // its data may not leave the locality
	NoCell    Reason = "no_cell"    // no cell may take it
	Coming    Reason = "coming"     // a move under way brings it to the cell that is left
)

// A CellLoad is what a cell bears.
type CellLoad struct {
	Cell    directory.CellID `json:"cell"`
	Tenants int              `json:"tenants"`
	Load    Load             `json:"load"`
	Used    float64          `json:"used"` // share of what it has least of; 1 is full
	By      string           `json:"by"`   // what that is: tenants, requests, bytes or connections
}

// A Plan is moves that an operator may have carried out, and why the rest stays.
type Plan struct {
	Moves             []PlannedMove `json:"moves"`
	Refusals          []Refusal     `json:"refusals"`
	Before            []CellLoad    `json:"before"`             // by cell, as it is now
	After             []CellLoad    `json:"after"`              // when these moves and those under way are done
	SpreadBefore      float64       `json:"spread_before"`      // between the busiest and the idlest cell that is ready, when what is under way is done
	SpreadAfter       float64       `json:"spread_after"`       // when these moves are done too
	Share             float64       `json:"share"`              // of all tenants that move
	NeedsConfirmation bool          `json:"needs_confirmation"` // several tenants, and Share is above the limit: ask again before acting
}

// Total is what all moves cost together, one after the other; the pause is the longest.
func (p Plan) Total() Forecast {
	var sum Forecast
	for _, m := range p.Moves {
		sum.Bytes += m.Forecast.Bytes
		sum.Duration = plus(sum.Duration, m.Forecast.Duration)
		sum.Pause = max(sum.Pause, m.Forecast.Pause)
	}
	return sum
}

func percent(share float64) string { return fmt.Sprintf("%.0f %%", 100*share) }
