package pool

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cellway/cellway/directory"
)

// A class is how much it matters that a request is served now. The lowest is
// shed first.
type class uint8

// The classes.
const (
	background class = iota // event streams, and what its client says can wait (Priority: u=6, u=7)
	reading                 // GET, HEAD, OPTIONS
	writing                 // all others
	classes
)

var classNames = [classes]string{"background", "reading", "writing"}

// classOf is the class of a request, by its method and two of its headers. A
// client can say that its request matters less than it looks, never that it
// matters more.
func classOf(method, priority, accept string) class {
	if strings.Contains(priority, "u=6") || strings.Contains(priority, "u=7") {
		return background
	}
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodOptions:
		if strings.Contains(accept, "text/event-stream") {
			return background
		}
		return reading
	}
	return writing
}

// Why a request was shed: label of router_cell_shed_total.
type shedReason uint8

const (
	shedOpen    shedReason = iota // the circuit is open
	shedFull                      // no place in the queue for its class
	shedLate                      // it would not have its turn in time
	shedWaited                    // it did not have its turn in time
	shedOutbid                    // a request that matters more took its place in the queue
	shedStreams                   // no place for a stream
	shedShare                     // its tenant has its share of the cell
	shedReasons                   // how many there are
)

var shedNames = [shedReasons]string{"circuit_open", "queue_full", "too_late", "waited", "outbid", "streams", "tenant_share"}

// A gate lets as many requests to a cell at once as the cell serves well, keeps
// a bounded number of others waiting, and sheds the rest, those that matter
// least first. Who finds a place free passes without a lock.
type gate struct {
	inside  atomic.Int64
	limit   atomic.Int64
	waiting atomic.Int64
	shed    [classes][shedReasons]atomic.Int64
	wait    time.Duration
	clock   func() time.Duration // since whenever

	// Of the window that is being measured.
	began atomic.Int64
	count atomic.Int64
	total atomic.Int64
	full  atomic.Bool
	mean  atomic.Int64 // of the last one

	mu     sync.Mutex
	tuner  tuner
	queues [classes][]*Turn
	shares shares
}

// A Turn is a request's place in the queue of a pool. Who has one calls Await or Abandon,
// once.
type Turn struct {
	class  class
	tenant directory.TenantID
	own    bool          // it counts in its tenant's share
	until  time.Time     // nobody waits longer
	comes  chan struct{} // closed when the request is let in or turned away
	outbid bool
}

func newGate(most, least int, wait time.Duration, clock func() time.Duration) *gate {
	g := &gate{wait: wait, clock: clock, tuner: newTuner(most, least)}
	g.limit.Store(int64(g.tuner.limit))
	g.shares.seed()
	return g
}

// arrive takes a place for a tenant's request that has until deadline, or one in the
// queue, which is not nil then.
func (g *gate) arrive(t directory.TenantID, c class, deadline time.Time) (*Turn, error) {
	limit := g.limit.Load()
	own := g.shares.take(t, limit)
	if own && g.pass(c) {
		return nil, nil
	}
	g.full.Store(true)
	now := time.Now()
	patience := min(g.wait, deadline.Sub(now))
	w := &Turn{class: c, tenant: t, own: own, until: now.Add(patience)}
	ahead, places := g.waiting.Load(), limit
	if !own {
		ahead, places = g.shares.over.Load(), shareOf(limit)
	}
	switch {
	case c == background:
		return nil, g.refuse(w, shedFull, nil)
	case time.Duration((ahead+1)*g.mean.Load()/places) > patience:
		return nil, g.refuse(w, shedLate, nil)
	case !g.join(w, limit):
		return nil, g.refuse(w, shedFull, nil)
	}
	return w, nil
}

// await waits in the queue until w's turn has come.
func (g *gate) await(ctx context.Context, w *Turn) error {
	timer := time.NewTimer(time.Until(w.until))
	defer timer.Stop()
	select {
	case <-w.comes:
	case <-timer.C:
		if g.leave(w) {
			return g.refuse(w, shedWaited, nil)
		}
	case <-ctx.Done():
		if g.leave(w) {
			return g.refuse(w, shedWaited, ctx.Err())
		}
	}
	if w.outbid {
		return g.refuse(w, shedOutbid, nil)
	}
	return nil
}

