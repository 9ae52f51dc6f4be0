package pool

import (
	"math/rand/v2"
	"slices"
	"sync/atomic"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/infra/problem"
)

// A tenant has one of slots counters in each of two rows, chosen by numbers that nobody
// outside knows: it has as much as the lesser of the two says, and one that others fill
// is not the other. So two tenants count as one with a chance of about one in a million,
// in one process and until it ends, and nobody can choose an id that counts as another's.
// It takes 16 KB for each cell.
const (
	slotBits = 10
	slots    = 1 << slotBits
)

// shares keep one tenant from having all of a cell's places: an eighth is always left to others,
// so that what is stalled, or slow to read, or too much, is its own matter. With half, a tenant
// alone in its cell, and held for a moment by a move, was refused what there was room for.
type shares struct {
	odd   [2]uint64 // which counter is whose: see seed
	held  [2][slots]atomic.Int64
	over  atomic.Int64 // length of queue
	queue []*Turn      // of tenants that have their share; the gate's lock
}

// overShare tells a tenant that it has its share of something.
func overShare(cause error, of string) error {
	return problem.Wrap(problem.RateLimited, cause, "the tenant has its share of "+of).After(RetrySoon)
}

// shareOf is one tenant's part of a limit.
func shareOf(limit int64) int64 { return max(1, limit-max(1, limit/8)) }

// seed must come before the first take.
func (s *shares) seed() {
	for i := range s.odd {
		s.odd[i] = rand.Uint64() | 1
	}
}

// of is the tenant's counter in each row: the upper bits of a product with a number that
// is odd and random.
func (s *shares) of(t directory.TenantID) (a, b *atomic.Int64) {
	slot := func(i int) *atomic.Int64 { return &s.held[i][uint64(t)*s.odd[i]>>(64-slotBits)] } //nolint:gosec // the bits are meant
	return slot(0), slot(1)
}

// take reports whether the tenant may have one more, and counts it. The second counter
// is never behind the first, and is looked at after it, so that of many at once no more
// come in than may.
func (s *shares) take(t directory.TenantID, limit int64) bool {
	a, b := s.of(t)
	share := shareOf(limit)
	b.Add(1)
	for {
		n := a.Load()
		if n >= share && b.Load() > share {
			b.Add(-1)
			return false
		}
		if a.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

// give takes one back, and reports whether that may be what another of the tenant
// waits for.
func (s *shares) give(t directory.TenantID, limit int64) bool {
	a, b := s.of(t)
	first, second := a.Add(-1), b.Add(-1)
	return max(first, second)+1 >= shareOf(limit) && s.over.Load() > 0
}

// places are so many at a time, of which one tenant has no more than its share. Nobody waits
// for one.
type places struct {
	taken  chan struct{}
	shares shares
}

// What take says.
const (
	taken = iota
	allTaken
	shareTaken
)

// open must come before the first take.
func (p *places) open(n int) {
	p.taken = make(chan struct{}, n)
	p.shares.seed()
}

func (p *places) take(t directory.TenantID) int {
	if !p.shares.take(t, int64(cap(p.taken))) {
		return shareTaken
	}
	select {
	case p.taken <- struct{}{}:
		return taken
	default:
		p.shares.give(t, int64(cap(p.taken)))
		return allTaken
	}
}

func (p *places) leave(t directory.TenantID) {
	p.shares.give(t, int64(cap(p.taken)))
	<-p.taken
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
