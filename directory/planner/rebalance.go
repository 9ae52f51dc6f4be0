package planner

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/cellway/cellway/directory"
)

// Rebalance plans to even out the measured load of the cells that are ready and
// healthy, until the busiest and the idlest differ by o.Spread or no move helps.
// It moves few bytes: first the tenants that relieve their cell most for each byte.
// The spread never grows. Refusals name the tenants of busy cells that would have
// helped and may not move.
func Rebalance(s State, o Options) (Plan, error) {
	f, err := newFleet(s, o)
	if err != nil {
		return Plan{}, err
	}
	r := &rebalance{fleet: f, queues: map[*cell][]*tenant{}, refused: map[*tenant]bool{}, moved: map[*tenant]bool{}}
	// A second pass finds what the first one's order hid; more gain nothing.
	for range 2 {
		r.pass()
	}
	return f.finish(), nil
}

// A rebalance is one that is under way.
type rebalance struct {
	*fleet
	queues  map[*cell][]*tenant // who is left to consider in this pass, the best last
	refused map[*tenant]bool
	moved   map[*tenant]bool
}

// pass takes from the busiest cell again and again, until the spread is small or
// every cell's tenants were considered.
func (r *rebalance) pass() {
	clear(r.queues)
	done := map[*cell]bool{}
	for r.spread() > r.options.Spread && !r.enough() {
		c := r.busiest(done)
		if c == nil {
			return
		}
		if !r.relieve(c) {
			done[c] = true
		}
	}
}

func (r *rebalance) enough() bool {
	return r.options.MaxMoves > 0 && len(r.plan.Moves) >= r.options.MaxMoves
}

func (r *rebalance) busiest(done map[*cell]bool) *cell {
	var busy *cell
	for _, c := range r.cells {
		if !c.balanced() || done[c] {
			continue
		}
		if busy == nil || c.share > busy.share {
			busy = c
		}
	}
	return busy
}

// relieve plans one move away from c and reports whether there was one.
func (r *rebalance) relieve(c *cell) bool {
	if _, ok := r.queues[c]; !ok {
		r.queues[c] = r.queue(c)
	}
	share, by := c.used(c.count, c.after)
	for len(r.queues[c]) > 0 {
		last := len(r.queues[c]) - 1
		t := r.queues[c][last]
		r.queues[c] = r.queues[c][:last]
		to, with := r.better(t)
		if to == nil || !r.free(t) {
			continue
		}
		r.moved[t] = true
		r.move(t, to, fmt.Sprintf("%s uses %s of its %s, and %s will use %s with it", c.ID, percent(share), by, to.ID, percent(with)))
		return true
	}
	return false
}

// queue is c's tenants by how much of its scarcest resource a move of each frees
// for each byte, the best last.
func (r *rebalance) queue(c *cell) []*tenant {
	share, by := c.used(c.count, c.after)
	type scored struct {
		*tenant
		score float64
	}
	var queue []scored
	for _, t := range c.tenants {
		if r.moved[t] || t.Open.undecided() { // its load is counted elsewhere by now
			continue
		}
		relief := share - c.without(t, by)
		queue = append(queue, scored{t, relief / float64(t.Load.Bytes+1)})
	}
	slices.SortFunc(queue, func(a, b scored) int {
		return cmp.Or(cmp.Compare(a.score, b.score), cmp.Compare(b.ID, a.ID))
	})
	tenants := make([]*tenant, len(queue))
	for i, q := range queue {
		tenants[i] = q.tenant
	}
	return tenants
}

// without is the share of the resource called by that c uses once t is gone.
func (c *cell) without(t *tenant, by string) float64 {
	l := c.after.sub(t.Load)
	switch by {
	case "requests":
		return l.Requests / c.Limit.Requests
	case "bytes":
		return float64(l.Bytes) / float64(c.Limit.Bytes)
	case "connections":
		return l.Connections / c.Limit.Connections
	}
	return float64(c.count-1) / float64(c.Capacity)
}

// better is the least used cell that may take t such that both cells then are
// strictly between where they were: so no step makes the spread grow, and none is
// taken back by a later one.
func (r *rebalance) better(t *tenant) (best *cell, with float64) {
	from := t.from
	high := from.share
	low, _ := from.used(from.count-1, from.after.sub(t.Load))
	if low >= high {
		return nil, 0
	}
	for _, c := range r.cells {
		// Most cells are ruled out by this comparison, which costs the least.
		if c.share > low || best != nil && c.share >= with || c.bar(t, directory.Ready) != open {
			continue
		}
		if after, _ := c.used(c.count+1, c.after.add(t.Load)); after < high && (best == nil || after < with) {
			best, with = c, after
		}
	}
	return best, with
}

// free reports whether t may move now, and notes once why not.
func (r *rebalance) free(t *tenant) bool {
	reason, why := r.stays(t)
	if reason == "" && !t.Moved.IsZero() && r.options.Now.Sub(t.Moved) < r.options.Cooldown {
		reason, why = Recent, fmt.Sprintf("it moved %s ago and is left alone for %s", r.options.Now.Sub(t.Moved), r.options.Cooldown)
	}
	if reason != "" && !r.refused[t] {
		r.refused[t] = true
		r.refuse(t, reason, why)
	}
	return reason == ""
}
