package pool

import (
	"slices"
	"sync/atomic"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/infra/problem"
)

// tenantSlots is how many tenants of a cell are told apart: those whose ids are so far
// apart count as one. It takes 8 KB for each cell, and nothing for a request.
const tenantSlots = 1024

// shares keep one tenant from having all of a cell's places: an eighth is always left to others,
// so that what is stalled, or slow to read, or too much, is its own matter. With half, a tenant
// alone in its cell, and held for a moment by a move, was refused what there was room for.
type shares struct {
	held  [tenantSlots]atomic.Int64
	over  atomic.Int64 // length of queue
	queue []*Turn      // of tenants that have their share; the gate's lock
}

// overShare tells a tenant that it has its share of something.
func overShare(cause error, of string) error {
	e := problem.Wrap(problem.RateLimited, cause, "the tenant has its share of "+of)
	e.RetryAfter = RetrySoon
	return e
}

// shareOf is one tenant's part of a limit.
func shareOf(limit int64) int64 { return max(1, limit-max(1, limit/8)) }

func (s *shares) of(t directory.TenantID) *atomic.Int64 { return &s.held[uint64(t)%tenantSlots] } //nolint:gosec // any spread will do

// take reports whether the tenant may have one more, and counts it.
func (s *shares) take(t directory.TenantID, limit int64) bool {
	held := s.of(t)
	for {
		n := held.Load()
		if n >= shareOf(limit) {
			return false
		}
		if held.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

// give takes one back, and reports whether that may be what another of the tenant
// waits for.
func (s *shares) give(t directory.TenantID, limit int64) bool {
	return s.of(t).Add(-1)+1 >= shareOf(limit) && s.over.Load() > 0
}

// joinOver lets w wait until its tenant has less than its share. As many may wait as
// would of a tenant that had the cell for itself: only those that have their share do.
// The caller has the lock.
func (g *gate) joinOver(w *Turn, limit int64) bool {
	if int64(len(g.shares.queue)) >= 2*limit-shareOf(limit) {
		return false
	}
	g.shares.queue = append(g.shares.queue, w)
	g.shares.over.Add(1)
	g.admitOver() // its turn may have come before it could be seen
	return true
}

// admitOver lets those wait for a place whose tenant has less than its share again.
// The caller has the lock.
func (g *gate) admitOver() {
	limit := g.limit.Load()
	for i := 0; i < len(g.shares.queue); {
		if w := g.shares.queue[i]; g.shares.take(w.tenant, limit) {
			g.shares.drop(i)
			w.own = true
			g.line(w)
		} else {
			i++
		}
	}
	g.admit()
}

// drop takes a waiter out of the queue.
func (s *shares) drop(i int) {
	s.queue = slices.Delete(s.queue, i, i+1)
	s.over.Add(-1)
}

// yield gives back what was counted of a tenant that was refused a place.
func (g *gate) yield(t directory.TenantID) {
	if g.shares.give(t, g.limit.Load()) {
		g.mu.Lock()
		defer g.mu.Unlock()
		g.admitOver()
	}
}
