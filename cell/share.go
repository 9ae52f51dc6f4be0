package cell

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/infra/problem"
)

// ownConnections are those of the pool that no request is to have: the relay, the
// consumers, jobs and the readiness check use the same ones.
const ownConnections = 2

// shares keep the requests of one tenant from having all of the pool's connections: what
// waits for a lock, or for more than a disk can do, is its own tenant's matter. Only
// requests are counted: what the cell does by itself is a few transactions at a time, and
// if it waited behind one tenant, all others' events would.
type shares struct {
	size int // of one tenant
	mu   sync.Mutex
	of   map[directory.TenantID]*share // of tenants that have a connection or wait for one
}

type share struct {
	held  chan struct{} // has a place for each connection
	users int           // how many have one or wait; under the lock
}

// newShares gives each tenant three quarters of the connections that requests may have.
func newShares(connections int) *shares {
	return &shares{size: max(1, (connections-ownConnections)*3/4), of: map[directory.TenantID]*share{}}
}

type shareKey struct{}

// within runs run as one of the tenant's share, once it has less than that, first come
// first served. What is opened within it, by its context, is counted with it: it would
// wait for itself.
func (s *shares) within(ctx context.Context, t directory.TenantID, run func(ctx context.Context) error) error {
	if ctx.Value(shareKey{}) != nil {
		return run(ctx)
	}
	x := s.join(t)
	defer s.leave(t, x)
	select {
	case x.held <- struct{}{}:
	default:
		select {
		case x.held <- struct{}{}:
		case <-ctx.Done():
			return overShare(ctx.Err())
		}
	}
	defer func() { <-x.held }()
	return run(context.WithValue(ctx, shareKey{}, true))
}

// overShare is what a request gets that has waited for its tenant's share in vain. It is no
// fault of the cell's, which a router would count.
func overShare(err error) error {
	err = fmt.Errorf("wait for the tenant's share of connections: %w", err)
	if errors.Is(err, context.DeadlineExceeded) {
		return again(problem.RateLimited, err, "the tenant has its share of the cell's connections to the database")
	}
	return err
}

func (s *shares) join(t directory.TenantID) *share {
	s.mu.Lock()
	defer s.mu.Unlock()
	x := s.of[t]
	if x == nil {
		x = &share{held: make(chan struct{}, s.size)}
		s.of[t] = x
	}
	x.users++
	return x
}

func (s *shares) leave(t directory.TenantID, x *share) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if x.users--; x.users == 0 {
		delete(s.of, t)
	}
}
