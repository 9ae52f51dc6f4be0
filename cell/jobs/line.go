package jobs

import (
	"context"
	"sync"

	"github.com/cellway/cellway/directory"
)

// A line is the tenants that may have something to do, each at most once, first
// come first served: a tenant with many jobs gets one turn as everybody else.
type line struct {
	mu     sync.Mutex
	order  []directory.TenantID
	epochs map[directory.TenantID]directory.Epoch // of the tenants in order; the highest heard of
	wake   chan struct{}
}

func newLine() *line {
	return &line{epochs: map[directory.TenantID]directory.Epoch{}, wake: make(chan struct{}, 1)}
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

// next waits for a tenant; ok is false when ctx ended.
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
	if len(l.order) == 0 {
		return 0, 0, false
	}
	t, l.order = l.order[0], l.order[1:]
	if len(l.order) > 0 {
		l.signal() // one signal may stand for several tenants
	}
	e = l.epochs[t]
	delete(l.epochs, t)
	return t, e, true
}
