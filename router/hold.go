package router

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/infra/problem"
	"github.com/cellway/cellway/router/table"
)

// HoldLimits bound what waits for a change of owner.
type HoldLimits struct {
	Time     time.Duration // of one window: from the first request held for a placement
	Requests int           // at once; one tenant may have half of them
	Bytes    int64         // at once, about
}

// holds keeps requests waiting while their tenant's placement changes, in the
// order in which they came. A window opens with the first request that is held
// for a placement. For a cutover it is not opened again: a move that hangs costs
// its tenant Time once, not once per request. For a placement that only the cell
// calls stale it may be, after a rest as long as the window.
type holds struct {
	limits  HoldLimits
	metrics *metrics

	anybody atomic.Bool // whether a request is held: most of the time none is, and nobody needs the lock to know

	mu    sync.Mutex
	lines map[window]*line
	all   load
	told  load // of them, on a cell's word that is no cutover's
}

// A load is what is held.
type load struct {
	count int
	bytes int64
}

func (l *load) add(n int, cost int64) {
	l.count += n
	l.bytes += cost
}

// toldShare is the part of the limits that all cells together may fill with their
// word: one that refuses everything must not take the places of those who move.
const toldShare = 4

// full reports whether there is no room for cost more under an nth of the limits.
func (l *load) full(of HoldLimits, nth int, cost int64) bool {
	return l.count >= (of.Requests+nth-1)/nth || l.bytes+cost > of.Bytes/int64(nth)
}

// A window is a placement that somebody waits to end.
type window struct {
	tenant directory.TenantID
	epoch  directory.Epoch
	state  directory.State
}

// A line is who waits for one window to end, first come first.
type line struct {
	until   time.Time
	queue   []*waiter
	cutover bool // the table says so, or the cell that it is frozen for the next owner
}

// A waiter's turn is closed when it is first in its line: then it watches the
// table, and when it leaves, it wakes the next.
type waiter struct {
	turn chan struct{}
	cost int64
	told bool // counts among those
}

func newHolds(l HoldLimits, m *metrics) *holds {
	return &holds{limits: l, metrics: m, lines: map[window]*line{}}
}

// wait returns when t places the tenant otherwise than e, with the placement
// that it then has. TenantMoving where the limits are reached or the window's
// time is over, TenantNotFound where the tenant is gone. frozen says that the cell
// is, for the next owner.
func (h *holds) wait(ctx context.Context, t *table.Table, e table.Entry, frozen bool, cost int64) (table.Entry, error) {
	key := window{e.Tenant, e.Epoch, e.State}
	l, me, err := h.join(t, key, frozen || e.State == directory.Cutover, cost)
	if err != nil {
		return e, err
	}
	defer h.leave(l, me)
	timer := time.NewTimer(time.Until(l.until))
	defer timer.Stop()
	turn := me.turn // nil once it has come
	var replaced <-chan struct{}
	for {
		select {
		case <-turn:
			turn = nil
		case <-replaced:
		case <-timer.C:
			return e, h.ended("timeout", "the tenant is moving")
		case <-ctx.Done():
			return e, h.ended("timeout", "the tenant is moving")
		}
		if turn != nil {
			continue
		}
		v := t.View()
		switch now, ok := v.ByID(e.Tenant); {
		case !ok:
			return e, problem.New(problem.TenantNotFound, "the tenant is deleted")
		case now.Placement != e.Placement:
			h.metrics.heldTotal.WithLabelValues("released").Inc()
			return now, nil
		}
		replaced = v.Replaced()
	}
}

// waiting reports whether requests are held because a cell did not serve the
// placement: another one need not ask it again.
func (h *holds) waiting(e table.Entry) bool {
	if !h.anybody.Load() {
		return false
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	l := h.lines[window{e.Tenant, e.Epoch, e.State}]
	return l != nil && len(l.queue) > 0 && time.Now().Before(l.until)
}

func (h *holds) ended(outcome, detail string) error {
	h.metrics.heldTotal.WithLabelValues(outcome).Inc()
	return moving(nil, detail)
}

// join puts a request at the end of its line.
func (h *holds) join(t *table.Table, key window, cutover bool, cost int64) (*line, *waiter, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	l := h.lines[key]
	if l != nil && len(l.queue) == 0 && key.state != directory.Cutover && time.Since(l.until) > h.limits.Time {
		l = nil
	}
	me := &waiter{make(chan struct{}), cost, !cutover && (l == nil || !l.cutover)}
	switch {
	case l != nil && !time.Now().Before(l.until):
		return nil, nil, h.ended("window_over", "the tenant is moving")
	case h.all.full(h.limits, 1, cost), me.told && h.told.full(h.limits, toldShare, cost),
		l != nil && len(l.queue) >= (h.limits.Requests+1)/2:
		return nil, nil, h.ended("overflow", "the tenant is moving and too many requests wait")
	}
	if l == nil {
		h.forget(t.View())
		l = &line{until: time.Now().Add(h.limits.Time)}
		h.lines[key] = l
	}
	l.cutover = !me.told
	l.queue = append(l.queue, me)
	if l.queue[0] == me {
		close(me.turn)
	}
	h.add(me, 1)
	return l, me, nil
}

// leave takes a request out of its line and wakes the one that is first now.
func (h *holds) leave(l *line, me *waiter) {
	h.mu.Lock()
	defer h.mu.Unlock()
	first := l.queue[0] == me
	l.queue = slices.DeleteFunc(l.queue, func(w *waiter) bool { return w == me })
	if first && len(l.queue) > 0 {
		close(l.queue[0].turn)
	}
	h.add(me, -1)
}

// add counts n of w as held. The caller has the lock.
func (h *holds) add(w *waiter, n int) {
	h.all.add(n, int64(n)*w.cost)
	if w.told {
		h.told.add(n, int64(n)*w.cost)
	}
	h.anybody.Store(h.all.count > 0)
	h.metrics.held.Set(float64(h.all.count))
}

// forget drops the windows that the table has left behind and nobody waits in.
func (h *holds) forget(v *table.View) {
	for key, l := range h.lines {
		if e, ok := v.ByID(key.tenant); len(l.queue) == 0 && (!ok || e.Epoch != key.epoch || e.State != key.state) {
			delete(h.lines, key)
		}
	}
}
