package guard

import (
	"context"
	"runtime"
	"sync"
	"time"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/infra/problem"
)

// bodyWait is how long a request waits for others whose bodies are looked at.
const bodyWait = 100 * time.Millisecond

// errBusy is for who has waited for a place in vain.
var errBusy = func() *problem.Error {
	e := problem.New(problem.Unavailable, "too many bodies are looked into")
	e.RetryAfter = time.Second
	return e
}()

// places bound the bodies that are looked into at once and waited for, in all and of
// one tenant: a body of a few kilobytes takes a core for many times what a request
// does. Who waits for others of its tenant stands in no other tenant's way.
type places struct {
	all   chan struct{}
	share int

	mu sync.Mutex
	of map[directory.TenantID]*owned // of those who have a place or wait for one
}

// An owned is one tenant's places.
type owned struct {
	taken chan struct{}
	users int
}

func newPlaces(most, share int) *places {
	return &places{all: make(chan struct{}, most), share: share, of: map[directory.TenantID]*owned{}}
}

// bodiesAtOnce leaves the other requests a half of the cores, where there are more than
// two; there are always two, so that one tenant does not have them all.
func bodiesAtOnce() int { return max(2, runtime.GOMAXPROCS(0)/2) }

// bodiesOfOne is how many of these one tenant has at most, and how many besides are
// for those who sign up.
func bodiesOfOne() int { return max(1, bodiesAtOnce()/4) }

// do runs f in a place of t's, if there is one in time.
func (p *places) do(ctx context.Context, t directory.TenantID, f func() error) error {
	own := p.enter(t)
	defer p.leave(t, own)
	timer := time.NewTimer(bodyWait)
	defer timer.Stop()
	for _, c := range []chan struct{}{own.taken, p.all} {
		if err := take(ctx, c, timer.C); err != nil {
			return err
		}
		defer func() { <-c }()
	}
	return f()
}

// take takes one of c, also when time is up by then.
func take(ctx context.Context, c chan<- struct{}, late <-chan time.Time) error {
	select {
	case c <- struct{}{}:
		return nil
	default:
	}
	select {
	case c <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-late:
		return errBusy
	}
}

func (p *places) enter(t directory.TenantID) *owned {
	p.mu.Lock()
	defer p.mu.Unlock()
	own := p.of[t]
	if own == nil {
		own = &owned{taken: make(chan struct{}, p.share)}
		p.of[t] = own
	}
	own.users++
	return own
}

func (p *places) leave(t directory.TenantID, own *owned) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if own.users--; own.users == 0 {
		delete(p.of, t)
	}
}
