package outbox

import (
	"context"
	"sync"

	"github.com/cellway/cellway/directory"
)

// A queue is the tenants of one partition that have something to publish, each
// at most once, first come first served. It takes nothing while it is closed:
// then another relay has the partition.
type queue struct {
	mu     sync.Mutex
	taking bool
	order  []directory.TenantID
	epochs map[directory.TenantID]directory.Epoch // of the tenants in order; the highest heard of
	wake   chan struct{}
}

func newQueue() *queue {
	return &queue{epochs: map[directory.TenantID]directory.Epoch{}, wake: make(chan struct{}, 1)}
}

func (q *queue) open() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.taking = true
}

// close drops what waits: who opens the queue next looks in the database.
func (q *queue) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.taking, q.order = false, nil
	clear(q.epochs)
}

func (q *queue) isOpen() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.taking
}

func (q *queue) add(t directory.TenantID, e directory.Epoch) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if !q.taking {
		return
	}
	old, waiting := q.epochs[t]
	q.epochs[t] = max(old, e)
	if !waiting {
		q.order = append(q.order, t)
	}
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// next waits for a tenant; ok is false when ctx ended.
func (q *queue) next(ctx context.Context) (t directory.TenantID, e directory.Epoch, ok bool) {
	for ctx.Err() == nil {
		if t, e, ok = q.pop(); ok {
			return t, e, true
		}
		select {
		case <-ctx.Done():
		case <-q.wake:
		}
	}
	return 0, 0, false
}

func (q *queue) pop() (t directory.TenantID, e directory.Epoch, ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.order) == 0 {
		return 0, 0, false
	}
	t, q.order = q.order[0], q.order[1:]
	e = q.epochs[t]
	delete(q.epochs, t)
	return t, e, true
}