// abandon leaves the queue, or the place that w's turn has brought.
func (g *gate) abandon(w *Turn) {
	switch {
	case !g.leave(w) && !w.outbid:
		g.exit(w.tenant)
	case w.own:
		g.yield(w.tenant)
	}
}

func (g *gate) pass(c class) bool { return g.waiting.Load() == 0 && g.take(c) }

// refuse says why w has no place: the cell is busy, or its tenant is.
func (g *gate) refuse(w *Turn, why shedReason, cause error) error {
	if !w.own {
		g.shed[w.class][shedShare].Add(1)
		return overShare(cause, "the owning cell")
	}
	g.shed[w.class][why].Add(1)
	g.yield(w.tenant)
	return Unavailable(cause, "the owning cell is busy")
}

// take takes a place if one is free. Background work leaves the last quarter.
func (g *gate) take(c class) bool {
	for {
		n, limit := g.inside.Load(), g.limit.Load()
		if c == background {
			limit = max(1, limit-limit/4)
		}
		if n >= limit {
			return false
		}
		if g.inside.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

// join puts a request into the queue, which is as long as the limit, of which
// readers may have half; false where there is no room. One that writes takes the
// place of the reader who came last.
func (g *gate) join(w *Turn, limit int64) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	w.comes = make(chan struct{})
	if !w.own {
		return g.joinOver(w, limit)
	}
	readers, all := int64(len(g.queues[reading])), g.waiting.Load()
	switch {
	case w.class == reading && readers >= (limit+1)/2:
		return false
	case all >= limit && (w.class != writing || readers == 0):
		return false
	case all >= limit:
		last := g.queues[reading][readers-1]
		g.queues[reading] = g.queues[reading][:readers-1]
		last.outbid = true
		close(last.comes)
		g.waiting.Add(-1)
	}
	g.line(w)
	g.admit() // a place may have become free before w could be seen
	return true
}

// line puts w at the end of those of its class.
func (g *gate) line(w *Turn) {
	g.queues[w.class] = append(g.queues[w.class], w)
	g.waiting.Add(1)
}

// leave takes a waiter out of its queue; false where its turn has come.
func (g *gate) leave(w *Turn) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if i := slices.Index(g.shares.queue, w); i >= 0 {
		g.shares.drop(i)
		return true
	}
	q := &g.queues[w.class]
	i := slices.Index(*q, w)
	if i < 0 {
		return false
	}
	*q = slices.Delete(*q, i, i+1)
	g.waiting.Add(-1)
	return true
}

// exit gives a place of the tenant's back.
func (g *gate) exit(t directory.TenantID) {
	g.inside.Add(-1)
	switch freed := g.shares.give(t, g.limit.Load()); {
	case freed:
		g.mu.Lock()
		g.admitOver()
		g.mu.Unlock()
	case g.waiting.Load() > 0:
		g.mu.Lock()
		g.admit()
		g.mu.Unlock()
	}
}

// admit lets waiters in while there are places, those that write first. The
// caller has the lock.
func (g *gate) admit() {
	for c := writing; ; c-- {
		for len(g.queues[c]) > 0 {
			if !g.take(c) {
				return
			}
			w := g.queues[c][0]
			g.queues[c] = slices.Delete(g.queues[c], 0, 1)
			g.waiting.Add(-1)
			close(w.comes)
		}
		if c == background {
			return
		}
	}
}

// answered tells the gate how long an answer took to begin. Once a window is
// full, whoever comes then sets the limit anew.
func (g *gate) answered(took time.Duration) {
	g.total.Add(int64(took))
	if g.inside.Load() >= g.limit.Load() {
		g.full.Store(true)
	}
	if n := g.count.Add(1); n < tuneSamples {
		return
	}
	now := g.clock()
	if now-time.Duration(g.began.Load()) < tuneWindow || !g.mu.TryLock() {
		return
	}
	defer g.mu.Unlock()
	n := g.count.Swap(0)
	if n == 0 {
		return // somebody else's window has just ended
	}
	mean := time.Duration(g.total.Swap(0) / n)
	g.mean.Store(int64(mean))
	g.began.Store(int64(now))
	g.limit.Store(g.tuner.window(now, mean, g.full.Swap(false)))
	g.admitOver()
}

// restart lets few requests in and then more: the cell was away.
func (g *gate) restart() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.tuner.restart()
	g.limit.Store(int64(g.tuner.limit))
}
