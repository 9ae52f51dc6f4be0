package directory

import (
	"context"
	"time"
)

// Failover is the part of a Directory that a cell needs whose database may have
// been promoted or restored: how much of it there was, and that no move counts on
// what may be gone.
type Failover interface {
	// Witness keeps the greatest number that a cell has told of itself, and returns
	// it; 0 asks only. A cell tells a number once its database holds it durably, and
	// each time a greater one: a database that holds less than the witness has lost
	// something since. It is no mutation and no heartbeat. Conflict where incarnation
	// differs.
	//
	// tenant is the greatest id of a tenant that the cell has ever heard of, 0 for none.
	// A record that was restored has forgotten tenants, and would give their ids to others,
	// whom their cells take for those: ids that are given from then on are above it,
	// by MarginTenants, for those that no cell has heard of yet. One that is more than
	// FarTenants above the greatest id that was given is not believed.
	Witness(ctx context.Context, id CellID, incarnation string, number int64, tenant TenantID) (Witnessed, error)
	// AbortMoves takes every undecided move in which the cell takes part to
	// Aborting, whoever holds its lease, which nobody has then: as Advance does, the
	// tenant is given back to the source at Base+2 by compare-and-set. When it
	// returns no error, each move that was made before it is either decided or will
	// never be. It may be repeated, and goes on where a call that failed has stopped.
	// Conflict where incarnation differs.
	AbortMoves(ctx context.Context, id CellID, incarnation, why string) (Recovery, error)
}

// How far ids are raised on a cell's word, and how far above what was given it may be.
const (
	MarginTenants = 1000
	FarTenants    = 1_000_000
)

// Witnessed is what Witness has to say.
type Witnessed struct {
	Number  int64 `json:"number"`            // the greatest that was told
	Raised  bool  `json:"raised,omitempty"`  // ids go on above the tenant: the record has lost some
	Refused bool  `json:"refused,omitempty"` // the tenant is not believed
}

// RaisedBy is the greatest id that counts as given once a cell has told of a tenant, where
// the greatest that was given is so far, and known the greatest that a tenant has: by what
// cells tell alone ids do not go on without end.
func RaisedBy(tenant, given, known TenantID) (w Witnessed, to TenantID) {
	switch {
	case tenant <= given:
		return w, given
	case tenant > known+FarTenants:
		w.Refused = true
		return w, given
	}
	w.Raised = true
	return w, tenant + MarginTenants
}

// Recovery is what AbortMoves has to say.
type Recovery struct {
	Moves int      `json:"moves"` // how many there were
	Known TenantID `json:"known"` // a tenant that is created on the cell after it has a greater id
}

// Abort is the move as AbortMoves leaves it at now; aborts is false where it is
// decided, or aborted already.
func (m Move) Abort(why string, now time.Time) (next Move, aborts bool) {
	if !m.Phase.BeforeDecision() {
		return m, false
	}
	m.Error, m.Transient = cut(why), false
	m.Lease, m.Holder, m.Leased = m.Lease+1, "", time.Time{}
	return m.reach(Aborting, now), true
}
