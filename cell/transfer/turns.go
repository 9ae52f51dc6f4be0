package transfer

import (
	"context"
	"slices"
	"sync"
	"time"
)

const (
	turnsFirst = 1               // copies into a cell at once, until it is known how its tenants fare
	turnsMost  = 16              // copies into a cell at once that nothing bounds
	turnsMore  = 1. / 8          // what a calm tick gives back
	turnBytes  = 256 << 10       // after which a copy lets those who wait go first
	turnAtMost = 1 * time.Second // nobody waits longer: who has a turn may itself wait, for a source that hangs
)

// turns lets a few copies work side by side, and the others wait, each for a while.
type turns struct {
	mu     sync.Mutex
	limit  float64
	inside int
	most   int             // that were inside or waited, lately
	queue  []chan struct{} // closed when the turn has come
}

// take waits for a turn, and has one in any case unless ctx ends.
func (t *turns) take(ctx context.Context) error {
	t.mu.Lock()
	t.most = max(t.most, t.inside+len(t.queue)+1)
	if float64(t.inside+1) <= t.limit && len(t.queue) == 0 {
		t.inside++
		t.mu.Unlock()
		return nil
	}
	came := make(chan struct{})
	t.queue = append(t.queue, came)
	t.mu.Unlock()
	timer := time.NewTimer(turnAtMost)
	defer timer.Stop()
	select {
	case <-came:
		return nil
	case <-timer.C:
	case <-ctx.Done():
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if i := slices.Index(t.queue, came); i >= 0 {
		t.queue = slices.Delete(t.queue, i, i+1)
		t.inside++
	}
	if ctx.Err() != nil {
		t.inside--
		t.admit()
	}
	return ctx.Err()
}

func (t *turns) give() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.inside--
	t.admit()
}

// admit lets in who waits, as far as there is room. The caller has the lock.
func (t *turns) admit() {
	for len(t.queue) > 0 && float64(t.inside+1) <= t.limit {
		close(t.queue[0])
		t.queue = t.queue[1:]
		t.inside++
	}
}

func (t *turns) wanted() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.queue) > 0
}

// now is how many may work side by side.
func (t *turns) now() float64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.limit
}

// fewer halves how many work side by side; false where they were no two.
func (t *turns) fewer() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	were := min(t.limit, float64(t.most))
	t.most = t.inside + len(t.queue)
	t.limit = max(1, were/2)
	return were >= 2
}

// more gives back what so many calm ticks do, where the limit was used up.
func (t *turns) more(ticks int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.most = max(t.most, t.inside+len(t.queue)); float64(t.most+1) > t.limit {
		t.limit = min(turnsMost, t.limit+float64(ticks)*turnsMore)
	}
	t.most = t.inside + len(t.queue)
	t.admit()
}

// afresh is for when nothing has been copied for a while: what was known is old.
func (t *turns) afresh() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.limit, t.most = max(turnsFirst, t.limit/2), t.inside+len(t.queue)
	t.admit()
}

// copying takes a turn for a copy that is to be received; done gives it back. A nil
// Pace gives every copy its turn.
func (p *Pace) copying(ctx context.Context) (take func(n int) error, done func(), err error) {
	if p == nil {
		return unpaced, func() {}, nil
	}
	if err := p.turns.take(ctx); err != nil {
		return nil, nil, err
	}
	has, held, pay := true, 0, p.stream(ctx)
	take = func(n int) error {
		if held += n; held >= turnBytes && p.turns.wanted() {
			p.turns.give()
			has = false
			if err := p.turns.take(ctx); err != nil {
				return err
			}
			has, held = true, 0
		}
		return pay(n)
	}
	return take, func() {
		if has {
			p.turns.give()
		}
	}, nil
}
