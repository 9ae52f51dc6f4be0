package transfer

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/cellway/cellway/cell/fence"
	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/infra/problem"
)

// How long who asks for a last round waits for the freeze where nobody takes the question
// back, and how often it looks for one that another process of the cell has made.
const (
	freezeAwaited = 2 * time.Second
	freezeLook    = 50 * time.Millisecond
)

// freezes wake those who wait for a last round: the target asks for it before the mover
// freezes the tenant, so that its own part is ready then and the round need not be asked
// for in the pause.
type freezes struct {
	mu      sync.Mutex
	waiting map[directory.MoveID][]chan struct{}
}

// join returns a channel that is closed when the move's tenant has been frozen by this
// process. Who waits no more calls leave.
func (f *freezes) join(id directory.MoveID) (frozen <-chan struct{}, leave func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.waiting == nil {
		f.waiting = map[directory.MoveID][]chan struct{}{}
	}
	c := make(chan struct{})
	f.waiting[id] = append(f.waiting[id], c)
	return c, func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		rest := slices.DeleteFunc(f.waiting[id], func(w chan struct{}) bool { return w == c })
		if f.waiting[id] = rest; len(rest) == 0 {
			delete(f.waiting, id)
		}
	}
}

func (f *freezes) wake(id directory.MoveID) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, c := range f.waiting[id] {
		close(c)
	}
	delete(f.waiting, id)
}

// freeze begins the pause, and what waits for it.
func (s *Server) freeze(ctx context.Context, m Move, wait time.Duration) error {
	if err := s.Steps.Freeze(ctx, m, wait); err != nil {
		return err
	}
	s.freezes.wake(m.ID)
	return nil
}

// awaitFreeze waits until the tenant is not served any more by the epoch that the move
// began with: Unavailable where that takes too long. Whether it is frozen for the move,
// what is sent then says.
func (s *Server) awaitFreeze(ctx context.Context, r Request) error {
	frozen, leave := s.freezes.join(r.ID)
	defer leave()
	over := time.NewTimer(freezeAwaited)
	defer over.Stop()
	look := time.NewTicker(freezeLook)
	defer look.Stop()
	for {
		f, err := fence.Get(ctx, s.Pool, r.Tenant) // not by a connection of the steps: others may wait there
		if err != nil || f.State != fence.Active || f.Epoch != r.Base {
			return err
		}
		select {
		case <-frozen:
			return nil
		case <-look.C:
		case <-over.C:
			return problem.New(problem.Unavailable, "tenant %d is not frozen yet", r.Tenant)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
