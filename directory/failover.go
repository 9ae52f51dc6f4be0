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
	Witness(ctx context.Context, id CellID, incarnation string, number int64) (newest int64, err error)
	// AbortMoves takes every undecided move in which the cell takes part to
	// Aborting, whoever holds its lease, which nobody has then: as Advance does, the
	// tenant is given back to the source at Base+2 by compare-and-set. When it
	// returns no error, each move that was made before it is either decided or will
	// never be. It may be repeated, and goes on where a call that failed has stopped.
	// Conflict where incarnation differs.
	AbortMoves(ctx context.Context, id CellID, incarnation, why string) (Recovery, error)
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
