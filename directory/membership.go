package directory

import (
	"context"
	"fmt"
	"hash/fnv"
	"time"
)

// A Membership tells which cells are alive. The directory's own Postgres is the
// default (store.Membership, heartbeat rows); consul.Membership does the same
// with Consul's TTL checks. Neither ever decides who owns a tenant.
type Membership interface {
	// Join announces a cell and keeps it alive until ctx ends, then takes it off.
	// It returns once the cell is announced; announcing goes on in the background
	// and outlives a loss of the backend.
	Join(ctx context.Context, c Cell) error
	// Members waits until the set of live cells differs from what it was at the
	// index given (0 returns at once) or wait is over, and returns it, by id, with
	// its index. The index is MembersIndex of the set.
	Members(ctx context.Context, index uint64, wait time.Duration) ([]Member, uint64, error)
}

// A Member is a cell that is alive.
type Member struct {
	ID          CellID `json:"id"`
	Address     string `json:"address"`
	Incarnation string `json:"incarnation"`
}

// MembersIndex is a number for a set of members, by id: equal for equal sets,
// different (but for a chance of 2^-64) for different ones, and never 0.
func MembersIndex(members []Member) uint64 {
	h := fnv.New64a()
	for _, m := range members {
		fmt.Fprintf(h, "%q %q %q\n", m.ID, m.Address, m.Incarnation)
	}
	return max(h.Sum64(), 1)
}

// A Leaser hands out the right to do a piece of singleton work. store.Leaser
// keeps it in Postgres (a session's advisory lock), consul.Leaser in a Consul session.
type Leaser interface {
	// Acquire waits until the lease called name is free and takes it. Holder
	// says who has it. It fails when ctx ends first; the lease ends with ctx too.
	Acquire(ctx context.Context, name, holder string) (Lease, error)
}

// A Lease is a time-bound right to act.
type Lease interface {
	// Context ends when the lease does, however it ends; work that needs the lease
	// runs under it.
	Context() context.Context
	// Release gives the lease back. Releasing twice is no error.
	Release() error
}
