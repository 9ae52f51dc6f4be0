package transfer

import (
	"context"
	"io"
	"slices"
	"sync"
	"time"
)

const (
	turnsFirst = 1               // copies into a cell at once, until it is known how its tenants fare
	turnsMost  = 6               // copies into a cell at once: rounds need connections besides
	turnsMore  = 1. / 8          // what a calm tick gives back
	turnBytes  = 256 << 10       // after which a copy lets those who wait go first
	turnAtMost = 1 * time.Second // nobody waits longer: who has a turn may itself wait, for a source that hangs
)

// turns lets a few copies (round 0 of a move) work side by side, and the others wait,
// each for a while. Later rounds do not wait: a tenant's pause may be next.
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

// busy reports whether a copy has a turn, or waits for one.
func (t *turns) busy() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.inside+len(t.queue) > 0
}

// A copying is a copy's stream, read in turns.
type copying struct {
	ctx    context.Context // of the call that copies
	stream io.Reader
	p      *Pace
	held   int // bytes read in this turn

	mu   sync.Mutex // who reads may still do so when the copy has ended
	has  bool       // the turn
	over bool
}

// copying waits for a copy's first turn. done gives back what it has.
func (p *Pace) copying(ctx context.Context, stream io.Reader) (*copying, error) {
	c := &copying{ctx: ctx, stream: stream, p: p, has: true}
	if p == nil {
		return c, nil
	}
	if err := p.copies.Acquire(ctx, 1); err != nil {
		return nil, err
	}
	if err := p.turns.take(ctx); err != nil {
		p.copies.Release(1)
		return nil, err
	}
	return c, nil
}

// Read reads the stream, and lets who waits go first when it has had its turn.
func (c *copying) Read(b []byte) (int, error) {
	n, err := c.stream.Read(b)
	if c.held += n; err != nil || c.p == nil || c.held < turnBytes || !c.p.turns.wanted() || !c.give() {
		return n, err
	}
	if err := c.p.turns.take(c.ctx); err != nil {
		return n, err
	}
	c.held = 0
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.has = !c.over; c.over {
		c.p.turns.give()
	}
	return n, nil
}

// give gives the turn back; false where there is none.
func (c *copying) give() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.has {
		return false
	}
	c.has = false
	c.p.turns.give()
	return true
}

func (c *copying) done() {
	if c.p == nil {
		return
	}
	c.mu.Lock()
	c.over = true
	c.mu.Unlock()
	c.give()
	c.p.copies.Release(1)
}
