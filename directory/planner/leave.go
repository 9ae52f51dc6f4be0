package planner

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/cellway/cellway/directory"
	"github.com/cellway/cellway/infra/problem"
)

// Drain plans to move every tenant off a cell. Each of them, and of those that are
// on their way there, is either moved or refused. NotFound where the cell is not in the state given.
func Drain(s State, id directory.CellID, o Options) (Plan, error) {
	f, err := newFleet(s, o)
	if err != nil {
		return Plan{}, err
	}
	c, err := f.cell(id)
	if err != nil {
		return Plan{}, err
	}
	f.leave(c.tenants, func(d *cell) bool { return d == c }, "cell "+string(id)+" is drained")
	return f.finish(), nil
}

// Evacuate plans to move every tenant out of a locality. Each, as in Drain, is
// either moved or refused; those whose data may be nowhere else are. NotFound where no cell is there.
func Evacuate(s State, locality string, o Options) (Plan, error) {
	f, err := newFleet(s, o)
	if err != nil {
		return Plan{}, err
	}
	var tenants []*tenant
	found := false
	for _, c := range f.cells {
		if c.Locality == locality {
			found = true
			tenants = append(tenants, c.tenants...)
		}
	}
	if !found {
		return Plan{}, problem.New(problem.NotFound, "no cell in locality %q", locality)
	}
	f.leave(tenants, func(c *cell) bool { return c.Locality == locality }, "locality "+locality+" is evacuated")
	return f.finish(), nil
}

// Quarantine plans to move one tenant to the quarantine cell that has the fewest
// tenants; one that is in such a cell stays there, unless a move under way takes it
// away, which is refused. NotFound where the tenant is not in the state given.
func Quarantine(s State, id directory.TenantID, o Options) (Plan, error) {
	f, err := newFleet(s, o)
	if err != nil {
		return Plan{}, err
	}
	i, ok := slices.BinarySearchFunc(f.tenants, id, func(t *tenant, id directory.TenantID) int { return cmp.Compare(t.ID, id) })
	if !ok {
		return Plan{}, problem.New(problem.NotFound, "no tenant %d", id)
	}
	f.isolate(f.tenants[i])
	return f.finish(), nil
}

func (f *fleet) isolate(t *tenant) {
	if t.from.State == directory.Quarantine && !t.Open.undecided() {
		return // it is there already, and stays
	}
	if reason, why := f.stays(t); reason != "" {
		f.refuse(t, reason, why)
		return
	}
	var n census
	var best *cell
	for _, c := range f.cells {
		b := c.bar(t, directory.Quarantine)
		n[b]++
		if b == open && (best == nil || c.count < best.count) {
			best = c
		}
	}
	if best == nil {
		why := "no quarantine cell takes it: " + n.String()
		if n[wrongState] == len(f.cells) {
			why = "no cell is for quarantine"
		}
		f.refuse(t, NoCell, why)
		return
	}
	f.move(t, best, fmt.Sprintf("to be by itself: %s is for quarantine and has %d tenants", best.ID, best.count))
}

// leave moves tenants away from the cells that are left, the heaviest first: small
// ones still fit when the large have taken their places.
func (f *fleet) leave(tenants []*tenant, left func(*cell) bool, why string) {
	tenants = slices.Clone(tenants)
	slices.SortStableFunc(tenants, func(a, b *tenant) int {
		return cmp.Or(-cmp.Compare(a.weight(), b.weight()), cmp.Compare(a.ID, b.ID))
	})
	for _, t := range tenants {
		if reason, why := f.stays(t); reason != "" {
			f.refuse(t, reason, why)
			continue
		}
		f.place(t, left, why)
	}
	f.refuseComing(left)
}

// refuseComing names the tenants that are on their way to a cell that is left.
func (f *fleet) refuseComing(left func(*cell) bool) {
	for _, t := range f.tenants {
		if !t.Open.undecided() || left(t.from) {
			continue
		}
		if to, err := f.cell(t.Open.To); err == nil && left(to) {
			f.refuse(t, Coming, fmt.Sprintf("move %s brings it to %s: cancel that, or wait and plan again", t.Open.Move, to.ID))
		}
	}
}

// weight is the share of its cell that t takes.
func (t *tenant) weight() float64 {
	share, _ := t.from.used(1, t.Load)
	return share
}

// place moves t to the cell that is the least used with it.
func (f *fleet) place(t *tenant, left func(*cell) bool, why string) {
	var n census
	var best *cell
	var least float64
	for _, c := range f.cells {
		b := c.bar(t, directory.Ready)
		if b == open && left(c) {
			b = excluded
		}
		n[b]++
		if b != open {
			continue
		}
		if share, _ := c.used(c.count+1, c.after.add(t.Load)); best == nil || share < least {
			best, least = c, share
		}
	}
	switch {
	case best != nil:
		f.move(t, best, fmt.Sprintf("%s; of %d cells that may take it %s is the least used, %s with it", why, n[open], best.ID, percent(least)))
	case f.bound(t, left):
		f.refuse(t, Bound, "its data may only be in locality "+t.Locality)
	default:
		f.refuse(t, NoCell, "no cell takes it: "+n.String())
	}
}

// bound reports whether every cell of t's locality is left.
func (f *fleet) bound(t *tenant, left func(*cell) bool) bool {
	return t.Locality != "" && !slices.ContainsFunc(f.cells, func(c *cell) bool { return c.Locality == t.Locality && !left(c) })
}
