package pool

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
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
	shedReasons                   // how many there are
)

var shedNames = [shedReasons]string{"circuit_open", "queue_full", "too_late", "waited", "outbid", "streams"}

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
	queues [classes][]*queued
}

// A queued request's turn is closed when it is let in or turned away.
type queued struct {
	turn   chan struct{}
	outbid bool
}

func newGate(most, least int, wait time.Duration, clock func() time.Duration) *gate {
	g := &gate{wait: wait, clock: clock, tuner: newTuner(most, least)}
	g.limit.Store(int64(g.tuner.limit))
	return g
}

// enter takes a place for a request that has until deadline, waiting for one for
// a bounded time among a bounded number of others.
func (g *gate) enter(ctx context.Context, c class, deadline time.Time) error {
	if g.pass(c) {
		return nil
	}
	g.full.Store(true)
	patience := min(g.wait, time.Until(deadline))
	if c == background {
		return g.refuse(c, shedFull, nil)
	}
	limit := g.limit.Load()
	if turn := time.Duration((g.waiting.Load() + 1) * g.mean.Load() / limit); turn > patience {
		return g.refuse(c, shedLate, nil)
	}
	w := g.join(c, limit)
	if w == nil {
		return g.refuse(c, shedFull, nil)
	}
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-w.turn:
	case <-timer.C:
		if g.leave(c, w) {
			return g.refuse(c, shedWaited, nil)
		}
	case <-ctx.Done():
		if g.leave(c, w) {
			return g.refuse(c, shedWaited, ctx.Err())
		}
	}
	if w.outbid {
		return g.refuse(c, shedOutbid, nil)
	}
	return nil
}

// pass takes a place if one is free and nobody waits.
func (g *gate) pass(c class) bool { return g.waiting.Load() == 0 && g.take(c) }

func (g *gate) refuse(c class, why shedReason, cause error) error {
	g.shed[c][why].Add(1)
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
// readers may have half; nil where there is no room. One that writes takes the
// place of the reader who came last.
func (g *gate) join(c class, limit int64) *queued {
	g.mu.Lock()
	defer g.mu.Unlock()
	readers, all := int64(len(g.queues[reading])), g.waiting.Load()
	switch {
	case c == reading && readers >= (limit+1)/2:
		return nil
	case all >= limit && (c != writing || readers == 0):
		return nil
	case all >= limit:
		last := g.queues[reading][readers-1]
		g.queues[reading] = g.queues[reading][:readers-1]
		last.outbid = true
		close(last.turn)
		g.waiting.Add(-1)
	}
	w := &queued{turn: make(chan struct{})}
	g.queues[c] = append(g.queues[c], w)
	g.waiting.Add(1)
	g.admit() // a place may have become free before w could be seen
	return w
}

// leave takes a waiter out of the queue; false where its turn has come.
func (g *gate) leave(c class, w *queued) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	i := slices.Index(g.queues[c], w)
	if i < 0 {
		return false
	}
	g.queues[c] = slices.Delete(g.queues[c], i, i+1)
	g.waiting.Add(-1)
	return true
}

// exit gives a place back.
func (g *gate) exit() {
	g.inside.Add(-1)
	if g.waiting.Load() > 0 {
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
			close(w.turn)
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
	g.admit()
}

// restart lets few requests in and then more: the cell was away.
func (g *gate) restart() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.tuner.restart()
	g.limit.Store(int64(g.tuner.limit))
}
