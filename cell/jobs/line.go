package jobs

import (
	"context"
	"slices"
	"sync"

	"github.com/cellway/cellway/directory"
)

// A line is the tenants that may have something to do, each at most once, first
// come first served: a tenant with many jobs gets one turn as everybody else. It is heard
// of again while its jobs are done, so those that take long would have all workers: a
// tenant that has most of them is passed over.
type line struct {
	most   int // workers of one tenant
	mu     sync.Mutex
	busy   map[directory.TenantID]int // workers of the tenants that have some
	order  []directory.TenantID
	epochs map[directory.TenantID]directory.Epoch // of the tenants in order; the highest heard of
	wake   chan struct{}
}

// newLine makes a line for so many workers, of which one is left to other tenants.
func newLine(workers int) *line {
	return &line{
		most: max(1, workers-1), busy: map[directory.TenantID]int{},
		epochs: map[directory.TenantID]directory.Epoch{}, wake: make(chan struct{}, 1),
	}
}

func (l *line) add(t directory.TenantID, e directory.Epoch) {
	l.mu.Lock()
	defer l.mu.Unlock()
	old, waits := l.epochs[t]
	l.epochs[t] = max(old, e)
	if !waits {
		l.order = append(l.order, t)
	}
	l.signal()
}

func (l *line) signal() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// next waits for a tenant, whose turn lasts until done; ok is false when ctx ended.
func (l *line) next(ctx context.Context) (t directory.TenantID, e directory.Epoch, ok bool) {
	for ctx.Err() == nil {
		if t, e, ok = l.pop(); ok {
			return t, e, true
		}
		select {
		case <-ctx.Done():
		case <-l.wake:
		}
	}
	return 0, 0, false
}

func (l *line) pop() (t directory.TenantID, e directory.Epoch, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	i := slices.IndexFunc(l.order, func(t directory.TenantID) bool { return l.busy[t] < l.most })
	if i < 0 {
		return 0, 0, false
	}
	t = l.order[i]
	copy(l.order[1:i+1], l.order[:i]) // the few that are passed over
	l.order = l.order[1:]
	if len(l.order) > 0 {
		l.signal() // one signal may stand for several tenants
	}
	l.busy[t]++
	e = l.epochs[t]
	delete(l.epochs, t)
	return t, e, true
}

// done ends a turn of the tenant.
func (l *line) done(t directory.TenantID) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.busy[t]--; l.busy[t] == 0 {
		delete(l.busy, t)
	}
	if len(l.order) > 0 {
		l.signal() // it may have been passed over
	}
}
